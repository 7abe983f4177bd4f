"""Proves that what the documents say can be done: python3 tests/docs/check_docs.py [ROOT].

In every *.md: relative links lead to a file; each `./dev X` is a command of ./dev; each `evctl X` and each `--flag` of
evctl and eventvirtuald is known to the built programs (where they are built; a note says when they are not).
Prints `file:line: what` for each fault; exit code 1 if there is one.
"""

import os
import re
import subprocess
import sys

SERVER = "bazel-bin/server/eventvirtuald"
CLIENT = "bazel-bin/client/evctl"

LINK = re.compile(r"\[[^\]]*\]\(<?([^)>\s]+)>?[^)]*\)")
FENCE = re.compile(r"^\s*(```|~~~)")
SPAN = re.compile(r"`([^`]+)`")
DEV = re.compile(r"(?:^|[\s;&|(])\./dev +([a-z]\w*)")
CLIENT_CALL = re.compile(r"(?:^|[\s;&|(/])evctl((?: +--?[\w-]+(?:[= ]\S+)?)*?) +([a-z][a-z-]*)")
OURS = re.compile(r"(?:^|[\s;&|(/])(evctl|eventvirtuald)\b|\./dev +run\b")
FLAG = re.compile(r"(?<![\w-])--([a-z][a-z0-9_-]*)")


def said_by(*command):
    """What a program says of itself, on whichever stream."""
    run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20,
                         check=False)
    return run.stdout.decode("utf-8", "replace")


class Tools:
    """What the tools know: commands of ./dev, commands of evctl, flags of all three. None: not built."""

    def __init__(self, root):
        help_of_dev = said_by(os.path.join(root, "dev"), "help")
        self.dev = set(re.findall(r"^  ([a-z]+) ", help_of_dev, re.MULTILINE))
        self.client = self.flags = None
        server, client = os.path.join(root, SERVER), os.path.join(root, CLIENT)
        if not (os.path.exists(server) and os.path.exists(client)):
            return
        texts = [help_of_dev, said_by(server, "--help"), said_by(client, "--help")]
        self.client = set(re.findall(r"^ +(?:evctl +)?([a-z][a-z-]+)\b", texts[-1], re.MULTILINE))
        texts += [said_by(client, command, "--help") for command in sorted(self.client)]
        self.flags = {flag for text in texts for flag in FLAG.findall(text)} | {"help"}


def commands_of(content):
    """Yields (line, text) of each line of a fenced block and each `span`; lines ending in a backslash are joined."""
    fenced, begun, joined = False, 0, ""
    for number, line in enumerate(content.splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
        elif fenced:
            begun = begun if joined else number
            joined += line.split(" # ")[0].rstrip("\\")
            if not line.endswith("\\"):
                yield begun, joined
                joined = ""
        else:
            for span in SPAN.findall(line):
                yield number, span


def links_of(content):
    fenced = False
    for number, line in enumerate(content.splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            for target in LINK.findall(SPAN.sub("", line) if "](" not in line else line):
                yield number, target


def faults_of(path, content, root, tools):
    for number, target in links_of(content):
        file = target.split("#")[0]
        if not file or re.match(r"[a-z]+:", file):
            continue  # within this document, or out in the world
        if not os.path.exists(os.path.join(root, os.path.dirname(path), file)):
            yield number, "the link leads nowhere: %s" % target
    for number, text in commands_of(content):
        for command in DEV.findall(text):
            if command not in tools.dev:
                yield number, "there is no ./dev %s" % command
        if tools.flags is None:
            continue
        for _, command in CLIENT_CALL.findall(text):
            if command not in tools.client:
                yield number, "there is no evctl %s" % command
        if OURS.search(text) or text.startswith("--"):
            for flag in FLAG.findall(text):
                if flag not in tools.flags:
                    yield number, "no program of ours has --%s" % flag


def documents_below(root):
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith(("bazel-", "."))]
        for name in names:
            if name.endswith(".md"):
                yield os.path.relpath(os.path.join(folder, name), root)


def faults(root, tools):
    found = []
    for path in sorted(documents_below(root)):
        with open(os.path.join(root, path), encoding="utf-8") as file:
            found += ["%s:%d: %s" % (path, line, what) for line, what in faults_of(path, file.read(), root, tools)]
    return found


def main(argv):
    root = argv[1] if len(argv) > 1 else "."
    tools = Tools(root)
    if tools.flags is None:
        print("evctl and eventvirtuald are not built: their commands and flags were not compared", file=sys.stderr)
    found = faults(root, tools)
    print("\n".join(found) if found else "the documents are right")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
