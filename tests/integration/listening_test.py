"""Who gets a connection to the built service, and what floods of connections do to the others."""

import os
import re
import resource
import shutil
import socket
import stat
import subprocess
import tempfile
import time
import unittest

import grpc

from service import FLAGS, SERVER, Service, event, event_grpc, eventually, samples_of

SOAK = os.environ.get("SOAK") == "1"
FLOODS = 50 if SOAK else 8
SPARE = 30  # descriptors that a flood may take


def refusal(*flags):
    done = subprocess.run([SERVER, *FLAGS, *flags], stderr=subprocess.PIPE, text=True, timeout=60)
    return done.returncode, done.stderr


def ask(address):
    """One call over a connection of its own."""
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        event_grpc.EventServiceStub(channel).ListEvents(event.ListEventsRequest(), timeout=5)


def answers(address):
    try:
        ask(address)
        return True
    except grpc.RpcError:
        return False


def has_ended(connection):
    """Whether the other end has closed it; what it sent before is thrown away."""
    connection.setblocking(False)
    try:
        while True:
            if connection.recv(65536) == b"":
                return True
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


class ListeningTest(unittest.TestCase):
    def start(self, *flags):
        service = Service(*flags)
        self.addCleanup(lambda: self.assertEqual(service.stop(), 0))
        return service

    def connections(self, service):
        series = samples_of(service.get("/metrics")[1])[0]
        return {name: series['eventvirtual_grpc_connections_total{result="%s"}' % name]
                for name in ("taken", "no_descriptor", "too_many", "too_many_of_peer")}

    def test_addresses_that_other_hosts_reach_are_refused_with_the_way_out(self):
        for flags, words in (
            (["--listen=0.0.0.0:0"], ("--listen", "0.0.0.0:0", "not a loopback address", "tls:0.0.0.0:0", "--tls_cert")),
            (["--listen=[::]:0"], ("--listen", "not a loopback address", "tls:[::]:0")),
            (["--listen=192.0.2.1:7060"], ("not a loopback address", "tls:192.0.2.1:7060")),
            (["--listen=tls:127.0.0.1:0"], ("--listen", "--tls_cert and --tls_key")),
            (["--listen=example.org:7060"], ("numeric", "unix:/path")),
            (["--listen=unix:relative"], ("absolute", "unix:/path")),
            (["--listen=127.0.0.1:0", "--ingest=tcp:0.0.0.0:0"], ("--ingest", "tunnel", "--ingest_off_host")),
            (["--listen=127.0.0.1:0", "--ingest=udp:[::]:0"], ("--ingest", "--ingest_off_host")),
            (["--listen=127.0.0.1:0", "--http=0.0.0.0:0"], ("--http", "not a loopback address", "proxy")),
            (["--listen=127.0.0.1:0", "--socket_group=nobody-has-this"], ("--socket_group", "nobody-has-this")),
            (["--listen=127.0.0.1:0", "--max_connections=0"], ("--max_connections", "1 to 1000000")),
        ):
            with self.subTest(flags):
                code, said = refusal(*flags)
                self.assertEqual(code, 1)
                for word in words:
                    self.assertIn(word, said)

    def test_ingest_of_other_hosts_is_for_who_asks_for_it(self):
        service = self.start("--ingest=tcp:0.0.0.0:0", "--ingest_off_host")
        self.assertRegex(service.ingest[0], r"^tcp:0\.0\.0\.0:\d+$")

    def test_a_unix_socket_is_for_its_owner_and_one_group(self):
        groups = sorted({os.getgid(), *os.getgroups()})
        service = self.start("--ingest=unix:%s" % os.path.join(self.temporary(), "in.sock"), "--socket_group=%d" % groups[-1])
        for path in (service.unix[len("unix:"):], service.ingest[0][len("unix:"):]):
            status = os.stat(path)
            self.assertEqual(stat.S_IMODE(status.st_mode), 0o660)
            self.assertEqual(status.st_gid, groups[-1])
        ask(service.unix)

    def temporary(self):
        folder = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        self.addCleanup(lambda: shutil.rmtree(folder))
        return folder

    def test_localhost_and_ipv6_are_loopback_too(self):
        service = self.start("--listen=localhost:0,[::1]:0")
        addresses = re.findall(r"[\d.:\[\]]+:\d+", service.fields["listen"])
        self.assertEqual(len(addresses), 2)
        for address in addresses:
            ask(address)

    def test_after_a_flood_that_took_every_descriptor_it_serves_again(self):
        service = self.start()
        host, port = service.address.rsplit(":", 1)
        service.events.ListEvents(event.ListEventsRequest(), timeout=60)
        worst = 0
        used = max(int(fd) for fd in os.listdir("/proc/%d/fd" % service.process.pid))
        hard = resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (used + SPARE, hard))
        for flood in range(FLOODS):
            over_unix = flood % 2 == 1
            flooders = []
            for _ in range(3 * SPARE):
                if over_unix:
                    flooder = socket.socket(socket.AF_UNIX)
                    flooder.connect(service.unix[len("unix:"):])
                else:
                    flooder = socket.create_connection((host, int(port)))
                self.addCleanup(flooder.close)
                flooders.append(flooder)
            # Those beyond are told, and not left waiting.
            eventually(lambda: sum(map(has_ended, flooders)) >= SPARE, "those that are too many are closed", 60)
            # Who was there before does not notice.
            service.events.ListEvents(event.ListEventsRequest(), timeout=60)
            for flooder in flooders:
                flooder.close()
            begun = time.monotonic()
            eventually(lambda: answers(service.unix if over_unix else service.address), "it serves after flood %d" % flood, 60)
            worst = max(worst, time.monotonic() - begun)
        print("%d floods; served again after %.3f s at most" % (FLOODS, worst))
        if SOAK:
            self.assertLess(worst, 1)
        self.assertGreaterEqual(self.connections(service)["no_descriptor"], FLOODS * SPARE)

    def test_connections_beyond_the_caps_are_closed_and_counted(self):
        service = self.start("--max_connections=20", "--max_connections_per_peer=8")
        host, port = service.address.rsplit(":", 1)
        service.events.ListEvents(event.ListEventsRequest(), timeout=60)  # one connection that stays
        over_tcp = [socket.create_connection((host, int(port))) for _ in range(10)]
        for connection in over_tcp:
            self.addCleanup(connection.close)
        eventually(lambda: sum(map(has_ended, over_tcp)) == 3, "8 of one peer stay", 60)
        self.assertFalse(answers(service.address))
        ask(service.unix)  # another peer
        service.events.ListEvents(event.ListEventsRequest(), timeout=60)
        counts = self.connections(service)
        self.assertGreaterEqual(counts["too_many_of_peer"], 4)
        self.assertEqual(counts["too_many"], 0)
        # Who goes makes room.
        for connection in over_tcp:
            connection.close()
        eventually(lambda: answers(service.address), "there is room again", 60)

    def test_all_peers_together_have_a_cap(self):
        service = self.start("--max_connections=3", "--max_connections_per_peer=3")
        host, port = service.address.rsplit(":", 1)
        held = [socket.create_connection((host, int(port))) for _ in range(3)]
        eventually(lambda: self.connections(service)["taken"] == 3, "they are taken", 60)
        late = socket.socket(socket.AF_UNIX)
        late.connect(service.unix[len("unix:"):])
        eventually(lambda: has_ended(late), "the fourth is closed", 60)
        self.assertEqual(self.connections(service)["too_many"], 1)
        for connection in held + [late]:
            connection.close()

    def test_who_says_nothing_is_not_waited_for(self):
        service = self.start("--handshake_timeout=300ms")
        host, port = service.address.rsplit(":", 1)
        silent = socket.create_connection((host, int(port)))
        eventually(lambda: has_ended(silent), "it is closed", 60)
        silent.close()
        eventually(lambda: answers(service.address), "others are served", 60)


if __name__ == "__main__":
    unittest.main(verbosity=2)
