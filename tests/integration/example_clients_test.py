"""The example clients in Python, Go and Node.js, run as their first lines say, against the built service."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

from service import ROOT, STUBS, Service, event, eventually, free_port

EXAMPLES = os.path.join(ROOT, "client/examples")


def installed(variable):
    """A folder that ./dev test fills."""
    path = os.environ.get(variable, "")
    assert os.path.isdir(path), "%s is not installed; ./dev test installs it" % variable
    return path


def python_client():
    return ["/usr/bin/python3", os.path.join(EXAMPLES, "python/client.py")], {"PYTHONPATH": STUBS}


def node_client():
    return (["/usr/bin/node", os.path.join(EXAMPLES, "node/client.js")],
            {"NODE_PATH": os.path.join(installed("NODE_MODULES"), "node_modules"),
             "EVENTVIRTUAL_PROTO": os.path.join(ROOT, "proto")})


def go_client():
    """Compiled, with what was compiled before: a copy of it, since the compiler writes there."""
    modules, work = installed("GO_MODULES"), tempfile.mkdtemp(prefix="evgo")
    shutil.copytree(os.path.join(EXAMPLES, "go"), os.path.join(work, "source"))
    shutil.copytree(os.path.join(modules, "build"), os.path.join(work, "build"))
    env = dict(os.environ, EVENTVIRTUAL_PROTO=os.path.join(ROOT, "proto"), GOPROXY="off", GOFLAGS="-buildvcs=false",
               GOMODCACHE=os.path.join(modules, "modules"), GOCACHE=os.path.join(work, "build"), HOME=work)
    folder = os.path.join(work, "source")
    subprocess.run(["./generate.sh"], cwd=folder, env=env, check=True)
    subprocess.run(["/usr/bin/go", "build", "-o", os.path.join(work, "client"), "."], cwd=folder, env=env, check=True)
    return [os.path.join(work, "client")], {}


class Stories:
    """What each of them does; a class below says which."""

    @classmethod
    def setUpClass(cls):
        cls.command, cls.env = cls.client()
        cls.service = Service()

    @classmethod
    def tearDownClass(cls):
        assert cls.service.stop() == 0

    def start(self, *words, server=None):
        env = dict(os.environ, EVENTVIRTUAL_SERVER=server or self.service.address, **self.env)
        return subprocess.Popen([*self.command, *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run_client(self, *words, code=0, server=None):
        process = self.start(*words, server=server)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, code, err)
        return out if code == 0 else err

    def test_it_subscribes_and_an_event_that_it_raises_is_delivered(self):
        path = os.path.join(self.service.dir, "subscribed")
        name = self.run_client("subscribe", "E_A", "flatstore:" + path).strip()
        self.assertTrue(name.startswith("subscriptions/"), name)
        self.assertEqual(self.run_client("raise", "E_A", "ip=192.0.2.1", "text=a=b ü"), name + " delivered\n")
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read(), "E_A,192.0.2.1,a=b ü\n")
        self.service.subscribe("E_B", "tcp:127.0.0.1:%d" % free_port())
        self.assertTrue(self.run_client("raise", "E_B").endswith(" failed\n"))

    def test_it_raises_thousands_in_batches_and_names_those_that_fail(self):
        path = os.path.join(self.service.dir, "streamed")
        self.service.subscribe("E_S", "flatstore:" + path)
        self.assertEqual(self.run_client("stream", "E_S", "10050"), "10050 of 10050 succeeded\n")
        with open(path) as file:
            self.assertEqual(file.read().split(), ["E_S,%d" % n for n in range(10050)])

        self.service.subscribe("E_F", "tcp:127.0.0.1:%d" % free_port())
        process = self.start("stream", "E_F", "150")
        out, err = process.communicate(timeout=60)
        self.assertEqual(out, "0 of 150 succeeded\n")
        self.assertEqual(sorted(int(line.split(":")[0].split()[1]) for line in err.splitlines()), list(range(150)))

    def test_it_listens_and_what_it_acknowledges_is_delivered(self):
        name = "listener%d" % os.getpid()
        self.service.subscribe("E_L", "stream:%s?timeout=60s" % name)
        process = self.start("listen", name, "3")

        def delivered(n):
            answer = self.service.raise_event("E_L", n=str(n)).deliveries[0]
            return answer.outcome == event.DeliveryOutcome.OUTCOME_DELIVERED
        eventually(lambda: delivered(1), "it listens")
        self.assertTrue(delivered(2) and delivered(3))
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, err)
        self.assertEqual([json.loads(line)["params"][0]["string_value"] for line in out.splitlines()], ["1", "2", "3"])

    def test_a_refusal_and_a_server_that_is_not_there_are_told_in_words(self):
        self.assertRegex(self.run_client("subscribe", "E_A", "pigeon:loft", code=1), "(?i)invalid_?argument.*pigeon")
        nowhere = "127.0.0.1:%d" % free_port()
        self.assertRegex(self.run_client("raise", "E_A", code=1, server=nowhere), "(?i)unavailable")


class PythonClientTest(Stories, unittest.TestCase):
    client = staticmethod(python_client)


class NodeClientTest(Stories, unittest.TestCase):
    client = staticmethod(node_client)


class GoClientTest(Stories, unittest.TestCase):
    client = staticmethod(go_client)


if __name__ == "__main__":
    unittest.main()
