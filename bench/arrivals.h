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

// Finds sequence numbers, and the stamps behind them, in text that comes piece by piece.
class NumberReader {
 public:
  explicit NumberReader(std::string_view text) : text_(text) {}

  // The next number that is whole; none: give what is behind taken() again, with what comes next.
  std::optional<uint64_t> Next() {
    const size_t mark = text_.find('#', taken_);
    size_t end = mark + 1 + kDigits;  // every encoding goes on behind it
    if (mark == std::string_view::npos || end >= text_.size()) return std::nullopt;
    const bool stamped = text_[end] == '~';
    if (stamped && end + 1 + kStampDigits > text_.size()) return std::nullopt;
    stamp_ = stamped ? Digits(end + 1, kStampDigits) : 0;
    if (stamped) end += 1 + kStampDigits;
    before_ = text_.substr(taken_, mark - taken_);
    taken_ = end;
    return Digits(mark + 1, kDigits);
  }
  // Of the last number: its stamp or 0, and what stood between it and the one before.
  uint64_t stamp() const { return stamp_; }
  std::string_view before() const { return before_; }
  size_t taken() const { return taken_; }

 private:
  uint64_t Digits(size_t begin, size_t count) const {
    uint64_t number = 0;
    for (size_t i = begin; i < begin + count; ++i) number = number * 10 + static_cast<uint64_t>(text_[i] - '0');
    return number;
  }

  const std::string_view text_;
  std::string_view before_;
  uint64_t stamp_ = 0;
  size_t taken_ = 0;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_BENCH_ARRIVALS_H_
