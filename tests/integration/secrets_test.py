"""Marked passwords and tokens, in every form that a subscriber can carry, on the running service: no output has them.

Each destination fails, so that errors are told wherever errors are told; half of the subscriptions are durable, and leave dead
letters. The journal itself keeps the sockets as they were given: it has to connect again after a restart, is
readable for the service's user alone, and is no output.
"""

import base64
import os
import socket
import tempfile
import threading
import unittest
import urllib.parse
import urllib.request

from service import Service, event, eventually, subscription

MARK = "c4n4ry"
AFTER_ESCAPE = "%21%40" + MARK  # as text "!@c4n4ry"
NAMED = "${secret:named}"
CONTENT = "f1l3d@:/?#&=%41+"  # of that file; in a URI nearly all of it would have to be encoded

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
# Where the secret may go.
DESTINATIONS = "network loopback\n" + "".join(
    "secret named %s 127.0.0.1:1\n" % uri.split(":")[0] for uri in SUBSCRIBERS)
# What is refused is repeated in the error; what is not understood cannot be known to hold a password, unless it is where one is.
REFUSED = (
    "rabbitmq:alice:{}@127.0.0.1:99999/queue",
    "amqp://alice:{}@127.0.0.1:1/v?routing_kee=queue",
    "http://alice:{}@127.0.0.1:1/events?timeout=forever",
    "redis://alice:{}@169.254.169.254:1/list:events",
    "nats://alice:{}@127.0.0.1:1",
    "grpc://127.0.0.1:1?token={}&window=-1",
    "rabbitmq:alice:1/{}@127.0.0.1:1/queue",
    "amqp://alice:1/{}@127.0.0.1:1?routing_key=queue",
    "http://alice:1?{}=1@127.0.0.1:1/events",
    "mqtt://alice:@1/{}@127.0.0.1:1/topic",
    "grpc://127.0.0.1:1?token=x&{}=1",
    "redis://alice:${{secret:{}@127.0.0.1:1/list:events",
)


def spellings(secret):
    """As text, and as a careless program would write it down."""
    plain = urllib.parse.unquote(secret)
    return {MARK, MARK[::-1], plain, urllib.parse.quote(plain, safe=""), base64.b64encode(plain.encode()).decode(),
            base64.b64encode(("alice:" + plain).encode()).decode(), plain.encode().hex()}


def written(folder, name, text):
    """A file with that text, put in place as a whole; its path."""
    path = os.path.join(folder, name)
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)
    return path


