"""The built service next to OpenSIPS, played by opensips_stand_in.py: it subscribes itself there, through MI.

Prints how long after a restart of OpenSIPS the service was enrolled again.
"""

import json
import os
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request

from servers import Server
from service import FLAGS, SERVER, Service, event, eventually, operator, subscription

OPENSIPS = os.path.join(os.path.dirname(__file__), "opensips_stand_in.py")
AGAIN = 5  # seconds until the service is enrolled again, whatever has happened
EVENTS = ["E_CDR", "E_PIKE_BLOCKED", "E_UL_CONTACT_INSERT", "E_UL_CONTACT_DELETE", "E_OTHER",
          "E_EVI_SUBSCRIBER_DOWN", "E_EVI_SUBSCRIBER_UP"]


class Opensips(Server):
    """`mi`: what --enroll takes."""

    def __init__(self, kind="http", subscribe=()):
        self.name, self.kind, self.subscribed = "opensips", kind, subscribe
        super().__init__()

    def prepare(self):
        self.path = os.path.join(self.dir, "mi")
        self.mi = {"http": "http://127.0.0.1:%d/mi" % self.port, "udp": "udp:127.0.0.1:%d" % self.port,
                   "unix": "unix:" + self.path}[self.kind]
        with open(os.path.join(self.dir, "script"), "w") as script:
            json.dump({"events": EVENTS, "subscribe": self.subscribed}, script)

    def command(self):
        return ["/usr/bin/python3", OPENSIPS, self.kind, self.path if self.kind == "unix" else str(self.port), "script",
                self.record]

    def ready(self):
        try:
            return "result" in self.call("which", patience=1)
        except OSError:
            return False

    def call(self, method, *params, patience=20):
        """As an operator would; the answer."""
        request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        if self.kind == "http":
            asked = urllib.request.Request(self.mi, request, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, timeout=20) as answer:
                return json.load(answer)
        family, address = (socket.AF_UNIX, self.path) if self.kind == "unix" else (socket.AF_INET, ("127.0.0.1", self.port))
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            if self.kind == "unix":
                s.bind(tempfile.mktemp(dir=self.dir))
            s.settimeout(patience)
            s.sendto(request, address)
            return json.loads(s.recv(65536))

    def sockets(self, name):
        """Where the event would now be sent to."""
        listed = self.call("subscribers_list", name)["result"]["Event"]
        return [one["socket"] for one in listed.get("Subscribers", [])]

    def raise_event(self, name, *params):
        return self.call("raise_event", name, list(params))

    def lost(self):
        with open(self.record) as record:
            return record.read().splitlines()


