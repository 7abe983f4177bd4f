#include "server/endpoint/endpoint_pool.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

// So many endpoints are visited in a turn of their loop (about a tenth of a millisecond); then events get theirs.
constexpr size_t kVisitsPerTurn = 64;

absl::string_view SchemeOf(const Target& target) {
  const absl::string_view canonical = target.canonical;
  return canonical.substr(0, canonical.find(':'));
}

}  // namespace

// One audit on its way.
struct EndpointPool::Walk {
  // How urgently an operator wants to see an endpoint.
  using Rank = std::tuple<bool, uint64_t, uint64_t>;  // fails, holds, was offered
  struct Seen {
    Rank rank;
    EndpointStats stats;
    static bool Before(const Seen& a, const Seen& b) { return a.rank > b.rank; }  // the least is on top of a heap
  };
  // What one loop has found.
  struct Part {
    std::map<std::string, TransportTotals, std::less<>> transports;
    std::vector<Seen> foremost;  // a heap
    EndpointBooks others;
    absl::Time asked;
    absl::Duration lag = -absl::InfiniteDuration();  // it has not come yet
    uint64_t visited = 0;                            // up to this id; guarded by the pool's mutex
  };

  void Visit(const Endpoint& endpoint, Part* part) const;

  size_t most_foremost = 0;
  absl::AnyInvocable<void(Audit) &&> done;
  std::vector<Part> parts;
  size_t loops_left = 0;  // guarded by the pool's mutex
};

void EndpointPool::Walk::Visit(const Endpoint& endpoint, Part* part) const {
  const EndpointBooks books = endpoint.books();
  const bool failing = endpoint.failing_since() != absl::InfinitePast();
  const absl::string_view scheme = SchemeOf(endpoint.target());
  auto found = part->transports.find(scheme);
  if (found == part->transports.end()) found = part->transports.emplace(std::string(scheme), TransportTotals()).first;
  found->second += EndpointTotals{books, endpoint.latency(), endpoint.Imbalance()};
  ++found->second.endpoints;
  if (failing) ++found->second.failing;

  const Rank rank{failing, books.queued + books.in_flight, books.offered};
  std::vector<Seen>& foremost = part->foremost;
  if (foremost.size() == most_foremost) {
    if (foremost.empty() || rank <= foremost.front().rank) {
      part->others += books;
      return;
    }
    std::pop_heap(foremost.begin(), foremost.end(), Seen::Before);
    part->others += foremost.back().stats;
    foremost.pop_back();
  }
  foremost.push_back({rank, endpoint.stats()});
  std::push_heap(foremost.begin(), foremost.end(), Seen::Before);
}

EndpointLease::~EndpointLease() {
  if (endpoint_) pool_->Return(std::move(endpoint_));
}

EndpointPool::EndpointPool(std::vector<Loop*> loops, const EndpointLimits& limits, OnHealthChange on_health_change)
    : loops_(std::move(loops)), limits_(limits), on_health_change_(std::move(on_health_change)) {
  EV_CHECK(!loops_.empty());
}

EndpointPool::~EndpointPool() {
  MutexLock lock(&mutex_);
  EV_CHECK(alive_.empty());
}

EndpointLease EndpointPool::Lease(const Destination& destination) {
  MutexLock lock(&mutex_);
  auto found = by_canonical_.find(destination.target.canonical);
  if (found == by_canonical_.end()) {
    Entry entry;
    entry.id = ++last_id_;
    entry.endpoint = AdoptRef(new Endpoint(destination, *loops_[entry.id % loops_.size()], limits_, on_health_change_,
                                           [this, id = entry.id, scheme = std::string(SchemeOf(destination.target))](
                                               const EndpointTotals& last) { OnGone(id, scheme, last); }));
    alive_[entry.id] = entry.endpoint.get();
    const absl::string_view key = entry.endpoint->target().canonical;
    found = by_canonical_.emplace(key, std::move(entry)).first;
    by_id_[found->second.id] = &found->second;
  }
  ++found->second.leases;
  return EndpointLease(this, found->second.endpoint);
}

