"""Events that come back: services in a ring, with bridges of other people between them. Each ring ends by itself."""

import collections
import concurrent.futures
import http.server
import json
import os
import tempfile
import threading
import unittest

import grpc
import pika

from rabbitmq import RabbitMQ
from service import Service, event, eventually, free_port, samples_of, subscription

from eventvirtual.v1 import receiver_pb2, receiver_pb2_grpc

REPEATED = 'eventvirtual_loops_refused_total{found_by="repeats"}'
REFUSED = 'eventvirtual_loops_refused_total{found_by="hops"}'


class Bridge:
    """Raises what it receives at `to`, a service that may be given later, under a new id; `seen` has the hops that came.
    One that `forgets` passes on name and parameters alone."""

    def __init__(self):
        self.to, self.seen, self.refusals, self.forgets = None, [], [], False

    def pass_on(self, raised, hops, metadata=()):
        self.seen.append(int(hops))
        raised.event_id = ""
        if self.forgets:
            raised, metadata = event.Event(name=raised.name, params=raised.params), ()
        try:
            self.to.events.Raise(event.RaiseRequest(event=raised, wait=event.WAIT_ACCEPTED), metadata=metadata, timeout=60)
        except grpc.RpcError as error:
            self.refusals.append(error)


class GrpcBridge(Bridge, receiver_pb2_grpc.ReceiverServicer):
    """A receiver that raises the very event it was given."""

    def __init__(self):
        super().__init__()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
        receiver_pb2_grpc.add_ReceiverServicer_to_server(self, self.server)
        self.uri = "grpc://127.0.0.1:%d?timeout=60s" % self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def Deliver(self, request, context):
        assert dict(context.invocation_metadata())["eventhops"] == request.event.attributes["eventhops"]
        self.pass_on(request.event, request.event.attributes["eventhops"])
        return receiver_pb2.DeliverResponse()

    def close(self):
        self.server.stop(None).wait()


def event_of(jsonrpc):
    """What stands in OpenSIPS' text."""
    said = json.loads(jsonrpc)
    raised = event.Event(name=said["method"])
    for name, value in said.get("params", {}).items():
        raised.params.add(name=name, string_value=value)
    return raised


class HttpBridge(Bridge):
    """A web hook that reads OpenSIPS' JSON and passes the header eventhops on as metadata of its call."""

    def __init__(self):
        super().__init__()
        bridge = self

        class Hook(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hops = self.headers["eventhops"]
                bridge.pass_on(event_of(body), hops, (("eventhops", hops),))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        self.uri = "http://127.0.0.1:%d/?timeout=60s" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class RabbitBridge(Bridge):
    """A consumer of a queue of RabbitMQ that passes the headers on."""

    def __init__(self):
        super().__init__()
        self.broker = RabbitMQ()
        self.broker.declare_queue("round")
        self.uri = "rabbitmq:127.0.0.1:%d/round" % self.broker.port
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self._consume)
        self.thread.start()

    def _consume(self):
        with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", self.broker.port)) as connection:
            channel = connection.channel()
            while not self.closing.is_set():
                for method, properties, body in channel.consume("round", inactivity_timeout=0.1):
                    if method is None:
                        break
                    hops = properties.headers["eventhops"]
                    self.pass_on(event_of(body), hops, (("eventhops", hops),))
                    channel.basic_ack(method.delivery_tag)

    def close(self):
        self.closing.set()
        self.thread.join()
        self.broker.close()


