"""Metrics of the built service, as promtool and a real Prometheus see them, and what is made of them in deploy/ and docs/."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.parse
import urllib.request

import grpc

from service import Service, event, eventually, free_port, samples_of

RULES = "deploy/prometheus/alerts.yml"


def promtool(*words, text=None):
    done = subprocess.run(["promtool", *words], input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


class Receiver:
    """A subscriber in a process of its own, which can be killed: takes connections on a port and reads."""

    PROGRAM = "import socket, sys\ns = socket.create_server(('127.0.0.1', int(sys.argv[1])))\nprint('.', flush=True)\n" \
              "while True:\n    c = s.accept()[0]\n    while c.recv(65536): pass\n"

    def __init__(self, port):
        self.process = subprocess.Popen(["/usr/bin/python3", "-c", self.PROGRAM, str(port)], stdout=subprocess.PIPE)
        self.process.stdout.readline()  # it listens

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Prometheus:
    """A real one that scrapes `target` all the time, with our rules, whose patience is taken away."""

    def __init__(self, target):
        self.dir = tempfile.mkdtemp(prefix="evprom", dir="/tmp")
        with open(RULES) as rules, open(os.path.join(self.dir, "alerts.yml"), "w") as impatient:
            impatient.write(re.sub(r"for: \d+m", "for: 0s", rules.read()))
        with open(os.path.join(self.dir, "prometheus.yml"), "w") as config:
            config.write("global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\n"
                         "rule_files: [alerts.yml]\n"
                         "scrape_configs:\n"
                         "  - job_name: eventvirtual\n"
                         "    scrape_interval: 500ms\n    scrape_timeout: 500ms\n"
                         "    static_configs: [{targets: ['%s']}]\n" % target)
        self.address = "127.0.0.1:%d" % free_port()
        self.log = open(os.path.join(self.dir, "log"), "w")
        self.process = subprocess.Popen(
            ["prometheus", "--config.file=" + os.path.join(self.dir, "prometheus.yml"),
             "--storage.tsdb.path=" + os.path.join(self.dir, "data"), "--web.listen-address=" + self.address],
            stdout=self.log, stderr=self.log)

    def ask(self, path, **query):
        """The `data` of its HTTP API; None while it does not answer."""
        url = "http://%s/api/v1/%s?%s" % (self.address, path, urllib.parse.urlencode(query))
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return json.load(response)["data"]
        except (OSError, urllib.error.URLError):
            assert self.process.poll() is None, open(self.log.name).read()
            return None

    def value(self, expression):
        data = self.ask("query", query=expression)
        return float(data["result"][0]["value"][1]) if data and data["result"] else None

    def firing(self, alert, **labels):
        data = self.ask("alerts") or {"alerts": []}
        return any(one["state"] == "firing" and one["labels"]["alertname"] == alert and
                   labels.items() <= one["labels"].items() for one in data["alerts"])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)
        self.log.close()
        shutil.rmtree(self.dir)


class MetricsTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        # All there is: each part has its metrics.
        self.service = Service("--ingest=udp:127.0.0.1:0,tcp:127.0.0.1:0", "--mi=http:127.0.0.1:0/mi",
                               "--data_dir=" + os.path.join(self.dir, "data"),
                               "--enroll=http://127.0.0.1:%d/mi" % free_port())

    def tearDown(self):
        self.assertEqual(self.service.stop(), 0)
        shutil.rmtree(self.dir)

    def metrics(self):
        status, text = self.service.get("/metrics")
        self.assertEqual(status, 200)
        return text

    def value(self, series):
        return samples_of(self.metrics())[0].get(series)

    def use_everything(self):
        """So that each family has a series."""
        self.service.subscribe("E_FILE", "flatstore:" + os.path.join(self.dir, "events"))
        self.service.subscribe("E_DOWN", "tcp:127.0.0.1:%d" % free_port())
        self.service.evctl("subscribe", "E_CDR", "stream:nobody", "--durable")
        for name in ("E_FILE", "E_DOWN", "E_CDR"):
            self.service.raise_event(name)

    def test_promtool_finds_nothing_to_say_of_them(self):
        self.use_everything()
        self.assertEqual(promtool("check", "metrics", text=self.metrics()), (0, ""))

    def test_the_page_that_explains_them_has_all_of_them_and_no_other(self):
        self.use_everything()
        served = {}
        text = self.metrics()
        for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
            labels = {label for line in re.findall(r"^%s(?:_bucket|_count)?\{(.*)\} " % name, text, re.MULTILINE)
                      for label in re.findall(r'(\w+)="', line)} - {"le"}
            served[name] = (kind, labels)
        with open("docs/metrics.md") as page:
            rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*)\|", page.read(), re.MULTILINE)
        self.assertEqual({name: (kind, set(re.findall(r"\w+", labels))) for name, kind, labels in rows}, served)

    def test_the_dashboard_and_the_alerts_ask_for_what_there_is(self):
        self.use_everything()
        served = set(re.findall(r"^(\w+)[{ ]", self.metrics(), re.MULTILINE)) | {"up"}
        with open("deploy/grafana/eventvirtual.json") as file:
            expressions = [target["expr"] for panel in json.load(file)["panels"] for target in panel["targets"]]
        with open(RULES) as rules:
            expressions += re.findall(r"^ +expr: (.*)$", rules.read(), re.MULTILINE)
        self.assertGreater(len(expressions), 25)
        for expression in expressions:
            names = set(re.findall(r"\b((?:eventvirtual|grpc_server|process)_\w+|up)\b", re.sub(r'"[^"]*"', "", expression)))
            self.assertTrue(names, expression)
            self.assertLessEqual(names, served, expression)

    def test_the_alert_rules_do_what_their_own_tests_say(self):
        self.assertEqual(promtool("check", "config", "deploy/prometheus/prometheus.yml")[0], 0)
        code, said = promtool("test", "rules", "deploy/prometheus/alerts_test.yml")
        self.assertEqual(code, 0, said)

    def test_what_happens_is_counted_and_passwords_are_not_shown(self):
        self.service.subscribe("E_A", "rabbitmq:guest:s3cret@127.0.0.1:%d/key" % free_port())
        self.service.subscribe("E_B", "flatstore:" + os.path.join(self.dir, "events"))
        self.service.raise_event("E_A")
        for _ in range(3):
            self.service.raise_event("E_B")
        udp = next(address for address in self.service.ingest if address.startswith("udp:"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for datagram in (b'{"jsonrpc":"2.0","method":"E_B"}', b'{"jsonrpc":"2.0","method":"E_NOBODY"}', b"no json"):
                sender.sendto(datagram, ("127.0.0.1", int(udp.rsplit(":", 1)[1])))
        came = 'eventvirtual_ingest_messages_total{listener="udp",result="%s"}'
        for result in ("accepted", "unsubscribed", "bad"):
            eventually(lambda: self.value(came % result) == 1, "%s is counted" % result)

        of_a = 'eventvirtual_deliveries_total{event="E_A",transport="rabbitmq",outcome="%s"}'
        of_b = 'eventvirtual_deliveries_total{event="E_B",transport="flatstore",outcome="%s"}'
        self.assertEqual((self.value(of_a % "failed"), self.value(of_a % "delivered")), (1, 0))
        eventually(lambda: self.value(of_b % "delivered") == 4, "the one of OpenSIPS is delivered, too")
        self.assertEqual(self.value('eventvirtual_attempt_duration_seconds_count{transport="flatstore"}'), 4)
        calls = 'grpc_server_handled_total{grpc_service="eventvirtual.v1.EventService",grpc_method="Raise",grpc_code="OK"}'
        self.assertEqual(self.value(calls), 4)
        self.assertNotIn("s3cret", self.metrics())

    def test_a_full_journal_is_told_everywhere_and_no_more_when_there_is_room(self):
        service = Service("--data_dir=" + os.path.join(self.dir, "small"), "--journal_max_bytes=%d" % (1 << 20))
        self.addCleanup(service.stop)
        name = service.evctl("subscribe", "E_CDR", "stream:nobody", "--durable").stdout.split()[1].rstrip(",")

        def value(series):
            return samples_of(service.get("/metrics")[1])[0].get(series)

        def journal():
            return json.loads(service.get("/status.json")[1])["journal"]
        self.assertEqual(service.get("/readyz"), (200, "ready\n"))
        self.assertEqual((value("eventvirtual_journal_full"), journal()["state"]), (0, "ok"))
        raised = 0
        with self.assertRaises(grpc.RpcError) as refused:
            while raised < 100:
                service.raise_event("E_CDR", wait=event.WAIT_DURABLE, text="x" * 50000)
                raised += 1
        self.assertEqual(refused.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertEqual(value("eventvirtual_journal_full"), 1)
        self.assertEqual(value("eventvirtual_journal_refused_total"), 1)
        self.assertEqual(value("eventvirtual_durable_events"), raised)
        self.assertEqual(value('eventvirtual_durable_queue_events{subscription="%s"}' % name), raised)
        status, text = service.get("/readyz")
        self.assertEqual(status, 200, "all other events go on")
        self.assertIn("--journal_max_bytes", text)
        self.assertEqual(journal()["state"], "full")
        self.assertIn("--journal_max_bytes", journal()["error"])

        service.evctl("unsubscribe", name)
        eventually(lambda: value("eventvirtual_dead_letters") == raised, "they are dead letters", 60)
        service.evctl("dead-letters", "purge", "--force")
        eventually(lambda: value("eventvirtual_journal_full") == 0, "it has room", 60)
        self.assertEqual(service.get("/readyz"), (200, "ready\n"))
        self.assertEqual((journal()["state"], journal()["dead_letters"]), ("ok", 0))

    def test_what_has_gone_stays_in_the_sums(self):
        count = 'eventvirtual_deliveries_total{event="E_GONE",transport="flatstore",outcome="delivered"}'
        attempts = 'eventvirtual_attempts_total{transport="flatstore",outcome="ok"}'
        for life in range(1, 4):
            name = self.service.subscribe("E_GONE", "flatstore:" + os.path.join(self.dir, "gone")).subscription.name
            self.service.raise_event("E_GONE")
            self.service.evctl("unsubscribe", name)
            self.assertEqual((self.value(count), self.value(attempts)), (life, life))
        eventually(lambda: self.value('eventvirtual_endpoints{transport="flatstore"}') == 0, "its endpoint has gone")
        self.assertEqual((self.value(count), self.value(attempts)), (3, 3))

    def test_prometheus_sees_a_counter_rise_and_an_alert_fires_when_a_subscriber_is_killed_and_ends_when_it_is_back(self):
        port = free_port()
        receiver = Receiver(port)
        uri = "tcp:127.0.0.1:%d" % port
        self.service.subscribe("E_PROM", uri + "?timeout=500ms", failover_timeout=1)
        prometheus = Prometheus(self.service.http)
        try:
            self.service.raise_event("E_PROM")
            delivered = 'sum(eventvirtual_deliveries_total{event="E_PROM",outcome="delivered"})'
            first = eventually(lambda: prometheus.value(delivered), "the first event is scraped", 60)
            self.service.raise_event("E_PROM")
            eventually(lambda: prometheus.value(delivered) == first + 1, "the counter has risen", 60)
            shown = next(series for series in samples_of(self.metrics())[0] if
                         series.startswith("eventvirtual_endpoint_up") and uri in series)
            shown = re.search(r'uri="(.*)"', shown).group(1)
            self.assertFalse(prometheus.firing("EventvirtualSubscriberDown", uri=shown))

            receiver.kill()

            def is_told():
                self.service.raise_event("E_PROM")
                return prometheus.firing("EventvirtualSubscriberDown", uri=shown)
            eventually(is_told, "the alert fires", 60)
            eventually(lambda: prometheus.firing("EventvirtualDeliveriesFail", event="E_PROM"), "and the other", 60)

            receiver = Receiver(port)

            def is_over():
                self.service.raise_event("E_PROM")
                return not prometheus.firing("EventvirtualSubscriberDown", uri=shown)
            eventually(is_over, "the alert ends", 60)
        finally:
            prometheus.stop()
            receiver.kill()


if __name__ == "__main__":
    unittest.main(verbosity=2)
