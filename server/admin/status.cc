#include "server/admin/status.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "server/version.h"
#include "transports/api/jsonrpc.h"

namespace eventvirtual {
namespace {

constexpr size_t kSubscriptionsAtOnce = 1000;  // under the registry's mutex
constexpr size_t kEndpointsAtOnce = 256;       // under the pool's

// One JSON object, from its first brace to its last.
class Object {
 public:
  explicit Object(std::string* out) : out_(*out) { out_ += '{'; }
  ~Object() { out_ += '}'; }
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  std::string* Key(absl::string_view name) {  // what is appended next is its value
    if (out_.back() != '{') out_ += ',';
    AppendJsonString(name, &out_);
    out_ += ':';
    return &out_;
  }
  void Text(absl::string_view name, absl::string_view text) { AppendJsonString(text, Key(name)); }
  void Number(absl::string_view name, uint64_t number) { absl::StrAppend(Key(name), number); }
  void Flag(absl::string_view name, bool flag) { absl::StrAppend(Key(name), flag ? "true" : "false"); }
  void Seconds(absl::string_view name, absl::Duration duration, int digits = 3) {  // nothing if it is infinite
    if (duration == absl::InfiniteDuration() || duration == -absl::InfiniteDuration()) return;
    absl::StrAppendFormat(Key(name), "%.*f", digits, absl::ToDoubleSeconds(duration));
  }

 private:
  std::string& out_;
};

template <typename Item>
void AppendArray(const std::vector<Item>& items, absl::FunctionRef<void(const Item&, std::string*)> append,
                 std::string* out) {
  *out += '[';
  for (const Item& item : items) {
    if (out->back() != '[') *out += ',';
    append(item, out);
  }
  *out += ']';
}

// What one has typed to find something; empty finds all.
class Needle {
 public:
  explicit Needle(absl::string_view text) : lower_(absl::AsciiStrToLower(text)) {}
  bool In(absl::string_view text) const {
    const auto same = [](char a, char b) { return absl::ascii_tolower(static_cast<unsigned char>(a)) == b; };
    return std::search(text.begin(), text.end(), lower_.begin(), lower_.end(), same) != text.end() || lower_.empty();
  }

 private:
  const std::string lower_;
};

// Of two items, the one with the lower rank stands first; of the same rank, the older one.
enum Rank : size_t { kFailing, kDegraded, kFine, kRanks };

// Where a page of a list begins: behind the item `after` of a rank.
struct Position {
  size_t rank = 0;
  uint64_t after = 0;
};

std::string TextOf(Position position) { return absl::StrCat(position.rank, ".", position.after); }

absl::StatusOr<Position> PositionOf(absl::string_view list, absl::string_view text) {
  Position position;
  if (text.empty()) return position;
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '.');
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &position.rank) || position.rank >= kRanks ||
      !absl::SimpleAtoi(parts[1], &position.after)) {
    return absl::InvalidArgumentError(
        absl::StrCat(list, ": this is no position; leave it out, or give what \"next\" said of this list"));
  }
  return position;
}

// A page of a list whose items are shown to it in the order of their creation.
template <typename Item>
class Page {
 public:
  Page(Position from, size_t limit) : from_(from), limit_(limit) {}

  void See(uint64_t id, Rank rank, const Item& item) {
    if (rank < from_.rank || (rank == from_.rank && id <= from_.after) || ranks_[rank].size() > limit_) return;
    ranks_[rank].push_back({id, item});
  }
  bool Full() const { return ranks_[kFine].size() > limit_; }

  // Call once. `stopped`: not all were shown, and the last one was this; else 0.
  void End(uint64_t stopped) {
    for (size_t rank = from_.rank; rank < kRanks; ++rank) {
      uint64_t last = rank == from_.rank ? from_.after : 0;
      for (Row& row : ranks_[rank]) {
        if (rows.size() == limit_) {
          next = TextOf({rank, last});
          return;
        }
        last = row.id;
        rows.push_back(std::move(row.item));
      }
    }
    if (stopped != 0) next = TextOf({kFine, stopped});
  }

