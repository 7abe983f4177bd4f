"""More than the service can do: what it refuses then, what that costs, and how soon it is over.

Each event goes to many receivers, so a client in Python can ask for ten times of what can be done. Figures are printed; what
must hold on every machine is tested: each request is answered, each event that was taken has ended as the books say, health is
answered, memory is bounded, and afterwards all is as before. SOAK=1 runs for ten minutes.

The service and its clients have a core each, at the peak as under overload, so the clients take nothing away from it. Others on
the machine do, at one time more than at another; so besides deliveries a second there are deliveries for each second of
processor that the service had.
"""

import collections
import os
import socket
import tempfile
import threading
import time
import unittest

import grpc

from service import Service, event, eventually, samples_of

SECONDS, SECONDS_OF_INGEST = (600, 30) if os.environ.get("SOAK") else (8, 2)
SUBSCRIPTIONS, RECEIVERS = 4, 60
QUEUE_EVENTS = 1000
BATCH = 20
MOST_REQUESTS = 2000  # of one peer of the ingest that are not answered yet
PATIENCE = 120
UDP_SEGMENT = 103  # linux/udp.h: one system call sends many datagrams of this size

# Of some seconds: deliveries in each, and for each of the service's processor; cores that it had; the longest wait for health, in
# seconds; the most memory, in bytes.
Measured = collections.namedtuple("Measured", "rate per_cpu cores health memory")


def pin(pid, core):
    """All threads there are, and those that they will start."""
    for thread in os.listdir("/proc/%d/task" % pid):
        os.sched_setaffinity(int(thread), {core})


def memory_of(pid):
    with open("/proc/%d/statm" % pid) as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def cost_of_a_queued_event():
    """Bytes of memory for each event that waits in the queue of a receiver, by the service's own count of them."""
    service = Service("--queue_events=%d" % QUEUE_EVENTS, "--attempt_timeout=2m")
    folder = tempfile.mkdtemp(prefix="ev", dir="/tmp")
    receivers = []
    try:
        for number in range(RECEIVERS):  # which never read
            receivers.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            receivers[-1].bind("%s/%d" % (folder, number))
        service.subscribe("E_HELD", "virtual:PARALLEL " + " ".join("unix:%s/%d" % (folder, n) for n in range(RECEIVERS)))
        service.raise_event("E_HELD", event.WAIT_ACCEPTED)
        idle = memory_of(service.process.pid)
        producer = Producer(service, event.WAIT_ACCEPTED, 4, "E_HELD")
        queued = lambda: sum(value for series, value in samples_of(service.get("/metrics")[1])[0].items()
                             if series.startswith("eventvirtual_endpoint_queue_events"))
        eventually(lambda: queued() >= 0.9 * RECEIVERS * QUEUE_EVENTS, "the queues are full", PATIENCE)
        cost = (memory_of(service.process.pid) - idle) / queued()
        producer.stop()
        return cost
    finally:
        service.process.kill()
        service.process.wait()
        for number, receiver in enumerate(receivers):
            receiver.close()
            os.unlink("%s/%d" % (folder, number))
        os.rmdir(folder)


