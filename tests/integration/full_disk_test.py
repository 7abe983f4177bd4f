"""--data_dir on a disk that is full or read-only: a file system of the test's own, in a mount namespace of its own."""

import os
import queue
import subprocess
import sys
import tempfile
import threading
import unittest

import grpc

if __name__ == "__main__" and os.environ.get("OWN_MOUNTS") != "1":
    os.environ["OWN_MOUNTS"] = "1"
    os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--mount", sys.executable, *sys.argv])

from service import FLAGS, SERVER, Service, event, eventually, subscription

DISK_BYTES = 4 << 20
PAYLOAD = "x" * 20000


def mount(*words):
    subprocess.run(["mount", *words], check=True)


class FullDiskTest(unittest.TestCase):
    def setUp(self):
        self.disk = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        mount("-t", "tmpfs", "-o", "size=%d" % DISK_BYTES, "tmpfs", self.disk)
        self.addCleanup(subprocess.run, ["umount", "--lazy", self.disk], check=True)
        self.data = os.path.join(self.disk, "data")

    def subscribe(self, service, name, socket_text, durable):
        request = subscription.SubscribeRequest()
        request.subscription.event = name
        request.subscription.socket = socket_text
        request.subscription.never_expires = True
        request.subscription.delivery.durable = durable
        service.subscriptions.Subscribe(request, timeout=30)

    def raise_durable(self, service, number):
        """None: acknowledged; else the error."""
        try:
            service.raise_event("E_CDR", wait=event.WAIT_DURABLE, number=str(number), payload=PAYLOAD)
            return None
        except grpc.RpcError as error:
            return error

    def refuses_to_start(self):
        """What a server says on stderr that cannot start; twice, for the second time is no other."""
        texts = []
        for _ in range(2):
            done = subprocess.run([SERVER, *FLAGS, "--listen=127.0.0.1:0", "--data_dir=" + self.data], stderr=subprocess.PIPE,
                                  text=True, timeout=120)
            self.assertEqual(done.returncode, 1, done.stderr)
            texts.append(done.stderr)
        return "\n".join(texts)

    def test_a_full_disk_refuses_durable_events_alone_and_nothing_that_was_acknowledged_is_lost(self):
        service = Service("--data_dir=" + self.data)
        self.subscribe(service, "E_CDR", "stream:billing", True)
        memory = os.path.join(service.dir, "memory")
        self.subscribe(service, "E_MEMORY", "flatstore:%s?timeout=60s" % memory, False)
        with open(os.path.join(self.disk, "others"), "wb") as others:
            others.write(b"x" * (DISK_BYTES // 2))
        acknowledged, refused, number = [], [], 0
        while len(refused) < 3:
            error = self.raise_durable(service, number)
            refused.append(error) if error else acknowledged.append(number)
            number += 1
            self.assertLess(number, 1000, "the disk is never full")
        for error in refused:
            self.assertIn(error.code(), (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE))
            self.assertIn(os.path.join(self.data, "journal.db"), error.details())
            self.assertRegex(error.details(), "full|I/O")
            self.assertIn("it is tried again each second", error.details(), "when to come again")
        for n in range(100):
            self.assertEqual(service.raise_event("E_MEMORY", n=str(n)).deliveries[0].outcome,
                             event.DeliveryOutcome.OUTCOME_DELIVERED)
        with open(memory) as lines:
            self.assertEqual(len(lines.readlines()), 100, "what needs no disk goes on")
        os.remove(os.path.join(self.disk, "others"))

        def taken():
            nonlocal number
            number += 1
            return self.raise_durable(service, number) is None and (acknowledged.append(number) or True)
        eventually(taken, "it recovers by itself", 60)
        for _ in range(5):
            self.assertTrue(taken(), "and stays so")
        text = service.logs("the journal is written again")
        # Told once, unless what it tries by itself, which is small, finds room between two of the refusals.
        outages = text.count("the journal cannot be written")
        self.assertEqual(outages, text.count("the journal is written again"), text)
        self.assertLessEqual(outages, len(refused), text)

        service.kill()
        service = Service("--data_dir=" + self.data)
        self.addCleanup(service.stop)
        arrived = {}

        def listen():
            acks = queue.SimpleQueue()
            acks.put(event.ListenRequest(name="billing"))
            try:
                for delivery in service.events.Listen(iter(acks.get, None)):
                    params = {p.name: p.string_value for p in delivery.event.params}
                    arrived[int(params["number"])] = params["payload"]
                    acks.put(event.ListenRequest(acks=[delivery.delivery_id]))
            except grpc.RpcError:
                pass  # the service has stopped
        threading.Thread(target=listen, daemon=True).start()
        eventually(lambda: set(acknowledged) <= set(arrived), "what was acknowledged arrives", 60)
        self.assertEqual(set(arrived.values()), {PAYLOAD})
        self.assertFalse([name for name in os.listdir(self.data) if "damaged" in name])

    def test_a_disk_that_is_full_from_the_start_is_an_error_that_names_the_file_and_the_next_start_goes(self):
        others = os.path.join(self.disk, "others")
        with open(others, "wb", buffering=0) as file, self.assertRaises(OSError):
            while True:
                file.write(b"x" * 4096)
        text = self.refuses_to_start()
        self.assertIn(self.data, text)
        self.assertRegex(text, "full|No space left")
        os.remove(others)
        self.assertEqual(Service("--data_dir=" + self.data).stop(), 0)

    def test_a_read_only_folder_is_an_error_that_names_it_with_and_without_a_journal(self):
        mount("-o", "remount,ro", self.disk)
        text = self.refuses_to_start()
        self.assertIn(self.data, text)
        self.assertIn("Read-only file system", text)
        mount("-o", "remount,rw", self.disk)
        service = Service("--data_dir=" + self.data)
        self.subscribe(service, "E_CDR", "stream:billing", True)
        self.assertIsNone(self.raise_durable(service, 1))
        service.kill()
        before = sorted(os.listdir(self.data))
        mount("-o", "remount,ro", self.disk)
        text = self.refuses_to_start()
        self.assertIn(os.path.join(self.data, "journal.db"), text)
        self.assertIn("Read-only file system", text)
        self.assertEqual(sorted(os.listdir(self.data)), before)
        mount("-o", "remount,rw", self.disk)
        service = Service("--data_dir=" + self.data)
        self.addCleanup(service.stop)
        self.assertIn("E_CDR", [s.event for s in service.subscriptions.ListSubscriptions(
            subscription.ListSubscriptionsRequest(), timeout=30).subscriptions])


if __name__ == "__main__":
    unittest.main()
