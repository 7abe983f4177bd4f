// SubscriptionWatches: all calls of SubscriptionService.WatchSubscriptions.
#ifndef EVENTVIRTUAL_SERVER_RPC_SUBSCRIPTION_WATCHES_H_
#define EVENTVIRTUAL_SERVER_RPC_SUBSCRIPTION_WATCHES_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "eventvirtual/v1/subscription.pb.h"
#include "server/load/load.h"
#include "server/metrics/watch_counts.h"
#include "server/registry/registry.h"
#include "server/rpc/calls.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// The latest changes are kept once for all who watch, and each watch has its place among them: one whose caller does
// not read costs its call and nothing more. One that has fallen behind all that is kept ends with RESOURCE_EXHAUSTED as
// soon as its caller has taken what was written. Any thread.
class SubscriptionWatches final : private Registry::Observer {
 public:
  static constexpr size_t kKept = 10000;  // changes

  // They outlive it, and it outlives its calls.
  SubscriptionWatches(Registry& registry, const Load& load, WatchCounts& counts);
  ~SubscriptionWatches();

  // These expired before anything was served: each is told, once, to the first watch that wants it. Before any watch.
  void TellExpired(std::vector<SubscriptionInfo> expired);

  // Serves one call, of `event` alone unless it is empty. First those that exist, read from the registry one by one as
  // they are written, then SYNCED, then every change since the call began: one that came meanwhile is told, too.
  // RESOURCE_EXHAUSTED while watching is refused.
  void Watch(Call* call, std::string event);

  // Every watch ends with OK, and new ones at once.
  void End();

 private:
  class Watcher;
  struct Change {
    v1::WatchSubscriptionsResponse::Change change;
    SubscriptionInfo info;
  };

  void OnChange(Registry::Change change, const Subscription& subscription,
                absl::FunctionRef<SubscriptionInfo()> describe) override;
  std::deque<SubscriptionInfo> TakeExpired(const std::string& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Registry& registry_;
  const Load& load_;
  WatchCounts& counts_;
  Mutex mutex_;  // the registry's is locked before it
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Change> changes_ ABSL_GUARDED_BY(mutex_);  // empty while nobody watches
  uint64_t end_ ABSL_GUARDED_BY(mutex_) = 0;            // the place behind the last of them
  std::set<Watcher*> watchers_ ABSL_GUARDED_BY(mutex_);
  std::vector<Watcher*> idle_ ABSL_GUARDED_BY(mutex_);  // of these: have told all, and write nothing
  std::vector<SubscriptionInfo> expired_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_SUBSCRIPTION_WATCHES_H_
