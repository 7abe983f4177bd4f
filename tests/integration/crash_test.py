"""kill -9 at random moments, again and again, and the oracle says whether durable delivery held.

A hundred cycles; with SOAK=1 a thousand, and a million acknowledged events (./dev soak crash_test). CRASH_SEED=N repeats
the choices of a run, which prints its seed; what the machine does in between is its own. CRASH_CYCLES=N: so many.

Four durable subscriptions, each with its own producers, over transports that tell what arrived:

  E_CDR    PARALLEL     unix, flatstore          raised by RaiseStream, WAIT_DURABLE, some batches ahead
  E_CALL   FAILOVER     http, unix               by single calls, WAIT_DURABLE and WAIT_DELIVERED; the http receiver is sometimes down, or dies
  E_PIKE   ROUND-ROBIN  tcp with answers, file   by OpenSIPS' reliable tcp ingest
  E_TAIL   PARALLEL     stream, unix             by single calls; the listener is sometimes away

and now and then one that expires with a backlog. A life ends under load; or while it starts (also the very first), which
includes the check and the recovery of the journal; or while SQLite moves its log into the file. Half of the producers
raise again what was not answered when their service died, under the same id, as a producer should.
"""

import itertools
import json
import os
import queue
import random
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import unittest

import grpc

from oracle import FAILOVER, PARALLEL, ROUND_ROBIN, Oracle
from servers import Receiver
from service import SERVER, Service, event, eventually, operator, samples_of, subscription

SOAK = os.environ.get("SOAK") == "1"
CYCLES = int(os.environ.get("CRASH_CYCLES") or (1000 if SOAK else 100))
AT_LEAST = CYCLES * (1000 if SOAK else 0)  # acknowledged events
MEAN = 1500 if SOAK else 100               # acknowledged events of one life under load
SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(1 << 32))
PATIENCE = 120                             # seconds for what takes one

ESTABLISHED, CLOSE_WAIT = "01", "08"  # include/net/tcp_states.h




# --- subscribers: each has a `uri`. When the service is dead, settle() returns when all that it had sent has been recorded;
# take() gives what has arrived since the last look: number, payload, and the event's id where the wire shows it.


class Lines:
    """The whole lines that a file has got since the last look."""

    def __init__(self, path):
        self.path, self.offset = path, 0

    def take(self, dead):
        """`dead`: nobody writes now. What stands behind the last newline was torn by a kill; its writer ends it with one."""
        if not os.path.exists(self.path):
            return []
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self.offset += len(data) if dead else end
        return [line for line in data[:end].decode().splitlines() if line]


class File:
    """flatstore."""

    def __init__(self):
        self.lines = Lines(os.path.join(tempfile.mkdtemp(prefix="ev", dir="/tmp"), "file"))
        self.uri = "flatstore:%s?timeout=60s" % self.lines.path

    def settle(self):
        pass

    def take(self, dead):
        for line in self.lines.take(dead):
            _, number, payload = line.split(",", 2)
            yield int(number), payload, None


class Peer:
    """A receiver in a process of its own: http, tcp or unix."""

    def __init__(self, kind):
        self.kind, self.receiver, self.up, self.marks = kind, Receiver(kind), True, 0
        self.lines = Lines(self.receiver.record)
        self.uri = self.receiver.uri + ("&timeout=60s" if kind == "tcp" else "?encoding=json&timeout=60s")

    def settle(self):
        what = "the %s receiver has read all that the dead service sent" % self.kind
        if self.kind == "unix":  # a datagram of ours, behind those of the service
            self.marks += 1
            mark = json.dumps({"mark": self.marks}).encode()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.connect(self.receiver.path)
                sender.sendall(mark)
            eventually(lambda: self._ends_with(mark + b"\n"), what, PATIENCE)
        elif self.up:
            eventually(self._is_left, what, PATIENCE)

    def _ends_with(self, mark):
        with open(self.lines.path, "rb") as file:
            file.seek(max(0, os.path.getsize(self.lines.path) - len(mark)))
            return file.read() == mark

    def _is_left(self):
        """It has closed each connection, read to its end; those that it has not taken yet count, too."""
        with open("/proc/net/tcp") as sockets:
            fields = [line.split() for line in sockets]
        return not any(f[1].endswith(":%04X" % self.receiver.port) and f[3] in (ESTABLISHED, CLOSE_WAIT) for f in fields)

    def take(self, dead):
        for line in self.lines.take(dead):
            got = json.loads(line)
            if "mark" not in got:
                yield int(got["params"]["n"]), got["params"]["payload"], got.get("event_id")

    def die(self):
        if self.up:
            self.receiver.kill()
            self.up = False

    def return_(self):
        if not self.up:
            self.receiver.start()
            self.up = True