class Receiver:
    """A subscriber of the service."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(20)
        self.uri = "udp:127.0.0.1:%d" % self.socket.getsockname()[1]

    def receive(self):
        request = json.loads(self.socket.recv(65536))
        return request["method"], request["params"]

    def has(self):
        """All that has come."""
        events = []
        self.socket.setblocking(False)
        try:
            while True:
                events.append(self.receive())
        except BlockingIOError:
            return events


class EnrollTest(unittest.TestCase):
    def opensips(self, *args, **kwargs):
        server = Opensips(*args, **kwargs)
        self.addCleanup(server.close)
        return server

    def start(self, *flags):
        service = Service("--attempt_timeout=20s", *flags)  # a loaded machine takes 50 ms, which udp has, by itself
        self.addCleanup(service.stop)
        return service

    def receiver(self):
        receiver = Receiver()
        self.addCleanup(receiver.socket.close)
        return receiver

    def enrolled(self, opensips, name, where):
        eventually(lambda: opensips.sockets(name) == [where], "%s goes to %s" % (name, where))

    def test_events_flow_over_each_kind_of_mi_and_after_a_restart(self):
        for kind in ("http", "udp", "unix"):
            with self.subTest(kind):
                opensips, receiver = self.opensips(kind), self.receiver()
                ingest = "tcp:127.0.0.1:0"
                if kind == "unix":
                    ingest = "unix:" + os.path.join(opensips.dir, "ingest")
                service = self.start("--ingest=" + ingest, "--enroll=" + opensips.mi)
                name = service.subscribe("E_CDR", receiver.uri).subscription.name
                self.enrolled(opensips, "E_CDR", service.ingest[0])
                self.assertEqual(opensips.sockets("E_PIKE_BLOCKED"), [])
                self.assertEqual(opensips.raise_event("E_CDR", "alice", 7)["result"], "OK")
                self.assertEqual(receiver.receive(), ("E_CDR", ["alice", 7]))

                opensips.kill()
                opensips.start()
                back = time.monotonic()
                eventually(lambda: opensips.sockets("E_CDR"), "it is enrolled again", seconds=AGAIN)
                print("%-5s enrolled again %.2f s after the return of OpenSIPS" % (kind, time.monotonic() - back))
                opensips.raise_event("E_CDR", "bob")
                self.assertEqual(receiver.receive(), ("E_CDR", ["bob"]))
                self.assertEqual(opensips.lost(), [])

                service.subscriptions.Unsubscribe(subscription.UnsubscribeRequest(name=name), timeout=10)
                eventually(lambda: opensips.sockets("E_CDR") == [], "what nobody wants any more has ended")
                self.assertEqual(service.stop(), 0)

    def test_an_outage_is_told_and_over_soon(self):
        opensips, receiver = self.opensips(), self.receiver()
        service = self.start("--ingest=tcp:127.0.0.1:0", "--enroll=" + opensips.mi)
        service.subscribe("E_CDR", receiver.uri)

        def state():
            return service.operators.ListEnrollments(operator.ListEnrollmentsRequest(), timeout=10).enrollments[0]

        eventually(lambda: [one.state for one in state().events] == [operator.Enrollment.Event.STATE_ENROLLED], "it is enrolled")
        opensips.kill()
        eventually(lambda: state().state == operator.Enrollment.STATE_FAILING, "the outage is seen")
        self.assertTrue(state().error)
        opensips.start()
        eventually(lambda: opensips.sockets("E_CDR"), "it is enrolled again", seconds=AGAIN)
        eventually(lambda: state().state == operator.Enrollment.STATE_ENROLLED and state().restarts == 1, "and says so")

    def test_opensips_is_told_of_subscribers_that_fail_and_work_again(self):
        watcher = self.receiver()
        opensips = self.opensips(subscribe=[["E_EVI_SUBSCRIBER_DOWN", watcher.uri], ["E_EVI_SUBSCRIBER_UP", watcher.uri]])
        service = self.start("--ingest=tcp:127.0.0.1:0", "--enroll=" + opensips.mi, "--enroll_notify")
        uri = "unix:" + os.path.join(service.dir, "app.sock")
        service.subscribe("E_CDR", uri)
        service.raise_event("E_CDR", n="1")
        name, params = watcher.receive()
        self.assertEqual((name, params["uri"]), ("E_EVI_SUBSCRIBER_DOWN", uri))
        self.assertIn("No such file", params["error"])
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as app:
            app.bind(uri[len("unix:"):])
            eventually(lambda: service.raise_event("E_CDR", n="2").deliveries[0].outcome ==
                       event.DeliveryOutcome.OUTCOME_DELIVERED, "the subscriber works")
            self.assertEqual(watcher.receive(), ("E_EVI_SUBSCRIBER_UP", {"uri": uri}))

    def test_patterns_names_and_what_opensips_does_not_know(self):
        opensips, receiver = self.opensips(), self.receiver()
        service = self.start("--ingest=tcp:127.0.0.1:0", "--enroll=" + opensips.mi)
        for name in ("E_UL_*", "E_CDR", "E_UNKNOWN"):
            service.subscribe(name, receiver.uri)
        for name in ("E_UL_CONTACT_INSERT", "E_UL_CONTACT_DELETE", "E_CDR"):
            self.enrolled(opensips, name, service.ingest[0])
        self.assertEqual(opensips.sockets("E_OTHER"), [])
        opensips.raise_event("E_UL_CONTACT_INSERT", "alice")
        self.assertEqual(receiver.receive(), ("E_UL_CONTACT_INSERT", ["alice"]))

        eventually(lambda: "partial" in service.evctl("enrollments").stdout, "what is refused is told")
        header, row = service.evctl("enrollments").stdout.splitlines()
        self.assertEqual(header.split()[:5], ["OPENSIPS", "STATE", "INGEST", "EVENTS", "COME"])
        self.assertEqual(row.split()[:5], [opensips.mi, "partial", service.ingest[0], "4", "3"])
        self.assertIn("E_UNKNOWN: 400 Bad parameter value", row)
        document = json.loads(service.evctl("enrollments", "-o", "json").stdout)
        self.assertEqual({one["name"]: one["state"] for one in document["events"]},
                         {"E_CDR": "STATE_ENROLLED", "E_UL_CONTACT_DELETE": "STATE_ENROLLED",
                          "E_UL_CONTACT_INSERT": "STATE_ENROLLED", "E_UNKNOWN": "STATE_REFUSED"})
        service.logs("msg=enrollment")

    def test_several_opensips(self):
        first, second, receiver = self.opensips("http"), self.opensips("udp"), self.receiver()
        service = self.start("--ingest=tcp:127.0.0.1:0", "--enroll=%s,%s" % (first.mi, second.mi))
        service.subscribe("E_CDR", receiver.uri)
        for opensips, caller in ((first, "alice"), (second, "bob")):
            self.enrolled(opensips, "E_CDR", service.ingest[0])
            opensips.raise_event("E_CDR", caller)
            self.assertEqual(receiver.receive(), ("E_CDR", [caller]))
        first.kill()
        service.subscribe("E_OTHER", receiver.uri)
        self.enrolled(second, "E_OTHER", service.ingest[0])
        pages = []
        token = ""
        while not pages or token:
            page = service.operators.ListEnrollments(operator.ListEnrollmentsRequest(page_size=1, page_token=token), timeout=10)
            pages += [one.opensips for one in page.enrollments]
            token = page.next_page_token
        self.assertEqual(pages, [first.mi, second.mi])

    def test_the_safety_net_of_the_readme_brings_each_event_once(self):
        receiver = self.receiver()
        service = self.start("--ingest=tcp:127.0.0.1:0")
        lost = os.path.join(service.dir, "lost.log")
        net = "virtual:FAILOVER %s flatstore:%s" % (service.ingest[0], lost)
        service.stop()
        opensips = self.opensips(subscribe=[("E_CDR", net)])
        service = self.start("--ingest=" + service.ingest[0], "--enroll=" + opensips.mi, "--enroll_import")
        service.subscribe("E_CDR", receiver.uri)
        service.subscribe("E_OTHER", receiver.uri)
        self.enrolled(opensips, "E_OTHER", service.ingest[0])
        self.assertEqual(opensips.sockets("E_CDR"), [net])
        for number in range(5):
            opensips.raise_event("E_CDR", number)
            self.assertEqual(receiver.receive(), ("E_CDR", [number]))
        opensips.raise_event("E_OTHER", "end")
        self.assertEqual(receiver.receive(), ("E_OTHER", ["end"]), "nothing came twice")
        self.assertEqual(service.stop(), 0)
        self.assertEqual(opensips.sockets("E_CDR"), [net])
        self.assertEqual(opensips.sockets("E_OTHER"), [])
        opensips.raise_event("E_CDR", "down")
        with open(lost) as file:
            self.assertEqual(file.read(), "E_CDR,down\n")

    def test_virtual_sockets_are_taken_over_and_given_back(self):
        receiver, other = self.receiver(), self.receiver()
        script = [("E_CDR", "virtual:FAILOVER %s %s" % (receiver.uri, other.uri)),
                  ("E_OTHER", "virtual:PARALLEL rabbitmq:me:s3cr3t@127.0.0.1:1/q %s" % other.uri),
                  ("E_PIKE_BLOCKED", "virtual:PARALLEL rabbitmq:me:s3cr3t@127.0.0.1:1/q?colour=red"),
                  ("E_PIKE_BLOCKED", "udp:127.0.0.1:9")]
        opensips = self.opensips(subscribe=script)
        service = self.start("--ingest=tcp:127.0.0.1:0", "--enroll=" + opensips.mi, "--enroll_import")
        self.enrolled(opensips, "E_CDR", service.ingest[0])
        self.enrolled(opensips, "E_OTHER", service.ingest[0])
        self.assertEqual(sorted(opensips.sockets("E_PIKE_BLOCKED")), sorted(text for name, text in script if "PIKE" in name))
        opensips.raise_event("E_CDR", "alice")
        self.assertEqual(receiver.receive(), ("E_CDR", ["alice"]))
        listed = service.subscriptions.ListSubscriptions(subscription.ListSubscriptionsRequest(), timeout=10).subscriptions
        self.assertEqual({one.event: (one.never_expires, dict(one.labels)) for one in listed},
                         {name: (True, {"imported_from": opensips.mi}) for name in ("E_CDR", "E_OTHER")})

        opensips.kill()  # the script brings them back
        opensips.start()
        self.enrolled(opensips, "E_CDR", service.ingest[0])
        opensips.raise_event("E_CDR", "bob")
        self.assertEqual(receiver.receive(), ("E_CDR", ["bob"]))
        self.assertEqual(receiver.has(), [], "once is enough")

        self.assertEqual(service.stop(), 0)
        self.assertEqual(opensips.sockets("E_CDR"), [script[0][1]])
        self.assertEqual(opensips.sockets("E_OTHER"), [script[1][1]])
        opensips.raise_event("E_CDR", "carol")
        self.assertEqual(receiver.receive(), ("E_CDR", ["carol"]))
        log = service.log_text()
        self.assertIn("taken over from OpenSIPS", log)
        self.assertIn("option 1 is unknown", log)
        self.assertNotIn("s3cr3t", log)

    def test_a_login_is_sent_and_never_shown(self):
        service = self.start("--ingest=tcp:127.0.0.1:0", "--enroll=http://me:s3cr3t@127.0.0.1:1/mi")
        service.logs("state=failing")  # nobody answers
        shown = service.evctl("enrollments").stdout + service.evctl("enrollments", "-o", "json").stdout
        self.assertIn("http://me:***@127.0.0.1:1/mi", shown)
        self.assertNotIn("s3cr3t", shown + service.log_text())

    def test_what_cannot_work_is_refused_at_start_with_the_way_out(self):
        mi = "http://127.0.0.1:1/mi"
        for flags, words in (
            (["--enroll=" + mi], "add --ingest=tcp:127.0.0.1:9060"),
            (["--enroll=" + mi, "--ingest=udp:127.0.0.1:0"], "add --ingest=tcp:127.0.0.1:9060"),
            (["--enroll=" + mi, "--ingest=tcp:0.0.0.0:0", "--ingest_off_host"], "--enroll_ingest=tcp:HOST:"),
            (["--enroll=" + mi, "--ingest=tcp:127.0.0.1:0", "--enroll_ingest=udp:127.0.0.1:1"], "tcp:host:port or unix:/path"),
            (["--enroll=%s,opensips" % mi, "--ingest=tcp:127.0.0.1:0"], "entry 2 of 2: write http://host:port/mi"),
            (["--enroll=%s,%s" % (mi, mi), "--ingest=tcp:127.0.0.1:0"], "is there already"),
            (["--enroll_import", "--ingest=tcp:127.0.0.1:0"], "without --enroll"),
        ):
            with self.subTest(flags):
                done = subprocess.run([SERVER, *FLAGS, "--listen=127.0.0.1:0", *flags], stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True, timeout=30)
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn(words, done.stdout)


if __name__ == "__main__":
    unittest.main()
