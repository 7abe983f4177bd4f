"""Nobody is reached who is not allowed: 200 evil destinations before the running service, in a network of its own in which
nftables count every packet. As root: it makes network and mount namespaces."""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

# A network and a view of /etc that are this test's alone, before any thread is started.
if "INSIDE" not in os.environ:
    os.execvpe("unshare", ["unshare", "--net", "--mount", sys.executable, *sys.argv], {**os.environ, "INSIDE": "1"})

from service import Service, event, eventually, free_port  # noqa: E402

import grpc  # noqa: E402

# What must not be reached lives here, so that only the policy is in the way: each address is one of this namespace's.
FORBIDDEN = ["169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192", "8.8.8.8", "100.64.0.1",
             "fd00:ec2::254", "fd20:ce::254", "2600::1"]

METADATA = [  # 169.254.169.254 in every spelling
    "169.254.169.254", "2852039166", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE", "0251.0376.0251.0376", "025177524776",
    "169.254.43518", "169.16689662", "0xa9.16689662", "0251.254.0xa9fe", "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]", "[0:0:0:0:0:ffff:a9fe:a9fe]", "[::169.254.169.254]", "[64:ff9b::169.254.169.254]",
    "[64:ff9b:1::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[::ffff:0:169.254.169.254]"]

OTHERS = ["0.0.0.0", "0", "0x0", "0.1.2.3", "[::]", "[::ffff:0.0.0.0]", "224.0.0.1", "239.255.255.250", "[ff02::1]", "[ff05::2]",
          "255.255.255.255", "4294967295", "240.0.0.1", "[::ffff:255.255.255.255]", "[::ffff:224.0.0.1]", "[fe80::1]",
          "[febf::1]", "8.8.8.8", "134744072", "0x08080808", "010.010.010.010", "[::ffff:8.8.8.8]", "[64:ff9b::8.8.8.8]", "100.64.0.1",
          "[2600::1]", "168.63.129.16", "100.100.100.200", "192.0.0.192", "169.254.170.2", "[fd00:ec2::254]",
          "[fd20:ce::254]", "[2001:0:a9fe:a9fe::]"]

# Names, and to what they lead. A resolver that is not ours could say the same.
NAMES = {"metadata.test": ["169.254.169.254"], "google.test": ["8.8.8.8"], "six.test": ["2600::1"],
         "meta6.test": ["fd00:ec2::254"], "mapped.test": ["::ffff:169.254.169.254"], "both.test": ["8.8.8.8", "2600::1"],
         "every.test": ["0.0.0.0"], "azure.test": ["168.63.129.16"]}

# Every transport that connects.
TRANSPORTS = ["tcp:%s:80", "udp:%s:80", "http://%s:80/a", "https://%s:443/a", "grpc://%s:80", "grpcs://%s:443", "redis://%s:80/list:a",
              "nats://%s:80/a", "natss://%s:443/a", "mqtt://%s:80/a", "mqtts://%s:443/a", "rabbitmq:guest:guest@%s:80/a",
              "amqps://%s:443?routing_key=a", "kafka:%s:80/a", "xmlrpc:%s:80:a"]

TRICKS = [
    "http://127.0.0.1@169.254.169.254/", "http://169.254.169.254:80@8.8.8.8/", "http://127.0.0.1:80@metadata.test/",
    "http://localhost%2f@169.254.169.254/", "https://sqs.eu-west-1.amazonaws.com@169.254.169.254/a",
    "kafka:127.0.0.1:1,169.254.169.254:80/a", "kafka:127.0.0.1:1,metadata.test:80/a", "redis://10.0.0.1@8.8.8.8/list:a",
    "nats://u:p@metadata.test/a", "amqp://guest:guest@169.254.169.254?routing_key=a", "sqs:http://169.254.169.254/1/a",
    "sqs:http://metadata.test/1/a", "http://169.254.169.254./", "http://metadata.test./", "tcp:METADATA.test:80"]

FILES = ["/etc/passwd", "/etc/cron.d/evil", "/proc/self/mem", "/proc/sysrq-trigger", "/dev/null", "/dev/shm/evil", "/root/.ssh/authorized_keys",
         "/var/lib/evil", "//etc//passwd", "/./etc/passwd", "/run/evil"]


