#include "server/dispatch/delivery.h"

#include <algorithm>
#include <iterator>
#include <new>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

// One success, in Delivery::outstanding_.
constexpr uint64_t kSuccess = uint64_t{1} << 32;

AttemptRecord::Result RecordOf(Outcome::Result result) {
  switch (result) {
    case Outcome::Result::kOk:
      return AttemptRecord::Result::kOk;
    case Outcome::Result::kUnknown:
      return AttemptRecord::Result::kUnknown;
    case Outcome::Result::kUnwanted:
      return AttemptRecord::Result::kSkipped;
    case Outcome::Result::kFailed:
      return AttemptRecord::Result::kFailed;
  }
  return AttemptRecord::Result::kFailed;
}

absl::Status TakenOut() { return absl::UnavailableError("taken out by hand"); }

}  // namespace

bool IsTooOld(const Subscription& subscription, const Message& message, absl::Time now) {
  const absl::Duration max_age = subscription.max_event_age.Load();
  return max_age != absl::InfiniteDuration() && now - message.event_time() > max_age;
}

absl::Duration AttemptTimeoutOf(const Subscription::Subscriber& subscriber) {
  const absl::Duration own = subscriber.attempt_timeout.Load();
  return own == absl::ZeroDuration() ? subscriber.endpoint->target().attempt_timeout : own;
}

Plan PlanOf(const Subscription& subscription, uint64_t turn, absl::Time now) {
  absl::InlinedVector<Candidate, 8> candidates(subscription.subscribers.size());
  const absl::Duration cool_down = subscription.failover_timeout.Load();
  for (size_t i = 0; i < candidates.size(); ++i) {
    const Endpoint& endpoint = *subscription.subscribers[i].endpoint;
    const absl::Time since = endpoint.failing_since();
    if (since != absl::InfinitePast()) candidates[i] = {now < since + cool_down, since};
    candidates[i].drained = endpoint.drained();
  }
  return MakePlan(subscription.policy, candidates, turn);
}

absl::InlinedVector<uint8_t, 8> CutToMaxAttempts(uint32_t max_attempts, Plan* plan) {
  if (max_attempts == 0 || max_attempts >= plan->order.size()) return {};
  absl::InlinedVector<uint8_t, 8> beyond(plan->order.begin() + max_attempts, plan->order.end());
  plan->order.resize(max_attempts);
  plan->eligible = std::min<uint8_t>(plan->eligible, static_cast<uint8_t>(max_attempts));
  return beyond;
}

absl::Status AllTakenOut(size_t count) {
  return absl::UnavailableError(absl::StrCat(count == 1 ? "its subscriber has" : "all its subscribers have",
                                             " been taken out by hand; evctl enable URI brings one back"));
}

bool Delivery::Start(absl::Time now, absl::Status* refusal) {
  counts_ = true;
  subscription_->taken.fetch_add(1, std::memory_order_relaxed);
  if (IsTooOld(*subscription_, *raise_->message(), now)) {
    End(DeliveryResult::Outcome::kExpired);
    return true;  // nothing was refused
  }
  const absl::Duration total = subscription_->total_timeout.Load();
  if (total != absl::InfiniteDuration()) deadline_ = now + total;
  return StartPolicy(now, subscription_->max_attempts.load(std::memory_order_relaxed), {}, refusal);
}

void Delivery::StartRound(absl::Time now, const Round& round) {
  deadline_ = round.deadline;
  absl::Status refusal;  // is in the records
  StartPolicy(now, round.max_attempts, round.delivered, &refusal);
}

bool Delivery::StartPolicy(absl::Time now, uint32_t max_attempts, const SubscriberSet& delivered,
                           absl::Status* refusal) {
  if (parallel()) return StartParallel(now, delivered, refusal);

  plan_ = PlanOf(*subscription_, subscription_->turn.fetch_add(1, std::memory_order_relaxed), now);
  if (raise_->keeps_records()) {
    for (size_t i = plan_.eligible; i < plan_.order.size(); ++i) {
      Record(0, plan_.order[i], AttemptRecord::Result::kSkipped, absl::UnavailableError("cooling down after a failure"),
             absl::ZeroDuration());
    }
    for (size_t i = 0; i < subscription_->subscribers.size(); ++i) {
      const bool planned = std::find(plan_.order.begin(), plan_.order.end(), i) != plan_.order.end();
      if (!planned) RecordTakenOut(0, static_cast<uint8_t>(i));
    }
  }
  if (plan_.order.empty()) *refusal = AllTakenOut(subscription_->subscribers.size());
  if (max_attempts > 0) CutToMaxAttempts(max_attempts, &plan_);
  return Advance(now, refusal);
}