  std::vector<Item> rows;
  std::string next;  // "": that was the last one

 private:
  struct Row {
    uint64_t id;
    Item item;
  };
  const Position from_;
  const size_t limit_;
  std::vector<Row> ranks_[kRanks];
};

// Calls `fn` with up to `most` subscriptions behind `after`. The last one, or 0 when there are no more.
uint64_t VisitSubscriptions(const Registry& registry, uint64_t after, size_t most,
                            absl::FunctionRef<void(const Registry::Entry&)> fn) {
  for (size_t seen = 0; seen < most;) {
    const Registry::EntryPage page = registry.ListEntries("", after, std::min(kSubscriptionsAtOnce, most - seen));
    for (const Registry::Entry& entry : page.entries) fn(entry);
    if (page.next == 0) return 0;
    seen += page.entries.size();
    after = page.next;
  }
  return after;
}

uint64_t VisitEndpoints(const EndpointPool& pool, uint64_t after, size_t most,
                        absl::FunctionRef<void(const EndpointPool::Listed&)> fn) {
  for (size_t seen = 0; seen < most;) {
    const size_t count = std::min(kEndpointsAtOnce, most - seen);
    const std::vector<EndpointPool::Listed> listed = pool.List(after, count);
    for (const EndpointPool::Listed& one : listed) fn(one);
    if (listed.size() < count) return 0;
    seen += count;
    after = listed.back().id;
  }
  return after;
}

bool Fails(const EndpointStats& stats) {
  return stats.health == EndpointStats::Health::kFailing || stats.health == EndpointStats::Health::kProbing;
}

// How a subscriber is, as docs/status_page.md says.
void AppendHealth(const EndpointStats& stats, absl::Duration cool_down, absl::Time now, Object* object) {
  const absl::Time retry = stats.failing_since + cool_down;
  object->Text("uri", stats.uri);
  switch (stats.health) {
    case EndpointStats::Health::kIdle:
      object->Text("health", "idle");
      break;
    case EndpointStats::Health::kHealthy:
      object->Text("health", "healthy");
      break;
    case EndpointStats::Health::kProbing:
      object->Text("health", "probing");
      break;
    case EndpointStats::Health::kFailing:
      object->Text("health", retry > now ? "cooling" : "failing");
      if (retry > now) object->Seconds("retry_in", retry - now);
      break;
    case EndpointStats::Health::kDrained:
      object->Text("health", "drained");
      object->Seconds("drained_for", now - stats.drained_since);
      if (stats.missed > 0) object->Number("missed", stats.missed);
      break;
  }
  if (Fails(stats)) object->Seconds("down_for", now - stats.down_since);
  object->Seconds("success_ago", now - stats.last_success);
  object->Seconds("failure_ago", now - stats.last_failure);
  if (!stats.last_error.ok()) object->Text("error", stats.last_error.message());
}

void AppendSubscription(const SubscriptionInfo& info, absl::Time now, std::string* out) {
  Object object(out);
  object.Text("name", info.name);
  object.Text("event", info.event);
  if (!info.filter.empty()) object.Text("filter", info.filter);
  object.Text("policy", PolicyName(info.policy));
  object.Text("state", info.state == SubscriptionInfo::State::kActive     ? "active"
                       : info.state == SubscriptionInfo::State::kDegraded ? "degraded"
                                                                          : "failing");
  object.Seconds("expires_in", info.expires - now);
  object.Seconds("created_ago", now - info.created);
  object.Number("matched", info.matched - info.filtered);
  object.Number("delivered", info.delivered);
  object.Number("partial", info.partial);
  object.Number("failed", info.failed);
  object.Number("expired", info.expired);
  object.Number("filtered", info.filtered);
  object.Number("dead_lettered", info.dead_lettered);
  object.Number("dropped", info.dropped);
  if (!info.labels.empty()) {
    Object labels(object.Key("labels"));
    for (const auto& [key, value] : info.labels) labels.Text(key, value);
  }
  AppendArray<SubscriptionInfo::Subscriber>(
      info.subscribers,
      [&](const SubscriptionInfo::Subscriber& subscriber, std::string* out) {
        Object object(out);
        AppendHealth(subscriber.status, info.delivery.failover_timeout, now, &object);
      },
      object.Key("subscribers"));
}

