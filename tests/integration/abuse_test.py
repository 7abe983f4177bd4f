"""Peers that break the rules of HTTP/2 (RFC 9113), and of everything else that listens, on the running service.

Each attack is followed by the question that matters: does another client still get its answer, and what did it cost?
"""

import os
import random
import select
import shutil
import socket
import ssl
import struct
import tempfile
import time
import unittest

import grpc

from authority import Authority
from http2 import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, PRIORITY, PUSH_PROMISE,
                   RST_STREAM, SETTINGS, WINDOW_UPDATE, block_of_headers, frame, header, integer)
from service import Service, event, eventually

PATIENCE = 60  # seconds; what a loaded machine may take, where one second is usual
RPC_MEMORY = 64 << 20
SLACK = 64 << 20  # bytes that may come beside a hundred times of what was sent: arenas of threads that first run now

CALL = b"".join(header(name, value) for name, value in (
    (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/grpc.health.v1.Health/Check"), (b":authority", b"a"),
    (b"te", b"trailers"), (b"content-type", b"application/grpc")))


class Attacker:
    """One connection. What the service says is read and thrown away; that it closes the connection is its right."""

    def __init__(self, address, greeting=PREFACE + frame(SETTINGS), tls=None):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket)
        self.sent = 0
        self.closed = False
        self.send(greeting)

    def send(self, data):
        """Whether all was taken; not, once the service has closed."""
        view = memoryview(data)
        self.socket.setblocking(False)
        give_up = time.monotonic() + PATIENCE
        while view and not self.closed:
            assert time.monotonic() < give_up, "the service neither reads nor closes"
            readable, writable, _ = select.select([self.socket], [self.socket], [], 1)
            try:
                if readable and not self.socket.recv(1 << 16):
                    self.closed = True
                if writable:
                    count = self.socket.send(view[:1 << 18])
                    self.sent += count
                    view = view[count:]
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            except OSError:
                self.closed = True
        return not self.closed


def rapid_reset(attacker):
    """CVE-2023-44487: streams that are cancelled as soon as they are opened."""
    for first in range(1, 40000, 2000):
        attacker.send(b"".join(
            frame(HEADERS, END_HEADERS, stream, CALL) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
            for stream in range(first, first + 2000, 2)))


def streams_without_end(attacker):
    """Of a client that has acknowledged how many it may have (--max_streams)."""
    attacker.send(frame(SETTINGS, ACK))
    attacker.send(b"".join(frame(HEADERS, END_HEADERS, stream, CALL) for stream in range(1, 40001, 2)))


def short_streams_before_the_ack(attacker):
    """Its headers are remembered (RFC 7541, 6.2.1), so that each further call is of few bytes. No limit binds it yet."""
    remembered = CALL.replace(b"\0\x07:method", b"\x40\x07:method")
    for name in (b":scheme", b":path", b":authority", b"te", b"content-type"):
        known = b"\0" + integer(len(name), 7) + name
        remembered = remembered.replace(known, b"\x40" + known[1:])
    attacker.send(frame(HEADERS, END_HEADERS, 1, remembered))
    attacker.send(b"".join(frame(HEADERS, END_HEADERS, stream, bytes(range(0xc3, 0xbd, -1)))
                           for stream in range(3, 60001, 2)))


def pings(attacker):
    """CVE-2019-9512."""
    attacker.send(frame(PING, 0, 0, b"12345678") * 100000)


def settings(attacker):
    """CVE-2019-9515."""
    attacker.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100)) * 50000)


def header_table_sizes(attacker):
    attacker.send(b"".join(frame(SETTINGS, 0, 0, struct.pack(">HI", 1, size % 65536)) for size in range(20000)))


def continuations(attacker):
    """CVE-2024-27316: a block of headers that never ends."""
    attacker.send(frame(HEADERS, 0, 1, CALL))
    attacker.send(frame(CONTINUATION, 0, 1, header(b"x-more", b"a" * 100)) * 50000)


