#include "server/registry/registry.h"

#include <algorithm>
#include <map>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

// So many expired subscriptions go per turn of the loop (about half a millisecond); then events get theirs.
constexpr int kExpiriesPerTurn = 64;

// So many entries of the queue are looked at per turn (about a tenth of a microsecond each).
constexpr int kMovesPerTurn = 4096;

// When a reader was standing on what was retired, look again so much later.
constexpr absl::Duration kCollectAgain = absl::Milliseconds(10);

constexpr size_t kMaxIdLength = 64;

// So many subscriptions are added up under one lock (about a tenth of a millisecond).
constexpr int kAuditPage = 1000;

// The first so many events, by their ids, have a name in the sums of raises. See DeliveryLedger::kMaxAccounts.
constexpr uint32_t kNamedEvents = 200;

std::string LabelOf(const EventIndex::Event& event) {
  if (event.id >= kNamedEvents) return "";
  return absl::StrCat(event.name, event.is_pattern ? "*" : "");
}

// The scheme that all have in common.
absl::string_view TransportOf(absl::Span<const Subscription::Subscriber> subscribers) {
  absl::string_view transport;
  for (const Subscription::Subscriber& subscriber : subscribers) {
    const absl::string_view canonical = subscriber.endpoint->target().canonical;
    const absl::string_view scheme = canonical.substr(0, canonical.find(':'));
    if (!transport.empty() && transport != scheme) return "mixed";
    transport = scheme;
  }
  return transport;
}

// FNV-1a (64 bits): the derived names must be the same in every process, which absl::Hash is not.
uint64_t StableHash(absl::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

absl::Status AtSubscriber(const absl::Status& status, size_t index, size_t count) {
  return absl::Status(status.code(),
                      absl::StrCat("subscriber ", index + 1, " of ", count, ": ", std::string(status.message())));
}

}  // namespace

absl::Status SetSocket(absl::string_view socket, absl::Duration attempt_timeout, SubscriptionSpec* spec) {
  absl::StatusOr<VirtualSocket> parsed = ParseVirtualSocket(socket);
  if (!parsed.ok()) return parsed.status();
  spec->policy = parsed->policy;
  spec->plain = parsed->plain;
  for (std::string& uri : parsed->subscribers) spec->subscribers.push_back({std::move(uri), attempt_timeout});
  return absl::OkStatus();
}

Registry::Registry(const Catalog& catalog, EndpointPool& pool, Loop& loop, RegistryLimits limits)
    : catalog_(catalog), pool_(pool), loop_(loop), limits_(std::move(limits)), expiries_(loop.Now()) {
  EV_CHECK(limits_.max_subscribers >= 1 && limits_.max_subscribers <= 127);
  MutexLock lock(&mutex_);
  for (const std::string& event : limits_.events) {
    if (index_.Find(event) == nullptr) index_.Add(event);
  }
}

Registry::~Registry() { Stop(); }

void Registry::AllowDurable(uint32_t last_queue) {
  MutexLock lock(&mutex_);
  last_queue_ = last_queue;
}

absl::Status Registry::Check(const SubscriptionSpec& spec) const {
  if (spec.event.empty()) return absl::InvalidArgumentError("the event name is empty");
  if (spec.event.size() > limits_.max_event_name) {
    return Exceeded(Limit::kEventName, "the event name", spec.event.size(), "bytes", limits_.max_event_name);
  }
  for (size_t i = 0; i < spec.event.size(); ++i) {
    if (!absl::ascii_isgraph(spec.event[i])) {
      return absl::InvalidArgumentError(
          absl::StrCat("byte ", i, " of the event name is not a visible ASCII character"));
    }
    if (spec.event[i] == '*' && i + 1 < spec.event.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("byte ", i, " of the event name is a '*'; a pattern has one at its end alone"));
    }
  }
  if (spec.id.size() > kMaxIdLength) {
    return absl::InvalidArgumentError(
        absl::StrCat("the subscription id has ", spec.id.size(), " characters; at most ", kMaxIdLength, " are taken"));
  }
  for (char c : spec.id) {
    if (!absl::ascii_isalnum(c) && c != '.' && c != '_' && c != '~' && c != '-') {
      return absl::InvalidArgumentError("the subscription id holds a character that is not one of A-Z a-z 0-9 . _ ~ -");
    }
  }
  if (spec.subscribers.empty()) return absl::InvalidArgumentError("the subscription has no subscriber");
  if (spec.subscribers.size() > limits_.max_subscribers) {
    return Exceeded(Limit::kSubscribers, "the subscription", spec.subscribers.size(), "subscribers",
                    limits_.max_subscribers);
  }
  if (spec.expires <= loop_.Now()) return absl::InvalidArgumentError("the expiry lies in the past");
  if (spec.delivery.durable) {
    MutexLock lock(&mutex_);
    if (!last_queue_.has_value()) {
      return absl::FailedPreconditionError(
          "delivery.durable: this server keeps no events; start it with --data_dir=DIR, or leave durable out");
    }
  } else if (!spec.delivery.dead_letter_uri.empty()) {
    return absl::InvalidArgumentError(
        "delivery.dead_letter_uri: only durable subscriptions have dead letters; say durable, too, or leave it out");
  }
  return absl::OkStatus();
}

