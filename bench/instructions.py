"""The instruction count of fixed scenarios in the core: the same on a busy machine as on an idle one."""

import json
import os
import re
import subprocess

import processes

SCENARIOS = ("PARALLEL", "FAILOVER", "ROUND-ROBIN", "PARALLEL 64", "ROUND-ROBIN 64")  # policy, events under one cork
RECORD = os.path.join(processes.ROOT, "bench", "instructions.json")
MOST = 1.05  # now to recorded: less is the difference between two compilers' minor releases


def count(scenario):
    """Instructions per raise."""
    done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*RaiseAll*",
                           processes.program("bench/scenarios"), *scenario.split()],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not collected or int(collected.group(1)) == 0:
        raise SystemExit("scenarios %s under callgrind: exit code %d\n%s" % (scenario, done.returncode, done.stderr))
    return int(collected.group(1)) / json.loads(done.stdout)["raises"]


def record():
    """Counts, and makes that what later runs are held against."""
    counts = {scenario: round(count(scenario)) for scenario in SCENARIOS}
    with open(RECORD, "w") as file:
        file.write(json.dumps(counts, indent=2) + "\n")
    print("recorded in bench/instructions.json: %s" % counts)


def check():
    """Prints each scenario's count beside the recorded one; whether none has grown beyond MOST times it."""
    with open(RECORD) as file:
        recorded = json.load(file)
    good = True
    print("%-15s %9s %9s %6s" % ("raise, over 3", "recorded", "now", "ratio"))
    for scenario in SCENARIOS:
        now = count(scenario)
        ratio = now / recorded[scenario]
        met = ratio <= MOST
        good = good and met
        print("%-15s %9d %9d %6.3f%s" % (scenario, recorded[scenario], now, ratio, "" if met else "  TOO MANY"))
    if not good:
        print("more than %.2f × the recorded instructions; where they are meant, ./dev bench --record" % MOST)
    return good
