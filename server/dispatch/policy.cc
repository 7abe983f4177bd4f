#include "server/dispatch/policy.h"

#include <algorithm>

#include "transports/api/check.h"

namespace eventvirtual {

Plan MakePlan(Policy policy, absl::Span<const Candidate> candidates, uint64_t turn) {
  const size_t count = candidates.size();
  EV_CHECK(count >= 1 && count <= 255);
  Plan plan;
  if (policy == Policy::kParallel) {
    for (size_t i = 0; i < count; ++i) plan.order.push_back(static_cast<uint8_t>(i));
    plan.eligible = plan.width = static_cast<uint8_t>(count);
    plan.stop_at_first_success = false;
    return plan;
  }
  const size_t start = policy == Policy::kRoundRobin ? turn % count : 0;
  for (bool cooling : {false, true}) {
    for (size_t i = 0; i < count; ++i) {
      const size_t position = (start + i) % count;
      if (candidates[position].cooling == cooling) plan.order.push_back(static_cast<uint8_t>(position));
    }
    if (!cooling) plan.eligible = static_cast<uint8_t>(plan.order.size());
  }
  std::stable_sort(plan.order.begin() + plan.eligible, plan.order.end(), [&candidates](uint8_t a, uint8_t b) {
    return candidates[a].failing_since < candidates[b].failing_since;
  });
  return plan;
}

}  // namespace eventvirtual