def empty_continuations(attacker):
    attacker.send(frame(HEADERS, 0, 1, CALL))
    attacker.send(frame(CONTINUATION, 0, 1) * 100000)


def headers_before_the_ack(attacker):
    """Until the client has acknowledged our SETTINGS, no limit of them binds it."""
    for stream in range(1, 401, 2):
        attacker.send(frame(HEADERS, END_HEADERS, stream, CALL + header(b"x-large", b"a" * 10000) +
                            header(b"y-large", b"b" * 6000)))


def one_large_block_of_headers(attacker):
    attacker.send(block_of_headers(1, CALL + header(b"x-large", b"a" * 40000)))


def many_small_headers(attacker):
    attacker.send(frame(HEADERS, 0, 1, CALL))
    for first in range(0, 20000, 500):
        block = b"".join(header(b"x%d" % number, b"") for number in range(first, first + 500))
        attacker.send(frame(CONTINUATION, 0, 1, block))


def headers_that_refer_to_one_large_one(attacker):
    """CVE-2016-1544: remembered once (RFC 7541, 6.2.1), said again by one byte each."""
    large = b"\x40" + integer(1, 7) + b"x" + integer(4000, 7) + b"a" * 4000
    attacker.send(frame(HEADERS, END_HEADERS, 1, CALL + large))
    for stream in range(3, 403, 2):
        attacker.send(frame(HEADERS, END_HEADERS, stream, CALL + b"\xbe" * 10000))


def headers_that_abort_grpc(attacker):
    """CVE-2023-1428: values that are none of these headers', and later more than what headers may have in all."""
    attacker.send(frame(SETTINGS, ACK))
    stream = 1
    for name, value in ((b"te", b"x"), (b":scheme", b"x"), (b"grpclb_client_stats", b"x"), (b"grpc-timeout", b"x"),
                        (b"x-bin", b"!!!"), (b"content-type", b"x"), (b":path", b"")):
        for large in (4500, 9000, 17000):
            block = header(name, value) + CALL + header(b"x-large", b"a" * large) + header(b"y-large", b"a" * large)
            attacker.send(block_of_headers(stream, block))
            stream += 2


def a_number_that_never_ends(attacker):
    """CVE-2023-33953: RFC 7541, 5.1 lets a length go on with bytes that add nothing to it. gRPC 1.51 reads all of it again with
    each frame: a six times longer one makes others wait for a quarter of a minute."""
    attacker.send(frame(HEADERS, 0, 1, CALL + b"\0\x7f"))
    attacker.send(frame(CONTINUATION, 0, 1, b"\x80" * 16000) * 50)


def empty_data(attacker):
    """CVE-2019-9518."""
    attacker.send(frame(HEADERS, END_HEADERS, 1, CALL) + frame(DATA, 0, 1) * 100000)


def a_message_of_four_gigabytes(attacker):
    attacker.send(frame(HEADERS, END_HEADERS, 1, CALL) + frame(DATA, 0, 1, b"\0\xff\xff\xff\xff" + b"a" * 1000))


def windows(attacker):
    """Each one grows the window, at last beyond 2^31 - 1."""
    attacker.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 20)) * 20000)


def a_window_of_nothing(attacker):
    """CVE-2019-9511 and -9517: answers are asked for and never let out."""
    attacker.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))
    attacker.send(b"".join(frame(HEADERS, END_HEADERS, stream, CALL) + frame(DATA, END_STREAM, stream, b"\0\0\0\0\0")
                           for stream in range(1, 4001, 2)))


def priorities(attacker):
    """CVE-2019-9513."""
    attacker.send(b"".join(frame(PRIORITY, 0, stream, struct.pack(">IB", stream - 2, 255))
                           for stream in range(3, 100001, 2)))


def frames_of_all_kinds(attacker):
    random.seed(1)
    attacker.send(b"".join(frame(random.randrange(256), random.randrange(256), random.randrange(100),
                                 random.randbytes(random.randrange(64))) for _ in range(5000)))


