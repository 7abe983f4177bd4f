"""What the tests run through: python3 .dev/coverage.py REPORT, an lcov report as `./dev coverage` makes it.

Prints lines and branches of each folder and of all, then of each file that has a bar of its own. Exit code 1 if a bar
is missed, with the lines of which something is.
"""

import collections
import os
import sys

LINES = 90  # per cent, of everything
BRANCHES = 80
# Every branch: what decides where an event goes, and what is read back from a damaged disk. The branch into a check of
# our own (EV_CHECK) does not count: a bug of ours alone takes it. What only an exception takes is not there: coverage is
# counted in a build without them.
WHOLE = (
    "server/dispatch/policy.cc",
    "server/journal/journal_file.cc",
    "server/journal/log_tail.cc",
    "server/registry/filter.cc",
    "server/registry/virtual_socket.cc",
    "transports/io/destination_policy.cc",
)
# Of what reads foreign bytes, so much of the lines.
PARSER_LINES = 95
PARSERS = (
    "server/access/access_list.cc",
    "server/durable/records.cc",
    "server/enroll/mi_answer.cc",
    "server/enroll/own_sockets.cc",
    "server/ingest/opensips_event.cc",
    "server/journal/log_tail.cc",
    "server/jsonrpc/event_params.cc",
    "server/mi/mi_request.cc",
    "server/registry/filter.cc",
    "server/registry/virtual_socket.cc",
    "server/rpc/wire.cc",
    "transports/api/trace_context.cc",
    "transports/api/uri.cc",
    "transports/grpc/grpc_address.cc",
    "transports/grpc/grpc_answer.cc",
    "transports/http/http_options.cc",
    "transports/http/http_refusal.cc",
    "transports/io/destination_policy.cc",
    "transports/io/json_framer.cc",
    "transports/io/tls_options.cc",
    "transports/kafka/kafka_address.cc",
    "transports/mqtt/mqtt_address.cc",
    "transports/nats/nats_address.cc",
    "transports/rabbitmq/amqp_frames.cc",
    "transports/rabbitmq/broker_address.cc",
    "transports/redis/redis_address.cc",
    "transports/redis/redis_replies.cc",
    "transports/sqs/sqs_address.cc",
    "transports/sqs/sqs_text.cc",
    "transports/xmlrpc/xmlrpc_text.cc",
)
OUR_OWN = "EV_CHECK("


class Count:
    def __init__(self, times=()):
        self.there, self.run = 0, 0
        self.add(times)

    def add(self, times):
        times = list(times)
        self.there += len(times)
        self.run += sum(map(bool, times))

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


def without_our_own(name, branches):
    source = open(name).read().split("\n")
    return {(number, index): times for (number, index), times in branches.items() if OUR_OWN not in source[number - 1]}


def show(name, lines, branches):
    print("%-40s lines %6.1f %% of %5d   branches %6.1f %% of %5d" %
          (name, lines.percent(), lines.there, branches.percent(), branches.there))


def numbers(some):
    return ", ".join(map(str, sorted(set(some))))


def main():
    files = read(sys.argv[1])
    folders = collections.defaultdict(lambda: (Count(), Count()))
    for name, (lines, branches) in files.items():
        for counts in (folders[os.path.dirname(name)], folders["all"]):
            counts[0].add(lines.values())
            counts[1].add(branches.values())
    for folder in sorted(folders, key=lambda folder: (folder == "all", folder)):
        show(folder, *folders[folder])
    lines, branches = folders["all"]
    missed = []
    if lines.percent() < LINES:
        missed.append("lines: %.1f %%, and %d are asked for" % (lines.percent(), LINES))
    if branches.percent() < BRANCHES:
        missed.append("branches: %.1f %%, and %d are asked for" % (branches.percent(), BRANCHES))

    print()
    for name in sorted(set(WHOLE + PARSERS)):
        if name not in files:
            missed.append("%s: no test runs through it" % name)
            continue
        lines, branches = files[name]
        if name in WHOLE:
            branches = without_our_own(name, branches)
            open_lines = [number for (number, _), times in branches.items() if times == 0]
            if open_lines:
                missed.append("%s: branches not taken in line %s" % (name, numbers(open_lines)))
        count = Count(lines.values())
        if name in PARSERS and count.percent() < PARSER_LINES:
            missed.append("%s: %.1f %% of the lines, and %d are asked for; not run through: line %s" % (
                name, count.percent(), PARSER_LINES, numbers(number for number, times in lines.items() if times == 0)))
        show(name, count, Count(branches.values()))
    print("\n".join([""] + missed) if missed else "")
    return 1 if missed else 0


sys.exit(main())
