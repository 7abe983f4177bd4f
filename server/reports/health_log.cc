#include "server/reports/health_log.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/log/log.h"

namespace eventvirtual {
namespace {

// In the order of the roles.
constexpr absl::string_view kFates[] = {
    "FAILOVER goes on to the next",    "it is FAILOVER's last, so what comes as far fails",
    "ROUND-ROBIN goes on to the next", "PARALLEL goes on to the others",
    "events to it alone fail",         "what durable subscriptions cannot deliver waits in the journal"};

std::string Text(absl::Time time) { return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", time, absl::UTCTimeZone()); }

}  // namespace

HealthLog::HealthLog(Registry& registry) : registry_(registry) {
  for (const Ref<Subscription>& subscription : registry_.Watch(this)) Count(*subscription, 1);
}

HealthLog::~HealthLog() { registry_.Unwatch(this); }

void HealthLog::OnHealthChange(const HealthChange& change) {
  if (change.why.ok()) {
    Log(LogLevel::kInfo, "subscriber works again",
        {{"uri", change.uri},
         {"down_for", absl::FormatDuration(absl::Trunc(change.down_for, absl::Milliseconds(1)))},
         {"failed", change.failed},
         {"refused", change.refused}});
  } else {
    Log(LogLevel::kWarning, "subscriber fails",
        {{"uri", change.uri},
         {"error", change.why.message()},
         {"since", Text(absl::Now() - change.ago)},
         {"queued", change.queued},
         {"events", FateOfEvents(change.endpoint)}});
  }
}

std::string HealthLog::FateOfEvents(const Endpoint& endpoint) const {
  std::string fate;
  MutexLock lock(&mutex_);
  const auto found = counts_.find(&endpoint);
  if (found == counts_.end()) return "nobody is subscribed with it any more";
  for (size_t role = 0; role < kRoles; ++role) {
    const uint32_t count = found->second[role];
    if (count == 0) continue;
    const bool first = fate.empty();
    absl::StrAppend(&fate, first ? "" : ", ", kFates[role], " (", count,
                    !first       ? ")"
                    : count == 1 ? " subscription)"
                                 : " subscriptions)");
  }
  return fate;
}

HealthLog::Role HealthLog::RoleOf(const Subscription& subscription, size_t subscriber) {
  const auto& subscribers = subscription.subscribers;
  if (subscription.durable) return kDurable;
  if (subscribers.size() == 1) return kAlone;
  switch (subscription.policy) {
    case Policy::kParallel:
      return kParallel;
    case Policy::kFailover:
      return subscriber + 1 < subscribers.size() ? kFailover : kLastOfFailover;
    case Policy::kRoundRobin:
      return kRoundRobin;
  }
  return kAlone;
}

void HealthLog::OnChange(Registry::Change change, const Subscription& subscription,
                         absl::FunctionRef<SubscriptionInfo()>) {
  if (change == Registry::Change::kCreated) Count(subscription, 1);
  if (change == Registry::Change::kExpired || change == Registry::Change::kRemoved) {
    Count(subscription, static_cast<uint32_t>(-1));
  }
}

void HealthLog::Count(const Subscription& subscription, uint32_t step) {
  MutexLock lock(&mutex_);
  for (size_t i = 0; i < subscription.subscribers.size(); ++i) {
    const auto found = counts_.try_emplace(subscription.subscribers[i].endpoint.get()).first;
    found->second[RoleOf(subscription, i)] += step;
    if (found->second == Counts{}) counts_.erase(found);
  }
}

}  // namespace eventvirtual
