"""The oracle of durable delivery: what was acknowledged, what arrived, and every way in which the two do not agree.

It hands out the events, so it knows what each has to look like; each acknowledgement is an obligation; each arrival is
told to it in the order in which it came. `verdict()` gives the breaches, a line each:

  lost         acknowledged, and not where the policy owes it: everywhere (PARALLEL), or anywhere (FAILOVER, ROUND-ROBIN)
  altered      the payload, or the id, is not the one it was raised with; a repeat has another id than the first
  unknown      nobody raised it, or not for this subscriber
  disorder     within a life, arrivals at a subscriber are not in the order in which their producer raised them; for PARALLEL
               neither are first arrivals over all lives. (The others may take what was out at a crash to another subscriber)
  duplicates   more came again after a crash than the bound; or anything came again within a life, or after a stop in order
  turn         a subscriber of a ROUND-ROBIN got less than half of its share
  late         it arrived after the subscription had ended
  buried       a dead letter, though its subscription has not ended
  stalled      no event of the last life came through: nothing flows any more
  books        the service's own counts do not balance
"""

import collections
import hashlib
import threading

WINDOW = 256  # DurableQueue::kWindow: what may come again after a crash, at each subscriber
SHOWN = 20    # breaches of one kind that are kept as text; the others are counted

PARALLEL, FAILOVER, ROUND_ROBIN = "PARALLEL", "FAILOVER", "ROUND-ROBIN"


class Flow:
    """What the oracle knows of one subscription and the events it matches."""

    def __init__(self, name, policy, subscribers):
        self.name, self.policy, self.subscribers = name, policy, subscribers
        self.ended = self.disturbed = False
        # PARALLEL owes an event to each subscriber, the others owe it once.
        self.seen = {place: set() for place in (subscribers if policy == PARALLEL else [name])}
        self.owed = {place: set() for place in self.seen}
        self.last = {}  # of each subscriber and producer, the last first arrival
        self.last_in_life = {}  # and the last of this life
        self.arrivals = collections.Counter()  # by subscriber
        self.fresh = 0  # arrivals of events that were raised in this life

    def place(self, subscriber):
        return subscriber if self.policy == PARALLEL else self.name


