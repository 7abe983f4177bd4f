"""SQS is away, the events go to the file; it comes back, they go to the queue; and an operator sees what is missing."""

import os
import unittest

from servers import Sqs
from service import Service, event, eventually


class SqsFailoverTest(unittest.TestCase):
    def start(self):
        service = Service()
        self.addCleanup(service.stop)
        return service

    def test_events_go_to_the_file_while_sqs_is_away_and_to_the_queue_when_it_is_back(self):
        service = self.start()
        sqs = Sqs()
        self.addCleanup(sqs.close)
        sqs.kill()
        path = os.path.join(service.dir, "lost.log")
        service.subscribe("E_CALL", "virtual:FAILOVER %s flatstore:%s" % (sqs.uri, path), failover_timeout=0.5)
        raised = []

        def raise_event():
            """Gives who has it."""
            raised.append(len(raised))
            delivery = service.raise_event("E_CALL", n=str(raised[-1])).deliveries[0]
            self.assertEqual(delivery.outcome, event.DeliveryOutcome.OUTCOME_DELIVERED, delivery)
            return [attempt.uri for attempt in delivery.attempts if attempt.result == event.Attempt.RESULT_OK]

        for _ in range(20):
            self.assertEqual(raise_event(), ["flatstore:" + path])
        sqs.start()
        eventually(lambda: raise_event() == [sqs.uri], "events go to SQS", 60)
        for _ in range(20):
            self.assertEqual(raise_event(), [sqs.uri])
        with open(path) as log:
            in_file = [int(line.rsplit(",", 1)[1]) for line in log]
        in_queue = sqs.received()
        self.assertEqual(sorted(in_file + in_queue), raised)  # every event, each once
        self.assertEqual(len(in_queue), 21)

    def test_a_probe_and_an_attempt_name_the_variable_that_is_missing(self):
        secret = os.environ.pop("AWS_SECRET_ACCESS_KEY")
        service = self.start()
        os.environ["AWS_SECRET_ACCESS_KEY"] = secret
        uri = "sqs:https://sqs.eu-central-1.amazonaws.com/123456789012/calls"
        missing = uri + ": AWS_SECRET_ACCESS_KEY not set in the server's environment"
        refused = service.evctl("probe", uri, check=False)
        self.assertEqual(refused.returncode, 4)
        self.assertIn(missing, refused.stderr)
        service.subscribe("E_CALL", uri)
        self.assertIn(missing, service.raise_event("E_CALL").deliveries[0].attempts[0].error)
        self.assertIn("AWS_SECRET_ACCESS_KEY not set", service.evctl("endpoints", "-o", "json").stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
