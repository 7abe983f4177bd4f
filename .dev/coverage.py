"""What the tests run through: python3 .dev/coverage.py REPORT, an lcov report as `./dev coverage` makes it.

Prints lines and branches of each folder and of all, and of the files that must be covered whole the lines whose
branches are not. Exit code 1 if a bar below is missed.
"""

import collections
import os
import re
import sys

LINES = 90  # per cent, of everything
BRANCHES = 80
# Every branch: what decides where an event goes and what is read back from a damaged disk.
WHOLE = re.compile(
    r"(server/(dispatch/policy|registry/(virtual_socket|filter)|journal/journal)|transports/io/destination_policy)\.(cc|h)$")
OUR_OWN = "EV_CHECK("  # the branch into it is taken by a bug of ours alone


class Count:
    def __init__(self):
        self.there, self.run = 0, 0

    def add(self, times):
        self.there += 1
        self.run += times > 0

    def percent(self):
        return 100 * self.run / self.there if self.there else 100.0


def read(path):
    """Of each file, the times of each line and of each branch: {name: ({line: times}, {(line, index): times})}."""
    files, name = {}, None
    for text in open(path):
        kind, _, value = text.rstrip("\n").partition(":")
        if kind == "SF":
            name = value
            files[name] = ({}, {})
        elif kind == "DA":
            number, times = map(int, value.split(",")[:2])
            files[name][0][number] = times
        elif kind == "BRDA":
            number, _, index, times = value.split(",")
            files[name][1][int(number), int(index)] = int(times)
    return files


def main():
    files = read(sys.argv[1])
    folders = collections.defaultdict(lambda: (Count(), Count()))
    missed = []
    for name, (lines, branches) in sorted(files.items()):
        for counts in (folders[os.path.dirname(name)], folders["all"]):
            for times in lines.values():
                counts[0].add(times)
            for times in branches.values():
                counts[1].add(times)
        open_lines = sorted({number for (number, _), times in branches.items() if times == 0})
        if WHOLE.match(name):
            source = open(name).read().split("\n")
            open_lines = [number for number in open_lines if OUR_OWN not in source[number - 1]]
        if WHOLE.match(name) and open_lines:
            missed.append("%s: branches not taken in line %s" % (name, ", ".join(map(str, open_lines))))
    for folder in sorted(folders, key=lambda folder: (folder == "all", folder)):
        lines, branches = folders[folder]
        print("%-28s lines %6.1f %% of %5d   branches %6.1f %% of %5d" %
              (folder, lines.percent(), lines.there, branches.percent(), branches.there))
    lines, branches = folders["all"]
    if lines.percent() < LINES:
        missed.append("lines: %.1f %%, and %d are asked for" % (lines.percent(), LINES))
    if branches.percent() < BRANCHES:
        missed.append("branches: %.1f %%, and %d are asked for" % (branches.percent(), BRANCHES))
    print("\n".join(missed))
    return 1 if missed else 0


sys.exit(main())