absl::StatusOr<Registry::Resolved> Registry::Resolve(const SubscriptionSpec& spec) const {
  if (absl::Status status = Check(spec); !status.ok()) return status;
  Resolved resolved;
  if (!spec.filter.empty()) {
    absl::StatusOr<Filter> filter = Filter::Parse(spec.filter);
    if (!filter.ok()) {
      return absl::Status(filter.status().code(), absl::StrCat("filter: ", filter.status().message()));
    }
    resolved.filter = filter->text();
    resolved.filtering = std::make_unique<const Subscription::Filtering>(*std::move(filter));
  }
  for (size_t i = 0; i < spec.subscribers.size(); ++i) {
    absl::StatusOr<Destination> destination = catalog_.Resolve(spec.subscribers[i].uri, spec.subscribers[i].canonical);
    if (!destination.ok()) {
      if (spec.subscribers[i].uri.size() > catalog_.max_bytes()) CountExceeded(Limit::kUri);
      return AtSubscriber(destination.status(), i, spec.subscribers.size());
    }
    resolved.destinations.push_back(*std::move(destination));
  }
  if (!spec.delivery.dead_letter_uri.empty()) {
    absl::StatusOr<Destination> destination =
        catalog_.Resolve(spec.delivery.dead_letter_uri, /*canonical=*/spec.queue != 0);
    if (!destination.ok()) {
      return absl::Status(destination.status().code(),
                          absl::StrCat("delivery.dead_letter_uri: ", destination.status().message()));
    }
    resolved.dead_letters = std::move(destination->target);
  }
  return resolved;
}

// What comes back from the journal was admitted once, and is kept: if it is not allowed any more, its connects fail.
absl::Status Registry::Admit(const SubscriptionSpec& spec, const Resolved& resolved) const {
  for (size_t i = 0; i < resolved.destinations.size(); ++i) {
    if (spec.subscribers[i].canonical) continue;
    const absl::Status status = catalog_.Admit(resolved.destinations[i].target);
    if (!status.ok()) return AtSubscriber(status, i, spec.subscribers.size());
  }
  if (spec.delivery.dead_letter_uri.empty() || spec.queue != 0) return absl::OkStatus();
  const absl::Status status = catalog_.Admit(resolved.dead_letters);
  return status.ok() ? status
                     : absl::Status(status.code(), absl::StrCat("delivery.dead_letter_uri: ", status.message()));
}

Registry::Key Registry::KeyOf(absl::string_view event, absl::string_view filter, Policy policy,
                              absl::Span<const Endpoint* const> endpoints) {
  Key key{event, filter, policy, {endpoints.begin(), endpoints.end()}};
  if (policy == Policy::kParallel) std::sort(key.endpoints.begin(), key.endpoints.end());
  return key;
}

Registry::Key Registry::KeyOf(const Subscription& subscription) {
  absl::InlinedVector<const Endpoint*, 4> endpoints;
  for (const auto& subscriber : subscription.subscribers) endpoints.push_back(subscriber.endpoint.get());
  return KeyOf(subscription.event, subscription.filter(), subscription.policy, endpoints);
}

