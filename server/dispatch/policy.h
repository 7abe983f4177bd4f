// FAILOVER and ROUND-ROBIN as plans. PARALLEL needs none: all at once, cooling or not.
#ifndef EVENTVIRTUAL_SERVER_DISPATCH_POLICY_H_
#define EVENTVIRTUAL_SERVER_DISPATCH_POLICY_H_

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/registry/virtual_socket.h"

namespace eventvirtual {

// What the plan needs to know of a subscriber.
struct Candidate {
  bool cooling = false;                             // failed less than its subscription's failover_timeout ago
  absl::Time failing_since = absl::InfinitePast();  // when its last attempt failed; InfinitePast: it did not
  bool drained = false;                             // taken out by hand
};

struct Plan {
  absl::InlinedVector<uint8_t, 8> order;  // subscribers by position, each once but those drained
  uint8_t eligible = 0;                   // the first so many are not cooling; those behind are tried as a last resort
};

// Pure: no clock, no lock, no state.
//   FAILOVER     in the given order; cooling ones last, the one that failed longest ago first
//   ROUND-ROBIN  like FAILOVER, beginning with number `turn` modulo their count
// One that is drained is as if it were not there. 1 to 255 candidates.
Plan MakePlan(Policy policy, absl::Span<const Candidate> candidates, uint64_t turn);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_DISPATCH_POLICY_H_
