"""More than the service can do: what it refuses then, what that costs, and how soon it is over.

Each event goes to many receivers, so a client in Python can ask for ten times of what can be done. Figures are printed; what
must hold on every machine is tested: each request is answered, each event that was taken has ended as the books say, health is
answered, memory is bounded, and afterwards all is as before. SOAK=1 runs for ten minutes.
"""

import os
import socket
import threading
import time
import unittest

import grpc

from service import Service, event, eventually, samples_of

SECONDS = 600 if os.environ.get("SOAK") else 10
SUBSCRIPTIONS, RECEIVERS = 4, 60
QUEUE_EVENTS = 1000
QUEUES = SUBSCRIPTIONS * RECEIVERS * QUEUE_EVENTS * 400  # bytes: what waits for each receiver; about 400 were seen in two runs
BATCH = 20
PATIENCE = 120


class Producer(threading.Thread):
    """Raises batches on one stream until it is stopped, `open` of them at a time; counts the answers."""

    def __init__(self, service, wait, batches):
        super().__init__()
        self.request = event.RaiseStreamRequest(wait=wait)
        for _ in range(BATCH):
            self.request.events.add(name="E_MUCH").params.add(name="text", string_value="a" * 50)
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


class OverloadTest(unittest.TestCase):
    def setUp(self):
        self.service = Service("--queue_events=%d" % QUEUE_EVENTS, "--attempt_timeout=2m", "--threads=2")
        self.addCleanup(self.service.process.kill)  # if it has not stopped
        for _ in range(SUBSCRIPTIONS):
            receivers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(RECEIVERS)]
            for receiver in receivers:
                receiver.bind(("127.0.0.1", 0))
                self.addCleanup(receiver.close)
            self.service.subscribe("E_MUCH", "virtual:PARALLEL " + " ".join(
                "udp:127.0.0.1:%d" % receiver.getsockname()[1] for receiver in receivers))

    def memory(self):
        with open("/proc/%d/statm" % self.service.process.pid) as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")

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

    def goodput(self, seconds):
        """Deliveries a second."""
        before, began = self.delivered(), time.monotonic()
        worst = most = 0
        while time.monotonic() < began + seconds:
            worst = max(worst, self.health())
            most = max(most, self.memory())
            time.sleep(0.1)  # between two looks at another process
        return (self.delivered() - before) / (time.monotonic() - began), worst, most

    def test_more_than_can_be_done(self):
        idle = self.memory()
        calm = Producer(self.service, event.WAIT_DELIVERED, 4)
        peak, _, _ = self.goodput(5)
        calm.stop()
        self.assertIsNone(calm.error)
        self.assertEqual(calm.answered, calm.sent)
        before = self.metrics()
        self.assertEqual(before['eventvirtual_shed_total{work="delivered"}'], 0, "nothing is refused while it can be done")

        waiting = [Producer(self.service, event.WAIT_DELIVERED, 40) for _ in range(2)]
        hasty = [Producer(self.service, event.WAIT_ACCEPTED, 40) for _ in range(2)]
        good, health, most = self.goodput(SECONDS)
        overloaded = self.metrics()
        for producer in waiting + hasty:
            producer.stopped.set()
        ended = time.monotonic()
        for producer in waiting + hasty:
            producer.stop()
        eventually(lambda: self.metrics()["eventvirtual_raises_pending"] == 0, "all has ended", PATIENCE)
        eventually(lambda: self.metrics()["eventvirtual_overload"] == 0, "nothing is refused any more", PATIENCE)
        normal = time.monotonic() - ended
        after = self.metrics()
        shed = [int(after['eventvirtual_shed_total{work="%s"}' % work]) for work in ("watching", "accepted", "delivered")]
        print("peak %.0f deliveries/s, overloaded %.0f (%.0f %%); offered %d events, shed %s; wait %.3f s; %d MiB more; "
              "health within %.2f s; normal after %.1f s" % (
                  peak, good, 100 * good / peak, BATCH * sum(p.sent for p in waiting + hasty), shed,
                  overloaded["eventvirtual_load_wait_seconds"], (most - idle) >> 20, health, normal))
        for producer in waiting + hasty:
            self.assertIsNone(producer.error)
            self.assertEqual(producer.answered, producer.sent, "every batch gets its answer")
            self.assertEqual(producer.succeeded + sum(producer.codes.values()), BATCH * producer.sent)
        # What was acknowledged has ended, as the books say: nothing is lost silently.
        raised = after['eventvirtual_raises_total{event="E_MUCH"}']
        ends = sum(value for series, value in after.items() if series.startswith("eventvirtual_deliveries_total"))
        self.assertEqual(ends, SUBSCRIPTIONS * raised)
        taken = sum(p.succeeded for p in waiting + hasty) + calm.succeeded
        self.assertGreaterEqual(raised, taken)
        # Who waits is refused only when those who do not are.
        if shed[2] > 0:
            self.assertGreater(shed[1], 0)
        if "ASAN_OPTIONS" not in os.environ:  # AddressSanitizer keeps what is freed
            self.assertLessEqual(most, (128 << 20) + QUEUES)
        self.service.raise_event("E_MUCH")
        self.assertEqual(self.service.stop(), 0)


if __name__ == "__main__":
    unittest.main()
