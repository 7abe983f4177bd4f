// HealthLog: the lines about subscribers that fail and work again.
#ifndef EVENTVIRTUAL_SERVER_REPORTS_HEALTH_LOG_H_
#define EVENTVIRTUAL_SERVER_REPORTS_HEALTH_LOG_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "server/endpoint/endpoint.h"
#include "server/registry/registry.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// Logs each health change. For one that fails the line says since when, why, how many events wait for it, and what
// becomes of those that come: that follows from the subscriptions that it is in, so they are counted here by what it is
// to them. For one that works again, how long it was down and what failed meanwhile.
class HealthLog final : private Registry::Observer {
 public:
  explicit HealthLog(Registry& registry);  // outlives it
  ~HealthLog();

  void OnHealthChange(const HealthChange& change);  // any thread

  // What becomes of its events: "FAILOVER goes on to the next (2 subscriptions), events to it alone fail (1)". Any
  // thread.
  std::string FateOfEvents(const Endpoint& endpoint) const;

 private:
  // What an endpoint is to a subscription.
  enum Role { kFailover, kLastOfFailover, kRoundRobin, kParallel, kAlone, kDurable };
  static constexpr size_t kRoles = 6;
  using Counts = std::array<uint32_t, kRoles>;

  static Role RoleOf(const Subscription& subscription, size_t subscriber);

  void OnChange(Registry::Change change, const Subscription& subscription,
                absl::FunctionRef<SubscriptionInfo()> describe) override;
  void Count(const Subscription& subscription, uint32_t step);

  Registry& registry_;
  mutable Mutex mutex_;
  absl::flat_hash_map<const Endpoint*, Counts> counts_ ABSL_GUARDED_BY(mutex_);  // only of those in a subscription
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_REPORTS_HEALTH_LOG_H_