void AppendEndpoint(const EndpointPool::Listed& listed, absl::Duration cool_down, absl::Time now, std::string* out) {
  const EndpointStats& stats = listed.stats;
  Object object(out);
  object.Number("id", listed.id);
  AppendHealth(stats, cool_down, now, &object);
  object.Flag("connected", stats.connected);
  object.Number("subscriptions", listed.leases);
  object.Number("offered", stats.offered);
  object.Number("delivered", stats.ok);
  object.Number("failed", stats.failed + stats.timed_out);
  object.Number("refused", stats.full + stats.down);
  object.Number("queued", stats.queued);
  object.Number("in_flight", stats.in_flight);
  object.Seconds("latency_p50", stats.latency_p50, 6);
  object.Seconds("latency_p99", stats.latency_p99, 6);
}

struct Totals {
  uint64_t raised = 0;                                         // of events
  uint64_t matched = 0, delivered = 0, lost = 0, expired = 0;  // of subscriptions
  uint64_t dead_lettered = 0;
  uint64_t offered = 0, ok = 0, failed = 0, refused = 0;  // of endpoints
  uint64_t queued = 0, in_flight = 0;
};

struct Sums {
  uint64_t seen = 0, matching = 0;
  bool whole = true;  // not only of the beginning of the list
};

// The head of a list: what stands beside its rows.
void AppendSums(const Sums& sums, absl::string_view next, Object* list) {
  list->Number("seen", sums.seen);
  list->Number("matching", sums.matching);
  list->Flag("whole", sums.whole);
  if (!next.empty()) list->Text("next", next);
}

void AppendSubscriptions(const Registry& registry, const Needle& needle, Position from, size_t limit, size_t most,
                         Totals* totals, Object* status) {
  Sums sums;
  uint64_t ranks[kRanks] = {};
  Page<Ref<const Subscription>> page(from, limit);
  const auto matches = [&needle](const Subscription& one) {
    return needle.In(one.event) || needle.In(one.id) || needle.In(one.filter()) ||
           std::any_of(one.subscribers.begin(), one.subscribers.end(), [&needle](const Subscription::Subscriber& to) {
             return needle.In(to.endpoint->target().masked);
           });
  };
  const auto works = [](const Subscription::Subscriber& subscriber) {
    return subscriber.endpoint->failing_since() == absl::InfinitePast() && !subscriber.endpoint->drained();
  };
  const auto see = [&](const Registry::Entry& entry) {
    const Subscription& one = *entry.subscription;
    const auto work = std::count_if(one.subscribers.begin(), one.subscribers.end(), works);
    const Rank rank = work == 0 ? kFailing : static_cast<size_t>(work) < one.subscribers.size() ? kDegraded : kFine;
    ++sums.seen;
    ++ranks[rank];
    const DeliveryCounts counts = one.CountsOf(Subscription::Held::kNowhere);
    totals->matched += counts.matched - counts.filtered;
    totals->delivered += counts.delivered;
    totals->lost += counts.failed + counts.partial + counts.dropped;
    totals->dead_lettered += counts.dead_lettered;
    totals->expired += counts.expired;
    if (!matches(one)) return;
    ++sums.matching;
    page.See(entry.sequence, rank, entry.subscription);
  };
  uint64_t stopped = VisitSubscriptions(registry, 0, most, see);
  sums.whole = stopped == 0;
  if (stopped != 0 && !page.Full()) {  // of a very long list those that fail come first only in its beginning
    stopped = VisitSubscriptions(registry, std::max(stopped, from.rank == kFine ? from.after : 0), most,
                                 [&](const Registry::Entry& entry) {
                                   if (matches(*entry.subscription))
                                     page.See(entry.sequence, kFine, entry.subscription);
                                 });
  }
  page.End(stopped);

  Object list(status->Key("subscriptions"));
  list.Number("count", registry.size());
  list.Number("failing", ranks[kFailing]);
  list.Number("degraded", ranks[kDegraded]);
  AppendSums(sums, page.next, &list);
  const absl::Time now = registry.clock().Now();
  AppendArray<Ref<const Subscription>>(
      page.rows,
      [&](const Ref<const Subscription>& one, std::string* out) {
        AppendSubscription(registry.Describe(*one), now, out);
      },
      list.Key("rows"));
}

