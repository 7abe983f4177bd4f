#include "server/dispatch/policy.h"

#include <algorithm>

#include "transports/api/check.h"

namespace eventvirtual {

Plan MakePlan(Policy policy, absl::Span<const Candidate> candidates, uint64_t turn) {
  const size_t count = candidates.size();
  EV_CHECK(policy != Policy::kParallel && count >= 1 && count <= 255);
  Plan plan;
  const size_t start = policy == Policy::kRoundRobin ? turn % count : 0;
  for (bool cooling : {false, true}) {
    size_t position = start;
    for (size_t i = 0; i < count; ++i) {
      if (candidates[position].cooling == cooling) plan.order.push_back(static_cast<uint8_t>(position));
      if (++position == count) position = 0;
    }
    if (!cooling) plan.eligible = static_cast<uint8_t>(plan.order.size());
    if (plan.eligible == count) return plan;
  }
  std::stable_sort(plan.order.begin() + plan.eligible, plan.order.end(), [&candidates](uint8_t a, uint8_t b) {
    return candidates[a].failing_since < candidates[b].failing_since;
  });
  return plan;
}

}  // namespace eventvirtual
