"""Who may do what on the built service: over TCP, TLS and unix sockets, by certificate, token and place."""

import hashlib
import itertools
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

import grpc

from authority import Authority, content
from service import EVCTL, FLAGS, SERVER, Service, event, eventually, operator, samples_of, subscription

ROTATE_SECONDS = 600 if os.environ.get("SOAK") == "1" else 15

ROLES = ("producer", "subscriber", "operator", "observer")
# What stands in docs/security.md, written once more by hand. A method that is not here fails the test.
ALLOWED = {
    "Raise": {"producer", "operator"},
    "RaiseStream": {"producer", "operator"},
    "Listen": {"subscriber", "operator"},
    "ListEvents": {"observer", "operator"},
    "WatchDeliveries": {"observer", "operator"},
    "Subscribe": {"subscriber", "operator"},
    "Unsubscribe": {"subscriber", "operator"},
    "GetSubscription": {"subscriber", "observer", "operator"},
    "ListSubscriptions": {"observer", "operator"},
    "WatchSubscriptions": {"observer", "operator"},
    "ListTransports": {"subscriber", "observer", "operator"},
    "ListEndpoints": {"observer", "operator"},
    "ListEnrollments": {"observer", "operator"},
    "ProbeSubscriber": {"operator"},
    "SetEndpointMode": {"operator"},
    "ExplainDelivery": {"observer", "operator"},
    "ListDeadLetters": {"observer", "operator"},
    "ReplayDeadLetters": {"operator"},
    "PurgeDeadLetters": {"operator"},
}
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


def token_of(name):
    return "%s-s3cr3t-t0ken" % name


class AccessTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        self.addCleanup(lambda: shutil.rmtree(self.folder))
        self.authority = Authority(self.folder)
        self.server_pair = self.authority.issue("server", "IP:127.0.0.1,DNS:localhost")

    def write(self, name, text):
        """Whole at once, as those do who know that it is read."""
        path = os.path.join(self.folder, name)
        with open(path + ".new", "w") as file:
            file.write(text)
        os.rename(path + ".new", path)
        return path

    def start(self, *flags):
        """One with TLS, plain TCP and a unix socket: `tls`, `address`, `socket`."""
        self.socket = "unix:%s/s" % self.folder
        service = Service("--listen=127.0.0.1:0,tls:127.0.0.1:0," + self.socket, "--tls_cert=" + self.server_pair[0],
                          "--tls_key=" + self.server_pair[1], "--tls_client_ca=" + self.authority.ca, *flags)
        self.addCleanup(lambda: service.process.poll() is None and self.assertEqual(service.stop(), 0))
        listening = service.fields["listen"].strip('"').split(",")
        service.address, service.tls = listening[0].strip('"'), listening[1][len("tls:"):]
        return service

    def secure(self, service, pair=None, ca=None):
        credentials = grpc.ssl_channel_credentials(content(ca or self.authority.ca), *(
            (content(pair[1]), content(pair[0])) if pair else ()))
        channel = grpc.secure_channel(service.tls, credentials, options=[("grpc.use_local_subchannel_pool", 1)])
        self.addCleanup(channel.close)
        return channel

    def plain(self, address):
        channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.addCleanup(channel.close)
        return channel

    def code(self, channel, method="ListEvents", request=None, token=None, timeout=60):
        """How a call ends, and what is said about it."""
        metadata = [("authorization", "Bearer " + token)] if token else None
        service = next(one for module in (event, operator, subscription)
                       for one in module.DESCRIPTOR.services_by_name.values() if method in one.methods_by_name)
        path = "/%s/%s" % (service.full_name, method)
        body = request.SerializeToString() if request is not None else b""
        streams = method in ("RaiseStream", "Listen")
        try:
            if streams:
                list(channel.stream_stream(path)(iter(()), metadata=metadata, timeout=timeout))
            elif method.startswith("Watch"):
                list(channel.unary_stream(path)(body, metadata=metadata, timeout=timeout))
            else:
                channel.unary_unary(path)(body, metadata=metadata, timeout=timeout)
            return grpc.StatusCode.OK, ""
        except grpc.RpcError as error:
            return error.code(), error.details()

    def files(self, lines):
        """--access, and --tokens with a token for each role, for `limited` and for `idle`."""
        names = (*ROLES, "limited", "idle")
        return ["--access=" + self.write("access", lines), "--tokens=" + self.write("tokens", "".join(
            "%s %s\n" % (name, hashlib.sha256(token_of(name).encode()).hexdigest()) for name in names))]

    def test_each_role_may_call_its_methods_and_no_other_over_tcp_tls_and_unix(self):
        lines = "".join("token:{0} {0}\ncert:{0}.example {0}\n".format(role) for role in ROLES)
        service = self.start(*self.files("# one of each\n" + lines))
        methods = [method for module in (event, operator, subscription)
                   for one in module.DESCRIPTOR.services_by_name.values() for method in one.methods_by_name]
        self.assertEqual(sorted(methods), sorted(ALLOWED))
        tcp, unix, tls = self.plain(service.address), self.plain(self.socket), self.secure(service)
        for role in ROLES + ("idle", None):
            ways = [("tcp", tcp, role), ("unix", unix, role), ("tls", tls, role)]
            if role in ROLES:
                pair = self.authority.issue(role, "DNS:%s.example,URI:spiffe://example/%s" % (role, role))
                ways.append(("mtls", self.secure(service, pair), None))
            for way, channel, token in ways:
                for method in methods:
                    with self.subTest(way=way, role=role, method=method):
                        allowed = role in ALLOWED[method]
                        watches = allowed and method.startswith("Watch")
                        code, details = self.code(channel, method, token=token_of(token) if token else None,
                                                  timeout=0.3 if watches else 60)
                        if allowed:
                            self.assertNotIn(code, REFUSED, details)
                            self.assertNotEqual(code, grpc.StatusCode.UNAVAILABLE, details)
                        elif role is None and way == "tls":
                            self.assertEqual(code, grpc.StatusCode.UNAUTHENTICATED)
                        else:
                            self.assertEqual(code, grpc.StatusCode.PERMISSION_DENIED)
                            self.assertIn("--access", details)
                        self.assertNotIn("t0ken", details)
        self.assertNotIn("t0ken", service.logs("access denied"))
        # Who sees everything sees that, too.
        request = urllib.request.Request("http://%s/metrics" % service.http,
                                         headers={"Authorization": "Bearer " + token_of("observer")})
        with urllib.request.urlopen(request, timeout=60) as answer:
            series = samples_of(answer.read().decode())[0]
        for answer in ("allowed", "denied", "unauthenticated"):
            self.assertGreater(series['eventvirtual_access_total{answer="%s"}' % answer], 0)

    def test_producers_and_subscribers_have_events(self):
        service = self.start(*self.files("token:limited producer E_PIKE_* E_ONE\ntoken:limited subscriber E_UL_*\n"))
        channel = self.plain(service.address)

        def raising(name):
            return self.code(channel, "Raise", event.RaiseRequest(event={"name": name}), token_of("limited"))

        def subscribing(name):
            request = subscription.SubscribeRequest(
                subscription={"event": name, "socket": "udp:127.0.0.1:9", "ttl": {"seconds": 60}})
            return self.code(channel, "Subscribe", request, token_of("limited"))

        for name, allowed in (("E_PIKE_BLOCKED", True), ("E_ONE", True), ("E_ONE_MORE", False), ("E_UL_X", False), ("", False)):
            self.assertEqual(raising(name)[0] not in REFUSED, allowed, name)
        for name, allowed in (("E_UL_X", True), ("E_UL_*", True), ("E_UL_AOR_*", True), ("E_U*", False), ("*", False),
                              ("E_PIKE_X", False)):
            self.assertEqual(subscribing(name)[0] not in REFUSED, allowed, name)
        code, details = raising("E_OTHER\n")
        self.assertEqual(code, grpc.StatusCode.PERMISSION_DENIED)
        self.assertIn(r'"E_OTHER\n"', details)
        # Where the event is not in the request, only who has all events may go on.
        self.assertEqual(self.code(channel, "RaiseStream", token=token_of("limited"))[0], grpc.StatusCode.PERMISSION_DENIED)
        match = {"event": "E_UL_*", "socket": "udp:127.0.0.1:9"}
        for request, allowed in ((subscription.UnsubscribeRequest(match=match), True),
                                 (subscription.UnsubscribeRequest(name="subscriptions/x", match=match), False),
                                 (subscription.UnsubscribeRequest(name="subscriptions/x"), False),
                                 (subscription.UnsubscribeRequest(match={**match, "event": "E_X"}), False)):
            code = self.code(channel, "Unsubscribe", request, token_of("limited"))[0]
            self.assertEqual(code not in REFUSED, allowed, request)

    def test_places_have_roles_too_and_http_and_management_have_the_same(self):
        service = self.start(*self.files("unix operator\nloopback observer\ntoken:operator operator\n"), "--mi=http:127.0.0.1:0/mi")
        self.assertNotIn(self.code(self.plain(self.socket), "PurgeDeadLetters")[0], REFUSED)
        self.assertEqual(self.code(self.plain(service.address), "ListEvents")[0], grpc.StatusCode.OK)
        self.assertEqual(self.code(self.plain(service.address), "Raise")[0], grpc.StatusCode.PERMISSION_DENIED)
        self.assertEqual(service.get("/metrics")[0], 200)
        self.write("access", "token:operator operator\n")
        eventually(lambda: service.get("/metrics")[0] == 403, "the file is read again", 60)
        self.assertEqual(service.get("/")[0], 403)
        self.assertEqual(service.get("/healthz")[0], 200)

        def manage(token):
            body = b'{"jsonrpc":"2.0","id":1,"method":"event_subscribers_list"}'
            request = urllib.request.Request("http://" + service.mi[0][len("http:"):], data=body)
            if token:
                request.add_header("Authorization", "Bearer " + token)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return answer.status
            except urllib.error.HTTPError as error:
                return error.code

        self.assertEqual(manage(None), 403)
        self.assertEqual(manage("wrong"), 403)
        self.assertEqual(manage(token_of("operator")), 200)

    def test_files_are_read_again_and_one_that_is_wrong_changes_nothing(self):
        service = self.start(*self.files("token:idle observer\n"))
        channel = self.plain(service.address)

        def may():
            return self.code(channel, "ListEvents", token=token_of("idle"))[0] == grpc.StatusCode.OK

        self.assertTrue(may())
        self.write("access", "token:idle observer\nsomebody observer\n")
        self.assertIn("line 2", service.logs("what was read before stays in force"))
        self.assertTrue(may())
        self.write("access", "token:idle producer\n")
        eventually(lambda: not may(), "the right is gone", 60)
        self.write("access", "token:idle observer\n")
        eventually(may, "it is back", 60)
        self.write("tokens", "idle %s\n" % hashlib.sha256(b"another").hexdigest())
        eventually(lambda: not may(), "the token is gone", 60)

    def test_without_a_certificate_of_the_ca_there_is_no_handshake(self):
        service = self.start()
        self.assertEqual(self.code(self.secure(service))[0], grpc.StatusCode.UNAVAILABLE)
        other = os.path.join(self.folder, "other")
        os.mkdir(other)
        stranger = Authority(other).issue("stranger")
        self.assertEqual(self.code(self.secure(service, stranger))[0], grpc.StatusCode.UNAVAILABLE)
        self.assertEqual(self.code(self.plain(service.tls), timeout=60)[0], grpc.StatusCode.UNAVAILABLE)
        self.assertEqual(self.code(self.secure(service, self.authority.issue("anyone")))[0], grpc.StatusCode.OK)
        self.assertEqual(self.code(self.plain(service.address))[0], grpc.StatusCode.OK)

    def test_evctl_speaks_tls_and_shows_a_token(self):
        service = self.start(*self.files("token:observer observer\ncert:anyone observer\n"))

        def evctl(*flags):
            return subprocess.run([EVCTL, "--server=" + service.tls, "--tls_ca=" + self.authority.ca, *flags, "events"],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)

        cert, key = self.authority.issue("anyone")
        token = self.write("token", token_of("observer") + "\n")
        self.assertEqual(evctl("--tls_cert=" + cert, "--tls_key=" + key).returncode, 0)
        self.assertEqual(evctl("--token_file=" + token).returncode, 0)
        refused = evctl()
        self.assertEqual(refused.returncode, 1)
        self.assertIn("UNAUTHENTICATED", refused.stderr)
        self.assertEqual(evctl("--tls_cert=" + cert).returncode, 2)

    def test_certificates_change_every_second_under_new_handshakes(self):
        service = self.start()
        client = self.authority.issue("anyone")
        pairs = [self.authority.issue("turn%d" % i, "IP:127.0.0.1") for i in range(2)]
        failures, calls, stop = [], [0], threading.Event()

        def call():
            while not stop.is_set():
                channel = self.secure(service, client)
                code, details = self.code(channel)
                channel.close()
                calls[0] += 1
                if code != grpc.StatusCode.OK:
                    failures.append(details)

        def figure(name):
            return samples_of(service.get("/metrics")[1])[0]['eventvirtual_files_%s{files="tls"}' % name]

        def shown():
            """The certificate that a new connection is shown."""
            context = ssl.create_default_context(cafile=self.authority.ca)
            context.load_cert_chain(*client)
            context.set_alpn_protocols(["h2"])
            host, port = service.tls.rsplit(":", 1)
            with socket.create_connection((host, int(port)), timeout=60) as plain:
                with context.wrap_socket(plain, server_hostname=host) as secured:
                    return ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True))

        caller = threading.Thread(target=call)
        caller.start()
        rotations = 0
        begin = time.monotonic()
        try:
            while time.monotonic() < begin + ROTATE_SECONDS:
                cert, key = pairs[rotations % 2]
                # One after the other, so that they do not fit between; once one stays half written.
                if rotations == 2:
                    self.write("server.pem", content(cert).decode()[:100])
                    eventually(lambda: figure("failing") == 1, "it is told", 60)
                self.write("server.pem", content(cert).decode())
                time.sleep(0.1)
                self.write("server.key", content(key).decode())
                rotations += 1
                if rotations % 2:
                    service.process.send_signal(signal.SIGHUP)  # else it is found out
                eventually(lambda: figure("read_total") == rotations + 1, "the pair is in force", 60)
                self.assertEqual(figure("failing"), 0)
                self.assertIn(shown().strip(), content(cert).decode())
                time.sleep(max(0, begin + rotations - time.monotonic()))  # one a second
        finally:
            stop.set()
            caller.join()
        print("%d rotations, %d handshakes, %d failures in %.0f s" % (rotations, calls[0], len(failures), time.monotonic() - begin))
        self.assertEqual(failures, [])
        self.assertGreater(calls[0], 0)
        service.logs('msg="read again" files=tls')
        service.logs("what was read before stays in force")

    def test_sighup_takes_what_is_there_of_each_kind_at_once_and_nothing_wrong(self):
        kinds = ("access", "destinations", "tls")
        service = self.start(*self.files("loopback operator\n"), "--destinations=" + self.write("rules", "network loopback\n"))

        def figures():
            series = samples_of(service.get("/metrics")[1])[0]
            return [[series['eventvirtual_files_%s{files="%s"}' % (name, kind)] for kind in kinds] for name in ("read_total", "failing")]

        # Each look finds something else than the one before, so that nothing ever counts by itself.
        good = {"access": "loopback operator\n", "rules": "network loopback\n", "server.pem": content(self.server_pair[0]).decode()}

        stop, written = threading.Event(), threading.Event()

        def write():
            for turn in itertools.count():
                for name, text in good.items():
                    self.write(name, "%s# %d\n" % (text, turn))
                written.set()
                if stop.wait(0.005):
                    return

        writer = threading.Thread(target=write)
        self.assertEqual(figures(), [[1, 1, 1], [0, 0, 0]])
        writer.start()
        try:
            self.assertTrue(written.wait(60))
            service.process.send_signal(signal.SIGHUP)
            eventually(lambda: min(figures()[0]) >= 2, "all are read", 60)
            self.assertEqual(figures()[1], [0, 0, 0])
        finally:
            stop.set()
            writer.join()
        for name in good:
            self.write(name, "nonsense\n")
        service.process.send_signal(signal.SIGHUP)
        eventually(lambda: figures()[1] == [1, 1, 1], "what is wrong is seen", 60)
        for told in ("--access=%s/access: line 1: " % self.folder, "--destinations=%s/rules: line 1: " % self.folder, "--tls_cert=%s/server.pem: " % self.folder):
            service.logs(told)
        self.assertEqual(self.code(self.secure(service, self.authority.issue("anyone")))[0], grpc.StatusCode.PERMISSION_DENIED)
        self.assertEqual(self.code(self.plain(service.address))[0], grpc.StatusCode.OK)

    def test_what_cannot_work_is_refused_at_start_with_the_way_out(self):
        cert, key = self.server_pair
        tls = ["--tls_cert=" + cert, "--tls_key=" + key]
        ca = "--tls_client_ca=" + self.authority.ca
        other = self.authority.issue("other")[1]
        bad = self.write("bad", "token:x king\n")
        token = self.write("bad-tokens", "x plain-t0ken\n")
        for flags, words in (
            (tls, ("--tls_client_ca", "--tokens")),
            (tls[:1], ("--tls_cert, --tls_key: each needs the other",)),
            ([ca], ("--tls_client_ca: it needs --tls_cert",)),
            ([tls[0], "--tls_key=" + other, ca], ("--tls_key=%s: is not the key" % other,)),
            ([tls[0], "--tls_key=/no/such", ca], ("--tls_key", "/no/such")),
            (["--tls_cert=" + key, tls[1], ca], ("--tls_cert=%s: holds no certificates" % key,)),
            ([*tls, "--tls_client_ca=" + key], ("--tls_client_ca=%s: holds no certificates" % key,)),
            (["--access=" + bad], ("--access", bad, "line 1", "king", "producer, subscriber, operator or observer")),
            (["--tokens=" + token], ("--tokens: they need --access",)),
            (["--access=" + self.write("good", "unix operator\n"), "--tokens=" + token], ("--tokens", "line 1", "sha256sum")),
        ):
            with self.subTest(flags):
                done = subprocess.run([SERVER, *FLAGS, "--listen=127.0.0.1:0", *flags], stderr=subprocess.PIPE, text=True, timeout=60)
                self.assertEqual(done.returncode, 1)
                for word in words:
                    self.assertIn(word, done.stderr)
                self.assertNotIn("plain-t0ken", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
