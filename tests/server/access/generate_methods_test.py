"""A method without a rule fails the build."""

import os
import subprocess
import sys
import tempfile
import unittest

GENERATOR, RULES = "server/access/generate_methods.py", "server/access/methods.txt"


class GenerateGuardsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.descriptors = os.path.join(self.folder, "descriptors")
        protos = sorted(os.path.join("eventvirtual/v1", name) for name in os.listdir("proto/eventvirtual/v1")
                        if name.endswith(".proto"))
        subprocess.run(["/usr/bin/protoc", "-I", "proto", "--include_imports", "--descriptor_set_out=" + self.descriptors,
                        *protos], check=True)
        with open(RULES) as file:
            self.rules = file.read()

    def generate(self, rules):
        path = os.path.join(self.folder, "rules")
        with open(path, "w") as file:
            file.write(rules)
        return subprocess.run([sys.executable, GENERATOR, path, self.descriptors], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)

    def test_every_method_has_a_rule(self):
        self.assertEqual(self.generate(self.rules).returncode, 0)

    def test_each_method_without_one_is_named(self):
        lines = self.rules.splitlines(keepends=True)
        methods = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
        self.assertEqual(len(methods), 19)
        for method in methods:
            done = self.generate("".join(line for line in lines if not line.startswith(method + " ")))
            self.assertEqual(done.returncode, 1)
            self.assertIn(method + " has no rule", done.stderr)

    def test_a_rule_for_nothing_and_a_role_that_is_none_are_named(self):
        done = self.generate(self.rules + "eventvirtual.v1.EventService/Forget operator\n")
        self.assertEqual(done.returncode, 1)
        self.assertIn("EventService/Forget", done.stderr)
        done = self.generate(self.rules.replace("observer", "guest", 1))
        self.assertEqual(done.returncode, 1)
        self.assertIn("no role guest", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
