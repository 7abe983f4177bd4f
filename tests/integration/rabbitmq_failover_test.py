"""The story an operator tells: RabbitMQ dies, the events go to the file; it comes back, they go back; nothing is lost."""

import json
import os
import unittest

from rabbitmq import RabbitMQ
from service import Service, event, eventually


class RabbitmqFailoverTest(unittest.TestCase):
    def test_events_go_to_the_file_while_rabbitmq_is_dead_and_back_when_it_lives(self):
        broker = RabbitMQ()
        self.addCleanup(broker.close)
        broker.declare_queue("pike")
        # A broker killed within a second or so of the declaration forgets even a durable queue (seen under load: NO_ROUTE
        # for ever after). What this story is about is the time after that: an orderly restart writes its metadata.
        broker.restart()
        service = Service()
        path = os.path.join(service.dir, "lost.log")
        subscribed = service.subscribe(
            "E_PIKE_BLOCKED",
            "virtual:FAILOVER rabbitmq:guest:guest@127.0.0.1:%d/persistent?pike flatstore:%s" % (broker.port, path),
            failover_timeout=1)
        self.assertNotIn("guest:guest", subscribed.subscription.socket)

        raised = []

        def raise_one():
            raised.append(len(raised))
            answer = service.raise_event("E_PIKE_BLOCKED", n=str(raised[-1]))
            self.assertEqual(answer.deliveries[0].outcome, event.DeliveryOutcome.OUTCOME_DELIVERED, answer)
            return [a for a in answer.deliveries[0].attempts if a.result == event.Attempt.RESULT_OK][0].uri

        for _ in range(100):
            self.assertIn("rabbitmq", raise_one())
        broker.kill()
        for _ in range(100):
            self.assertIn("flatstore", raise_one())
        broker.start()
        try:
            eventually(lambda: "rabbitmq" in raise_one(), "events go to RabbitMQ again", 60)
        except AssertionError as error:
            raise AssertionError("%s\n%s" % (error, service.evctl("endpoints").stdout))
        for _ in range(100):
            self.assertIn("rabbitmq", raise_one())

        with open(path) as log:
            in_file = [int(line.rsplit(",", 1)[1]) for line in log]
        in_queue = [int(json.loads(body)["params"]["n"]) for body in broker.get("pike")]
        self.assertEqual(sorted(in_file + in_queue), raised)  # every event, each once
        self.assertGreaterEqual(len(in_file), 100)
        self.assertEqual(service.stop(), 0)
        with open(service.log.name) as log:
            self.assertNotIn("guest:guest", log.read())


if __name__ == "__main__":
    unittest.main(verbosity=2)
