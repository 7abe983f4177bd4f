"""A real RabbitMQ broker for one test. Needs Debian's rabbitmq-server, python3-pika and util-linux."""

import glob
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pika


def _free_port():
    """Below the range of clients' ports: while the broker is down, none of them may take its port."""
    while True:
        port = random.randint(10000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue  # taken


class RabbitMQ:
    """Runs on free loopback ports (`port`), writes only below `dir`, and needs no epmd. Dies with this process."""

    def __init__(self):
        found = glob.glob("/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server")
        assert found, "no rabbitmq-server: install Debian's package rabbitmq-server"
        self._sbin = os.path.dirname(found[0])
        self.dir = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        self.port = _free_port()
        distribution = _free_port()
        with open(os.path.join(self.dir, "plugins"), "w") as f:
            f.write("[].\n")
        with open(os.path.join(self.dir, "rabbitmq.conf"), "w") as f:
            f.write("listeners.tcp.1 = 127.0.0.1:%d\ndisk_free_limit.absolute = 1MB\nlog.console = false\n" % self.port)
        cookie = os.path.join(self.dir, ".erlang.cookie")
        with open(cookie, "w") as f:
            f.write("eventvirtual")
        os.chmod(cookie, 0o400)
        # Without epmd both sides must be told the port.
        no_epmd = "-start_epmd false -erl_epmd_port %d" % distribution
        self._environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": self.dir,
            "HOSTNAME": "localhost",
            "RUNNING_UNDER_SYSTEMD": "1",  # the start script becomes the server, instead of watching over it
            "RABBITMQ_CONF_ENV_FILE": "/nonexistent",
            "RABBITMQ_NODENAME": "ev%d@localhost" % self.port,
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONFIG_FILE": os.path.join(self.dir, "rabbitmq"),
            "RABBITMQ_MNESIA_BASE": os.path.join(self.dir, "mnesia"),
            "RABBITMQ_LOG_BASE": os.path.join(self.dir, "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": os.path.join(self.dir, "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": no_epmd + " -kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CTL_ERL_ARGS": no_epmd + " -dist_listen false",
        }
        self._process = None
        self.start()

    def start(self):
        """Starts it, also again with what it kept on disk, and waits until it answers."""
        assert self._process is None, "it runs already"
        self._log = open(os.path.join(self.dir, "output"), "a+")
        self._process = subprocess.Popen(
            ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--", self._sbin + "/rabbitmq-server"],
            env=self._environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + 60
        while True:
            try:
                self._connect().close()
                return
            except (pika.exceptions.AMQPError, OSError):
                assert self._process.poll() is None and time.monotonic() < deadline, "rabbitmq-server does not start: " + self.log()
                time.sleep(0.05)  # between two looks at another process

    @property
    def pid(self):
        return self._process.pid

    def stop(self):
        """In order."""
        self._end(signal.SIGTERM)

    def kill(self):
        self._end(signal.SIGKILL)

    def restart(self):
        self.stop()
        self.start()

    def close(self):
        """Kills it and removes what it wrote."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def log(self):
        self._log.seek(0)
        return self._log.read()

    def ctl(self, *arguments):
        """rabbitmqctl; gives what it printed."""
        return subprocess.run([self._sbin + "/rabbitmqctl", "--timeout", "60", *arguments], env=self._environment,
                              check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout

    def declare_queue(self, name, durable=True):
        with self._connect() as connection:
            connection.channel().queue_declare(name, durable=durable)

    def get(self, queue):
        """The bodies of all messages in the queue now, which are taken from it."""
        bodies = []
        with self._connect() as connection:
            channel = connection.channel()
            while True:
                method, _, body = channel.basic_get(queue, auto_ack=True)
                if method is None:
                    return bodies
                bodies.append(body)

    def _connect(self):
        return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", self.port))

    def _end(self, number):
        self._process.send_signal(number)
        self._process.wait(60)
        self._process = None
        self._log.close()
