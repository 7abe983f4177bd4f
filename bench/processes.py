"""Starts and measures the programs of the benchmark: the service, what it is compared with, loads and receivers."""

import glob
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.environ.get("EVENTVIRTUAL_BIN", os.path.join(ROOT, "bazel-bin"))


def program(label):
    path = os.path.join(BIN, label)
    if not os.path.exists(path):
        raise SystemExit("%s is not built; use ./dev bench" % path)
    return path


def cpu_seconds(pid):
    """Processor time of all threads of another process, by its clock: (~pid << 3) | CPUCLOCK_SCHED, as in the kernel."""
    return time.clock_gettime((~pid << 3) | 2)


def run_json(*command):
    """Runs a program to its end; gives the JSON object it printed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit("%s: exit code %d" % (" ".join(command), done.returncode))
    return json.loads(done.stdout)


def on(cores):
    """In front of a command: on so many cores; None: on all."""
    return ["/usr/bin/taskset", "--cpu-list", "0-%d" % (cores - 1)] if cores else []


class Listening:
    """A program that says `{"listening":[…]}` first, and ends on SIGTERM."""

    def __init__(self, *command, cores=None):
        begin = time.monotonic()
        self.process = subprocess.Popen([*on(cores), *command], stdout=subprocess.PIPE, text=True)
        self.addresses = json.loads(self.process.stdout.readline())["listening"]
        self.start_seconds = time.monotonic() - begin
        self.pid = self.process.pid

    def stop(self):
        """Gives the last JSON object it printed, if any."""
        self.process.terminate()
        text, _ = self.process.communicate(timeout=60)
        return json.loads(text) if text else None


class Service:
    """One eventvirtuald with one subscription to the event of the benchmark, or none."""

    def __init__(self, subscriber="", *flags, cores=None):
        self.dir = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        self.log = os.path.join(self.dir, "log")
        begin = time.monotonic()
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*on(cores), program("server/eventvirtuald"), "--listen=127.0.0.1:0", "--allow_directory=/", *flags], stderr=log)
        self.pid = self.process.pid
        line = self._ready_line()
        self.start_seconds = time.monotonic() - begin
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        self.address = words["listen"]
        self.ingest = words["ingest"].strip('"')
        if subscriber:
            subprocess.run([program("client/evctl"), "--server=" + self.address, "subscribe", "E_BENCH", subscriber],
                           check=True, stdout=subprocess.DEVNULL)

    def _ready_line(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            with open(self.log) as log:
                for line in log:
                    if "msg=ready" in line and line.endswith("\n"):
                        return line
            time.sleep(0.001)
        raise SystemExit("eventvirtuald does not start: " + open(self.log).read())

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=60)
        shutil.rmtree(self.dir)


class Subscribers:
    """Receivers in one process, each of a kind below; `uris` are for us, `bare` are addresses for bare loops."""

    # The receiver's word, and what our URI has behind its address.
    KINDS = {
        # What a load keeps waiting takes longer than the 50 ms that an attempt has, on a machine with other work.
        "udp": ("udp", "?timeout=2s"),
        "unix": ("unix:{dir}/{number}", ""),
        "tcp": ("tcp", ""),
        "reliable": ("tcp", "?reliable=1"),  # answers each event
        "slow": ("slow", "?reliable=1"),
        "deaf": ("deaf", "?reliable=1"),
        "flatstore": ("file:{dir}/{number}", ""),
    }

    def __init__(self, *kinds):
        self.dir = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        self.receiver = Listening(program("bench/receiver"), *(self.KINDS[kind][0].format(dir=self.dir, number=number)
                                                               for number, kind in enumerate(kinds)))
        self.uris = [uri + self.KINDS[kind][1] for kind, uri in zip(kinds, self.receiver.addresses)]
        self.bare = [uri.split(":", 1)[1] for uri in self.receiver.addresses]

    def stop(self):
        counts = self.receiver.stop()
        shutil.rmtree(self.dir)
        return counts


def virtual(policy, subscribers):
    return "virtual:%s %s" % (policy, " ".join(subscribers.uris))


def per_event(cpu, load, counts, copies):
    """What a load, its receivers and the measured process make together."""
    accepted = load["events"] - load["refused"]
    sample = dict(load, rate=accepted / load["seconds"], cpu_event=cpu / max(1, accepted) * 1e6)
    if counts:
        sample.update(cpu_delivery=cpu / max(1, counts["received"]) * 1e6, received=counts["received"],
                      lost=accepted * copies - (counts["received"] - counts["duplicates"]),
                      duplicates=counts["duplicates"])
    return sample


def measured(running, command, settle=lambda: None):
    """A load on a running server, which is stopped then: the server's CPU seconds until `settle()` returned, what the
    load counted, and what `settle()` gave."""
    before = cpu_seconds(running.pid)
    counted = run_json(*command)
    counts = settle()
    cpu = cpu_seconds(running.pid) - before
    running.stop()
    return cpu, counted, counts


def service(kinds, policy, *load, flags=(), cores=None):
    """eventvirtuald under a gRPC load: events, refused, seconds, rate, p50, p99, p999, cpu_event, cpu_delivery, lost…"""
    subscribers = Subscribers(*kinds)
    running = Service(virtual(policy, subscribers) if kinds else "", *flags, cores=cores)
    return per_event(*measured(running, loading(running.address, load), subscribers.stop),
                     len(kinds) if policy == "PARALLEL" else min(1, len(kinds)))


def loading(address, load):
    return [program("bench/load"), *load, "--server=" + address]


def beside(kind, *load):
    """What nine tcp subscribers see of a paced load beside a tenth: none (None), or one that is "deaf", "slow" or
    "stopped". p50, p99 and p999 are theirs, from when an event was due."""
    others = Subscribers(*["tcp"] * 9)
    tenth = Subscribers(*[] if kind is None else ["reliable" if kind == "stopped" else kind])
    # Short, so that the tenth's queue fills and its attempts time out, again and again.
    socket = virtual("PARALLEL", others) + "".join(" %s&timeout=100ms" % uri for uri in tenth.uris)
    running = Service(socket, "--queue_events=500")
    if kind == "stopped":
        os.kill(tenth.receiver.pid, signal.SIGSTOP)
    cpu, counted, counts = measured(running, loading(running.address, load), others.stop)
    if kind == "stopped":
        os.kill(tenth.receiver.pid, signal.SIGCONT)
    got = tenth.stop()["received"]
    # What the load was refused, the tenth was not sent.
    sample = per_event(cpu, dict(counted, refused=0), counts, 9)
    return dict(sample, tenth=got, p50=counts["p50"], p99=counts["p99"], p999=counts["p999"])


def empty(api, *load, cores=None):
    """The same load on handlers that do nothing."""
    running = Listening(program("bench/empty_service"), api, cores=cores)
    return per_event(*measured(running, loading(running.addresses[0], load)), 0)


def at_rest(pid, seconds):
    """A process that has nothing to do: how often per second its threads wake, and those among them that are our own;
    its resident MiB, and those among them that no other process shares and no file holds."""
    def wakings():
        tasks = [status(path) for path in glob.glob("/proc/%d/task/*/status" % pid)]
        return {every: sum(int(task["voluntary_ctxt_switches"]) for task in tasks
                           if every or task["Name"] == "eventvirtuald" or task["Name"].startswith("ev-"))
                for every in (True, False)}
    time.sleep(1)  # until what was before has ended
    before, cpu = wakings(), cpu_seconds(pid)
    time.sleep(seconds)
    after = wakings()
    return {"wakings": (after[True] - before[True]) / seconds, "own_wakings": (after[False] - before[False]) / seconds,
            "cpu_idle": (cpu_seconds(pid) - cpu) / seconds * 1e6,
            "resident": int(status("/proc/%d/status" % pid)["VmRSS"].split()[0]) / 1024,
            "own": int(status("/proc/%d/smaps_rollup" % pid)["Private_Dirty"].split()[0]) / 1024}


def status(path):
    """The fields of a file of proc(5) that has a name, a colon and a value in each line."""
    with open(path) as lines:
        return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def footprint(seconds):
    """From exec to the first delivery, in ms; the stripped program, in MiB; at rest, one subscriber connected."""
    subscribers = Subscribers("tcp")
    running = Service()
    first = run_json(*loading(running.address, ["first", "--socket=" + subscribers.uris[0]]))
    sample = dict(at_rest(running.pid, seconds), first=(running.start_seconds + first["seconds"]) * 1e3)
    running.stop()
    received = subscribers.stop()["received"]
    with tempfile.NamedTemporaryFile(prefix="ev", dir="/tmp") as stripped:
        subprocess.run(["strip", "-o", stripped.name, program("server/eventvirtuald")], check=True)
        sample["size"] = os.path.getsize(stripped.name) / 2**20
    return dict(sample, lost=1 - received)


def empty_footprint(seconds):
    """The same of a gRPC service that does nothing."""
    running = Listening(program("bench/empty_service"), "callback")
    run_json(*loading(running.addresses[0], ["raise", "--outstanding=1", "--seconds=0.001"]))
    sample = dict(at_rest(running.pid, seconds), first=running.start_seconds * 1e3)
    running.stop()
    return sample


def bare(loop, kind, seconds, *words):
    """A bare loop to one receiver."""
    subscribers = Subscribers(kind)
    counted = run_json(program("bench/bare_loop"), loop, subscribers.bare[0], str(seconds), *words)
    counts = subscribers.stop()
    return per_event(counted["cpu"], counted, counts, 1)


def bare_pair(loop, kind, seconds, cores, *words):
    """Two bare loops at the same time, each to a receiver of its own."""
    subscribers = Subscribers(kind, kind)
    loops = [subprocess.Popen([*on(cores), program("bench/bare_loop"), loop, to, str(seconds), *words],
                              stdout=subprocess.PIPE, text=True) for to in subscribers.bare]
    counted = [json.loads(loop.communicate()[0]) for loop in loops]
    counts = subscribers.stop()
    load = {"events": sum(one["events"] for one in counted), "refused": 0,
            "seconds": max(one["seconds"] for one in counted)}
    return per_event(sum(one["cpu"] for one in counted), load, counts, 1)


def ingest(listener, loop, seconds, kinds=("udp",), *words):
    """A bare loop into our ingest, and subscribers behind it, PARALLEL. The rate is that of what arrived."""
    subscribers = Subscribers(*kinds)
    where = tempfile.mkdtemp(prefix="ev", dir="/tmp")
    running = Service(virtual("PARALLEL", subscribers), "--ingest=" + listener.replace("DIR", where))
    cpu, counted, counts = measured(
        running, [program("bench/bare_loop"), loop, running.ingest.split(":", 1)[1], str(seconds), *words],
        subscribers.stop)
    shutil.rmtree(where)
    sample = per_event(cpu, counted, counts, len(kinds))
    sample["rate"] = counts["received"] / len(kinds) / max(1e-9, counts["seconds"])
    return sample


def core_raise(*words):
    """The core alone: rate, cpu_event, cpu_delivery of the whole process, its loop included."""
    counted = run_json(program("bench/core"), "raise", *words)
    deliveries = counted["deliveries"]
    return dict(counted, rate=counted["events"] / counted["seconds"], cpu_event=counted["cpu"] / counted["events"] * 1e6,
                cpu_delivery=counted["cpu"] / max(1, deliveries) * 1e6)


def core_to(kind, seconds, *words):
    """The core alone, to one real subscriber."""
    subscribers = Subscribers(kind)
    sample = core_raise("--make", "--seconds=%g" % seconds, *words, subscribers.uris[0])
    counts = subscribers.stop()
    return dict(sample, received=counts["received"], duplicates=counts["duplicates"],
                lost=sample["all_events"] - (counts["received"] - counts["duplicates"]))


def durable(callers, seconds):
    """Events made durable per second, by us and by bare loops, which take turns: figures of ours, and "SIDE FIGURE"."""
    counted = run_json(program("bench/durable"), "--callers=%d" % callers, "--seconds=%g" % seconds)
    sample = {"to_sqlite": counted["to_sqlite"], "to_write": counted["to_write"]}
    for side in ("ours", "sqlite", "write"):
        count = counted[side]
        sample.update({side + " rate": count["events"] / count["seconds"], side + " p99": count["p99"],
                       side + " cpu_event": count["cpu"] / count["events"] * 1e6})
    return sample


def core(mode, *words):
    """What another mode of the core's program prints."""
    return run_json(program("bench/core"), mode, *words)


def core_registry(others, count):
    """Subscribe, refresh, unsubscribe: per second, in the registry itself."""
    counted = run_json(program("bench/core"), "registry", "--others=%d" % others, "--count=%d" % count)
    return {"subscribe": count / counted["subscribe"], "refresh": count / counted["refresh"],
            "unsubscribe": count / counted["unsubscribe"], "bytes_each": counted["bytes_each"]}
