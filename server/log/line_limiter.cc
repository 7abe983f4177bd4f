#include "server/log/line_limiter.h"

#include <utility>

namespace eventvirtual {

std::vector<LineLimiter::Line> LineLimiter::Offer(absl::string_view cause, std::string line, absl::Time now) {
  std::vector<Line> passing = TakeDue(now);
  auto found = by_cause_.find(cause);
  if (found == by_cause_.end() && by_cause_.size() >= kMaxCauses) {
    cause = "";
    found = by_cause_.find(cause);
  }
  if (found == by_cause_.end()) {
    turns_.push_back({std::string(cause), now + kTurn});
    found = by_cause_.emplace(turns_.back().cause, &turns_.back()).first;
  }
  Turn& turn = *found->second;
  if (turn.passed < kPerTurn) {
    ++turn.passed;
    passing.push_back({std::move(line)});
  } else {
    ++turn.held;
    turn.last = std::move(line);
  }
  return passing;
}

std::vector<LineLimiter::Line> LineLimiter::TakeDue(absl::Time now) {
  std::vector<Line> due;
  while (!turns_.empty() && turns_.front().ends <= now) {
    Turn& turn = turns_.front();
    if (turn.held > 0) due.push_back({std::move(turn.last), turn.held - 1});
    by_cause_.erase(turn.cause);
    turns_.pop_front();
  }
  return due;
}

}  // namespace eventvirtual