void Registry::SetOptions(const SubscriptionSpec& spec, Target dead_letters, Subscription* subscription) {
  subscription->failover_timeout.Store(spec.delivery.failover_timeout);
  subscription->total_timeout.Store(spec.delivery.total_timeout);
  subscription->max_event_age.Store(spec.delivery.max_event_age);
  subscription->max_attempts.store(spec.delivery.max_attempts, std::memory_order_relaxed);
  const bool has_extras = !spec.labels.empty() || !dead_letters.canonical.empty();
  subscription->extras =
      has_extras
          ? std::make_unique<const Subscription::Extras>(Subscription::Extras{spec.labels, std::move(dead_letters)})
          : nullptr;
}

// PARALLEL may name the same subscribers in another order.
void Registry::SetAttemptTimeouts(const SubscriptionSpec& spec, const std::vector<EndpointLease>& leases,
                                  Subscription* subscription) {
  std::vector<bool> set(leases.size());
  for (size_t i = 0; i < leases.size(); ++i) {
    for (size_t j = 0; j < leases.size(); ++j) {
      if (set[j] || subscription->subscribers[j].endpoint.get() != leases[i].get()) continue;
      subscription->subscribers[j].attempt_timeout.Store(spec.subscribers[i].attempt_timeout);
      set[j] = true;
      break;
    }
  }
}

absl::Status Registry::CheckRoom(const SubscriptionSpec& spec) const {
  if (by_sequence_.size() >= limits_.max_subscriptions) {
    CountExceeded(Limit::kSubscriptions);
    return absl::ResourceExhaustedError(
        absl::StrCat("there are ", by_sequence_.size(), " subscriptions, as many as --max_subscriptions allows"));
  }
  const auto owner = owners_.find(spec.owner);
  if (owner == owners_.end() || owner->second < limits_.max_subscriptions_per_principal) return absl::OkStatus();
  CountExceeded(Limit::kSubscriptionsPerPrincipal);
  return absl::ResourceExhaustedError(absl::StrCat(spec.owner, " has ", owner->second,
                                                   " subscriptions, as many as --max_subscriptions_per_principal "
                                                   "allows; end one, or let one expire"));
}

std::string Registry::NewId(const SubscriptionSpec& spec, const Resolved& resolved) const {
  if (!spec.id.empty()) return spec.id;
  // Of the masked texts: a name is shown to everybody, and must not help to guess a password.
  std::vector<std::string> masked;
  for (const Destination& destination : resolved.destinations) masked.push_back(destination.target.masked);
  if (spec.policy == Policy::kParallel) std::sort(masked.begin(), masked.end());
  const uint64_t hash = StableHash(absl::StrCat(spec.event, " ", FormatVirtualSocket(spec.policy, false, masked),
                                                resolved.filter.empty() ? "" : " ", resolved.filter));
  // 15 digits: a string of that length needs no memory of its own.
  const std::string base = absl::StrCat(absl::Hex(hash >> 4, absl::kZeroPad15));
  std::string id = base;
  for (int number = 2; by_id_.contains(absl::string_view(id)); ++number) id = absl::StrCat(base, "-", number);
  return id;
}

Registry::Record* Registry::FindByName(absl::string_view name) const {
  if (!absl::ConsumePrefix(&name, Subscription::kNamePrefix)) return nullptr;
  const auto found = by_id_.find(name);
  return found == by_id_.end() ? nullptr : *found;
}

Registry::Record* Registry::FindLive(const Key& key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  Record* const record = *found;
  if (record->subscription->Live(loop_.Now())) return record;
  Remove(record, Change::kExpired);  // its time has come, the sweep has not
  return nullptr;
}

Registry::Record* Registry::Create(const SubscriptionSpec& spec, Resolved resolved,
                                   std::vector<EndpointLease>* leases) {
  std::vector<Subscription::Subscriber> subscribers;
  subscribers.reserve(leases->size());
  for (size_t i = 0; i < leases->size(); ++i) {
    subscribers.emplace_back(std::move((*leases)[i]), spec.subscribers[i].attempt_timeout);
  }
  leases->clear();
  uint32_t queue = spec.queue;
  if (spec.delivery.durable && queue == 0) queue = ++*last_queue_;
  DeliveryLedger::Account& account = ledger_.AccountOf(spec.event, TransportOf(subscribers));
  auto record = std::make_unique<Record>();
  record->sequence = ++last_sequence_;
  record->subscription = AdoptRef(new Subscription(NewId(spec, resolved), spec.event, std::move(resolved.filtering),
                                                   spec.policy, spec.plain, std::move(subscribers),
                                                   std::min(spec.created, loop_.Now()), account, queue));
  SetOptions(spec, std::move(resolved.dead_letters), record->subscription.get());
  absl::string_view event = spec.event;
  if (absl::ConsumeSuffix(&event, "*")) {
    record->event = &index_.PatternOf(event);
  } else {
    record->event = index_.Find(event);
    if (record->event == nullptr) record->event = &index_.Add(event);
  }
  if (!spec.owner.empty()) {
    record->owner = &*owners_.try_emplace(spec.owner, 0).first;
    ++record->owner->second;
  }
  Record* const created = record.get();
  by_id_.insert(created);
  by_key_.insert(created);
  by_sequence_.emplace(created->sequence, created);
  SetExpiry(created, spec.expires);
  index_.Append(*created->event, std::move(record));  // from here on raises see it
  return created;
}

