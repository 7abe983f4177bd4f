// FailureReports: what fails in this service, raised as events that anybody may subscribe to.
//
//   E_EVI_SUBSCRIBER_DOWN  uri, error                        a destination has begun to fail
//   E_EVI_SUBSCRIBER_UP    uri                               it works again
//   E_EVI_DELIVERY_FAILED  subscription, event, event_id,    deliveries of one subscription have failed, in whole or in
//                          uri, error, failed, failed_total  part: the last of them, and how many since the last
//                          report;
//                          [, traceparent]                   and the trace of its event, if it has one
#ifndef EVENTVIRTUAL_SERVER_REPORTS_FAILURE_REPORTS_H_
#define EVENTVIRTUAL_SERVER_REPORTS_FAILURE_REPORTS_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/dispatch/dispatcher.h"
#include "server/registry/registry.h"
#include "transports/api/loop.h"
#include "transports/api/message.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// A destination is reported at most once a second, and so is a subscription; of each kind at most 100 leave within a
// tenth of a second, and what comes meanwhile waits and is counted. While nobody is subscribed to a report (patterns
// count) it is not made, and nothing is kept for it.
//
// Reports feed none: their own deliveries are not reported, nor is a destination that changes while nothing but reports
// is offered to it.
class FailureReports final : private Registry::Observer, private DeliveryObserver {
 public:
  static constexpr absl::string_view kSubscriberDown = "E_EVI_SUBSCRIBER_DOWN";
  static constexpr absl::string_view kSubscriberUp = "E_EVI_SUBSCRIBER_UP";
  static constexpr absl::string_view kDeliveryFailed = "E_EVI_DELIVERY_FAILED";

  // The first two, made of a health change: `why` is OK when `uri` works again.
  static MessageRef HealthReport(absl::string_view uri, const absl::Status& why);

  // Watches both, and raises on `loop`. All outlive it. Before anything is raised.
  FailureReports(Registry& registry, Dispatcher& dispatcher, Loop& loop);
  ~FailureReports();  // on the loop, or after it has stopped

  // Any thread; never blocks.
  void OnHealthChange(const HealthChange& change);

  // From here on nothing is reported. Any thread.
  void Stop() { stopped_.store(true, std::memory_order_relaxed); }

 private:
  enum Kind { kDown, kUp, kFailed };
  static constexpr int kKinds = 3;

  // What is to be said of one subscription.
  struct Failures {
    Ref<const Subscription> subscription;
    uint64_t count = 0;                                    // since the last report
    std::string event, event_id, traceparent, uri, error;  // of the last
  };

  void OnChange(Registry::Change change, const Subscription& subscription,
                absl::FunctionRef<SubscriptionInfo()> describe) override;
  void Count(const Subscription& subscription, int step);
  bool Wanted(Kind kind) const;
  void OnDelivery(const Message& message, const DeliveryResult& delivery) override;
  void Schedule() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Raise();  // on the loop: what is due
  std::vector<MessageRef> TakeDue(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Registry& registry_;
  Dispatcher& dispatcher_;
  Loop& loop_;
  std::atomic<int> wanted_[kKinds] = {};  // subscriptions that take it
  std::atomic<bool> stopped_{false};

  Mutex mutex_;
  absl::flat_hash_map<std::string, absl::Status> changes_ ABSL_GUARDED_BY(mutex_);  // by URI: the last one
  std::deque<std::string> changed_ ABSL_GUARDED_BY(mutex_);                         // its keys, in the order they came
  absl::flat_hash_map<const Subscription*, Failures> failures_ ABSL_GUARDED_BY(mutex_);
  std::multimap<absl::Time, const Subscription*> due_ ABSL_GUARDED_BY(mutex_);  // its keys: not to be said before
  bool scheduled_ ABSL_GUARDED_BY(mutex_) = false;                              // Raise() comes as soon as it may

  // On the loop.
  std::unique_ptr<Loop::Timer> timer_;
  absl::Time turn_ends_ = absl::InfinitePast();
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_REPORTS_FAILURE_REPORTS_H_
