"""The built service as its users meet it: Python client, grpcurl, evctl, real sockets."""

import json
import os
import signal
import socket
import subprocess
import threading
import unittest

import grpc

from service import EVCTL, FLAGS, SERVER, Service, event, eventually, free_port, operator, subscription



def udp_receiver():
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(20)
    # A loaded machine takes the 50 ms that udp has by itself.
    return receiver, "udp:127.0.0.1:%d?timeout=20s" % receiver.getsockname()[1]


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

class ReliablePeer:
    """A JSON-RPC server on tcp that answers each request, unless told to be silent."""

    def __init__(self, port=0, silent=False):
        self.silent = silent
        self.received = []
        self.connections = []
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        decoder, text = json.JSONDecoder(), ""
        while True:
            try:
                data = connection.recv(65536)
            except OSError:
                return
            if not data:
                return
            text += data.decode()
            while text:
                try:
                    request, end = decoder.raw_decode(text)
                except ValueError:
                    break
                text = text[end:]
                self.received.append(request)
                if not self.silent:
                    connection.sendall(json.dumps({"jsonrpc": "2.0", "result": "OK", "id": request["id"]}).encode())

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()


class ServiceTest(unittest.TestCase):
    def setUp(self):
        self.service = None

    def start(self, *flags):
        self.service = Service(*flags)
        return self.service

    def tearDown(self):
        if self.service is not None and self.service.process.poll() is None:
            self.assertEqual(self.service.stop(), 0)

    def lines(self, path):
        return open(path).read().splitlines() if os.path.exists(path) else []

    def assert_refused(self, code, words, call, *arguments, **named):
        with self.assertRaises(grpc.RpcError) as caught:
            call(*arguments, **named)
        self.assertEqual(caught.exception.code(), code)
        for word in words:
            self.assertIn(word, caught.exception.details())

    def test_one_event_reaches_everyone_of_a_parallel_subscription(self):
        service = self.start()
        receiver, uri = udp_receiver()
        path = os.path.join(service.dir, "x.log")
        answer = service.subscribe("E_TEST", "virtual:PARALLEL %s flatstore:%s" % (uri, path))
        self.assertTrue(answer.created)
        raised = service.raise_event("E_TEST", ip="192.168.2.11", user="alice")
        self.assertEqual(raised.deliveries[0].outcome, event.DeliveryOutcome.OUTCOME_DELIVERED)
        self.assertEqual(receiver.recv(65536),
                         b'{"jsonrpc":"2.0","method":"E_TEST","params":{"ip":"192.168.2.11","user":"alice"}}')
        self.assertEqual(self.lines(path), ["E_TEST,192.168.2.11,alice"])

    def test_failover_moves_to_the_file_when_the_peer_dies_and_back_when_it_returns(self):
        service = self.start()
        peer = ReliablePeer()
        path = os.path.join(service.dir, "lost.log")
        service.subscribe("E_CDR", "virtual:FAILOVER tcp:127.0.0.1:%d?reliable=1&timeout=20s flatstore:%s?timeout=20s" % (peer.port, path),
                          failover_timeout=0.5)
        service.raise_event("E_CDR", n="1")
        self.assertEqual([r["params"]["n"] for r in peer.received], ["1"])
        peer.close()
        for n in ("2", "3"):
            raised = service.raise_event("E_CDR", n=n)
            self.assertEqual(raised.deliveries[0].outcome, event.DeliveryOutcome.OUTCOME_DELIVERED)
        self.assertEqual(self.lines(path), ["E_CDR,2", "E_CDR,3"])

        back = ReliablePeer(peer.port)
        numbers = iter(range(4, 1000))

        def delivered_to_the_peer():
            service.raise_event("E_CDR", n=str(next(numbers)))
            return back.received

        eventually(delivered_to_the_peer, "the peer is used again")
        seen = [line.split(",")[1] for line in self.lines(path)] + [r["params"]["n"] for r in back.received]
        self.assertEqual(sorted(map(int, seen)), list(range(2, next(numbers))))  # every event, each once
        back.close()

    def test_round_robin_takes_turns(self):
        service = self.start()
        receivers = [udp_receiver() for _ in range(3)]
        service.subscribe("E_RR", "virtual:ROUND-ROBIN " + " ".join(uri for _, uri in receivers))
        for n in range(6):
            service.raise_event("E_RR", n=str(n))
        for i, (receiver, _) in enumerate(receivers):
            self.assertEqual([json.loads(receiver.recv(65536))["params"]["n"] for _ in range(2)], [str(i), str(i + 3)])

    def test_refresh_get_list_unsubscribe_and_watch(self):
        service = self.start()
        watch = service.subscriptions.WatchSubscriptions(subscription.WatchSubscriptionsRequest(), timeout=60)
        change = subscription.WatchSubscriptionsResponse
        self.assertEqual(next(watch).change, change.CHANGE_SYNCED)
        first = service.subscribe("E", "virtual:PARALLEL udp:127.0.0.1:9 udp:127.0.0.1:10")
        again = service.subscribe("E", "virtual:PARALLEL  udp:127.0.0.1:10\tudp:127.0.0.1:9 ")
        self.assertFalse(again.created)
        self.assertEqual(again.subscription.name, first.subscription.name)
        got = service.subscriptions.GetSubscription(
            subscription.GetSubscriptionRequest(name=first.subscription.name), timeout=10)
        self.assertEqual(got.subscription.socket, "virtual:PARALLEL udp:127.0.0.1:9 udp:127.0.0.1:10")
        for port in range(20, 25):
            service.subscribe("E_PAGE", "udp:127.0.0.1:%d" % port)
        page = service.subscriptions.ListSubscriptions(
            subscription.ListSubscriptionsRequest(event="E_PAGE", page_size=3), timeout=10)
        rest = service.subscriptions.ListSubscriptions(
            subscription.ListSubscriptionsRequest(event="E_PAGE", page_size=3, page_token=page.next_page_token), timeout=10)
        self.assertEqual((len(page.subscriptions), len(rest.subscriptions), rest.next_page_token), (3, 2, ""))
        request = subscription.UnsubscribeRequest()
        request.match.event = "E"
        request.match.socket = "virtual:PARALLEL udp:127.0.0.1:10 udp:127.0.0.1:9"
        service.subscriptions.Unsubscribe(request, timeout=10)
        service.subscribe("E_SHORT", "udp:127.0.0.1:9", ttl=0.2)
        seen = []
        while change.CHANGE_EXPIRED not in seen:
            seen.append(next(watch).change)
        self.assertEqual(seen, [change.CHANGE_CREATED, change.CHANGE_REFRESHED] + [change.CHANGE_CREATED] * 5 +
                         [change.CHANGE_REMOVED, change.CHANGE_CREATED, change.CHANGE_EXPIRED])
        self.assert_refused(grpc.StatusCode.NOT_FOUND, ["no subscription"], service.subscriptions.Unsubscribe, request)

    def test_bad_input_is_named(self):
        service = self.start()
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        for socket_text, words in {
                "": ["give a socket"],
                "virtual:PARALLEL": ["no subscriber"],
                "virtual:parallel udp:127.0.0.1:9": ["PARALLEL, FAILOVER, ROUND-ROBIN"],
                "virtual:PARALLELudp:127.0.0.1:9 udp:127.0.0.1:9": ["glued"],
                "virtual:FAILOVER udp:127.0.0.1:9 nosuch:x": ["subscriber 2 of 2", "nosuch", "udp"],
                "virtual:FAILOVER udp:127.0.0.1:99999": ["subscriber 1 of 1", "1 to 65535"],
                "virtual:FAILOVER virtual:PARALLEL": ["nested"],
                "udp:127.0.0.1:9?color=red": ["color", "timeout"],
                "virtual:PARALLEL" + " udp:127.0.0.1:9" * 65: ["65", "--max_subscribers"],
        }.items():
            self.assert_refused(invalid, words, service.subscribe, "E", socket_text)
        self.assert_refused(invalid, ["event"], service.subscribe, "", "udp:127.0.0.1:9")
        self.assert_refused(invalid, ["ttl"], service.subscribe, "E", "udp:127.0.0.1:9", ttl=-1)
        no_expiry = subscription.SubscribeRequest()
        no_expiry.subscription.event, no_expiry.subscription.socket = "E", "udp:127.0.0.1:9"
        self.assert_refused(invalid, ["never_expires"], service.subscriptions.Subscribe, no_expiry)
        no_expiry.subscription.expire_time.FromSeconds(1000)
        self.assert_refused(invalid, ["past"], service.subscriptions.Subscribe, no_expiry)
        self.assert_refused(invalid, ["name"], service.raise_event, "")
        bad_json = event.RaiseRequest()
        bad_json.event.name = "E"
        bad_json.event.params.add(json_value="{broken")
        self.assert_refused(invalid, ["params[0]"], service.events.Raise, bad_json)
        bad_json.event.params[0].json_value = "[" * 10000 + "]" * 10000
        self.assert_refused(invalid, ["params[0]"], service.events.Raise, bad_json)
        bad_json.event.params[0].json_value = '"' + "x" * (5 << 20) + '"'
        self.assert_refused(grpc.StatusCode.RESOURCE_EXHAUSTED, [], service.events.Raise, bad_json)
        self.assert_refused(invalid, ["byte 2"], service.subscribe, "E_*_X", "udp:127.0.0.1:9")
        filtered = subscription.SubscribeRequest()
        filtered.subscription.event, filtered.subscription.socket = "E", "udp:127.0.0.1:9"
        filtered.subscription.never_expires = True
        filtered.subscription.filter = "count>many"
        self.assert_refused(invalid, ["filter: position 7", "no number"], service.subscriptions.Subscribe, filtered)
        self.assert_refused(grpc.StatusCode.FAILED_PRECONDITION, ["--data_dir"], service.operators.ListDeadLetters,
                            operator.ListDeadLettersRequest())

    def test_filters_and_patterns_choose_events(self):
        service = self.start("--ingest=tcp:127.0.0.1:0")
        receiver, uri = udp_receiver()
        service.evctl("subscribe", "E_UL_*", uri, "--filter", "aor=*@example.org && attempts>=3")
        self.assertIn("E_UL_* [aor=*@example.org && attempts>=3]", service.evctl("list").stdout)
        taken = service.evctl("raise", "E_UL_INSERT", "aor=bob@example.org", "attempts:=3", "--wait=delivered")
        self.assertIn("matched 1 subscription", taken.stdout)
        self.assertIn(b'"method":"E_UL_INSERT"', receiver.recv(65536))
        other = service.raise_event("E_UL_INSERT", aor="bob@example.net", attempts="3")
        self.assertEqual(other.matched_subscriptions, 0)
        self.assertEqual([d.outcome for d in other.deliveries], [event.DeliveryOutcome.OUTCOME_FILTERED])
        self.assertEqual(service.raise_event("E_DIALOG", aor="bob@example.org", attempts="3").matched_subscriptions, 0)
        # OpenSIPS need not keep what nobody wants; it is not lost.
        host, port = service.ingest[0][len("tcp:"):].split(":")
        opensips = socket.create_connection((host, int(port)), timeout=20)
        opensips.sendall(b'{"id":1,"jsonrpc":"2.0","method":"E_UL_DELETE","params":{"aor":"carol@example.com"}}')
        self.assertEqual(json.loads(opensips.recv(65536))["result"], "OK")
        counted = service.subscriptions.ListSubscriptions(subscription.ListSubscriptionsRequest()).subscriptions[0]
        self.assertEqual((counted.raised_count, counted.delivered_count, counted.filtered_count), (3, 1, 2))
        service.evctl("unsubscribe", "E_UL_*", uri, "--filter", "aor=*@example.org && attempts >= 3")
        self.assertNotIn("E_UL_", service.evctl("list").stdout)

    def test_raise_stream_answers_every_batch(self):
        service = self.start()
        receiver, uri = udp_receiver()
        service.subscribe("E_S", uri)

        def batches():
            for sequence in range(1, 101):
                request = event.RaiseStreamRequest(sequence=sequence, wait=event.WAIT_DELIVERED)
                request.events.add(name="E_S").params.add(name="n", int_value=sequence)
                request.events.add(name="")
                yield request

        answers = list(service.events.RaiseStream(batches(), timeout=60))
        self.assertEqual(sorted(a.sequence for a in answers), list(range(1, 101)))
        for answer in answers:
            self.assertEqual((answer.succeeded, [f.index for f in answer.failures]), (1, [1]))
        got = [json.loads(receiver.recv(65536))["params"]["n"] for _ in range(100)]
        self.assertEqual(got, list(range(1, 101)))

    def test_bytes_that_are_no_request_get_an_error_and_harm_nobody_else(self):
        service = self.start()
        receiver, uri = udp_receiver()
        service.subscribe("E_S", uri)
        services = "/eventvirtual.v1."
        for method in ("EventService/Raise", "SubscriptionService/Subscribe", "OperatorService/ListEndpoints"):
            call = service.channel.unary_unary(services + method)
            self.assert_refused(grpc.StatusCode.INTERNAL, ["cannot be parsed"], call, b"\x0a\x05E", timeout=20)
        watch = service.channel.unary_stream(services + "EventService/WatchDeliveries")
        self.assert_refused(grpc.StatusCode.INTERNAL, ["cannot be parsed"], lambda: list(watch(b"\x0a\x05E", timeout=20)))
        self.assert_refused(grpc.StatusCode.UNIMPLEMENTED, [],
                            service.channel.unary_unary(services + "EventService/Rise"), b"", timeout=20)

        # Of a stream: an event that is broken fails by itself; a request that is, ends it when all others are answered.
        good = event.Event(name="E_S").SerializeToString()
        batch = event.RaiseStreamRequest(sequence=7, wait=event.WAIT_DELIVERED).SerializeToString()
        batch += b"".join(b"\x12%c%s" % (len(text), text) for text in (good, b"\x0a\x01\xff", good))
        stream = service.channel.stream_stream(services + "EventService/RaiseStream",
                                               response_deserializer=event.RaiseStreamResponse.FromString)
        answers = stream(iter([batch, batch, b"\x12\x05E"]), timeout=20)
        for _ in range(2):
            answer = next(answers)
            self.assertEqual((answer.sequence, answer.succeeded), (7, 2))
            failure, = answer.failures
            self.assertEqual((failure.index, failure.code), (1, grpc.StatusCode.INVALID_ARGUMENT.value[0]))
            self.assertIn("event.name: ", failure.message)
        self.assert_refused(grpc.StatusCode.INVALID_ARGUMENT, ["events[0]: "], next, answers)
        for _ in range(4):
            self.assertEqual(json.loads(receiver.recv(65536))["method"], "E_S")

    def test_a_dead_peer_delays_nobody_else_and_a_full_queue_is_an_answer(self):
        service = self.start("--queue_events=10")
        stalled = ReliablePeer(silent=True)
        receiver, uri = udp_receiver()
        service.subscribe("E_STALLED", "tcp:127.0.0.1:%d?reliable=1&timeout=5m" % stalled.port)
        service.subscribe("E_FINE", uri)

        def is_full():
            try:
                service.raise_event("E_STALLED", wait=event.WAIT_ACCEPTED)
            except grpc.RpcError as error:
                return error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            return False

        eventually(lambda: any(is_full() for _ in range(300)), "the queue is full", 60)
        service.raise_event("E_FINE", n="1")
        self.assertIn(b'"E_FINE"', receiver.recv(65536))
        self.service.process.kill()  # 5 minutes of patience are not what this test is about
        self.service.process.wait()
        stalled.close()

    def test_opensips_is_answered_when_its_event_is_accepted(self):
        service = self.start("--ingest=tcp:127.0.0.1:0,udp:127.0.0.1:0,unix:/tmp/ev-ingest-%d.sock" % os.getpid())
        receiver, uri = udp_receiver()
        service.subscribe("E_IN", uri)
        host, port = service.ingest[0][len("tcp:"):].split(":")
        opensips = socket.create_connection((host, int(port)), timeout=20)
        opensips.sendall(b'{"id":915243442,"jsonrpc":"2.0","method":"E_IN","params":{"n":1}}')
        self.assertEqual(opensips.recv(65536), b'{"jsonrpc":"2.0","result":"OK","id":915243442}')
        self.assertEqual(receiver.recv(65536), b'{"jsonrpc":"2.0","method":"E_IN","params":{"n":1}}')

        opensips.sendall(b'{"id":1,"jsonrpc":"2.0","method":"E_NOBODY"}')
        self.assertEqual(json.loads(opensips.recv(65536))["error"]["code"], 480)
        opensips.sendall(b'{"jsonrpc":"2.0","id":2}')
        self.assertEqual(json.loads(opensips.recv(65536))["error"]["code"], -32600)
        deep = b'{"id":3,"jsonrpc":"2.0","method":"E_IN","params":[' + b"[" * 10000 + b"]" * 10001 + b"}"
        opensips.sendall(deep + b'{"id":4,"jsonrpc":"2.0","method":"E_IN"}')
        # A bad object is dropped and the stream goes on.
        decoder, text = json.JSONDecoder(), ""
        while '"id":4' not in text:
            text += opensips.recv(65536).decode()
        receiver.recv(65536)

        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        host, port = service.ingest[1][len("udp:"):].split(":")
        udp.sendto(b"not json", (host, int(port)))
        udp.sendto(b'{"jsonrpc":"2.0","method":"E_IN","params":["u"]}', (host, int(port)))
        self.assertEqual(receiver.recv(65536), b'{"jsonrpc":"2.0","method":"E_IN","params":["u"]}')
        unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        unix.sendto(b'{"jsonrpc":"2.0","method":"E_IN","params":["x"]}', service.ingest[2][len("unix:"):])
        self.assertEqual(receiver.recv(65536), b'{"jsonrpc":"2.0","method":"E_IN","params":["x"]}')

    def test_a_burst_of_opensips_is_answered_in_whole_4096_byte_answers(self):
        service = self.start("--ingest=tcp:127.0.0.1:0")
        path = os.path.join(service.dir, "burst.log")
        service.subscribe("E_B", "flatstore:" + path)
        host, port = service.ingest[0][len("tcp:"):].split(":")
        opensips = socket.create_connection((host, int(port)), timeout=20)
        opensips.settimeout(None)  # or Python polls, which is not how that reader reads
        count = 2000
        burst = b"".join(b'{"id":%d,"jsonrpc":"2.0","method":"E_B","params":{"n":%d}}' % (n, n) for n in range(count))
        threading.Thread(target=opensips.sendall, args=(burst,), daemon=True).start()
        # OpenSIPS' reader: at most 8192 bytes at a time, no answer may be cut by the end of a read.
        ids = []
        while len(ids) < count:
            data = opensips.recv(8192)
            self.assertEqual(len(data) % 4096, 0)
            for i in range(0, len(data), 4096):
                answer = json.loads(data[i:i + 4096])
                self.assertEqual(answer["result"], "OK")
                ids.append(answer["id"])
        self.assertEqual(ids, list(range(count)))
        eventually(lambda: len(self.lines(path)) == count, "all are in the file")
        self.assertEqual(self.lines(path), ["E_B,%d" % n for n in range(count)])

    def test_sigterm_lets_what_is_on_its_way_end_well(self):
        service = self.start("--drain_timeout=20s")
        slow = ReliablePeer(silent=True)
        service.subscribe("E_SLOW", "tcp:127.0.0.1:%d?reliable=1&timeout=15s" % slow.port)
        request = event.RaiseRequest(wait=event.WAIT_DELIVERED)
        request.event.name = "E_SLOW"
        watch = service.subscriptions.WatchSubscriptions(subscription.WatchSubscriptionsRequest(), timeout=60)
        next(watch)
        future = service.events.Raise.future(request, timeout=30)
        eventually(lambda: slow.received, "the event is out")
        service.process.send_signal(signal.SIGHUP)  # with no file to read again
        service.process.terminate()
        list(watch)  # ends with OK
        slow.connections[0].sendall(b'{"jsonrpc":"2.0","result":"OK","id":%d}' % slow.received[0]["id"])
        self.assertEqual(future.result().deliveries[0].outcome, event.DeliveryOutcome.OUTCOME_DELIVERED)
        self.assertEqual(service.process.wait(timeout=30), 0)
        slow.close()

    def test_evctl_for_people_and_scripts(self):
        service = self.start()
        receiver, uri = udp_receiver()
        created = json.loads(service.evctl("subscribe", "E_X", uri, "--ttl=10m", "-o", "json").stdout)
        name = created["subscription"]["name"]
        self.assertIn("refreshed", service.evctl("subscribe", "E_X", uri).stdout)
        self.assertIn(name, service.evctl("list").stdout)
        self.assertIn(uri, service.evctl("get", name).stdout)
        self.assertIn("delivered", service.evctl("raise", "E_X", "a=b", "n:=5", "pos", "--wait=delivered").stdout)
        self.assertEqual(receiver.recv(65536),
                         b'{"jsonrpc":"2.0","method":"E_X","params":{"a":"b","n":5,"2":"pos"}}')
        self.assertIn("E_X", service.evctl("events").stdout)
        self.assertIn("healthy", service.evctl("endpoints").stdout)
        self.assertIn("flatstore", service.evctl("transports").stdout)
        self.assertEqual(service.evctl("unsubscribe", "E_X", uri).returncode, 0)
        refused = service.evctl("get", name, check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("NOT_FOUND", refused.stderr)
        self.assertEqual(service.evctl("nonsense", check=False).returncode, 2)
        self.assertEqual(service.evctl("raise", check=False).returncode, 2)
        service.subscribe("E_DEAD", "tcp:127.0.0.1:%d" % free_port())
        self.assertEqual(service.evctl("raise", "E_DEAD", "--wait=delivered", check=False).returncode, 4)
        unreachable = subprocess.run([EVCTL, "--server=127.0.0.1:%d" % free_port(), "list"], stderr=subprocess.PIPE)
        self.assertEqual(unreachable.returncode, 3)

    def test_a_probe_says_what_to_mend_and_leaves_no_trace(self):
        service = self.start()
        receiver, uri = udp_receiver()
        answer = json.loads(service.grpcurl("eventvirtual.v1.OperatorService/ProbeSubscriber",
                                            {"uri": uri, "send_canary": True}))
        self.assertEqual((answer["reachable"], answer["ack_level"]), (True, "ACK_LEVEL_HANDED_TO_KERNEL"))
        self.assertEqual(receiver.recv(65536), b'{"jsonrpc":"2.0","method":"E_EVENTVIRTUAL_PROBE"}')
        self.assertIn("canary delivered", service.evctl("probe", uri, "--canary").stdout)

        dead = "tcp:127.0.0.1:%d" % free_port()
        service.subscribe("E_P", dead)
        refused = service.evctl("probe", dead, check=False)
        self.assertEqual(refused.returncode, 4)
        self.assertIn("not reachable", refused.stdout)
        self.assertIn("Connection refused", refused.stderr)
        listed = json.loads(service.evctl("endpoints", "-o", "json").stdout)
        self.assertEqual((listed["health"], listed["offered"]), ("HEALTH_IDLE", "0"))

        request = operator.ProbeSubscriberRequest(uri="rabbitmq:guest:s3cr3t@127.0.0.1:x/q")
        self.assert_refused(grpc.StatusCode.INVALID_ARGUMENT, ["uri", "port"], service.operators.ProbeSubscriber, request)

    def test_encodings_are_chosen_by_each_subscriber(self):
        service = self.start()
        receivers = {}
        for encoding in ("jsonrpc", "json", "cloudevents", "protobuf"):
            receivers[encoding], uri = udp_receiver()
            service.subscribe("E_ENC", uri + "&encoding=" + encoding)
        raised = event.RaiseRequest(wait=event.WAIT_DELIVERED)
        raised.event.name = "E_ENC"
        raised.event.event_id = "call-7"
        raised.event.source = "sbc 1"
        raised.event.attributes["traceparent"] = TRACEPARENT
        raised.event.params.add(name="n", int_value=5)
        service.events.Raise(raised)
        got = {encoding: receiver.recv(65536) for encoding, receiver in receivers.items()}
        self.assertEqual(got["jsonrpc"], b'{"jsonrpc":"2.0","method":"E_ENC","params":{"n":5}}')
        plain = json.loads(got["json"])
        self.assertEqual((plain["event"], plain["event_id"], plain["params"]), ("E_ENC", "call-7", {"n": 5}))
        cloud = json.loads(got["cloudevents"])
        self.assertEqual((cloud["type"], cloud["id"], cloud["source"], cloud["data"], cloud["traceparent"]),
                         ("E_ENC", "call-7", "sbc%201", {"n": 5}, TRACEPARENT))
        decoded = event.Event.FromString(got["protobuf"])
        self.assertEqual((decoded.source, decoded.params[0].int_value, decoded.attributes["traceparent"]),
                         ("sbc 1", 5, TRACEPARENT))

    def test_evctl_explains_each_command(self):
        def evctl(*words):
            return subprocess.run([EVCTL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        listed = evctl("help").stdout.split("\n\n")[1].splitlines()
        commands = [line.split()[0] for line in listed]
        self.assertIn("subscribe", commands, listed)
        self.assertIn("listen-udp", commands, listed)
        for command in commands:
            for words in ((command, "--help"), ("help", command), (command, "-h", "--server=nowhere")):
                shown = evctl(*words)
                self.assertEqual(shown.returncode, 0)
                self.assertTrue(shown.stdout.startswith("evctl " + command), shown.stdout)
        for words in (("help", "nonsense"), ("nonsense",), ()):
            refused = evctl(*words)
            self.assertEqual((refused.returncode, refused.stdout), (2, ""), words)
        self.assertEqual(evctl("--help").stdout, evctl("help").stdout)

    def test_grpcurl_lists_describes_and_calls_over_tcp_and_unix(self):
        service = self.start()
        for over_unix in (False, True):
            def grpcurl(method, request=None):
                return service.grpcurl(method, request, over_unix)

            self.assertIn("eventvirtual.v1.SubscriptionService", grpcurl("list"))
            self.assertIn("rpc Subscribe", grpcurl("describe eventvirtual.v1.SubscriptionService"))
            answer = grpcurl("eventvirtual.v1.SubscriptionService/Subscribe",
                             {"subscription": {"event": "E_G", "socket": "udp:127.0.0.1:9", "ttl": "60s"}})
            self.assertEqual(json.loads(answer)["subscription"]["policy"], "POLICY_PARALLEL", answer)
            for service_name in ("", "eventvirtual.v1.EventService"):
                health = grpcurl("grpc.health.v1.Health/Check", {"service": service_name})
                self.assertEqual(json.loads(health), {"status": "SERVING"}, health)
            self.assertIn("NotFound", grpcurl("grpc.health.v1.Health/Check", {"service": "nobody"}))

    def test_all_faults_in_flags_and_config_are_reported_at_once(self):
        path = "/tmp/ev-config-%d" % os.getpid()
        with open(path, "w") as config:
            config.write("# a comment\nqueue_events = many\nnonsense = 1\nlog_level = warning\n")
        done = subprocess.run([SERVER, *FLAGS, "--config=" + path, "--threads=99", "--max_subscribers=0", "word"],
                              stderr=subprocess.PIPE, text=True)
        os.unlink(path)
        self.assertEqual(done.returncode, 1)
        for word in (path + ":2", path + ":3", "--threads: 99", "--max_subscribers: 0", '"word"'):
            self.assertIn(word, done.stderr)

    def test_a_port_in_use_is_named(self):
        service = self.start()
        done = subprocess.run([SERVER, *FLAGS, "--listen=" + service.address], stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn(service.address, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