// Each attempt is named by its subscriber. Those that are not yet made count as outstanding: this lives until the last
// of them is offered, and may have ended when that returns.
bool Delivery::StartParallel(absl::Time now, const SubscriberSet& delivered, absl::Status* refusal) {
  const absl::Span<const Subscription::Subscriber> subscribers = subscription_->subscribers;
  if (raise_->keeps_records()) records_.resize(subscribers.size());
  outstanding_.store(subscribers.size(), std::memory_order_relaxed);
  uint32_t refused = 0, drained = 0;
  absl::Duration timeout = absl::InfiniteDuration();
  absl::Time deadline = deadline_;
  for (uint32_t position = 0; position < subscribers.size(); ++position) {
    const Subscription::Subscriber& subscriber = subscribers[position];
    if (delivered[position]) {
      Record(position, static_cast<uint8_t>(position), AttemptRecord::Result::kSkipped, absl::OkStatus(),
             absl::ZeroDuration());
      EndParallel(1, DeliveryResult::Outcome::kFailed);
      continue;
    }
    if (subscriber.endpoint->drained()) {
      ++drained;
      ++drained_;
      subscriber.endpoint->CountMissed();
      if (drained == subscribers.size()) *refusal = AllTakenOut(drained);
      RecordTakenOut(position, static_cast<uint8_t>(position));
      EndParallel(0, DeliveryResult::Outcome::kFailed);
      continue;
    }
    if (const absl::Duration own = AttemptTimeoutOf(subscriber); own != timeout) {  // mostly all have the same
      timeout = own;
      deadline = std::min(now + timeout, deadline_);
    }
    const Admission admission = subscriber.endpoint->Offer(*raise_->message(), this, position, now, deadline);
    if (admission == Admission::kAccepted) continue;
    ++refused;
    *refusal = subscriber.endpoint->RefusalOf(admission);
    if (raise_->keeps_records()) {
      Record(position, static_cast<uint8_t>(position), AttemptRecord::Result::kRefused, *refusal, absl::ZeroDuration());
    }
    EndParallel(0, DeliveryResult::Outcome::kFailed);
  }
  return refused + drained < subscribers.size();
}

bool Delivery::Advance(absl::Time now, absl::Status* refusal) {
  while (next_ < plan_.order.size()) {
    const uint8_t index = next_++;
    const uint8_t position = plan_.order[index];
    if (!Wanted(now)) {
      End(DeliveryResult::Outcome::kExpired);
      return true;
    }
    if (now >= deadline_) {
      *refusal = absl::DeadlineExceededError("the event's total_timeout is over");
      break;
    }
    Endpoint& endpoint = *subscription_->subscribers[position].endpoint;
    if (endpoint.drained()) {  // since the plan was made
      *refusal = TakenOut();
      RecordTakenOut(0, position);
      continue;
    }
    if (index < plan_.eligible && endpoint.failing_since() != absl::InfinitePast() && !endpoint.ClaimCanary(now)) {
      // Its cool-down is over, but another event is finding out whether it has recovered: to the end of the line.
      if (raise_->keeps_records()) {
        Record(0, position, AttemptRecord::Result::kSkipped, absl::UnavailableError("another event is probing it"),
               absl::ZeroDuration());
      }
      plan_.order.push_back(position);
      continue;
    }
    const absl::Time deadline = std::min(now + AttemptTimeoutOf(subscription_->subscribers[position]), deadline_);
    const Admission admission = endpoint.Offer(*raise_->message(), this, index, now, deadline);
    if (admission == Admission::kAccepted) return true;  // its outcome may already be at work on another thread
    *refusal = endpoint.RefusalOf(admission);
    if (raise_->keeps_records()) {
      Record(0, position, AttemptRecord::Result::kRefused, *refusal, absl::ZeroDuration());
    }
  }
  End(DeliveryResult::Outcome::kFailed);
  return false;
}