def a_frame_that_is_too_long(attacker):
    attacker.send(b"\xff\xff\xff" + struct.pack(">BBI", DATA, 0, 1) + b"a" * 100000)


def a_promise(attacker):
    attacker.send(frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 2) + CALL) * 1000)


def farewells(attacker):
    attacker.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)) * 50000)


HTTP2_ATTACKS = (
    rapid_reset, streams_without_end, short_streams_before_the_ack, pings, settings, header_table_sizes, continuations, empty_continuations,
    headers_before_the_ack, one_large_block_of_headers, many_small_headers, headers_that_refer_to_one_large_one,
    headers_that_abort_grpc, a_number_that_never_ends, empty_data,
    a_message_of_four_gigabytes, windows, a_window_of_nothing, priorities, frames_of_all_kinds, a_frame_that_is_too_long,
    a_promise, farewells)


# gRPC 1.51 holds a client to our SETTINGS only once that has acknowledged them: until then it opens calls without limit,
# of 15 to 20 KB each, and such that are cancelled at once pile up where the machine is too busy to end them. What bounds that is
# who may connect (docs/security.md), and the memory that the unit is given.
WITHOUT_BOUND = (rapid_reset, short_streams_before_the_ack)


def connections_of(attack):
    """Fewer where a call that is not bounded costs ten times as much, or the service is busy with them for half a minute."""
    return 1 if attack in WITHOUT_BOUND and "ASAN_OPTIONS" in os.environ else 2


