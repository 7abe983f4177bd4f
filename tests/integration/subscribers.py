"""Subscribers that tell the oracle what arrived: each has a `uri` and is there over all lives of the service.

When the service is dead, settle() returns when all that it had sent has been recorded. take() gives what has arrived since
the last look: number, payload, and the event's id where the wire shows it.
"""

import json
import os
import queue
import socket
import tempfile
import threading

import grpc

from servers import Receiver
from service import event, eventually

PATIENCE = 120                        # seconds for what takes one
ESTABLISHED, CLOSE_WAIT = "01", "08"  # include/net/tcp_states.h


class Lines:
    """The whole lines that a file has got since the last look."""

    def __init__(self, path):
        self.path, self.offset = path, 0

    def take(self, dead):
        """`dead`: nobody writes now; what stands behind the last newline was torn by a kill, and will be ended with one."""
        if not os.path.exists(self.path):
            return []
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self.offset += len(data) if dead else end
        return [line for line in data[:end].decode().splitlines() if line]


class File:
    """flatstore."""

    def __init__(self):
        self.lines = Lines(os.path.join(tempfile.mkdtemp(prefix="ev", dir="/tmp"), "file"))
        self.uri = "flatstore:%s?timeout=60s" % self.lines.path

    def settle(self):
        pass

    def take(self, dead):
        for line in self.lines.take(dead):
            _, number, payload = line.split(",", 2)
            yield int(number), payload, None


class Peer:
    """A receiver in a process of its own: http, tcp or unix."""

    def __init__(self, kind):
        self.kind, self.receiver, self.up, self.marks = kind, Receiver(kind), True, 0
        self.lines = Lines(self.receiver.record)
        self.uri = self.receiver.uri + ("&timeout=60s" if kind == "tcp" else "?encoding=json&timeout=60s")

    def settle(self):
        what = "the %s receiver has read all that the dead service sent" % self.kind
        if self.kind == "unix":  # a datagram of ours, behind those of the service
            self.marks += 1
            mark = json.dumps({"mark": self.marks}).encode()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.connect(self.receiver.path)
                sender.sendall(mark)
            eventually(lambda: self._ends_with(mark + b"\n"), what, PATIENCE)
        elif self.up:
            eventually(self._is_left, what, PATIENCE)

    def _ends_with(self, mark):
        with open(self.lines.path, "rb") as file:
            file.seek(max(0, os.path.getsize(self.lines.path) - len(mark)))
            return file.read() == mark

    def _is_left(self):
        """It has closed each connection, read to its end; those that it has not taken yet count, too."""
        with open("/proc/net/tcp") as sockets:
            fields = [line.split() for line in sockets]
        return not any(f[1].endswith(":%04X" % self.receiver.port) and f[3] in (ESTABLISHED, CLOSE_WAIT) for f in fields)

    def take(self, dead):
        for line in self.lines.take(dead):
            got = json.loads(line)
            if "mark" not in got:
                yield int(got["params"]["n"]), got["params"]["payload"], got.get("event_id")

    def die(self):
        if self.up:
            self.receiver.kill()
            self.up = False

    def return_(self):
        if not self.up:
            self.receiver.start()
            self.up = True


class Listener:
    """stream:NAME."""

    def __init__(self, name):
        self.name, self.uri = name, "stream:%s?timeout=60s" % name
        self.arrived, self.taken, self.thread = [], 0, None

    def listen_to(self, service):
        self.thread = threading.Thread(target=self._run, args=(service,), daemon=True)
        self.thread.start()

    def _run(self, service):
        answers = queue.Queue()
        answers.put(event.ListenRequest(name=self.name))
        try:
            for delivery in service.events.Listen(iter(answers.get, None)):
                number, payload = (param.string_value for param in delivery.event.params)
                self.arrived.append((int(number), payload, delivery.event.event_id))
                answers.put(event.ListenRequest(acks=[delivery.delivery_id]))
        except (grpc.RpcError, ValueError):
            pass  # the service has died, and its channel may be closed already
        answers.put(None)

    def settle(self):
        if self.thread is not None:
            self.thread.join(PATIENCE)
            assert not self.thread.is_alive(), "the listener does not end"
            self.thread = None

    def take(self, dead):
        new, self.taken = self.arrived[self.taken:], len(self.arrived)
        return new
