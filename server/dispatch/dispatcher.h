// Dispatcher: takes one event to all who are subscribed to it.
#ifndef EVENTVIRTUAL_SERVER_DISPATCH_DISPATCHER_H_
#define EVENTVIRTUAL_SERVER_DISPATCH_DISPATCHER_H_

#include <atomic>
#include <bitset>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/dispatch/commit.h"
#include "server/dispatch/loop_guard.h"
#include "server/endpoint/endpoint.h"
#include "server/load/load.h"
#include "server/registry/epoch.h"
#include "server/registry/registry.h"
#include "transports/api/message.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// One delivery's try at one endpoint, as told to who waits for the end.
struct AttemptRecord {
  enum class Result {
    kOk,
    kFailed,
    kUnknown,  // timed out after bytes may have left
    kRefused,  // queue full, or the endpoint is down
    kSkipped,  // drained, or cooling: then a later record of the same subscriber says that it was tried in the end
  };
  uint32_t subscriber = 0;  // position in the subscription
  Result result = Result::kSkipped;
  absl::Status status;
  absl::Duration duration;
};

// How one subscription's share of a raise ended.
struct DeliveryResult {
  enum class Outcome {
    kDelivered,  // PARALLEL: to all but those drained; else: to one
    kPartial,    // PARALLEL: to some
    kFailed,
    kFiltered,  // its filter did not take the event; nothing was attempted
    kExpired,   // the subscription ended before the event was sent, or the event was older than max_event_age
    // Of durable subscriptions alone.
    kPending,       // it is in the journal, and is tried again, or for the first time, later
    kDropped,       // it could not be written to the journal; nothing was attempted
    kDeadLettered,  // it was given up, and is kept with the reason
  };
  Ref<const Subscription> subscription;
  Outcome outcome = Outcome::kFailed;
  std::vector<AttemptRecord> attempts;  // in the order they were made (PARALLEL: of the subscribers)

  // The event has not reached all that it was to reach, although the subscription lives.
  bool failed() const { return outcome == Outcome::kFailed || outcome == Outcome::kPartial; }
  const AttemptRecord* last_failure() const;  // the last attempt that did not succeed; null: there is none
};

// What is known when Raise() returns.
struct RaiseReceipt {
  bool known = true;      // false: strict events, and nobody knows the name; nothing was done
  bool looped = false;    // it goes round in a loop, as `refusal` says (LoopGuard); nothing was done
  bool shed = false;      // there is too much to do (Load); nothing was done, and `refusal` says so
  uint32_t matched = 0;   // subscriptions whose filter, if there is one, took the event
  uint32_t filtered = 0;  // the others
  uint32_t accepted = 0;  // of those: an endpoint has taken the event into its queue
  uint32_t durable = 0;   // of those that matched: neither accepted nor refused before `commit` is settled
  absl::Status refusal;   // why one of the others was not accepted: RESOURCE_EXHAUSTED or UNAVAILABLE
  Ref<Commit> commit;     // null: no durable subscription matched

  bool taken() const { return known && !looped && !shed; }
};

// What an event must find, or nothing is done.
enum class Demand {
  kNone,
  kDurable,  // where any subscription matches, a durable one: see RaiseReceipt::durable
};

// Every delivery that Raise() started has ended. Behind their results stand those of up to kMaxFilteredResults
// subscriptions whose filter did not take the event: one event may have thousands of them.
inline constexpr size_t kMaxFilteredResults = 100;
using RaiseDone = absl::AnyInvocable<void(absl::Span<DeliveryResult> deliveries) &&>;

// Writes an event for durable subscriptions, and delivers it by and by; `done`, unless null, hears of each how its
// first round ended. Any thread; never blocks.
using KeepDurable = std::function<Ref<Commit>(const MessageRef& message,
                                              absl::Span<const Ref<const Subscription>> subscriptions, RaiseDone done)>;

// Subscribers by their position in a subscription.
using SubscriberSet = std::bitset<128>;

// One go at the policy, for who goes on after a failure.
struct Round {
  absl::Time deadline = absl::InfiniteFuture();  // of the event, across all its rounds
  uint32_t max_attempts = 0;                     // FAILOVER, ROUND-ROBIN; 0: every subscriber once
  SubscriberSet delivered;                       // PARALLEL: these have it already, and are not tried
};

