#include "server/endpoint/endpoint_pool.h"

#include <algorithm>
#include <atomic>
#include <memory>

#include "absl/strings/str_cat.h"
#include "transports/api/check.h"

namespace eventvirtual {

EndpointLease::~EndpointLease() {
  if (endpoint_) pool_->Return(std::move(endpoint_));
}

EndpointPool::EndpointPool(std::vector<Loop*> loops, const EndpointLimits& limits, OnHealthChange on_health_change)
    : loops_(std::move(loops)), limits_(limits), on_health_change_(std::move(on_health_change)) {
  EV_CHECK(!loops_.empty());
}

EndpointPool::~EndpointPool() {
  MutexLock lock(&mutex_);
  EV_CHECK(alive_ == 0);
}

EndpointLease EndpointPool::Lease(const Destination& destination) {
  MutexLock lock(&mutex_);
  auto found = by_canonical_.find(destination.target.canonical);
  if (found == by_canonical_.end()) {
    Entry entry;
    entry.id = ++last_id_;
    entry.endpoint =
        AdoptRef(new Endpoint(destination, *loops_[entry.id % loops_.size()], limits_, on_health_change_, [this] {
          MutexLock lock(&mutex_);
          --alive_;
          gone_.SignalAll();
        }));
    ++alive_;
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
  const absl::string_view shown = alike.empty() ? names[0].masked : alike[0]->endpoint->target().masked;
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
  while (alive_ > 0) gone_.Wait(&mutex_);
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