class Listener:
    """stream:NAME."""

    def __init__(self, name):
        self.name, self.uri = name, "stream:%s?timeout=60s" % name
        self.arrived, self.taken, self.thread = [], 0, None

    def listen_to(self, service):
        self.thread = threading.Thread(target=self._run, args=(service,), daemon=True)
        self.thread.start()

    def _run(self, service):
        answers = queue.Queue()
        answers.put(event.ListenRequest(name=self.name))
        try:
            for delivery in service.events.Listen(iter(answers.get, None)):
                number, payload = (param.string_value for param in delivery.event.params)
                self.arrived.append((int(number), payload, delivery.event.event_id))
                answers.put(event.ListenRequest(acks=[delivery.delivery_id]))
        except (grpc.RpcError, ValueError):
            pass  # the service has died, and its channel may be closed already
        answers.put(None)

    def settle(self):
        if self.thread is not None:
            self.thread.join(PATIENCE)
            assert not self.thread.is_alive(), "the listener does not end"
            self.thread = None

    def take(self, dead):
        new, self.taken = self.arrived[self.taken:], len(self.arrived)
        return new


# --- producers: each raises one event after the other, over all lives of the service


class Producer:
    """`unanswered`: those whose service died; they are raised again first, or given up, as `repeats` says."""

    def __init__(self, oracle, flow, name, repeats):
        self.oracle, self.flow, self.name, self.repeats = oracle, flow, name, repeats
        self.unanswered, self.fault, self.thread = [], None, None

    def start(self, service, most=None):
        """Raises until the service dies, or, after what was unanswered, `most` new ones."""
        again = self.unanswered if self.repeats else []
        for number in again:
            self.oracle.repeat(number)
        self.unanswered, self.left = [], most
        self.thread = threading.Thread(target=self._run, args=(service, again), daemon=True)
        self.thread.start()

    def join(self):
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), self.name + " does not end"
        assert self.fault is None, self.fault

    def numbers(self, again):
        yield from again
        while self.left is None or self.left > 0:
            self.left = self.left and self.left - 1
            yield self.oracle.issue(self.flow, self.name, self.gives_ids)

    gives_ids = True

    def fill(self, wire, number):
        wire.name, wire.event_id = self.flow, self.oracle.event_id(number)
        wire.params.add(name="n", string_value=str(number))
        wire.params.add(name="payload", string_value=self.oracle.payload(number))

    def _run(self, service, again):
        try:
            self.work(service, again)
        except (grpc.RpcError, OSError) as error:  # it has died, if it may
            died = not isinstance(error, grpc.RpcError) or error.code() == grpc.StatusCode.UNAVAILABLE
            if not died or self.left is not None:
                self.fault = "%s: %r" % (self.name, error)
        except AssertionError as error:
            self.fault = "%s: %s" % (self.name, error)


class Caller(Producer):
    """Single calls. An answer of WAIT_DELIVERED is an acknowledgement, too, however the first round has ended."""

    def __init__(self, *of_producer, wait=event.WAIT_DURABLE):
        super().__init__(*of_producer)
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


