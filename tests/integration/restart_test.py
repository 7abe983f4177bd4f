"""kill -9 and a new start under load, for each transport: what was confirmed is there, in its order, and sending goes on.

Prints how long after the server's return the first event was delivered, and how many came twice.
"""

import queue
import threading
import time
import unittest

from servers import all_servers
from service import Service, event, eventually

BATCH, AHEAD, ENOUGH = 10, 3, 300


class Load:
    """Raises numbered events to `name` through one RaiseStream, a few batches ahead; `confirmed`: the delivered ones."""

    def __init__(self, service, name):
        self.name, self.confirmed, self.raised, self.failed = name, [], 0, 0
        self.requests = queue.Queue()
        self.ended = threading.Event()
        self.call = service.events.RaiseStream(iter(self.requests.get, None))
        for _ in range(AHEAD):
            self.send()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def send(self):
        request = event.RaiseStreamRequest(sequence=self.raised, wait=event.WAIT_DELIVERED)
        for _ in range(BATCH):
            request.events.add(name=self.name).params.add(name="n", string_value=str(self.raised))
            self.raised += 1
        self.requests.put(request)

    def read(self):
        for response in self.call:
            failures = {failure.index for failure in response.failures}
            self.failed += len(failures)
            self.confirmed += [response.sequence + i for i in range(BATCH) if i not in failures]
            if self.ended.wait(0.02 if failures else 0):  # who is refused at once does not ask again at once
                self.requests.put(None)
            else:
                self.send()

    def end(self):
        self.ended.set()
        self.thread.join(timeout=60)
        assert not self.thread.is_alive(), "the stream does not end"


class RestartTest(unittest.TestCase):
    def test_what_was_confirmed_is_there_and_sending_goes_on(self):
        service = Service()
        self.addCleanup(service.stop)
        for server in all_servers(service):
            self.addCleanup(server.close)
            with self.subTest(server.name):
                service.subscribe("E_" + server.name, server.uri)
                eventually(lambda server=server: service.raise_event("E_" + server.name, n="-1").deliveries[0].outcome ==
                           event.DeliveryOutcome.OUTCOME_DELIVERED, server.name + " works")
                self.check(server, Load(service, "E_" + server.name))

    def check(self, server, load):
        eventually(lambda: len(load.confirmed) >= ENOUGH, "events are delivered")
        server.kill()
        eventually(lambda: load.failed > 0, "events fail while the server is away")
        server.start()
        back = time.monotonic()
        count = len(load.confirmed)
        eventually(lambda: len(load.confirmed) > count, "an event is delivered again", seconds=60)
        resumed = time.monotonic() - back
        eventually(lambda: len(load.confirmed) >= count + ENOUGH, "events are delivered as before")
        load.end()
        if not server.keeps:
            print("%-10s resumed %.2f s after the return; keeps nothing over kill -9" % (server.name, resumed))
            return
        received = [n for n in server.received() if n >= 0]
        first = list(dict.fromkeys(received))
        self.assertEqual(sorted(set(load.confirmed) - set(first)), [], "confirmed, and not there")
        confirmed = set(load.confirmed)
        in_order = [n for n in first if n in confirmed]
        self.assertEqual(in_order, sorted(in_order), "the order is not kept")
        print("%-10s resumed %.2f s after the return; %d confirmed, %d failed, %d twice" % (
            server.name, resumed, len(load.confirmed), load.failed, len(received) - len(first)))


if __name__ == "__main__":
    unittest.main()