class Oracle:
    """`seed` makes the ids and payloads of one run differ from those of another. Any thread may issue and acknowledge; all
    else is one thread's."""

    def __init__(self, seed, window=WINDOW):
        self.seed, self.window = seed, window
        self.flows, self.flow_of_subscriber = {}, {}
        self.lock = threading.Lock()
        self.issued = []  # by number: flow, producer, life, whether it was given an id
        self.repeated = set()
        self.acknowledged = 0
        self.ids = {}  # of events without a given one, by number, as they first arrived
        self.life, self.crashed, self.again, self.in_life = 0, False, collections.Counter(), collections.defaultdict(set)
        self.most_again = 0  # in one life at one subscriber
        self.twice = 0
        self.breaches = collections.defaultdict(list)
        self.counts = collections.Counter()

    # --- what is raised

    def subscribe(self, name, policy, subscribers):
        """A durable subscription to the event `name`, by subscribers that belong to no other."""
        flow = self.flows[name] = Flow(name, policy, subscribers)
        self.flow_of_subscriber.update(dict.fromkeys(subscribers, flow))

    def issue(self, flow, producer, given_id=True):
        """The number of a new event, to be raised by `producer`, which raises one after the other."""
        with self.lock:
            self.issued.append((self.flows[flow], producer, self.life, given_id))
            return len(self.issued) - 1

    def event_id(self, number):
        return "%s-%d" % (self.seed, number)

    def payload(self, number):
        """Text that JSON has to escape and flatstore has not to change, from 30 to 500 bytes."""
        text = hashlib.md5(self.event_id(number).encode()).hexdigest()
        return "%s \"\\ ü %s" % (text, text * (number % 15))

    def acknowledge(self, number):
        with self.lock:
            flow = self.issued[number][0]
            self.acknowledged += 1
            for place, seen in flow.seen.items():
                if number not in seen:
                    flow.owed[place].add(number)

    def repeat(self, number):
        """It is raised again under its id, because its first answer was a failure or none; its place in the order is open."""
        self.repeated.add(number)

    # --- what happens

    def begin_life(self, crashed=True, disturbed=()):
        """The service is started; `crashed`: it was killed before. In `disturbed` flows subscribers fail in this life, so that
        the order is open."""
        self._end_life()
        self.life += 1
        self.crashed = crashed
        for flow in self.flows.values():
            flow.disturbed, flow.fresh = flow.name in disturbed, 0
            flow.last_in_life.clear()

    def _end_life(self):
        for subscriber, again in self.again.items():
            self.most_again = max(self.most_again, again)
            bound = self.window if self.crashed else 0
            if again > bound:
                self._breach("duplicates", "%d events came again at %s in life %d; the bound is %d" % (
                    again, subscriber, self.life, bound))
        self.again.clear()
        self.in_life.clear()

    def arrived(self, subscriber, number, payload, event_id=None):
        """`event_id`: None where the wire does not show it."""
        flow = self.flow_of_subscriber[subscriber]
        if not 0 <= number < len(self.issued) or self.issued[number][0] is not flow:
            return self._breach("unknown", "%s got event %d" % (subscriber, number))
        _, _, life, given_id = self.issued[number]
        where = "event %d at %s in life %d" % (number, subscriber, self.life)
        if payload != self.payload(number):
            self._breach("altered", "the payload of %s: %r" % (where, payload[:100]))
        expected = self.event_id(number) if given_id else self.ids.setdefault(number, event_id or "")
        if event_id is not None and event_id != expected:
            self._breach("altered", "the id of %s: %s instead of %s" % (where, event_id, expected))
        if flow.ended:
            self._breach("late", "%s: its subscription has ended" % where)
        flow.arrivals[subscriber] += 1
        flow.fresh += life == self.life
        if number in self.in_life[subscriber]:
            self._breach("duplicates", "%s came twice in this life" % where)
        self.in_life[subscriber].add(number)
        self._check_order(flow, flow.last_in_life, subscriber, number)
        place = flow.place(subscriber)
        if number in flow.seen[place]:
            self.again[subscriber] += 1
            self.twice += 1
            return
        flow.seen[place].add(number)
        flow.owed[place].discard(number)
        if flow.policy == PARALLEL:
            self._check_order(flow, flow.last, subscriber, number)

    def _check_order(self, flow, lasts, subscriber, number):
        producer = self.issued[number][1]
        last = lasts.get((subscriber, producer), -1)
        if number < last and not flow.disturbed and number not in self.repeated:
            self._breach("disorder", "event %d of %s came behind event %d at %s in life %d" % (
                number, producer, last, subscriber, self.life))
        lasts[subscriber, producer] = max(last, number)

    def end(self, flow):
        """The subscription has ended: from now on nothing may arrive, and what is owed must become dead letters."""
        self.flows[flow].ended = True

    def bury(self, number):
        """It is a dead letter."""
        flow = self.issued[number][0]
        if not flow.ended:
            self._breach("buried", "event %d of %s" % (number, flow.name))
        for owed in flow.owed.values():
            owed.discard(number)

    def audit(self, samples):
        """The metrics of a service that has nothing to do any more, by series."""
        for book in ("subscriptions", "endpoints"):
            self._account('eventvirtual_books_imbalance{book="%s"}' % book, samples)
        for series in sorted({"eventvirtual_raises_pending", *filter(self.is_pending, samples)}):
            self._account(series, samples)

    @staticmethod
    def is_pending(series):
        """Whether it counts what is still on its way."""
        return series.startswith(("eventvirtual_raises_pending", "eventvirtual_deliveries_pending"))

    def _account(self, series, samples):
        if samples.get(series) != 0:
            self._breach("books", "%s is %s" % (series, samples.get(series)))

    # --- what it comes to

    def owed(self, flow=None):
        """(number, place) of what was acknowledged and has not arrived: of `flow`, or of all."""
        flows = [self.flows[flow]] if flow else self.flows.values()
        return [(number, place) for f in flows for place, numbers in f.owed.items() for number in numbers]

    def _breach(self, kind, text):
        self.counts[kind] += 1
        if len(self.breaches[kind]) < SHOWN:
            self.breaches[kind].append("%s: %s" % (kind, text))

    def verdict(self):
        """All breaches; nothing: it holds. Once, at the end."""
        self._end_life()
        for number, place in sorted(self.owed()):
            flow, producer, life, _ = self.issued[number]
            self._breach("lost", "event %d of %s, acknowledged to %s in life %d, is not at %s" % (
                number, flow.name, producer, life, place))
        for flow in self.flows.values():
            if flow.ended:
                continue
            if flow.fresh == 0:
                self._breach("stalled", "%s: nothing that was raised in life %d has arrived" % (flow.name, self.life))
            if flow.policy == ROUND_ROBIN:
                share = sum(flow.arrivals.values()) / len(flow.subscribers)
                for subscriber in flow.subscribers:
                    if flow.arrivals[subscriber] < share / 2 - self.window:
                        self._breach("turn", "%s got %d events; its share is %d" % (
                            subscriber, flow.arrivals[subscriber], share))
        return [text for kind, texts in self.breaches.items()
                for text in texts + ["%s: %d more" % (kind, self.counts[kind] - len(texts))] * (self.counts[kind] > SHOWN)]
