"""Proves the dependency directions of the project: python3 tests/layers/check_layers.py [ROOT].

Looks at every #include, every label in a BUILD file's deps and visibility, and at the calls that would take a real
clock or a thread past the loop. Prints `file:line: what; the rule` for each violation; exit code 1 if there is one.
"""

import ast
import os
import re
import sys

SKIPPED = ("bazel-", ".")  # Bazel's links, and hidden folders

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')

# What a file of the C or C++ library, of the kernel or of Abseil is called.
PLAIN_HEADER = re.compile(r"^([a-z_0-9]+|(arpa|asm|linux|net|netinet|sys|absl)/.*|[a-z_0-9]+\.h)$")
# Foreign libraries that need no folder of their own to be recognised.
FOREIGN_HEADER = re.compile(r"^(amqp|ares|event|evhttp|simdjson|google|grpc)[a-z_0-9]*\.h$")
RPC_HEADER = re.compile(r"^(grpc|grpcpp|google)/|\.pb\.h$|^proto/")
RPC_LABEL = re.compile(r"^//(proto\b|\.bazel/sys:(grpc|protobuf))")

# Folders of transports/ that are not a transport.
SHARED = ("api", "io", "testing")
# Transports whose protocol is another one's with a body of its own.
BUILT_ON = {"sqs": "http", "xmlrpc": "http"}


# Where callers of EventService.Listen meet the transport that delivers to them (docs/decisions/0007-stream.md).
STREAM_LISTENERS = ("transports/stream/listeners.h", "//transports/stream:listeners")

# What of transports/io the calls to OpenSIPS' management interface need: a thread that may block, and the way back.
ENROLL_IO = re.compile(r"^transports/io/(BUILD|errno_text\.h|mailbox\.h|printable\.h|run_on_loop\.h|socket_(address|file)\.h|worker\.h)$")

# What files that are read again are read with.
FILES_IO = re.compile(r"^transports/io/(BUILD|small_file\.h)$")

# What the listeners of gRPC accept with.
LISTENERS_IO = re.compile(r"^transports/io/(BUILD|acceptor\.h|bound_socket\.h|connection_caps\.h|run_on_loop\.h)$")


def transport_of(path):
    """The transport's name, if the path lies in the folder of a concrete one."""
    parts = path.split("/")
    if len(parts) > 2 and parts[0] == "transports" and parts[1] not in SHARED:
        return parts[1]
    return None


def within(path, *folders):
    return any(path == f or path.startswith(f + "/") for f in folders)


def is_transports_all(path):
    return re.match(r"^transports/all(\.h|\.cc)?$", path) is not None


def broken_rule(user, used):
    """Why `user`, a file of ours, must not use `used` (a file of ours, or a header of a library); None if it may.

    Tests and benchmarks may use everything.
    """
    if within(user, "tests", "bench"):
        return None
    if within(used, "tests", "bench", "transports/testing") and not within(user, "transports/testing"):
        return "only tests use the means of testing"

    if within(user, "transports"):
        if within(used, "server", "client"):
            return "no transport sees server/ or client/"
        if RPC_HEADER.search(used):
            return "protobuf and gRPC stop at server/rpc and client"
        if within(user, "transports/api") and within(used, "transports") and not within(used, "transports/api"):
            return "transports/api depends on Abseil alone"
        if within(user, "transports/io") and within(used, "transports") and not within(
                used, "transports/api", "transports/io"):
            return "transports/io sees transports/api only"
        mine, other = transport_of(user), transport_of(used)
        if other and mine != other and BUILT_ON.get(mine) != other and not is_transports_all(user):
            return "a transport never uses another; what several need belongs in transports/io"
        if is_transports_all(used) and not is_transports_all(user):
            return "only server/server.cc sees all transports"
        return None

    if within(user, "server"):
        if within(used, "client"):
            return "server/ does not see client/"
        if user == "server/server.cc":
            return None
        if used in STREAM_LISTENERS and within(user, "server/rpc"):
            return None
        if transport_of(used) or is_transports_all(used):
            return "only server/server.cc sees concrete transports"
        if within(used, "transports/io") and not within(
                user, "server/ingest", "server/journal", "server/mi", "server/http", "server/admin",
                "server/destinations") and not (within(user, "server/files") and FILES_IO.match(used)) and not (
                    within(user, "server/enroll") and ENROLL_IO.match(used)) and not (
                        (user == "server/rpc/BUILD" or user.startswith("server/rpc/listeners."))
                        and LISTENERS_IO.match(used)):
            return "the core sees transports/api only"
        if RPC_HEADER.search(used) and not within(user, "server/rpc"):
            return "protobuf and gRPC stop at server/rpc and client"
        if within(used, "server/rpc") and not within(user, "server/rpc"):
            return "only server/server.cc sees server/rpc"
        if within(user, "server/files") and within(used, "server") and not within(used, "server/files", "server/log"):
            return "server/files sees server/log only"
        if within(user, "server/access") and within(used, "server") and not within(
                used, "server/access", "server/files", "server/log"):
            return "server/access sees server/files and server/log only"
        if within(user, "server/endpoint") and within(used, "server") and not within(used, "server/endpoint"):
            return "server/endpoint sees transports/api only"
        if within(user, "server/registry") and within(used, "server") and not within(
                used, "server/endpoint", "server/limits", "server/registry"):
            return "server/registry sees server/endpoint, server/limits and transports/api only"
        if within(user, "server/dispatch") and within(used, "server") and not within(
                used, "server/endpoint", "server/registry", "server/load", "server/dispatch"):
            return "server/dispatch sees server/registry, server/endpoint, server/load and transports/api only"
        return None

    if within(user, "client") and within(used, "server", "transports"):
        return "client/ sees proto/ only"
    return None


