#include "server/dispatch/policy.h"

#include <algorithm>

#include "transports/api/check.h"

namespace eventvirtual {

Plan MakePlan(Policy policy, absl::Span<const Candidate> candidates, uint64_t turn) {
  const size_t count = candidates.size();
  EV_CHECK(policy != Policy::kParallel && count >= 1 && count <= 255);
  Plan plan;
  size_t there = 0;  // not drained
  for (const Candidate& candidate : candidates) there += candidate.drained ? 0 : 1;
  if (there == 0) return plan;
  plan.order.resize(there);
  uint8_t* next = plan.order.data();
  size_t start = policy == Policy::kRoundRobin ? turn % there : 0;
  if (there < count) {  // number `start` of those that are there
    size_t position = 0;
    for (size_t before = start; candidates[position].drained || before-- > 0; ++position) continue;
    start = position;
  }
  for (bool cooling : {false, true}) {
    size_t position = start;
    for (size_t i = 0; i < count; ++i) {
      const Candidate& candidate = candidates[position];
      if (candidate.cooling == cooling && !candidate.drained) *next++ = static_cast<uint8_t>(position);
      if (++position == count) position = 0;
    }
    if (!cooling) plan.eligible = static_cast<uint8_t>(next - plan.order.data());
    if (plan.eligible == there) return plan;
  }
  std::stable_sort(plan.order.begin() + plan.eligible, plan.order.end(), [&candidates](uint8_t a, uint8_t b) {
    return candidates[a].failing_since < candidates[b].failing_since;
  });
  return plan;
}

}  // namespace eventvirtual