const Endpoint* EndpointPool::Find(absl::string_view canonical) const {
  MutexLock lock(&mutex_);
  const auto found = by_canonical_.find(canonical);
  return found == by_canonical_.end() ? nullptr : found->second.endpoint.get();
}

std::vector<EndpointPool::Listed> EndpointPool::List(uint64_t after, size_t limit) const {
  std::vector<Listed> listed;
  MutexLock lock(&mutex_);
  for (auto it = by_id_.upper_bound(after); it != by_id_.end() && listed.size() < limit; ++it) {
    listed.push_back({it->first, it->second->endpoint->stats(), it->second->leases});
  }
  return listed;
}

absl::StatusOr<EndpointPool::Entry*> EndpointPool::FindNamed(absl::Span<const Target> names) {
  for (const Target& name : names) {
    if (const auto found = by_canonical_.find(name.canonical); found != by_canonical_.end()) return &found->second;
  }
  std::vector<Entry*> alike;
  for (const auto& [id, entry] : by_id_) {
    const auto is_it = [&masked = entry->endpoint->target().masked](const Target& name) {
      return name.masked == masked;
    };
    if (std::any_of(names.begin(), names.end(), is_it)) alike.push_back(entry);
  }
  if (alike.size() == 1) return alike[0];
  const absl::string_view shown = alike.empty() ? names.back().masked : alike[0]->endpoint->target().masked;
  if (alike.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no subscription has the subscriber ", shown, "; evctl endpoints lists all"));
  }
  return absl::FailedPreconditionError(
      absl::StrCat(alike.size(), " subscribers are shown as ", shown, "; write the password of the one that is meant"));
}

absl::StatusOr<EndpointPool::Listed> EndpointPool::SetDrained(absl::Span<const Target> names, bool drained) {
  Ref<Endpoint> last;  // dropped outside the lock
  MutexLock lock(&mutex_);
  const absl::StatusOr<Entry*> found = FindNamed(names);
  if (!found.ok()) return found.status();
  Entry* const entry = *found;
  Endpoint& endpoint = *entry->endpoint;
  if (drained != endpoint.drained()) {
    if (drained && drained_ == kMaxDrained) {
      return absl::ResourceExhaustedError(
          absl::StrCat(kMaxDrained, " subscribers are taken out already; bring one back first"));
    }
    drained_ += drained ? 1 : -1;
    endpoint.SetDrained(drained);
  }
  Listed listed{entry->id, endpoint.stats(), entry->leases};
  if (!drained && entry->leases == 0) last = Remove(entry);
  return listed;
}

Ref<Endpoint> EndpointPool::Remove(Entry* entry) {
  const Ref<Endpoint> endpoint = std::move(entry->endpoint);
  by_id_.erase(entry->id);
  by_canonical_.erase(endpoint->target().canonical);
  endpoint->Close();
  return endpoint;
}

void EndpointPool::AfterSends(absl::AnyInvocable<void() &&> done) {
  struct Pending {
    std::atomic<size_t> loops;
    absl::AnyInvocable<void() &&> done;
  };
  auto pending = std::make_shared<Pending>();
  pending->loops = loops_.size();
  pending->done = std::move(done);
  for (Loop* loop : loops_) {
    loop->Post([pending] {
      if (--pending->loops == 0) std::move(pending->done)();
    });
  }
}

void EndpointPool::OnGone(uint64_t id, absl::string_view scheme, const EndpointTotals& last) {
  MutexLock lock(&mutex_);
  const bool visited = !walks_.empty() && id <= walks_.front()->parts[id % loops_.size()].visited;
  auto& gone = visited ? gone_since_visit_ : gone_;
  auto found = gone.find(scheme);
  if (found == gone.end()) found = gone.emplace(std::string(scheme), EndpointTotals()).first;
  found->second += last;
  alive_.erase(id);
  gone_signal_.SignalAll();
}

void EndpointPool::TakeAudit(size_t foremost, absl::AnyInvocable<void(Audit) &&> done) {
  auto walk = std::make_shared<Walk>();
  walk->most_foremost = foremost;
  walk->done = std::move(done);
  walk->parts.resize(loops_.size());
  walk->loops_left = loops_.size();
  MutexLock lock(&mutex_);
  walks_.push_back(std::move(walk));
  if (walks_.size() == 1) BeginWalk();
}

