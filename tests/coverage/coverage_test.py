"""What is planted in a report of coverage is found by .dev/coverage.py: a bar that is missed is no success."""

import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parents[2]
TOOL = HERE / ".dev/coverage.py"
text = TOOL.read_text()
WHOLE = re.findall(r'"(.*?\.cc)"', text[text.index("WHOLE = "):text.index("PARSER_LINES")])
PARSERS = re.findall(r'"(.*?\.cc)"', text[text.index("PARSERS = "):text.index("OUR_OWN")])


def line_of(name, part):
    return 1 + next(i for i, line in enumerate((HERE / name).read_text().split("\n")) if part in line)


class CoverageTest(unittest.TestCase):
    def setUp(self):
        # 100 lines and 100 branches of each: all run through.
        self.files = {name: ([1] * 100, {(1, i): 1 for i in range(100)}) for name in set(WHOLE + PARSERS)}

    def run_tool(self):
        with tempfile.NamedTemporaryFile("w", suffix=".dat") as report:
            for name, (lines, branches) in self.files.items():
                report.write("SF:%s\n" % name)
                for (number, index), times in branches.items():
                    report.write("BRDA:%d,0,%d,%d\n" % (number, index, times))
                for number, times in enumerate(lines, 1):
                    report.write("DA:%d,%d\n" % (number, times))
                report.write("end_of_record\n")
            report.flush()
            done = subprocess.run([sys.executable, TOOL, report.name], cwd=HERE, stdout=subprocess.PIPE, text=True)
        return done.returncode, done.stdout

    def test_all_that_is_run_through_is_enough(self):
        self.assertEqual(self.run_tool()[0], 0)

    def test_the_bars_are_those_that_were_promised(self):
        for bar in ("LINES = 90 ", "BRANCHES = 80\n", "PARSER_LINES = 95\n"):
            self.assertIn("\n" + bar, text)
        self.assertIn("server/journal/journal_file.cc", WHOLE)
        self.assertIn("transports/io/destination_policy.cc", WHOLE)

    def test_each_file_that_has_a_bar_is_there(self):
        for name in set(WHOLE + PARSERS):
            self.assertTrue((HERE / name).exists(), name)

    def test_one_branch_of_a_critical_file(self):
        self.files["server/dispatch/policy.cc"][1][7, 0] = 0
        code, shown = self.run_tool()
        self.assertEqual(code, 1)
        self.assertIn("server/dispatch/policy.cc: branches not taken in line 7", shown)

    def test_the_branch_into_a_check_of_our_own_does_not_count(self):
        number = line_of("server/journal/journal_file.cc", "EV_CHECK(")
        self.files["server/journal/journal_file.cc"][1][number, 0] = 0
        self.assertEqual(self.run_tool()[0], 0)

    def test_six_lines_of_a_parser(self):
        lines = self.files["server/rpc/wire.cc"][0]
        lines[:5] = [0] * 5
        self.assertEqual(self.run_tool()[0], 0)
        lines[5] = 0
        code, shown = self.run_tool()
        self.assertEqual(code, 1)
        self.assertIn("server/rpc/wire.cc: 94.0 % of the lines", shown)

    def test_a_critical_file_that_no_test_runs_through(self):
        del self.files["server/registry/filter.cc"]
        code, shown = self.run_tool()
        self.assertEqual(code, 1)
        self.assertIn("server/registry/filter.cc: no test runs through it", shown)

    def test_the_whole(self):
        self.files["server/other.cc"] = ([0] * 1000, {(1, i): 0 for i in range(2000)})
        code, shown = self.run_tool()
        self.assertEqual(code, 1)
        self.assertRegex(shown, r"\nlines: 7\d\.\d %, and 90 are asked for\nbranches: 6\d\.\d %, and 80 are asked for")


if __name__ == "__main__":
    unittest.main()
