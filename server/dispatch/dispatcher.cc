#include "server/dispatch/dispatcher.h"

#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "server/dispatch/delivery.h"
#include "transports/api/check.h"

namespace eventvirtual {

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

RaiseReceipt Dispatcher::Raise(MessageRef message, RaiseDone done, absl::Time now) {
  RaiseReceipt receipt;
  absl::InlinedVector<Ref<const Subscription>, 16> subscriptions;
  std::vector<DeliveryResult> filtered;
  receipt.known = registry_.Read(message->name(), now, [&](const Subscription& subscription) {
    if (subscription.filtering == nullptr || subscription.filtering->filter.Matches(*message)) {
      subscriptions.emplace_back(&subscription);
      return;
    }
    subscription.filtering->refused.fetch_add(1, std::memory_order_relaxed);
    ++receipt.filtered;
    if (done && filtered.size() < kMaxFilteredResults) {
      filtered.push_back({Ref<const Subscription>(&subscription), DeliveryResult::Outcome::kFiltered, {}});
    }
  });
  if (!receipt.known) return receipt;
  receipt.matched = static_cast<uint32_t>(subscriptions.size());
  if (subscriptions.empty()) {
    if (done) std::move(done)(filtered);
    return receipt;
  }

  pending_.fetch_add(kOne, std::memory_order_relaxed);
  RaiseState* const raise =
      RaiseState::Make(this, registry_.clock(), std::move(message), std::move(done),
                       observed_.load(std::memory_order_relaxed), absl::MakeSpan(subscriptions), std::move(filtered));
  // Lives until each of them has been started, and has ended.
  for (Delivery& delivery : raise->deliveries()) {
    if (delivery.Start(now, &receipt.refusal)) ++receipt.accepted;
  }
  return receipt;
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