absl::StatusOr<Registry::Subscribed> Registry::Subscribe(const SubscriptionSpec& spec) {
  absl::StatusOr<Resolved> resolved = Resolve(spec);
  if (!resolved.ok()) return resolved.status();
  if (absl::Status status = Admit(spec, *resolved); !status.ok()) return status;
  std::vector<EndpointLease> leases;  // those not used fall after the lock
  absl::InlinedVector<const Endpoint*, 4> endpoints;
  for (const Destination& destination : resolved->destinations) {
    leases.push_back(pool_.Lease(destination));
    endpoints.push_back(leases.back().get());
  }
  const std::string filter = resolved->filter;
  const Key key = KeyOf(spec.event, filter, spec.policy, endpoints);

  Ref<Subscription> subscription;
  Garbage garbage;
  bool created = false;
  {
    MutexLock lock(&mutex_);
    if (stopped_) return absl::UnavailableError("the server is stopping");
    const bool pattern = spec.event.back() == '*';
    if (limits_.strict_events && !limits_.events.empty() && !pattern && index_.Find(spec.event) == nullptr) {
      return absl::NotFoundError(absl::StrCat("event \"", spec.event, "\" is not one of --events (--strict_events)"));
    }
    Record* record = FindLive(key);
    if (record != nullptr) {
      if (spec.delivery.durable && !record->subscription->durable) {
        return absl::FailedPreconditionError(
            absl::StrCat("delivery.durable: \"", record->subscription->name(),
                         "\" is the same, and not durable; end it first, or leave durable out"));
      }
      if (!spec.keeps_options) {
        SetOptions(spec, std::move(resolved->dead_letters), record->subscription.get());
        SetAttemptTimeouts(spec, leases, record->subscription.get());
      }
      SetExpiry(record, spec.expires);
    } else {
      if (!spec.id.empty()) {
        const auto taken = by_id_.find(absl::string_view(spec.id));
        if (taken != by_id_.end()) {
          if ((*taken)->subscription->Live(loop_.Now())) {
            return absl::AlreadyExistsError(absl::StrCat(
                "the id \"", spec.id, "\" belongs to another subscription, to event ", (*taken)->subscription->event));
          }
          Remove(*taken, Change::kExpired);
        }
      }
      if (absl::Status status = CheckRoom(spec); !status.ok()) return status;
      record = Create(spec, *std::move(resolved), &leases);
      created = true;
    }
    subscription = record->subscription;
    Tell(created ? Change::kCreated : Change::kRefreshed, *subscription);
    garbage = index_.retired().Collect();
  }
  return Subscribed{Describe(*subscription), created};
}

