"""Who a process of another user of this host is to the service: over gRPC and the management interface, on unix sockets."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from service import EVCTL, Service, eventually, samples_of

NOBODY, OTHER = 65534, 65533  # users, and groups of the same numbers
ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as me:
    me.settimeout(60)
    me.bind(sys.argv[1])
    for _ in range(int(sys.argv[4])):
        me.sendto(sys.argv[3].encode(), sys.argv[2])
        answer = me.recv(65536).decode()
    print(answer)
"""


class UsersTest(unittest.TestCase):
    def setUp(self):
        self.assertEqual(os.geteuid(), 0, "this test becomes other users, which only root may")
        self.folder = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        self.addCleanup(lambda: shutil.rmtree(self.folder))
        os.chmod(self.folder, 0o777)
        self.evctl = os.path.join(self.folder, "evctl")  # others may not look where tests are run
        shutil.copy(EVCTL, self.evctl)

    def start(self, lines, *flags):
        self.access = os.path.join(self.folder, "access")
        self.write(lines)
        self.socket, self.mi = self.folder + "/s", self.folder + "/mi"
        service = Service("--listen=127.0.0.1:0,unix:" + self.socket, "--mi=unix:" + self.mi, "--access=" + self.access,
                          "--socket_group=%d" % NOBODY, *flags)
        self.addCleanup(lambda: service.process.poll() is None and self.assertEqual(service.stop(), 0))
        return service

    def write(self, lines):
        with open(self.access + ".new", "w") as file:
            file.write(lines)
        os.rename(self.access + ".new", self.access)

    def as_user(self, user, *words):
        """What a process of the user writes, and its exit code. It is in the sockets' group."""
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, user=user, group=NOBODY,
                              extra_groups=[], cwd="/", timeout=120)
        return done.returncode, done.stdout

    def call(self, user, *words):
        return self.as_user(user, self.evctl, "--server=unix:" + self.socket, *words)

    def ask(self, user, method, *params, times=1):
        """The last answer of the management interface to one process that asks so often."""
        path = "%s/from-%d" % (self.folder, user)
        code, text = self.as_user(user, sys.executable, "-c", ASK, path, self.mi, json.dumps(
            {"id": 1, "jsonrpc": "2.0", "method": method, "params": params}), str(times))
        self.assertEqual(code, 0, text)
        os.unlink(path)
        return json.loads(text)

    def test_each_user_may_what_stands_at_its_name_or_number(self):
        self.start("user:root operator\nuser:nobody producer E_A*\nuser:%d observer\nloopback observer\n" % OTHER)
        for _ in range(2):  # and remains who it is, whoever comes between
            code, said = self.call(0, "list")
            self.assertEqual(code, 0, said)
            code, said = self.call(NOBODY, "raise", "E_ACC", "n=1")
            self.assertEqual(code, 0, said)
            code, said = self.call(NOBODY, "raise", "E_OTHER", "n=1")
            self.assertNotEqual(code, 0)
            self.assertIn("user:%d may not do that to the event \"E_OTHER\"" % NOBODY, said)
            code, said = self.call(OTHER, "list")
            self.assertEqual(code, 0, said)
            code, said = self.call(OTHER, "raise", "E_ACC")
            self.assertNotEqual(code, 0)
            self.assertIn("user:%d has not" % OTHER, said)
            code, said = self.call(4711, "list")
            self.assertNotEqual(code, 0, "unix has no line of its own")
            self.assertIn("user:4711", said)

    def test_the_management_interface_knows_its_users_too(self):
        self.start("user:%d operator\nloopback observer\n" % NOBODY)
        self.assertIn("result", self.ask(NOBODY, "version"))
        for user in (OTHER, 0):
            self.assertIn("user:%d has not" % user, self.ask(user, "version")["error"]["data"])

    def test_a_line_that_is_added_is_in_force_for_who_is_there_already(self):
        self.start("user:root operator\nloopback observer\n")
        self.assertNotEqual(self.call(NOBODY, "list")[0], 0)
        self.write("user:root operator\nuser:nobody observer\nloopback observer\n")
        eventually(lambda: self.call(NOBODY, "list")[0] == 0, "the file is read again", 60)

    def test_one_user_at_its_rate_or_number_of_subscriptions_leaves_the_others_alone(self):
        service = self.start("unix operator\nloopback observer\n", "--max_subscriptions_per_principal=1", "--raise_rate=1",
                             "--rate_burst=5s")
        self.assertEqual(self.call(NOBODY, "subscribe", "E", "udp:127.0.0.1:9", "--ttl=1h")[0], 0)
        code, said = self.call(NOBODY, "subscribe", "E", "udp:127.0.0.1:8", "--ttl=1h")
        self.assertNotEqual(code, 0)
        self.assertIn("user:%d has 1 subscriptions" % NOBODY, said)
        code, said = self.call(OTHER, "subscribe", "E", "udp:127.0.0.1:8", "--ttl=1h")
        self.assertEqual(code, 0, said)
        self.assertIn("user:%d has 1" % OTHER, self.ask(OTHER, "event_subscribe", "E", "udp:127.0.0.1:7")["error"]["data"])

        refused = self.ask(NOBODY, "raise_event", "E", times=200)["error"]
        self.assertIn("user:%d: more than 1 a second (--raise_rate)" % NOBODY, refused["data"])
        code, said = self.call(OTHER, "raise", "E", "n=1")
        self.assertEqual(code, 0, said)
        exceeded = samples_of(service.get("/metrics")[1])[0]['eventvirtual_limit_exceeded_total{limit="raise_rate"}']
        self.assertGreaterEqual(exceeded, 1)


if __name__ == "__main__":
    unittest.main()
