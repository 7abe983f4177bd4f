"""Durable delivery from outside: repeats, dead letters, and what is answered when. crash_test.py kills it again and again."""

import collections
import json
import os
import queue
import socket
import tempfile
import threading
import unittest

import grpc

from service import Service, event, eventually, samples_of, subscription


class Listener(threading.Thread):
    """The subscriber stream:NAME, over all lives of the service: what it has acknowledged, in the order it came."""

    def __init__(self, name):
        super().__init__(daemon=True)
        self.name_, self.arrived, self.services = name, [], queue.Queue()
        self.start()

    def listen_to(self, service):
        self.services.put(service)

    def run(self):
        while True:
            service = self.services.get()
            if service is None:
                return
            answers = queue.Queue()
            answers.put(event.ListenRequest(name=self.name_))
            try:
                for delivery in service.events.Listen(iter(answers.get, None)):
                    params = {p.name: p.string_value for p in delivery.event.params}
                    self.arrived.append((delivery.event.event_id, params))
                    answers.put(event.ListenRequest(acks=[delivery.delivery_id]))
            except grpc.RpcError:
                pass  # the service has died


class DurableTest(unittest.TestCase):
    def setUp(self):
        self.data = os.path.join(tempfile.mkdtemp(prefix="ev", dir="/tmp"), "data")

    def subscribe(self, service, name, socket_text):
        request = subscription.SubscribeRequest()
        request.subscription.event = name
        request.subscription.socket = socket_text
        request.subscription.never_expires = True
        request.subscription.delivery.durable = True
        return service.subscriptions.Subscribe(request, timeout=10).subscription

    def test_a_stop_in_order_keeps_what_is_queued_and_nothing_comes_twice(self):
        service = Service("--data_dir=" + self.data)
        self.subscribe(service, "E_CDR", "stream:billing")
        for number in range(50):
            service.raise_event("E_CDR", wait=event.WAIT_DURABLE, raiser="r", number=str(number))
        self.assertEqual(service.stop(), 0)
        listener = Listener("billing")
        for number in (50, 51):
            service = Service("--data_dir=" + self.data)
            service.raise_event("E_CDR", wait=event.WAIT_DURABLE, raiser="r", number=str(number))
            listener.listen_to(service)
            eventually(lambda: len(listener.arrived) > number, "what was queued arrives", 60)
            eventually(lambda: samples_of(service.get("/metrics")[1])[0]["eventvirtual_durable_events"] == 0, "and is erased", 60)
            self.assertEqual(service.stop(), 0)
        self.assertEqual([params["number"] for _, params in listener.arrived], [str(n) for n in range(52)])

    def test_without_a_data_dir_nothing_can_be_durable(self):
        service = Service()
        self.addCleanup(service.stop)
        for words in (["subscribe", "E", "stream:x", "--durable"], ["raise", "E", "--wait=durable"]):
            refused = service.evctl(*words, check=False)
            self.assertEqual(refused.returncode, 1)
            self.assertIn("FAILED_PRECONDITION", refused.stderr)
            self.assertIn("--data_dir=DIR", refused.stderr)

    def test_waiting_for_durable_where_nothing_is_does_nothing(self):
        service = Service("--data_dir=" + self.data)
        self.addCleanup(service.stop)
        path = os.path.join(service.dir, "file")
        service.evctl("subscribe", "E", "flatstore:" + path)
        refused = service.evctl("raise", "E", "--wait=durable", check=False)
        self.assertIn("none of the 1 subscriptions", refused.stderr)
        service.evctl("raise", "E", "n=1", "--wait=delivered")
        with open(path) as file:
            self.assertEqual(len(file.readlines()), 1)
        service.evctl("subscribe", "E", "stream:x", "--durable")
        done = json.loads(service.evctl("raise", "E", "--wait=durable", "-o", "json").stdout)
        self.assertEqual(done["matched_subscriptions"], 2)
        got = json.loads(service.evctl("raise", "E", "--wait=delivered", "-o", "json", check=False).stdout)
        self.assertEqual(sorted(d["outcome"] for d in got["deliveries"]), ["OUTCOME_DELIVERED", "OUTCOME_PENDING"])

    def test_a_repeated_id_gets_the_first_answer_and_is_not_delivered_again_also_over_a_restart(self):
        listener = Listener("billing")
        service = Service("--data_dir=" + self.data)
        listener.listen_to(service)
        self.subscribe(service, "E_CDR", "stream:billing")

        def raise_it(name, wait=event.WAIT_ACCEPTED, stream=False):
            request = event.RaiseRequest(wait=wait)
            request.event.name = "E_CDR"
            request.event.event_id = name
            if not stream:
                return service.events.Raise(request, timeout=20)
            batch = event.RaiseStreamRequest(wait=wait, events=[request.event] * 3)
            return next(service.events.RaiseStream(iter([batch]), timeout=20))
        for _ in range(3):
            answer = raise_it("once")
            self.assertEqual((answer.event_id, answer.matched_subscriptions), ("once", 1))
        self.assertEqual(raise_it("once", stream=True).succeeded, 3)
        self.assertEqual(raise_it("stream", stream=True).succeeded, 3)
        calls = [service.events.Raise.future(event.RaiseRequest(event=event.Event(name="E_CDR", event_id="at-once")))
                 for _ in range(20)]
        self.assertEqual({call.result(timeout=20).matched_subscriptions for call in calls}, {1})
        eventually(lambda: len(listener.arrived) >= 3, "each arrives", 60)
        service.stop()  # in order: after a kill what was out may come again
        service = Service("--data_dir=" + self.data)
        self.addCleanup(service.stop)
        listener.listen_to(service)
        self.assertEqual(raise_it("once").matched_subscriptions, 1)
        raise_it("last")
        eventually(lambda: listener.arrived[-1][0] == "last", "the last arrives", 60)
        self.assertEqual(collections.Counter(name for name, _ in listener.arrived if name != "at-once"),
                         {"once": 1, "stream": 1, "last": 1})

    def test_a_repeat_of_an_event_that_failed_somewhere_gets_that_answer(self):
        service = Service("--data_dir=" + self.data)
        self.addCleanup(service.stop)
        good, bad = os.path.join(service.dir, "good"), os.path.join(service.dir, "no-such-folder", "bad")
        service.subscribe("E_HALF", "flatstore:" + good)
        service.subscribe("E_HALF", "flatstore:" + bad)
        service.subscribe("E_NONE", "flatstore:" + bad)
        self.subscribe(service, "E_LATER", "stream:nobody-yet")
        listed = subscription.SubscribeRequest()
        listed.subscription.event, listed.subscription.socket = "E_ONCE", "stream:nobody"
        listed.subscription.ttl.FromSeconds(3600)
        listed.subscription.delivery.durable = True
        listed.subscription.delivery.max_attempts = 1
        service.subscriptions.Subscribe(listed, timeout=10)

        def single(name):
            request = event.RaiseRequest(event=event.Event(name=name, event_id=name), wait=event.WAIT_DELIVERED)
            return service.events.Raise(request, timeout=20)

        def streamed(name):
            batch = event.RaiseStreamRequest(events=[event.Event(name=name, event_id=name)], wait=event.WAIT_DELIVERED)
            return next(service.events.RaiseStream(iter([batch]), timeout=20))
        outcome = event.DeliveryOutcome
        for name, ends in (("E_HALF", [outcome.OUTCOME_DELIVERED, outcome.OUTCOME_FAILED]),
                           ("E_LATER", [outcome.OUTCOME_PENDING]), ("E_ONCE", [outcome.OUTCOME_DEAD_LETTERED])):
            first = single(name)
            self.assertEqual(sorted(d.outcome for d in first.deliveries), sorted(ends), name)
            self.assertEqual(single(name), first)
            repeat = streamed(name)
            self.assertEqual((repeat.succeeded, len(repeat.failures)), (0, 1), name)
            self.assertEqual(repeat.failures[0].code, grpc.StatusCode.UNAVAILABLE.value[0])
            self.assertEqual(list(repeat.failures[0].deliveries), list(first.deliveries))
        with open(good) as file:
            self.assertEqual(len(file.readlines()), 1)
        self.assertEqual(len(service.evctl("dead-letters", "list", "-o", "json").stdout.splitlines()), 1)
        listener = Listener("nobody-yet")
        listener.listen_to(service)
        eventually(lambda: listener.arrived, "what went on being tried arrives", 60)
        service.raise_event("E_LATER", wait=event.WAIT_DURABLE)
        eventually(lambda: len(listener.arrived) == 2, "so does another, and the first not again", 60)

        # The other way round: first in a stream.
        request = event.Event(name="E_HALF", event_id="streamed-first")
        batch = event.RaiseStreamRequest(events=[request, request], wait=event.WAIT_DELIVERED)
        answer = next(service.events.RaiseStream(iter([batch]), timeout=20))
        self.assertEqual((answer.succeeded, len(answer.failures)), (0, 2))
        repeat = service.events.Raise(event.RaiseRequest(event=request, wait=event.WAIT_DELIVERED), timeout=20)
        self.assertEqual(list(repeat.deliveries), list(answer.failures[0].deliveries))

        # What nobody took may be raised again.
        self.assertEqual(single("E_NONE").deliveries[0].outcome, outcome.OUTCOME_FAILED)
        os.mkdir(os.path.dirname(bad))
        eventually(lambda: single("E_NONE").deliveries[0].outcome == outcome.OUTCOME_DELIVERED, "it is tried anew", 60)

    def test_what_is_given_up_is_listed_replayed_and_purged(self):
        service = Service("--data_dir=" + self.data)
        self.addCleanup(service.stop)
        request = subscription.SubscribeRequest()
        request.subscription.event = "E_CDR"
        request.subscription.socket = "stream:billing"
        request.subscription.ttl.FromSeconds(3600)
        request.subscription.delivery.durable = True
        request.subscription.delivery.max_attempts = 1
        name = service.subscriptions.Subscribe(request, timeout=10).subscription.name
        for number in range(3):
            service.raise_event("E_CDR", wait=event.WAIT_DURABLE, number=str(number))

        def listed(*words):
            lines = service.evctl("dead-letters", "list", "-o", "json", *words).stdout.splitlines()
            return [json.loads(line) for line in lines]
        eventually(lambda: len(listed()) == 3, "nobody listens, and each is tried once", 60)
        letters = listed()
        self.assertEqual([letter["subscription"] for letter in letters], [name] * 3)
        self.assertEqual([letter["event"]["params"][0]["string_value"] for letter in letters], ["0", "1", "2"])
        self.assertIn("max_attempts", letters[0]["reason"])
        self.assertEqual(letters[0]["attempts"][0]["uri"], "stream:billing")
        self.assertEqual(listed("--event=E_OTHER"), [])
        shown = json.loads(service.evctl("dead-letters", "show", letters[1]["name"]).stdout)
        self.assertEqual(shown, letters[1])
        self.assertEqual(service.evctl("dead-letters", "show", "dead-letters/0", check=False).returncode, 1)

        listener = Listener("billing")
        listener.listen_to(service)
        eventually(lambda: service.raise_event("E_CDR", number="9").deliveries[0].outcome ==
                   event.DeliveryOutcome.OUTCOME_DELIVERED, "it listens", 60)
        before = len(listener.arrived)
        self.assertIn("failed 0", service.evctl("dead-letters", "replay", "--event=E_CDR", "--rate=50").stdout)
        eventually(lambda: {"0", "1", "2"} <= {p["number"] for _, p in listener.arrived[before:]}, "they arrive")
        ids = [letter["event"]["event_id"] for letter in letters]
        self.assertEqual([i for i, _ in listener.arrived[before:] if i in ids], ids, "in order, with their ids")
        eventually(lambda: not [l for l in listed() if l["name"] in [x["name"] for x in letters]], "they are gone")

        listener.services.put(None)
        service.subscriptions.Unsubscribe(subscription.UnsubscribeRequest(name=name), timeout=10)
        self.subscribe(service, "E_LATE", "stream:nobody")
        service.raise_event("E_LATE", wait=event.WAIT_DURABLE, number="1")
        late = service.subscriptions.ListSubscriptions(subscription.ListSubscriptionsRequest(), timeout=10).subscriptions
        service.subscriptions.Unsubscribe(subscription.UnsubscribeRequest(name=late[0].name), timeout=10)
        eventually(lambda: listed("--event=E_LATE"), "what was queued is a dead letter", 60)
        replay = service.evctl("dead-letters", "replay", "--event=E_LATE", check=False)
        self.assertEqual(replay.returncode, 4)
        self.assertIn("there is no durable subscription", replay.stderr)
        self.assertIn("1 would be purged", service.evctl("dead-letters", "purge", "--event=E_LATE").stdout)
        self.assertIn("purged 1", service.evctl("dead-letters", "purge", "--event=E_LATE", "--force").stdout)
        self.assertEqual(listed("--event=E_LATE"), [])

    def test_what_is_given_up_goes_to_the_dead_letter_uri_also_of_one_that_was_removed(self):
        service = Service("--data_dir=" + self.data)
        path = os.path.join(service.dir, "dead")
        for words, message in ((["--durable", "--dead_letter_uri=pigeon:loft"], '"pigeon"'),
                               (["--dead_letter_uri=flatstore:" + path], "only durable subscriptions")):
            refused = service.evctl("subscribe", "E_CDR", "stream:billing", *words, check=False)
            self.assertIn("delivery.dead_letter_uri: ", refused.stderr)
            self.assertIn(message, refused.stderr)
        made = service.evctl("subscribe", "E_CDR", "stream:billing", "--durable", "--dead_letter_uri=flatstore:" + path)
        name = made.stdout.split()[1].rstrip(",")
        for number in range(100):
            service.raise_event("E_CDR", wait=event.WAIT_DURABLE, number=str(number))
        service.kill()
        service = Service("--data_dir=" + self.data)
        self.addCleanup(service.stop)
        self.assertIn("flatstore:" + path, service.evctl("get", name, "-o", "json").stdout)
        self.assertIn("100 events were not delivered; they go to flatstore:" + path,
                      service.evctl("unsubscribe", name).stdout)

        def lines():
            with open(path) as file:
                return file.read().splitlines()
        eventually(lambda: os.path.exists(path) and len(lines()) >= 100, "they are in the file", 60)
        fields = [line.split(",") for line in lines()]
        self.assertEqual([f[1] for f in fields], [str(n) for n in range(100)], "in order, each once")
        self.assertEqual({f[2] for f in fields}, {"unsubscribed"}, "the reason")
        self.assertEqual({f[4] for f in fields}, {name})
        eventually(lambda: not service.evctl("dead-letters", "list", "-o", "json").stdout, "none is kept")

    def test_opensips_is_answered_when_the_journal_has_it(self):
        service = Service("--data_dir=" + self.data, "--ingest=tcp:127.0.0.1:0")
        self.subscribe(service, "E_PIKE_BLOCKED", "stream:billing")
        host, port = service.ingest[0].split(":")[1:]
        with socket.create_connection((host, int(port)), timeout=20) as proxy:
            for number in range(200):
                proxy.sendall(json.dumps({"jsonrpc": "2.0", "id": number, "method": "E_PIKE_BLOCKED",
                                          "params": {"number": str(number)}}).encode())
            decoder, text, answered = json.JSONDecoder(), "", []
            while len(answered) < 200:
                text += proxy.recv(65536).decode()
                while text:
                    try:
                        answer, end = decoder.raw_decode(text)
                    except ValueError:
                        break
                    self.assertEqual(answer["result"], "OK")
                    answered.append(answer["id"])
                    text = text[end:]
            service.kill()
        self.assertEqual(answered, list(range(200)))
        listener = Listener("billing")
        service = Service("--data_dir=" + self.data)
        self.addCleanup(service.stop)
        listener.listen_to(service)
        eventually(lambda: len(listener.arrived) >= 200, "what was answered arrives", 60)
        self.assertEqual([params["number"] for _, params in listener.arrived], [str(n) for n in range(200)])


if __name__ == "__main__":
    unittest.main()
