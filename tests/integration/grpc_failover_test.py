"""FAILOVER from the example receiver in Python to a file, and back."""

import os
import unittest

from servers import Grpc
from service import Service, event, eventually


class GrpcFailoverTest(unittest.TestCase):
    def test_events_go_to_the_file_while_the_receiver_is_dead_and_back_when_it_lives(self):
        receiver = Grpc()
        self.addCleanup(receiver.close)
        service = Service()
        self.addCleanup(service.stop)
        path = os.path.join(service.dir, "lost.log")
        service.subscribe("E_ACC", "virtual:FAILOVER %s?timeout=20s flatstore:%s?timeout=20s" % (receiver.uri, path), failover_timeout=0.5)
        raised = []

        def raise_some(count):
            for _ in range(count):
                number = len(raised)
                raised.append(number)
                answer = service.raise_event("E_ACC", n=str(number))
                self.assertEqual(answer.deliveries[0].outcome, event.DeliveryOutcome.OUTCOME_DELIVERED, answer)

        def in_file():
            if not os.path.exists(path):
                return []
            with open(path) as log:
                return [int(line.rsplit(",", 1)[1]) for line in log]

        raise_some(100)
        self.assertEqual(receiver.received(), raised)

        receiver.kill()
        raise_some(100)
        self.assertEqual(in_file(), raised[100:])

        receiver.start()

        def is_back():
            before = len(receiver.received())
            raise_some(1)
            return len(receiver.received()) > before
        eventually(is_back, "events go to the receiver again")
        lost = len(in_file())
        raise_some(100)
        self.assertEqual(len(in_file()), lost)
        self.assertEqual(sorted(receiver.received() + in_file()), raised)  # each event once


if __name__ == "__main__":
    unittest.main(verbosity=2)
