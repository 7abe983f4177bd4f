#include "server/registry/subscription.h"

#include <utility>

namespace eventvirtual {

DeliveryCounts Subscription::CountsOf(Held held) const {
  // What is counted later is read first, so no difference is negative. Where nothing was counted between the first look
  // and the last, what was pending held its references in between.
  constexpr int kLooks = 3;
  constexpr auto kAcquire = std::memory_order_acquire;
  const uint64_t by_others = held == Held::kRegistry ? 1 : 0;
  DeliveryCounts counts;
  uint64_t wrong = 0;
  for (int look = 0; look < kLooks; ++look) {
    const auto read = [this] {
      DeliveryCounts now;
      if (filtering != nullptr) now.filtered = filtering->refused.load(kAcquire);
      now.delivered = delivered.load(kAcquire);
      now.partial = partial.load(kAcquire);
      now.failed = failed.load(kAcquire);
      now.expired = expired.load(kAcquire);
      now.matched = taken.load(kAcquire);
      return now;
    };
    const auto ended = [](const DeliveryCounts& now) { return now.delivered + now.partial + now.failed + now.expired; };
    counts = read();
    const uint64_t references = this->references();
    const DeliveryCounts again = read();
    const uint64_t out = counts.matched - ended(counts);
    wrong = ended(counts) > counts.matched ? ended(counts) - counts.matched : 0;
    counts.pending = wrong > 0 ? 0 : out;
    if (wrong > 0) break;
    if (again.matched != counts.matched || ended(again) != ended(counts)) continue;
    if (!durable && out + by_others > references) wrong = out + by_others - references;
    break;
  }
  counts.imbalance = wrong;
  counts.matched += counts.filtered;
  if (durable) {
    counts.dropped = std::exchange(counts.partial, 0);
    counts.dead_lettered = std::exchange(counts.failed, 0);
  }
  return counts;
}

std::string Subscription::socket() const {
  std::vector<std::string> masked;
  for (const Subscriber& subscriber : subscribers) masked.push_back(subscriber.endpoint->target().masked);
  return FormatVirtualSocket(policy, plain, masked);
}

}  // namespace eventvirtual
