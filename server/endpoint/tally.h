// Tally: a number that one thread at a time counts and any thread reads.
#ifndef EVENTVIRTUAL_SERVER_ENDPOINT_TALLY_H_
#define EVENTVIRTUAL_SERVER_ENDPOINT_TALLY_H_

#include <atomic>

namespace eventvirtual {

// No lock and no locked instruction: a loop counts several of them for each event. What was counted in one before it
// was counted in another is also read so, if the other is read first.
template <typename Number>
class Tally {
 public:
  void Add(Number more) {  // one thread at a time: under a loop's turn
    number_.store(number_.load(std::memory_order_relaxed) + more, std::memory_order_release);
  }
  Number Read() const { return number_.load(std::memory_order_acquire); }

 private:
  std::atomic<Number> number_{0};
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ENDPOINT_TALLY_H_
