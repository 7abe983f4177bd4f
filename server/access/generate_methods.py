"""Writes what is served: generate_methods.py RULES DESCRIPTORS > methods.h.

For each service a function that adds its methods to Calls, each behind the gate. RULES is methods.txt, DESCRIPTORS what
`protoc --descriptor_set_out` makes. Ends with 1 when a method has no rule, a rule no method, or when a rule has a role or
a field that is not there.
"""

import sys

from google.protobuf import descriptor_pb2

ROLES = ("producer", "subscriber", "operator", "observer")
NOT_SERVED = ("eventvirtual.v1.Receiver",)  # subscribers serve it

HEAD = """// Written by generate_methods.py out of methods.txt and the services' descriptors: AddMethods(service, gate, calls) for
// each service. Without a gate (null) everybody may call everything; all outlive the calls.
#ifndef EVENTVIRTUAL_SERVER_RPC_METHODS_H_
#define EVENTVIRTUAL_SERVER_RPC_METHODS_H_

#include "server/rpc/calls.h"
#include "server/rpc/event_service.h"
#include "server/rpc/gate.h"
#include "server/rpc/operator_service.h"
#include "server/rpc/subscription_service.h"

namespace eventvirtual {
"""
# By (client streams, server streams): how it is added, what its handler takes, and what the service gets of that.
KINDS = {
    (False, False): ("AddUnary<{0}, {1}>", "UnaryCall* call, const {0}* request, {1}* response", "call, request, response"),
    (False, True): ("AddServerStream<{0}>", "Call* call, const {0}* request", "call, request"),
    (True, True): ("AddStream", "Call* call", "call"),
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
            print("inline void AddMethods(%s& service, const Gate* gate, Calls* calls) {" % service.name)
            for method in service.method:
                path = full + "/" + method.name
                if path not in rules:
                    sys.exit("%s has no rule: write a line for it into server/access/methods.txt" % path)
                known.add(path)
                roles, event = rules[path]
                add, parameters, arguments = (text.format(cpp(method.input_type), cpp(method.output_type))
                                              for text in KINDS[method.client_streaming, method.server_streaming])
                print('  calls->%s("%s", [&service, gate](%s) {' % (add, path, parameters))
                print("    if (gate != nullptr) {")
                print('      const absl::Status allowed = gate->Ask(call->context(), "%s", {%s}, %s);' % (
                    method.name, ", ".join("Role::k" + role.capitalize() for role in roles), event_of(event)))
                print("      if (!allowed.ok()) return call->Finish(ToGrpc(allowed));\n    }")
                print("    service.%s(%s);\n  });" % (method.name, arguments))
            print("}\n")
    if set(rules) - known:
        sys.exit("there is no method " + ", ".join(sorted(set(rules) - known)))
    print("}  // namespace eventvirtual\n\n#endif  // EVENTVIRTUAL_SERVER_RPC_METHODS_H_")


if __name__ == "__main__":
    main(*sys.argv[1:])