// Hears how deliveries end.
class DeliveryObserver {
 public:
  // One has ended. On the thread where it did: must not block, and must not call the dispatcher.
  virtual void OnDelivery(const Message& message, const DeliveryResult& delivery) = 0;

 protected:
  ~DeliveryObserver() = default;
};

// Any thread.
class Dispatcher {
 public:
  explicit Dispatcher(Registry& registry, LoopLimits limits = {})
      : registry_(registry), loop_guard_(std::move(limits)) {}
  ~Dispatcher();  // everything that was raised must have ended: see AwaitIdle

  // Starts one delivery for each live subscription to the message's event: makes its plan and offers the message to the
  // first `width` endpoints on the calling thread; the rest happens on the endpoints' loops, whose turn this thread may
  // borrow (see Cork): then it also sends, and ends what ends with that. So the caller holds no lock that `done` takes,
  // of this raise or another's. Never blocks.
  // `done`, unless null, is called exactly once, with one result per matched subscription (and see above), on the
  // thread where the last delivery ends; that may be this one, before Raise() returns. It is dropped with what is not
  // taken: see RaiseReceipt.
  RaiseReceipt Raise(MessageRef message, RaiseDone done) {
    return Raise(std::move(message), std::move(done), registry_.clock().Now());
  }
  // The same for who raises many in a row and looks at the registry's clock once for some of them.
  RaiseReceipt Raise(MessageRef message, RaiseDone done, absl::Time now, Demand demand = Demand::kNone);

  // One round of one subscription's policy for a message that was raised before: no filter is asked, and nothing is
  // counted at the subscription. `done` is called exactly once, with the one result. Any thread; never blocks.
  void Deliver(MessageRef message, Ref<const Subscription> subscription, const Round& round, RaiseDone done);

  const Clock& clock() const { return registry_.clock(); }
  const LoopGuard& loop_guard() const { return loop_guard_; }

  // `observer`, which does not watch yet, hears of each delivery of events that are raised from now on; filtered ones
  // were none. While nobody watches, that costs a raise one look.
  void Watch(DeliveryObserver* observer);
  // Once it has returned, the observer is not called again. Nothing happens if it does not watch.
  void Unwatch(DeliveryObserver* observer);

  // Who keeps events for durable subscriptions. It outlives the raises. Once, before anything is raised; without it
  // there must be no durable subscription.
  void KeepDurableBy(KeepDurable keep) { keep_ = std::move(keep); }
  bool keeps_durable() const { return static_cast<bool>(keep_); }

  // From here on `load`, which outlives this, is asked before each raise but that of a report, and told when much is
  // pending. Once, before anything is raised.
  void ShedBy(Load* load) { load_ = load; }

  // Raises that have not ended, but for what is kept.
  uint64_t pending() const { return pending_.load(std::memory_order_relaxed) / kOne; }

  // Waits until nothing is pending, for `timeout` at most; whether nothing is. Not on a loop; nobody else may wait, and
  // for a dispatcher that is destroyed next, nobody may raise any more.
  bool AwaitIdle(absl::Duration timeout);

 private:
  friend class RaiseState;
  void OnRaiseBegins();
  void OnRaiseEnded();

  // The pending raises, and in the lowest bit whether somebody waits for the last of them: only then its end takes the
  // lock.
  static constexpr uint64_t kWaiting = 1;
  static constexpr uint64_t kOne = 2;

  void Tell(const Message& message, const DeliveryResult& delivery);

  Registry& registry_;
  LoopGuard loop_guard_;
  KeepDurable keep_;
  Load* load_ = nullptr;               // null: nothing is shed
  std::atomic<bool> observed_{false};  // somebody watches
  std::atomic<uint64_t> pending_{0};
  Mutex observers_mutex_;
  std::vector<DeliveryObserver*> observers_ ABSL_GUARDED_BY(observers_mutex_);
  Mutex mutex_;
  CondVar told_signal_;
  bool told_ ABSL_GUARDED_BY(mutex_) = false;
};

// Raises that follow each other on one thread: what they offer leaves together (see Cork), and the subscriptions are
// pinned once, where each pin waits for all that its thread has written to reach the cache. For some hundred raises at
// most; never block under it. Stack only.
class RaiseBatch {
 public:
  RaiseBatch() = default;
  RaiseBatch(const RaiseBatch&) = delete;
  RaiseBatch& operator=(const RaiseBatch&) = delete;

 private:
  const Cork cork_;
  const EpochPin pin_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_DISPATCH_DISPATCHER_H_
