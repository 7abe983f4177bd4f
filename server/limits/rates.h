// Rates: how often each principal may do something.
#ifndef EVENTVIRTUAL_SERVER_LIMITS_RATES_H_
#define EVENTVIRTUAL_SERVER_LIMITS_RATES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/limits/limits.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// The virtual scheduling algorithm of ITU-T I.371, called GCRA there: what a token bucket does, in one number, the time
// at which the bucket will be full again. Any thread, without a lock.
class Rate {
 public:
  // `per_second` from 1 to 10^9; `burst` is the time whose worth may be taken at once: at least one is.
  Rate(Limit limit, std::string principal, int64_t per_second, absl::Duration burst);

  // Takes one. RESOURCE_EXHAUSTED, counted, names the principal, the rate and how long to wait (RetryAfter()).
  absl::Status Take(absl::Time now);

  // Whether as much may be taken as ever.
  bool IsFull(absl::Time now) const { return full_at_.load(std::memory_order_relaxed) <= absl::ToUnixNanos(now); }

 private:
  const Limit limit_;
  const std::string principal_;
  const int64_t per_second_, interval_, burst_;  // the latter in nanoseconds
  std::atomic<int64_t> full_at_{0};              // likewise, since the epoch
};

// How long whoever was refused should wait; nothing: the refusal is of another kind.
std::optional<absl::Duration> RetryAfter(const absl::Status& status);

// The rate of each principal: who calls, as access knows it. Those who have done nothing lately are forgotten, which
// changes nothing for them. Any thread.
class Rates {
 public:
  static constexpr size_t kMaxPrincipals = 10000;  // beyond, who is new shares one rate with all others that are

  Rates(Limit limit, int64_t per_second, absl::Duration burst)
      : limit_(limit), per_second_(per_second), burst_(burst) {}

  // To be kept by who takes often; then it is not forgotten.
  std::shared_ptr<Rate> Of(absl::string_view principal, absl::Time now);

  absl::Status Take(absl::string_view principal, absl::Time now) { return Of(principal, now)->Take(now); }

  size_t size() const;

 private:
  std::shared_ptr<Rate> New(std::string principal) const {
    return std::make_shared<Rate>(limit_, std::move(principal), per_second_, burst_);
  }
  void ForgetIdle(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Limit limit_;
  const int64_t per_second_;
  const absl::Duration burst_;
  mutable Mutex mutex_;
  absl::flat_hash_map<std::string, std::shared_ptr<Rate>> by_principal_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Rate> others_ ABSL_GUARDED_BY(mutex_);  // null: there were never too many
  absl::Time looked_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_LIMITS_RATES_H_
