#include "server/rpc/health_service.h"

namespace eventvirtual {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// One watch: writes the newest status when it differs from the last one written. Guarded by the service's mutex.
class HealthService::Watcher final : public WriteReactor<HealthCheckResponse> {
 public:
  Watcher(Call* call, HealthService& service, bool known) : WriteReactor(call), service_(service), known_(known) {}

  // Writes or ends, if there is something to write or a reason to end. The service's mutex is held, which keeps
  // OnDone() from destroying this meanwhile.
  void Step() ABSL_EXCLUSIVE_LOCKS_REQUIRED(service_.mutex_) {
    if (writing_ || finished_) return;
    const Status status = known_ ? service_.status_ : HealthCheckResponse::SERVICE_UNKNOWN;
    if (!gone_ && (!told_ || status != response_.status())) {
      writing_ = told_ = true;
      response_.set_status(status);
      StartWrite(&response_);
    } else if (gone_ || service_.ending_) {
      finished_ = true;
      Finish(grpc::Status::OK);
    }
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&service_.mutex_);
    writing_ = false;
    gone_ = gone_ || !ok;
    Step();
  }
  void OnCancel() override {
    MutexLock lock(&service_.mutex_);
    gone_ = true;
    Step();
  }
  void OnDone() override {
    {
      MutexLock lock(&service_.mutex_);
      service_.watchers_.erase(this);
    }
    delete this;
  }

 private:
  HealthService& service_;
  const bool known_;
  HealthCheckResponse response_;
  bool told_ = false;
  bool writing_ = false;
  bool gone_ = false;
  bool finished_ = false;
};

void HealthService::SetServing(bool serving) {
  MutexLock lock(&mutex_);
  status_ = serving ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
  for (Watcher* watcher : watchers_) watcher->Step();
}

bool HealthService::serving() const {
  MutexLock lock(&mutex_);
  return status_ == HealthCheckResponse::SERVING;
}

void HealthService::EndWatches() {
  MutexLock lock(&mutex_);
  ending_ = true;
  for (Watcher* watcher : watchers_) watcher->Step();
}

void HealthService::Check(UnaryCall* call, const HealthCheckRequest* request, HealthCheckResponse* response) {
  if (services_.count(request->service()) == 0) {
    call->Finish(grpc::Status(grpc::StatusCode::NOT_FOUND, "there is no service \"" + request->service() + "\""));
    return;
  }
  {
    MutexLock lock(&mutex_);
    response->set_status(status_);
  }
  call->Finish(grpc::Status::OK);
}

void HealthService::Watch(Call* call, const HealthCheckRequest* request) {
  auto* const watcher = new Watcher(call, *this, services_.count(request->service()) > 0);
  MutexLock lock(&mutex_);
  watchers_.insert(watcher);
  watcher->Step();
}

void HealthService::AddTo(Calls* calls) {
  calls->AddUnary<HealthCheckRequest, HealthCheckResponse>(
      "grpc.health.v1.Health/Check", [this](UnaryCall* call, const HealthCheckRequest* request,
                                            HealthCheckResponse* response) { Check(call, request, response); });
  calls->AddServerStream<HealthCheckRequest>(
      "grpc.health.v1.Health/Watch", [this](Call* call, const HealthCheckRequest* request) { Watch(call, request); });
}

}  // namespace eventvirtual
