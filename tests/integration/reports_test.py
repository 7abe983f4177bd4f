"""Failures of the built service, heard as events."""

import json
import unittest

from service import Service, event, eventually, free_port
from service_test import ReliablePeer, udp_receiver


class ReportsTest(unittest.TestCase):
    def setUp(self):
        self.service = Service()
        self.receiver, uri = udp_receiver()
        self.service.subscribe("E_EVI_*", uri)

    def tearDown(self):
        self.assertEqual(self.service.stop(), 0)
        self.receiver.close()

    def hear(self):
        heard = json.loads(self.receiver.recv(65536))
        return heard["method"], heard["params"]

    def test_a_peer_that_is_down_and_comes_back_is_told_and_so_is_what_was_lost_meanwhile(self):
        port = free_port()
        uri = "tcp:127.0.0.1:%d?reliable=1" % port
        name = self.service.subscribe("E_CDR", uri, failover_timeout=0).subscription.name
        raised = self.service.raise_event("E_CDR", n="1")
        heard = dict(self.hear() for _ in range(2))
        self.assertEqual(heard["E_EVI_SUBSCRIBER_DOWN"]["uri"], uri)
        self.assertIn("refused", heard["E_EVI_SUBSCRIBER_DOWN"]["error"])
        failed = heard["E_EVI_DELIVERY_FAILED"]
        self.assertIn("refused", failed.pop("error"))
        self.assertEqual(failed, {"subscription": name, "event": "E_CDR", "event_id": raised.event_id, "uri": uri,
                                  "failed": 1, "failed_total": 1})

        # Also those for which nobody waits; and not one report for each.
        for _ in range(200):
            self.service.raise_event("E_CDR", wait=event.WAIT_ACCEPTED, n="2")
        total, reports = 1, 0
        while total < 201:
            method, params = self.hear()
            self.assertEqual(method, "E_EVI_DELIVERY_FAILED")
            total += params["failed"]
            reports += 1
        self.assertLess(reports, 50)

        peer = ReliablePeer(port)
        eventually(lambda: self.service.raise_event("E_CDR", n="3") and peer.received, "the peer has an event")
        while True:
            method, params = self.hear()
            if method == "E_EVI_SUBSCRIBER_UP":
                break
            self.assertEqual(method, "E_EVI_DELIVERY_FAILED")
        self.assertEqual(params, {"uri": uri})
        peer.close()

    def test_a_monitor_that_has_gone_makes_no_reports_of_its_own(self):
        self.receiver.close()  # behind what counts as sent, an ICMP error comes
        self.receiver, uri = udp_receiver()
        self.service.subscribe("E_EVI_*", uri)
        self.service.subscribe("E_CDR", "tcp:127.0.0.1:%d" % free_port())
        heard = []
        self.receiver.settimeout(0.1)
        while len(heard) < 5:  # a second each
            self.service.raise_event("E_CDR", n="1")
            try:
                heard.append(self.hear())
            except TimeoutError:
                pass
        self.assertEqual(heard[0][0], "E_EVI_SUBSCRIBER_DOWN")
        self.assertEqual([(method, params["event"]) for method, params in heard[1:]],
                         [("E_EVI_DELIVERY_FAILED", "E_CDR")] * 4)


if __name__ == "__main__":
    unittest.main()