# (what must not stand in the code, where it may, why)
CALLS = (
    (re.compile(r"\babsl::Now\(|\b(system|steady|high_resolution)_clock::now\("),
     # Wall time is stamped on events, shown to people and translated for the API; nothing else is decided by it.
     ("transports/io", "transports/testing", "server/server.cc", "server/main.cc", "server/log", "server/rpc",
      "server/ingest/opensips_event.cc", "server/mi/mi_commands.cc", "server/journal", "server/reports", "client",
      "tests", "bench"),
     "time comes from the Loop, so that tests can make it"),
    (re.compile(r"\b(std::(thread|jthread|async)\b|pthread_create\()"),
     # The log waits for whoever reads stderr on a thread of its own, and works where no loop runs yet or any more. gRPC
     # waits by itself.
     ("server/log", "server/rpc/calls.h", "server/rpc/calls.cc", "transports/io", "transports/testing", "transports/rabbitmq", "server/server.cc", "server/main.cc", "client",
      "tests", "bench"),
     "work runs on a Loop; a library that blocks gets its thread in transports/io"),
    (re.compile(r"\b(std::this_thread::sleep_\w+|absl::SleepFor|usleep|nanosleep|sleep)\("),
     # A name server that is slow is what that fake is there for.
     ("transports/io", "server/server.cc", "server/main.cc", "bench", "tests/transports/io/fake_name_server.h"),
     "nobody sleeps: wait for the condition, with a bound"),
    (re.compile(r"\bstd::string\s+(\w+,\s*)*(password|token|secret)_?\s*[;={,]"),
     # The first: a token's name, which is none. evctl prints none either, and sees proto/ only.
     ("server/access/access_list.h", "client", "tests", "bench"),
     "a password or token is a Secret (transports/api/secret.h), which nobody prints"),
)


def code_of(line):
    """The line without its comment and without what stands in quotes."""
    return re.sub(r'"(\\.|[^"\\])*"', '""', line).split("//")[0]


def check_source(path, content):
    for number, line in enumerate(content.splitlines(), 1):
        include = INCLUDE.match(line)
        if include:
            used = include.group(2)
            rule = broken_rule(path, used)
            if within(path, "transports/api") and not within(used, "transports") and (
                    FOREIGN_HEADER.match(used) or not PLAIN_HEADER.match(used)):
                rule = "transports/api depends on Abseil alone"
            if rule:
                yield number, "includes %s" % used, rule
            continue
        code = code_of(line)
        for call, places, rule in CALLS:
            found = call.search(code)
            if found and not within(path, *places):
                yield number, "has %s" % found.group(0).rstrip("("), rule


def label_path(label, package):
    """The path that stands for a label in the rules of the includes."""
    folder, _, name = (label[2:] if label.startswith("//") else package + label).partition(":")
    return "%s/%s" % (folder, name if folder in ("server", "transports") else "BUILD")


def labels(content):
    """Yields (line, label, whether it says to whom something is visible). Starlark reads as Python."""
    tree = ast.parse(content)
    of_visibility = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in ("visibility", "default_visibility"):
            of_visibility.update(map(id, ast.walk(node.value)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(("//", ":")):
            yield node.lineno, node.value, id(node) in of_visibility


def check_build(path, content):
    package = os.path.dirname(path)
    if package in ("", "server", "transports"):
        return  # several layers in one package: their includes tell
    try:
        found = list(labels(content))
    except SyntaxError as error:
        yield error.lineno, "does not parse", "a BUILD file is Starlark"
        return
    for number, label, visibility in found:
        if visibility:
            mine = transport_of(path)
            users = "|".join([mine or ""] + [user for user, base in BUILT_ON.items() if base == mine])
            if (package, label) == ("transports/stream", "//server:__subpackages__"):
                continue
            if mine and not re.match(r"//(visibility:private$|transports:|transports/(%s):|tests\b|bench\b)" % users,
                                     label):
                yield number, "is visible to %s" % label, "a transport is visible to //transports and tests only"
            continue
        rule = broken_rule(path, label if label in STREAM_LISTENERS else label_path(label, package))
        if within(path, "transports/api") and label.startswith("//.bazel/sys:") and label != "//.bazel/sys:absl":
            rule = "transports/api depends on Abseil alone"
        if RPC_LABEL.match(label) and within(path, "transports", "server") and not within(path, "server/rpc"):
            rule = "protobuf and gRPC stop at server/rpc and client"
        if rule:
            yield number, "depends on %s" % label, rule


def files_below(root):
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith(SKIPPED)]
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), root)


def violations(root):
    """Lines for people, sorted."""
    found = []
    for path in files_below(root):
        if path.endswith((".h", ".cc")):
            check = check_source
        elif os.path.basename(path) == "BUILD":
            check = check_build
        else:
            continue
        with open(os.path.join(root, path), encoding="utf-8") as file:
            for number, what, rule in check(path, file.read()):
                found.append((path, number, "%s:%d: %s; %s" % (path, number, what, rule)))
    return [text for _, _, text in sorted(found)]


def main(argv):
    found = violations(argv[1] if len(argv) > 1 else ".")
    print("\n".join(found) if found else "the layers hold")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
