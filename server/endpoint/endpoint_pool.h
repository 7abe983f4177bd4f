// EndpointPool: one endpoint per canonical URI, alive while somebody leases it.
#ifndef EVENTVIRTUAL_SERVER_ENDPOINT_ENDPOINT_POOL_H_
#define EVENTVIRTUAL_SERVER_ENDPOINT_ENDPOINT_POOL_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/container/node_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/endpoint/endpoint.h"
#include "transports/api/catalog.h"
#include "transports/api/loop.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

class EndpointPool;

// A share in one endpoint. Move-only; the last lease to fall closes the endpoint. Any thread.
class EndpointLease {
 public:
  EndpointLease() = default;
  EndpointLease(EndpointLease&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)), endpoint_(std::move(other.endpoint_)) {}
  EndpointLease& operator=(EndpointLease&& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(endpoint_, other.endpoint_);
    return *this;
  }
  ~EndpointLease();

  Endpoint* get() const { return endpoint_.get(); }
  Endpoint* operator->() const { return endpoint_.get(); }
  Endpoint& operator*() const { return *endpoint_; }

 private:
  friend class EndpointPool;
  EndpointLease(EndpointPool* pool, Ref<Endpoint> endpoint) : pool_(pool), endpoint_(std::move(endpoint)) {}
  EndpointPool* pool_ = nullptr;
  Ref<Endpoint> endpoint_;
};

// Any thread. All leases must have fallen before it is destroyed.
class EndpointPool {
 public:
  // Endpoints are dealt to `loops` in turn; all must run until AwaitEmpty() has returned.
  // `on_health_change`, unless null, is called on all of them.
  EndpointPool(std::vector<Loop*> loops, const EndpointLimits& limits, OnHealthChange on_health_change = nullptr);
  ~EndpointPool();

  // The endpoint of `destination`, made on first use. Does not connect.
  EndpointLease Lease(const Destination& destination);

  // The endpoint with this canonical URI, or null. Only to compare: it may be gone the next moment.
  const Endpoint* Find(absl::string_view canonical) const;

  struct Listed {
    uint64_t id = 0;  // in the order of creation
    EndpointStats stats;
    uint32_t leases = 0;  // subscribers that share it
  };
  // Up to `limit` endpoints in the order of their creation, beginning behind the id `after` (0: the first).
  std::vector<Listed> List(uint64_t after, size_t limit) const;

  // What all endpoints of one transport have counted since the pool was made, those that are gone included: it never
  // goes down.
  struct TransportTotals : EndpointTotals {
    uint32_t endpoints = 0;  // that live
    uint32_t failing = 0;    // of them
  };
  struct Audit {
    std::map<std::string, TransportTotals, std::less<>> transports;  // by scheme
    std::vector<EndpointStats> foremost;  // those that fail first, then those that hold and were offered most
    EndpointBooks others;                 // of the rest together
    uint64_t imbalance = 0;               // of all books, those of endpoints that are gone included; zero
    std::vector<absl::Duration> lags;     // of each loop: how long it took until it got to this
  };
  // Each loop goes over its own endpoints, some at a time, and looks whether their books balance: about two
  // microseconds of it for each. Calls `done` on one of them, with `foremost` endpoints at most. Any thread.
  void TakeAudit(size_t foremost, absl::AnyInvocable<void(Audit) &&> done);

  static constexpr size_t kMaxDrained = 1000;

  // Takes an endpoint out by hand or brings it back, and gives it as it is then. One that is taken out stays so, and
  // stays here without a lease too, until it is brought back or CloseAll() is called: a subscription that ends and
  // comes again does not undo it. `names`: what it may be called (at least one; the last is fit to be shown), by its
  // canonical text or, where that is of none, masked. NOT_FOUND; FAILED_PRECONDITION: several are masked to the same;
  // RESOURCE_EXHAUSTED: kMaxDrained are out.
  absl::StatusOr<Listed> SetDrained(absl::Span<const Target> names, bool drained);

  // Calls `done` when each loop has come to the end of what it was doing: a message that was being sent has been sent,
  // and whatever was decided before this call is seen by the next. On one of the loops. Any thread.
  void AfterSends(absl::AnyInvocable<void() &&> done);

  // Closes every endpoint: what waits or is out ends with UNAVAILABLE. They stay leased; the drained are kept no
  // longer.
  void CloseAll();

  // Waits until every endpoint that was ever made is gone. Not on a loop. The leases must fall meanwhile or before.
  void AwaitEmpty();

 private:
  friend class EndpointLease;
  struct Entry {
    uint64_t id = 0;
    Ref<Endpoint> endpoint;
    uint32_t leases = 0;
  };
  struct Walk;
  void Return(Ref<Endpoint> endpoint);
  void OnGone(uint64_t id, absl::string_view scheme, const EndpointTotals& last);
  void BeginWalk() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void VisitSome(const std::shared_ptr<Walk>& walk, size_t loop);  // on that loop
  void EndWalk(Walk& walk);
  absl::StatusOr<Entry*> FindNamed(absl::Span<const Target> names) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Ref<Endpoint> Remove(Entry* entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::vector<Loop*> loops_;
  const EndpointLimits limits_;
  const OnHealthChange on_health_change_;
  mutable Mutex mutex_;
  CondVar gone_signal_;
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::btree_map<uint64_t, Endpoint*> alive_ ABSL_GUARDED_BY(mutex_);  // leased, or on the way out
  // Of what is gone, by scheme. An endpoint that the audit at hand has visited must not count again by being gone.
  std::map<std::string, EndpointTotals, std::less<>> gone_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, EndpointTotals, std::less<>> gone_since_visit_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<Walk>> walks_ ABSL_GUARDED_BY(mutex_);  // the audit at hand, and those to come
  absl::node_hash_map<absl::string_view, Entry> by_canonical_ ABSL_GUARDED_BY(mutex_);  // keys: Target::canonical
  absl::btree_map<uint64_t, Entry*> by_id_ ABSL_GUARDED_BY(mutex_);
  size_t drained_ ABSL_GUARDED_BY(mutex_) = 0;
  bool keeps_drained_ ABSL_GUARDED_BY(mutex_) = true;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ENDPOINT_ENDPOINT_POOL_H_