class Producer(threading.Thread):
    """Raises batches on one stream until it is stopped, `open` of them at a time; counts the answers."""

    def __init__(self, service, wait, batches, name="E_MUCH"):
        super().__init__()
        self.request = event.RaiseStreamRequest(wait=wait)
        for _ in range(BATCH):
            self.request.events.add(name=name).params.add(name="text", string_value="a" * 50)
        self.room = threading.Semaphore(batches)
        self.stopped = threading.Event()
        self.channel = grpc.insecure_channel(service.address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.sent = self.answered = self.succeeded = 0
        self.codes = {}
        self.error = None
        self.start()

    def requests(self):
        while not self.stopped.is_set():
            if self.room.acquire(timeout=0.1):
                self.sent += 1
                self.request.sequence = self.sent
                yield self.request

    def run(self):
        raising = self.channel.stream_stream(
            "/eventvirtual.v1.EventService/RaiseStream", request_serializer=event.RaiseStreamRequest.SerializeToString,
            response_deserializer=event.RaiseStreamResponse.FromString)
        try:
            for answer in raising(self.requests()):
                self.answered += 1
                self.succeeded += answer.succeeded
                for failure in answer.failures:
                    self.codes[failure.code] = self.codes.get(failure.code, 0) + 1
                self.room.release()
        except grpc.RpcError as error:
            self.error = error

    def stop(self):
        self.stopped.set()
        self.join(PATIENCE)
        assert not self.is_alive(), "%d of %d batches were answered" % (self.answered, self.sent)
        self.channel.close()


class Opensips(threading.Thread):
    """Sends events as OpenSIPS does, as fast as the service takes them, over udp many times faster, until it is stopped."""

    def __init__(self, address, requests):
        super().__init__(daemon=True)
        self.kind, self.address = address.split(":", 1)
        texts = [b'{"jsonrpc":"2.0",%s"method":"E_MUCH","params":{"text":"%s"}}' % (
            b'"id":%d,' % (100 + number) if requests else b"", b"a" * 50) for number in range(50)]
        self.requests = requests
        self.stopped = threading.Event()
        self.sent = self.succeeded = self.failed = 0
        family = socket.AF_UNIX if self.kind == "unix" else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM if self.kind == "tcp" else socket.SOCK_DGRAM)
        host, _, port = self.address.rpartition(":")
        self.socket.connect(self.address if self.kind == "unix" else (host, int(port)))
        if self.kind == "udp":
            self.socket.setsockopt(socket.SOL_UDP if hasattr(socket, "SOL_UDP") else 17, UDP_SEGMENT, len(texts[0]))
        self.pieces = texts if self.kind == "unix" else [b"".join(texts)]
        self.in_piece = len(texts) // len(self.pieces)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.start()

    def run(self):
        while not self.stopped.is_set():
            while self.requests and self.sent - self.succeeded - self.failed > MOST_REQUESTS:
                time.sleep(0.001)  # it is let wait, as by OpenSIPS
            for piece in self.pieces:
                try:
                    self.socket.sendall(piece) if self.kind == "tcp" else self.socket.send(piece)
                except OSError as error:
                    if self.kind == "udp":  # the kernel has no room for it
                        continue
                    raise error
                self.sent += self.in_piece
        if self.kind == "tcp":
            self.socket.shutdown(socket.SHUT_WR)

    def read(self):
        good, bad, rest = b'"result"', b'"error":', b""  # of one length, which an answer has once
        while self.kind == "tcp" and (data := self.socket.recv(1 << 18)):
            data = rest + data
            self.succeeded += data.count(good)
            self.failed += data.count(bad)
            rest = data[1 - len(good):]

    def stop(self):
        self.stopped.set()
        self.join(PATIENCE)
        self.reader.join(PATIENCE)
        assert not self.is_alive() and not self.reader.is_alive(), "the service ends no connection"
        self.socket.close()


class OverloadTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cost = cost_of_a_queued_event()
        print("an event in a queue costs %d bytes" % cost)
        # What is asked: 128 MiB besides what the queues were given.
        cls.most = (128 << 20) + int(SUBSCRIPTIONS * RECEIVERS * QUEUE_EVENTS * cost)

    def setUp(self):
        folder = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        self.addCleanup(os.rmdir, folder)
        self.service = Service("--queue_events=%d" % QUEUE_EVENTS, "--attempt_timeout=2m", "--threads=2",
                               "--ingest=tcp:127.0.0.1:0,udp:127.0.0.1:0,unix:%s/in.sock" % folder)
        self.addCleanup(self.service.process.kill)  # if it has not stopped
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            pin(self.service.process.pid, cores[0])
            pin(os.getpid(), cores[1])
            self.addCleanup(os.sched_setaffinity, 0, cores)
        for _ in range(SUBSCRIPTIONS):
            receivers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(RECEIVERS)]
            for receiver in receivers:
                receiver.bind(("127.0.0.1", 0))
                self.addCleanup(receiver.close)
            self.service.subscribe("E_MUCH", "virtual:PARALLEL " + " ".join(
                "udp:127.0.0.1:%d" % receiver.getsockname()[1] for receiver in receivers))
        self.idle = self.memory()

    def memory(self):
        return memory_of(self.service.process.pid)

    def processor(self):
        """Seconds that the service has had."""
        with open("/proc/%d/stat" % self.service.process.pid) as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metrics(self):
        return samples_of(self.service.get("/metrics")[1])[0]

    def health(self):
        """Seconds until a new client has its answer."""
        began = time.monotonic()
        with grpc.insecure_channel(self.service.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            answer = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=PATIENCE, wait_for_ready=True)
        self.assertEqual(answer, b"\x08\x01")  # SERVING
        return time.monotonic() - began

    def delivered(self):
        return sum(value for series, value in self.metrics().items()
                   if series.startswith("eventvirtual_attempts_total") and 'outcome="ok"' in series)

    def measure(self, seconds):
        before, processor, began = self.delivered(), self.processor(), time.monotonic()
        worst = most = 0
        while time.monotonic() < began + seconds:
            worst = max(worst, self.health())
            most = max(most, self.memory())
            time.sleep(0.1)  # between two looks at another process
        deliveries, passed, processor = self.delivered() - before, time.monotonic() - began, self.processor() - processor
        return Measured(deliveries / passed, deliveries / max(processor, 0.01), processor / passed, worst, most)

    def peak(self, seconds):
        calm = Producer(self.service, event.WAIT_DELIVERED, 4)
        peak = self.measure(seconds)
        calm.stop()
        self.assertIsNone(calm.error)
        self.assertEqual(calm.answered, calm.sent)
        for work in ("accepted", "delivered"):
            self.assertEqual(self.shed(work), 0, "nothing is refused while it can be done")
        return peak, calm

    def shed(self, work):
        return int(self.metrics()['eventvirtual_shed_total{work="%s"}' % work])

    def until_normal(self):
        """Seconds until all has ended and nothing is refused any more."""
        began = time.monotonic()
        eventually(lambda: self.metrics()["eventvirtual_raises_pending"] == 0, "all has ended", PATIENCE)
        eventually(lambda: self.metrics()["eventvirtual_overload"] == 0, "nothing is refused any more", PATIENCE)
        return time.monotonic() - began

    def show(self, what, peak, good, rest):
        print("%s: peak %.0f deliveries/s, overloaded %.0f (%.0f %%); for each second of processor %.0f and %.0f (%.0f %%), of which it "
              "had %.2f and %.2f each second; %d MiB more; health within %.2f s; %s" % (
                  what, peak.rate, good.rate, 100 * good.rate / peak.rate, peak.per_cpu, good.per_cpu,
                  100 * good.per_cpu / peak.per_cpu, peak.cores, good.cores, (good.memory - self.idle) >> 20, good.health, rest),
              flush=True)

    def check_memory(self, measured):
        if "ASAN_OPTIONS" not in os.environ:  # AddressSanitizer keeps what is freed
            self.assertLessEqual(measured.memory, self.most)

    def check_books(self):
        """Of all that was taken there is an end: nothing is lost silently. Gives the events that were raised."""
        after = self.metrics()
        raised = after['eventvirtual_raises_total{event="E_MUCH"}']
        ends = sum(value for series, value in after.items() if series.startswith("eventvirtual_deliveries_total"))
        self.assertEqual(ends, SUBSCRIPTIONS * raised)
        return raised

    def test_more_on_streams_than_can_be_done(self):
        peak, calm = self.peak(5)
        waiting = [Producer(self.service, event.WAIT_DELIVERED, 40) for _ in range(2)]
        hasty = [Producer(self.service, event.WAIT_ACCEPTED, 40) for _ in range(2)]
        good = self.measure(SECONDS)
        for producer in waiting + hasty:
            producer.stopped.set()
        ended = time.monotonic()
        for producer in waiting + hasty:
            producer.stop()
        self.until_normal()
        normal = time.monotonic() - ended
        shed = [self.shed(work) for work in ("watching", "accepted", "delivered")]
        self.show("streams", peak, good, "taken of %d events, shed %s; normal after %.1f s" % (
            BATCH * sum(p.sent for p in waiting + hasty), shed, normal))
        for producer in waiting + hasty:
            self.assertIsNone(producer.error)
            self.assertEqual(producer.answered, producer.sent, "every batch gets its answer")
            self.assertEqual(producer.succeeded + sum(producer.codes.values()), BATCH * producer.sent)
        self.assertGreaterEqual(self.check_books(), sum(p.succeeded for p in waiting + hasty) + calm.succeeded)
        # Who waits is refused only when those who do not are.
        if shed[2] > 0:
            self.assertGreater(shed[1], 0)
        self.check_memory(good)
        self.service.raise_event("E_MUCH")
        self.assertEqual(self.service.stop(), 0)

    def results(self, kind):
        """Of the ingest: what became of the messages."""
        start = 'eventvirtual_ingest_messages_total{listener="%s",result="' % kind
        return collections.Counter({series[len(start):-2]: int(value) for series, value in self.metrics().items()
                                    if series.startswith(start)})

    def test_more_from_opensips_than_can_be_done(self):
        peak, _ = self.peak(4)
        for address in self.service.ingest:
            kind = address.split(":")[0]
            for requests in (True, False) if kind == "tcp" else (False,):
                before = self.results(kind)
                senders = [Opensips(address, requests) for _ in range(2)]
                good = self.measure(SECONDS_OF_INGEST)
                for sender in senders:
                    sender.stopped.set()
                for sender in senders:
                    sender.stop()
                sent = sum(sender.sent for sender in senders)
                if kind != "udp":  # the kernel keeps what it has taken, and its sender waits
                    eventually(lambda: sum((self.results(kind) - before).values()) == sent, "each has been counted", PATIENCE)
                normal = self.until_normal()  # from when the kernel has given us all that it had taken
                got = self.results(kind) - before
                self.show("%s%s" % (kind, ", requests" if requests else ""), peak, good, "%d sent, %s; normal after %.1f s" % (
                    sent, dict(got), normal))
                self.assertLessEqual(sum(got.values()), sent)
                self.assertGreater(got["accepted"], 0)
                self.assertEqual(set(got) - {"accepted", "refused"}, set())
                if requests:
                    self.assertEqual(sum(sender.succeeded for sender in senders), got["accepted"], "who was told so was taken")
                    self.assertEqual(sum(sender.failed for sender in senders), got["refused"], "and who was not was told so")
                self.check_books()
                self.check_memory(good)
        self.assertEqual(self.shed("delivered"), 0)
        self.service.raise_event("E_MUCH")
        self.assertEqual(self.service.stop(), 0)


if __name__ == "__main__":
    unittest.main()
