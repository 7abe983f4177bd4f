"""Marked passwords and tokens, in every form that a subscriber can carry, on the running service: no output has them.

Each destination fails, so that errors are told wherever errors are told; half of the subscriptions are durable, and leave dead
letters. The journal itself keeps the sockets as they were given: it has to connect again after a restart, is
readable for the service's user alone, and is no output.
"""

import base64
import os
import tempfile
import unittest
import urllib.parse
import urllib.request

from service import Service, event, eventually, subscription

MARK = "c4n4ry"
AFTER_ESCAPE = "%21%40" + MARK  # as text "!@c4n4ry"

SUBSCRIBERS = (
    "rabbitmq:alice:{}@127.0.0.1:1/queue",
    "amqp://alice:{}@127.0.0.1:1/v?routing_key=queue",
    "amqps://alice:{}@127.0.0.1:1/v?routing_key=queue",
    "kafka:127.0.0.1:1/topic?g.security.protocol=sasl_plaintext&g.sasl.mechanism=PLAIN&g.sasl.username=alice&g.sasl.password={}",
    "kafka:127.0.0.1:1/topic2?g.security.protocol=sasl_ssl&g.sasl.mechanism=PLAIN&g.sasl.username=a&g.sasl.password={}",
    "mqtt://alice:{}@127.0.0.1:1/topic",
    "mqtts://alice:{}@127.0.0.1:1/topic",
    "nats://alice:{}@127.0.0.1:1/subject",
    "nats://{}@127.0.0.1:1/subject",
    "natss://alice:{}@127.0.0.1:1/subject",
    "redis://alice:{}@127.0.0.1:1/list:events",
    "redis://:{}@127.0.0.1:1/stream:events",
    "http://alice:{}@127.0.0.1:1/events",
    "https://alice:{}@127.0.0.1:1/events",
    "http://127.0.0.1:1/events?header.authorization={}",
    "xmlrpc:127.0.0.1:1:receive?header.authorization={}",
    "grpc://127.0.0.1:1?token={}",
    "grpcs://127.0.0.1:1?token={}",
)
# What is refused is repeated in the error; what is not understood cannot be known to hold a password, unless it is where one is.
REFUSED = (
    "rabbitmq:alice:{}@127.0.0.1:99999/queue",
    "amqp://alice:{}@127.0.0.1:1/v?routing_kee=queue",
    "http://alice:{}@127.0.0.1:1/events?timeout=forever",
    "redis://alice:{}@169.254.169.254:1/list:events",
    "nats://alice:{}@127.0.0.1:1",
    "grpc://127.0.0.1:1?token={}&window=-1",
)


def spellings(secret):
    """As text, and as a careless program would write it down."""
    plain = urllib.parse.unquote(secret)
    return {MARK, MARK[::-1], plain, urllib.parse.quote(plain, safe=""), base64.b64encode(plain.encode()).decode(),
            base64.b64encode(("alice:" + plain).encode()).decode(), plain.encode().hex()}


class SecretsTest(unittest.TestCase):
    def test_no_output_has_a_password(self):
        data = os.path.join(tempfile.mkdtemp(prefix="ev", dir="/tmp"), "data")
        service = Service("--log_level=debug", "--data_dir=" + data, "--mi=http:127.0.0.1:0/mi")
        self.addCleanup(service.process.kill)
        outputs = {}
        changes = []
        watch = service.subscriptions.WatchSubscriptions(subscription.WatchSubscriptionsRequest())

        for number, form in enumerate(SUBSCRIBERS):
            for secret in (MARK, AFTER_ESCAPE):
                uri = form.format(secret)
                for name, words in (("E_%d", []), ("E_DURABLE_%d", ["--durable"])):
                    done = service.evctl("subscribe", name % number, "virtual:FAILOVER " + uri, *words, check=False)
                    self.assertEqual(done.returncode, 0, (form, done.stderr))
                    outputs["subscribe %s %s" % (uri, words)] = done.stdout + done.stderr
                probe = service.evctl("probe", uri, check=False)
                outputs["probe " + uri] = probe.stdout + probe.stderr
        for form in REFUSED:
            done = service.evctl("subscribe", "E_REFUSED", "virtual:FAILOVER " + form.format(MARK), check=False)
            self.assertNotEqual(done.returncode, 0, form)
            outputs["refused " + form] = done.stdout + done.stderr
        for number in range(len(SUBSCRIBERS)):
            answer = service.raise_event("E_%d" % number, payload="text")
            self.assertTrue(answer.deliveries, "it went somewhere")
            outputs["raise %d" % number] = str(answer)
            outputs["raise durably %d" % number] = str(service.raise_event("E_DURABLE_%d" % number, wait=event.WAIT_DURABLE))
            outputs["explain %d" % number] = service.evctl("explain", "E_%d" % number, check=False).stdout

        names = [row.name for row in service.subscriptions.ListSubscriptions(
            subscription.ListSubscriptionsRequest(page_size=1000), timeout=20).subscriptions]
        self.assertEqual(len(names), 4 * len(SUBSCRIBERS))
        for words in (["list", "-o", "json"], ["list"], ["endpoints"], ["endpoints", "-o", "json"], ["events"],
                      ["get", names[0], "-o", "json"], ["transports"]):
            done = service.evctl(*words, check=False)
            outputs[" ".join(words)] = done.stdout + done.stderr
        for path in ("/", "/status.json", "/metrics", "/readyz"):
            outputs[path] = service.get(path)[1]
        asked = urllib.request.Request(service.mi[0].replace("http:", "http://", 1),
                                       b'{"jsonrpc":"2.0","id":1,"method":"subscribers_list"}')
        with urllib.request.urlopen(asked, timeout=60) as answered:
            outputs["MI"] = answered.read().decode()
        self.assertIn("alice", outputs["MI"])
        for row in watch:
            changes.append(str(row))
            if len(changes) >= len(names):
                break
        watch.cancel()
        outputs["watch"] = "\n".join(changes)
        for name in names:
            outputs["unsubscribe " + name] = service.evctl("unsubscribe", name, check=False).stdout
        def letters():
            return service.evctl("dead-letters", "list", "-o", "json").stdout
        eventually(lambda: letters().count("E_DURABLE_") == 2 * len(SUBSCRIBERS), "what was undelivered is dead letters", 60)
        outputs["dead letters"] = letters() + service.evctl("dead-letters", "list").stdout
        self.assertEqual(service.stop(), 0)
        with open(service.log.name) as log:
            outputs["log"] = log.read()

        self.assertIn("level=debug", outputs["log"])
        self.assertIn("alice", outputs["list -o json"], "they are listed")
        for secret in (MARK, AFTER_ESCAPE):
            for spelling in spellings(secret):
                for name, text in outputs.items():
                    self.assertNotIn(spelling, text, "the output of: " + name.replace(MARK, "…"))
        for folder, _, files in os.walk(data):
            for file in files:
                self.assertEqual(os.stat(os.path.join(folder, file)).st_mode & 0o077, 0, file + " is for others, too")


if __name__ == "__main__":
    unittest.main()
