"""SQS is away, the events go to the file; it comes back, they go to the queue; and an operator sees what is missing."""

import json
import os
import socket
import subprocess
import unittest

from service import Service, event, eventually, free_port

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"  # as strict_sqs.py knows them


class Sqs:
    """strict_sqs.py on a port that it keeps: moto behind a check of signatures. Not started yet."""

    def __init__(self):
        self.python = os.environ.get("MOTO_PYTHON")
        assert self.python, "moto is not installed; ./dev test installs it"
        self.port = free_port()
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--", self.python, "tests/transports/sqs/strict_sqs.py",
             str(self.port)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._listens, "moto listens", 60)

    def _listens(self):
        assert self.process.poll() is None, "moto ended"
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def take(self, queue):
        """All messages of the queue, taken by AWS' own client."""
        taken = subprocess.run([self.python, "tests/transports/sqs/consumer.py", str(self.port), queue], check=True,
                               stdout=subprocess.PIPE, text=True).stdout
        return [json.loads(line) for line in taken.splitlines()]


class SqsFailoverTest(unittest.TestCase):
    def start(self, environment):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            os.environ.pop(name, None)
        os.environ.update(environment)
        service = Service()
        self.addCleanup(service.stop)
        return service

    def test_events_go_to_the_file_while_sqs_is_away_and_to_the_queue_when_it_is_back(self):
        service = self.start({"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET})
        sqs = Sqs()
        self.addCleanup(sqs.kill)
        path = os.path.join(service.dir, "lost.log")
        queue = "sqs:http://127.0.0.1:%d/123456789012/calls?region=eu-central-1" % sqs.port
        service.subscribe("E_CALL", "virtual:FAILOVER %s flatstore:%s" % (queue, path), failover_timeout=0.5)
        raised = []

        def raise_event():
            raised.append(len(raised))
            delivery = service.raise_event("E_CALL", n=str(raised[-1])).deliveries[0]
            self.assertEqual(delivery.outcome, event.DeliveryOutcome.OUTCOME_DELIVERED, delivery)
            return [attempt.uri for attempt in delivery.attempts if attempt.result == event.Attempt.RESULT_OK]

        for _ in range(20):
            self.assertEqual(raise_event(), ["flatstore:" + path])
        sqs.start()
        eventually(lambda: raise_event() == [queue], "events go to SQS", 60)
        for _ in range(20):
            self.assertEqual(raise_event(), [queue])
        with open(path) as log:
            in_file = [int(line.rsplit(",", 1)[1]) for line in log]
        in_queue = [int(json.loads(message["body"])["params"]["n"]) for message in sqs.take("calls")]
        self.assertEqual(sorted(in_file + in_queue), raised)  # every event, each once
        self.assertGreaterEqual(len(in_queue), 20)

    def test_a_probe_names_the_variable_that_is_missing(self):
        service = self.start({"AWS_ACCESS_KEY_ID": KEY})
        uri = "sqs:https://sqs.eu-central-1.amazonaws.com/123456789012/calls"
        refused = service.evctl("probe", uri, check=False)
        self.assertEqual(refused.returncode, 4)
        self.assertIn("AWS_SECRET_ACCESS_KEY not set in the server's environment", refused.stderr)
        service.subscribe("E_CALL", uri)
        service.raise_event("E_CALL")
        self.assertIn("AWS_SECRET_ACCESS_KEY not set", service.evctl("endpoints").stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
