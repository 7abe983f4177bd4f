#include "server/rpc/call_interceptor.h"

#include <google/protobuf/descriptor.h>
#include <grpcpp/support/server_interceptor.h>

#include <memory>
#include <utility>
#include <vector>

#include "transports/api/check.h"

namespace eventvirtual {
namespace {

namespace experimental = grpc::experimental;

// One RPC. gRPC makes its calls one after the other.
class CallInterceptor final : public experimental::Interceptor {
 public:
  CallInterceptor(CallCounts::Method* method, const Clock& clock)
      : method_(method), clock_(clock), begun_(clock.Now()) {
    method_->started.fetch_add(1, std::memory_order_relaxed);
  }
  // Of one whose client has gone there may be no status.
  ~CallInterceptor() override {
    if (!ended_) End(grpc::StatusCode::CANCELLED);
  }

  void Intercept(experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(experimental::InterceptionHookPoints::PRE_SEND_STATUS)) {
      End(methods->GetSendStatus().error_code());
    }
    methods->Proceed();
  }

 private:
  void End(grpc::StatusCode code) {
    ended_ = true;
    method_->End(static_cast<size_t>(code), clock_.Now() - begun_);
  }

  CallCounts::Method* const method_;
  const Clock& clock_;
  const absl::Time begun_;
  bool ended_ = false;
};

class CallInterceptors final : public experimental::ServerInterceptorFactoryInterface {
 public:
  CallInterceptors(const CallCounts& counts, const Clock& clock) : counts_(counts), clock_(clock) {}
  experimental::Interceptor* CreateServerInterceptor(experimental::ServerRpcInfo* info) override {
    CallCounts::Method* const method = counts_.Find(info->method());
    return method == nullptr ? nullptr : new CallInterceptor(method, clock_);
  }

 private:
  const CallCounts& counts_;
  const Clock& clock_;
};

}  // namespace

void CountCalls(std::initializer_list<std::string> services, const Clock& clock, CallCounts* counts,
                grpc::ServerBuilder* builder) {
  for (const std::string& name : services) {
    const google::protobuf::ServiceDescriptor* const service =
        google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(name);
    EV_CHECK(service != nullptr);
    for (int i = 0; i < service->method_count(); ++i) {
      const google::protobuf::MethodDescriptor& method = *service->method(i);
      counts->Add(name, method.name(), method.client_streaming() || method.server_streaming());
    }
  }
  std::vector<std::unique_ptr<experimental::ServerInterceptorFactoryInterface>> creators;
  creators.push_back(std::make_unique<CallInterceptors>(*counts, clock));
  builder->experimental().SetInterceptorCreators(std::move(creators));
}

}  // namespace eventvirtual