absl::StatusOr<Registry::Subscribed> Registry::Validate(const SubscriptionSpec& spec) {
  const absl::StatusOr<Resolved> resolved = Resolve(spec);
  if (!resolved.ok()) return resolved.status();
  if (absl::Status status = Admit(spec, *resolved); !status.ok()) return status;
  absl::InlinedVector<const Endpoint*, 4> endpoints;
  std::vector<std::string> masked;
  SubscriptionInfo info;
  for (size_t i = 0; i < resolved->destinations.size(); ++i) {
    const Target& target = resolved->destinations[i].target;
    endpoints.push_back(pool_.Find(target.canonical));
    masked.push_back(target.masked);
    info.subscribers.push_back({target.masked, spec.subscribers[i].attempt_timeout, {}});
    info.subscribers.back().status.uri = target.masked;
  }
  const Key key = KeyOf(spec.event, resolved->filter, spec.policy, endpoints);
  MutexLock lock(&mutex_);
  // An endpoint that does not exist is null, and no subscription's key has one.
  const auto found = by_key_.find(key);
  const bool exists = found != by_key_.end() && (*found)->subscription->Live(loop_.Now());
  if (!exists && !spec.id.empty() && by_id_.contains(absl::string_view(spec.id))) {
    return absl::AlreadyExistsError(absl::StrCat("the id \"", spec.id, "\" belongs to another subscription"));
  }
  info.name = exists ? (*found)->subscription->name() : absl::StrCat(Subscription::kNamePrefix, NewId(spec, *resolved));
  info.event = spec.event;
  info.filter = resolved->filter;
  info.policy = spec.policy;
  info.socket = FormatVirtualSocket(spec.policy, spec.plain, masked);
  info.created = exists ? (*found)->subscription->created.Load() : loop_.Now();
  info.expires = spec.expires;
  info.delivery = spec.delivery;
  info.delivery.dead_letter_uri = resolved->dead_letters.masked;
  info.labels = spec.labels;
  return Subscribed{std::move(info), !exists};
}

absl::StatusOr<SubscriptionInfo> Registry::Unsubscribe(absl::string_view name) {
  Ref<Subscription> subscription;
  Garbage garbage;
  {
    MutexLock lock(&mutex_);
    Record* const found = FindByName(name);
    if (found == nullptr || !found->subscription->Live(loop_.Now())) {
      return absl::NotFoundError(absl::StrCat("there is no subscription \"", name, "\""));
    }
    subscription = found->subscription;
    Remove(found, Change::kRemoved);
    garbage = index_.retired().Collect();
  }
  return Describe(*subscription);
}

absl::StatusOr<Registry::Entry> Registry::Match(const SubscriptionSpec& spec) const {
  const absl::StatusOr<Resolved> resolved = Resolve(spec);
  if (!resolved.ok()) return resolved.status();
  absl::InlinedVector<const Endpoint*, 4> endpoints;
  for (const Destination& destination : resolved->destinations) {
    endpoints.push_back(pool_.Find(destination.target.canonical));
  }
  const Key key = KeyOf(spec.event, resolved->filter, spec.policy, endpoints);
  {
    MutexLock lock(&mutex_);
    const auto found = by_key_.find(key);
    if (found != by_key_.end() && (*found)->subscription->Live(loop_.Now())) {
      return Entry{(*found)->subscription, (*found)->event->id, (*found)->sequence};
    }
  }
  return absl::NotFoundError(
      absl::StrCat("no subscription to event \"", spec.event, "\" has this filter, this policy and these subscribers"));
}

absl::StatusOr<SubscriptionInfo> Registry::UnsubscribeMatch(const SubscriptionSpec& spec) {
  const absl::StatusOr<Entry> match = Match(spec);
  if (!match.ok()) return match.status();
  return Unsubscribe(match->subscription->name());
}

Ref<const Subscription> Registry::Find(absl::string_view name) const {
  Ref<const Subscription> subscription;
  {
    MutexLock lock(&mutex_);
    if (const Record* const found = FindByName(name); found != nullptr) subscription = found->subscription;
  }
  if (subscription && !subscription->Live(loop_.Now())) return nullptr;
  return subscription;
}

absl::StatusOr<SubscriptionInfo> Registry::Get(absl::string_view name) const {
  const Ref<const Subscription> subscription = Find(name);
  if (!subscription) {
    return absl::NotFoundError(absl::StrCat("there is no subscription \"", name, "\""));
  }
  return Describe(*subscription);
}

Registry::Page Registry::List(absl::string_view event, uint64_t after, size_t limit) const {
  const EntryPage found = ListEntries(event, after, limit);
  Page page;
  page.next = found.next;
  for (const Entry& entry : found.entries) page.subscriptions.push_back(Describe(*entry.subscription));
  return page;
}

Registry::EntryPage Registry::ListEntries(absl::string_view event, uint64_t after, size_t limit) const {
  EntryPage page;
  const absl::Time now = loop_.Now();
  MutexLock lock(&mutex_);
  uint64_t last = after;
  for (auto it = by_sequence_.upper_bound(after); it != by_sequence_.end(); ++it) {
    const Ref<Subscription>& subscription = it->second->subscription;
    if (!subscription->Live(now) || (!event.empty() && subscription->event != event)) continue;
    if (page.entries.size() == limit) {
      page.next = last;
      break;
    }
    page.entries.push_back({subscription, it->second->event->id, it->first});
    last = it->first;
  }
  return page;
}

