// Which of the events of bench_event.h have come, for the programs that receive them.
#ifndef EVENTVIRTUAL_BENCH_ARRIVALS_H_
#define EVENTVIRTUAL_BENCH_ARRIVALS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "bench/bench_event.h"

namespace eventvirtual {

// Counts what comes to one subscriber, each sequence number once and the others as duplicates.
class Arrivals {
 public:
  bool Add(uint64_t number) {  // false: not the first time
    ++received_;
    if (number >= seen_.size()) seen_.resize(number + number / 2 + 4096);
    if (seen_[number]) return false;
    seen_[number] = true;
    ++distinct_;
    return true;
  }
  uint64_t received() const { return received_; }
  uint64_t distinct() const { return distinct_; }
  uint64_t duplicates() const { return received_ - distinct_; }

 private:
  uint64_t received_ = 0;
  uint64_t distinct_ = 0;
  std::vector<bool> seen_;
};

// Finds sequence numbers in text that comes piece by piece.
class NumberReader {
 public:
  explicit NumberReader(std::string_view text) : text_(text) {}

  // The next number that is whole; none: give what is behind taken() again, with what comes next.
  std::optional<uint64_t> Next() {
    const size_t mark = text_.find('#', taken_);
    if (mark == std::string_view::npos || mark + 1 + kDigits > text_.size()) return std::nullopt;
    uint64_t number = 0;
    for (size_t i = 0; i < kDigits; ++i) number = number * 10 + static_cast<uint64_t>(text_[mark + 1 + i] - '0');
    before_ = text_.substr(taken_, mark - taken_);
    taken_ = mark + 1 + kDigits;
    return number;
  }
  std::string_view before() const { return before_; }  // what stood between the last two numbers
  size_t taken() const { return taken_; }

 private:
  const std::string_view text_;
  std::string_view before_;
  size_t taken_ = 0;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_BENCH_ARRIVALS_H_
