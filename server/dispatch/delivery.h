// RaiseState and Delivery: one raise on its way, and one subscription's share of it. Inside the dispatcher only.
#ifndef EVENTVIRTUAL_SERVER_DISPATCH_DELIVERY_H_
#define EVENTVIRTUAL_SERVER_DISPATCH_DELIVERY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/dispatch/dispatcher.h"
#include "server/dispatch/policy.h"
#include "server/endpoint/endpoint.h"
#include "server/registry/subscription.h"
#include "transports/api/loop.h"
#include "transports/api/message.h"
#include "transports/api/ref.h"

namespace eventvirtual {

class RaiseState;

// What of a delivery depends on the subscription and on this moment alone; Explain() looks at the same.

bool IsTooOld(const Subscription& subscription, const Message& message, absl::Time now);

// From accept to outcome, at one subscriber.
absl::Duration AttemptTimeoutOf(const Subscription::Subscriber& subscriber);

// The plan of a policy other than PARALLEL, of all subscribers.
Plan PlanOf(const Subscription& subscription, uint64_t turn, absl::Time now);

// Why an event is refused whose `count` subscribers are all drained.
absl::Status AllTakenOut(size_t count);

// Leaves in the plan what max_attempts allows; gives what it has taken out.
absl::InlinedVector<uint8_t, 8> CutToMaxAttempts(uint32_t max_attempts, Plan* plan);

// Executes one plan, or PARALLEL. PARALLEL has all its attempts out at once, reported from several loops; the others
// have one out at a time, so that everything but `outstanding_` and the records of PARALLEL is touched by one thread
// after the other.
class Delivery final : public Endpoint::Client {
 public:
  Delivery(RaiseState* raise, Ref<const Subscription> subscription)
      : raise_(raise), subscription_(std::move(subscription)) {}

  // Makes the plan and the first offers. May end the delivery, and with the last one the raise, before it returns.
  // True: an endpoint has taken the message. `refusal` is written otherwise.
  bool Start(absl::Time now, absl::Status* refusal);

  // The same for a message that is kept: see Dispatcher::Deliver().
  void StartRound(absl::Time now, const Round& round);

  DeliveryResult TakeResult();

 private:
  // Endpoint::Client, on an endpoint's loop.
  bool Wanted(absl::Time now) const override { return subscription_->Live(now); }
  void OnOutcome(uint32_t tag, Outcome outcome) override;

  bool StartPolicy(absl::Time now, uint32_t max_attempts, const SubscriberSet& delivered, absl::Status* refusal);
  bool StartParallel(absl::Time now, const SubscriberSet& delivered, absl::Status* refusal);
  bool parallel() const { return subscription_->policy == Policy::kParallel; }
  // One of PARALLEL's attempts has ended; the last ends the delivery.
  void EndParallel(uint32_t successes, DeliveryResult::Outcome without_success);
  bool Advance(absl::Time now, absl::Status* refusal);  // offers to the next in the plan until one accepts, or ends
  // Only if the raise keeps records.
  void Record(uint32_t tag, uint8_t position, AttemptRecord::Result result, absl::Status status,
              absl::Duration duration);
  void RecordTakenOut(uint32_t tag, uint8_t position);
  void End(DeliveryResult::Outcome outcome);

  RaiseState* const raise_;
  const Ref<const Subscription> subscription_;
  Plan plan_;  // unless PARALLEL
  absl::Time deadline_ = absl::InfiniteFuture();
  uint8_t next_ = 0;     // in plan_.order
  bool counts_ = false;  // at the subscription; what is kept is counted by who keeps it
  uint8_t drained_ = 0;  // PARALLEL: subscribers passed over; read by whoever ends the last attempt
  DeliveryResult::Outcome outcome_ = DeliveryResult::Outcome::kFailed;
  // PARALLEL. Attempts that are out, and in the upper half the successes: one atomic step for each outcome.
  std::atomic<uint64_t> outstanding_{0};
  std::vector<AttemptRecord> records_;  // only if somebody waits for the end, or watches
};

// Owns itself: lives until its last delivery has ended. One allocation, its deliveries stand behind it.
class RaiseState {
 public:
  // `observed`: the dispatcher is told of each delivery.
  static RaiseState* Make(Dispatcher* dispatcher, const Clock& clock, MessageRef message, RaiseDone done, bool observed,
                          absl::Span<Ref<const Subscription>> subscriptions, std::vector<DeliveryResult> filtered);

  absl::Span<Delivery> deliveries() { return {reinterpret_cast<Delivery*>(this + 1), count_}; }
  const MessageRef& message() const { return message_; }
  const Clock& clock() const { return clock_; }
  bool observed() const { return observed_; }
  bool keeps_records() const { return keeps_records_; }

  void Tell(const DeliveryResult& delivery) const { dispatcher_->Tell(*message_, delivery); }

  // One of the deliveries has ended; the last calls `done` and destroys this.
  void Release();

 private:
  void Destroy();

  RaiseState(Dispatcher* dispatcher, const Clock& clock, MessageRef message, RaiseDone done, bool observed,
             std::vector<DeliveryResult> filtered, size_t count)
      : dispatcher_(dispatcher),
        clock_(clock),
        message_(std::move(message)),
        done_(std::move(done)),
        filtered_(std::move(filtered)),
        observed_(observed),
        keeps_records_(observed || done_),
        count_(count),
        remaining_(count) {}

  Dispatcher* const dispatcher_;
  const Clock& clock_;
  const MessageRef message_;
  RaiseDone done_;
  std::vector<DeliveryResult> filtered_;  // for `done_`
  const bool observed_;
  const bool keeps_records_;
  const size_t count_;
  std::atomic<size_t> remaining_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_DISPATCH_DELIVERY_H_
