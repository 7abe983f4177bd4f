"""What a user would pick instead: servers of Debian's packages, in the foreground, on loopback, nothing kept on disk."""

import atexit
import functools
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import processes as p

# {port}, {dir} and {targets} are filled in. Each stands as it comes, but for limits that would lose events here.
COMMANDS = {
    "nats": "/usr/sbin/nats-server --addr 127.0.0.1 --port {port}",
    "redis": "/usr/bin/redis-server --bind 127.0.0.1 --port {port} --dir {dir} --save ''",
    "mosquitto": "/usr/sbin/mosquitto -c {dir}/conf",
    "rsyslog": "/usr/sbin/rsyslogd -n -i {dir}/pid -f {dir}/conf",
}
CONFIGURATIONS = {
    "mosquitto": "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n",
    "rsyslog": """global(workDirectory="{dir}")
module(load="imudp")
template(name="as_it_came" type="string" string="%rawmsg%")
input(type="imudp" address="127.0.0.1" port="{port}" rcvbufSize="64m" ruleset="fan_out")
ruleset(name="fan_out") {{
{targets}}}
""",
}
TARGET = '  action(type="omfwd" protocol="udp" target="{0}" port="{1}" template="as_it_came")\n'


class Peer:
    """One running server: `pid`, `address`."""

    def __init__(self, name, kind=socket.SOCK_STREAM, targets=()):
        command = COMMANDS[name]
        if not os.path.exists(command.split()[0]):
            raise SystemExit("no %s; use ./dev bench, which installs it" % command.split()[0])
        self.dir = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        with socket.socket(socket.AF_INET, kind) as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.address = "127.0.0.1:%d" % port
        words = {"port": port, "dir": self.dir,
                 "targets": "".join(TARGET.format(*target.split(":")) for target in targets)}
        with open(os.path.join(self.dir, "conf"), "w") as conf:
            conf.write(CONFIGURATIONS.get(name, "").format(**words))
        with open(os.path.join(self.dir, "log"), "w") as log:
            self.process = subprocess.Popen(shlex.split(command.format(**words)), stdout=log, stderr=log)
        self.pid = self.process.pid
        deadline = time.monotonic() + 20
        while not self._answers(kind, port):
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.process.kill()
                raise SystemExit("%s does not start: %s" % (name, open(os.path.join(self.dir, "log")).read()))
            time.sleep(0.01)

    @staticmethod
    def _answers(kind, port):
        with socket.socket(socket.AF_INET, kind) as s:
            try:
                s.connect(("127.0.0.1", port))
                if kind == socket.SOCK_DGRAM:
                    s.send(b"no event\n")  # refused while nobody is bound there; no receiver counts it
                    time.sleep(0.01)
                    s.send(b"no event\n")
                return True
            except OSError:
                return False

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=60)
        shutil.rmtree(self.dir)


def broker(name, protocol, seconds):
    """Publishes to three tcp subscribers of a broker."""
    running = Peer(name)
    cpu, counted, _ = p.measured(
        running, [p.program("bench/broker_load"), protocol, running.address, str(seconds)])
    return p.per_event(cpu, counted, counted, 3)


def rsyslog(seconds, rate):
    """Datagrams at a rate, forwarded to three udp receivers."""
    subscribers = p.Subscribers("udp", "udp", "udp")
    running = Peer("rsyslog", socket.SOCK_DGRAM, subscribers.bare)
    return p.per_event(*p.measured(running, [p.program("bench/bare_loop"), "send", running.address, str(seconds),
                                             "rate=%d" % rate], subscribers.stop), 3)


@functools.lru_cache(maxsize=None)
def rabbitmq():
    """The broker of the integration tests: one for the whole run, since it takes seconds to start."""
    sys.path.append(os.path.join(p.ROOT, "tests", "integration"))
    import rabbitmq as integration  # needs python3-pika, which not every case does
    running = integration.RabbitMQ()
    atexit.register(running.close)
    return running


def confirmed(publish):
    """`publish(port, queue)` makes a sample; lost is what is not in the queue then."""
    import pika
    port = rabbitmq().port
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port)) as connection:
        channel = connection.channel()
        channel.queue_declare("bench")
        sample = publish(port, "bench")
        received = channel.queue_declare("bench", passive=True).method.message_count
        channel.queue_delete("bench")
    return dict(sample, lost=sample["events"] - sample["refused"] - received)


def rabbitmq_ours(*load):
    def publish(port, queue):
        running = p.Service("rabbitmq:127.0.0.1:%d/%s" % (port, queue))
        return p.per_event(*p.measured(running, p.loading(running.address, load)), 1)
    return confirmed(publish)


def rabbitmq_bare(seconds):
    def publish(port, queue):
        counted = p.run_json(p.program("bench/rabbitmq_loop"), str(port), queue, str(seconds))
        return p.per_event(counted["cpu"], counted, None, 1)
    return confirmed(publish)


def kafka(produce):
    """`produce(address)` makes a sample, on a mock cluster of its own; lost is what that has not stored."""
    broker = p.Listening(p.program("bench/kafka_loop"), "broker")
    sample = produce(broker.addresses[0])
    return dict(sample, lost=sample["events"] - sample["refused"] - broker.stop()["received"])


def kafka_ours(*load):
    def produce(address):
        running = p.Service("kafka:%s/bench" % address)
        return p.per_event(*p.measured(running, p.loading(running.address, load)), 1)
    return kafka(produce)


def kafka_bare(seconds):
    def produce(address):
        counted = p.run_json(p.program("bench/kafka_loop"), "produce", address, str(seconds))
        return p.per_event(counted["cpu"], counted, None, 1)
    return kafka(produce)