void AppendEndpoints(const EndpointPool& pool, const StatusLimits& limits, const Needle& needle, Position from,
                     size_t limit, absl::Time now, Totals* totals, Object* status) {
  Sums sums;
  uint64_t ranks[kRanks] = {}, idle = 0;
  Page<EndpointPool::Listed> page(from, limit);
  const auto matches = [&needle](const EndpointStats& stats) {
    return needle.In(stats.uri) || needle.In(stats.last_error.message());
  };
  const auto see = [&](const EndpointPool::Listed& listed) {
    const EndpointStats& stats = listed.stats;
    const Rank rank = Fails(stats) ? kFailing : stats.health == EndpointStats::Health::kDrained ? kDegraded : kFine;
    ++sums.seen;
    ++ranks[rank];
    if (stats.health == EndpointStats::Health::kIdle) ++idle;
    totals->offered += stats.offered;
    totals->ok += stats.ok;
    totals->failed += stats.failed + stats.timed_out;
    totals->refused += stats.full + stats.down;
    totals->queued += stats.queued;
    totals->in_flight += stats.in_flight;
    if (!matches(stats)) return;
    ++sums.matching;
    page.See(listed.id, rank, listed);
  };
  uint64_t stopped = VisitEndpoints(pool, 0, limits.looked_at, see);
  sums.whole = stopped == 0;
  if (stopped != 0 && !page.Full()) {
    stopped = VisitEndpoints(pool, std::max(stopped, from.rank == kFine ? from.after : 0), limits.looked_at,
                             [&](const EndpointPool::Listed& listed) {
                               if (matches(listed.stats)) page.See(listed.id, kFine, listed);
                             });
  }
  page.End(stopped);

  Object list(status->Key("endpoints"));
  list.Number("failing", ranks[kFailing]);
  list.Number("drained", ranks[kDegraded]);
  list.Number("idle", idle);
  list.Number("queue_limit", limits.queue_events);
  AppendSums(sums, page.next, &list);
  AppendArray<EndpointPool::Listed>(
      page.rows,
      [&](const EndpointPool::Listed& one, std::string* out) {
        AppendEndpoint(one, limits.failover_timeout, now, out);
      },
      list.Key("rows"));
}

