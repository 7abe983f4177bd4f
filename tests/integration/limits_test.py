"""Every limit of docs/security.md on the built service: what is at it works, what is beyond hears which flag it was, and the
next caller notices nothing."""

import json
import shutil
import socket
import tempfile
import unittest
import urllib.error
import urllib.request

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory

from service import Service, event, event_grpc, eventually, samples_of, subscription, subscription_grpc

PATIENCE = 60  # seconds


def rpc_messages():
    """google.rpc.Status and google.rpc.RetryInfo, as its clients have them."""
    file = descriptor_pb2.FileDescriptorProto(name="rpc.proto", package="google.rpc", syntax="proto3", dependency=[
        any_pb2.DESCRIPTOR.name, duration_pb2.DESCRIPTOR.name])
    field = descriptor_pb2.FieldDescriptorProto
    status = file.message_type.add(name="Status")
    status.field.add(name="code", number=1, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    status.field.add(name="message", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    status.field.add(name="details", number=3, type=field.TYPE_MESSAGE, label=field.LABEL_REPEATED,
                     type_name=".google.protobuf.Any")
    retry = file.message_type.add(name="RetryInfo")
    retry.field.add(name="retry_delay", number=1, type=field.TYPE_MESSAGE, label=field.LABEL_OPTIONAL,
                    type_name=".google.protobuf.Duration")
    pool = descriptor_pool.DescriptorPool()
    for known in (any_pb2, duration_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    messages = message_factory.MessageFactory(pool)
    return [messages.GetPrototype(pool.FindMessageTypeByName("google.rpc." + name)) for name in ("Status", "RetryInfo")]


def mi_url(service):
    return "http://" + service.mi[0][len("http:"):]


def of_size(size):
    """A RaiseRequest that is so many bytes on the wire."""
    request = event.RaiseRequest()
    request.event.name = "E"
    request.event.source = "s" * (size - 10)
    request.event.source += "s" * (size - request.ByteSize())
    assert request.ByteSize() == size
    return request


class LimitsTest(unittest.TestCase):
    def start(self, *flags):
        service = Service(*flags)
        self.addCleanup(lambda: service.process.poll() is None and self.assertEqual(service.stop(), 0))
        return service

    def channel(self, address):
        channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.addCleanup(channel.close)
        return channel

    def refused(self, code, call, *words):
        with self.assertRaises(grpc.RpcError) as raised:
            call()
        self.assertEqual(raised.exception.code(), code, raised.exception.details())
        for word in words:
            self.assertIn(word, raised.exception.details())
        return raised.exception

    def exceeded(self, service, flag):
        return samples_of(service.get("/metrics")[1])[0]['eventvirtual_limit_exceeded_total{limit="%s"}' % flag]

    def fine(self, service):
        """Somebody else still gets what they ask for."""
        events = event_grpc.EventServiceStub(self.channel(service.address))
        request = event.RaiseRequest(wait=event.WAIT_DELIVERED)
        request.event.name = "E_OTHER"
        events.Raise(request, timeout=PATIENCE)

    def raise_with(self, service, name="E", params=(), **fields):
        request = event.RaiseRequest()
        request.event.name = name
        for param in params:
            request.event.params.add(**param)
        for field, value in fields.items():
            setattr(request.event, field, value)
        return service.events.Raise(request, timeout=PATIENCE)

    def test_an_event_has_a_bounded_name_and_boundedly_many_parameters_of_bounded_size_and_depth(self):
        service = self.start("--max_event_name=10", "--max_params=3", "--max_param_bytes=100", "--max_depth=3")
        n, text = {"name": "n", "int_value": 7}, {"name": "cdr", "string_value": "x" * 100}
        deep = {"name": "j", "json_value": "[[[1]]]"}
        cases = (
            ("max_event_name", {"name": "E_12345678"}, {"name": "E_123456789"}, ("event.name", "11 bytes", "at most 10")),
            ("max_params", {"params": [n] * 3}, {"params": [n] * 4}, ("event.params", "4 parameters", "at most 3")),
            ("max_param_bytes", {"params": [text]}, {"params": [n, {"name": "cdr", "string_value": "x" * 101}]},
             ("event.params[1] \"cdr\"", "101 bytes", "at most 100")),
            ("max_param_bytes", {"params": [{"name": "x" * 100}]}, {"params": [{"name": "x" * 101}]},
             ("event.params[0].name", "101 bytes", "at most 100")),
            ("max_depth", {"params": [deep]}, {"params": [n, {"name": "j", "json_value": "[[{\"a\":[1]}]]"}]},
             ("event.params[1].json_value", "more than 3")),
        )
        for flag, most, more, words in cases:
            with self.subTest(flag=flag):
                before = self.exceeded(service, flag)
                self.raise_with(service, **most)
                self.assertEqual(self.exceeded(service, flag), before)
                self.refused(grpc.StatusCode.INVALID_ARGUMENT, lambda more=more: self.raise_with(service, **more),
                             "--" + flag, *words)
                self.assertEqual(self.exceeded(service, flag), before + 1)
                self.fine(service)
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: service.subscribe("E_123456789", "udp:127.0.0.1:9"),
                     "--max_event_name", "11 bytes")

        # Of a stream, the event alone is refused that is too large.
        request = event.RaiseStreamRequest(sequence=1)
        for name in ("E_1", "E_123456789", "E_2"):
            request.events.add(name=name)
        answer, = service.events.RaiseStream(iter([request]), timeout=PATIENCE)
        self.assertEqual((answer.succeeded, [(one.index, one.code) for one in answer.failures]), (2, [(1, 3)]))
        self.assertIn("--max_event_name", answer.failures[0].message)

    def test_opensips_and_its_tools_are_held_to_the_same_and_hear_it_in_their_own_words(self):
        service = self.start("--max_event_name=10", "--max_params=3", "--max_param_bytes=100", "--max_depth=3",
                             "--ingest_max_bytes=1024", "--mi_max_bytes=1024", "--ingest=tcp:127.0.0.1:0,udp:127.0.0.1:0",
                             "--mi=http:127.0.0.1:0/mi")
        tcp = service.ingest[0][len("tcp:"):].rsplit(":", 1)
        udp = service.ingest[1][len("udp:"):].rsplit(":", 1)

        def opensips(method="E", params=None, text=None):
            """The answer to one event over a connection of its own."""
            text = text or json.dumps({"id": 1, "jsonrpc": "2.0", "method": method, "params": params})
            with socket.create_connection((tcp[0], int(tcp[1])), PATIENCE) as peer:
                peer.sendall(text.encode())
                answer = b""
                while not answer.endswith(b"}"):
                    got = peer.recv(65536)
                    self.assertTrue(got, answer)
                    answer += got
            return json.loads(answer)

        def message(answer):
            return answer["error"]["message"]

        for most, more, words in (
                (("E_12345678", [1]), ("E_123456789", [1]), ("11 bytes", "--max_event_name")),
                (("E", [1, 2, 3]), ("E", [1, 2, 3, 4]), ("4 parameters", "--max_params")),
                (("E", {"a": "x" * 100}), ("E", {"a": "x" * 101}), ("params[0] \"a\"", "101 bytes", "--max_param_bytes")),
                (("E", {"a": [[[1]]]}), ("E", {"a": [[[[1]]]]}), ("more than 3", "--max_depth"))):
            self.assertEqual(opensips(*most)["error"]["code"], 480, "nobody is subscribed, so it was understood")
            for word in words:
                self.assertIn(word, message(opensips(*more)))

        head = '{"id":1,"jsonrpc":"2.0","method":"E","params":["'
        fits = head + "x" * 100 + '"]' + " " * (1024 - len(head) - 103) + "}"
        self.assertEqual((len(fits), opensips(text=fits)["error"]["code"]), (1024, 480))
        self.assertIn("--ingest_max_bytes", message(opensips(text=fits[:-1] + " }")))
        before = self.exceeded(service, "ingest_max_bytes")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for text in (fits, fits[:-1] + " }"):
                sender.sendto(text.encode(), (udp[0], int(udp[1])))
        eventually(lambda: self.exceeded(service, "ingest_max_bytes") == before + 1, "the long datagram is counted", PATIENCE)

        def ask(text):
            try:
                with urllib.request.urlopen(urllib.request.Request(mi_url(service), text.encode(), method="POST"),
                                            timeout=PATIENCE) as response:
                    return response.status, response.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        def command(*params):
            return json.loads(ask(json.dumps({"id": 1, "jsonrpc": "2.0", "method": "raise_event", "params": params}))[1])

        for flag, most, more, code in (
                ("max_event_name", ("E_12345678",), ("E_123456789",), 404),
                ("max_params", ("E", {"a": 1, "b": 2, "c": 3}), ("E", {"a": 1, "b": 2, "c": 3, "d": 4}), 400),
                ("max_param_bytes", ("E", {"a": "x" * 100}), ("E", {"a": "x" * 101}), 400),
                ("max_depth", ("E", {"a": [[[1]]]}), ("E", {"a": [[[[1]]]]}), -32700),
                ("max_depth", ("E", '{"a": [[[1]]]}'), ("E", '{"a": [[[[1]]]]}'), 400)):
            with self.subTest(over="mi", flag=flag):
                before = self.exceeded(service, flag)
                self.assertEqual(command(*most)["error"]["code"], 480)
                self.assertEqual(self.exceeded(service, flag), before)
                self.assertEqual(command(*more)["error"]["code"], code)
                self.assertEqual(self.exceeded(service, flag), before + 1)
        version = '{"id":1,"jsonrpc":"2.0","method":"version"'
        fits = version + " " * (1024 - len(version) - 1) + "}"
        self.assertEqual(ask(fits)[0], 200)
        status, why = ask(fits + " ")
        self.assertEqual(status, 413)
        self.assertIn("1025 bytes; at most 1024 are taken (--mi_max_bytes)", why)
        self.assertEqual(self.exceeded(service, "mi_max_bytes"), 1)
        self.fine(service)

    def test_a_socket_has_bounded_texts_and_boundedly_many_of_them(self):
        service = self.start("--max_uri=60", "--max_subscribers=2")
        path = "flatstore:%s/" % service.dir
        fits = path + "x" * (60 - len(path))
        service.subscribe("E", fits)
        self.refused(grpc.StatusCode.INVALID_ARGUMENT,
                     lambda: service.subscribe("E", "virtual:PARALLEL udp:127.0.0.1:9 " + fits + "x"), "subscriber 2 of 2",
                     "61 bytes", "at most 60", "--max_uri")
        self.assertEqual(self.exceeded(service, "max_uri"), 1)
        service.subscribe("E", "virtual:PARALLEL udp:127.0.0.1:8 udp:127.0.0.1:9")
        self.refused(grpc.StatusCode.INVALID_ARGUMENT,
                     lambda: service.subscribe("E", "virtual:PARALLEL udp:127.0.0.1:7 udp:127.0.0.1:8 udp:127.0.0.1:9"),
                     "3 subscribers", "at most 2", "--max_subscribers")
        self.assertEqual(self.exceeded(service, "max_subscribers"), 1)
        self.fine(service)

    def test_each_principal_has_so_many_subscriptions_also_after_a_restart(self):
        folder = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        self.addCleanup(lambda: shutil.rmtree(folder))
        flags = ("--max_subscriptions_per_principal=2", "--max_subscriptions=3", "--data_dir=" + folder)
        service = self.start(*flags)
        for port in (7, 8):
            service.subscribe("E", "udp:127.0.0.1:%d" % port)
        service.subscribe("E", "udp:127.0.0.1:7")  # a refresh

        def too_many(service):
            error = self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: service.subscribe("E", "udp:127.0.0.1:9"))
            return error.details()

        self.assertIn("loopback has 2 subscriptions", too_many(service))
        self.assertIn("--max_subscriptions_per_principal", too_many(service))
        self.assertEqual(service.stop(), 0)

        service = self.start(*flags)
        self.assertIn("loopback has 2 subscriptions", too_many(service))
        self.assertEqual(self.exceeded(service, "max_subscriptions_per_principal"), 1)
        me = subscription_grpc.SubscriptionServiceStub(self.channel(service.unix))  # another principal
        request = subscription.SubscribeRequest()
        request.subscription.event, request.subscription.socket = "E", "udp:127.0.0.1:9"
        request.subscription.never_expires = True
        me.Subscribe(request, timeout=PATIENCE)
        request.subscription.event = "E_2"
        self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: me.Subscribe(request, timeout=PATIENCE),
                     "there are 3 subscriptions", "--max_subscriptions allows")
        listed = service.subscriptions.ListSubscriptions(subscription.ListSubscriptionsRequest()).subscriptions
        self.assertEqual(len(listed), 3)
        self.assertFalse(any(one.labels for one in listed), "whose it is is no label")
        mine = [one.name for one in listed if one.socket != "udp:127.0.0.1:9"]
        service.subscriptions.Unsubscribe(subscription.UnsubscribeRequest(name=mine[0]), timeout=PATIENCE)
        service.subscribe("E_2", "udp:127.0.0.1:9")

    def test_grpc_bounds_messages_metadata_and_the_calls_of_a_connection(self):
        service = self.start("--rpc_max_bytes=4096", "--rpc_max_metadata=4096", "--max_streams=2")
        service.events.Raise(of_size(4096), timeout=PATIENCE)
        self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: service.events.Raise(of_size(4097), timeout=PATIENCE),
                     "4097", "4096")
        self.fine(service)

        service.events.Raise(of_size(100), metadata=[("note", "x" * 3000)], timeout=PATIENCE)
        self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED,
                     lambda: service.events.Raise(of_size(100), metadata=[("note", "x" * 5000)], timeout=PATIENCE), "metadata")
        self.fine(service)

        watches = [service.subscriptions.WatchSubscriptions(subscription.WatchSubscriptionsRequest()) for _ in range(2)]
        for watch in watches:
            next(watch)
        self.refused(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: service.events.Raise(of_size(100), timeout=1))
        self.fine(service)
        watches[0].cancel()
        service.events.Raise(of_size(100), timeout=PATIENCE)
        watches[1].cancel()

    def until_refused(self, call):
        """Calls until the rate is used up: how often it went well, and the error."""
        done = 0
        while True:
            try:
                call()
            except grpc.RpcError as error:
                self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED, error.details())
                return done, error
            done += 1

    def test_a_principal_raises_at_its_rate_and_is_told_how_long_to_wait(self):
        service = self.start("--raise_rate=1", "--rate_burst=30s")
        done, error = self.until_refused(lambda: service.raise_event("E"))
        self.assertGreaterEqual(done, 30)
        for word in ("loopback", "more than 1 a second", "--raise_rate", "wait "):
            self.assertIn(word, error.details())
        status_type, retry_type = rpc_messages()
        details, = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
        status = status_type.FromString(details)
        self.assertEqual((status.code, status.message), (8, error.details()))
        self.assertEqual(status.details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo")
        delay = retry_type.FromString(status.details[0].value).retry_delay.ToNanoseconds()
        self.assertTrue(0 < delay <= 10**9, delay)
        self.assertGreaterEqual(self.exceeded(service, "raise_rate"), 1)

        # Who comes by another way is another principal; nothing but raising is slowed.
        over_unix = event_grpc.EventServiceStub(self.channel(service.unix))
        over_unix.Raise(of_size(100), timeout=PATIENCE)
        service.subscribe("E", "udp:127.0.0.1:9")

    def test_a_stream_above_its_rate_goes_on_and_says_which_events_were_refused(self):
        service = self.start("--raise_rate=1", "--rate_burst=10s")
        requests = []
        for sequence in range(3):
            requests.append(event.RaiseStreamRequest(sequence=sequence))
            for _ in range(200):
                requests[-1].events.add(name="E")
        answers = list(service.events.RaiseStream(iter(requests), timeout=PATIENCE))
        self.assertEqual([one.sequence for one in answers], [0, 1, 2])
        for answer in answers:
            self.assertEqual(answer.succeeded + len(answer.failures), 200)
            self.assertEqual({one.code for one in answer.failures}, {8})
            self.assertIn("--raise_rate", answer.failures[0].message)
        self.assertGreaterEqual(answers[0].succeeded, 10)
        self.assertLess(answers[0].succeeded, 10 + PATIENCE)
        self.assertEqual(self.exceeded(service, "raise_rate"), sum(len(one.failures) for one in answers))

    def test_calls_that_change_subscriptions_have_a_rate_of_their_own(self):
        service = self.start("--change_rate=1", "--rate_burst=10s", "--mi=http:127.0.0.1:0/mi")
        done, error = self.until_refused(lambda: service.subscribe("E", "udp:127.0.0.1:9"))
        self.assertGreaterEqual(done, 10)
        self.assertIn("--change_rate", error.details())
        for _ in range(50):
            service.raise_event("E")
        service.subscriptions.ListSubscriptions(subscription.ListSubscriptionsRequest(), timeout=PATIENCE)
        text = json.dumps({"id": 1, "jsonrpc": "2.0", "method": "event_subscribe", "params": ["E", "udp:127.0.0.1:9"]})

        def refused_over_mi():  # the same principal: one second gives it one change
            with urllib.request.urlopen(urllib.request.Request(mi_url(service), text.encode(), method="POST"),
                                        timeout=PATIENCE) as response:
                return "--change_rate" in json.loads(response.read()).get("error", {}).get("data", "")

        eventually(refused_over_mi, "the management interface is held to it, too", PATIENCE)

    def test_what_opensips_sends_above_its_rate_is_refused_or_counted_and_never_blocks_it(self):
        service = self.start("--ingest_rate=1", "--rate_burst=10s", "--ingest=tcp:127.0.0.1:0,udp:127.0.0.1:0")
        service.subscribe("E", "udp:127.0.0.1:9")
        host, port = service.ingest[0][len("tcp:"):].rsplit(":", 1)
        with socket.create_connection((host, int(port)), PATIENCE) as peer:
            peer.sendall(b"".join(b'{"id":%d,"jsonrpc":"2.0","method":"E"}' % i for i in range(200)))
            answers, reader = [], peer.makefile("rb")
            text = b""
            while len(answers) < 200:
                byte = reader.read(1)
                self.assertTrue(byte, "every request has its answer")
                text += byte
                if byte == b"}" and text.count(b"{") == text.count(b"}"):
                    answers.append(json.loads(text))
                    text = b""
        taken = [one for one in answers if "result" in one]
        refused = [one for one in answers if "error" in one]
        self.assertTrue(10 <= len(taken) < 10 + PATIENCE, len(taken))
        self.assertEqual({one["error"]["code"] for one in refused}, {-32000})
        self.assertIn("--ingest_rate", refused[0]["error"]["message"])

        def limited(listener):
            samples = samples_of(service.get("/metrics")[1])[0]
            return samples['eventvirtual_ingest_messages_total{listener="%s",result="limited"}' % listener]

        self.assertEqual(limited("tcp"), len(refused))
        host, port = service.ingest[1][len("udp:"):].rsplit(":", 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            def sent_one_too_many():
                sender.sendto(b'{"jsonrpc":"2.0","method":"E"}', (host, int(port)))
                return limited("udp") > 0
            eventually(sent_one_too_many, "a datagram is above the rate", PATIENCE)
        service.raise_event("E")  # over gRPC nothing is limited here


if __name__ == "__main__":
    unittest.main()
