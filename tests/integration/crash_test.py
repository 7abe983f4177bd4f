"""kill -9 at random moments, again and again, and the oracle says whether durable delivery held.

A hundred cycles; with SOAK=1 a thousand, and a million acknowledged events (./dev soak crash_test). CRASH_SEED=N repeats
the choices of a run, which prints its seed; what the machine does in between is its own. CRASH_CYCLES=N: so many.

Four durable subscriptions, each with its own producers, over transports that tell what arrived:

  E_CDR    PARALLEL     unix, flatstore                by RaiseStream, WAIT_DURABLE, some batches ahead of the answers
  E_CALL   FAILOVER     http (sometimes down), unix    by single calls, WAIT_DURABLE and WAIT_DELIVERED
  E_PIKE   ROUND-ROBIN  tcp with answers, flatstore    by OpenSIPS' reliable tcp ingest
  E_TAIL   PARALLEL     stream (sometimes away), unix  by single calls, WAIT_DURABLE

and now and then one that expires with a backlog. A life ends under load; or while it starts (also the very first), which
includes the check and the recovery of the journal; or while SQLite moves its log into the file. Half of the producers
raise again what was not answered when their service died, under the same id, as a producer should.
"""

import json
import os
import random
import socket
import statistics
import subprocess
import tempfile
import time
import unittest

from oracle import FAILOVER, PARALLEL, ROUND_ROBIN, Oracle
from producers import Caller, Proxy, Streamer
from service import SERVER, Service, event, eventually, operator, samples_of, subscription
from subscribers import PATIENCE, File, Listener, Peer

SOAK = os.environ.get("SOAK") == "1"
CYCLES = int(os.environ.get("CRASH_CYCLES") or (1000 if SOAK else 100))
AT_LEAST = CYCLES * (1000 if SOAK else 0)  # acknowledged events
MEAN = 1500 if SOAK else 100               # acknowledged events of one life under load
CHECKPOINTS = 0.1 if SOAK else 0.05        # of those lives, that end in one
SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(1 << 32))


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
        caller = Caller(oracle, self.flow, self.flow, repeats=False)
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
        self.subscribers = {"cdr-unix": Peer("unix"), "cdr-file": File(),
                            "call-http": Peer("http"), "call-unix": Peer("unix"),
                            "pike-tcp": Peer("tcp"), "pike-file": File(),
                            "tail-stream": Listener("tail"), "tail-unix": Peer("unix")}
        self.flows = (("E_CDR", PARALLEL, ["cdr-unix", "cdr-file"]),
                      ("E_CALL", FAILOVER, ["call-http", "call-unix"]),
                      ("E_PIKE", ROUND_ROBIN, ["pike-tcp", "pike-file"]),
                      ("E_TAIL", PARALLEL, ["tail-stream", "tail-unix"]))
        for name, policy, subscribers in self.flows:
            self.oracle.subscribe(name, policy, subscribers)
        for peer in self.subscribers.values():
            if isinstance(peer, Peer):
                self.addCleanup(peer.die)
        self.producers = [Streamer(self.oracle, "E_CDR", "streamer-1", repeats=True),
                          Streamer(self.oracle, "E_CDR", "streamer-2", repeats=False),
                          Caller(self.oracle, "E_CALL", "caller-1", repeats=True, wait=event.WAIT_DELIVERED),
                          Caller(self.oracle, "E_CALL", "caller-2", repeats=False),
                          Proxy(self.oracle, "E_PIKE", "proxy", repeats=False),
                          Caller(self.oracle, "E_TAIL", "caller-3", repeats=True)]
        self.expiring = None

    def collect(self, dead):
        for name, subscriber in self.subscribers.items():
            if dead:
                subscriber.settle()
            for number, payload, event_id in subscriber.take(dead):
                self.oracle.arrived(name, number, payload, event_id)

    def await_arrivals(self):
        """Until nothing is owed. Gives up, and leaves it to the verdict, when nothing comes for longer than any pause
        between two rounds (30 s)."""
        owed, end = None, 0
        while owed is None or owed and time.monotonic() < end:
            self.collect(dead=False)
            left = len(self.oracle.owed())
            if left != owed:
                owed, end = left, time.monotonic() + PATIENCE / 2
            time.sleep(0.02)  # between two looks

    def metrics_at_rest(self, service):
        """When what nobody was told of has been delivered, too; or, for the verdict, as they are after a while."""
        end = time.monotonic() + PATIENCE
        while True:
            status, text = service.get("/metrics")
            samples, _ = samples_of(text if status == 200 else "")
            if samples and not any(value for series, value in samples.items() if self.oracle.is_pending(series)):
                return samples
            if time.monotonic() > end:
                return samples
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
                uris = " ".join(self.subscribers[subscriber].uri for subscriber in subscribers)
                subscribe(service, name, "virtual:%s %s" % (policy, uris))
        if self.chance.random() < 0.7:
            self.subscribers["tail-stream"].listen_to(service)
        self.attend_expiring(service)
        kind = "checkpoint" if self.chance.random() < CHECKPOINTS else "load"
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
            self.oracle.audit(self.metrics_at_rest(service))
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
