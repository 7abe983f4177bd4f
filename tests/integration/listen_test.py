"""EventService.Listen: a client that calls becomes the subscriber stream:NAME."""

import itertools
import json
import os
import queue
import subprocess
import threading
import unittest

import grpc

from service import EVCTL, GRPCURL, Service, event, eventually


class Listener:
    """Listens to `name`; `events` are what came, each answered at once by "acks" or "nacks", or not at all."""

    def __init__(self, service, name, answer="acks"):
        self.requests = queue.Queue()
        self.requests.put(event.ListenRequest(name=name))
        self.call = service.events.Listen(iter(self.requests.get, None))
        self.answer, self.events, self.error = answer, [], None
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        try:
            for response in self.call:
                self.events.append(response)
                if self.answer:
                    self.requests.put(event.ListenRequest(**{self.answer: [response.delivery_id]}))
        except grpc.RpcError as error:
            self.error = error

    def leave(self):
        """Ends the sending half, as an orderly client does."""
        self.requests.put(None)
        self.thread.join(timeout=20)

    def die(self):
        self.call.cancel()
        self.requests.put(None)
        self.thread.join(timeout=20)


class ListenTest(unittest.TestCase):
    def start(self, *flags):
        service = Service(*flags)
        self.addCleanup(service.stop)
        return service

    def deliver(self, service, name, **params):
        """Raises until the event is delivered; gives the answer's one delivery."""
        def delivered():
            answer = service.raise_event(name, **params).deliveries[0]
            return answer if answer.outcome == event.DeliveryOutcome.OUTCOME_DELIVERED else None
        return eventually(delivered, "the event is delivered")

    def test_failover_goes_to_the_listener_while_there_is_one_and_to_the_file_else(self):
        service = self.start()
        path = os.path.join(service.dir, "lost.log")
        service.subscribe("E_CDR", "virtual:FAILOVER stream:billing flatstore:" + path, failover_timeout=0.2)
        raised = []

        def raise_one():
            raised.append("call-%d" % len(raised))
            answer = service.raise_event("E_CDR", callid=raised[-1])
            self.assertEqual(answer.deliveries[0].outcome, event.DeliveryOutcome.OUTCOME_DELIVERED)
            return [a for a in answer.deliveries[0].attempts if a.result == event.Attempt.RESULT_OK][0].uri

        listener = Listener(service, "billing")
        eventually(lambda: raise_one() == "stream:billing", "events go to the listener")
        for _ in range(50):
            self.assertEqual(raise_one(), "stream:billing")
        listener.die()
        eventually(lambda: raise_one().startswith("flatstore"), "events go to the file")
        for _ in range(50):
            self.assertTrue(raise_one().startswith("flatstore"))
        second = Listener(service, "billing")
        eventually(lambda: raise_one() == "stream:billing", "events go to the new listener")
        second.leave()
        with open(path) as file:
            got = [line.strip().split(",")[1] for line in file]
        for part in (listener, second):
            got += [response.event.params[0].string_value for response in part.events]
        self.assertEqual(sorted(set(got)), sorted(raised))
        self.assertLessEqual(len(got) - len(raised), 2, "the one that was out when the listener died may come again")

    def test_everything_of_an_event_arrives_and_order_is_kept(self):
        service = self.start()
        service.subscribe("E_S", "stream:app?timeout=60s")  # for thousands at once
        listener = Listener(service, "app")
        self.deliver(service, "E_S")
        listener.events.clear()
        raised = event.RaiseRequest(wait=event.WAIT_DELIVERED)
        raised.event.name, raised.event.event_id, raised.event.source = "E_S", "id-7", "sbc"
        raised.event.event_time.FromSeconds(1790000000)
        raised.event.attributes["traceparent"] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        raised.event.params.add(name="n", int_value=-5)
        raised.event.params.add(double_value=1.5)
        service.events.Raise(raised, timeout=10)
        raised.event.attributes["eventhops"] = "1"
        self.assertEqual(listener.events[0].event, raised.event)

        def batches():
            for batch in range(20):
                request = event.RaiseStreamRequest(sequence=batch + 1, wait=event.WAIT_DELIVERED)
                for i in range(100):
                    request.events.add(name="E_S").params.add(int_value=batch * 100 + i)
                yield request
        for answer in service.events.RaiseStream(batches()):
            self.assertEqual((answer.succeeded, list(answer.failures)), (100, []))
        self.assertEqual([r.event.params[0].int_value for r in listener.events[1:]], list(range(2000)))
        self.assertEqual([r.delivery_id for r in listener.events], list(range(2, 2003)))
        listener.leave()
        self.assertIsNone(listener.error)

    def test_a_second_listener_takes_over(self):
        service = self.start()
        service.subscribe("E_S", "stream:app")
        first = Listener(service, "app")
        self.deliver(service, "E_S", who="first")
        second = Listener(service, "app")
        first.thread.join(timeout=20)
        self.assertEqual(first.error.code(), grpc.StatusCode.ABORTED)
        self.assertIn("taken over", first.error.details())
        self.deliver(service, "E_S", who="second")
        self.assertEqual(second.events[-1].event.params[0].string_value, "second")
        second.leave()

    def test_a_listener_that_does_not_acknowledge_times_out_and_a_refusal_is_a_failure(self):
        service = self.start()
        service.subscribe("E_S", "stream:app?timeout=300ms")
        silent = Listener(service, "app", answer=None)
        eventually(lambda: service.raise_event("E_S") and silent.events, "the listener is found")
        attempt = service.raise_event("E_S").deliveries[0].attempts[0]
        self.assertNotEqual(attempt.result, event.Attempt.RESULT_OK)
        self.assertIn("report", attempt.error)  # none came, or the link was given up since none came
        # A late answer does no harm, to the one that has timed out or to others.
        silent.requests.put(event.ListenRequest(acks=[silent.events[0].delivery_id]))
        count = len(silent.events)
        eventually(lambda: service.raise_event("E_S") and len(silent.events) > count, "the next comes")
        silent.leave()

        service.subscribe("E_R", "stream:refusing?timeout=60s")
        refusing = Listener(service, "refusing", answer="nacks")

        def refused():
            attempt = service.raise_event("E_R").deliveries[0].attempts[0]
            return attempt if "refused" in attempt.error else None
        self.assertEqual(eventually(refused, "it refuses").result, event.Attempt.RESULT_FAILED)
        refusing.leave()

    def test_nonsense_is_refused_in_words(self):
        service = self.start()
        for requests, words in (
            ([event.ListenRequest()], "name of the stream is empty"),
            ([event.ListenRequest(name="a b")], "byte 2"),
            ([event.ListenRequest(name="x" * 65)], "65 characters"),
            ([event.ListenRequest(name="a", acks=[1])], "nothing has been delivered"),
            ([event.ListenRequest(name="a"), event.ListenRequest(name="b")], "first request"),
            ([event.ListenRequest(name="a"), event.ListenRequest(acks=[1])], "never handed out"),
        ):
            with self.subTest(words=words), self.assertRaises(grpc.RpcError) as raised:
                hold = threading.Event()

                def with_pause():
                    yield from requests
                    hold.wait(20)
                try:
                    list(service.events.Listen(with_pause(), timeout=20))
                finally:
                    hold.set()
            self.assertEqual(raised.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
            self.assertIn(words, raised.exception.details())
        service.subscribe("E_S", "stream:a")
        self.assertIn("nobody listens", service.raise_event("E_S").deliveries[0].attempts[0].error)

    def test_grpcurl_and_evctl_listen(self):
        service = self.start()
        service.subscribe("E_S", "stream:app")
        evctl = subprocess.Popen([EVCTL, "--server=" + service.address, "listen", "app", "--count=2"],
                                 stdout=subprocess.PIPE, text=True)
        self.deliver(service, "E_S", a="1")
        self.deliver(service, "E_S", a="2")
        printed, _ = evctl.communicate(timeout=20)
        self.assertEqual(evctl.returncode, 0)
        self.assertEqual([json.loads(line)["params"][0]["string_value"] for line in printed.splitlines()], ["1", "2"])

        grpcurl = subprocess.Popen(
            [GRPCURL, "-plaintext", "-d", "@", service.address, "eventvirtual.v1.EventService/Listen"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        grpcurl.stdin.write('{"name": "app"}\n{"acks": []}\n')
        grpcurl.stdin.flush()
        eventually(lambda: service.raise_event("E_S", wait=event.WAIT_ACCEPTED, a="3") and
                   json.loads(service.evctl("endpoints", "-o", "json").stdout)["in_flight"], "it has an event")
        self.assertIn('"delivery_id": "1"', "".join(itertools.takewhile(lambda line: line != "}\n", grpcurl.stdout)))
        grpcurl.kill()
        grpcurl.communicate(timeout=20)

    def test_a_server_that_stops_delivers_what_it_has_and_sends_its_listeners_away(self):
        service = self.start("--drain_timeout=60s")
        service.subscribe("E_S", "stream:app?timeout=60s")
        listener = Listener(service, "app")
        self.deliver(service, "E_S")
        for _ in range(500):
            service.raise_event("E_S", wait=event.WAIT_ACCEPTED)
        self.assertEqual(service.stop(calls_go_on=True), 0)
        listener.thread.join(timeout=20)
        self.assertEqual(len(listener.events), 501)
        self.assertEqual(listener.error.code(), grpc.StatusCode.UNAVAILABLE)


if __name__ == "__main__":
    unittest.main()
