#include "server/rpc/operator_service.h"

#include <string>
#include <vector>

namespace eventvirtual {
namespace {

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

grpc::ServerUnaryReactor* NotBuilt(grpc::CallbackServerContext* context, const char* what) {
  return Answer(context, absl::UnimplementedError(what));
}

}  // namespace

grpc::ServerUnaryReactor* OperatorService::ListTransports(grpc::CallbackServerContext* context,
                                                          const v1::ListTransportsRequest*,
                                                          v1::ListTransportsResponse* response) {
  for (const auto& transport : catalog_.transports()) {
    for (absl::string_view scheme : transport->schemes()) {
      v1::ListTransportsResponse::Transport* const entry = response->add_transports();
      entry->set_scheme(std::string(scheme));
      entry->set_syntax(std::string(transport->syntax()));
      entry->set_ack_level(ToWire(transport->ack_level()));
      entry->set_description(std::string(transport->description()));
    }
  }
  return Answer(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* OperatorService::ListEndpoints(grpc::CallbackServerContext* context,
                                                         const v1::ListEndpointsRequest* request,
                                                         v1::ListEndpointsResponse* response) {
  const absl::StatusOr<uint64_t> after = NumberFromPageToken(request->page_token());
  if (!after.ok()) return Answer(context, after.status());
  const absl::StatusOr<size_t> size = PageSizeFromWire(request->page_size());
  if (!size.ok()) return Answer(context, size.status());
  const std::vector<EndpointPool::Listed> page = pool_.List(*after, *size);
  const ClockBridge bridge(clock_);
  for (const EndpointPool::Listed& listed : page) {
    ToWire(listed.stats, listed.leases, defaults_.failover_timeout, bridge, response->add_endpoints());
  }
  if (page.size() == *size) response->set_next_page_token(PageTokenOf(page.back().id));
  return Answer(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* OperatorService::ProbeSubscriber(grpc::CallbackServerContext* context,
                                                           const v1::ProbeSubscriberRequest*,
                                                           v1::ProbeSubscriberResponse*) {
  return NotBuilt(context, "ProbeSubscriber is not built yet");
}

grpc::ServerUnaryReactor* OperatorService::SetEndpointMode(grpc::CallbackServerContext* context,
                                                           const v1::SetEndpointModeRequest*,
                                                           v1::SetEndpointModeResponse*) {
  return NotBuilt(context, "SetEndpointMode is not built yet");
}

grpc::ServerUnaryReactor* OperatorService::ExplainDelivery(grpc::CallbackServerContext* context,
                                                           const v1::ExplainDeliveryRequest*,
                                                           v1::ExplainDeliveryResponse*) {
  return NotBuilt(context, "ExplainDelivery is not built yet");
}

grpc::ServerUnaryReactor* OperatorService::ListDeadLetters(grpc::CallbackServerContext* context,
                                                           const v1::ListDeadLettersRequest*,
                                                           v1::ListDeadLettersResponse*) {
  return NotBuilt(context, "dead letters come with durable delivery, which is not built yet");
}

grpc::ServerUnaryReactor* OperatorService::ReplayDeadLetters(grpc::CallbackServerContext* context,
                                                             const v1::ReplayDeadLettersRequest*,
                                                             v1::ReplayDeadLettersResponse*) {
  return NotBuilt(context, "dead letters come with durable delivery, which is not built yet");
}

grpc::ServerUnaryReactor* OperatorService::PurgeDeadLetters(grpc::CallbackServerContext* context,
                                                            const v1::PurgeDeadLettersRequest*,
                                                            v1::PurgeDeadLettersResponse*) {
  return NotBuilt(context, "dead letters come with durable delivery, which is not built yet");
}

}  // namespace eventvirtual
