"""The log of the built service: as JSON, and where nobody reads it."""

import fcntl
import json
import os
import select
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import grpc

from service import FLAGS, SERVER, Service, event, event_grpc, eventually, free_port, subscription, subscription_grpc
from service_test import ReliablePeer


class Piped:
    """An eventvirtuald whose stderr is a pipe of one page that is read when the test says so."""

    def __init__(self, *flags):
        self.port = free_port()
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)
        self.process = subprocess.Popen([SERVER, "--listen=127.0.0.1:%d" % self.port, *FLAGS, *flags], stderr=self.writer)
        self.channel = grpc.insecure_channel("127.0.0.1:%d" % self.port)
        grpc.channel_ready_future(self.channel).result(timeout=20)
        self.subscriptions = subscription_grpc.SubscriptionServiceStub(self.channel)
        self.events = event_grpc.EventServiceStub(self.channel)

    def subscribe(self, name, socket):
        request = subscription.SubscribeRequest()
        request.subscription.event, request.subscription.socket = name, socket
        request.subscription.ttl.FromSeconds(3600)
        self.subscriptions.Subscribe(request, timeout=10)

    def raise_event(self, name):
        request = event.RaiseRequest(wait=event.WAIT_DELIVERED)
        request.event.name = name
        return self.events.Raise(request, timeout=20).deliveries[0].outcome

    def pipe_is_full(self):
        return not select.select([], [self.writer], [], 0)[1]

    def read_rest(self):
        """What comes until the process has ended."""
        os.close(self.writer)
        with os.fdopen(self.reader, "rb") as reader:
            return reader.read()


def refusing_peer(message):
    """A JSON-RPC server on tcp that answers each request with an error: its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listener, listener.accept()[0] as connection:
            while data := connection.recv(65536):
                error = {"jsonrpc": "2.0", "id": json.loads(data)["id"], "error": {"code": 1, "message": message}}
                connection.sendall(json.dumps(error).encode())
    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


class LogTest(unittest.TestCase):
    def fill(self, service):
        """Subscribers that fail, until their lines fill the pipe and wait behind it."""
        for i in range(60):
            service.subscribe("E_%d" % i, "tcp:127.0.0.1:%d/method%d" % (free_port(), i))
            service.raise_event("E_%d" % i)
        eventually(service.pipe_is_full, "the pipe is full")

    def test_where_nobody_reads_the_log_events_flow_and_the_service_stops(self):
        service = Piped("--drain_timeout=1s")
        self.fill(service)
        peer = ReliablePeer()
        service.subscribe("E_CDR", "tcp:127.0.0.1:%d?reliable=1" % peer.port)
        for _ in range(100):
            self.assertEqual(service.raise_event("E_CDR"), event.DeliveryOutcome.OUTCOME_DELIVERED)
        begin = time.monotonic()
        service.process.terminate()
        self.assertEqual(service.process.wait(timeout=30), 0)
        self.assertLess(time.monotonic() - begin, 20)
        self.assertIn(b"msg=ready", service.read_rest())
        peer.close()

    def test_what_waited_for_the_reader_comes_when_he_reads_again_also_while_the_service_stops(self):
        service = Piped()
        self.fill(service)
        service.process.terminate()
        lines = service.read_rest().decode().splitlines()
        self.assertEqual(service.process.wait(timeout=30), 0)
        failing = [line for line in lines if 'msg="subscriber fails"' in line]
        self.assertEqual(len(failing), 60)
        self.assertIn("msg=stopped", lines[-1])

    def test_json_is_one_object_per_line_whatever_a_subscriber_says(self):
        service = Piped("--log_format=json", "--log_level=debug")
        uri = "tcp:127.0.0.1:%d?reliable=1" % refusing_peer('\n{"level":"error"}\x1b[2J \U0001f600')
        folder = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        service.subscribe("E_CDR", "virtual:FAILOVER %s flatstore:%s/next" % (uri, folder))
        service.raise_event("E_CDR")
        service.subscribe("E_LOGIN", "nats://me:s3cr3t@127.0.0.1:%d/calls" % free_port())
        service.raise_event("E_LOGIN")
        service.process.terminate()
        lines = [json.loads(line) for line in service.read_rest().decode().splitlines()]
        self.assertEqual(service.process.wait(timeout=30), 0)
        for line in lines:
            self.assertEqual(list(line)[:3], ["time", "level", "msg"], line)
        fails = [line for line in lines if line["msg"] == "subscriber fails"]
        self.assertEqual([line["uri"].replace("***", "stars")[:12] for line in fails], [uri[:12], "nats://me:st"])
        self.assertNotIn("s3cr3t", str(lines))
        self.assertEqual(fails[0]["events"], "FAILOVER goes on to the next (1 subscription)")
        self.assertEqual(fails[0]["queued"], 0)
        self.assertEqual((lines[-1]["level"], lines[-1]["msg"]), ("info", "stopped"))

    def test_a_start_that_fails_says_why_in_the_format_that_was_asked_for(self):
        done = subprocess.run([SERVER, *FLAGS, "--log_format=json", "--listen=256.0.0.1:1"], stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 1)
        line = [json.loads(line) for line in done.stderr.splitlines()][-1]
        self.assertEqual((line["level"], line["msg"]), ("error", "cannot start"))
        self.assertIn("256.0.0.1:1", line["error"])
        refused = subprocess.run([SERVER, *FLAGS, "--log_format=xml"], stderr=subprocess.PIPE, text=True)
        self.assertEqual((refused.returncode, refused.stderr),
                         (1, 'eventvirtuald: --log_format: "xml" is not text or json\n'))

    def test_an_outage_is_two_lines_that_say_since_when_how_long_and_what_it_cost(self):
        service = Service()
        port = free_port()
        service.subscribe("E_CDR", "tcp:127.0.0.1:%d?reliable=1" % port, failover_timeout=0)
        for _ in range(3):
            service.raise_event("E_CDR")

        def line(message):
            found = [line for line in service.log_text().splitlines() if 'msg="%s"' % message in line]
            self.assertLess(len(found), 2, found)
            return found and found[0]
        fails = eventually(lambda: line("subscriber fails"), "the outage is logged")
        self.assertRegex(fails, r'since=20\S+Z queued=0 events="events to it alone fail \(1 subscription\)"')
        peer = ReliablePeer(port)
        eventually(lambda: service.raise_event("E_CDR") and peer.received, "it works again")
        works = eventually(lambda: line("subscriber works again"), "this is logged, too")
        self.assertRegex(works, r"down_for=\d\S*s failed=[3-9]\d* refused=\d+")
        peer.close()
        self.assertEqual(service.stop(), 0)


if __name__ == "__main__":
    unittest.main()
