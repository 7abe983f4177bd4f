"""The check of docs/guarantees.md finds each planted fault at its line, and leaves a sound document alone."""

import unittest

import check_guarantees

SOUND = """# Guarantees

`X.Holds/Y` is a case.

## udp

| OK means | a | `UdpTest.A` |
| may be lost | b | `UdpTest.A`, `UdpTest.Holds/Case` |
| may come twice | c | `UdpTest.A` |
| order | d | `UdpTest.A` |
"""


class CheckGuarantees(unittest.TestCase):

    def found_in(self, document, schemes=("udp",)):
        return list(check_guarantees.faults(document, set(schemes), {"UdpTest.A", "UdpTest.Holds"}, {"Case"}))

    def test_what_is_right_passes(self):
        self.assertEqual([], self.found_in(SOUND))

    def test_a_fault_is_found_where_it_stands(self):
        for old, new, line, what in (
            ("a | `UdpTest.A`", "a | ", 7, "no test is named"),
            ("b | `UdpTest.A`", "b | `UdpTest.Gone`", 8, "no such test: UdpTest.Gone"),
            ("Holds/Case", "Holds/Gone", 8, "the conformance suite has no case Gone"),
            ("| order | d | `UdpTest.A` |\n", "", 5, "udp does not say: order"),
            ("## udp", "## udp, tcp", 1, "no transport has the scheme tcp"),
        ):
            with self.subTest(new=new):
                self.assertEqual([(line, what)], self.found_in(SOUND.replace(old, new, 1)))

    def test_a_scheme_without_a_section_is_found(self):
        self.assertEqual([(1, "tcp is missing")], self.found_in(SOUND, ("udp", "tcp")))

    def test_it_finds_the_tests_and_cases_of_this_tree(self):
        self.assertIn("UdpConformance.Holds", check_guarantees.tests_that_run("."))
        self.assertIn("AnOkMeansThatItIsThere", check_guarantees.conformance_cases("."))
        self.assertIn("xmlrpcs", check_guarantees.schemes("."))


if __name__ == "__main__":
    unittest.main()