void EndpointPool::BeginWalk() {
  const std::shared_ptr<Walk>& walk = walks_.front();
  for (size_t i = 0; i < loops_.size(); ++i) {
    walk->parts[i].asked = loops_[i]->Now();
    loops_[i]->Post([this, walk, i] { VisitSome(walk, i); });
  }
}

void EndpointPool::VisitSome(const std::shared_ptr<Walk>& walk, size_t loop) {
  Walk::Part& part = walk->parts[loop];
  if (part.lag < absl::ZeroDuration()) part.lag = loops_[loop]->Now() - part.asked;
  std::vector<const Endpoint*> some;  // end on this loop alone, so they live meanwhile
  {
    MutexLock lock(&mutex_);
    for (auto it = alive_.upper_bound(part.visited); it != alive_.end() && some.size() < kVisitsPerTurn; ++it) {
      if (it->first % loops_.size() == loop) some.push_back(it->second);
      part.visited = it->first;
    }
  }
  for (const Endpoint* endpoint : some) walk->Visit(*endpoint, &part);
  if (some.size() == kVisitsPerTurn) return loops_[loop]->Post([this, walk, loop] { VisitSome(walk, loop); });
  {
    MutexLock lock(&mutex_);
    if (--walk->loops_left > 0) return;
  }
  EndWalk(*walk);
}

void EndpointPool::EndWalk(Walk& walk) {
  Audit audit;
  std::vector<Walk::Seen> seen;
  for (Walk::Part& part : walk.parts) {
    for (const auto& [scheme, totals] : part.transports) {
      TransportTotals& sum = audit.transports[scheme];
      sum += totals;
      sum.endpoints += totals.endpoints;
      sum.failing += totals.failing;
    }
    std::move(part.foremost.begin(), part.foremost.end(), std::back_inserter(seen));
    audit.others += part.others;
    audit.lags.push_back(part.lag);
  }
  std::sort(seen.begin(), seen.end(), Walk::Seen::Before);
  for (Walk::Seen& one : seen) {
    if (audit.foremost.size() < walk.most_foremost) {
      audit.foremost.push_back(std::move(one.stats));
    } else {
      audit.others += one.stats;
    }
  }
  absl::AnyInvocable<void(Audit)&&> done = std::move(walk.done);
  {
    MutexLock lock(&mutex_);
    for (const auto& [scheme, totals] : gone_) audit.transports[scheme] += totals;
    for (const auto& [scheme, totals] : gone_since_visit_) gone_[scheme] += totals;
    gone_since_visit_.clear();
    walks_.pop_front();
    if (!walks_.empty()) BeginWalk();
  }
  for (const auto& [scheme, totals] : audit.transports) audit.imbalance += totals.imbalance;
  std::move(done)(std::move(audit));
}

void EndpointPool::CloseAll() {
  std::vector<Ref<Endpoint>> last;  // dropped outside the lock
  MutexLock lock(&mutex_);
  keeps_drained_ = false;
  std::vector<Entry*> unleased;
  for (const auto& [id, entry] : by_id_) {
    entry->endpoint->Close();
    if (entry->leases == 0) unleased.push_back(entry);
  }
  for (Entry* entry : unleased) last.push_back(Remove(entry));
}

void EndpointPool::AwaitEmpty() {
  MutexLock lock(&mutex_);
  while (!alive_.empty()) gone_signal_.Wait(&mutex_);
}

void EndpointPool::Return(Ref<Endpoint> endpoint) {
  Ref<Endpoint> last;  // dropped outside the lock
  {
    MutexLock lock(&mutex_);
    const auto found = by_canonical_.find(endpoint->target().canonical);
    EV_CHECK(found != by_canonical_.end() && found->second.endpoint == endpoint);
    if (--found->second.leases > 0 || (keeps_drained_ && endpoint->drained())) return;
    last = Remove(&found->second);
  }
}

}  // namespace eventvirtual
