// SubscriptionService: the control plane over gRPC. Checks, calls the registry, maps the status.
#ifndef EVENTVIRTUAL_SERVER_RPC_SUBSCRIPTION_SERVICE_H_
#define EVENTVIRTUAL_SERVER_RPC_SUBSCRIPTION_SERVICE_H_

#include <string>

#include "eventvirtual/v1/subscription.pb.h"
#include "server/durable/durable_delivery.h"
#include "server/journal/journal.h"
#include "server/limits/rates.h"
#include "server/load/load.h"
#include "server/metrics/watch_counts.h"
#include "server/registry/registry.h"
#include "server/rpc/calls.h"
#include "server/rpc/gate.h"
#include "server/rpc/subscription_watches.h"
#include "server/rpc/wire.h"

namespace eventvirtual {

class SubscriptionService final {
 public:
  SubscriptionService(Registry& registry, WireDefaults defaults, const Load& load, WatchCounts& watch_counts)
      : registry_(registry), defaults_(defaults), watches_(registry, load, watch_counts) {}

  // From here on a change is acknowledged when `journal`, which outlives this, has it. Only before anything is served.
  void AcknowledgeAfter(Journal* journal) { journal_ = journal; }

  // From here on each subscription is that of the principal whom `gate` knows, and calls that change some are refused
  // with RESOURCE_EXHAUSTED above its rate (`rates` null: there is none). Both outlive this. Likewise.
  void KnowOwners(const Gate* gate, Rates* rates) {
    gate_ = gate;
    rates_ = rates;
  }

  // Asks `durable`, which outlives this, how many events are left of one that is ended. Likewise.
  void CountBy(DurableDelivery* durable) { durable_ = durable; }

  SubscriptionWatches& watches() { return watches_; }

  void Subscribe(UnaryCall* call, const v1::SubscribeRequest* request, v1::SubscribeResponse* response);
  void Unsubscribe(UnaryCall* call, const v1::UnsubscribeRequest* request, v1::UnsubscribeResponse* response);
  void GetSubscription(UnaryCall* call, const v1::GetSubscriptionRequest* request,
                       v1::GetSubscriptionResponse* response);
  void ListSubscriptions(UnaryCall* call, const v1::ListSubscriptionsRequest* request,
                         v1::ListSubscriptionsResponse* response);
  void WatchSubscriptions(Call* call, const v1::WatchSubscriptionsRequest* request);

 private:
  absl::Status TakeRate(const grpc::ServerContextBase& context) const;
  absl::StatusOr<Registry::Subscribed> DoSubscribe(const grpc::ServerContextBase& context,
                                                   const v1::SubscribeRequest& request, const ClockBridge& bridge);
  void FinishAfterCommit(UnaryCall* call);
  absl::StatusOr<std::string> NameOf(const v1::UnsubscribeRequest& request) const;
  void End(const std::string& name, bool allow_missing, UnaryCall* call, v1::UnsubscribeResponse* response);

  Registry& registry_;
  const WireDefaults defaults_;
  const Gate* gate_ = nullptr;  // null: nobody is known
  Rates* rates_ = nullptr;
  Journal* journal_ = nullptr;          // null: nothing is kept
  DurableDelivery* durable_ = nullptr;  // null: nothing is durable
  SubscriptionWatches watches_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_SUBSCRIPTION_SERVICE_H_