class Redis:
    """Says yes to everything but a login with another password than `password`; `logins` are those it was shown."""

    def __init__(self, password):
        self.password, self.logins, self.clients = password, [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def hang_up(self):
        for client in self.clients:
            client.shutdown(socket.SHUT_RDWR)
        self.clients = []

    def _serve(self):
        while True:
            client, _ = self.listener.accept()
            self.clients.append(client)
            threading.Thread(target=self._answer, args=(client, client.makefile("rb")), daemon=True).start()

    def _answer(self, client, lines):
        try:
            while head := lines.readline():
                words = [lines.read(int(lines.readline()[1:]) + 2)[:-2].decode() for _ in range(int(head[1:]))]
                if words[0] == "AUTH":
                    self.logins.append(words[-1])
                good = words[0] != "AUTH" or words[-1] == self.password
                client.sendall(b"-WRONGPASS no\r\n" if not good else b":1\r\n" if words[0] == "LPUSH" else b"+OK\r\n")
        except OSError:
            pass  # hung up


class SecretsTest(unittest.TestCase):
    def test_no_output_has_a_password(self):
        folder = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        data = os.path.join(folder, "data")
        secrets = os.path.join(folder, "secrets")
        os.mkdir(secrets)
        written(secrets, "named", CONTENT + "\n")
        service = Service("--log_level=debug", "--data_dir=" + data, "--mi=http:127.0.0.1:0/mi", "--secrets=" + secrets,
                          "--destinations=" + written(folder, "destinations", DESTINATIONS))
        self.addCleanup(service.process.kill)
        outputs = {}
        changes = []
        watch = service.subscriptions.WatchSubscriptions(subscription.WatchSubscriptionsRequest())

        for number, form in enumerate(SUBSCRIBERS):
            for secret in (MARK, AFTER_ESCAPE, NAMED):
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
        self.assertEqual(len(names), 6 * len(SUBSCRIBERS))
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
        eventually(lambda: letters().count("E_DURABLE_") == 3 * len(SUBSCRIBERS), "what was undelivered is dead letters", 60)
        outputs["dead letters"] = letters() + service.evctl("dead-letters", "list").stdout
        self.assertEqual(service.stop(), 0)
        outputs["log"] = service.log_text()

        self.assertIn("level=debug", outputs["log"])
        self.assertIn("alice", outputs["list -o json"], "they are listed")
        for output in ("list -o json", "list", "endpoints", "/status.json", "MI", "watch", "log"):
            self.assertIn(NAMED, outputs[output], "the name is shown in: " + output)
        for secret in (MARK, AFTER_ESCAPE, urllib.parse.quote(CONTENT, safe="")):
            for spelling in spellings(secret):
                for name, text in outputs.items():
                    self.assertNotIn(spelling, text, "the output of: " + name.replace(MARK, "…"))
        for folder, _, files in os.walk(data):
            for file in files:
                self.assertEqual(os.stat(os.path.join(folder, file)).st_mode & 0o077, 0, file + " is for others, too")
                with open(os.path.join(folder, file), "rb") as kept:
                    self.assertNotIn(b"f1l3d", kept.read(), "the journal has the name of a secret, and not its content")


class SecretFilesTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        self.secrets = os.path.join(self.folder, "secrets")
        os.mkdir(self.secrets)

    def service(self, destinations, *flags):
        service = Service("--secrets=" + self.secrets,
                          "--destinations=" + written(self.folder, "destinations", destinations), *flags)
        self.addCleanup(service.process.kill)
        return service

    def test_a_rotated_file_is_used_at_the_next_connect(self):
        redis = Redis("f1rst@:/%41")
        written(self.secrets, "redis", "f1rst@:/%41\n")
        service = self.service("network loopback\nsecret redis redis 127.0.0.1:%d\n" % redis.port)
        uri = "redis://alice:${secret:redis}@127.0.0.1:%d/list:events" % redis.port
        for name in ("E_ONE", "E_TWO"):
            service.subscribe(name, uri)

        def raised(name="E_ONE"):
            return "OUTCOME_DELIVERED" in str(service.raise_event(name))
        eventually(raised, "the first password is taken")
        self.assertTrue(raised("E_TWO"))
        self.assertEqual(redis.logins, ["f1rst@:/%41"], "two subscriptions share one connection")

        redis.password = "s3cond"
        written(self.secrets, "redis", "s3cond")
        redis.hang_up()
        eventually(raised, "the second password is taken", 60)
        self.assertEqual(redis.logins[-1], "s3cond")

        os.remove(os.path.join(self.secrets, "redis"))
        redis.hang_up()
        def told():
            service.raise_event("E_ONE")
            shown = service.evctl("endpoints", "-o", "json").stdout
            return shown if "No such file" in shown else ""
        shown = eventually(told, "the failed connect is told", 60)
        self.assertIn("${secret:redis}: the file \\\"redis\\\" of --secrets=", shown)
        written(self.secrets, "redis", "s3cond")
        eventually(raised, "it is taken again as soon as it is there", 60)
        self.assertEqual(service.stop(), 0)
        log = service.log_text()
        for password in ("f1rst", "s3cond"):
            self.assertNotIn(password, log)

    def test_a_subscriber_of_another_host_does_not_get_it(self):
        thief = socket.create_server(("127.0.0.1", 0))
        port = thief.getsockname()[1]
        written(self.secrets, "redis", "f1l3d")
        service = self.service("network loopback\nsecret redis redis 127.0.0.1:1\n")
        for uri in ("http://a:${secret:redis}@127.0.0.1:%d/" % port, "http://127.0.0.1:%d/?query=${secret:redis}" % port,
                    "redis://a:${secret:redis}@127.0.0.1:%d/list:e" % port, "redis://a:${secret:redis}@localhost:1/list:e",
                    "kafka:127.0.0.1:1/t?g.sasl.password=${secret:redis}", "redis://a:${secret:other}@127.0.0.1:1/list:e"):
            for command in (["subscribe", "E"], ["probe"]):
                done = service.evctl(*command, uri, check=False)
                self.assertNotEqual(done.returncode, 0, uri)
                self.assertRegex(done.stdout + done.stderr, r"secret:(redis|other)} is not for ", uri)
        thief.settimeout(0)
        self.assertRaises(BlockingIOError, thief.accept)
        self.assertEqual(service.stop(), 0)

    def test_one_that_is_not_there_is_refused_with_the_way_out(self):
        service = self.service("network loopback\nsecret redis redis 127.0.0.1:1\n")
        done = service.evctl("subscribe", "E", "redis://a:${secret:redis}@127.0.0.1:1/list:e", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn('${secret:redis}: the file "redis" of --secrets=' + self.secrets, done.stdout + done.stderr)
        self.assertEqual(service.stop(), 0)

    def test_after_a_restart_the_file_is_read_and_not_the_journal(self):
        redis = Redis("f1rst")
        written(self.secrets, "redis", "f1rst")
        rules = "network loopback\nsecret redis redis 127.0.0.1:%d\n" % redis.port
        data = "--data_dir=" + os.path.join(self.folder, "data")
        service = self.service(rules, data)
        service.subscribe("E", "redis://a:${secret:redis}@127.0.0.1:%d/list:e" % redis.port)
        service.kill()
        redis.password = "s3cond"
        written(self.secrets, "redis", "s3cond")
        service = self.service(rules, data)
        eventually(lambda: "OUTCOME_DELIVERED" in str(service.raise_event("E")), "it is delivered with the new password")
        self.assertEqual(redis.logins, ["s3cond"])
        self.assertEqual(service.stop(), 0)


if __name__ == "__main__":
    unittest.main()
