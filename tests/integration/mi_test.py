"""The management interface of the built service, as OpenSIPS' own tools and rude clients meet it."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest

from service import FLAGS, SERVER, Service, subscription
from service_test import udp_receiver

TOOLS = os.path.join(os.environ.get("PYTHON_TOOLS", ""), "bin")
SUBSCRIBED = "udp:127.0.0.1:9"  # discard: nobody listens there


def post(body, path="/mi"):
    body = body if isinstance(body, bytes) else body.encode()
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)) + body


def request(method, params, request_id=1):
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})


class HttpClient:
    """One raw connection."""

    def __init__(self, address):
        host, port = address[len("http:"):].split("/")[0].rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.reader = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)

    def response(self):
        """(status, body); (None, b"") when the connection has ended."""
        line = self.reader.readline()
        if not line:
            return None, b""
        length = 0
        while (header := self.reader.readline().strip()):
            if header.lower().startswith(b"content-length:"):
                length = int(header.split(b":")[1])
        return int(line.split()[1]), self.reader.read(length)

    def ask(self, method, params):
        self.send(post(request(method, params)))
        return json.loads(self.response()[1])


class MiTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        self.path = os.path.join(self.dir, "mi.sock")
        self.service = None

    def start(self, *flags):
        self.service = Service("--mi=http:127.0.0.1:0/mi,udp:127.0.0.1:0,unix:" + self.path, *flags)
        self.http, self.udp, _ = self.service.mi
        return self.service

    def tearDown(self):
        if self.service is not None and self.service.process.poll() is None:
            self.assertEqual(self.service.stop(), 0)
        self.assertFalse(os.path.exists(self.path))
        shutil.rmtree(self.dir)

    def port(self, address):
        return address.split("/")[0].rsplit(":", 1)[1]

    def cli(self, options, *words, status=0):
        """An unmodified opensips-cli; what it printed, read as JSON, or its error."""
        program = os.path.join(TOOLS, "opensips-cli")
        assert os.path.exists(program), "no opensips-cli in $PYTHON_TOOLS; ./dev test fetches it"
        done = subprocess.run([program, *("-o" + option for option in options), "-x", "--", "mi", *words],
                              env={**os.environ, "HOME": self.dir}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=60)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return json.loads(done.stdout) if status == 0 else done.stdout + done.stderr

    def check_every_command(self, options):
        def mi(*words, **more):
            return self.cli(options, *words, **more)

        commands = mi("which")
        self.assertEqual(mi("core:which"), commands)
        self.assertEqual(len(commands), 16)
        self.assertEqual(mi("which", "evi:subscribers"), [[], ["event"], ["event", "socket"]])
        self.assertEqual(mi("which", "command=raise_event"), [["event"], ["event", "params"]])
        self.assertEqual(mi("events_list"), {"Events": []})
        self.assertEqual(mi("event_subscribe", "E_ONE", SUBSCRIBED), "OK")
        self.assertEqual(mi("evi:subscribe", "event=E_TWO", "socket=virtual:FAILOVER %s udp:127.0.0.1:10" % SUBSCRIBED,
                            "expire=1200"), "OK")
        self.assertEqual(mi("evi:list"), {"Events": [{"name": "E_ONE", "id": 0}, {"name": "E_TWO", "id": 1}]})
        self.assertEqual(mi("events_list"), mi("evi:list"))

        two = mi("subscribers_list", "E_TWO")["Event"]
        self.assertEqual((two["name"], two["id"], len(two["Subscribers"])), ("E_TWO", 1, 1))
        self.assertEqual(two["Subscribers"][0]["socket"], "virtual:FAILOVER %s udp:127.0.0.1:10" % SUBSCRIBED)
        self.assertEqual(two["Subscribers"][0]["expire"], 1200)
        self.assertIn(two["Subscribers"][0]["ttl"], range(1100, 1201))
        self.assertEqual([event["name"] for event in mi("evi:subscribers")["Events"]], ["E_ONE", "E_TWO"])
        one = mi("evi:subscribers", "event=E_ONE", "socket=" + SUBSCRIBED)["Event"]
        self.assertEqual((one["name"], one["Subscriber"]["socket"]), ("E_ONE", SUBSCRIBED))

        receiver, uri = udp_receiver()
        self.assertEqual(mi("event_subscribe", "E_HEARD", uri, "600"), "OK")
        self.assertEqual(mi("raise_event", "E_HEARD", "a", "b"), "OK")
        self.assertEqual(receiver.recv(65536), b'{"jsonrpc":"2.0","method":"E_HEARD","params":["a","b"]}')
        self.assertEqual(mi("-j", "evi:raise", "E_HEARD", '"{\\"ip\\":\\"192.0.2.1\\",\\"n\\":1}"'), "OK")
        self.assertEqual(receiver.recv(65536),
                         b'{"jsonrpc":"2.0","method":"E_HEARD","params":{"ip":"192.0.2.1","n":1}}')
        receiver.close()

        self.assertEqual(mi("event_unsubscribe", "E_ONE", SUBSCRIBED), "OK")
        self.assertEqual(mi("event_subscribe", "E_TWO", "virtual:FAILOVER %s udp:127.0.0.1:10" % SUBSCRIBED, "0"), "OK")
        self.assertEqual(mi("subscribers_list", "E_TWO"), {"Event": {}})
        self.assertEqual(mi("core:version"), mi("version"))
        self.assertEqual(mi("version"), {"Server": "eventvirtual (0.1.0)"})
        self.assertEqual(list(mi("uptime")), ["Now", "Up since", "Up time"])
        self.assertEqual(list(mi("core:uptime")), ["Now", "Up since", "Up time"])

        for words, error in ((("event_subscribe", "E_ONE", "gopher:x"), "400: Bad parameter value"),
                             (("event_subscribe", "E_ONE"), "-32602: Invalid params (Too few or too many parameters)"),
                             (("evi:unsubscribe", "E_ONE", SUBSCRIBED), "404: Subscriber does not exist"),
                             (("raise_event", "E_ONE"), "480: Temporarily Unavailable"),
                             (("subscribers_list", "E_NEVER"), "404: Event not published"),
                             (("nothing",), "no command 'nothing'")):
            self.assertIn(error, mi(*words, status=255))

    def test_opensips_cli_over_http(self):
        self.start()
        self.check_every_command(["communication_type=http", "url=http://127.0.0.1:%s/mi" % self.port(self.http)])

    def test_opensips_cli_over_udp(self):
        self.start()
        self.check_every_command(["communication_type=datagram", "datagram_port=" + self.port(self.udp), "datagram_timeout=20"])

    def test_opensips_cli_over_a_unix_socket(self):
        self.start()
        options = ["communication_type=datagram", "datagram_unix_socket=" + self.path, "datagram_timeout=20"]
        self.assertEqual(self.cli(options, "event_subscribe", "E_ONE", SUBSCRIBED), "OK")
        self.assertEqual(self.cli(options, "events_list"), {"Events": [{"name": "E_ONE", "id": 0}]})

    def test_opensips_python_package_on_each_of_its_connectors(self):
        self.start()
        connectors = (["CONN=http", "url=http://127.0.0.1:%s/mi" % self.port(self.http)],
                      ["CONN=datagram", "datagram_ip=127.0.0.1", "datagram_port=" + self.port(self.udp),
                       "datagram_timeout=20"],
                      ["CONN=datagram", "datagram_unix_socket=" + self.path, "datagram_timeout=20"])
        for number, connector in enumerate(connectors):
            name = "E_%d" % number
            lines = [["event_subscribe", [name, SUBSCRIBED, 60]],
                     ["event_subscribe", {"event": name, "socket": SUBSCRIBED, "expire": "60"}],
                     ["raise_event", [name, ["x"]]],
                     ["event_unsubscribe", [name, SUBSCRIBED]],
                     ["event_unsubscribe", [name, SUBSCRIBED]],
                     ["hear", name],
                     ["subscribers_list", [name]]]
            done = subprocess.run([os.path.join(TOOLS, "python"), "tests/integration/opensips_client.py", *connector],
                                  input="\n".join(map(json.dumps, lines)), stdout=subprocess.PIPE, check=True, text=True,
                                  timeout=60)
            self.assertEqual([json.loads(line) for line in done.stdout.splitlines()],
                             ["OK", "OK", "OK", "OK", "Error executing command: 404: Subscriber does not exist",
                              {"jsonrpc": "2.0", "method": name, "params": ["1"]}, {"Event": {}}])

    def test_what_is_subscribed_over_mi_and_over_grpc_is_the_same(self):
        service = self.start()
        client = HttpClient(self.http)
        self.assertEqual(client.ask("event_subscribe", ["E_ACC", "rabbitmq:me:s3cr3t@127.0.0.1:1/cdr"])["result"], "OK")
        listed = service.subscriptions.ListSubscriptions(subscription.ListSubscriptionsRequest())
        self.assertEqual([s.socket for s in listed.subscriptions], ["rabbitmq:me:***@127.0.0.1:1/cdr"])
        answer = service.subscribe("E_ACC", "rabbitmq:me:s3cr3t@127.0.0.1:1/cdr", ttl=7000)
        self.assertFalse(answer.created)
        subscriber = client.ask("evi:subscribers", ["E_ACC"])["result"]["Event"]["Subscribers"][0]
        self.assertEqual(subscriber["socket"], "rabbitmq:me:***@127.0.0.1:1/cdr")
        self.assertEqual(subscriber["expire"], 7000)
        self.assertEqual(client.ask("event_unsubscribe", ["E_ACC", "rabbitmq:me:s3cr3t@127.0.0.1:1/cdr"])["result"], "OK")
        listed = service.subscriptions.ListSubscriptions(subscription.ListSubscriptionsRequest())
        self.assertEqual(list(listed.subscriptions), [])
        self.assertNotIn("s3cr3t", service.log_text())

    def test_what_was_acknowledged_over_mi_survives_a_kill(self):
        data = "--data_dir=" + os.path.join(self.dir, "data")
        service = self.start(data)
        client = HttpClient(self.http)
        for port in range(1, 21):
            self.assertEqual(client.ask("event_subscribe", ["E_ACC", "udp:127.0.0.1:%d" % port])["result"], "OK")
        self.assertEqual(client.ask("event_unsubscribe", ["E_ACC", "udp:127.0.0.1:20"])["result"], "OK")
        service.kill()
        self.start(data)  # takes the path of the socket over, too
        listed = HttpClient(self.http).ask("subscribers_list", ["E_ACC"])["result"]["Event"]["Subscribers"]
        self.assertEqual([s["socket"] for s in listed], ["udp:127.0.0.1:%d" % port for port in range(1, 20)])

    def test_a_living_servers_path_is_not_taken_and_other_hosts_are_not_served(self):
        self.start()
        for address, words in (("unix:" + self.path, "another process listens there"),
                               ("http:0.0.0.0:0/mi", "is not a loopback address"),
                               ("udp:192.0.2.1:7065", "put a proxy"),
                               ("mi.sock", "write http:host:port/path, udp:host:port or unix:/path")):
            done = subprocess.run([SERVER, *FLAGS, "--listen=127.0.0.1:0", "--mi=" + address], stderr=subprocess.PIPE, text=True,
                                  timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertIn(r'--mi: cannot listen on \"%s\": ' % address, done.stderr)
            self.assertIn(words, done.stderr)
        self.assertEqual(HttpClient(self.http).ask("events_list", {})["result"], {"Events": []})

    def test_rude_clients_cost_nobody_else_anything(self):
        self.start()
        polite = HttpClient(self.http)
        rude = []
        for data in (b"POST /mi HTTP/1.1\r\nContent-Le", b"POST /mi HTTP/1.1\r\nContent-Length: 50\r\n\r\n{",
                     b"\x16\x03\x01\x02\x00", b"\0" * 500, b"GET /mi HTTP/1.1\r\nHost: x\r\n\r\n" * 3, b""):
            rude.append(HttpClient(self.http))
            rude[-1].send(data)
            self.assertEqual(polite.ask("events_list", {})["result"], {"Events": []})
        slow = HttpClient(self.http)
        for byte in post(request("version", {})):
            slow.send(bytes([byte]))
        self.assertEqual(slow.response()[0], 200)
        # Two hundred half requests, more than there may be connections.
        for _ in range(200):
            rude.append(HttpClient(self.http))
            rude[-1].send(b"POST /mi HT")
        self.assertEqual(HttpClient(self.http).ask("events_list", {})["result"], {"Events": []})

    def test_requests_may_be_pipelined(self):
        self.start()
        client = HttpClient(self.http)
        client.send(b"".join(post(request("version", {}, number)) for number in range(500)))
        self.assertEqual([json.loads(client.response()[1])["id"] for _ in range(500)], list(range(500)))

    def test_malformed_requests_are_told_so_and_stop_nothing(self):
        self.start()
        parse_error = {"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": None}
        no_request = {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": None}
        cases = ((b"", parse_error), (b"{", parse_error), (b"which", parse_error), (b"\xff\xfe", parse_error),
                 (b"[" * 60000, parse_error), (b"{}", no_request), (b"[]", no_request), (b"7", no_request),
                 (b'[{"jsonrpc":"2.0","id":1,"method":"which"}]', no_request), (b'{"jsonrpc":"2.0"}', no_request))
        client = HttpClient(self.http)
        for body, answer in cases:
            client.send(post(body))
            status, text = client.response()
            self.assertEqual((status, json.loads(text)), (200, answer), body[:50])
        for data, status in ((post("x" * 70000), 413), (post("{}", "/elsewhere"), 404),
                             (b"GET /mi HTTP/1.1\r\nHost: x\r\n\r\n", 405),
                             (b"DELETE /mi HTTP/1.1\r\nHost: x\r\n\r\n", 405),
                             (post('{"jsonrpc":"2.0","method":"which"}'), 204)):
            client.send(data)
            self.assertEqual(client.response()[0], status)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(20)
            for body, answer in cases:
                udp.sendto(body, ("127.0.0.1", int(self.port(self.udp))))
                got = udp.recv(65536)
                if answer is parse_error:
                    self.assertEqual(got, b"400 Parse_error")
                else:
                    self.assertEqual(json.loads(got), answer)

    def test_a_hundred_thousand_subscriptions_are_listed(self):
        service = self.start()
        count = 100000
        client = HttpClient(self.http)

        def send():
            for first in range(0, count, 1000):
                client.send(b"".join(
                    post(request("event_subscribe", ["E_%d" % (n % 1000), "udp:127.0.0.1:%d" % (n // 1000 + 1)]))
                    for n in range(first, first + 1000)))

        sender = threading.Thread(target=send)
        sender.start()
        for _ in range(count):
            self.assertEqual(client.response()[0], 200)
        sender.join()
        listed = client.ask("subscribers_list", {})["result"]["Events"]
        self.assertEqual(len(listed), 1000)
        self.assertEqual(sum(len(event["Subscribers"]) for event in listed), count)
        self.assertEqual(len(client.ask("subscribers_list", ["E_7"])["result"]["Event"]["Subscribers"]), 100)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(20)
            udp.sendto(request("subscribers_list", {}).encode(), ("127.0.0.1", int(self.port(self.udp))))
            self.assertIn("ask for less, or over HTTP", json.loads(udp.recv(65536))["error"]["data"])
        self.assertEqual(len(service.raise_event("E_7").deliveries), 100)


if __name__ == "__main__":
    unittest.main()
