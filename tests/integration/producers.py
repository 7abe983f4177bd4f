"""Producers of the oracle's events: each raises one after the other, over all lives of the service."""

import itertools
import json
import socket
import threading

import grpc

from service import event
from subscribers import PATIENCE


class Producer:
    """`unanswered`: those whose service died; they are raised again first, or given up, as `repeats` says."""

    gives_ids = True

    def __init__(self, oracle, flow, name, repeats):
        self.oracle, self.flow, self.name, self.repeats = oracle, flow, name, repeats
        self.unanswered, self.fault, self.thread = [], None, None

    def start(self, service, most=None):
        """Raises until the service dies, or, after what was unanswered, `most` new ones."""
        again = self.unanswered if self.repeats else []
        for number in again:
            self.oracle.repeat(number)
        self.unanswered, self.most = [], most
        self.thread = threading.Thread(target=self._run, args=(service, again), daemon=True)
        self.thread.start()

    def join(self):
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), self.name + " does not end"
        assert self.fault is None, self.fault

    def numbers(self, again):
        yield from again
        for _ in itertools.count() if self.most is None else range(self.most):
            yield self.oracle.issue(self.flow, self.name, self.gives_ids)

    def fill(self, wire, number):
        wire.name, wire.event_id = self.flow, self.oracle.event_id(number)
        wire.params.add(name="n", string_value=str(number))
        wire.params.add(name="payload", string_value=self.oracle.payload(number))

    def _run(self, service, again):
        try:
            self.work(service, again)
        except (grpc.RpcError, OSError) as error:  # it has died, if it may
            died = not isinstance(error, grpc.RpcError) or error.code() == grpc.StatusCode.UNAVAILABLE
            if not died or self.most is not None:
                self.fault = "%s: %r" % (self.name, error)
        except AssertionError as error:
            self.fault = "%s: %s" % (self.name, error)


class Caller(Producer):
    """Single calls. An answer of WAIT_DELIVERED is an acknowledgement, too, however the first round has ended."""

    def __init__(self, *of_producer, wait=event.WAIT_DURABLE, **more):
        super().__init__(*of_producer, **more)
        self.wait = wait

    def work(self, service, again):
        for number in self.numbers(again):
            request = event.RaiseRequest(wait=self.wait)
            self.fill(request.event, number)
            self.unanswered.append(number)
            answer = service.events.Raise(request, timeout=PATIENCE)
            self.unanswered.pop()
            if answer.matched_subscriptions > 0:
                self.oracle.acknowledge(number)


class Streamer(Producer):
    """Batches, some of which are ahead of the answers."""

    BATCH, AHEAD = 20, 4

    def work(self, service, again):
        numbers, slots = self.numbers(again), threading.Semaphore(self.AHEAD)
        ended = threading.Event()

        def requests():
            while slots.acquire() and not ended.is_set():
                batch = list(itertools.islice(numbers, self.BATCH))
                if not batch:
                    return
                request = event.RaiseStreamRequest(sequence=len(batch), wait=event.WAIT_DURABLE)
                for number in batch:
                    self.fill(request.events.add(), number)
                self.unanswered += batch
                yield request

        try:
            for answer in service.events.RaiseStream(requests()):
                assert not answer.failures, answer.failures[0].message
                for number in self.unanswered[:answer.sequence]:
                    self.oracle.acknowledge(number)
                del self.unanswered[:answer.sequence]
                slots.release()
        finally:
            ended.set()
            slots.release()


class Proxy(Producer):
    """As OpenSIPS does: JSON-RPC requests over tcp, some of which are ahead of the answers. They have no ids."""

    AHEAD, gives_ids = 20, False

    def work(self, service, again):
        host, port = service.ingest[0].split(":")[1:]
        decoder, text, numbers = json.JSONDecoder(), "", self.numbers(again)
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            while ahead := list(itertools.islice(numbers, self.AHEAD)):
                self.unanswered += ahead
                connection.sendall("".join(json.dumps({
                    "jsonrpc": "2.0", "id": number, "method": self.flow,
                    "params": {"n": str(number), "payload": self.oracle.payload(number)}}) for number in ahead).encode())
                while self.unanswered:
                    data = connection.recv(1 << 16)
                    if not data:
                        return
                    text = (text + data.decode()).lstrip()
                    while text:
                        try:
                            answer, end = decoder.raw_decode(text)
                        except ValueError:
                            break  # the rest is on its way
                        assert answer.get("result") == "OK" and answer["id"] == self.unanswered[0], answer
                        self.oracle.acknowledge(self.unanswered.pop(0))
                        text = text[end:].lstrip()
