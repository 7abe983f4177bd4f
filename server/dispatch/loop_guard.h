// LoopGuard: ends events that come back through a subscriber.
#ifndef EVENTVIRTUAL_SERVER_DISPATCH_LOOP_GUARD_H_
#define EVENTVIRTUAL_SERVER_DISPATCH_LOOP_GUARD_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "transports/api/message.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

struct LoopLimits {
  int max_hops = 8;  // 1 to kMostHops: deliveries that one event gets, here and at services like this one
  // How often an event without hops may come within LoopGuard::kWindow with the same name and parameters; 0: as often
  // as it likes.
  uint32_t max_repeats = 0;
  // Hears of each event that is refused, and whether it was found by its "hops" or its "repeats"; null: nobody does. On
  // the thread that raised it; must not block.
  std::function<void(const Message& message, absl::string_view found_by)> tell;
};

// Any thread.
class LoopGuard {
 public:
  static constexpr absl::Duration kWindow = absl::Seconds(10);

  explicit LoopGuard(LoopLimits limits);

  // Whether the event goes on. FAILED_PRECONDITION: as many services have delivered it as may. RESOURCE_EXHAUSTED: it
  // has come as often as it may, which reports of this service itself, and events with hops, are not asked. Either is
  // counted and told. `now` by a clock that never goes back. Without max_repeats that costs two comparisons.
  absl::Status Check(const Message& message, absl::Time now) {
    if (message.hops() < limits_.max_hops && repeats_ == nullptr) [[likely]]
      return absl::OkStatus();
    return CheckClosely(message, now);
  }

  // Events that were refused since the start.
  uint64_t too_many_hops() const { return too_many_hops_.load(std::memory_order_relaxed); }
  uint64_t too_many_repeats() const { return too_many_repeats_.load(std::memory_order_relaxed); }

 private:
  // How often events have come lately, in bounded memory: each place counts one event, and forgets it when others of
  // that place have come as often. So it may count less than came, and never more.
  class Repeats {
   public:
    // How often it has come within the window that began with the first of them, or a little less.
    uint32_t Count(uint64_t fingerprint, absl::Time now);

   private:
    struct Place {
      uint64_t fingerprint = 0;
      uint32_t count = 0;  // within the window
      uint32_t held = 0;   // `count`, less those of others that came since
      absl::Time began = absl::InfinitePast();
    };
    struct Shard {
      Mutex mutex;
      std::array<Place, 128> places ABSL_GUARDED_BY(mutex);
    };
    std::array<Shard, 64> shards_;
  };

  absl::Status CheckClosely(const Message& message, absl::Time now);

  const LoopLimits limits_;
  const std::unique_ptr<Repeats> repeats_;  // null: not asked for
  std::atomic<uint64_t> too_many_hops_{0}, too_many_repeats_{0};
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_DISPATCH_LOOP_GUARD_H_
