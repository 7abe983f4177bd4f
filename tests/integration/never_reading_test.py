"""3,000 streams whose clients never read, on the running service: what they cost, and whether anybody else notices.

The clients speak HTTP/2 (RFC 9113) and keep its rules, but give every stream a window of nothing: no message of the service
gets out to them.
"""

import os
import select
import socket
import struct
import time
import unittest

from http2 import (ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
                   header)
from service import Service, event, eventually, samples_of, subscription

STREAMS = 3000
PER_CONNECTION = 100  # --max_streams
MOST = 25 * 1000  # bytes for each, besides what is configured to wait for it
PATIENCE = 60  # seconds


class Connection:
    """Opens streams, and sends what the service lets in."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self.socket.setblocking(False)
        self.unsent, self.read = bytearray(), bytearray()
        self.window = self.initial_window = 65535  # of the connection; of a stream
        self.windows = {}  # of the streams
        self.reset = set()  # streams that the service has ended so
        self.trailers = {}  # as the service has ended them
        self.closed = False
        # INITIAL_WINDOW_SIZE, 6.5.2
        self.send(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))

    def send(self, data):
        self.unsent += data
        give_up = time.monotonic() + PATIENCE
        while self.unsent and not self.closed:
            assert time.monotonic() < give_up, "the service does not read"
            self.turn(1)

    def turn(self, seconds):
        """Sends and takes what can be now, waiting for either. Whether anything came in."""
        readable, writable, _ = select.select([self.socket], [self.socket] if self.unsent else [], [], seconds)
        try:
            if writable:
                del self.unsent[:self.socket.send(self.unsent[:1 << 18])]
            if not readable:
                return False
            data = self.socket.recv(1 << 18)
        except OSError:
            data = b""
        self.closed = self.closed or not data
        self.read += data
        while len(self.read) >= 9 and len(self.read) >= 9 + (length := int.from_bytes(self.read[:3], "big")):
            kind, flags, stream = struct.unpack(">BBI", self.read[3:9])
            self.take(kind, flags, stream, bytes(self.read[9:9 + length]))
            del self.read[:9 + length]
        return bool(data)

    def take(self, kind, flags, stream, payload):
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[at:at + 6])
                if name == 4:
                    for known in self.windows:
                        self.windows[known] += value - self.initial_window
                    self.initial_window = value
            self.unsent += frame(SETTINGS, ACK)
        elif kind == PING and not flags & ACK:
            self.unsent += frame(PING, ACK, 0, payload)
        elif kind == WINDOW_UPDATE:
            more = int.from_bytes(payload, "big")
            if stream == 0:
                self.window += more
            elif stream in self.windows:
                self.windows[stream] += more
        elif kind == HEADERS and flags & END_STREAM:
            self.trailers[stream] = payload
        elif kind == RST_STREAM:
            self.reset.add(stream)

    def call(self, stream, method, message=None, end=False):
        headers = b"".join(header(name, value) for name, value in (
            (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/" + method.encode()), (b":authority", b"a"),
            (b"te", b"trailers"), (b"content-type", b"application/grpc")))
        self.windows[stream] = self.initial_window
        self.send(frame(HEADERS, END_HEADERS, stream, headers))
        if message is not None:
            assert self.say(stream, message, END_STREAM if end else 0)

    def say(self, stream, message, flags=0, patience=PATIENCE):
        """Sends it once there is room; false when the service makes none."""
        data = b"\0" + struct.pack(">I", len(message)) + message
        give_up = time.monotonic() + patience
        while (self.window < len(data) or self.windows[stream] < len(data)) and not self.closed:
            if not self.turn(patience / 10) and time.monotonic() > give_up:
                return False
        if self.closed or stream in self.reset:
            return False
        self.window -= len(data)
        self.windows[stream] -= len(data)
        self.send(frame(DATA, flags, stream, data))
        return True


class NeverReadingTest(unittest.TestCase):
    def setUp(self):
        self.service = Service()
        self.addCleanup(self.service.process.kill)  # if it has not stopped
        self.service.subscribe("E_OTHER", "flatstore:%s?timeout=60s" % os.path.join(self.service.dir, "others"))

    def others(self, what):
        """Somebody else's events are delivered; how long that takes is printed."""
        seconds = []
        for _ in range(300):
            began = time.monotonic()
            answer = self.service.raise_event("E_OTHER")
            seconds.append(time.monotonic() - began)
            self.assertEqual(answer.deliveries[0].outcome, event.DeliveryOutcome.OUTCOME_DELIVERED)
        seconds.sort()
        print("%-24s others: p50 %.2f ms, p99 %.2f ms" % (what, seconds[150] * 1e3, seconds[297] * 1e3))

    def memory(self):
        with open("/proc/%d/statm" % self.service.process.pid) as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def metric(self, name):
        return samples_of(self.service.get("/metrics")[1])[0][name]

    def raised(self):
        return samples_of(self.service.get("/metrics")[1])[0].get('eventvirtual_raises_total{event="E_OTHER"}', 0)

    def open(self, method, message=None, end=False):
        """STREAMS calls; message(number) is the first that each sends."""
        connections = [Connection(self.service.address) for _ in range(STREAMS // PER_CONNECTION)]
        for connection in connections:
            self.addCleanup(connection.socket.close)
        for number in range(STREAMS):
            connections[number // PER_CONNECTION].call(
                2 * (number % PER_CONNECTION) + 1, method, message(number) if message else None, end)
        eventually(lambda: self.begun(method) == STREAMS, "all calls have begun", PATIENCE)
        return connections

    def begun(self, method):
        service, name = method.split("/")
        return self.metric('grpc_server_started_total{grpc_service="%s",grpc_method="%s"}' % (service, name))

    def check(self, what, before, connections, most=MOST):
        self.others(what)
        each = (self.memory() - before) / STREAMS
        print("%-24s %d bytes each" % (what, each))
        if "ASAN_OPTIONS" not in os.environ:  # AddressSanitizer keeps what is freed
            self.assertLessEqual(each, most)
        self.assertFalse([connection for connection in connections if connection.closed])
        for connection in connections:
            connection.socket.close()
        self.others("when they have gone")
        self.assertEqual(self.service.stop(), 0)

    def begin(self):
        self.others("before")
        return self.memory()

    def test_who_listens_and_never_reads(self):
        for number in range(STREAMS):
            self.service.subscribe("E_LISTENED", "stream:never-%d" % number)
        before = self.begin()
        connections = self.open("eventvirtual.v1.EventService/Listen",
                                lambda number: event.ListenRequest(name="never-%d" % number).SerializeToString())
        for _ in range(3):
            self.service.raise_event("E_LISTENED", event.WAIT_ACCEPTED, text="a" * 100)
        self.check("Listen", before, connections)

    def test_who_watches_subscriptions_and_never_reads(self):
        before = self.begin()
        connections = self.open("eventvirtual.v1.SubscriptionService/WatchSubscriptions", lambda _: b"", end=True)
        for number in range(300):
            self.service.subscribe("E_%d" % number, "udp:127.0.0.1:9")
        self.check("WatchSubscriptions", before, connections)

    def test_who_watches_deliveries_and_never_reads(self):
        before = self.begin()
        connections = self.open("eventvirtual.v1.EventService/WatchDeliveries", lambda _: b"", end=True)
        self.others("with watchers")
        self.assertEqual(self.metric("eventvirtual_watch_rows_lost_total"), 0)
        for _ in range(3):
            self.others("with watchers")  # more than waits for one of them
        self.assertGreater(self.metric("eventvirtual_watch_rows_lost_total"), 0)
        self.check("WatchDeliveries", before, connections)

    def test_who_raises_and_never_reads_the_answers(self):
        request = event.RaiseStreamRequest(sequence=1)
        request.events.add(name="E_NOBODY").params.add(name="text", string_value="a" * 100)
        batch = request.SerializeToString()
        before = self.begin()
        connections = self.open("eventvirtual.v1.EventService/RaiseStream")
        for _ in range(20):
            for number in range(STREAMS):
                connections[number // PER_CONNECTION].say(2 * (number % PER_CONNECTION) + 1, batch)
        self.check("RaiseStream", before, connections)

    def test_a_stream_whose_answers_nobody_reads_is_read_no_further(self):
        request = event.RaiseStreamRequest(sequence=1)
        request.events.add(name="E_OTHER")
        request.events.add()  # is refused, which the answer says
        batch = request.SerializeToString()
        connection = Connection(self.service.address)
        connection.call(1, "eventvirtual.v1.EventService/RaiseStream", batch)
        eventually(lambda: self.raised() == 1, "the first is raised", PATIENCE)
        taken = 1
        while taken < 10000 and connection.say(1, batch, patience=2):
            taken += 1
        print("of a stream that nobody reads: %d batches of %d bytes were taken, %d raised" % (taken, len(batch), self.raised()))
        self.assertLess(taken, 10000)
        eventually(lambda: self.raised() == 64, "as many as may be unanswered are raised", PATIENCE)
        connection.socket.close()
        self.assertEqual(self.service.stop(), 0)

    def test_who_watches_subscriptions_too_slowly_is_told_so(self):
        connection = Connection(self.service.address)
        connection.call(1, "eventvirtual.v1.SubscriptionService/WatchSubscriptions", b"", end=True)
        eventually(lambda: self.begun("eventvirtual.v1.SubscriptionService/WatchSubscriptions") == 1, "it watches", PATIENCE)
        request = subscription.SubscribeRequest()
        request.subscription.event = "E_OFTEN"
        request.subscription.socket = "udp:127.0.0.1:9"
        request.subscription.ttl.seconds = 3600
        for _ in range(101):  # more changes than are kept
            for call in [self.service.subscriptions.Subscribe.future(request, timeout=PATIENCE) for _ in range(100)]:
                call.result()
        connection.send(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1 << 20)))
        while 1 not in connection.trailers:
            self.assertTrue(connection.turn(PATIENCE))
        self.assertIn(b"watch anew", connection.trailers[1])
        self.assertEqual(self.metric("eventvirtual_watches_ended_total"), 1)
        connection.socket.close()
        self.assertEqual(self.service.stop(), 0)


if __name__ == "__main__":
    unittest.main()
