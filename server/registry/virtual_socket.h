// The text of a virtual socket: OpenSIPS' grammar, cut into policy and subscribers.
#ifndef EVENTVIRTUAL_SERVER_REGISTRY_VIRTUAL_SOCKET_H_
#define EVENTVIRTUAL_SERVER_REGISTRY_VIRTUAL_SOCKET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace eventvirtual {

enum class Policy : uint8_t { kParallel, kFailover, kRoundRobin };

absl::string_view PolicyName(Policy policy);  // "PARALLEL", "FAILOVER", "ROUND-ROBIN"

struct VirtualSocket {
  Policy policy = Policy::kParallel;
  bool plain = false;                    // written without "virtual:": one subscriber
  std::vector<std::string> subscribers;  // as written
};

// `virtual:POLICY subscriber [subscriber ...]`, separated by spaces or tabs, any number of them, also leading and
// trailing; or one plain subscriber, which is PARALLEL over one. Subscribers are cut, not understood: see Catalog.
// INVALID_ARGUMENT: no such policy (upper case only; the message names the three), glued text, no subscriber, a nested
// virtual:, more than one plain subscriber. Positions count subscribers from 1. Nothing that may hold a password is
// repeated.
absl::StatusOr<VirtualSocket> ParseVirtualSocket(absl::string_view text);

// The one printed form, with single spaces; ParseVirtualSocket() reads it back the same.
std::string FormatVirtualSocket(Policy policy, bool plain, absl::Span<const std::string> subscribers);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_REGISTRY_VIRTUAL_SOCKET_H_
