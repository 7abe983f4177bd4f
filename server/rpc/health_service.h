// HealthService: grpc.health.v1, for load balancers, orchestrators and grpcurl.
#ifndef EVENTVIRTUAL_SERVER_RPC_HEALTH_SERVICE_H_
#define EVENTVIRTUAL_SERVER_RPC_HEALTH_SERVICE_H_

#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "grpc/health/v1/health.pb.h"
#include "server/rpc/calls.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// All services of this server have one status: it does not follow the subscribers, since a broker's outage must not
// make an orchestrator restart us. Any thread.
class HealthService final {
 public:
  // NOT_SERVING at first. `services`: the full names that are known; "" is the server as a whole.
  explicit HealthService(std::set<std::string> services) : services_(std::move(services)) {}

  void SetServing(bool serving);
  bool serving() const;
  // Every watch tells its last status and ends with OK; new ones end at once.
  void EndWatches();

  void Check(UnaryCall* call, const grpc::health::v1::HealthCheckRequest* request,
             grpc::health::v1::HealthCheckResponse* response);
  void Watch(Call* call, const grpc::health::v1::HealthCheckRequest* request);

  void AddTo(Calls* calls);  // its methods

 private:
  class Watcher;
  using Status = grpc::health::v1::HealthCheckResponse::ServingStatus;

  const std::set<std::string> services_;
  mutable Mutex mutex_;
  Status status_ ABSL_GUARDED_BY(mutex_) = grpc::health::v1::HealthCheckResponse::NOT_SERVING;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<Watcher*> watchers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_HEALTH_SERVICE_H_
