// SubscriptionService: the control plane over gRPC. Checks, calls the registry, maps the status.
#ifndef EVENTVIRTUAL_SERVER_RPC_SUBSCRIPTION_SERVICE_H_
#define EVENTVIRTUAL_SERVER_RPC_SUBSCRIPTION_SERVICE_H_

#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "eventvirtual/v1/subscription.grpc.pb.h"
#include "server/durable/durable_delivery.h"
#include "server/journal/journal.h"
#include "server/limits/rates.h"
#include "server/registry/registry.h"
#include "server/rpc/gate.h"
#include "server/rpc/wire.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

class SubscriptionService final : public v1::SubscriptionService::CallbackService {
 public:
  SubscriptionService(Registry& registry, WireDefaults defaults) : registry_(registry), defaults_(defaults) {}

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

  // These expired before it served: each is told, once, to the first watch that wants it. Likewise.
  void TellExpired(std::vector<SubscriptionInfo> expired);

  grpc::ServerUnaryReactor* Subscribe(grpc::CallbackServerContext* context, const v1::SubscribeRequest* request,
                                      v1::SubscribeResponse* response) override;
  grpc::ServerUnaryReactor* Unsubscribe(grpc::CallbackServerContext* context, const v1::UnsubscribeRequest* request,
                                        v1::UnsubscribeResponse* response) override;
  grpc::ServerUnaryReactor* GetSubscription(grpc::CallbackServerContext* context,
                                            const v1::GetSubscriptionRequest* request,
                                            v1::GetSubscriptionResponse* response) override;
  grpc::ServerUnaryReactor* ListSubscriptions(grpc::CallbackServerContext* context,
                                              const v1::ListSubscriptionsRequest* request,
                                              v1::ListSubscriptionsResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchSubscriptionsResponse>* WatchSubscriptions(
      grpc::CallbackServerContext* context, const v1::WatchSubscriptionsRequest* request) override;

  // The server is stopping: every watch ends with OK, and new ones at once. Any thread.
  void EndWatches();

 private:
  class Watcher;

  absl::Status TakeRate(const grpc::CallbackServerContext& context) const;
  absl::StatusOr<Registry::Subscribed> DoSubscribe(const grpc::CallbackServerContext& context,
                                                   const v1::SubscribeRequest& request, const ClockBridge& bridge);
  void FinishAfterCommit(grpc::ServerUnaryReactor* reactor);
  absl::StatusOr<std::string> NameOf(const v1::UnsubscribeRequest& request) const;
  void End(const std::string& name, bool allow_missing, grpc::ServerUnaryReactor* reactor,
           v1::UnsubscribeResponse* response);
  std::vector<SubscriptionInfo> TakeExpired(absl::string_view event);

  Registry& registry_;
  const WireDefaults defaults_;
  const Gate* gate_ = nullptr;  // null: nobody is known
  Rates* rates_ = nullptr;
  Journal* journal_ = nullptr;          // null: nothing is kept
  DurableDelivery* durable_ = nullptr;  // null: nothing is durable
  Mutex mutex_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<Watcher*> watchers_ ABSL_GUARDED_BY(mutex_);
  std::vector<SubscriptionInfo> expired_ ABSL_GUARDED_BY(mutex_);  // and nobody has been told
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_SUBSCRIPTION_SERVICE_H_
