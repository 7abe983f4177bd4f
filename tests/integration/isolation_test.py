"""One subscription each on every transport: stop or kill any one server, and all others deliver as before.

Prints, for each transport, the latency of an event that is waited for, before and while each other server is away.
"""

import os
import time
import unittest

from servers import all_servers
from service import Service, event, eventually, operator

ROUNDS = 20  # events of each transport, before, and while each server is away


def quantiles(seconds):
    ordered = sorted(seconds)
    return "p50 %5.2f ms  p99 %6.2f ms" % (ordered[len(ordered) // 2] * 1e3, ordered[len(ordered) * 99 // 100] * 1e3)


class IsolationTest(unittest.TestCase):
    def outcome(self, name):
        return self.service.raise_event("E_" + name, n="1").deliveries[0].outcome

    def deliver(self, name):
        begin = time.monotonic()
        answer = self.service.raise_event("E_" + name, n="1")
        self.assertEqual(answer.deliveries[0].outcome, event.DeliveryOutcome.OUTCOME_DELIVERED,
                         "%s: %s" % (name, answer))
        return time.monotonic() - begin

    def test_a_server_that_is_stopped_or_killed_delays_nobody_else(self):
        self.service = service = Service()
        self.addCleanup(service.stop)
        servers = {}
        for server in all_servers(service):
            servers[server.name] = server
            self.addCleanup(server.close)
        uris = {name: server.uri for name, server in servers.items()}
        uris["flatstore"] = "flatstore:" + os.path.join(service.dir, "x.log")
        for name in ("udp", "unix"):  # of their own they have 50 and 100 ms, which a loaded machine may take by itself
            uris[name] += "?timeout=5s"
        # A transport that is missing here would be one whose isolation nobody has seen.
        known = {t.scheme for t in service.operators.ListTransports(
            operator.ListTransportsRequest(), timeout=10).transports}
        same = {"amqp": "rabbitmq", "amqps": "rabbitmq", "grpcs": "grpc", "https": "http", "mqtts": "mqtt", "natss": "nats",
                "rediss": "redis", "xmlrpcs": "xmlrpc"}
        self.assertEqual({same.get(scheme, scheme) for scheme in known}, set(uris))

        def works(name):
            return eventually(lambda: self.outcome(name) == event.DeliveryOutcome.OUTCOME_DELIVERED, name + " works")
        for name, uri in uris.items():
            service.subscribe("E_" + name, uri)
            works(name)

        def measure(away=None):
            latencies = {name: [] for name in uris if name != away}
            for _ in range(ROUNDS):
                if away:  # and it has its share of events all the while
                    service.raise_event("E_" + away, wait=event.WAIT_ACCEPTED, n="2")
                for name, seconds in latencies.items():
                    seconds.append(self.deliver(name))
            return latencies

        measure()  # connections are made, caches filled
        before = measure()
        during = {name: [] for name in uris}
        for away, server in servers.items():
            for leave, come_back in ((server.pause, server.resume), (server.kill, server.start)):
                leave()
                try:
                    for name, seconds in measure(away).items():
                        during[name] += seconds
                finally:
                    come_back()
                works(away)
        for name in uris:
            print("%-10s before %s   during %s" % (name, quantiles(before[name]), quantiles(during[name])))


if __name__ == "__main__":
    unittest.main()
