"""The oracle sees each breach, and finds nothing where all is well."""

import unittest

from oracle import FAILOVER, PARALLEL, ROUND_ROBIN, WINDOW, Oracle

BALANCED = {'eventvirtual_books_imbalance{book="subscriptions"}': 0, 'eventvirtual_books_imbalance{book="endpoints"}': 0,
            "eventvirtual_raises_pending": 0, 'eventvirtual_deliveries_pending{event="E"}': 0}


class OracleTest(unittest.TestCase):
    def setUp(self):
        self.oracle = Oracle("seed")
        self.oracle.subscribe("E_ALL", PARALLEL, ["a", "b"])
        self.oracle.subscribe("E_ONE", FAILOVER, ["c", "d"])
        self.oracle.subscribe("E_TURN", ROUND_ROBIN, ["e", "f"])
        self.oracle.begin_life()

    def told(self, flow, given_id=True):
        number = self.oracle.issue(flow, "producer", given_id)
        self.oracle.acknowledge(number)
        return number

    def arrives(self, number, *subscribers, **changed):
        for subscriber in subscribers:
            event = {"payload": self.oracle.payload(number), "event_id": self.oracle.event_id(number)} | changed
            self.oracle.arrived(subscriber, number, **event)

    def all_is_well(self):
        """One event more of each flow, as it should be."""
        self.arrives(self.told("E_ALL"), "a", "b")
        self.arrives(self.told("E_ONE"), "c")
        self.arrives(self.told("E_TURN"), "e")
        self.arrives(self.told("E_TURN"), "f")

    def finds(self, *breaches):
        """The verdict has these breaches, each of which is how a line begins, and no others."""
        verdict = self.oracle.verdict()
        self.assertEqual(len(verdict), len(breaches), verdict)
        for line, beginning in zip(verdict, breaches):
            self.assertTrue(line.startswith(beginning), line)

    def test_where_all_is_well_it_finds_nothing(self):
        self.all_is_well()
        self.oracle.issue("E_ALL", "producer")  # not acknowledged: may arrive, or not
        self.arrives(self.oracle.issue("E_ONE", "producer"), "d")
        self.oracle.audit(BALANCED)
        self.finds()

    def test_what_arrives_before_its_acknowledgement_is_not_owed(self):
        number = self.oracle.issue("E_ALL", "producer")
        self.arrives(number, "a", "b")
        self.oracle.acknowledge(number)
        self.all_is_well()
        self.finds()

    def test_an_acknowledged_event_that_is_nowhere_is_lost(self):
        self.told("E_ONE")
        self.all_is_well()
        self.finds("lost: event 0 of E_ONE, acknowledged to producer in life 1")

    def test_parallel_owes_an_event_to_each_subscriber(self):
        self.arrives(self.told("E_ALL"), "a")
        self.all_is_well()
        self.finds("lost: event 0 of E_ALL, acknowledged to producer in life 1, is not at b")

    def test_a_payload_that_has_changed(self):
        self.arrives(self.told("E_ALL"), "a", "b", payload="another")
        self.all_is_well()
        self.finds("altered: the payload of event 0 at a", "altered: the payload of event 0 at b")

    def test_an_id_that_is_not_the_one_it_was_raised_with(self):
        self.arrives(self.told("E_ONE"), "c", event_id="another")
        self.all_is_well()
        self.finds("altered: the id of event 0 at c in life 1: another instead of seed-0")

    def test_a_repeat_under_another_id(self):
        self.arrives(self.told("E_ONE", given_id=False), "c", event_id="made-by-the-service")
        self.oracle.begin_life()
        self.arrives(0, "d", event_id="made-again")
        self.all_is_well()
        self.finds("altered: the id of event 0 at d in life 2: made-again instead of made-by-the-service")

    def test_an_event_that_nobody_raised_or_not_for_this_subscriber(self):
        self.all_is_well()
        self.oracle.arrived("a", 99, "payload")
        self.arrives(0, "c")
        self.finds("unknown: a got event 99", "unknown: c got event 0")

    def test_arrivals_that_overtake_each_other(self):
        first, second = self.told("E_TURN"), self.told("E_TURN")
        self.arrives(second, "e")
        self.arrives(first, "e")
        self.all_is_well()
        self.finds("disorder: event 0 of producer came behind event 1 at e in life 1")

    def test_what_comes_again_in_another_order(self):
        first, second = self.told("E_ONE"), self.told("E_ONE")
        self.arrives(first, "c")
        self.arrives(second, "c")
        self.oracle.begin_life()
        self.arrives(second, "c")
        self.arrives(first, "c")
        self.all_is_well()
        self.finds("disorder: event 0 of producer came behind event 1 at c in life 2")

    def test_a_first_arrival_behind_one_of_an_earlier_life(self):
        first, second = self.told("E_ALL"), self.told("E_ALL")
        self.arrives(second, "a", "b")
        self.oracle.begin_life()
        self.arrives(first, "a", "b")
        self.all_is_well()
        self.finds("disorder: event 0 of producer came behind event 1 at a in life 2",
                   "disorder: event 0 of producer came behind event 1 at b in life 2")

    def test_order_is_each_producers_own_and_open_where_subscribers_fail_and_for_repeats(self):
        other = self.oracle.issue("E_ALL", "other")
        first, second = self.told("E_ALL"), self.told("E_ALL")
        self.arrives(first, "a", "b")
        self.arrives(other, "a", "b")
        repeated = self.oracle.issue("E_ALL", "producer")
        self.arrives(self.told("E_ALL"), "a", "b")
        self.oracle.repeat(repeated)
        self.arrives(repeated, "a", "b")
        self.oracle.begin_life(disturbed=["E_ALL"])
        self.arrives(second, "a", "b")
        self.all_is_well()
        self.finds()

    def test_after_a_crash_the_turn_may_take_what_was_out_to_another_subscriber(self):
        first, second = self.told("E_TURN"), self.told("E_TURN")
        self.arrives(second, "f")
        self.oracle.begin_life()
        self.arrives(first, "f")
        self.all_is_well()
        self.finds()

    def test_as_many_as_the_window_come_again_after_a_crash_and_no_more(self):
        for _ in range(WINDOW + 1):
            self.arrives(self.told("E_ALL"), "a", "b")
        self.oracle.begin_life()
        for number in range(WINDOW + 1):
            self.arrives(number, "a")
        for number in range(WINDOW):
            self.arrives(number, "b")
        self.all_is_well()
        self.finds("duplicates: 257 events came again at a in life 2; the bound is 256")
        self.assertEqual((self.oracle.most_again, self.oracle.twice), (257, 513))

    def test_nothing_comes_again_within_a_life(self):
        number = self.told("E_ALL")
        self.arrives(number, "a", "b", "b")
        self.all_is_well()
        self.finds("duplicates: event 0 at b in life 1 came twice in this life")

    def test_nothing_comes_again_after_a_stop_in_order(self):
        number = self.told("E_ONE")
        self.arrives(number, "c")
        self.oracle.begin_life(crashed=False)
        self.arrives(number, "d")
        self.all_is_well()
        self.finds("duplicates: 1 events came again at d in life 2; the bound is 0")

    def test_a_turn_that_does_not_go_round(self):
        for _ in range(8 * WINDOW):
            self.arrives(self.told("E_TURN"), "e")
        self.all_is_well()
        self.finds("turn: f got 1 events; its share is 1025")

    def test_nothing_arrives_after_the_end_of_the_subscription(self):
        number = self.told("E_ONE")
        self.oracle.end("E_ONE")
        self.arrives(number, "c")
        self.arrives(self.told("E_ALL"), "a", "b")
        self.arrives(self.told("E_TURN"), "e")
        self.finds("late: event 0 at c in life 1")

    def test_what_was_owed_when_it_ended_is_a_dead_letter_or_lost(self):
        kept, _ = self.told("E_ONE"), self.told("E_ONE")
        self.all_is_well()
        self.oracle.end("E_ONE")
        self.oracle.bury(kept)
        self.finds("lost: event 1 of E_ONE")

    def test_a_dead_letter_of_a_subscription_that_lives(self):
        self.all_is_well()
        self.oracle.bury(0)
        self.finds("buried: event 0 of E_ALL")

    def test_a_flow_through_which_nothing_comes_any_more(self):
        self.all_is_well()
        self.oracle.begin_life()
        self.arrives(self.told("E_ONE"), "c")
        self.arrives(self.told("E_TURN"), "f")
        self.arrives(0, "a")  # of an earlier life
        self.finds("stalled: E_ALL: nothing that was raised in life 2 has arrived")

    def test_books_that_do_not_balance(self):
        for series in BALANCED:
            with self.subTest(series):
                self.setUp()
                self.all_is_well()
                self.oracle.audit(BALANCED | {series: 1})
                self.finds("books: %s is 1" % series)
        self.setUp()
        self.all_is_well()
        self.oracle.audit({})  # a page without them proves nothing
        self.finds(*["books: eventvirtual_"] * 3)

    def test_a_thousand_breaches_are_some_lines_and_a_number(self):
        for _ in range(1000):
            self.told("E_ONE")
        self.all_is_well()
        self.finds(*["lost: event"] * 20, "lost: 980 more")


if __name__ == "__main__":
    unittest.main()
