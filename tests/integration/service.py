"""Starts the built eventvirtuald on a free port and gives a Python client to it."""

import importlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import grpc

ROOT = os.getcwd()  # the runfiles of the test
SERVER = os.path.join(ROOT, "server/eventvirtuald")
EVCTL = os.path.join(ROOT, "client/evctl")
GRPCURL = os.environ.get("GRPCURL") or shutil.which("grpcurl")
# What every service of the tests is started with: their files lie in /tmp, and what searches for leaks under AddressSanitizer is
# a second process, which looks into the first; what counts the lines that it runs through, for ./dev coverage, writes that
# elsewhere as it ends.
FLAGS = ["--allow_directory=/tmp"]
if "ASAN_OPTIONS" in os.environ or "COVERAGE_DIR" in os.environ:
    FLAGS.append("--nosandbox")


def generate_stubs():
    """Compiles the API for Python into a temporary folder and imports it: what any Python user does. The folder and the modules."""
    out = tempfile.mkdtemp(prefix="evstubs")
    protos = ["eventvirtual/v1/%s.proto" % name for name in ("event", "operator", "receiver", "subscription")]
    subprocess.run(
        ["/usr/bin/protoc", "-I", "proto", "--python_out=" + out,
         "--plugin=protoc-gen-grpc=/usr/bin/grpc_python_plugin", "--grpc_out=" + out] + protos, check=True)
    sys.path.insert(0, out)
    return [out] + [importlib.import_module("eventvirtual.v1.%s" % name)
                    for name in ("event_pb2", "operator_pb2", "subscription_pb2",
                                 "event_pb2_grpc", "operator_pb2_grpc", "subscription_pb2_grpc")]


STUBS, event, operator, subscription, event_grpc, operator_grpc, subscription_grpc = generate_stubs()


def eventually(condition, what, seconds=20):
    """Waits until condition() is true; gives its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("did not happen within %d s: %s" % (seconds, what))
        time.sleep(0.02)  # between two looks at another process


def free_port(kind=socket.SOCK_STREAM):
    """Free, and below the range of clients' ports: while nobody has it, none of them may take it."""
    while True:
        port = random.randint(10000, 32000)
        with socket.socket(socket.AF_INET, kind) as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue  # taken


SAMPLE = re.compile(r"^(\w+(?:\{.*\})?) (\S+)$")


def samples_of(text):
    """Metrics in Prometheus' text format: the value of each series, and the names of the counters."""
    counters = set(re.findall(r"^# TYPE (\S+) counter$", text, re.MULTILINE))
    return {series: float(value) for series, value in map(lambda line: SAMPLE.match(line).groups(), (
        line for line in text.splitlines() if not line.startswith("#")))}, counters


class Books:
    """Looks, several times a second while a service lives and once more before it is stopped, whether its books balance and
    no counter goes down."""

    def __init__(self, service):
        self.service = service
        self.faults = []
        self.looks = 0
        self.last = {}
        self.closed = threading.Event()
        self.watch = threading.Thread(target=self._watch, daemon=True)
        self.watch.start()

    def _look(self):
        status, text = self.service.get("/metrics")
        if status != 200:
            return  # an event loop is busy for seconds; that is for other tests
        now, counters = samples_of(text)
        for book in ("subscriptions", "endpoints"):
            wrong = now['eventvirtual_books_imbalance{book="%s"}' % book]
            if wrong != 0:
                self.faults.append("the books of the %s are wrong by %g" % (book, wrong))
        for series, value in now.items():
            # One that goes and comes again begins anew; the sums by transport do not.
            if series.startswith("eventvirtual_endpoint_") or series.split("{")[0] not in counters:
                continue
            if value < self.last.get(series, 0):
                self.faults.append("%s went from %g to %g" % (series, self.last[series], value))
        for series in self.last.keys() - now.keys():
            if series.split("{")[0] in counters and not series.startswith("eventvirtual_endpoint_"):
                self.faults.append("%s is not there any more" % series)
        self.last = now
        self.looks += 1

    def _watch(self):
        while not self.closed.wait(0.25):
            try:
                self._look()
            except OSError:
                pass  # killed, or stopping: the last look is close()'s

    def close(self):
        """The last look, if the service still lives; fails when any look has found a fault."""
        self.closed.set()
        self.watch.join()
        if self.service.process.poll() is None:
            self._look()
        assert not self.faults, self.faults


