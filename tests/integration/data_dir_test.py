"""--data_dir: what was acknowledged is there after kill -9, what ended has ended, also when it dies again and again."""

import os
import random
import tempfile
import threading
import time
import unittest

import grpc

from service import Service, eventually, subscription

LIVES = 12


class Client(threading.Thread):
    """Subscribes and unsubscribes until the service dies. `told`: of each id whether it exists, as acknowledged last;
    what was asked for and not answered may be either."""

    def __init__(self, service, number, told):
        super().__init__(daemon=True)
        self.service, self.number, self.told, self.unknown = service, number, told, set()
        self.random = random.Random(number)

    def run(self):
        try:
            while True:
                name = "c%d-%d" % (self.number, self.random.randrange(200))
                self.unknown = {name}
                if self.told.get(name) and self.random.random() < 0.5:
                    self.service.subscriptions.Unsubscribe(
                        subscription.UnsubscribeRequest(name="subscriptions/" + name), timeout=10)
                    self.told[name] = False
                else:
                    request = subscription.SubscribeRequest(subscription_id=name)
                    request.subscription.event = "E_" + name
                    request.subscription.socket = "flatstore:/tmp/never-written-%s" % name
                    request.subscription.ttl.FromSeconds(3600 + self.random.randrange(3600))
                    self.service.subscriptions.Subscribe(request, timeout=10)
                    self.told[name] = True
                self.unknown = set()
        except grpc.RpcError:
            pass  # it has died


class DataDirTest(unittest.TestCase):
    def setUp(self):
        self.data = os.path.join(tempfile.mkdtemp(prefix="ev", dir="/tmp"), "data")

    def listed(self, service):
        found, token = {}, ""
        while True:
            page = service.subscriptions.ListSubscriptions(
                subscription.ListSubscriptionsRequest(page_size=1000, page_token=token), timeout=10)
            found.update({s.name[len("subscriptions/"):]: s for s in page.subscriptions})
            token = page.next_page_token
            if not token:
                return found

    def test_what_was_acknowledged_survives_kill_9(self):
        told, clients, acknowledged = {}, [], 0
        chance = random.Random(1)
        for life in range(LIVES):
            service = Service("--data_dir=" + self.data)
            found = self.listed(service)
            unknown = set().union(*(client.unknown for client in clients))
            for name, exists in told.items():
                if name not in unknown:
                    self.assertEqual(name in found, exists, "%s in life %d" % (name, life))
            self.assertEqual(set(found) - set(told) - unknown, set(), "nobody asked for these")
            for name in unknown:
                told[name] = name in found
            clients = [Client(service, number, told) for number in range(4)]
            before = dict(told)
            for client in clients:
                client.start()
            at_least = chance.randrange(1, 100)
            eventually(lambda: sum(before.get(k) != v for k, v in dict(told).items()) >= at_least or
                       not any(c.is_alive() for c in clients), "something happens")
            service.kill()
            for client in clients:
                client.join(timeout=20)
                self.assertFalse(client.is_alive())
            acknowledged += sum(before.get(k) != v for k, v in told.items())
        print("%d lives, at least %d changes acknowledged, none lost" % (LIVES, acknowledged))

    def test_the_time_that_is_left_goes_on_and_a_restart_in_order_keeps_all(self):
        service = Service("--data_dir=" + self.data, "--sync=normal")
        service.subscribe("E_LONG", "virtual:FAILOVER rabbitmq:me:s3cr3t@127.0.0.1:1/q flatstore:/tmp/x", ttl=1000)
        service.subscribe("E_SHORT", "flatstore:/tmp/y", ttl=5)
        subscribed = time.monotonic()
        created = self.listed(service)
        service.kill()
        self.assertEqual(os.stat(os.path.join(self.data, "journal.db")).st_mode & 0o777, 0o600)
        eventually(lambda: time.monotonic() > subscribed + 5, "the short one is over")
        service = Service("--data_dir=" + self.data, "--transport_defaults=rabbitmq:timeout=7s")
        found = self.listed(service)
        self.assertEqual([s.event for s in found.values()], ["E_LONG"])
        Response = subscription.WatchSubscriptionsResponse

        def told():
            watch = service.subscriptions.WatchSubscriptions(subscription.WatchSubscriptionsRequest(), timeout=60)
            changes = [next(watch), next(watch)]  # the one that lives, and SYNCED
            service.subscribe("E_NEXT", "flatstore:/tmp/z")
            while changes[-1].subscription.event != "E_NEXT":
                changes.append(next(watch))
            watch.cancel()
            return [(c.change, c.subscription.event) for c in changes if c.change == Response.CHANGE_EXPIRED]
        self.assertEqual(told(), [(Response.CHANGE_EXPIRED, "E_SHORT")])
        service.subscriptions.Unsubscribe(subscription.UnsubscribeRequest(match=subscription.Subscription(
            event="E_NEXT", socket="flatstore:/tmp/z")), timeout=10)
        self.assertEqual(told(), [], "once")
        service.subscriptions.Unsubscribe(subscription.UnsubscribeRequest(match=subscription.Subscription(
            event="E_NEXT", socket="flatstore:/tmp/z")), timeout=10)
        (name, long), = found.items()
        self.assertEqual(long.socket, created[name].socket)
        self.assertLess(long.remaining_ttl.seconds, 1000)
        self.assertGreater(long.remaining_ttl.seconds, 900)
        self.assertEqual(long.create_time.seconds, created[name].create_time.seconds)
        self.assertNotIn("s3cr3t", service.logs("expired while the service was down"))
        # The same again is the same: the restored one is found and refreshed.
        again = service.subscribe("E_LONG", "virtual:FAILOVER rabbitmq:me:s3cr3t@127.0.0.1:1/q?timeout=2s flatstore:/tmp/x")
        self.assertFalse(again.created)
        self.assertEqual(service.stop(), 0)
        service = Service("--data_dir=" + self.data)
        self.assertEqual(list(self.listed(service)), [name])
        self.assertEqual(service.stop(), 0)

    def test_more_subscriptions_than_sqlite_sorts_in_its_cache_are_there_again(self):
        service = Service("--data_dir=" + self.data)
        calls = []
        for number in range(20000):
            request = subscription.SubscribeRequest()
            request.subscription.event, request.subscription.socket = "E_%d" % number, "udp:127.0.0.1:9"
            request.subscription.ttl.FromSeconds(3600)
            calls.append(service.subscriptions.Subscribe.future(request, timeout=60))
            if len(calls) > 500:
                calls.pop(0).result()
        for call in calls:
            call.result()
        service.kill()
        service = Service("--data_dir=" + self.data)
        self.addCleanup(service.stop)
        self.assertEqual(len(self.listed(service)), 20000)

    def test_a_damaged_journal_is_moved_aside_with_a_word_and_a_second_process_is_refused(self):
        os.makedirs(self.data)
        with open(os.path.join(self.data, "journal.db"), "wb") as file:
            file.write(b"no database" * 1000)
        service = Service("--data_dir=" + self.data)
        self.addCleanup(service.stop)
        service.logs("the journal is damaged; it was moved aside")
        self.assertTrue(os.path.exists(os.path.join(self.data, "journal.db.damaged-1")))
        with self.assertRaisesRegex(AssertionError, "another process has it open; give each its own --data_dir"):
            Service("--data_dir=" + self.data)


if __name__ == "__main__":
    unittest.main()