SubscriptionInfo Registry::Describe(const Subscription& subscription) const {
  MutexLock lock(&mutex_);
  return DescribeLocked(subscription);
}

SubscriptionInfo Registry::DescribeLocked(const Subscription& subscription) const {
  SubscriptionInfo info;
  info.name = subscription.name();
  info.event = subscription.event;
  info.filter = std::string(subscription.filter());
  info.policy = subscription.policy;
  info.socket = subscription.socket();
  info.created = subscription.created.Load();
  info.expires = subscription.expires.Load();
  info.delivery = {subscription.failover_timeout.Load(),
                   subscription.total_timeout.Load(),
                   subscription.max_event_age.Load(),
                   subscription.max_attempts.load(std::memory_order_relaxed),
                   subscription.durable,
                   ""};
  if (const auto found = by_id_.find(absl::string_view(subscription.id));
      found != by_id_.end() && (*found)->subscription.get() == &subscription && (*found)->owner != nullptr) {
    info.owner = (*found)->owner->first;
  }
  size_t failing = 0;
  for (const auto& subscriber : subscription.subscribers) {
    info.subscribers.push_back(
        {subscriber.endpoint->target().masked, subscriber.attempt_timeout.Load(), subscriber.endpoint->stats()});
    const bool works = subscriber.endpoint->failing_since() == absl::InfinitePast() && !subscriber.endpoint->drained();
    failing += works ? 0 : 1;
  }
  if (failing > 0) {
    info.state =
        failing == info.subscribers.size() ? SubscriptionInfo::State::kFailing : SubscriptionInfo::State::kDegraded;
  }
  static_cast<DeliveryCounts&>(info) = subscription.CountsOf(Subscription::Held::kNowhere);
  if (subscription.extras != nullptr) {
    info.labels = subscription.extras->labels;
    info.delivery.dead_letter_uri = subscription.extras->dead_letters.masked;
  }
  return info;
}

std::vector<Ref<Subscription>> Registry::Watch(Observer* observer) {
  std::vector<Ref<Subscription>> current;
  const absl::Time now = loop_.Now();
  MutexLock lock(&mutex_);
  observers_.push_back(observer);
  current.reserve(by_sequence_.size());
  for (const auto& [sequence, record] : by_sequence_) {
    if (record->subscription->Live(now)) current.push_back(record->subscription);
  }
  return current;
}

void Registry::Unwatch(Observer* observer) {
  MutexLock lock(&mutex_);
  observers_.erase(std::remove(observers_.begin(), observers_.end(), observer), observers_.end());
}

void Registry::Tell(Change change, const Subscription& subscription) {
  ++changes_[static_cast<size_t>(change)];
  if (observers_.empty()) return;
  const auto describe = [this, &subscription]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return DescribeLocked(subscription); };
  for (Observer* observer : observers_) observer->OnChange(change, subscription, describe);
}

bool Registry::Read(absl::string_view event, absl::Time now, absl::FunctionRef<void(const Subscription&)> fn) {
  EpochPin pin;
  const EventIndex::Event* found = index_.Find(event);
  if (found == nullptr) found = Remember(event);
  if (found == nullptr) return !limits_.strict_events;
  found->raised.fetch_add(1, std::memory_order_relaxed);
  found->last_raised.Store(now);
  for (; found != nullptr; found = found->pattern.load()) {
    for (const EventIndex::Node* node = found->first.load(); node != nullptr; node = node->next.load()) {
      if (node->subscription->Live(now)) fn(*node->subscription);
    }
  }
  return true;
}

// The event of this name from now on; where there are too many, the longest pattern that takes it. Null: there is
// nothing to read.
const EventIndex::Event* Registry::Remember(absl::string_view event) {
  MutexLock lock(&mutex_);
  if (EventIndex::Event* const known = index_.Find(event)) return known;
  EventIndex::Event* const pattern = index_.LongestPattern(event);
  if (limits_.strict_events && (pattern == nullptr || !limits_.events.empty())) return nullptr;
  if (index_.by_name().size() >= limits_.max_events) return pattern;
  EventIndex::Event* const added = &index_.Add(event);
  if (!index_.retired().empty()) ArmSweep(loop_.Now() + kCollectAgain);  // the table has grown
  return added;
}

