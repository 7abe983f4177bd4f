// LineLimiter: how much of the same is written.
#ifndef EVENTVIRTUAL_SERVER_LOG_LINE_LIMITER_H_
#define EVENTVIRTUAL_SERVER_LOG_LINE_LIMITER_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace eventvirtual {

// Of one cause 10 lines pass in a minute, its turn, which begins with the first. Of those that come behind them the
// last is kept, so that what is seen in the end is how it is; it passes when the turn is over, with the number of the
// others. One thread at a time. Times are of one clock that never goes back.
class LineLimiter {
 public:
  static constexpr int kPerTurn = 10;
  static constexpr absl::Duration kTurn = absl::Minutes(1);
  static constexpr size_t kMaxCauses = 1000;  // told apart within a minute; further ones are one

  struct Line {
    std::string text;
    uint64_t left_out = 0;  // lines like it, between the one before and it
  };

  // What passes now: what is due, and `line` unless it is kept or left out.
  std::vector<Line> Offer(absl::string_view cause, std::string line, absl::Time now);

  // What is due: pass InfiniteFuture() for all that is kept.
  std::vector<Line> TakeDue(absl::Time now);

  // When TakeDue() should be called next; InfiniteFuture(): nothing is kept.
  absl::Time next_due() const { return turns_.empty() ? absl::InfiniteFuture() : turns_.front().ends; }

 private:
  struct Turn {
    std::string cause;
    absl::Time ends;
    int passed = 0;
    uint64_t held = 0;  // lines that did not pass
    std::string last;   // of them
  };

  std::list<Turn> turns_;  // in the order in which they end
  absl::flat_hash_map<absl::string_view, Turn*> by_cause_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_LOG_LINE_LIMITER_H_
