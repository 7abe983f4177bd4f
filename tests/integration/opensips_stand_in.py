"""What of OpenSIPS this service meets, in a process of its own: opensips_stand_in.py MI ADDRESS SCRIPT RECORD.

MI is http (ADDRESS: a port), udp (a port) or unix (a path), as mi_http and mi_datagram serve it. SCRIPT is a file with
{"events": [...], "subscribe": [[event, socket], ...]}: what is published, and what startup_route subscribes for ever. To
RECORD goes a line for each event that no socket of a subscription took: `lost EVENT SOCKET`.

It has the event interface's list of subscribers with its expiry, MI's commands and errors, and delivers to tcp
(event_stream in reliable mode), udp, unix and, with FAILOVER and PARALLEL, to virtual sockets and flatstore.
"""

import http.server
import itertools
import json
import os
import socket
import sys
import threading
import time

SCHEMES = ("tcp", "udp", "unix", "flatstore", "virtual", "rabbitmq")
DEFAULT_EXPIRE = 3600


class MiError(Exception):
    def __init__(self, code, message, data=None):
        super().__init__()
        self.error = {"code": code, "message": message, **({"data": data} if data else {})}


INVALID_PARAMS = (-32602, "Invalid params")


class Stream:
    """event_stream in reliable mode: requests over one connection, an event counts when it is answered."""

    def __init__(self, host, port):
        self.address, self.connection, self.ids = (host, port), None, itertools.count(915243442)

    def send(self, name, params):
        number = next(self.ids)
        request = {"id": number, "jsonrpc": "2.0", "method": name, **({"params": params} if params else {})}
        try:
            if self.connection is None:
                self.connection = socket.create_connection(self.address, timeout=20)
            self.connection.sendall(json.dumps(request, separators=(",", ":")).encode())
            answer = json.loads(self.connection.recv(8192))
            return answer["id"] == number and "error" not in answer
        except (OSError, ValueError):
            if self.connection is not None:
                self.connection.close()
            self.connection = None
            return False


class Subscriber:
    def __init__(self, text):
        self.text = text
        scheme, _, rest = text.partition(":")
        self.members, self.policy = [], None
        if scheme not in SCHEMES or not rest:
            raise MiError(400, "Bad parameter value")
        if scheme == "virtual":
            self.policy, *members = rest.split()
            if self.policy not in ("PARALLEL", "FAILOVER", "ROUND-ROBIN"):
                raise MiError(400, "Bad parameter value")
            self.members = [Member(member) for member in members]
        else:
            self.members = [Member(text)]
        self.subscribed, self.expire = time.time(), None

    def same(self, other):
        mine, theirs = [m.text for m in self.members], [m.text for m in other.members]
        if self.policy == "PARALLEL":
            mine, theirs = sorted(mine), sorted(theirs)
        return self.policy == other.policy and mine == theirs

    def expired(self):
        return self.expire is not None and self.subscribed + self.expire < time.time()

    def listed(self):
        if self.expire is None:
            return {"socket": self.text, "expire": "never"}
        return {"socket": self.text, "expire": self.expire, "ttl": int(self.subscribed + self.expire - time.time())}

    def deliver(self, name, params):
        """Gives the sockets that should have taken the event and did not."""
        if self.policy == "FAILOVER":
            taken = any(member.send(name, params) for member in self.members)  # in order, up to the first
            return [] if taken else [self.text]
        return [member.text for member in self.members if not member.send(name, params)]


class Member:
    streams = {}  # by address, shared by all who send there

    def __init__(self, text):
        self.text = text
        self.scheme, _, self.rest = text.partition(":")
        if text.startswith("/"):
            self.scheme, self.rest = "unix", text

    def send(self, name, params):
        notification = {"jsonrpc": "2.0", "method": name, **({"params": params} if params else {})}
        text = json.dumps(notification, separators=(",", ":")).encode()
        try:
            if self.scheme == "tcp":
                host, port = self.rest.split("/")[0].rsplit(":", 1)
                return Member.streams.setdefault((host, port), Stream(host, int(port))).send(name, params)
            if self.scheme == "udp":
                host, port = self.rest.rsplit(":", 1)
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                    s.sendto(text, (host, int(port)))
                return True
            if self.scheme == "unix":
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
                    s.sendto(text, self.rest)
                return True
            if self.scheme == "flatstore":
                values = params.values() if isinstance(params, dict) else params or []
                with open(self.rest, "a") as file:
                    file.write(",".join([name, *map(str, values)]) + "\n")
                return True
        except OSError:
            pass
        return False