void AppendEvents(const Registry& registry, const Needle& needle, absl::string_view from, size_t limit, size_t most,
                  absl::Time now, Totals* totals, Object* status) {
  Sums sums;
  std::vector<Registry::EventInfo> rows;
  std::string next;
  std::string after;
  for (bool more = true; more && sums.seen < most;) {
    std::vector<Registry::EventInfo> some = registry.ListEvents(after, kSubscriptionsAtOnce);
    more = some.size() == kSubscriptionsAtOnce;
    sums.whole = !more;
    if (!some.empty()) after = some.back().name;
    for (Registry::EventInfo& event : some) {
      ++sums.seen;
      totals->raised += event.raised;
      if (!needle.In(event.name)) continue;
      ++sums.matching;
      if (event.name <= from) continue;
      if (rows.size() < limit) {
        rows.push_back(std::move(event));
      } else {
        next = rows.back().name;
      }
    }
  }

  Object list(status->Key("events"));
  AppendSums(sums, next, &list);
  AppendArray<Registry::EventInfo>(
      rows,
      [now](const Registry::EventInfo& event, std::string* out) {
        Object object(out);
        object.Text("name", event.name);
        object.Number("raised", event.raised);
        object.Seconds("raised_ago", now - event.last_raised);
        object.Number("subscriptions", event.subscriptions);
      },
      list.Key("rows"));
}

void AppendTotals(const Totals& totals, uint64_t pending, Object* status) {
  Object object(status->Key("totals"));
  object.Number("raised", totals.raised);
  object.Number("matched", totals.matched);
  object.Number("delivered", totals.delivered);
  object.Number("lost", totals.lost);
  object.Number("dead_lettered", totals.dead_lettered);
  object.Number("expired", totals.expired);
  object.Number("pending", pending);
  object.Number("attempts", totals.offered);
  object.Number("attempts_delivered", totals.ok);
  object.Number("attempts_failed", totals.failed);
  object.Number("attempts_refused", totals.refused);
  object.Number("queued", totals.queued);
  object.Number("in_flight", totals.in_flight);
}

void AppendLoad(const Load& load, Object* status) {
  const Load::Figures figures = load.figures();
  Object object(status->Key("load"));
  object.Number("overload", figures.refused_works);
  object.Seconds("wait", figures.wait);
  object.Number("watching_refused", figures.refused[0]);
  object.Number("accepted_refused", figures.refused[1]);
  object.Number("delivered_refused", figures.refused[2]);
}

void AppendJournal(const Journal& journal, Object* status) {
  const JournalCounts counts = journal.counts();
  Object object(status->Key("journal"));
  object.Text("state", counts.failing ? "failing" : counts.full ? "full" : "ok");
  if (const absl::Status health = journal.health(); !health.ok()) object.Text("error", health.message());
  object.Number("used_bytes", counts.used);
  object.Number("max_bytes", counts.max_bytes);
  object.Number("dead_letters", counts.dead_letters);
  object.Number("refused", counts.refused);
}

}  // namespace

absl::StatusOr<std::string> StatusBoard::Json(const StatusQuery& query) const {
  if (query.filter.size() > kMaxFilter) {
    return absl::InvalidArgumentError(
        absl::StrCat("filter: ", query.filter.size(), " bytes; at most ", kMaxFilter, " are taken"));
  }
  const absl::StatusOr<Position> subscriptions = PositionOf("subscriptions", query.subscriptions);
  if (!subscriptions.ok()) return subscriptions.status();
  const absl::StatusOr<Position> endpoints = PositionOf("endpoints", query.endpoints);
  if (!endpoints.ok()) return endpoints.status();
  const size_t limit = std::clamp<size_t>(query.limit, 1, kMaxRows);
  const Needle needle(query.filter);
  const absl::Time now = registry_.clock().Now();
  Totals totals;
  std::string json;
  {
    Object status(&json);
    status.Text("version", kVersion);
    status.Seconds("uptime", now - started_);
    AppendEndpoints(pool_, limits_, needle, *endpoints, limit, now, &totals, &status);
    AppendSubscriptions(registry_, needle, *subscriptions, limit, limits_.looked_at, &totals, &status);
    AppendEvents(registry_, needle, query.events, limit, limits_.looked_at, now, &totals, &status);
    AppendTotals(totals, dispatcher_.pending(), &status);
    if (load_ != nullptr) AppendLoad(*load_, &status);
    if (journal_ != nullptr) AppendJournal(*journal_, &status);
  }
  return json;
}

}  // namespace eventvirtual
