#include "server/journal/subscription_store.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/log/log.h"
#include "server/registry/virtual_socket.h"

namespace eventvirtual {

SubscriptionStore::SubscriptionStore(Journal& journal, Registry& registry) : journal_(journal), registry_(registry) {
  const absl::Time wall = absl::Now();
  for (const SavedSubscription& saved : journal.TakeSubscriptions()) Restore(saved, wall);
  registry.Watch(this);
}

SubscriptionStore::~SubscriptionStore() { registry_.Unwatch(this); }

void SubscriptionStore::Restore(const SavedSubscription& saved, absl::Time wall) {
  const std::string name = absl::StrCat(Subscription::kNamePrefix, saved.id);
  const bool expired = saved.expires <= wall;
  if (expired) {
    Log(LogLevel::kInfo, "a subscription expired while the service was down",
        {{"name", name}, {"event", saved.event}, {"expired", absl::FormatTime(saved.expires, absl::UTCTimeZone())}});
    journal_.Erase(saved.id);
    if (expired_.size() == kMaxExpired) return;
  }
  const absl::StatusOr<VirtualSocket> socket = ParseVirtualSocket(saved.socket);
  absl::Status status = socket.status();
  if (status.ok()) {
    const absl::Time now = registry_.clock().Now();
    SubscriptionSpec spec;
    spec.id = saved.id;
    spec.event = saved.event;
    spec.filter = saved.filter;
    spec.policy = socket->policy;
    spec.plain = socket->plain;
    for (size_t i = 0; i < socket->subscribers.size(); ++i) {
      SubscriptionSpec::Subscriber& subscriber = spec.subscribers.emplace_back();
      subscriber.uri = socket->subscribers[i];
      subscriber.canonical = true;
      if (i < saved.attempt_timeouts.size()) subscriber.attempt_timeout = saved.attempt_timeouts[i];
    }
    spec.created = std::min(now, now - (wall - saved.created));
    const absl::Time expires = saved.expires == absl::InfiniteFuture() ? saved.expires : now + (saved.expires - wall);
    if (!expired) spec.expires = expires;
    spec.delivery = {saved.failover_timeout, saved.total_timeout, saved.max_event_age,
                     saved.max_attempts,     saved.queue != 0,    saved.dead_letter_uri};
    spec.queue = saved.queue;
    spec.labels = saved.labels;
    spec.owner = saved.owner;
    if (expired) {
      absl::StatusOr<Registry::Subscribed> was = registry_.Validate(spec);
      if (!was.ok()) return;
      was->info.expires = expires;
      expired_.push_back(std::move(was->info));
      return;
    }
    status = registry_.Subscribe(spec).status();
  }
  if (expired) return;  // it cannot even be told what it was
  if (status.ok()) {
    ++restored_;
  } else {
    if (saved.queue != 0) left_alone_.insert(saved.queue);
    Log(LogLevel::kWarning, "a subscription of the journal cannot be restored",
        {{"name", name}, {"event", saved.event}, {"error", status.message()}});
  }
}

void SubscriptionStore::OnChange(Registry::Change change, const Subscription& subscription,
                                 absl::FunctionRef<SubscriptionInfo()> describe) {
  if (change == Registry::Change::kExpired || change == Registry::Change::kRemoved) {
    return journal_.Erase(subscription.id);
  }
  // The registry's clock is steady; on the disk only the wall's means anything.
  const absl::Duration ahead = absl::Now() - registry_.clock().Now();
  SavedSubscription saved;
  saved.id = subscription.id;
  saved.event = subscription.event;
  saved.filter = std::string(subscription.filter());
  std::vector<std::string> uris;
  for (const Subscription::Subscriber& subscriber : subscription.subscribers) {
    uris.push_back(subscriber.endpoint->target().canonical);
    saved.attempt_timeouts.push_back(subscriber.attempt_timeout.Load());
  }
  saved.socket = FormatVirtualSocket(subscription.policy, subscription.plain, uris);
  saved.created = subscription.created.Load() + ahead;
  const absl::Time expires = subscription.expires.Load();
  if (expires != absl::InfiniteFuture()) saved.expires = expires + ahead;
  saved.failover_timeout = subscription.failover_timeout.Load();
  saved.total_timeout = subscription.total_timeout.Load();
  saved.max_event_age = subscription.max_event_age.Load();
  saved.max_attempts = subscription.max_attempts.load(std::memory_order_relaxed);
  saved.queue = subscription.queue;
  if (subscription.extras != nullptr) {
    saved.labels = subscription.extras->labels;
    saved.dead_letter_uri = subscription.extras->dead_letters.canonical;
  }
  saved.owner = describe().owner;
  journal_.Save(std::move(saved));
}

}  // namespace eventvirtual
