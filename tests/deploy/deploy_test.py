"""What is made for operators: the unit, the example configuration, manual pages, completion, the reference of flags, and
what the programs are made of."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import unittest

ROOT = os.getcwd()  # the runfiles of the test
sys.path[:0] = [os.path.join(ROOT, "tests/integration"), os.path.join(ROOT, "deploy")]

import reference
import sbom
from service import EVCTL, SERVER, Service, eventually

UNIT = os.path.join(ROOT, "deploy/systemd/eventvirtuald.service")


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def run(*command, **options):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=60, **options)


class ReferenceTest(unittest.TestCase):
    """Each flag is explained where it is defined, and the same everywhere."""

    def setUp(self):
        self.help = reference.said_by(SERVER, "--help")
        self.flags = reference.flags_of(self.help)

    def test_no_flag_of_the_help_is_missed(self):
        names = {flag.name for flag in self.flags}
        self.assertEqual(names, set(re.findall(r"^    --(\w+) ", self.help, re.MULTILINE)))
        self.assertGreater(len(names), 20)

    def test_the_example_configuration_and_the_document_are_up_to_date(self):
        how = "mend it by: python3 deploy/reference.py write bazel-bin/server/eventvirtuald"
        self.assertEqual(read(reference.CONFIGURATION), reference.configuration(self.flags), how)
        document = read(reference.OPERATIONS)
        self.assertEqual(document, reference.with_table(document, self.flags), how)

    def test_every_line_of_the_example_configuration_can_be_used_as_it_stands(self):
        lines = re.findall(r"^#?(\w+ =.*)$", read(reference.CONFIGURATION), re.MULTILINE)
        self.assertEqual(len(lines), len(self.flags) - len(reference.NOT_IN_FILE))
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as config:
            config.write("\n".join(lines) + "\n")
            config.flush()
            service = Service("--config=" + config.name, "--data_dir=" + tempfile.mkdtemp(prefix="ev", dir="/tmp"))
            self.assertEqual(service.stop(), 0)

    def test_a_flag_that_is_wrapped_quoted_or_without_default_is_read_whole(self):
        flags = reference.flags_of('    --b (one\n      two (three); four); default: "x y";\n    --a (five);\n'
                                   '      default: ;\n    --listen (six);  default: 1;\n')
        self.assertEqual(flags, [("listen", "six", "1"), ("b", "one two (three); four", "x y"), ("a", "five", "")])


class ManualTest(unittest.TestCase):
    def page(self, program):
        page = tempfile.NamedTemporaryFile("w", suffix=".1" if program == EVCTL else ".8", encoding="utf-8")
        self.addCleanup(page.close)
        page.write(run("/usr/bin/python3", "deploy/reference.py", "man", program).stdout)
        page.flush()
        return page.name

    def shown(self, page):
        """The words that a reader sees, without the backspaces that make some of them bold."""
        return re.sub(r"\s+", " ", re.sub(".\b", "", run("mandoc", "-T", "utf8", page).stdout))

    def test_both_pages_are_without_a_warning(self):
        for program in (SERVER, EVCTL):
            lint = run("mandoc", "-T", "lint", "-W", "warning", self.page(program))
            self.assertEqual((lint.returncode, lint.stdout), (0, ""))

    def test_the_pages_show_every_flag_and_command_with_its_meaning(self):
        server = self.shown(self.page(SERVER))
        for flag in reference.flags_of(reference.said_by(SERVER, "--help")):
            self.assertIn("--%s=" % flag.name, server)
            self.assertIn(flag.meaning[1:], server)
        client = self.shown(self.page(EVCTL))
        listed = run(EVCTL, "help").stdout.split("\n\n")[1].splitlines()
        self.assertGreater(len(listed), 12)
        for line in listed:
            usage, _, summary = line.strip().partition("  ")
            self.assertIn(" %s " % usage, client)
            self.assertIn(summary.strip()[1:], client)
        self.assertIn("evctl probe rabbitmq:guest:guest@127.0.0.1/cdr --canary", client)
        self.assertIn("unix:/path; default $EVENTVIRTUAL_SERVER", client)


class CompletionTest(unittest.TestCase):
    """As bash asks when Tab is pressed."""

    @classmethod
    def setUpClass(cls):
        cls.script = run(EVCTL, "completion", "bash").stdout

    def complete(self, *words):
        """What is offered for the last of the words."""
        asked = run("bash", "-c", self.script + """
            compopt() { :; } # there is no completion under way
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
            _evctl && printf '%s\\n' "${COMPREPLY[@]}" """, "bash", "evctl", *words)
        self.assertEqual(asked.returncode, 0, asked.stdout)
        return asked.stdout.split()

    def test_commands_are_offered_first_and_by_their_beginning(self):
        listed = [line.split()[0] for line in run(EVCTL, "help").stdout.split("\n\n")[1].splitlines()]
        offered = self.complete("")
        self.assertEqual([word for word in offered if not word.startswith("-")], listed + ["help"])
        self.assertEqual(self.complete("unsub"), ["unsubscribe"])
        self.assertEqual(self.complete("help", "unsub"), ["unsubscribe"])
        self.assertEqual(self.complete("completion", "b"), ["bash"])

    def test_flags_are_those_of_the_command_and_the_common_ones(self):
        self.assertEqual(self.complete("subscribe", "--t"), ["--ttl=", "--tls_ca=", "--tls_cert=", "--tls_key=", "--token_file=", "--timeout="])
        self.assertEqual(self.complete("--timeout", "subscribe", "E", "--n"), ["--never_expires"])
        self.assertEqual(self.complete("raise", "--w"), ["--wait="])
        self.assertEqual(self.complete("events", "--w"), [])
        self.assertIn("-o", self.complete("events", "-"))

    def test_it_registers_itself(self):
        self.assertIn("-F _evctl evctl", run("bash", "-c", self.script + "complete -p evctl").stdout)
        self.assertEqual(run(EVCTL, "completion", "fish").returncode, 2)


@unittest.skipIf("ASAN_OPTIONS" in os.environ, "looks at what ships, not at what is built to find faults")
class ProgramTest(unittest.TestCase):
    """What an attacker finds who has found a fault in our memory, and what the programs bring along."""

    def told(self, program, *options):
        return run("readelf", "--wide", *options, os.path.realpath(program)).stdout

    def test_the_programs_are_hardened(self):
        for program in (SERVER, EVCTL):
            with self.subTest(os.path.basename(program)):
                self.assertRegex(self.told(program, "--file-header"), r"Type: +DYN \(Position-Independent Executable")
                segments = self.told(program, "--program-headers")
                self.assertRegex(segments, r"GNU_STACK .* RW +0x")  # not RWE
                self.assertIn("GNU_RELRO", segments)
                self.assertNotRegex(segments, r"LOAD .* RWE ")
                dynamic = self.told(program, "--dynamic")
                self.assertIn("BIND_NOW", dynamic)
                self.assertNotRegex(dynamic, "RPATH|RUNPATH|TEXTREL")
                symbols = self.told(program, "--dyn-syms")
                for name, by in (("__stack_chk_fail", "-fstack-protector-strong"), ("__memcpy_chk", "_FORTIFY_SOURCE")):
                    self.assertIn(name, symbols, by)

    def test_what_the_service_is_linked_with_is_listed_and_looked_at(self):
        bill = json.loads(run("/usr/bin/python3", "deploy/sbom.py", os.path.realpath(SERVER)).stdout)
        self.assertEqual((bill["bomFormat"], bill["specVersion"]), ("CycloneDX", "1.5"))
        references = [component["bom-ref"] for component in bill["components"]]
        self.assertEqual(len(references), len(set(references)))
        files = {one["value"] for component in bill["components"] for one in component["properties"]
                 if one["name"] == "eventvirtual:file"}
        self.assertEqual(files, set(sbom.libraries_of(os.path.realpath(SERVER))))
        document = read("docs/security.md")
        for package, (_, asked) in sbom.packages_of(os.path.realpath(SERVER)).items():
            if asked:
                self.assertIn(package.split(":")[0], document, "judge its open faults in docs/security.md")


class UnitTest(unittest.TestCase):
    def test_the_unit_leaves_little_to_attack(self):
        shown = run("systemd-analyze", "security", "--offline=true", "--no-pager", UNIT).stdout
        exposure = re.search(r"Overall exposure level for eventvirtuald.service: ([\d.]+)", shown)
        self.assertIsNotNone(exposure, shown)
        self.assertLessEqual(float(exposure.group(1)), 1.5, shown)
        self.assertNotIn("ignoring", shown)

    def test_it_leaves_us_the_call_that_opens_files_beneath_a_folder(self):
        # systemd answers openat2() with ENOSYS where that is set, since it cannot look into its argument.
        self.assertNotRegex(read(UNIT), "(?m)^RestrictSUIDSGID=")

    def test_its_command_line_is_one_the_server_takes(self):
        command = re.search(r"^ExecStart=/usr/sbin/eventvirtuald (.*)$", read(UNIT), re.MULTILINE).group(1)
        self.assertEqual(command, "--config=/etc/eventvirtual/eventvirtuald.conf")

    def test_systemd_is_told_when_it_is_ready_and_when_it_stops(self):
        folder = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        for name in (os.path.join(folder, "notify"), "@" + os.path.basename(folder)):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.bind(name.replace("@", "\0"))
                manager.settimeout(20)
                os.environ["NOTIFY_SOCKET"] = name
                self.addCleanup(os.environ.pop, "NOTIFY_SOCKET", None)
                service = Service()
                self.assertEqual(manager.recv(100), b"READY=1")
                self.assertEqual(service.stop(), 0)
                self.assertEqual(manager.recv(100), b"STOPPING=1")

    def test_a_systemd_that_cannot_be_told_is_a_line_of_the_log(self):
        for name in ("/tmp/nobody-listens-here", "/tmp/" + "x" * 200):
            os.environ["NOTIFY_SOCKET"] = name
            self.addCleanup(os.environ.pop, "NOTIFY_SOCKET", None)
            service = Service()

            def told():
                with open(service.log.name) as log:
                    return [line for line in log if "systemd cannot be told" in line and name in line]
            eventually(told, "it is in the log")
            self.assertEqual(service.stop(), 0)


if __name__ == "__main__":
    unittest.main()
