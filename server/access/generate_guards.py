"""Writes a service in front of each service, which asks the gate: generate_guards.py RULES DESCRIPTORS > guards.h.

RULES is methods.txt, DESCRIPTORS what `protoc --descriptor_set_out` makes. Ends with 1 when a method has no rule, a rule no
method, or when a rule has a role or a field that is not there.
"""

import sys

from google.protobuf import descriptor_pb2

ROLES = ("producer", "subscriber", "operator", "observer")
NOT_SERVED = ("eventvirtual.v1.Receiver",)  # subscribers serve it

HEAD = """// Written by generate_guards.py out of methods.txt and the services' descriptors.
#ifndef EVENTVIRTUAL_SERVER_RPC_GUARDS_H_
#define EVENTVIRTUAL_SERVER_RPC_GUARDS_H_

#include "eventvirtual/v1/event.grpc.pb.h"
#include "eventvirtual/v1/operator.grpc.pb.h"
#include "eventvirtual/v1/subscription.grpc.pb.h"
#include "server/rpc/gate.h"

namespace eventvirtual {
"""
REACTORS = {
    (False, False): ("::grpc::ServerUnaryReactor*", "::grpc::CallbackServerContext* context, const {0}* request, {1}* response",
                     "context, request, response", "RefuseUnary(context, allowed)"),
    (False, True): ("::grpc::ServerWriteReactor<{1}>*", "::grpc::CallbackServerContext* context, const {0}* request",
                    "context, request", "new RefusedWriter<{1}>(allowed)"),
    (True, True): ("::grpc::ServerBidiReactor<{0}, {1}>*", "::grpc::CallbackServerContext* context", "context",
                   "new RefusedStream<{0}, {1}>(allowed)"),
}


def rules_of(text):
    rules = {}
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        method, roles = words[0], words[1].split(",")
        for role in roles:
            if role not in ROLES:
                sys.exit("%s: there is no role %s" % (method, role))
        rules[method] = (roles, words[2] if len(words) > 2 else "")
    return rules


def event_of(field):
    if not field:
        return "nullptr"
    if field == "*":
        return "kAnyEvent"
    field, _, other = field.partition("|")
    event = "&request->" + "().".join(field.split(".")) + "()"
    return "request->%s().empty() ? %s : kAnyEvent" % (other, event) if other else event


def cpp(name):
    return "::" + name.lstrip(".").replace(".", "::")


def main(rules_path, descriptors_path):
    with open(rules_path) as file:
        rules = rules_of(file.read())
    descriptors = descriptor_pb2.FileDescriptorSet()
    with open(descriptors_path, "rb") as file:
        descriptors.ParseFromString(file.read())
    print(HEAD)
    known = set()
    for file in descriptors.file:
        for service in file.service:
            full = file.package + "." + service.name
            if full in NOT_SERVED:
                continue
            base = cpp(full) + "::CallbackService"
            print("class Guarded%s final : public %s {\n public:\n  Guarded%s(%s& behind, const Gate& gate) : behind_(behind), gate_(gate) {}\n"
                  % (service.name, base, service.name, base))
            for method in service.method:
                path = full + "/" + method.name
                if path not in rules:
                    sys.exit("%s has no rule: write a line for it into server/access/methods.txt" % path)
                known.add(path)
                roles, event = rules[path]
                reactor, parameters, arguments, refused = (
                    text.format(cpp(method.input_type), cpp(method.output_type))
                    for text in REACTORS[method.client_streaming, method.server_streaming])
                print("  %s %s(%s) override {" % (reactor, method.name, parameters))
                print('    const absl::Status allowed = gate_.Ask(*context, "%s", {%s}, %s);' % (
                    method.name, ", ".join("Role::k" + role.capitalize() for role in roles), event_of(event)))
                print("    if (!allowed.ok()) return %s;" % refused)
                print("    return behind_.%s(%s);\n  }" % (method.name, arguments))
            print("\n private:\n  %s& behind_;\n  const Gate& gate_;\n};\n" % base)
    if set(rules) - known:
        sys.exit("there is no method " + ", ".join(sorted(set(rules) - known)))
    print("}  // namespace eventvirtual\n\n#endif  // EVENTVIRTUAL_SERVER_RPC_GUARDS_H_")


if __name__ == "__main__":
    main(*sys.argv[1:])
