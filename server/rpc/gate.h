// Gate: who calls a method of gRPC, and whether they may.
#ifndef EVENTVIRTUAL_SERVER_RPC_GATE_H_
#define EVENTVIRTUAL_SERVER_RPC_GATE_H_

#include <grpcpp/server_context.h>

#include <initializer_list>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/access/access.h"
#include "server/rpc/wire.h"

namespace eventvirtual {

// Any thread.
class Gate {
 public:
  // `access`, which outlives it, may be null: whoever is there may do everything.
  explicit Gate(const Access* access) : access_(access) {}

  // Access::Ask() with what is known of the call: its connection, certificate and metadata.
  absl::Status Ask(const grpc::ServerContextBase& context, absl::string_view what, std::initializer_list<Role> roles,
                   const std::string* event) const;

  // Whose rates and subscriptions are counted: AccessList::Describe() of who calls.
  std::string PrincipalOf(const grpc::ServerContextBase& context) const;

 private:
  const Access* const access_;
};

// For generate_methods.py.
extern const std::string* const kAnyEvent;  // all events

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_GATE_H_
