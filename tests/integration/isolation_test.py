"""One subscription each on many transports: stop any one server, and all others deliver as before.

Prints, for each transport, the latency of an event that is waited for, before and while each server is stopped.
"""

import http.server
import os
import signal
import socket
import subprocess
import threading
import time
import unittest

from listen_test import Listener
from rabbitmq import RabbitMQ
from service import Service, event, eventually, free_port
from service_test import ReliablePeer, udp_receiver

ROUNDS = 40  # events of each transport, before and during


class Daemon:
    """A server of Debian's that listens on `port`."""

    def __init__(self, port, *command):
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *command],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def listens():
            assert self.process.poll() is None, "%s ended: is it installed?" % command[0]
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", port)) == 0
        eventually(listens, "%s listens" % command[0])

    def stop(self):
        self.process.kill()
        self.process.wait()


class Quiet(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def quantiles(seconds):
    ordered = sorted(seconds)
    return "p50 %5.2f ms  p99 %6.2f ms" % (ordered[len(ordered) // 2] * 1e3, ordered[len(ordered) * 99 // 100] * 1e3)


class IsolationTest(unittest.TestCase):
    def deliver(self, scheme):
        begin = time.monotonic()
        answer = self.service.raise_event("E_" + scheme, n="1")
        self.assertEqual(answer.deliveries[0].outcome, event.DeliveryOutcome.OUTCOME_DELIVERED,
                         "%s: %s" % (scheme, answer))
        return time.monotonic() - begin

    def test_a_stopped_server_delays_nobody_else(self):
        self.service = service = Service()
        self.addCleanup(service.stop)
        ports = {name: free_port() for name in ("redis", "nats", "mqtt")}
        folder = service.dir
        configuration = os.path.join(folder, "mosquitto.conf")
        with open(configuration, "w") as file:
            file.write("%slistener %d 127.0.0.1\nallow_anonymous true\n" % (
                "user root\n" if os.geteuid() == 0 else "", ports["mqtt"]))
        daemons = {
            "redis": Daemon(ports["redis"], "/usr/bin/redis-server", "--port", str(ports["redis"]), "--save", "", "--dir", folder),
            "nats": Daemon(ports["nats"], "/usr/sbin/nats-server", "-a", "127.0.0.1", "-p", str(ports["nats"])),
            "mqtt": Daemon(ports["mqtt"], "/usr/sbin/mosquitto", "-c", configuration),
        }
        for daemon in daemons.values():
            self.addCleanup(daemon.stop)
        rabbitmq = RabbitMQ()
        self.addCleanup(rabbitmq.close)
        rabbitmq.declare_queue("q")
        peer = ReliablePeer()
        self.addCleanup(peer.close)
        web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        self.addCleanup(web.server_close)
        self.addCleanup(web.shutdown)
        receiver, udp = udp_receiver()
        unix_path = os.path.join(folder, "unix")
        unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        unix.bind(unix_path)
        listener = Listener(service, "app")
        self.addCleanup(listener.die)

        def drain(sock):
            try:
                while sock.recv(65536):
                    pass
            except OSError:
                pass
        receiver.settimeout(None)
        for sock in (receiver, unix):
            threading.Thread(target=drain, args=(sock,), daemon=True).start()
        uris = {
            "udp": udp, "unix": "unix:" + unix_path, "stream": "stream:app",
            "tcp": "tcp:127.0.0.1:%d?reliable=1" % peer.port, "flatstore": "flatstore:" + os.path.join(folder, "x.log"),
            "http": "http://127.0.0.1:%d/" % web.server_port,
            "rabbitmq": "rabbitmq:guest:guest@127.0.0.1:%d/q" % rabbitmq.port,
            "redis": "redis://127.0.0.1:%d/list:l" % ports["redis"], "nats": "nats://127.0.0.1:%d/s" % ports["nats"],
            "mqtt": "mqtt://127.0.0.1:%d/t" % ports["mqtt"],
        }
        for scheme, uri in uris.items():
            service.subscribe("E_" + scheme, uri)
            eventually(lambda scheme=scheme: service.raise_event("E_" + scheme, n="0").deliveries[0].outcome ==
                       event.DeliveryOutcome.OUTCOME_DELIVERED, scheme + " works")

        def measure(stopped=None):
            latencies = {scheme: [] for scheme in uris if scheme != stopped}
            for _ in range(ROUNDS):
                if stopped:  # and it has its share of events all the while
                    service.raise_event("E_" + stopped, wait=event.WAIT_ACCEPTED, n="2")
                for scheme, seconds in latencies.items():
                    seconds.append(self.deliver(scheme))
            return latencies

        before = measure()
        during = {scheme: [] for scheme in uris}
        for stopped, pid in [(name, daemon.process.pid) for name, daemon in daemons.items()] + [
                ("rabbitmq", rabbitmq.pid)]:
            os.kill(pid, signal.SIGSTOP)
            try:
                for scheme, seconds in measure(stopped).items():
                    during[scheme] += seconds
            finally:
                os.kill(pid, signal.SIGCONT)
            eventually(lambda stopped=stopped: service.raise_event("E_" + stopped, n="3").deliveries[0].outcome ==
                       event.DeliveryOutcome.OUTCOME_DELIVERED, stopped + " works again")
        for scheme in uris:
            print("%-10s before %s   during %s" % (scheme, quantiles(before[scheme]), quantiles(during[scheme])))


if __name__ == "__main__":
    unittest.main()
