// Subscription: event + policy + 1…n subscribers + one expiry.
#ifndef EVENTVIRTUAL_SERVER_REGISTRY_SUBSCRIPTION_H_
#define EVENTVIRTUAL_SERVER_REGISTRY_SUBSCRIPTION_H_

#include <atomic>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/fixed_array.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/registry/delivery_ledger.h"
#include "server/registry/filter.h"
#include "server/registry/virtual_socket.h"
#include "transports/api/ref.h"

namespace eventvirtual {

struct DeliveryOptions {
  absl::Duration failover_timeout = absl::Seconds(30);      // cool-down of a failed subscriber
  absl::Duration total_timeout = absl::InfiniteDuration();  // one deadline for the event across all attempts
  absl::Duration max_event_age = absl::InfiniteDuration();  // older events are not sent
  uint32_t max_attempts = 0;                                // 0: every subscriber once
  bool durable = false;                                     // events are kept in the journal until they are delivered
  std::string dead_letter_uri;                              // of a durable one, who gets what is given up; "": nobody
};

// A time or a duration that is stored as 64-bit nanoseconds, so that it is lock-free. Infinite values stay infinite.
class AtomicTime {
 public:
  explicit AtomicTime(absl::Time time) { Store(time); }
  void Store(absl::Time time) {
    nanos_.store(time == absl::InfiniteFuture() ? INT64_MAX : absl::ToUnixNanos(time), std::memory_order_release);
  }
  absl::Time Load() const {
    const int64_t nanos = nanos_.load(std::memory_order_acquire);
    return nanos == INT64_MAX ? absl::InfiniteFuture() : absl::FromUnixNanos(nanos);
  }

 private:
  std::atomic<int64_t> nanos_;
};

class AtomicDuration {
 public:
  explicit AtomicDuration(absl::Duration duration) { Store(duration); }
  void Store(absl::Duration duration) {
    nanos_.store(duration == absl::InfiniteDuration() ? INT64_MAX : absl::ToInt64Nanoseconds(duration),
                 std::memory_order_relaxed);
  }
  absl::Duration Load() const {
    const int64_t nanos = nanos_.load(std::memory_order_relaxed);
    return nanos == INT64_MAX ? absl::InfiniteDuration() : absl::Nanoseconds(nanos);
  }

 private:
  std::atomic<int64_t> nanos_;
};

// Whether whoever asked for `event`, a name or a pattern, gets events called `name`.
inline bool Takes(absl::string_view event, absl::string_view name) {
  return absl::ConsumeSuffix(&event, "*") ? absl::StartsWith(name, event) : event == name;
}

// Shared by the registry and by the deliveries in flight. What is const was fixed when it was created; a refresh only
// stores atomics, so that a raise never waits for one.
class Subscription final : public RefCounted {
 public:
  static constexpr absl::string_view kNamePrefix = "subscriptions/";

  struct Subscriber {
    Subscriber(EndpointLease lease, absl::Duration timeout) : endpoint(std::move(lease)), attempt_timeout(timeout) {}
    Subscriber(Subscriber&& other) noexcept
        : endpoint(std::move(other.endpoint)), attempt_timeout(other.attempt_timeout.Load()) {}

    EndpointLease endpoint;
    AtomicDuration attempt_timeout;  // zero: the target's own
  };

  // What a subscription with a filter has besides.
  struct Filtering {
    explicit Filtering(Filter filter) : filter(std::move(filter)) {}
    const Filter filter;
    mutable std::atomic<uint64_t> refused = 0;  // events of its name that the filter did not take
  };

  // `filtering` is null when every event of its name is wanted; `queue` is 0 when it is not durable.
  Subscription(std::string id, std::string event, std::unique_ptr<const Filtering> filtering, Policy policy, bool plain,
               std::vector<Subscriber> subscribers, absl::Time created, DeliveryLedger::Account& account,
               uint32_t queue = 0)
      : policy(policy),
        plain(plain),
        durable(queue != 0),
        id(std::move(id)),
        event(std::move(event)),
        filtering(std::move(filtering)),
        created(created),
        subscribers(std::make_move_iterator(subscribers.begin()), std::make_move_iterator(subscribers.end())),
        account(account),
        refreshed(created),
        queue(queue) {}
  ~Subscription() override { account.ledger.Close(this, account, CountsOf(Held::kNowhere)); }

  // A million of these are kept (Registry::Record says how large they may be). What is small stands first, in the
  // padding behind the reference count.
  const Policy policy;
  const bool plain;  // its socket was written without "virtual:"
  std::atomic<bool> removed = false;
  const bool durable;

  // Counts of threads that raise: near to the reference count, which they change too, and far from those of the loops.
  // taken = delivered + partial + failed + expired + pending
  mutable std::atomic<uint64_t> turn = 0;   // ROUND-ROBIN: advances with every event
  mutable std::atomic<uint64_t> taken = 0;  // matched, and not filtered out

  const std::string id;     // without the "subscriptions/" of its name
  const std::string event;  // one name; with a '*' at its end all that begin so
  const std::unique_ptr<const Filtering> filtering;
  const AtomicTime created;  // on the registry's clock
  absl::FixedArray<Subscriber, 0> subscribers;
  DeliveryLedger::Account& account;

  absl::string_view filter() const {
    return filtering == nullptr ? absl::string_view() : absl::string_view(filtering->filter.text());
  }

  std::string name() const { return absl::StrCat(kNamePrefix, id); }
  std::string socket() const;  // masked

  // Whose references there are besides those of the deliveries, at least.
  enum class Held {
    kNowhere,
    kRegistry,  // its place in the list of its event
  };
  // Its books. A delivery holds a reference until it has ended and is booked; so more that have not ended than there
  // are references means that one was not booked; what a durable one has in the journal holds none. Any thread.
  DeliveryCounts CountsOf(Held held) const;

  // Whether it may still be delivered to. Any thread.
  bool Live(absl::Time now) const { return !removed.load(std::memory_order_acquire) && now < expires.Load(); }

  AtomicTime expires{absl::InfiniteFuture()};  // on the registry's clock
  AtomicTime refreshed;                        // when it was last said to expire then

  // Options; each is read on its own, so a refresh that changes several may be seen half-way by one event.
  AtomicDuration failover_timeout{DeliveryOptions().failover_timeout};
  AtomicDuration total_timeout{DeliveryOptions().total_timeout};
  AtomicDuration max_event_age{DeliveryOptions().max_event_age};

  // What few of them have.
  struct Extras {
    std::map<std::string, std::string> labels;
    Target dead_letters;  // dead_letter_uri; without texts: there is none
  };
  std::unique_ptr<const Extras> extras;  // null: nothing; guarded by the registry's mutex

  // Counts of loops.
  mutable std::atomic<uint64_t> delivered = 0;
  mutable std::atomic<uint64_t> partial = 0;
  mutable std::atomic<uint64_t> failed = 0;
  mutable std::atomic<uint64_t> expired = 0;

  std::atomic<uint32_t> max_attempts = 0;  // an option, too
  const uint32_t queue;                    // the number of its queue in the journal, no other's ever; 0: not durable

  // A durable delivery goes on until it succeeds or becomes a dead letter, so these share what it does not need.
  std::atomic<uint64_t>& dead_lettered() const { return failed; }
  std::atomic<uint64_t>& dropped() const { return partial; }  // could not be written to the journal
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_REGISTRY_SUBSCRIPTION_H_
