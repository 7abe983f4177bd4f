"""An operator looks at the built service and steers it: evctl explain."""

import json
import unittest

from service import Service, free_port, operator, subscription
from service_test import udp_receiver


class SteerTest(unittest.TestCase):
    def setUp(self):
        self.service = Service()
        self.receivers = {}

    def tearDown(self):
        self.assertEqual(self.service.stop(), 0)
        for receiver in self.receivers.values():
            receiver.close()

    def udp(self):
        receiver, uri = udp_receiver()
        self.receivers[uri] = receiver
        return uri

    def received(self, uri):
        """The parameters of the next event at one of our receivers."""
        return json.loads(self.receivers[uri].recv(65536))["params"]

    def explain(self, name, **params):
        request = operator.ExplainDeliveryRequest()
        request.event.name = name
        for key, value in params.items():
            request.event.params.add(name=key, json_value=json.dumps(value))
        return self.service.operators.ExplainDelivery(request, timeout=10)


class ExplainTest(SteerTest):
    def test_the_order_is_that_of_the_next_event_and_nothing_is_sent(self):
        uris = [self.udp() for _ in range(3)]
        name = self.service.subscribe("E_CDR", "virtual:ROUND-ROBIN " + " ".join(uris)).subscription.name
        for turn in range(4):
            for _ in range(3):  # asking advances no turn
                plan, = self.explain("E_CDR", n="x").plans
            self.assertEqual((plan.subscription, plan.matches, plan.event), (name, True, "E_CDR"))
            self.assertEqual(list(plan.order), uris[turn % 3:] + uris[:turn % 3])
            self.service.raise_event("E_CDR", n=str(turn))
            self.assertEqual(self.received(plan.order[0]), {"n": str(turn)}, "the first that was sent")
        counts = self.service.subscriptions.GetSubscription(
            subscription.GetSubscriptionRequest(name=name), timeout=10).subscription
        self.assertEqual(counts.raised_count, 4)

    def test_evctl_says_why_in_one_look(self):
        dead = "tcp:127.0.0.1:%d" % free_port()
        alive = self.udp()
        self.service.subscribe("E_PIKE_BLOCKED", "virtual:FAILOVER %s %s" % (dead, alive))
        self.service.evctl("subscribe", "E_PIKE_*", alive, "--filter=attempts>3 && ip=10.*")
        self.service.evctl("subscribe", "E_pike_blocked", alive)
        self.service.raise_event("E_PIKE_BLOCKED", ip="10.0.0.1")
        shown = self.service.evctl("explain", "E_PIKE_BLOCKED", "attempts:=5", "ip=192.0.2.1").stdout
        lines = shown.splitlines()
        self.assertIn("FAILOVER", lines[1])
        self.assertRegex(lines[2], r"^ +1 +%s +the first$" % alive)
        self.assertRegex(lines[3], r"^ +2 +%s +if those before it fail; as a last resort: cooling down for another "
                                   r"\d+s, for it failed .*refused" % dead)
        self.assertIn('filter: condition 2 of 2, "ip=10.*", does not hold: ip is "192.0.2.1"', lines[4])
        self.assertIn("upper and lower case are told apart", lines[5])
        self.assertEqual(len(lines), 6)

    def test_grpcurl_explains_and_a_bad_event_is_refused(self):
        self.service.subscribe("E", self.udp())
        shown = json.loads(self.service.grpcurl("eventvirtual.v1.OperatorService/ExplainDelivery", {"event": {"name": "E"}}))
        self.assertEqual(shown["plans"][0]["order"], list(self.receivers))
        self.assertIn("the name is empty", self.service.grpcurl("eventvirtual.v1.OperatorService/ExplainDelivery", {}))
        self.assertIn("nobody is subscribed", self.service.evctl("explain", "E_OTHER").stdout)

    def test_of_very_many_subscriptions_the_answer_says_what_it_leaves_out(self):
        uri = self.udp()
        for i in range(1100):
            self.service.subscribe("E", uri + "?timeout=%dms" % (100 + i))
        answer = self.explain("E")
        self.assertEqual(len(answer.plans) + answer.omitted, 1100)
        self.assertGreaterEqual(answer.omitted, 100)
        self.assertLess(answer.ByteSize(), 2 << 20)


if __name__ == "__main__":
    unittest.main()