Registry::Survey Registry::Look(absl::string_view event, size_t limit) const {
  Survey survey;
  const auto take = [](const EventIndex::Event& from, size_t most, std::vector<Ref<const Subscription>>* to) {
    for (const EventIndex::Node* node = from.first.load(); node != nullptr && to->size() < most;
         node = node->next.load()) {
      to->emplace_back(node->subscription.get());
    }
  };
  MutexLock lock(&mutex_);
  const EventIndex::Event* const known = index_.Find(event);
  const EventIndex::Event* const longest = index_.LongestPattern(event);
  if (limits_.strict_events && known == nullptr && (longest == nullptr || !limits_.events.empty())) {
    survey.known = false;
  } else {
    for (const EventIndex::Event* one = known != nullptr ? known : longest; one != nullptr; one = one->pattern.load()) {
      take(*one, limit, &survey.subscriptions);
      survey.omitted += one->subscriptions;
    }
    survey.omitted -= survey.subscriptions.size();
  }
  for (const EventIndex::Event* name : index_.by_name()) {
    if (name != known && absl::EqualsIgnoreCase(name->name, event)) take(*name, kMaxNear, &survey.near);
  }
  for (const EventIndex::Event* pattern : index_.patterns()) {
    if (absl::StartsWith(event, pattern->name)) continue;
    if (absl::StartsWithIgnoreCase(event, pattern->name) || absl::StartsWithIgnoreCase(pattern->name, event)) {
      take(*pattern, kMaxNear, &survey.near);
    }
  }
  return survey;
}

std::vector<Registry::EventInfo> Registry::ListEvents(absl::string_view after, size_t limit) const {
  std::vector<EventInfo> events;
  MutexLock lock(&mutex_);
  for (auto it = index_.by_name().upper_bound(after); it != index_.by_name().end() && events.size() < limit; ++it) {
    const EventIndex::Event& event = **it;
    const absl::Time last = event.last_raised.Load();
    uint32_t subscriptions = 0;
    for (const EventIndex::Event* one = &event; one != nullptr; one = one->pattern.load()) {
      subscriptions += one->subscriptions;
    }
    events.push_back({event.name, event.id, event.raised.load(std::memory_order_relaxed),
                      last == absl::UnixEpoch() ? absl::InfinitePast() : last, subscriptions});
  }
  return events;
}

std::optional<uint32_t> Registry::EventId(absl::string_view event) const {
  const bool is_pattern = absl::ConsumeSuffix(&event, "*");
  MutexLock lock(&mutex_);
  const EventIndex::Event* const found = is_pattern ? index_.LongestPattern(event) : index_.Find(event);
  if (found == nullptr || found->name != event) return std::nullopt;
  return found->id;
}

std::vector<std::string> Registry::SubscribedEvents() const {
  std::vector<std::string> events;
  MutexLock lock(&mutex_);
  for (const EventIndex::Event* event : index_.by_name()) {
    if (event->subscriptions > 0) events.push_back(event->name);
  }
  for (const EventIndex::Event* pattern : index_.patterns()) events.push_back(absl::StrCat(pattern->name, "*"));
  return events;
}

Registry::Audit Registry::TakeAudit() {
  Audit audit;
  absl::flat_hash_map<const DeliveryLedger::Account*, DeliveryCounts> visited;
  MutexLock one_at_a_time(&audit_mutex_);
  for (bool more = true; more;) {
    MutexLock lock(&mutex_);
    auto it = by_sequence_.upper_bound(audited_);
    for (int count = 0; count < kAuditPage && it != by_sequence_.end(); ++count, ++it) {
      const Subscription& subscription = *it->second->subscription;
      visited[&subscription.account] += subscription.CountsOf(Subscription::Held::kRegistry);
      audited_ = it->first;
    }
    more = it != by_sequence_.end();
    if (more) continue;
    audit.deliveries = ledger_.Finish(std::move(visited));
    audited_ = 0;
    AuditEvents(&audit);
    audit.subscriptions = by_sequence_.size();
    std::copy(std::begin(changes_), std::end(changes_), audit.changes);
    audit.expiry_lag = std::max(loop_.Now() - expiries_.Next(), absl::ZeroDuration());
  }
  return audit;
}

