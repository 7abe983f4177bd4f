"""A real server, or a receiver of ours, for each transport: they are started, stopped, killed and asked what they have.

An event's first parameter is a number, by which `received()` tells what arrived.
"""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import tempfile

from rabbitmq import RabbitMQ
from service import EVCTL, STUBS, eventually, free_port

RECEIVER = os.path.join(os.path.dirname(__file__), "receiver.py")
GRPC_RECEIVER = "client/examples/python/receiver.py"
STRICT_XMLRPC = "tests/transports/xmlrpc/strict_server.py"
STRICT_SQS, SQS_CONSUMER = "tests/transports/sqs/strict_sqs.py", "tests/transports/sqs/consumer.py"

# A Service has its credentials for SQS from our environment; these are what STRICT_SQS knows.
os.environ.update(AWS_ACCESS_KEY_ID="AKIDEXAMPLE", AWS_SECRET_ACCESS_KEY="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


def answers(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def stop_process(pid):
    """SIGSTOP to a child; returns when all its threads stand still: until then some of them may answer."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)


def params_of(text):
    """The first parameter of each JSON-RPC text of `text`, a line each."""
    return [int(next(iter(json.loads(line)["params"].values()))) for line in text.splitlines() if line]


class Server:
    """Started when it is made. `name`: the transport's scheme; `uri`: of the subscriber."""

    keeps = True  # what it has confirmed is there after kill -9 and a new start

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        self.port = free_port()
        self.record = os.path.join(self.dir, "record")
        self.printed = os.path.join(self.dir, "printed")
        self.process = None
        self.prepare()
        self.start()

    def prepare(self):
        """Writes what `command()` needs."""

    def command(self):
        raise NotImplementedError

    def ready(self):
        return answers(self.port)

    def start(self):
        """Starts it, also again with what it kept, and waits until it answers."""
        with open(os.path.join(self.dir, "output"), "a") as output, open(self.printed, "a") as printed:
            self.process = subprocess.Popen(["/usr/bin/setpriv", "--pdeathsig", "KILL", "--", *self.command()],
                                            cwd=self.dir, stdin=subprocess.DEVNULL, stdout=printed, stderr=output)
        eventually(lambda: self.lives() and self.ready(), self.name + " answers", seconds=60)

    def lives(self):
        with open(os.path.join(self.dir, "output")) as output:
            assert self.process.poll() is None, "%s ended, is it installed? %s" % (self.name, output.read())
        return True

    def pause(self):
        stop_process(self.process.pid)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()

    close = kill

    def received(self):
        """The numbers of the events that have arrived, in their order."""
        with open(self.record) as record:
            return params_of(record.read())


class Receiver(Server):
    def __init__(self, kind):
        self.name = kind
        self.keeps = kind in ("http", "tcp")  # a datagram that nobody has read dies with its receiver
        super().__init__()

    def prepare(self):
        self.path = os.path.join(self.dir, "socket")
        self.uri = {"unix": "unix:" + self.path, "udp": "udp:127.0.0.1:%d" % self.port,
                    "tcp": "tcp:127.0.0.1:%d?reliable=1" % self.port,
                    "http": "http://127.0.0.1:%d/" % self.port}[self.name]

    def command(self):
        return ["/usr/bin/python3", RECEIVER, self.name, self.path if self.name == "unix" else str(self.port),
                self.record]

    def ready(self):
        if self.name not in ("unix", "udp"):
            return answers(self.port)
        if self.name == "udp":
            with open("/proc/net/udp") as sockets:
                return ":%04X " % self.port in sockets.read()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            return s.connect_ex(self.path) == 0


class Xmlrpc(Server):
    name = "xmlrpc"

    def prepare(self):
        self.uri = "xmlrpc:127.0.0.1:%d:receive" % self.port

    def command(self):
        return ["/usr/bin/python3", os.path.abspath(STRICT_XMLRPC), str(self.port), self.record]

    def received(self):
        with open(self.record) as record:
            return [int(next(iter(json.loads(line)[1].values()))) for line in record]


def printed_numbers(path):
    """The first parameter of each event of `path`, each of which is a line of JSON as protobuf writes it."""
    with open(path) as printed:
        return [int(json.loads(line)["params"][0]["string_value"]) for line in printed]


class Grpc(Server):
    """The example for those who write a receiver."""

    name = "grpc"

    def prepare(self):
        self.uri = "grpc://127.0.0.1:%d" % self.port

    def command(self):
        return ["/usr/bin/env", "PYTHONPATH=" + STUBS, "/usr/bin/python3", os.path.abspath(GRPC_RECEIVER),
                "127.0.0.1:%d" % self.port]

    def received(self):
        return printed_numbers(self.printed)


class Sqs(Server):
    """moto behind a check of every signature."""

    name, keeps = "sqs", False  # in memory

    def prepare(self):
        self.python = os.path.join(os.environ.get("PYTHON_TOOLS", ""), "bin/python")
        assert os.path.exists(self.python), "no moto in $PYTHON_TOOLS; ./dev test fetches it"
        self.uri = "sqs:http://127.0.0.1:%d/123456789012/calls?region=eu-central-1&timeout=1m" % self.port

    def command(self):
        return [self.python, os.path.abspath(STRICT_SQS), str(self.port)]

    def received(self):
        """Takes them out of the queue, by AWS' own client."""
        done = subprocess.run([self.python, SQS_CONSUMER, str(self.port), "calls"], check=True, stdout=subprocess.PIPE,
                              text=True)
        return params_of("\n".join(json.loads(line)["body"] for line in done.stdout.splitlines()))


class Stream(Server):
    """evctl listen, as a client of `service`."""

    name, uri = "stream", "stream:app"

    def __init__(self, service):
        self.service = service
        super().__init__()

    def command(self):
        return [os.path.abspath(EVCTL), "--server=" + self.service.address, "listen", "app"]

    def ready(self):
        return True  # no port; who needs it delivers until it succeeds

    def received(self):
        return printed_numbers(self.printed)


class Redis(Server):
    name = "redis"

    def prepare(self):
        self.uri = "redis://127.0.0.1:%d/list:l" % self.port

    def command(self):
        return ["/usr/bin/redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]

    def received(self):
        done = subprocess.run(["/usr/bin/redis-cli", "-p", str(self.port), "--raw", "LRANGE", "l", "0", "-1"],
                              check=True, stdout=subprocess.PIPE, text=True)
        return params_of(done.stdout)[::-1]


class Nats(Server):
    """With a JetStream stream that takes the subject."""

    name = "nats"

    def prepare(self):
        self.uri = "nats://127.0.0.1:%d/s?jetstream=1" % self.port

    def command(self):
        return ["/usr/sbin/nats-server", "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", self.dir]

    def ready(self):
        if not answers(self.port):
            return False
        # JetStream recovers after the port is open. To create what is there is no error.
        answer = self.request("$JS.API.STREAM.CREATE.s", {"name": "s", "subjects": ["s"], "storage": "file"})
        return answer is not None and "config" in answer

    def request(self, subject, body):
        """What JetStream's API answers, over NATS' own protocol; None without JetStream."""
        text = json.dumps(body).encode()
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as s:
            s.sendall(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB inbox 1\r\nPUB %s inbox %d\r\n%s\r\n' % (
                subject.encode(), len(text), text))
            data = b""
            while True:
                found = re.search(rb"\r\n(H?)MSG inbox 1 (?:\d+ )?(\d+)\r\n", data)
                if found and len(data) >= found.end() + int(found.group(2)):
                    return None if found.group(1) else json.loads(data[found.end():found.end() + int(found.group(2))])
                more = s.recv(65536)
                if not more:
                    return None
                data += more

    def received(self):
        last = self.request("$JS.API.STREAM.INFO.s", {})["state"]["last_seq"]
        bodies = [self.request("$JS.API.STREAM.MSG.GET.s", {"seq": i + 1})["message"]["data"] for i in range(last)]
        return params_of("\n".join(base64.b64decode(body).decode() for body in bodies))


class Mosquitto(Server):
    name, keeps = "mqtt", False  # its disk sees what it acknowledged minutes later

    def prepare(self):
        self.uri = "mqtt://127.0.0.1:%d/t" % self.port
        with open(os.path.join(self.dir, "mosquitto.conf"), "w") as file:
            # As root it would drop its rights, and reach nothing of ours.
            file.write("%slistener %d 127.0.0.1\nallow_anonymous true\n" % (
                "user root\n" if os.geteuid() == 0 else "", self.port))

    def command(self):
        return ["/usr/sbin/mosquitto", "-c", "mosquitto.conf"]


class Kafka(Server):
    name = "kafka"

    def prepare(self):
        jars = os.environ.get("KAFKA_JARS", "")
        assert os.path.isdir(jars), "no Apache Kafka in $KAFKA_JARS; ./dev test fetches it"
        self.uri = "kafka:127.0.0.1:%d/t" % self.port
        controller = free_port()
        listener = "BROKER://127.0.0.1:%d" % self.port
        with open(os.path.join(self.dir, "server.properties"), "w") as file:
            file.write("\n".join([
                "process.roles=broker,controller", "node.id=1", "controller.quorum.voters=1@127.0.0.1:%d" % controller,
                "listeners=%s,CONTROLLER://127.0.0.1:%d" % (listener, controller), "advertised.listeners=" + listener,
                "listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
                "inter.broker.listener.name=BROKER", "controller.listener.names=CONTROLLER", "log.dirs=" + self.dir + "/data",
                "offsets.topic.replication.factor=1", "num.partitions=1", "num.io.threads=2", "num.network.threads=2",
                # A killed broker is let in again only after its old session has ended; nine seconds by default.
                "broker.session.timeout.ms=2000", "broker.heartbeat.interval.ms=200"]))
        self.java = ["/usr/bin/java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", jars + "/*"]
        subprocess.check_output([*self.java, "kafka.tools.StorageTool", "format", "--cluster-id",
                                 "AAAAAAAAAAAAAAAAAAAAAA", "--config", "server.properties"], cwd=self.dir,
                                stderr=subprocess.STDOUT)

    def command(self):
        return [*self.java, "kafka.Kafka", "server.properties"]

    def ready(self):
        """It leads the topic, which the question creates."""
        done = self.kcat("-L", "-J", "-t", "t", "-m", "2")
        topics = json.loads(done.stdout)["topics"] if done.returncode == 0 else []
        return bool(topics) and bool(topics[0]["partitions"]) and topics[0]["partitions"][0]["leader"] >= 0

    def kcat(self, *words):
        return subprocess.run(["/usr/bin/kcat", "-b", "127.0.0.1:%d" % self.port, *words], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)

    def received(self):
        return params_of(self.kcat("-C", "-q", "-e", "-o", "beginning", "-t", "t").stdout)


class Rabbit:
    """A Server around RabbitMQ, which needs a longer start."""

    name, keeps = "rabbitmq", True

    def __init__(self):
        self.broker = RabbitMQ()
        self.broker.declare_queue("q")
        self.broker.restart()  # killed soon after, it would have forgotten the queue
        self.uri = "rabbitmq:guest:guest@127.0.0.1:%d/persistent?q" % self.broker.port
        self.start, self.kill, self.close = self.broker.start, self.broker.kill, self.broker.close

    def pause(self):
        stop_process(self.broker.pid)

    def resume(self):
        os.kill(self.broker.pid, signal.SIGCONT)

    def received(self):
        return params_of("\n".join(body.decode() for body in self.broker.get("q")))


def all_servers(service):
    """One of each, which the caller closes."""
    return [Redis(), Nats(), Mosquitto(), Kafka(), Rabbit(), Xmlrpc(), Grpc(), Sqs(), Stream(service),
            *(Receiver(kind) for kind in ("http", "tcp", "udp", "unix"))]
