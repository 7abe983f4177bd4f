#include "server/rpc/operator_service.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/dispatch/explain.h"
#include "server/log/log.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxPageBytes = 1 << 20;  // and one entry more: an enrollment may have thousands of events
constexpr size_t kMaxExplained = 1000;     // subscriptions
constexpr absl::string_view kCanary = "E_EVENTVIRTUAL_PROBE";

absl::Status NothingIsKept() {
  return absl::FailedPreconditionError("this server keeps no events, so there are no dead letters: no --data_dir");
}

}  // namespace

void OperatorService::ListTransports(UnaryCall* call, const v1::ListTransportsRequest*,
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
  return call->Answer(absl::OkStatus());
}

void OperatorService::ListEndpoints(UnaryCall* call, const v1::ListEndpointsRequest* request,
                                    v1::ListEndpointsResponse* response) {
  const absl::StatusOr<uint64_t> after = NumberFromPageToken(request->page_token());
  if (!after.ok()) return call->Answer(after.status());
  const absl::StatusOr<size_t> size = PageSizeFromWire(request->page_size());
  if (!size.ok()) return call->Answer(size.status());
  const std::vector<EndpointPool::Listed> page = pool_.List(*after, *size);
  const ClockBridge bridge(registry_.clock());
  for (const EndpointPool::Listed& listed : page) {
    ToWire(listed.stats, listed.leases, defaults_.failover_timeout, bridge, response->add_endpoints());
  }
  if (page.size() == *size) response->set_next_page_token(PageTokenOf(page.back().id));
  return call->Answer(absl::OkStatus());
}

void OperatorService::ListEnrollments(UnaryCall* call, const v1::ListEnrollmentsRequest* request,
                                      v1::ListEnrollmentsResponse* response) {
  const absl::StatusOr<uint64_t> after = NumberFromPageToken(request->page_token());
  if (!after.ok()) return call->Answer(after.status());
  const absl::StatusOr<size_t> size = PageSizeFromWire(request->page_size());
  if (!size.ok()) return call->Answer(size.status());
  const std::vector<EnrollmentStatus> all = enroller_.List();
  const ClockBridge bridge(registry_.clock());
  uint64_t next = *after;
  for (; next < all.size() && next - *after < *size && response->ByteSizeLong() < kMaxPageBytes; ++next) {
    ToWire(all[next], bridge, response->add_enrollments());
  }
  if (next < all.size()) response->set_next_page_token(PageTokenOf(next));
  return call->Answer(absl::OkStatus());
}

void OperatorService::ProbeSubscriber(UnaryCall* call, const v1::ProbeSubscriberRequest* request,
                                      v1::ProbeSubscriberResponse* response) {
  const absl::StatusOr<Destination> destination = catalog_.Resolve(request->uri());
  const absl::Status admitted = destination.ok() ? catalog_.Admit(destination->target) : destination.status();
  if (!admitted.ok()) {
    return call->Answer(absl::Status(admitted.code(), absl::StrCat("uri: ", admitted.message())));
  }
  MessageRef canary;
  if (request->send_canary()) {
    canary = Message::Make({.name = kCanary, .event_time = absl::Now(), .source = "eventvirtual"});
  }
  prober_.Probe(*destination, std::move(canary),
                [call, response, ack_level = destination->target.ack_level](ProbeResult result) {
                  response->set_reachable(result.reachable);
                  response->set_ack_level(ToWire(ack_level));
                  response->set_code(static_cast<int>(result.status.code()));
                  response->set_error(std::string(result.status.message()));
                  ToWire(result.latency, response->mutable_latency());
                  call->Finish(grpc::Status::OK);
                });
}