def answers_kafka(connection, advertised):
    """A broker that speaks as much of Kafka's protocol as it takes to name another as leader of the topic "a"."""
    def text(value):
        return struct.pack(">h", len(value)) + value

    def read(size):
        data = b""
        while len(data) < size:
            part = connection.recv(size - len(data))
            if not part:
                raise OSError
            data += part
        return data

    try:
        while True:
            request = read(struct.unpack(">i", read(4))[0])
            key, version, correlation = struct.unpack(">hhi", request[:8])
            if key == 18:  # ApiVersions, of which it knows version 0
                apis = [(0, 3, 3), (3, 1, 1), (18, 0, 0), (22, 0, 0)]
                body = struct.pack(">hi", 35 if version else 0, len(apis)) + b"".join(struct.pack(">hhh", *api) for api in apis)
            elif key == 3:  # Metadata, version 1
                body = struct.pack(">ii", 1, 7) + text(advertised) + struct.pack(">ihi", 80, -1, 7)
                body += struct.pack(">ih", 1, 0) + text(b"a") + struct.pack(">bihii", 0, 1, 0, 0, 7)
                body += struct.pack(">iiii", 1, 7, 1, 7)
            else:  # InitProducerId, version 0: an id
                body = struct.pack(">ihqh", 0, 0, 1, 0)
            connection.sendall(struct.pack(">ii", len(body) + 4, correlation) + body)
    except OSError:
        pass


def redirects(connection, where):
    """An HTTP server that sends everybody elsewhere."""
    try:
        while connection.recv(65536):
            connection.sendall(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % where)
    except OSError:
        pass


