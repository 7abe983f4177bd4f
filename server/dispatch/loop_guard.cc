#include "server/dispatch/loop_guard.h"

#include <utility>
#include <variant>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"

namespace eventvirtual {
namespace {

uint64_t HashOf(Null) { return 0; }
uint64_t HashOf(Json json) { return absl::HashOf(json.text); }
template <typename T>
uint64_t HashOf(const T& value) {
  return absl::HashOf(value);
}

// Of name and parameters. Chance makes two events alike once in 2^64.
uint64_t FingerprintOf(const Message& message) {
  uint64_t hash = absl::HashOf(message.name());
  for (const Param& param : message.params()) {
    const uint64_t value = std::visit([](const auto& held) { return HashOf(held); }, param.value);
    hash = absl::HashOf(hash, param.name, param.value.index(), value);
  }
  return hash;
}

}  // namespace

LoopGuard::LoopGuard(LoopLimits limits)
    : limits_(std::move(limits)), repeats_(limits_.max_repeats > 0 ? std::make_unique<Repeats>() : nullptr) {}

absl::Status LoopGuard::CheckClosely(const Message& message, absl::Time now) {
  if (message.hops() >= limits_.max_hops) {
    too_many_hops_.fetch_add(1, std::memory_order_relaxed);
    if (limits_.tell) limits_.tell(message, "hops");
    return absl::FailedPreconditionError(
        absl::StrCat("event \"", message.name(), "\" goes round in a loop: ", message.hops(),
                     " services have delivered it already, and --max_hops is ", limits_.max_hops,
                     "; end the subscription that brings it back, or raise the flag where the way is that long"));
  }
  if (message.hops() > 0 || message.is_report()) return absl::OkStatus();
  if (repeats_->Count(FingerprintOf(message), now) <= limits_.max_repeats) return absl::OkStatus();
  too_many_repeats_.fetch_add(1, std::memory_order_relaxed);
  if (limits_.tell) limits_.tell(message, "repeats");
  return absl::ResourceExhaustedError(
      absl::StrCat("event \"", message.name(), "\" seems to go round in a loop: it came more often than ",
                   limits_.max_repeats, " times within ", absl::FormatDuration(kWindow),
                   " with the same parameters, which is what --max_repeats allows; end the subscription that brings it "
                   "back, or raise the flag"));
}

// The majority vote of Boyer and Moore, for each place.
uint32_t LoopGuard::Repeats::Count(uint64_t fingerprint, absl::Time now) {
  Shard& shard = shards_[fingerprint % shards_.size()];
  MutexLock lock(&shard.mutex);
  Place& place = shard.places[fingerprint / shards_.size() % shard.places.size()];
  const bool over = now - place.began >= kWindow;
  if (over || (place.fingerprint != fingerprint && place.held <= 1)) {
    place = {fingerprint, 1, 1, now};
    return 1;
  }
  if (place.fingerprint != fingerprint) {
    --place.held;
    return 1;
  }
  ++place.held;
  return ++place.count;
}

}  // namespace eventvirtual