void OperatorService::SetEndpointMode(UnaryCall* call, const v1::SetEndpointModeRequest* request,
                                      v1::SetEndpointModeResponse* response) {
  if (request->mode() != v1::SetEndpointModeRequest::MODE_DRAINED &&
      request->mode() != v1::SetEndpointModeRequest::MODE_ENABLED) {
    return call->Answer(absl::InvalidArgumentError("mode: give MODE_DRAINED or MODE_ENABLED"));
  }
  // As ListEndpoints shows it, which may not be read again with *** for a password; canonical but for that; or as it
  // was subscribed, so that defaults are to be added.
  std::vector<Target> names = {{.masked = request->uri()}};
  absl::Status unreadable;
  for (const bool canonical : {true, false}) {
    absl::StatusOr<Destination> destination = catalog_.Resolve(request->uri(), canonical);
    unreadable = destination.status();
    if (destination.ok()) names.push_back(std::move(destination->target));
  }
  const bool drained = request->mode() == v1::SetEndpointModeRequest::MODE_DRAINED;
  const absl::StatusOr<EndpointPool::Listed> endpoint = pool_.SetDrained(names, drained);
  if (absl::IsNotFound(endpoint.status()) && !unreadable.ok()) {
    return call->Answer(absl::InvalidArgumentError(absl::StrCat("uri: ", unreadable.message())));
  }
  if (!endpoint.ok()) return call->Answer(endpoint.status());
  Log(LogLevel::kInfo, drained ? "subscriber drained" : "subscriber enabled",
      {{"uri", endpoint->stats.uri}, {"by", call->context().peer()}});
  ToWire(endpoint->stats, endpoint->leases, defaults_.failover_timeout, ClockBridge(registry_.clock()),
         response->mutable_endpoint());
  return call->Answer(absl::OkStatus());
}

void OperatorService::ExplainDelivery(UnaryCall* call, const v1::ExplainDeliveryRequest* request,
                                      v1::ExplainDeliveryResponse* response) {
  const absl::StatusOr<MessageRef> message = MessageFromWire(request->event(), limits_, absl::Now());
  if (!message.ok()) return call->Answer(message.status());
  const Explanations explanations = Explain(registry_, **message, kMaxExplained);
  if (!explanations.known) return call->Answer(UnknownEvent((*message)->name()));
  response->set_omitted(explanations.omitted);
  size_t bytes = 0;
  for (const Explanation& explanation : explanations.subscriptions) {
    if (bytes >= kMaxPageBytes) {
      response->set_omitted(response->omitted() + 1);
      continue;
    }
    v1::ExplainDeliveryResponse::Plan* const plan = response->add_plans();
    ToWire(explanation, plan);
    bytes += plan->ByteSizeLong();
  }
  return call->Answer(absl::OkStatus());
}

void OperatorService::ListDeadLetters(UnaryCall* call, const v1::ListDeadLettersRequest* request,
                                      v1::ListDeadLettersResponse* response) {
  if (dead_letters_ == nullptr) return call->Answer(NothingIsKept());
  const absl::StatusOr<uint64_t> after = NumberFromPageToken(request->page_token());
  if (!after.ok()) return call->Answer(after.status());
  const absl::StatusOr<size_t> size = PageSizeFromWire(request->page_size());
  if (!size.ok()) return call->Answer(size.status());
  dead_letters_->List(request->event(), *after, *size,
                      [call, response](absl::StatusOr<std::vector<DeadLetter>> letters) {
                        if (!letters.ok()) return call->Finish(ToGrpc(letters.status()));
                        for (const DeadLetter& letter : *letters) ToWire(letter, response->add_dead_letters());
                        // One more page may be empty: how many there are behind it is not asked.
                        if (!letters->empty()) response->set_next_page_token(PageTokenOf(letters->back().id));
                        call->Finish(grpc::Status::OK);
                      });
}

void OperatorService::ReplayDeadLetters(UnaryCall* call, const v1::ReplayDeadLettersRequest* request,
                                        v1::ReplayDeadLettersResponse* response) {
  if (dead_letters_ == nullptr) return call->Answer(NothingIsKept());
  dead_letters_->Replay(
      request->event(), request->max_per_second(), [call] { return call->context().IsCancelled(); },
      [call, response](absl::StatusOr<DeadLetters::Replayed> replayed) {
        if (replayed.ok()) {
          response->set_replayed(replayed->replayed);
          response->set_failed(replayed->failed);
          response->set_error(std::string(replayed->why.message()));
        }
        call->Finish(ToGrpc(replayed.status()));
      });
}

void OperatorService::PurgeDeadLetters(UnaryCall* call, const v1::PurgeDeadLettersRequest* request,
                                       v1::PurgeDeadLettersResponse* response) {
  if (dead_letters_ == nullptr) return call->Answer(NothingIsKept());
  dead_letters_->Purge(request->event(), request->force(), [call, response](absl::StatusOr<uint64_t> count) {
    if (count.ok()) response->set_purge_count(*count);
    call->Finish(ToGrpc(count.status()));
  });
}

}  // namespace eventvirtual
