"""An operator looks at the built service and steers it: evctl explain, drain, enable and tail; traces."""

import json
import re
import signal
import socket
import subprocess
import unittest

import grpc

from service import EVCTL, Service, event, event_grpc, eventually, free_port, operator, samples_of, subscription
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
        self.assertRegex(lines[2], r"^ +1 +%s +the first$" % re.escape(alive))
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
        for i in range(1010):
            self.service.subscribe("E", "udp:127.0.0.1:9?timeout=%dms" % (100 + i))
        answer = self.explain("E")
        self.assertEqual(len(answer.plans) + answer.omitted, 1010)
        self.assertGreaterEqual(answer.omitted, 10)
        self.assertLess(answer.ByteSize(), 2 << 20)


class DrainTest(SteerTest):
    def health(self, uri):
        return {e["uri"]: e["health"] for e in map(json.loads, self.service.evctl("endpoints", "-o", "json").stdout.splitlines())}[uri]

    def test_a_subscriber_is_taken_out_and_brought_back_and_the_log_says_by_whom(self):
        first, second = self.udp(), self.udp()
        self.service.subscribe("E_CDR", "virtual:FAILOVER %s %s" % (first, second))
        self.assertIn("is drained; still to be sent: 0", self.service.evctl("drain", first).stdout)
        self.assertEqual(self.health(first), "HEALTH_DRAINED")
        self.service.raise_event("E_CDR", n="1")
        self.assertEqual(self.received(second), {"n": "1"})
        self.assertIn("taken out by hand", self.service.evctl("explain", "E_CDR").stdout)
        self.assertIn("is idle", self.service.evctl("enable", first).stdout)
        self.service.raise_event("E_CDR", n="2")
        self.assertEqual(self.received(first), {"n": "2"})
        lines = [line for line in self.service.logs("subscriber enabled").splitlines() if "subscriber drained" in line or "subscriber enabled" in line]
        self.assertEqual(len(lines), 2)
        for line in lines:
            self.assertIn('uri="%s"' % first, line)
            self.assertRegex(line, r'by="?ipv4:127\.0\.0\.1:\d+')

    def test_when_all_are_out_a_raise_is_refused_in_a_unary_call_and_in_a_stream(self):
        uri = self.udp()
        self.service.subscribe("E_CDR", uri)
        self.service.evctl("drain", uri)
        refused = self.service.evctl("raise", "E_CDR", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("UNAVAILABLE: its subscriber has been taken out by hand; evctl enable URI brings one back", refused.stderr)
        batch = event.RaiseStreamRequest(sequence=1)
        batch.events.add(name="E_CDR")
        answer, = self.service.events.RaiseStream(iter([batch]))
        self.assertEqual((answer.succeeded, answer.failures[0].code), (0, 14))

    def test_enable_forgets_a_cool_down(self):
        port = free_port()
        dead, other = "tcp:127.0.0.1:%d" % port, self.udp()
        self.service.subscribe("E_CDR", "virtual:FAILOVER %s %s" % (dead, other), failover_timeout=3600)
        self.service.raise_event("E_CDR", n="1")
        self.assertEqual(self.received(other), {"n": "1"})
        with socket.create_server(("127.0.0.1", port)) as server:
            self.service.evctl("drain", dead)
            self.service.evctl("enable", dead)
            delivery, = self.service.raise_event("E_CDR", n="2").deliveries
            self.assertEqual([(a.uri, a.result) for a in delivery.attempts], [(dead, event.Attempt.RESULT_OK)])
            server.accept()[0].close()

    def test_grpcurl_drains_by_what_is_shown_and_who_is_not_there_is_not_found(self):
        method = "eventvirtual.v1.OperatorService/SetEndpointMode"
        self.service.subscribe("E", "http://me:s3cr3t@127.0.0.1:9/x")
        shown = self.service.operators.ListEndpoints(operator.ListEndpointsRequest()).endpoints[0].uri
        self.assertIn("***", shown)
        drained = json.loads(self.service.grpcurl(method, {"uri": shown, "mode": "MODE_DRAINED"}))["endpoint"]
        self.assertEqual((drained["uri"], drained["health"]), (shown, "HEALTH_DRAINED"))
        self.assertIn("drained_time", drained)
        self.assertIn("NotFound", self.service.grpcurl(method, {"uri": "udp:127.0.0.1:9", "mode": "MODE_DRAINED"}))
        self.assertIn("give MODE_DRAINED or MODE_ENABLED", self.service.grpcurl(method, {"uri": shown}))
        self.assertIn("uri: ", self.service.grpcurl(method, {"uri": "nothing", "mode": "MODE_DRAINED"}))


class TailTest(SteerTest):
    def watch(self, **request):
        rows = self.service.events.WatchDeliveries(event.WatchDeliveriesRequest(**request))
        rows.initial_metadata()  # it watches
        return rows

    def test_each_attempt_is_told_with_its_outcome(self):
        dead, alive = "tcp:127.0.0.1:%d" % free_port(), self.udp()
        name = self.service.subscribe("E_CDR", "virtual:FAILOVER %s %s" % (dead, alive), failover_timeout=0).subscription.name
        rows = self.watch()
        raised = self.service.raise_event("E_CDR", wait=event.WAIT_ACCEPTED, n="1")
        row = next(rows)
        self.assertEqual((row.event, row.event_id, row.dropped), ("E_CDR", raised.event_id, 0))
        self.assertEqual((row.delivery.subscription, row.delivery.outcome), (name, event.DeliveryOutcome.OUTCOME_DELIVERED))
        first, second = row.delivery.attempts
        self.assertEqual((first.uri, first.result), (dead, event.Attempt.RESULT_FAILED))
        self.assertIn("refused", first.error)
        self.assertEqual((second.uri, second.result, second.ack_level),
                         (alive, event.Attempt.RESULT_OK, event.ACK_LEVEL_HANDED_TO_KERNEL))
        self.assertGreater(second.duration.ToNanoseconds(), 0)
        rows.cancel()

    def test_a_watch_is_for_a_name_or_a_pattern_and_for_failures_alone(self):
        uri, dead = self.udp(), "tcp:127.0.0.1:%d" % free_port()
        self.service.subscribe("E_*", uri)
        self.service.subscribe("E_UL_DELETE", dead)
        named, pattern, failures = self.watch(event="E_UL_INSERT"), self.watch(event="E_UL_*"), self.watch(failures_only=True)
        for name in ("E_ACC", "E_UL_INSERT", "E_UL_DELETE"):
            self.service.raise_event(name)
        self.assertEqual(next(named).event, "E_UL_INSERT")
        self.assertEqual([next(pattern).event for _ in range(3)], ["E_UL_INSERT", "E_UL_DELETE", "E_UL_DELETE"])
        self.assertEqual(next(failures).delivery.attempts[0].uri, dead)
        for rows in (named, pattern, failures):
            rows.cancel()
        with self.assertRaises(grpc.RpcError) as refused:
            next(self.service.events.WatchDeliveries(event.WatchDeliveriesRequest(event="E_*_X")))
        self.assertIn("byte 2 is a '*'", refused.exception.details())

    def test_who_reads_too_slowly_misses_rows_is_told_how_many_and_holds_up_nobody(self):
        self.service.subscribe("E_CDR", self.udp())
        # Without more room on the way than 64 KiB: gRPC would make it larger.
        slow = grpc.insecure_channel(self.service.address, [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65535)])
        rows = event_grpc.EventServiceStub(slow).WatchDeliveries(event.WatchDeliveriesRequest())
        rows.initial_metadata()
        for batch in range(20):
            request = event.RaiseStreamRequest(sequence=batch + 1, wait=event.WAIT_DELIVERED)
            for i in range(1000):
                request.events.add(name="E_CDR", event_id="%d" % (batch * 1000 + i))
            answer, = self.service.events.RaiseStream(iter([request]))
            self.assertEqual(answer.succeeded, 1000)
        # While the service has too much to do no row is made, and what was missed is told with the next.
        eventually(lambda: samples_of(self.service.get("/metrics")[1])[0]["eventvirtual_overload"] == 0, "it has time again", 60)
        self.service.raise_event("E_CDR")
        seen, missed = 0, 0
        while seen + missed < 20001:
            row = next(rows)
            missed += row.dropped
            seen += row.HasField("delivery")
        self.assertEqual(seen + missed, 20001)
        self.assertGreater(missed, 0)
        self.assertGreaterEqual(seen, 1000)
        self.service.raise_event("E_CDR")
        self.assertEqual(next(rows).dropped, 0, "what is past is not told again")
        rows.cancel()
        slow.close()

    def watch_if_there_is_room(self):
        def refused():  # counted before the answer leaves
            return samples_of(self.service.get("/metrics")[1])[0].get(
                'grpc_server_handled_total{grpc_service="eventvirtual.v1.EventService",grpc_method="WatchDeliveries",grpc_code="ResourceExhausted"}', 0)
        before, rows = refused(), self.watch()
        return rows if refused() == before else None

    def test_a_stop_ends_the_watches_in_order_and_the_thirty_third_is_refused(self):
        watches = [self.watch() for _ in range(32)]
        with self.assertRaises(grpc.RpcError) as refused:
            next(self.service.events.WatchDeliveries(event.WatchDeliveriesRequest()))
        self.assertEqual(refused.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        watches.pop().cancel()
        watches.append(eventually(self.watch_if_there_is_room, "the service has seen that one has gone"))
        self.service.process.send_signal(signal.SIGTERM)
        for rows in watches:
            self.assertEqual(list(rows), [])
        self.assertEqual(self.service.process.wait(timeout=30), 0)

    def test_evctl_tails_and_says_when_it_begins(self):
        uri = self.udp()
        self.service.subscribe("E_CDR", uri)
        with subprocess.Popen([EVCTL, "--server=" + self.service.address, "tail", "E_*", "--count=1"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tail:
            self.assertTrue(tail.stdout.readline().startswith("TIME  EVENT"))
            raised = self.service.raise_event("E_CDR", n="1")
            self.assertRegex(tail.stdout.readline(),
                             r"^\d\d:\d\d:\d\d\.\d{3}  E_CDR  %s  subscriptions/\w+  delivered  %s  ok  [\d.]+[mµu]?s  handed-to-kernel$"
                             % (raised.event_id, re.escape(uri)))
            self.assertEqual(tail.wait(timeout=20), 0, tail.stderr.read())


class TraceTest(SteerTest):
    PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"

    def raise_traced(self, metadata=(), stream=False, **attributes):
        """Raises E over grpc, and gives the attributes that a subscriber sees, but for the hops."""
        raised = event.Event(name="E", attributes=attributes)
        if stream:
            request = event.RaiseStreamRequest(events=[raised], wait=event.WAIT_DELIVERED)
            answer, = self.service.events.RaiseStream(iter([request]), metadata=metadata)
            self.assertEqual(answer.succeeded, 1)
        else:
            request = event.RaiseRequest(event=raised, wait=event.WAIT_DELIVERED)
            delivery, = self.service.events.Raise(request, metadata=metadata).deliveries
            self.assertEqual(delivery.outcome, event.DeliveryOutcome.OUTCOME_DELIVERED)
        seen = json.loads(self.receivers[self.uri].recv(65536))["attributes"]
        self.assertEqual(seen.pop("eventhops"), "1")
        return seen

    def setUp(self):
        super().setUp()
        self.uri = self.udp()
        self.service.subscribe("E", self.uri + "&encoding=json")

    def test_it_comes_from_the_calls_metadata_or_from_the_event_whose_own_counts(self):
        metadata = (("traceparent", self.PARENT), ("tracestate", "a=1"), ("tracestate", "b=2"))
        whole = {"traceparent": self.PARENT, "tracestate": "a=1,b=2"}
        for stream in (False, True):
            self.assertEqual(self.raise_traced(metadata, stream), whole)
            self.assertEqual(self.raise_traced(metadata, stream, site="x"), dict(whole, site="x"))
            self.assertEqual(self.raise_traced(metadata, stream, traceparent=self.OTHER), {"traceparent": self.OTHER})
            self.assertEqual(self.raise_traced((), stream, traceparent=self.OTHER, tracestate="c=3"),
                             {"traceparent": self.OTHER, "tracestate": "c=3"})
            self.assertEqual(self.raise_traced((), stream), {})

    def test_one_that_is_not_valid_is_left_out_and_the_event_goes_on(self):
        none = "00-00000000000000000000000000000000-00f067aa0ba902b7-01"
        for bad in ("", "00-1", none, self.PARENT.upper(), self.PARENT + "-x"):
            self.assertEqual(self.raise_traced((), traceparent=bad, tracestate="a=1", site="x"), {"site": "x"})
            self.assertEqual(self.raise_traced((("traceparent", self.PARENT),), traceparent=bad)["traceparent"], self.PARENT)
        self.assertEqual(self.raise_traced((("traceparent", none), ("tracestate", "a=1"))), {})
        self.assertEqual(self.raise_traced((("traceparent", self.PARENT), ("traceparent", self.OTHER))), {}, "which one?")
        self.assertEqual(self.raise_traced((("traceparent", self.PARENT), ("tracestate", "no list"))), {"traceparent": self.PARENT})

    def test_tail_and_failure_events_have_it(self):
        self.service.subscribe("E", "tcp:127.0.0.1:%d" % free_port())
        monitor = self.udp()
        self.service.subscribe("E_EVI_DELIVERY_FAILED", monitor)
        rows = self.service.events.WatchDeliveries(event.WatchDeliveriesRequest(event="E"))
        rows.initial_metadata()
        request = event.RaiseRequest(wait=event.WAIT_DELIVERED)
        request.event.name = "E"
        self.service.events.Raise(request, metadata=(("traceparent", self.PARENT),))
        self.assertEqual([next(rows).traceparent for _ in range(2)], [self.PARENT] * 2)
        self.assertEqual(self.received(monitor)["traceparent"], self.PARENT)
        rows.cancel()

    def test_at_the_level_debug_the_log_has_the_ids_of_what_has_failed(self):
        service = Service("--log_level=debug")
        service.subscribe("E", "tcp:127.0.0.1:%d" % free_port())
        request = event.RaiseRequest(wait=event.WAIT_DELIVERED)
        request.event.name, request.event.event_id = "E", "call-7"
        service.events.Raise(request, metadata=(("traceparent", self.PARENT),))
        self.assertEqual(service.stop(), 0)
        line, = [line for line in service.log_text().splitlines() if "delivery failed" in line]
        self.assertIn("event=E event_id=call-7 traceparent=%s uri=tcp:" % self.PARENT, line)
        self.assertIn("refused", line)


if __name__ == "__main__":
    unittest.main()