class LoopsTest(unittest.TestCase):
    def start(self, *flags):
        service = Service(*flags)
        self.addCleanup(service.stop)
        return service

    def bridge(self, kind, to):
        bridge = kind()
        self.addCleanup(bridge.close)
        bridge.to = to
        return bridge

    def sample(self, service, name):
        return samples_of(service.get("/metrics")[1])[0].get(name, 0)

    def delivered(self, service, scheme):
        return self.sample(service, 'eventvirtual_deliveries_total{event="E_ROUND",transport="%s",outcome="delivered"}' % scheme)

    def ends(self, services, refused=1):
        """The ring has been broken: as many events as were raised have been refused, and nothing is on its way."""
        eventually(lambda: sum(self.sample(s, REFUSED) for s in services) == refused, "the ring ends", 120)
        eventually(lambda: not any(self.sample(s, "eventvirtual_raises_pending") for s in services), "nothing is on its way", 60)

    def test_two_services_with_bridges_between_them(self):
        a, b = self.start(), self.start()
        to_b, to_a = self.bridge(GrpcBridge, b), self.bridge(HttpBridge, a)
        a.subscribe("E_ROUND", to_b.uri)
        b.subscribe("E_ROUND", to_a.uri)
        a.raise_event("E_ROUND", wait=event.WAIT_ACCEPTED, callid="x")
        self.ends([a, b])
        self.assertEqual((to_b.seen, to_a.seen), ([1, 3, 5, 7], [2, 4, 6, 8]))
        refusal, = to_b.refusals + to_a.refusals
        self.assertEqual(refusal.code(), grpc.StatusCode.FAILED_PRECONDITION)
        self.assertIn('event "E_ROUND" goes round in a loop: 8 services have delivered it already, and --max_hops is 8', refusal.details())
        line, = [line for line in a.logs("goes round in a loop").splitlines() if "goes round in a loop" in line]
        self.assertIn("event=E_ROUND", line)
        self.assertIn("hops=8", line)

    def test_three_services_over_grpc_rabbitmq_and_the_ingest_of_opensips(self):
        a, b, c = self.start("--ingest=tcp:127.0.0.1:0"), self.start(), self.start()
        to_b, to_c = self.bridge(GrpcBridge, b), self.bridge(RabbitBridge, c)
        a.subscribe("E_ROUND", to_b.uri)
        b.subscribe("E_ROUND", to_c.uri)
        c.subscribe("E_ROUND", a.ingest[0] + "?reliable=1&encoding=jsonrpc-hops&timeout=60s")
        for i in range(3):
            a.raise_event("E_ROUND", wait=event.WAIT_ACCEPTED, callid=str(i))
        self.ends([a, b, c], refused=3)
        self.assertEqual((collections.Counter(to_b.seen), collections.Counter(to_c.seen)),
                         ({1: 3, 4: 3, 7: 3}, {2: 3, 5: 3, 8: 3}))
        self.assertEqual(self.delivered(c, "tcp"), 6, "with 3 and with 6 hops")
        self.assertEqual(self.sample(a, 'eventvirtual_ingest_messages_total{listener="tcp",result="accepted"}'), 6)

    def test_the_ingest_of_two_services_over_tcp_udp_and_unix(self):
        path = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        for scheme, options in (("tcp", "&reliable=1"), ("tcp", ""), ("udp", ""), ("unix", "")):
            with self.subTest(scheme=scheme, options=options):
                def address(name):
                    if scheme == "unix":
                        return "unix:" + tempfile.mktemp(prefix=name, dir=path)
                    return scheme + ":127.0.0.1:0"
                a, b = self.start("--ingest=" + address("a")), self.start("--ingest=" + address("b"), "--max_hops=5")
                a.subscribe("E_ROUND", "%s?encoding=jsonrpc-hops&timeout=60s%s" % (b.ingest[0], options))
                b.subscribe("E_ROUND", "%s?encoding=jsonrpc-hops&timeout=60s%s" % (a.ingest[0], options))
                a.raise_event("E_ROUND", wait=event.WAIT_ACCEPTED, callid="x")
                self.ends([a, b])
                # a with 0, 2 and 4 hops, b with 1 and 3, which takes none with 5.
                self.assertEqual(self.sample(a, 'eventvirtual_raises_total{event="E_ROUND"}'), 3)
                self.assertEqual(self.sample(b, 'eventvirtual_raises_total{event="E_ROUND"}'), 2)
                self.assertEqual(self.sample(b, 'eventvirtual_ingest_messages_total{listener="%s",result="looped"}' % scheme), 1)

    def test_a_ring_that_nobody_counts_hops_in_ends_by_the_number_of_repeats(self):
        """In OpenSIPS' format as it is, and over a bridge that knows nothing."""
        def ring(scheme):
            if scheme == "grpc":
                a, b = self.start("--max_repeats=8"), self.start()
                to_b, to_a = self.bridge(GrpcBridge, b), self.bridge(GrpcBridge, a)
                to_b.forgets = to_a.forgets = True
                return a, b, to_b.uri, to_a.uri
            a = self.start("--max_repeats=8", "--ingest=%s:127.0.0.1:0" % scheme)
            b = self.start("--ingest=%s:127.0.0.1:0" % scheme)
            return a, b, b.ingest[0] + "?timeout=60s", a.ingest[0] + "?timeout=60s"
        for scheme in ("tcp", "udp", "grpc"):
            with self.subTest(scheme=scheme):
                a, b, to_b, to_a = ring(scheme)
                a.subscribe("E_ROUND", to_b)
                b.subscribe("E_ROUND", to_a)
                a.raise_event("E_ROUND", wait=event.WAIT_ACCEPTED, callid="x")
                eventually(lambda: self.sample(a, REPEATED) == 1, "the ring ends", 120)
                eventually(lambda: not any(self.sample(s, "eventvirtual_raises_pending") for s in (a, b)), "nothing is on its way", 60)
                rounds = [self.sample(service, 'eventvirtual_raises_total{event="E_ROUND"}') for service in (a, b)]
                self.assertEqual(rounds[0], rounds[1])
                self.assertGreaterEqual(rounds[0], 8)  # it is 8, unless a round takes a second
                a.logs("found_by=repeats")
                # Call records differ, and pass.
                kept = os.path.join(a.dir, "kept")
                a.subscribe("E_CDR", "flatstore:%s?timeout=60s" % kept)
                for i in range(100):
                    a.raise_event("E_CDR", callid=str(i))
                with open(kept) as file:
                    self.assertEqual(len(file.readlines()), 100)

    def test_hops_that_are_no_number_are_bad_input(self):
        service = self.start()
        service.subscribe("E", "stream:nobody")
        for text in ("-1", "256", "99999999999999999999", "x", "1.5", " 1"):
            for stream in (False, True):
                for own in (False, True):
                    raised = event.Event(name="E", attributes={"eventhops": text} if own else {})
                    metadata = () if own else (("eventhops", text),)
                    if not own and text != text.strip():
                        continue  # metadata have no spaces around them
                    with self.subTest(text=text, stream=stream, own=own):
                        if stream:
                            answer, = service.events.RaiseStream(iter([event.RaiseStreamRequest(events=[raised])]), metadata=metadata)
                            code, message = answer.failures[0].code, answer.failures[0].message
                        else:
                            with self.assertRaises(grpc.RpcError) as caught:
                                service.events.Raise(event.RaiseRequest(event=raised), metadata=metadata)
                            code, message = caught.exception.code().value[0], caught.exception.details()
                        self.assertEqual((code, message), (grpc.StatusCode.INVALID_ARGUMENT.value[0],
                                                           'eventhops: "%s" is not a number of hops, 0 to 255' % text))
        self.assertEqual(self.sample(service, REFUSED), 0)

    def test_the_events_own_hops_count_before_those_of_the_call_and_a_stream_is_told_of_a_loop(self):
        service = self.start()
        service.subscribe("E", "flatstore:" + os.path.join(service.dir, "file"))
        raised = [event.Event(name="E", attributes={"eventhops": "7"}), event.Event(name="E"), event.Event(name="E", event_id="8")]
        for wait in (event.WAIT_ACCEPTED, event.WAIT_DELIVERED):
            answer, = service.events.RaiseStream(iter([event.RaiseStreamRequest(events=raised, wait=wait)]), metadata=(("eventhops", "8"),))
            self.assertEqual(answer.succeeded, 1)
            self.assertEqual([(f.index, f.code) for f in answer.failures], [(1, 9), (2, 9)])
            for failure in answer.failures:
                self.assertIn("--max_hops", failure.message)
        # An id that was refused as a loop is free.
        service.events.Raise(event.RaiseRequest(event=event.Event(name="E", event_id="8"), wait=event.WAIT_DELIVERED))
        with self.assertRaises(grpc.RpcError) as caught:
            service.events.Raise(event.RaiseRequest(event=event.Event(name="E"), wait=event.WAIT_DELIVERED), metadata=(("eventhops", "8"),))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)
        self.assertEqual(self.sample(service, REFUSED), 5)

    def test_what_is_queued_or_a_dead_letter_keeps_its_hops_over_a_restart(self):
        data = os.path.join(tempfile.mkdtemp(prefix="ev", dir="/tmp"), "data")
        port = free_port()
        service = Service("--data_dir=" + data)
        request = subscription.SubscribeRequest()
        request.subscription.event = "E"
        request.subscription.socket = "grpc://127.0.0.1:%d?timeout=60s" % port
        request.subscription.never_expires = True
        request.subscription.delivery.durable = True
        request.subscription.delivery.failover_timeout.FromMilliseconds(100)
        service.subscriptions.Subscribe(request, timeout=20)
        raised = event.Event(name="E", attributes={"eventhops": "3"})
        service.events.Raise(event.RaiseRequest(event=raised, wait=event.WAIT_DURABLE), timeout=60)
        service.kill()
        service = Service("--data_dir=" + data)
        self.addCleanup(lambda: service.stop())

        answers = [grpc.StatusCode.INVALID_ARGUMENT]  # the first makes it a dead letter

        class Receiver(receiver_pb2_grpc.ReceiverServicer):
            seen = []

            def Deliver(self, request, context):
                self.seen.append(request.event.attributes["eventhops"])
                if answers:
                    context.abort(answers.pop(), "not this one")
                return receiver_pb2.DeliverResponse()

        server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
        receiver_pb2_grpc.add_ReceiverServicer_to_server(Receiver(), server)
        self.assertEqual(server.add_insecure_port("127.0.0.1:%d" % port), port)
        server.start()
        self.addCleanup(lambda: server.stop(None).wait())
        eventually(lambda: service.evctl("dead-letters", "list", "-o", "json").stdout, "the event is given up", 120)
        self.assertEqual(service.stop(), 0)
        service = Service("--data_dir=" + data)
        self.assertIn("failed 0", service.evctl("dead-letters", "replay", "--event=E").stdout)
        eventually(lambda: len(Receiver.seen) >= 2, "the replay comes", 120)
        self.assertEqual(Receiver.seen, ["4", "4"], "a replay starts as it was")


if __name__ == "__main__":
    unittest.main(verbosity=2)
