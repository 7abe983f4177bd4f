// What stands on the wire ↔ what the core knows: the one place where protobuf meets the core's types.
#ifndef EVENTVIRTUAL_SERVER_RPC_WIRE_H_
#define EVENTVIRTUAL_SERVER_RPC_WIRE_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "eventvirtual/v1/event.pb.h"
#include "eventvirtual/v1/operator.pb.h"
#include "eventvirtual/v1/subscription.pb.h"
#include "server/dispatch/dispatcher.h"
#include "server/dispatch/explain.h"
#include "server/durable/dead_letters.h"
#include "server/enroll/enrollment.h"
#include "server/limits/limits.h"
#include "server/registry/registry.h"
#include "server/rpc/event_reader.h"
#include "transports/api/message.h"

namespace eventvirtual {

// What a client may leave out.
struct WireDefaults {
  absl::Duration failover_timeout = absl::Seconds(30);
  absl::Duration attempt_timeout = absl::ZeroDuration();
};

// Moves between wall time, which the API speaks, and the registry's clock, which a step of the wall clock does not
// move.
class ClockBridge {
 public:
  explicit ClockBridge(const Clock& clock);
  absl::Time FromWall(absl::Time wall) const { return wall == absl::InfiniteFuture() ? wall : wall - ahead_; }
  absl::Time ToWall(absl::Time time) const { return time + ahead_; }
  absl::Time now() const { return now_; }

 private:
  absl::Time now_;
  absl::Duration ahead_;  // wall time minus the clock, at construction
};

// With google.rpc.RetryInfo in its details where a refusal says how long to wait (RetryAfter()).
grpc::Status ToGrpc(const absl::Status& status);

// INVALID_ARGUMENT names the field; UNIMPLEMENTED what a later version brings. `for_match`: only event and subscribers
// are read, as in UnsubscribeRequest.match.
absl::StatusOr<SubscriptionSpec> SpecFromWire(const v1::Subscription& subscription, const WireDefaults& defaults,
                                              const ClockBridge& bridge, bool for_match);
void ToWire(const SubscriptionInfo& info, const ClockBridge& bridge, v1::Subscription* out);
void ToWire(const EndpointStats& stats, uint32_t subscribers, absl::Duration failover_timeout,
            const ClockBridge& bridge, v1::EndpointStatus* out);
void ToWire(const EnrollmentStatus& status, const ClockBridge& bridge, v1::Enrollment* out);
void ToWire(const DeadLetter& letter, v1::DeadLetter* out);
v1::AckLevel ToWire(AckLevel level);
void ToWire(absl::Duration duration, google::protobuf::Duration* out);

// What a call says of its events, in its metadata.
struct CallContext {
  std::string traceparent, tracestate;  // empty unless they are valid
  std::string hops;                     // as given: what is no number is the event's fault
};
CallContext CallContextOf(const grpc::ServerContextBase& context);

// `received`, wall time: when the event happened, unless it says so itself. `call`: its trace, for an event without
// a valid traceparent of its own, and its hops, for an event without. A traceparent or tracestate that is not valid is
// left out, never an error. INVALID_ARGUMENT: name missing or not visible ASCII, more than `limits` allow, json_value
// that is not one JSON value, eventhops that is no number of hops (hops.h).
absl::StatusOr<MessageRef> MessageFromWire(const WireEvent& event, const EventLimits& limits, absl::Time received,
                                           const CallContext& call = {});
absl::StatusOr<MessageRef> MessageFromWire(const v1::Event& event, const EventLimits& limits, absl::Time received,
                                           const CallContext& call = {});
void ToWire(const DeliveryResult& delivery, v1::DeliveryOutcome* out);
void ToWire(const Explanation& explanation, v1::ExplainDeliveryResponse::Plan* out);
absl::Status UnknownEvent(absl::string_view event);  // strict events, and nobody knows the name

// Page tokens are decimal numbers; "" is 0. INVALID_ARGUMENT for anything else.
absl::StatusOr<uint64_t> NumberFromPageToken(const std::string& token);
std::string PageTokenOf(uint64_t number);  // 0 is ""
// 0: 100; at most 1000. INVALID_ARGUMENT when negative.
absl::StatusOr<size_t> PageSizeFromWire(int32_t page_size);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_WIRE_H_