class EventInterface:
    def __init__(self, script, record):
        self.lock, self.record = threading.Lock(), record
        self.events = {name: [] for name in script["events"]}
        for event, text in script["subscribe"]:
            self.events[event].append(Subscriber(text))

    def subscribe(self, event, text, expire=DEFAULT_EXPIRE):
        try:
            expire = int(expire)
        except (TypeError, ValueError):
            raise MiError(*INVALID_PARAMS, "Bad type for parameter 'expire'") from None
        if expire < 0:
            raise MiError(*INVALID_PARAMS, "Negative expire value")
        if event not in self.events:
            raise MiError(400, "Bad parameter value")
        wanted = Subscriber(text)
        for subscriber in self.events[event]:
            if subscriber.same(wanted):
                subscriber.subscribed, subscriber.expire = time.time(), expire
                return "OK"
        wanted.expire = expire
        self.events[event].insert(0, wanted)
        return "OK"

    def live(self, event):
        self.events[event] = [s for s in self.events[event] if not s.expired()]
        return self.events[event]

    def list_events(self):
        return {"Events": [{"name": name, "id": number} for number, name in enumerate(self.events)]}

    def list_subscribers(self, event=None, text=None):
        numbers = {name: number for number, name in enumerate(self.events)}

        def listed(name):
            subscribers = [s.listed() for s in self.live(name)]
            return {"name": name, "id": numbers[name], "Subscribers": subscribers} if subscribers else {}

        if event is None:
            return {"Events": [listed(name) for name in self.events]}
        if event not in self.events:
            raise MiError(404, "Event not published")
        if text is None:
            return {"Event": listed(event)}
        for subscriber in self.live(event):
            if subscriber.same(Subscriber(text)):
                return {"Event": {"name": event, "id": numbers[event], "Subscriber": subscriber.listed()}}
        raise MiError(404, "Subscriber does not exist")

    def raise_event(self, event, params=None):
        if event not in self.events:
            raise MiError(404, "Event not registered")
        if isinstance(params, str):
            try:
                params = json.loads(params)
            except ValueError:
                raise MiError(400, "Bad Params") from None
        if not self.live(event):
            raise MiError(480, "Temporarily Unavailable")
        for subscriber in self.events[event]:
            for lost in subscriber.deliver(event, params):
                print("lost", event, lost, file=self.record, flush=True)
        return "OK"

    def call(self, method, params):
        commands = {"event_subscribe": (self.subscribe, ("event", "socket", "expire"), 2),
                    "events_list": (self.list_events, (), 0),
                    "subscribers_list": (self.list_subscribers, ("event", "socket"), 0),
                    "raise_event": (self.raise_event, ("event", "params"), 1)}
        if method == "which":
            return sorted([*commands, "which"])
        if method not in commands:
            raise MiError(-32601, "Method not found")
        command, names, least = commands[method]
        if isinstance(params, dict):
            if set(params) != set(names[:len(params)]):
                raise MiError(*INVALID_PARAMS, "Named parameters do not match")
            params = [params[name] for name in names[:len(params)]]
        if not least <= len(params) <= len(names):
            raise MiError(*INVALID_PARAMS, "Too few or too many parameters")
        with self.lock:
            return command(*params)

    def answer(self, text):
        """The answer to one request; None: it is no JSON."""
        try:
            request = json.loads(text)
        except ValueError:
            return None
        answer = {"jsonrpc": "2.0"}
        try:
            if request.get("jsonrpc") != "2.0" or "method" not in request:
                raise MiError(-32600, "Invalid Request")
            answer["result"] = self.call(request["method"], request.get("params", []))
        except MiError as error:
            answer["error"] = error.error
        answer["id"] = request.get("id")
        return json.dumps(answer, separators=(",", ":")).encode()


def serve_http(port, events):
    class Web(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found = self.path == "/mi" and self.headers["Content-Type"] == "application/json"
            answer = events.answer(body) if found else b"<html>Unknown URL</html>"
            if answer is None:
                answer = b'{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"},"id":null}'
            self.send_response(200 if found else 406)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        disable_nagle_algorithm = True

    Server(("127.0.0.1", port), Web).serve_forever()


def serve_datagrams(family, address, events):
    if family == socket.AF_UNIX and os.path.exists(address):
        os.unlink(address)  # of one that was killed
    asked, answering = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
    asked.bind(address)
    while True:
        text, sender = asked.recvfrom(65457)
        answer = events.answer(text) or b"400 Parse_error"
        try:
            if sender:
                answering.sendto(answer, sender)
        except OSError:
            pass  # whoever asked has gone


def main(mi, address, script, record):
    with open(script) as file:
        events = EventInterface(json.load(file), open(record, "a"))
    if mi == "http":
        serve_http(int(address), events)
    elif mi == "udp":
        serve_datagrams(socket.AF_INET, ("127.0.0.1", int(address)), events)
    elif mi == "unix":
        serve_datagrams(socket.AF_UNIX, address, events)
    else:
        sys.exit(__doc__)


main(*sys.argv[1:])
