"""The story an operator tells: RabbitMQ dies, the events go to the file; it comes back, they go back; nothing is lost."""

import json
import os
import socket
import unittest

from rabbitmq import RabbitMQ
from service import Service, eventually


class OpenSips:
    """An OpenSIPS that raises over tcp with reliable_mode: it waits for the answer to each event."""

    def __init__(self, ingest):
        host, port = ingest[len("tcp:"):].split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.raised = []

    def raise_event(self, name):
        number = len(self.raised)
        self.raised.append(number)
        self.socket.sendall(json.dumps({"id": number, "jsonrpc": "2.0", "method": name,
                                        "params": {"n": number}}, separators=(",", ":")).encode())
        answer = json.loads(self.socket.recv(8192))
        assert answer == {"jsonrpc": "2.0", "result": "OK", "id": number}, answer


class RabbitmqFailoverTest(unittest.TestCase):
    def test_events_go_to_the_file_while_rabbitmq_is_dead_and_back_when_it_lives(self):
        broker = RabbitMQ()
        self.addCleanup(broker.close)
        broker.declare_queue("pike")
        # A broker killed within a second or so of the declaration forgets even a durable queue (seen under load: NO_ROUTE
        # for ever after). What this story is about is the time after that: an orderly restart writes its metadata.
        broker.restart()
        service = Service("--ingest=tcp:127.0.0.1:0", "--attempt_timeout=30s")
        path = os.path.join(service.dir, "lost.log")
        answer = service.grpcurl("eventvirtual.v1.SubscriptionService/Subscribe", {"subscription": {
            "event": "E_PIKE_BLOCKED", "ttl": "3600s", "delivery": {"failover_timeout": "1s"},
            "socket": "virtual:FAILOVER rabbitmq:guest:guest@127.0.0.1:%d/persistent?pike flatstore:%s" % (
                broker.port, path)}})
        self.assertTrue(json.loads(answer)["created"], answer)
        self.assertNotIn("guest:guest", answer)
        opensips = OpenSips(service.ingest[0])

        def endpoint(scheme):
            listed = json.loads(service.grpcurl("eventvirtual.v1.OperatorService/ListEndpoints", {}))["endpoints"]
            return [e for e in listed if e["uri"].startswith(scheme)][0]

        def delivered(scheme):
            return int(endpoint(scheme).get("delivered", 0))

        for _ in range(100):
            opensips.raise_event("E_PIKE_BLOCKED")
        eventually(lambda: delivered("rabbitmq") == 100, "all are with RabbitMQ")
        self.assertFalse(os.path.exists(path))

        broker.kill()
        for _ in range(100):
            opensips.raise_event("E_PIKE_BLOCKED")
        eventually(lambda: delivered("flatstore") == 100, "all are in the file")
        self.assertEqual(delivered("rabbitmq"), 100)
        self.assertEqual(endpoint("rabbitmq")["health"], "HEALTH_COOLING")

        broker.start()

        def goes_to_rabbitmq():
            before = delivered("rabbitmq")
            opensips.raise_event("E_PIKE_BLOCKED")
            eventually(lambda: delivered("rabbitmq") + delivered("flatstore") == len(opensips.raised), "it is somewhere")
            return delivered("rabbitmq") > before

        try:
            eventually(goes_to_rabbitmq, "events go to RabbitMQ again", 60)
        except AssertionError as error:
            raise AssertionError("%s\n%s" % (error, service.evctl("endpoints").stdout))
        in_file_before = delivered("flatstore")
        for _ in range(100):
            opensips.raise_event("E_PIKE_BLOCKED")
        eventually(lambda: delivered("rabbitmq") + delivered("flatstore") == len(opensips.raised), "all are somewhere")
        self.assertEqual(delivered("flatstore"), in_file_before)

        with open(path) as log:
            in_file = [int(line.rsplit(",", 1)[1]) for line in log]
        in_queue = [int(json.loads(body)["params"]["n"]) for body in broker.get("pike")]
        self.assertEqual(sorted(in_file + in_queue), opensips.raised)  # every event, each once
        self.assertGreaterEqual(len(in_file), 100)
        self.assertEqual(service.stop(), 0)
        lines = service.log_text()
        self.assertNotIn("guest:guest", lines)
        self.assertEqual(lines.count('msg="subscriber works again"'), 1, lines)
        self.assertIn('msg="subscriber fails"', lines)


if __name__ == "__main__":
    unittest.main(verbosity=2)
