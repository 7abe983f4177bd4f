"""Proves that docs/guarantees.md names what is there: python3 tests/docs/check_guarantees.py [ROOT].

Each transport's schemes have a section; each section says what OK means, what may be lost, what may come twice, and which
order is kept; each of these rows names a test, and that test stands in a file that a test target of the same folder
compiles, so that it runs. `X.Holds/Y` must also be a case of the conformance suite. Prints `file:line: what` for each
fault; exit code 1 if there is one.
"""

import glob
import os
import re
import sys

DOCUMENT = "docs/guarantees.md"
ROWS = ("OK means", "may be lost", "may come twice", "order")
NAME = re.compile(r"`([A-Z]\w*\.[A-Z]\w*(?:/\w+)?)`")
CASE = re.compile(r"^TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", re.MULTILINE)
SCHEMES = re.compile(r"kSchemes\[\] = \{([^}]*)\}")


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


def tests_that_run(root):
    """The names of all gtest cases in files that a cc_test compiles."""
    names = set()
    for build in glob.glob(os.path.join(root, "tests/**/BUILD"), recursive=True):
        folder = os.path.dirname(build)
        for target in re.findall(r"^cc_test\((.*?)^\)", read("", build), re.MULTILINE | re.DOTALL):
            if "manual" in target:
                continue
            sources = re.search(r"srcs = \[(.*?)\]", target, re.DOTALL)
            for source in re.findall(r'"([^"]+\.cc)"', sources.group(1) if sources else ""):
                names |= {"%s.%s" % case for case in CASE.findall(read(folder, source))}
    return names


def conformance_cases(root):
    return set(re.findall(r'^    \{"(\w+)", \w+\},$', read(root, "transports/testing/conformance.cc"), re.MULTILINE))


def schemes(root):
    found = set()
    for source in glob.glob(os.path.join(root, "transports/*/*_transport.cc")):
        for names in SCHEMES.findall(read("", source)):
            found |= set(re.findall(r'"([a-z]+)"', names))
    return found


def faults(document, known_schemes, tests, cases):
    described, rows, heading = set(), [], (0, "")

    def missing_rows():
        if heading[1]:
            for row in ROWS:
                if row not in rows:
                    yield heading[0], "%s does not say: %s" % (heading[1], row)

    for number, line in enumerate(document.splitlines(), 1):
        if line.startswith("## "):
            yield from missing_rows()
            heading, rows = (number, line[3:]), []
            described |= set(heading[1].split(", "))
        for row in ROWS:
            if line.startswith("| %s |" % row):
                rows.append(row)
                if not NAME.search(line):
                    yield number, "no test is named"
        for name in NAME.findall(line):
            test, _, case = name.partition("/")
            if test == "X.Holds":
                continue
            if test not in tests:
                yield number, "no such test: %s" % test
            if case and case not in cases:
                yield number, "the conformance suite has no case %s" % case
    yield from missing_rows()
    for scheme in sorted(known_schemes - described):
        yield 1, "%s is missing" % scheme
    for scheme in sorted(described - known_schemes):
        yield 1, "no transport has the scheme %s" % scheme


def main(argv):
    root = argv[1] if len(argv) > 1 else "."
    found = list(faults(read(root, DOCUMENT), schemes(root), tests_that_run(root), conformance_cases(root)))
    for line, what in found:
        print("%s:%d: %s" % (DOCUMENT, line, what))
    if not found:
        print("the guarantees name their tests")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