class Expiring:
    """A subscription that expires with a backlog: its receiver is away until then."""

    TTL, EVENTS = 5, 20

    def __init__(self, oracle, service, number):
        self.oracle, self.flow = oracle, "E_SHORT.%d" % number
        self.path = os.path.join(tempfile.mkdtemp(prefix="ev", dir="/tmp"), "socket")
        self.socket = None
        oracle.subscribe(self.flow, PARALLEL, [self.flow])
        subscribe(service, self.flow, "unix:%s?encoding=json" % self.path, ttl=self.TTL)
        self.over = time.monotonic() + self.TTL
        caller = Caller(oracle, self.flow, self.flow, False)
        caller.start(service, self.EVENTS)
        caller.join()

    def is_over(self):
        return time.monotonic() > self.over

    def open(self):
        """The service is dead, and will find it expired. Now there is a receiver."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)
        self.oracle.end(self.flow)

    def await_burial(self, service):
        eventually(lambda: len(dead_letters(service, self.flow)) >= len(self.oracle.owed(self.flow)),
                   "the backlog of %s is dead letters" % self.flow, PATIENCE)
        for number in dead_letters(service, self.flow):
            self.oracle.bury(number)

    def settle(self):
        pass

    def take(self, dead):
        while self.socket is not None:
            try:
                got = json.loads(self.socket.recv(1 << 16))
            except BlockingIOError:
                return
            yield int(got["params"]["n"]), got["params"]["payload"], got["event_id"]


def subscribe(service, name, socket_text, ttl=None):
    request = subscription.SubscribeRequest()
    request.subscription.event, request.subscription.socket = name, socket_text
    request.subscription.delivery.durable = True
    if ttl is None:
        request.subscription.never_expires = True
    else:
        request.subscription.ttl.FromSeconds(ttl)
    service.subscriptions.Subscribe(request, timeout=PATIENCE)


def dead_letters(service, flow=""):
    """The numbers of the events that are dead letters."""
    numbers, token = [], ""
    while True:
        page = service.operators.ListDeadLetters(
            operator.ListDeadLettersRequest(page_size=1000, page_token=token, event=flow), timeout=PATIENCE)
        numbers += [int(letter.event.params[0].string_value) for letter in page.dead_letters]
        token = page.next_page_token
        if not token:
            return numbers


class CrashTest(unittest.TestCase):
    def setUp(self):
        print("CRASH_SEED=%d" % SEED, flush=True)
        self.chance = random.Random(SEED)
        self.data = os.path.join(tempfile.mkdtemp(prefix="ev", dir="/tmp"), "data")
        self.flags = ["--data_dir=" + self.data, "--ingest=tcp:127.0.0.1:0"]
        self.oracle = Oracle("s%d" % SEED)
        self.starts = []     # seconds until it was ready
        self.ends = {"load": 0, "start": 0, "checkpoint": 0}
        self.subscribers = {"cdr-unix": Peer("unix"), "cdr-file": File(), "call-http": Peer("http"), "call-unix": Peer("unix"),
                            "pike-tcp": Peer("tcp"), "pike-file": File(), "tail-stream": Listener("tail"),
                            "tail-unix": Peer("unix")}
        self.flows = (("E_CDR", PARALLEL, ["cdr-unix", "cdr-file"]), ("E_CALL", FAILOVER, ["call-http", "call-unix"]),
                      ("E_PIKE", ROUND_ROBIN, ["pike-tcp", "pike-file"]), ("E_TAIL", PARALLEL, ["tail-stream", "tail-unix"]))
        for name, policy, subscribers in self.flows:
            self.oracle.subscribe(name, policy, subscribers)
        for peer in self.subscribers.values():
            if isinstance(peer, Peer):
                self.addCleanup(peer.die)
        self.producers = [Streamer(self.oracle, "E_CDR", "streamer-1", True), Streamer(self.oracle, "E_CDR", "streamer-2", False),
                          Caller(self.oracle, "E_CALL", "caller-1", True, wait=event.WAIT_DELIVERED),
                          Caller(self.oracle, "E_CALL", "caller-2", False), Proxy(self.oracle, "E_PIKE", "proxy", False),
                          Caller(self.oracle, "E_TAIL", "caller-3", True)]
        self.expiring = None

    def collect(self, dead):
        for name, subscriber in self.subscribers.items():
            if dead:
                subscriber.settle()
            for number, payload, event_id in subscriber.take(dead):
                self.oracle.arrived(name, number, payload, event_id)

    def await_arrivals(self):
        """Until nothing is owed. Gives up, and leaves it to the verdict, when nothing comes for longer than any pause between
        two rounds (30 s)."""
        owed, end = None, 0
        while owed is None or owed and time.monotonic() < end:
            self.collect(dead=False)
            left = len(self.oracle.owed())
            if left != owed:
                owed, end = left, time.monotonic() + PATIENCE / 2
            time.sleep(0.02)  # between two looks

    def start(self):
        begin = time.monotonic()
        service = Service(*self.flags)
        self.addCleanup(service.process.kill)  # of the last, when a check has failed
        self.starts.append(time.monotonic() - begin)
        return service

    def begin_life(self, disturbed, crashed=True):
        # The listener comes when the service is there already, and until then rounds fail.
        self.oracle.begin_life(crashed, {"E_TAIL"} | disturbed)

    def die_while_starting(self):
        """kill -9 at some moment of a start, or shortly after it."""
        self.begin_life(set() if self.subscribers["call-http"].up else {"E_CALL"})
        with open(os.path.join(os.path.dirname(self.data), "log"), "a") as log:
            process = subprocess.Popen([SERVER, "--listen=127.0.0.1:0", "--allow_directory=/tmp", *self.flags], stderr=log)
        usual = statistics.median(self.starts[-20:]) if self.starts else 0.2
        try:
            process.wait(self.chance.uniform(0, 1.3 * usual))
            self.fail("it ended by itself with %d: %s" % (process.returncode, log.name))
        except subprocess.TimeoutExpired:
            pass
        process.kill()
        process.wait()
        self.ends["start"] += 1

    def live_under_load(self):
        http = self.subscribers["call-http"]
        http.return_()
        trouble = self.chance.random()  # for E_CALL: the receiver is away, or dies
        if trouble < 0.08:
            http.die()
        self.begin_life({"E_CALL"} if trouble < 0.16 else set())
        service = self.start()
        if self.oracle.acknowledged == 0:
            for name, policy, subscribers in self.flows:
                subscribe(service, name, "virtual:%s %s" % (policy, " ".join(self.subscribers[s].uri for s in subscribers)))
        if self.chance.random() < 0.7:
            self.subscribers["tail-stream"].listen_to(service)
        self.attend_expiring(service)
        kind = "checkpoint" if self.chance.random() < (0.1 if SOAK else 0.05) else "load"
        target = self.oracle.acknowledged + self.chance.randrange(1, 2 * MEAN)
        written = self.checkpoints()
        for producer in self.producers:
            producer.start(service)
        died = trouble >= 0.16 or trouble < 0.08
        end = time.monotonic() + PATIENCE
        while self.checkpoints() == written if kind == "checkpoint" else self.oracle.acknowledged < target:
            if not died and self.oracle.acknowledged > target - MEAN / 2:
                http.die()
                died = True
            if kind == "checkpoint" and time.monotonic() > end - 0.8 * PATIENCE:
                kind = "load"  # too slow a machine to fill the log
            self.assertLess(time.monotonic(), end, "events are acknowledged")
            self.assertIsNone(service.process.poll(), "it ended by itself: " + service.log.name)
            time.sleep(0.001)  # between two looks
        service.process.kill()
        service.process.wait()
        self.ends[kind] += 1
        for producer in self.producers:
            producer.join()
        service.kill()  # the books that were looked at meanwhile

    def checkpoints(self):
        """Changes when SQLite moves its log into the file, which it does some 16 MB at a time."""
        return os.stat(os.path.join(self.data, "journal.db")).st_mtime_ns

    def attend_expiring(self, service):
        if self.expiring is None:
            if self.chance.random() < 0.15:
                self.expiring = Expiring(self.oracle, service, self.oracle.life)
                self.subscribers[self.expiring.flow] = self.expiring
        elif self.expiring.socket is not None:
            self.expiring.await_burial(service)
            self.expiring = None

    def test_what_was_acknowledged_is_delivered_whatever_kills_the_service(self):
        while sum(self.ends.values()) < CYCLES or self.oracle.acknowledged < AT_LEAST:
            if self.expiring is not None and self.expiring.socket is None and self.expiring.is_over():
                self.expiring.open()
            if self.chance.random() < (0.2 if self.starts else 0.7):
                self.die_while_starting()
            else:
                self.live_under_load()
            self.collect(dead=True)
            if SOAK and self.oracle.life % 50 == 0:
                print("life %d: %d acknowledged" % (self.oracle.life, self.oracle.acknowledged), flush=True)

        # The last life delivers all, and something fresh; the one after a stop in order, nothing again.
        for crashed in (True, False):
            self.subscribers["call-http"].return_()
            if self.expiring is not None and self.expiring.socket is None:
                eventually(self.expiring.is_over, "the last subscription expires")
                self.expiring.open()
            self.begin_life(set(), crashed)
            service = self.start()
            self.subscribers["tail-stream"].listen_to(service)
            if self.expiring is not None:
                self.expiring.await_burial(service)
                self.expiring = None
            for producer in self.producers:
                producer.start(service, 5)
            for producer in self.producers:
                producer.join()
            self.await_arrivals()
            eventually(lambda: service.get("/metrics")[0] == 200, "metrics")
            samples, _ = samples_of(service.get("/metrics")[1])
            self.oracle.audit(samples)
            for number in dead_letters(service):
                self.oracle.bury(number)
            self.assertEqual(service.stop(), 0)
            self.collect(dead=True)
        print("%d kill -9 (%s), %d events acknowledged, %d came twice, at most %d at one subscriber after one crash; "
              "ready again after %.3f s (median), %.3f s (longest)" % (
                  sum(self.ends.values()), ", ".join("%d %s" % (n, kind) for kind, n in self.ends.items()),
                  self.oracle.acknowledged, self.oracle.twice, self.oracle.most_again,
                  statistics.median(self.starts), max(self.starts)), flush=True)
        breaches = self.oracle.verdict()
        if breaches:
            self.fail("\n%s\nCRASH_SEED=%d; the journal is in %s" % ("\n".join(breaches), SEED, self.data))


if __name__ == "__main__":
    unittest.main()
