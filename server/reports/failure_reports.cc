#include "server/reports/failure_reports.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/time/clock.h"
#include "absl/types/span.h"
#include "transports/api/trace_context.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kNames[] = {FailureReports::kSubscriberDown, FailureReports::kSubscriberUp,
                                        FailureReports::kDeliveryFailed};

constexpr absl::Duration kPause = absl::Seconds(1);  // between two reports of one subscription
constexpr int kPerTurn = 100;
constexpr absl::Duration kTurn = absl::Milliseconds(100);

MessageRef Report(absl::string_view name, absl::Span<const Param> params) {
  EventFields fields;
  fields.name = name;
  fields.params = params;
  fields.event_time = absl::Now();
  fields.source = "eventvirtual";
  fields.is_report = true;
  return Message::Make(fields);
}

}  // namespace

MessageRef FailureReports::HealthReport(absl::string_view uri, const absl::Status& why) {
  const Param params[] = {{"uri", uri}, {"error", why.message()}};
  return Report(kNames[why.ok() ? kUp : kDown], absl::MakeConstSpan(params, why.ok() ? 1 : 2));
}

FailureReports::FailureReports(Registry& registry, Dispatcher& dispatcher, Loop& loop)
    : registry_(registry), dispatcher_(dispatcher), loop_(loop) {
  for (const Ref<Subscription>& subscription : registry_.Watch(this)) Count(*subscription, 1);
}

FailureReports::~FailureReports() {
  registry_.Unwatch(this);
  dispatcher_.Unwatch(this);
  *alive_ = false;
}

void FailureReports::OnChange(Registry::Change change, const Subscription& subscription,
                              absl::FunctionRef<SubscriptionInfo()>) {
  if (change == Registry::Change::kCreated) Count(subscription, 1);
  if (change == Registry::Change::kExpired || change == Registry::Change::kRemoved) Count(subscription, -1);
}

void FailureReports::Count(const Subscription& subscription, int step) {
  for (int kind = 0; kind < kKinds; ++kind) {
    if (!Takes(subscription.event, kNames[kind])) continue;
    const int wanted = wanted_[kind].fetch_add(step, std::memory_order_relaxed) + step;
    if (kind == kFailed && wanted == 1 && step == 1) dispatcher_.Watch(this);
    if (kind == kFailed && wanted == 0) dispatcher_.Unwatch(this);
  }
}

bool FailureReports::Wanted(Kind kind) const {
  return wanted_[kind].load(std::memory_order_relaxed) != 0 && !stopped_.load(std::memory_order_relaxed);
}

void FailureReports::OnHealthChange(const HealthChange& change) {
  if (change.by_reports || !Wanted(change.why.ok() ? kUp : kDown)) return;
  MutexLock lock(&mutex_);
  const auto [entry, is_new] = changes_.insert_or_assign(std::string(change.uri), change.why);
  if (is_new) changed_.push_back(entry->first);
  Schedule();
}

void FailureReports::OnDelivery(const Message& message, const DeliveryResult& delivery) {
  if (!delivery.failed() || message.is_report() || !Wanted(kFailed)) return;
  MutexLock lock(&mutex_);
  const auto [found, is_new] = failures_.try_emplace(delivery.subscription.get());
  Failures& failures = found->second;
  if (is_new) {
    failures.subscription = delivery.subscription;
    due_.emplace(loop_.Now(), found->first);
  }
  ++failures.count;
  failures.event = std::string(message.name());
  failures.event_id = std::string(message.event_id());
  failures.traceparent = std::string(TraceparentOf(message));
  if (const AttemptRecord* const last = delivery.last_failure(); last != nullptr) {
    failures.uri = delivery.subscription->subscribers[last->subscriber].endpoint->target().masked;
    failures.error = std::string(last->status.message());
  }
  Schedule();
}

void FailureReports::Schedule() {
  if (std::exchange(scheduled_, true)) return;
  loop_.Post([this, alive = alive_] {
    if (!*alive) return;
    if (timer_ == nullptr) timer_ = loop_.NewTimer([this] { Raise(); });
    timer_->Arm(std::max(turn_ends_, loop_.Now()));
  });
}

void FailureReports::Raise() {
  std::vector<MessageRef> reports;
  {
    MutexLock lock(&mutex_);
    const absl::Time now = loop_.Now();
    reports = TakeDue(now);
    turn_ends_ = now + kTurn;
    absl::Time next = absl::InfiniteFuture();
    if (!due_.empty()) next = std::max(due_.begin()->first, turn_ends_);
    if (!changed_.empty()) next = turn_ends_;
    scheduled_ = next <= turn_ends_;  // else what comes meanwhile does not wait for that
    timer_->Arm(next);
  }
  for (MessageRef& report : reports) dispatcher_.Raise(std::move(report), nullptr);
}

std::vector<MessageRef> FailureReports::TakeDue(absl::Time now) {
  std::vector<MessageRef> reports;
  for (int i = 0; i < kPerTurn && !changed_.empty(); ++i) {
    const auto change = changes_.extract(changed_.front());
    changed_.pop_front();
    if (Wanted(change.mapped().ok() ? kUp : kDown)) reports.push_back(HealthReport(change.key(), change.mapped()));
  }
  for (int i = 0; i < kPerTurn && !due_.empty() && due_.begin()->first <= now; ++i) {
    const auto found = failures_.find(due_.begin()->second);
    due_.erase(due_.begin());
    Failures& failures = found->second;
    if (failures.count == 0 || !Wanted(kFailed)) {  // nothing since its last report, or nobody to hear it
      failures_.erase(found);
      continue;
    }
    const Subscription& subscription = *failures.subscription;
    const std::string name = subscription.name();
    const uint64_t total =
        subscription.failed.load(std::memory_order_relaxed) + subscription.partial.load(std::memory_order_relaxed);
    const Param params[] = {{"subscription", absl::string_view(name)},
                            {"event", absl::string_view(failures.event)},
                            {"event_id", absl::string_view(failures.event_id)},
                            {"uri", absl::string_view(failures.uri)},
                            {"error", absl::string_view(failures.error)},
                            {"failed", static_cast<int64_t>(std::exchange(failures.count, 0))},
                            {"failed_total", static_cast<int64_t>(total)},
                            {kTraceparent, absl::string_view(failures.traceparent)}};
    const size_t count = std::size(params) - (failures.traceparent.empty() ? 1 : 0);
    reports.push_back(Report(kNames[kFailed], absl::MakeConstSpan(params, count)));
    due_.emplace(now + kPause, &subscription);
  }
  return reports;
}

}  // namespace eventvirtual