void Registry::AuditEvents(Audit* audit) const {
  std::map<std::string, uint64_t> raises = forgotten_raises_;
  for (const auto* events : {&index_.by_name(), &index_.patterns()}) {
    for (const EventIndex::Event* event : *events) {
      const uint64_t raised = event->raised.load(std::memory_order_relaxed);
      if (raised > 0) raises[LabelOf(*event)] += raised;
    }
  }
  for (auto& [label, raised] : raises) {
    if (label.empty()) {
      audit->other_raises = raised;
    } else {
      audit->raises.emplace_back(label, raised);
    }
  }
  audit->events = index_.by_name().size();
  audit->patterns = index_.patterns().size();
}

void Registry::Forget(const EventIndex::Event& event) {
  const uint64_t raised = event.raised.load(std::memory_order_relaxed);
  if (raised > 0) forgotten_raises_[LabelOf(event)] += raised;
}

size_t Registry::size() const {
  MutexLock lock(&mutex_);
  return by_sequence_.size();
}

void Registry::SetExpiry(Record* record, absl::Time when) {
  record->subscription->refreshed.Store(loop_.Now());
  record->subscription->expires.Store(when);
  expiries_.Set(record, when);
  ArmSweep(expiries_.Next());
}

void Registry::Remove(Record* record, Change change) {
  record->subscription->removed.store(true, std::memory_order_release);
  ledger_.Leave(record->subscription.get(), record->sequence <= audited_);
  const Ref<Subscription> subscription = record->subscription;
  expiries_.Remove(record);
  by_key_.erase(record);
  by_id_.erase(record);
  EventIndex::Event* const event = record->event;
  index_.Unlink(*event, record);
  if (event->subscriptions == 0) {
    if (event->is_pattern) {
      Forget(*event);
      index_.RemovePattern(event);
    } else if (index_.by_name().size() > limits_.max_events) {
      Forget(*event);
      index_.Remove(event);
    }
  }
  if (record->owner != nullptr && --record->owner->second == 0) owners_.erase(owners_.find(record->owner->first));
  Tell(change, *subscription);
  by_sequence_.erase(record->sequence);
  ArmSweep(loop_.Now() + kCollectAgain);
}

void Registry::ArmSweep(absl::Time when) {
  if (when >= sweep_at_ || stopped_) return;
  sweep_at_ = when;
  loop_.Post([this, running = running_, when] {
    if (!*running) return;
    if (timer_ == nullptr) timer_ = loop_.NewTimer([this] { Sweep(); });
    timer_->Arm(when);
  });
}

void Registry::Sweep() {
  const absl::Time now = loop_.Now();
  Garbage garbage;
  MutexLock lock(&mutex_);
  sweep_at_ = absl::InfiniteFuture();
  int moves = kMovesPerTurn;
  for (int count = 0; count < kExpiriesPerTurn; ++count) {
    ExpiryQueue::Entry* const expired = expiries_.PopDue(now, &moves);
    if (expired == nullptr) break;
    Remove(static_cast<Record*>(expired), Change::kExpired);
  }
  garbage = index_.retired().Collect();
  ArmSweep(std::max(expiries_.Next(), now));
  if (!index_.retired().empty()) ArmSweep(now + kCollectAgain);
}

void Registry::Stop() {
  {
    MutexLock lock(&mutex_);
    if (stopped_) return;
    stopped_ = true;
  }
  bool ended = false;
  const auto end = [this, &ended] {
    *running_ = false;
    timer_.reset();
    MutexLock lock(&mutex_);
    ended = true;
    stopped_signal_.SignalAll();
  };
  if (loop_.OnLoop()) {
    end();
  } else {
    loop_.Post(end);
  }
  Garbage garbage;
  std::vector<Ref<Subscription>> subscriptions;  // fall outside the lock
  {
    MutexLock lock(&mutex_);
    while (!ended) stopped_signal_.Wait(&mutex_);
    observers_.clear();
    while (!by_sequence_.empty()) {
      subscriptions.push_back(by_sequence_.begin()->second->subscription);
      Remove(by_sequence_.begin()->second, Change::kRemoved);
    }
  }
  // A raise may still be reading: what it stands on is freed when it has gone.
  while (true) {
    MutexLock lock(&mutex_);
    garbage = index_.retired().Collect();
    if (index_.retired().empty()) break;
  }
}

}  // namespace eventvirtual
