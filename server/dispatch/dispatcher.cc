#include "server/dispatch/dispatcher.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "server/dispatch/delivery.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

// An event that goes to durable subscriptions and to others: who waits for its end is told when both have ended.
class BothEnds {
 public:
  explicit BothEnds(RaiseDone done) : done_(std::move(done)) {}

  // For each of the two.
  static RaiseDone Half(std::shared_ptr<BothEnds> both) {
    return [both = std::move(both)](absl::Span<DeliveryResult> deliveries) { both->End(deliveries); };
  }

 private:
  void End(absl::Span<DeliveryResult> deliveries) {
    {
      MutexLock lock(&mutex_);
      // What the filters refused stands behind the others.
      const auto middle = std::find_if(results_.begin(), results_.end(), [](const DeliveryResult& result) {
        return result.outcome == DeliveryResult::Outcome::kFiltered;
      });
      results_.insert(middle, std::make_move_iterator(deliveries.begin()), std::make_move_iterator(deliveries.end()));
      if (++ended_ < 2) return;
    }
    std::move(done_)(absl::MakeSpan(results_));
  }

  Mutex mutex_;
  int ended_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<DeliveryResult> results_;  // under the lock until both have ended
  RaiseDone done_;
};

}  // namespace

const AttemptRecord* DeliveryResult::last_failure() const {
  const auto last = std::find_if(attempts.rbegin(), attempts.rend(),
                                 [](const AttemptRecord& attempt) { return !attempt.status.ok(); });
  return last == attempts.rend() ? nullptr : &*last;
}

Dispatcher::~Dispatcher() { EV_CHECK(pending() == 0); }

void Dispatcher::Watch(DeliveryObserver* observer) {
  MutexLock lock(&observers_mutex_);
  observers_.push_back(observer);
  observed_.store(true, std::memory_order_relaxed);
}

void Dispatcher::Unwatch(DeliveryObserver* observer) {
  MutexLock lock(&observers_mutex_);
  observers_.erase(std::remove(observers_.begin(), observers_.end(), observer), observers_.end());
  observed_.store(!observers_.empty(), std::memory_order_relaxed);
}

void Dispatcher::Tell(const Message& message, const DeliveryResult& delivery) {
  MutexLock lock(&observers_mutex_);
  for (DeliveryObserver* observer : observers_) observer->OnDelivery(message, delivery);
}

RaiseReceipt Dispatcher::Raise(MessageRef message, RaiseDone done, absl::Time now, Demand demand) {
  RaiseReceipt receipt;
  if (receipt.refusal = loop_guard_.Check(*message, now); !receipt.refusal.ok()) {
    receipt.looped = true;
    return receipt;
  }
  if (load_ != nullptr && load_->Refuses(Load::Work::kAccepted) && !message->is_report()) {
    const Load::Work work = done || demand == Demand::kDurable ? Load::Work::kDelivered : Load::Work::kAccepted;
    if (load_->Refuses(work)) {
      receipt.shed = true;
      receipt.refusal = load_->Refuse(work);
      return receipt;
    }
  }
  absl::InlinedVector<Ref<const Subscription>, 16> subscriptions;
  std::vector<Ref<const Subscription>> durable;
  std::vector<DeliveryResult> filtered;
  receipt.known = registry_.Read(message->name(), now, [&](const Subscription& subscription) {
    if (subscription.filtering == nullptr || subscription.filtering->filter.Matches(*message)) {
      if (!subscription.durable) {
        subscriptions.emplace_back(&subscription);
      } else {
        durable.emplace_back(&subscription);
      }
      return;
    }
    subscription.filtering->refused.fetch_add(1, std::memory_order_relaxed);
    ++receipt.filtered;
    if (done && filtered.size() < kMaxFilteredResults) {
      filtered.push_back({Ref<const Subscription>(&subscription), DeliveryResult::Outcome::kFiltered, {}});
    }
  });
  if (!receipt.known) return receipt;
  receipt.matched = static_cast<uint32_t>(subscriptions.size() + durable.size());
  receipt.durable = static_cast<uint32_t>(durable.size());
  if (demand == Demand::kDurable && durable.empty() && receipt.matched > 0) return receipt;
  if (!durable.empty()) {
    RaiseDone half;
    if (done) {
      auto both = std::make_shared<BothEnds>(std::move(done));
      half = BothEnds::Half(both);
      done = BothEnds::Half(std::move(both));
    }
    receipt.commit = keep_(message, durable, std::move(half));
  }
  if (subscriptions.empty()) {
    if (done) std::move(done)(absl::MakeSpan(filtered));
    return receipt;
  }

  OnRaiseBegins();
  RaiseState* const raise =
      RaiseState::Make(this, registry_.clock(), std::move(message), std::move(done),
                       observed_.load(std::memory_order_relaxed), absl::MakeSpan(subscriptions), std::move(filtered));
  const Cork cork(Cork::For::kFewRaises);  // nothing ends before all have been offered the message, if there are few
  // Lives until each of them has been started, and has ended.
  for (Delivery& delivery : raise->deliveries()) {
    if (delivery.Start(now, &receipt.refusal)) ++receipt.accepted;
  }
  return receipt;
}

void Dispatcher::Deliver(MessageRef message, Ref<const Subscription> subscription, const Round& round, RaiseDone done) {
  OnRaiseBegins();
  RaiseState* const raise =
      RaiseState::Make(this, registry_.clock(), std::move(message), std::move(done),
                       observed_.load(std::memory_order_relaxed), absl::MakeSpan(&subscription, 1), {});
  raise->deliveries()[0].StartRound(registry_.clock().Now(), round);
}

void Dispatcher::OnRaiseBegins() {
  const uint64_t before = pending_.fetch_add(kOne, std::memory_order_relaxed);
  if (before + kOne >= Load::kBusy * kOne && load_ != nullptr) load_->OnBusy();
}

void Dispatcher::OnRaiseEnded() {
  // Who waits stays until it has been told. If nobody does, the dispatcher may be gone from here on.
  if (pending_.fetch_sub(kOne, std::memory_order_acq_rel) != kOne + kWaiting) return;
  MutexLock lock(&mutex_);
  told_ = true;
  told_signal_.SignalAll();
}

bool Dispatcher::AwaitIdle(absl::Duration timeout) {
  const absl::Time deadline = registry_.clock().Now() + timeout;
  MutexLock lock(&mutex_);
  told_ = pending_.fetch_or(kWaiting, std::memory_order_acq_rel) < kOne;
  while (!told_) {
    const absl::Duration left = deadline - registry_.clock().Now();
    // Whoever ends the last raise after this does not tell us; who ended it before is on the way.
    if (left <= absl::ZeroDuration() && pending_.fetch_and(~kWaiting, std::memory_order_acq_rel) >= kOne) return false;
    told_signal_.WaitFor(&mutex_, std::clamp(left, absl::Milliseconds(1), absl::Seconds(1)));
  }
  pending_.fetch_and(~kWaiting, std::memory_order_acq_rel);
  return true;
}

}  // namespace eventvirtual
