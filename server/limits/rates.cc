#include "server/limits/rates.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kRetryAfter = "eventvirtual/retry_after";  // nanoseconds, as decimal digits
constexpr absl::Duration kLookAgain = absl::Seconds(1);                // for principals that may be forgotten

}  // namespace

Rate::Rate(Limit limit, std::string principal, int64_t per_second, absl::Duration burst)
    : limit_(limit),
      principal_(std::move(principal)),
      per_second_(per_second),
      interval_(1000000000 / per_second),
      burst_(std::max(interval_, absl::ToInt64Nanoseconds(burst))) {}

absl::Status Rate::Take(absl::Time now) {
  const int64_t nanos = absl::ToUnixNanos(now);
  int64_t full_at = full_at_.load(std::memory_order_relaxed);
  while (true) {
    const int64_t next = std::max(full_at, nanos) + interval_;
    if (next - nanos > burst_) {
      const absl::Duration wait = absl::Nanoseconds(next - nanos - burst_);
      CountExceeded(limit_);
      absl::Status status = absl::ResourceExhaustedError(
          absl::StrCat(principal_, ": more than ", per_second_, " a second (--", NameOf(limit_), "); wait ",
                       absl::FormatDuration(absl::Ceil(wait, absl::Milliseconds(1)))));
      status.SetPayload(kRetryAfter, absl::Cord(absl::StrCat(absl::ToInt64Nanoseconds(wait))));
      return status;
    }
    if (full_at_.compare_exchange_weak(full_at, next, std::memory_order_relaxed)) return absl::OkStatus();
  }
}

std::optional<absl::Duration> RetryAfter(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kRetryAfter);
  int64_t nanos = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &nanos)) return std::nullopt;
  return absl::Nanoseconds(nanos);
}

std::shared_ptr<Rate> Rates::Of(absl::string_view principal, absl::Time now) {
  MutexLock lock(&mutex_);
  if (const auto found = by_principal_.find(principal); found != by_principal_.end()) return found->second;
  if (by_principal_.size() >= kMaxPrincipals) ForgetIdle(now);
  if (by_principal_.size() >= kMaxPrincipals) {
    if (others_ == nullptr) others_ = New("others");
    return others_;
  }
  std::shared_ptr<Rate> rate = New(std::string(principal));
  by_principal_.emplace(principal, rate);
  return rate;
}

void Rates::ForgetIdle(absl::Time now) {
  if (now < looked_ + kLookAgain) return;
  looked_ = now;
  absl::erase_if(by_principal_,
                 [now](const auto& entry) { return entry.second.use_count() == 1 && entry.second->IsFull(now); });
}

size_t Rates::size() const {
  MutexLock lock(&mutex_);
  return by_principal_.size();
}

}  // namespace eventvirtual