def serve(answer, *words):
    """A TCP server on loopback whose connections are answered on threads; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            connection = listener.accept()[0]
            threading.Thread(target=answer, args=(connection, *words), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def nft(*words):
    return subprocess.run(["/usr/sbin/nft", *words], check=True, stdout=subprocess.PIPE, text=True).stdout


class DestinationsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        for name, lines in (("hosts", ["127.0.0.1 localhost", "::1 localhost"] + ["%s %s" % (a, n) for n, aa in NAMES.items() for a in aa]),
                            ("resolv.conf", ["nameserver 127.0.0.1"])):
            with open(os.path.join(cls.dir, name), "w") as file:
                file.write("\n".join(lines) + "\n")
            subprocess.run(["mount", "--bind", file.name, os.path.realpath("/etc/" + name)], check=True)
        for command in ("link set lo up", *("addr add %s dev lo" % a for a in FORBIDDEN), "route add default dev lo",
                        "-6 route add default dev lo"):
            subprocess.run(["/usr/sbin/ip", *command.split()], check=True)
        # What is for loopback is let be; every other packet, whoever sends it, is counted.
        nft("add table inet t; add counter inet t forbidden; add chain inet t out { type filter hook output priority 0; }; "
            "add rule inet t out ip daddr 127.0.0.0/8 accept; add rule inet t out ip6 daddr ::1 accept; "
            # the kernel's own: neighbours, and routers
            "add rule inet t out icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld2-listener-report } accept; "
            "add rule inet t out counter name forbidden")

    def packets(self):
        return json.loads(nft("-j", "list", "counter", "inet", "t", "forbidden"))["nftables"][1]["counter"]["packets"]

    def send_one(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"x", ("169.254.169.254", 80))

    def test_a_packet_that_is_not_for_loopback_is_counted(self):
        before = self.packets()
        self.send_one()
        self.assertGreater(self.packets(), before)

    def outcomes(self, service):
        answer = service.events.Raise(event.RaiseRequest(wait=event.WAIT_DELIVERED, event=event.Event(name="E_EVIL")), timeout=120)
        return {attempt.uri: (attempt.code, attempt.error, attempt.result) for row in answer.deliveries for attempt in row.attempts}

    def refusals(self, service, uris):
        """How each ended: refused when it was subscribed, or when it was connected to; in one event."""
        ended, accepted = {}, []
        for uri in uris:
            try:
                service.subscribe("E_EVIL", uri)
                accepted.append(uri)
            except grpc.RpcError as error:
                ended[uri] = (error.code(), error.details())
        if accepted:
            ended.update(self.outcomes(service))
        return ended, accepted

    def test_of_two_hundred_evil_destinations_none_gets_a_packet(self):
        service = Service("--attempt_timeout=20s")
        try:
            own = int(service.address.rsplit(":", 1)[1])
            uris = ["tcp:%s:80" % host for host in METADATA + OTHERS] + ["http://%s/latest/meta-data" % host for host in METADATA]
            uris += [shape % name for shape in TRANSPORTS for name in NAMES]
            uris += [shape.replace(":80", ":%d" % own) % host for shape in TRANSPORTS for host in ("127.0.0.1", "localhost")
                     if ":80" in shape and "udp" not in shape]
            uris += TRICKS
            self.assertGreaterEqual(len(uris), 200)
            before = self.packets()
            ended, accepted = self.refusals(service, uris)
            self.assertEqual(self.packets(), before)
            self.assertGreater(len(accepted), 100)  # those with names, which are looked up at the connect
            for uri, how in ended.items():
                if len(how) == 2:
                    self.assertIn(how[0], (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT), (uri, how))
                else:
                    self.assertNotEqual(how[2], event.Attempt.RESULT_OK, (uri, how))
        finally:
            service.stop()

    def test_where_a_name_leads_to_such_a_place_the_policy_says_so(self):
        service = Service("--attempt_timeout=20s")
        try:
            before = self.packets()
            for shape in TRANSPORTS:
                uri = shape % "metadata.test"
                scheme = uri.split(":")[0]
                service.subscribe("E_" + scheme.upper(), uri)

                def told():  # a busy machine may not come to connect in time
                    errors = [attempt.error for row in service.raise_event("E_" + scheme.upper()).deliveries for attempt in row.attempts]
                    return any("never allowed: a link-local address" in error for error in errors)
                eventually(told, "%s says why" % scheme, 120)
            self.assertEqual(self.packets(), before)
            self.assertIn("never allowed", service.evctl("endpoints").stdout)
        finally:
            service.stop()

    def test_who_redirects_or_advertises_leads_nowhere(self):
        service = Service()
        try:
            before = self.packets()
            web = serve(redirects, b"http://169.254.169.254/latest")
            kafka = serve(answers_kafka, b"169.254.169.254")
            named = serve(answers_kafka, b"metadata.test")
            ended, accepted = self.refusals(service, [
                "http://127.0.0.1:%d/a?redirects=1" % web, "kafka:127.0.0.1:%d/a?timeout=1m" % kafka,
                "kafka:127.0.0.1:%d/a?timeout=1m" % named])
            self.assertEqual(len(accepted), 3, ended)
            self.assertEqual(self.packets(), before)
            self.assertEqual({how[2] == event.Attempt.RESULT_OK for how in ended.values()}, {False})
            self.assertEqual(sum("never allowed: a link-local address" in how[1] for how in ended.values()), 2, ended)
        finally:
            service.stop()

    def test_what_a_bridge_raises_again_ends_when_its_id_comes_back(self):
        """An HTTP receiver raises whatever it is sent, for ever, under the id that it came with."""
        service = Service()
        seen = []

        def bridge(connection):
            text = b""
            while data := connection.recv(65536):
                text += data
                while b"}}" in text:  # the end of the body, JSON-RPC
                    request, _, text = text.partition(b"}}")
                    headers = dict(line.split(": ", 1) for line in request.decode().split("\r\n") if ": " in line)
                    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                    seen.append(headers["Idempotency-Key"])
                    service.events.Raise(event.RaiseRequest(event=event.Event(
                        name="E_RING", event_id=seen[-1], params=[event.Param(name="a", string_value="1")])), timeout=60)
        try:
            service.subscribe("E_RING", "http://127.0.0.1:%d/a?timeout=1m" % serve(bridge))
            first = service.raise_event("E_RING", a="1", wait=event.WAIT_ACCEPTED)
            eventually(lambda: len(seen) == 2, "it comes back", 60)
            # The second has been raised and answered, so a third would be on its way.
            repeat = service.events.Raise(event.RaiseRequest(wait=event.WAIT_DELIVERED, event=event.Event(
                name="E_RING", event_id=first.event_id)), timeout=60)
            self.assertEqual(repeat.event_id, first.event_id)
            self.assertEqual(seen, [first.event_id] * 2)
        finally:
            service.stop()

    def test_a_file_outside_is_refused_and_stays_as_it_was(self):
        canary, inside = (tempfile.mkdtemp(prefix="ev", dir="/tmp") for _ in range(2))
        service = Service("--data_dir=" + os.path.join(self.dir, "data"), "--allow_directory=" + inside)
        try:
            os.symlink(canary, os.path.join(inside, "link"))
            os.symlink(os.path.join(canary, "file"), os.path.join(inside, "leaf"))
            os.symlink("/run/systemd/journal/socket", os.path.join(inside, "sock"))
            uris = [scheme + path for scheme in ("flatstore:", "unix:") for path in FILES + [canary + "/a"]]
            uris += ["flatstore:%s/%s" % (inside, name) for name in ("link/a", "leaf", "link/../../../etc/passwd", "../../etc/passwd")]
            uris += ["unix:%s/sock" % inside, "unix:%s/link/a" % inside,
                     "flatstore:" + os.path.join(self.dir, "data", "journal.db")]
            ended, _ = self.refusals(service, uris)
            for uri, how in ended.items():
                self.assertNotEqual(how[-1], event.Attempt.RESULT_OK, uri)
            self.assertEqual(len(ended), len(uris), set(uris) - set(ended))
            self.assertEqual(os.listdir(canary), [])
            # One beneath is written to all the same.
            service.subscribe("E_GOOD", "flatstore:%s/good" % inside)
            self.assertEqual(service.raise_event("E_GOOD", a="1").deliveries[0].attempts[0].result, event.Attempt.RESULT_OK)
        finally:
            service.stop()
            shutil.rmtree(canary)
            shutil.rmtree(inside)

    def test_all_of_the_file_system_may_be_allowed(self):
        service = Service("--allow_directory=/")
        self.addCleanup(service.stop)
        path = os.path.join(self.dir, "anywhere")
        service.subscribe("E_ROOT", "flatstore:" + path)
        answer = service.raise_event("E_ROOT", a="1")
        self.assertEqual(answer.deliveries[0].outcome, event.DeliveryOutcome.OUTCOME_DELIVERED, answer)
        with open(path) as written:
            self.assertIn("1", written.read())

    def test_dead_letters_go_no_further_than_events(self):
        service = Service("--data_dir=" + os.path.join(self.dir, "letters"))
        try:
            done = service.evctl("subscribe", "E", "tcp:127.0.0.1:1", "--durable", "--dead_letter_uri=tcp:8.8.8.8:80", check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("delivery.dead_letter_uri: 8.8.8.8:80 is not allowed", done.stderr)
        finally:
            service.stop()

    def test_the_file_is_read_again_and_a_bad_one_replaces_nothing(self):
        rules = os.path.join(self.dir, "rules")

        def write(text):
            with open(rules + ".new", "w") as file:
                file.write(text)
            os.replace(rules + ".new", rules)

        def allows(uri):
            try:
                service.subscribe("E_%d" % free_port(), uri)
                return True
            except grpc.RpcError as error:
                self.assertEqual(error.code(), grpc.StatusCode.PERMISSION_DENIED, error.details())
                return False

        write("network 10.0.0.0/8 5672\nscheme tcp udp\n")
        service = Service("--destinations=" + rules)
        try:
            self.assertTrue(allows("tcp:10.0.0.1:5672"))
            self.assertFalse(allows("tcp:10.0.0.1:5673"))
            self.assertFalse(allows("tcp:127.0.0.1:5672"))
            self.assertFalse(allows("http://10.0.0.1:5672/"))
            write("network loopback\nnetwork 10.0.0.0/99\n")
            service.logs("--destinations=%s: line 2: " % rules)
            self.assertTrue(allows("tcp:10.0.0.1:5672"))
            self.assertFalse(allows("tcp:127.0.0.1:5672"))
            write("network loopback\n")
            service.logs("read again")  # without being asked
            self.assertTrue(allows("tcp:127.0.0.1:5672"))
            self.assertFalse(allows("tcp:10.0.0.1:5672"))
            os.remove(rules)
            service.logs("No such file")
            self.assertTrue(allows("tcp:127.0.0.1:5672"))
        finally:
            service.stop()

    def test_what_is_subscribed_and_not_allowed_any_more_fails_visibly_and_may_be_ended(self):
        rules = os.path.join(self.dir, "later")
        data = os.path.join(self.dir, "later-data")
        with open(rules, "w") as file:
            file.write("network any\n")
        flags = ["--destinations=" + rules, "--data_dir=" + data]
        service = Service(*flags)
        service.subscribe("E", "tcp:8.8.8.8:80")
        service.stop()
        with open(rules, "w") as file:
            file.write("network private\n")
        service = Service(*flags)
        try:
            before = self.packets()
            attempt = service.raise_event("E", a="1").deliveries[0].attempts[0]
            self.assertIn("8.8.8.8:80 is not allowed: no network in the file of --destinations has it", attempt.error)
            self.assertEqual(attempt.code, grpc.StatusCode.PERMISSION_DENIED.value[0])
            self.assertEqual(self.packets(), before)
            self.assertIn("is not allowed", service.evctl("endpoints").stdout)
            service.evctl("unsubscribe", "E", "tcp:8.8.8.8:80")
        finally:
            service.stop()

    def test_a_file_that_cannot_be_understood_stops_the_start(self):
        rules = os.path.join(self.dir, "bad")
        with open(rules, "w") as file:
            file.write("network everything\n")
        for flags, fault in ((["--destinations=" + rules], "line 1"), (["--destinations=/none"], "No such file"),
                             (["--allow_directory=tmp"], "absolute")):
            done = subprocess.run([os.path.join(os.getcwd(), "server/eventvirtuald"), "--listen=127.0.0.1:0", *flags],
                                  stderr=subprocess.PIPE, text=True, timeout=30, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(fault, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
