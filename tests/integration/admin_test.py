"""What orchestrators see of the built service."""

import signal
import socket
import subprocess
import unittest

from service import FLAGS, SERVER, Service, event, eventually, free_port


class AdminTest(unittest.TestCase):
    def setUp(self):
        self.service = Service("--drain_timeout=20s")

    def tearDown(self):
        if self.service.process.poll() is None:
            self.assertEqual(self.service.stop(), 0)

    def status(self, path):
        return self.service.get(path)[0]

    def test_it_is_ready_whatever_its_subscribers_do_and_not_any_more_when_it_stops(self):
        self.assertEqual((self.status("/healthz"), self.status("/readyz")), (200, 200))
        self.service.subscribe("E_DOWN", "tcp:127.0.0.1:%d" % free_port())
        delivery = self.service.raise_event("E_DOWN").deliveries[0]
        self.assertEqual(delivery.outcome, event.DeliveryOutcome.OUTCOME_FAILED)
        self.assertEqual((self.status("/healthz"), self.status("/readyz")), (200, 200))

        self.service.books.close()  # which could not look any more when it stops by itself
        self.service.books = None
        # What is on its way holds up the stop; nothing new is to come here meanwhile.
        silent = socket.create_server(("127.0.0.1", 0))
        uri = "tcp:127.0.0.1:%d?reliable=1&timeout=15s" % silent.getsockname()[1]
        self.service.subscribe("E_SLOW", uri)
        self.service.raise_event("E_SLOW", wait=event.WAIT_ACCEPTED)
        peer, _ = silent.accept()
        self.assertTrue(peer.recv(65536))  # the event, which is not answered
        self.service.process.send_signal(signal.SIGTERM)
        eventually(lambda: self.status("/readyz") == 503, "it is not ready any more")
        self.assertEqual(self.status("/healthz"), 200)
        peer.close()
        silent.close()
        self.assertEqual(self.service.stop(), 0)

    def test_an_address_that_will_not_do_is_named_with_the_way_out(self):
        for address in (self.service.http, "localhost:7063"):
            done = subprocess.run([SERVER, *FLAGS, "--listen=127.0.0.1:0", "--http=" + address], stderr=subprocess.PIPE,
                                  text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn(r'--http: cannot listen on \"%s\"' % address, done.stderr)
            self.assertIn("write host:port", done.stderr)

    def test_nothing_is_served_unless_it_is_asked_for(self):
        quiet = Service("--http=")
        try:
            self.assertEqual(quiet.http, "")
        finally:
            self.assertEqual(quiet.stop(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