class AbuseTest(unittest.TestCase):
    def begin(self, *flags):
        self.service = Service("--ingest=tcp:127.0.0.1:0", "--mi=http:127.0.0.1:0/mi", "--rpc_memory=%d" % RPC_MEMORY, *flags)
        self.addCleanup(self.service.process.kill)  # if it has not stopped
        self.service.subscribe("E_OTHER", "flatstore:%s?timeout=60s" % os.path.join(self.service.dir, "others"))

    def memory(self):
        with open("/proc/%d/statm" % self.service.process.pid) as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def says_serving(self):
        """Asks over a connection of its own. The client's library gives up a connection that hears nothing for 20 s."""
        with grpc.insecure_channel(self.service.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            try:
                return check(b"", timeout=PATIENCE, wait_for_ready=True) == b"\x08\x01"  # SERVING
            except grpc.RpcError:
                return False

    def others_are_served(self):
        """A client that comes now, and one that has been there all the time, deliver an event. Seconds that it took."""
        began = time.monotonic()
        eventually(self.says_serving, "a client that comes now is served", PATIENCE)
        answer = self.service.raise_event("E_OTHER")
        self.assertEqual(answer.deliveries[0].outcome, event.DeliveryOutcome.OUTCOME_DELIVERED)
        return time.monotonic() - began

    def survives(self, attack, address, connections, *greeting, **how):
        """Attacks, asks for others while the connections are open, closes them, and looks at the memory."""
        before = self.memory()
        attackers = [Attacker(address, *greeting, **how) for _ in range(connections)]
        for attacker in attackers:
            attack(attacker)
        seconds = self.others_are_served()
        sent = sum(attacker.sent for attacker in attackers)
        more = self.memory() - before
        for attacker in attackers:
            attacker.socket.close()
        self.others_are_served()
        more = max(more, self.memory() - before)
        print("%-40s %10d bytes in, %8d more in memory, others served after %.3f s" %
              (attack.__name__, sent, more, seconds))
        self.assertIsNone(self.service.process.poll(), "the service has died")
        # AddressSanitizer keeps what is freed, to find its use.
        if attack not in WITHOUT_BOUND and "ASAN_OPTIONS" not in os.environ:
            self.assertLessEqual(more, max(100 * sent, RPC_MEMORY) + SLACK)

    def test_who_breaks_the_rules_of_http2_harms_nobody_else(self):
        for attack in HTTP2_ATTACKS:
            with self.subTest(attack.__name__):
                self.begin()
                self.survives(attack, self.service.address, connections_of(attack))
                self.assertEqual(self.service.stop(), 0)

    def test_who_begins_and_never_goes_on_harms_nobody_else(self):
        self.begin()
        for greeting in (b"", PREFACE[:1], PREFACE[:-1], PREFACE, b"GET / HTTP/1.1\r\n"):
            with self.subTest(greeting):
                def waits(attacker):
                    pass
                self.survives(waits, self.service.address, 200, greeting)
        self.assertEqual(self.service.stop(), 0)

    def test_tls_makes_nothing_of_it_worse(self):
        """A client that gets past the handshake, with a certificate, may do what one in the clear may; others do not get there."""
        authority = Authority(tempfile.mkdtemp(prefix="ev", dir="/tmp"))
        self.addCleanup(shutil.rmtree, authority.folder)
        cert, key = authority.issue("server", "IP:127.0.0.1")
        flags = ("--listen=127.0.0.1:0,tls:127.0.0.1:0", "--tls_cert=" + cert, "--tls_key=" + key,
                 "--tls_client_ca=" + authority.ca, "--handshake_timeout=2s")
        known = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        known.load_verify_locations(authority.ca)
        known.check_hostname = False
        known.set_alpn_protocols(["h2"])
        known.load_cert_chain(*authority.issue("client"))

        def address():
            return self.service.fields["listen"].strip('"').split(",")[1][len("tls:"):]
        for attack in (rapid_reset, streams_without_end, pings, settings, continuations, many_small_headers,
                       headers_that_refer_to_one_large_one, headers_that_abort_grpc, a_number_that_never_ends, empty_data,
                       windows, frames_of_all_kinds, a_frame_that_is_too_long, farewells):
            with self.subTest(attack.__name__):
                self.begin(*flags)
                self.survives(attack, address(), 2, tls=known)
                self.assertEqual(self.service.stop(), 0)
        self.begin(*flags)
        hello = ssl.MemoryBIO()
        try:
            known.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
        except ssl.SSLWantReadError:
            pass
        hello = hello.read()
        random.seed(3)
        for greeting in (hello, hello[:20], hello * 50, hello[:5] + random.randbytes(1 << 16), PREFACE,
                         b"\x16\x03\x01\xff\xff" + random.randbytes(1 << 16)):
            with self.subTest("handshake %r" % greeting[:20]):
                def goes_no_further(attacker):
                    attacker.socket.settimeout(PATIENCE)
                    try:
                        while attacker.socket.recv(1 << 16):
                            pass
                    except ConnectionResetError:
                        pass  # closed before all was read
                self.survives(goes_no_further, address(), 50, greeting)
        self.assertEqual(self.service.stop(), 0)

    def test_garbage_harms_nobody_anywhere(self):
        random.seed(2)
        garbage = random.randbytes(1 << 20)
        self.begin()
        head = b"POST /mi HTTP/1.1\r\nHost: a\r\n"
        mi = self.service.mi[0][len("http:"):].split("/")[0]
        for where, address in (("gRPC", self.service.address), ("ingest", self.service.ingest[0][len("tcp:"):]),
                               ("HTTP", self.service.http), ("MI", mi)):
            for what in (garbage, b"{" * 1000000, b'{"a":"' + b"a" * 3000000, b"\r\n" * 500000,
                         head + b"X: " + b"a" * 3000000, head + b"Content-Length: 99999999999\r\n\r\n" + b"a" * 3000000,
                         head + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 300000):
                with self.subTest("%s: %r" % (where, what[:60])):
                    def garbage_arrives(attacker, what=what):
                        attacker.send(what)
                    self.survives(garbage_arrives, address, 1, b"")
        self.assertEqual(self.service.stop(), 0)


if __name__ == "__main__":
    unittest.main()