void Delivery::OnOutcome(uint32_t tag, Outcome outcome) {
  const bool ok = outcome.result == Outcome::Result::kOk;
  const bool unwanted = outcome.result == Outcome::Result::kUnwanted;
  if (raise_->keeps_records()) {
    const auto position = parallel() ? static_cast<uint8_t>(tag) : plan_.order[tag];
    Record(tag, position, RecordOf(outcome.result), std::move(outcome.status), outcome.duration);
  }
  if (parallel()) {
    EndParallel(ok ? 1 : 0, unwanted ? DeliveryResult::Outcome::kExpired : DeliveryResult::Outcome::kFailed);
  } else if (ok) {
    End(DeliveryResult::Outcome::kDelivered);
  } else if (unwanted) {
    End(DeliveryResult::Outcome::kExpired);
  } else {
    absl::Status refusal;
    Advance(raise_->clock().Now(), &refusal);
  }
}

void Delivery::EndParallel(uint32_t successes, DeliveryResult::Outcome without_success) {
  const uint64_t step = kSuccess * successes - 1;
  const uint64_t now = outstanding_.fetch_add(step, std::memory_order_acq_rel) + step;
  if (static_cast<uint32_t>(now) != 0) return;
  const uint64_t all = now / kSuccess;
  End(all == 0                                              ? without_success
      : all + drained_ == subscription_->subscribers.size() ? DeliveryResult::Outcome::kDelivered
                                                            : DeliveryResult::Outcome::kPartial);
}

void Delivery::Record(uint32_t tag, uint8_t position, AttemptRecord::Result result, absl::Status status,
                      absl::Duration duration) {
  AttemptRecord record{position, result, std::move(status), duration};
  if (parallel()) {
    records_[tag] = std::move(record);
  } else {
    records_.push_back(std::move(record));
  }
}

void Delivery::RecordTakenOut(uint32_t tag, uint8_t position) {
  if (!raise_->keeps_records()) return;
  Record(tag, position, AttemptRecord::Result::kSkipped, TakenOut(), absl::ZeroDuration());
}

void Delivery::End(DeliveryResult::Outcome outcome) {
  outcome_ = outcome;
  std::atomic<uint64_t>* count = nullptr;
  switch (outcome) {
    case DeliveryResult::Outcome::kDelivered:
      count = &subscription_->delivered;
      break;
    case DeliveryResult::Outcome::kPartial:
      count = &subscription_->partial;
      break;
    case DeliveryResult::Outcome::kFailed:
      count = &subscription_->failed;
      break;
    case DeliveryResult::Outcome::kExpired:
      count = &subscription_->expired;
      break;
    default:
      EV_CHECK(false);  // no delivery ends so
  }
  // Whoever reads it sees what was taken before.
  if (counts_) count->fetch_add(1, std::memory_order_release);
  if (raise_->observed()) {
    DeliveryResult result = TakeResult();
    raise_->Tell(result);
    records_ = std::move(result.attempts);
  }
  raise_->Release();
}

DeliveryResult Delivery::TakeResult() { return {subscription_, outcome_, std::move(records_)}; }

RaiseState* RaiseState::Make(Dispatcher* dispatcher, const Clock& clock, MessageRef message, RaiseDone done,
                             bool observed, absl::Span<Ref<const Subscription>> subscriptions,
                             std::vector<DeliveryResult> filtered) {
  static_assert(alignof(RaiseState) >= alignof(Delivery) && sizeof(RaiseState) % alignof(Delivery) == 0);
  void* const block = ::operator new(sizeof(RaiseState) + subscriptions.size() * sizeof(Delivery));
  auto* const raise = new (block) RaiseState(dispatcher, clock, std::move(message), std::move(done), observed,
                                             std::move(filtered), subscriptions.size());
  Delivery* delivery = raise->deliveries().data();
  for (Ref<const Subscription>& subscription : subscriptions) {
    new (delivery++) Delivery(raise, std::move(subscription));
  }
  return raise;
}

void RaiseState::Release() {
  if (remaining_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  Dispatcher* const dispatcher = dispatcher_;
  if (!done_) {
    Destroy();
  } else {
    RaiseDone done = std::move(done_);
    std::vector<DeliveryResult> results;
    results.reserve(count_ + filtered_.size());
    for (Delivery& delivery : deliveries()) results.push_back(delivery.TakeResult());
    results.insert(results.end(), std::make_move_iterator(filtered_.begin()), std::make_move_iterator(filtered_.end()));
    Destroy();
    std::move(done)(absl::MakeSpan(results));
  }
  dispatcher->OnRaiseEnded();
}

void RaiseState::Destroy() {
  for (Delivery& delivery : deliveries()) delivery.~Delivery();
  this->~RaiseState();
  ::operator delete(this);
}

}  // namespace eventvirtual