class Service:
    """One running eventvirtuald: `address`, `unix`, `http`, stubs, and the folder `dir` for files and sockets."""

    def __init__(self, *flags):
        self.dir = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        self.unix = "unix:" + os.path.join(self.dir, "ev.sock")
        self.log = open(os.path.join(self.dir, "log"), "w+")
        self.process = subprocess.Popen([SERVER, "--listen=127.0.0.1:0," + self.unix, "--http=127.0.0.1:0",
                                         # Two, whatever the machine: what one hands to the other is tested, too.
                                         "--threads=2", *FLAGS, *flags], stderr=self.log)
        line = eventually(self._ready_line, "the server is ready")
        self.fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
        self.address = self.fields["listen"].split(",")[0]
        self.ingest = [a for a in self.fields["ingest"].strip('"').split(",") if a]
        self.mi = [a for a in self.fields["mi"].strip('"').split(",") if a]
        self.http = self.fields["http"].strip('"').split(",")[0]
        self.channel = grpc.insecure_channel(self.address)
        self.subscriptions = subscription_grpc.SubscriptionServiceStub(self.channel)
        self.events = event_grpc.EventServiceStub(self.channel)
        self.operators = operator_grpc.OperatorServiceStub(self.channel)
        self.books = Books(self) if self.http else None

    def log_text(self):
        """What it has logged. A thread of its own writes that, so what has just happened may not stand there yet."""
        with open(self.log.name, errors="replace") as log:
            return log.read()

    def logs(self, text, seconds=60):
        """Waits until `text` stands in its log, which it gives."""
        def found():
            log = self.log_text()
            return log if text in log else None
        return eventually(found, "it logs: " + text, seconds)

    def _ready_line(self):
        for line in self.log_text().splitlines(keepends=True):
            if "msg=ready" in line and line.endswith("\n"):
                return line
        assert self.process.poll() is None, "the server ended: " + self.log_text()
        return None

    def subscribe(self, event_name, socket_text, ttl=3600, **options):
        request = subscription.SubscribeRequest()
        request.subscription.event = event_name
        request.subscription.socket = socket_text
        request.subscription.ttl.FromMilliseconds(int(ttl * 1000))
        for name, seconds in options.items():
            getattr(request.subscription.delivery, name).FromMilliseconds(int(seconds * 1000))
        return self.subscriptions.Subscribe(request, timeout=10)

    def raise_event(self, name, wait=event.WAIT_DELIVERED, **params):
        request = event.RaiseRequest(wait=wait)
        request.event.name = name
        for key, value in params.items():
            request.event.params.add(name=key, string_value=value)
        return self.events.Raise(request, timeout=30)

    def evctl(self, *words, check=True, env=None):
        done = subprocess.run([EVCTL, "--server=" + self.address, *words], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, env=env)
        if check and done.returncode != 0:
            raise AssertionError("evctl %s: %d %s" % (words, done.returncode, done.stderr))
        return done

    def get(self, path):
        """What the HTTP server has at `path`: status and text."""
        try:
            with urllib.request.urlopen("http://" + self.http + path, timeout=20) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def _close_books(self):
        if self.books is not None:
            self.books.close()

    def grpcurl(self, method, request=None, over_unix=False):
        """An unmodified grpcurl, found by server reflection: `method` is a method, or "list", or "describe"; what it printed."""
        assert GRPCURL, "grpcurl is not installed; ./dev test installs it"
        data = ["-d", json.dumps(request)] if request is not None else []
        where = ["-unix", *data, self.unix[len("unix:"):]] if over_unix else [*data, self.address]
        return subprocess.run([GRPCURL, "-plaintext", *where, *method.split()], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True).stdout

    def kill(self):
        """kill -9."""
        self._close_books()
        self.process.kill()
        self.process.wait()
        self.channel.close()
        self.log.close()

    def stop(self, calls_go_on=False):
        """SIGTERM; gives the exit code. `channel` is closed before, unless its calls go on: the server waits for its clients to go."""
        self._close_books()
        if not calls_go_on:
            self.channel.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        self.channel.close()
        self.log.close()
        if code > 0:  # it failed by itself: what it said last, a sanitizer's report for one, belongs to the failure
            print(self.log_text()[-8000:], file=sys.stderr)
        return code
