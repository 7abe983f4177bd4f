#include "server/endpoint/endpoint_pool.h"

#include <atomic>
#include <memory>

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
  MutexLock lock(&mutex_);
  for (const auto& [id, entry] : by_id_) entry->endpoint->Close();
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
    if (--found->second.leases > 0) return;
    last = std::move(found->second.endpoint);
    by_id_.erase(found->second.id);
    by_canonical_.erase(found);
  }
  last->Close();
}

}  // namespace eventvirtual
