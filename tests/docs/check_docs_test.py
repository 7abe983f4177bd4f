"""The document check finds each planted fault at its line, and leaves sound documents alone."""

import os
import tempfile
import unittest

import check_docs


class KnownTools:
    dev = {"run", "test", "help"}
    client = {"raise", "listen-udp"}
    flags = {"listen", "ttl", "server", "wait", "once"}


class CheckDocs(unittest.TestCase):

    def found_in(self, content, tools=KnownTools):
        with tempfile.TemporaryDirectory() as root:
            os.makedirs(os.path.join(root, "docs"))
            for path, text in (("README.md", content), ("docs/opensips.md", "")):
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            return check_docs.faults(root, tools)

    def test_what_is_right_passes(self):
        self.assertEqual([], self.found_in(
            "[a](docs/opensips.md) [b](docs/opensips.md#part) [c](#part) [d](https://example.com/x)\n"
            "Say `./dev test`, `--listen` or `evctl raise E_X --wait delivered`; `./dev` alone is fine, `grpcurl --x` too.\n"
            "```\n./dev run --once\nevctl --server 127.0.0.1:7060 raise E_X a=1\nbazel-bin/client/evctl listen-udp :1\n"
            "grpcurl --anything x\n```\n"))

    def test_a_fault_is_found_where_it_stands(self):
        for text, what in (
            ("[a](docs/gone.md)", "the link leads nowhere: docs/gone.md"),
            ("`./dev fly`", "there is no ./dev fly"),
            ("`evctl explode`", "there is no evctl explode"),
            ("`evctl --server 127.0.0.1:1 explode`", "there is no evctl explode"),
            ("`bazel-bin/server/eventvirtuald --lisen=x`", "no program of ours has --lisen"),
            ("`--lisen`", "no program of ours has --lisen"),
            ("`./dev run --twice`", "no program of ours has --twice"),
        ):
            with self.subTest(text=text):
                self.assertEqual(["README.md:2: " + what], self.found_in("# Title\nSee %s.\n" % text))

    def test_a_command_over_two_lines_is_one(self):
        self.assertEqual(["README.md:2: no program of ours has --tll"],
                         self.found_in("```\nevctl raise E_X \\\n  --tll 1h\n```\n"))

    def test_without_the_programs_only_links_and_dev_are_checked(self):
        class NotBuilt(KnownTools):
            client = flags = None

        self.assertEqual(["README.md:1: there is no ./dev fly"],
                         self.found_in("`evctl explode --x` `./dev fly`\n", NotBuilt))


if __name__ == "__main__":
    unittest.main()
