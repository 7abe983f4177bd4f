#include "server/rpc/wire.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/unknown_field_set.h>
#include <simdjson.h>

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "server/limits/rates.h"
#include "transports/api/check.h"
#include "transports/api/hops.h"
#include "transports/api/trace_context.h"

namespace eventvirtual {
namespace {

constexpr absl::Duration kMaxTtl = absl::Hours(24 * 3653);  // ten years
constexpr int32_t kDefaultPage = 100;
constexpr int32_t kMaxPage = 1000;

absl::Duration FromWire(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

void ToWire(absl::Time time, google::protobuf::Timestamp* out) {
  const timespec wall = absl::ToTimespec(time);
  out->set_seconds(wall.tv_sec);
  out->set_nanos(static_cast<int32_t>(wall.tv_nsec));
}

// Years 1 to 9999, as google/protobuf/timestamp.proto has it.
bool IsValid(int64_t seconds, int32_t nanos) {
  return seconds >= -62135596800 && seconds <= 253402300799 && nanos >= 0 && nanos <= 999999999;
}

absl::StatusOr<absl::Duration> NonNegative(const google::protobuf::Duration& duration, absl::string_view field) {
  const absl::Duration value = FromWire(duration);
  if (value < absl::ZeroDuration() || value > kMaxTtl) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": ", absl::FormatDuration(value), " is not from 0s to ", absl::FormatDuration(kMaxTtl)));
  }
  return value;
}

absl::StatusOr<absl::Time> ExpiryFromWire(const v1::Subscription& subscription, const ClockBridge& bridge) {
  switch (subscription.expiration_case()) {
    case v1::Subscription::kTtl: {
      const absl::Duration ttl = FromWire(subscription.ttl());
      if (ttl <= absl::ZeroDuration() || ttl > kMaxTtl) {
        return absl::InvalidArgumentError(
            absl::StrCat("ttl: ", absl::FormatDuration(ttl), " is not more than 0 and at most ten years"));
      }
      return bridge.now() + ttl;
    }
    case v1::Subscription::kExpireTime: {
      if (!IsValid(subscription.expire_time().seconds(), subscription.expire_time().nanos()))
        return absl::InvalidArgumentError("expire_time: not a valid timestamp");
      const absl::Time wall = absl::FromUnixSeconds(subscription.expire_time().seconds()) +
                              absl::Nanoseconds(subscription.expire_time().nanos());
      const absl::Time expires = bridge.FromWall(wall);
      if (expires <= bridge.now()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "expire_time: ", absl::FormatTime(absl::RFC3339_full, wall, absl::UTCTimeZone()), " is in the past"));
      }
      return expires;
    }
    case v1::Subscription::kNeverExpires:
      if (!subscription.never_expires()) {
        return absl::InvalidArgumentError("never_expires: false says nothing; give ttl or expire_time instead");
      }
      return absl::InfiniteFuture();
    case v1::Subscription::EXPIRATION_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("expiration: give ttl, expire_time or never_expires");
}

absl::StatusOr<Policy> PolicyFromWire(v1::Policy policy) {
  switch (policy) {
    case v1::POLICY_PARALLEL:
      return Policy::kParallel;
    case v1::POLICY_FAILOVER:
      return Policy::kFailover;
    case v1::POLICY_ROUND_ROBIN:
      return Policy::kRoundRobin;
    default:
      return absl::InvalidArgumentError(
          "policy: with subscribers, give POLICY_PARALLEL, POLICY_FAILOVER or POLICY_ROUND_ROBIN");
  }
}

absl::Status SubscribersFromWire(const v1::Subscription& subscription, const WireDefaults& defaults,
                                 SubscriptionSpec* spec) {
  if (!subscription.socket().empty()) {
    if (subscription.subscribers_size() > 0 || subscription.policy() != v1::POLICY_UNSPECIFIED) {
      return absl::InvalidArgumentError("socket: give either socket, or policy and subscribers, not both");
    }
    const absl::Status status = SetSocket(subscription.socket(), defaults.attempt_timeout, spec);
    if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat("socket: ", std::string(status.message())));
    return absl::OkStatus();
  }
  if (subscription.subscribers_size() == 0) {
    return absl::InvalidArgumentError("socket: give a socket, or policy and subscribers");
  }
  const absl::StatusOr<Policy> policy = PolicyFromWire(subscription.policy());
  if (!policy.ok()) return policy.status();
  spec->policy = *policy;
  for (const v1::Subscriber& subscriber : subscription.subscribers()) {
    const absl::StatusOr<absl::Duration> timeout = NonNegative(
        subscriber.attempt_timeout(), absl::StrCat("subscribers[", spec->subscribers.size(), "].attempt_timeout"));
    if (!timeout.ok()) return timeout.status();
    spec->subscribers.push_back(
        {subscriber.uri(), *timeout == absl::ZeroDuration() ? defaults.attempt_timeout : *timeout});
  }
  return absl::OkStatus();
}

// simdjson's parser keeps its buffers: one per thread.
absl::Status CheckJson(absl::string_view text, size_t max_depth, size_t param) {
  thread_local simdjson::dom::parser parser;
  simdjson::dom::element element;
  if (parser.max_depth() != max_depth + 1) {
    EV_CHECK(parser.allocate(parser.capacity(), max_depth + 1) == simdjson::SUCCESS);
  }
  const simdjson::error_code error = parser.parse(text.data(), text.size()).get(element);
  if (error == simdjson::SUCCESS) return absl::OkStatus();
  const std::string place = absl::StrCat("event.params[", param, "].json_value");
  if (error == simdjson::DEPTH_ERROR) return TooDeep(place, max_depth);
  return absl::InvalidArgumentError(absl::StrCat(place, ": not one JSON value: ", simdjson::error_message(error)));
}

// google.rpc.Status with one google.rpc.RetryInfo, both of which Debian has no C++ for: code = 1, message = 2,
// details = 3; retry_delay = 1.
std::string DetailsOf(const absl::Status& status, absl::Duration retry_after) {
  google::protobuf::Duration delay;
  eventvirtual::ToWire(retry_after, &delay);
  google::protobuf::UnknownFieldSet retry_info, details;
  retry_info.AddLengthDelimited(1, delay.SerializeAsString());
  google::protobuf::Any any;
  any.set_type_url("type.googleapis.com/google.rpc.RetryInfo");
  retry_info.SerializeToString(any.mutable_value());
  details.AddVarint(1, static_cast<uint64_t>(status.code()));
  details.AddLengthDelimited(2, std::string(status.message()));
  details.AddLengthDelimited(3, any.SerializeAsString());
  std::string text;
  details.SerializeToString(&text);
  return text;
}

v1::Enrollment::State StateToWire(EnrollmentStatus::State state) {
  switch (state) {
    case EnrollmentStatus::State::kWaiting:
      return v1::Enrollment::STATE_WAITING;
    case EnrollmentStatus::State::kEnrolled:
      return v1::Enrollment::STATE_ENROLLED;
    case EnrollmentStatus::State::kPartial:
      return v1::Enrollment::STATE_PARTIAL;
    case EnrollmentStatus::State::kFailing:
      return v1::Enrollment::STATE_FAILING;
  }
  return v1::Enrollment::STATE_UNSPECIFIED;
}

v1::Enrollment::Event::State StateToWire(EnrollmentStatus::Event::State state) {
  switch (state) {
    case EnrollmentStatus::Event::State::kWaiting:
      return v1::Enrollment::Event::STATE_WAITING;
    case EnrollmentStatus::Event::State::kEnrolled:
      return v1::Enrollment::Event::STATE_ENROLLED;
    case EnrollmentStatus::Event::State::kCovered:
      return v1::Enrollment::Event::STATE_COVERED;
    case EnrollmentStatus::Event::State::kRefused:
      return v1::Enrollment::Event::STATE_REFUSED;
  }
  return v1::Enrollment::Event::STATE_UNSPECIFIED;
}

v1::DeliveryOutcome::Outcome OutcomeToWire(DeliveryResult::Outcome outcome) {
  switch (outcome) {
    case DeliveryResult::Outcome::kDelivered:
      return v1::DeliveryOutcome::OUTCOME_DELIVERED;
    case DeliveryResult::Outcome::kPartial:
      return v1::DeliveryOutcome::OUTCOME_PARTIAL;
    case DeliveryResult::Outcome::kFailed:
      return v1::DeliveryOutcome::OUTCOME_FAILED;
    case DeliveryResult::Outcome::kFiltered:
      return v1::DeliveryOutcome::OUTCOME_FILTERED;
    case DeliveryResult::Outcome::kExpired:
      return v1::DeliveryOutcome::OUTCOME_EXPIRED;
    case DeliveryResult::Outcome::kPending:
      return v1::DeliveryOutcome::OUTCOME_PENDING;
    case DeliveryResult::Outcome::kDropped:
      return v1::DeliveryOutcome::OUTCOME_DROPPED;
    case DeliveryResult::Outcome::kDeadLettered:
      return v1::DeliveryOutcome::OUTCOME_DEAD_LETTERED;
  }
  return v1::DeliveryOutcome::OUTCOME_UNSPECIFIED;
}

v1::Attempt::Result ResultToWire(AttemptRecord::Result result) {
  switch (result) {
    case AttemptRecord::Result::kOk:
      return v1::Attempt::RESULT_OK;
    case AttemptRecord::Result::kFailed:
      return v1::Attempt::RESULT_FAILED;
    case AttemptRecord::Result::kUnknown:
      return v1::Attempt::RESULT_UNKNOWN;
    case AttemptRecord::Result::kRefused:
      return v1::Attempt::RESULT_REFUSED;
    case AttemptRecord::Result::kSkipped:
      return v1::Attempt::RESULT_SKIPPED;
  }
  return v1::Attempt::RESULT_UNSPECIFIED;
}

using Attributes = absl::InlinedVector<std::pair<absl::string_view, absl::string_view>, 4>;

const absl::string_view* Find(const WireEvent& event, absl::string_view name) {
  for (const auto& [key, value] : event.attributes) {
    if (key == name) return &value;
  }
  return nullptr;
}

// The event's but its hops, with a valid trace context or none.
Attributes AttributesOf(const WireEvent& event, const CallContext& call) {
  Attributes attributes;
  if (event.attributes.empty() && call.traceparent.empty()) return attributes;
  const absl::string_view* const own = Find(event, kTraceparent);
  const bool has_own = own != nullptr && IsTraceparent(*own);
  for (const auto& [key, value] : event.attributes) {
    if (key == kEventHops) continue;
    if (key == kTraceparent && !has_own) continue;
    if (key == kTracestate && !(has_own && IsTracestate(value))) continue;  // it says nothing alone
    attributes.emplace_back(key, value);
  }
  if (!has_own && !call.traceparent.empty()) {
    attributes.emplace_back(kTraceparent, call.traceparent);
    if (!call.tracestate.empty()) attributes.emplace_back(kTracestate, call.tracestate);
  }
  return attributes;
}

absl::StatusOr<int> HopsOf(const WireEvent& event, const CallContext& call) {
  if (const absl::string_view* const own = Find(event, kEventHops)) return ParseHops(*own);
  return call.hops.empty() ? 0 : ParseHops(call.hops);
}

Value ValueOf(const v1::Param& param) {
  switch (param.value_case()) {
    case v1::Param::kStringValue:
      return absl::string_view(param.string_value());
    case v1::Param::kIntValue:
      return static_cast<int64_t>(param.int_value());
    case v1::Param::kDoubleValue:
      return param.double_value();
    case v1::Param::kBoolValue:
      return param.bool_value();
    case v1::Param::kJsonValue:
      return Json{param.json_value()};
    case v1::Param::kNullValue:
    case v1::Param::VALUE_NOT_SET:
      break;
  }
  return Null{};
}

// The metadata of a name, in their order.
std::vector<std::string> MetadataOf(const grpc::ServerContextBase& context, absl::string_view name) {
  std::vector<std::string> values;
  const auto [begin, end] = context.client_metadata().equal_range(grpc::string_ref(name.data(), name.size()));
  for (auto it = begin; it != end; ++it) values.emplace_back(it->second.data(), it->second.size());
  return values;
}

}  // namespace

void ToWire(absl::Duration duration, google::protobuf::Duration* out) {
  const int64_t seconds = absl::IDivDuration(duration, absl::Seconds(1), &duration);
  out->set_seconds(seconds);
  out->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
}

ClockBridge::ClockBridge(const Clock& clock) : now_(clock.Now()), ahead_(absl::Now() - now_) {}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const std::optional<absl::Duration> retry_after = RetryAfter(status);
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()),
                      retry_after.has_value() ? DetailsOf(status, *retry_after) : "");
}

absl::StatusOr<SubscriptionSpec> SpecFromWire(const v1::Subscription& subscription, const WireDefaults& defaults,
                                              const ClockBridge& bridge, bool for_match) {
  SubscriptionSpec spec;
  spec.event = subscription.event();
  if (spec.event.empty()) return absl::InvalidArgumentError("event: the name is empty");
  spec.filter = subscription.filter();
  if (absl::Status status = SubscribersFromWire(subscription, defaults, &spec); !status.ok()) return status;
  if (for_match) return spec;

  const absl::StatusOr<absl::Time> expires = ExpiryFromWire(subscription, bridge);
  if (!expires.ok()) return expires.status();
  spec.expires = *expires;

  const v1::DeliveryOptions& delivery = subscription.delivery();
  spec.delivery.durable = delivery.durable();
  spec.delivery.dead_letter_uri = delivery.dead_letter_uri();
  spec.delivery.failover_timeout = defaults.failover_timeout;
  if (delivery.has_failover_timeout()) {
    const auto value = NonNegative(delivery.failover_timeout(), "delivery.failover_timeout");
    if (!value.ok()) return value.status();
    spec.delivery.failover_timeout = *value;
  }
  const auto total = NonNegative(delivery.total_timeout(), "delivery.total_timeout");
  if (!total.ok()) return total.status();
  if (*total > absl::ZeroDuration()) spec.delivery.total_timeout = *total;
  const auto age = NonNegative(delivery.max_event_age(), "delivery.max_event_age");
  if (!age.ok()) return age.status();
  if (*age > absl::ZeroDuration()) spec.delivery.max_event_age = *age;
  spec.delivery.max_attempts = delivery.max_attempts();

  if (subscription.labels_size() > 64) return absl::InvalidArgumentError("labels: more than 64");
  for (const auto& [key, value] : subscription.labels()) {
    if (key.empty() || key.size() > 128 || value.size() > 1024) {
      return absl::InvalidArgumentError("labels: a key has 1 to 128 bytes, a value at most 1024");
    }
    spec.labels.emplace(key, value);
  }
  return spec;
}

void ToWire(const SubscriptionInfo& info, const ClockBridge& bridge, v1::Subscription* out) {
  out->set_name(info.name);
  out->set_event(info.event);
  out->set_filter(info.filter);
  out->set_socket(info.socket);
  out->set_policy(info.policy == Policy::kParallel   ? v1::POLICY_PARALLEL
                  : info.policy == Policy::kFailover ? v1::POLICY_FAILOVER
                                                     : v1::POLICY_ROUND_ROBIN);
  for (const SubscriptionInfo::Subscriber& subscriber : info.subscribers) {
    v1::Subscriber* const to = out->add_subscribers();
    to->set_uri(subscriber.uri);
    if (subscriber.attempt_timeout > absl::ZeroDuration())
      ToWire(subscriber.attempt_timeout, to->mutable_attempt_timeout());
    ToWire(subscriber.status, 0, info.delivery.failover_timeout, bridge, to->mutable_status());
  }
  if (info.expires == absl::InfiniteFuture()) {
    out->set_never_expires(true);
  } else {
    ToWire(bridge.ToWall(info.expires), out->mutable_expire_time());
    ToWire(std::max(info.expires - bridge.now(), absl::ZeroDuration()), out->mutable_remaining_ttl());
  }
  v1::DeliveryOptions* const delivery = out->mutable_delivery();
  ToWire(info.delivery.failover_timeout, delivery->mutable_failover_timeout());
  if (info.delivery.total_timeout != absl::InfiniteDuration()) {
    ToWire(info.delivery.total_timeout, delivery->mutable_total_timeout());
  }
  if (info.delivery.max_event_age != absl::InfiniteDuration()) {
    ToWire(info.delivery.max_event_age, delivery->mutable_max_event_age());
  }
  delivery->set_max_attempts(info.delivery.max_attempts);
  delivery->set_durable(info.delivery.durable);
  delivery->set_dead_letter_uri(info.delivery.dead_letter_uri);
  for (const auto& [key, value] : info.labels) (*out->mutable_labels())[key] = value;
  out->set_state(info.state == SubscriptionInfo::State::kActive     ? v1::Subscription::STATE_ACTIVE
                 : info.state == SubscriptionInfo::State::kDegraded ? v1::Subscription::STATE_DEGRADED
                                                                    : v1::Subscription::STATE_FAILING);
  ToWire(bridge.ToWall(info.created), out->mutable_create_time());
  out->set_raised_count(info.matched);
  out->set_delivered_count(info.delivered);
  out->set_failed_count(info.failed + info.partial + info.dropped + info.dead_lettered);
  out->set_dead_lettered_count(info.dead_lettered);
  out->set_filtered_count(info.filtered);
}

void ToWire(const EndpointStats& stats, uint32_t subscribers, absl::Duration failover_timeout,
            const ClockBridge& bridge, v1::EndpointStatus* out) {
  out->set_uri(stats.uri);
  switch (stats.health) {
    case EndpointStats::Health::kIdle:
      out->set_health(v1::EndpointStatus::HEALTH_IDLE);
      break;
    case EndpointStats::Health::kHealthy:
      out->set_health(v1::EndpointStatus::HEALTH_HEALTHY);
      break;
    case EndpointStats::Health::kProbing:
      out->set_health(v1::EndpointStatus::HEALTH_PROBING);
      break;
    case EndpointStats::Health::kDrained:
      out->set_health(v1::EndpointStatus::HEALTH_DRAINED);
      ToWire(bridge.ToWall(stats.drained_since), out->mutable_drained_time());
      break;
    case EndpointStats::Health::kFailing: {
      const absl::Time retry = stats.failing_since + failover_timeout;
      out->set_health(retry > bridge.now() ? v1::EndpointStatus::HEALTH_COOLING : v1::EndpointStatus::HEALTH_PROBING);
      if (retry > bridge.now()) ToWire(bridge.ToWall(retry), out->mutable_retry_time());
      break;
    }
  }
  if (stats.last_success != absl::InfinitePast()) {
    ToWire(bridge.ToWall(stats.last_success), out->mutable_last_success_time());
  }
  if (stats.last_failure != absl::InfinitePast()) {
    ToWire(bridge.ToWall(stats.last_failure), out->mutable_last_failure_time());
  }
  if (!stats.last_error.ok()) out->set_last_error(std::string(stats.last_error.message()));
  out->set_offered(stats.offered);
  out->set_delivered(stats.ok);
  out->set_failed(stats.failed + stats.timed_out);
  out->set_refused(stats.full + stats.down);
  out->set_queued(stats.queued);
  out->set_in_flight(stats.in_flight);
  ToWire(stats.latency_p50, out->mutable_latency_p50());
  ToWire(stats.latency_p99, out->mutable_latency_p99());
  out->set_subscriptions(subscribers);
  out->set_missed(stats.missed);
}

void ToWire(const EnrollmentStatus& status, const ClockBridge& bridge, v1::Enrollment* out) {
  out->set_opensips(status.opensips);
  out->set_ingest(status.ingest);
  out->set_state(StateToWire(status.state));
  out->set_error(status.error);
  if (status.last_answer != absl::InfinitePast()) {
    ToWire(bridge.ToWall(status.last_answer), out->mutable_last_answer_time());
  }
  for (const EnrollmentStatus::Event& event : status.events) {
    v1::Enrollment::Event* const entry = out->add_events();
    entry->set_name(event.name);
    entry->set_state(StateToWire(event.state));
    entry->set_error(event.error);
  }
  out->set_calls(status.counters.calls);
  out->set_unanswered(status.counters.unanswered);
  out->set_refused(status.counters.refused);
  out->set_restarts(status.counters.restarts);
  out->set_taken_over(status.counters.taken_over);
  out->set_notified(status.counters.notified);
  out->set_notify_refused(status.counters.notify_refused);
  out->set_notify_dropped(status.counters.notify_dropped);
}

v1::AckLevel ToWire(AckLevel level) {
  switch (level) {
    case AckLevel::kHandedToKernel:
      return v1::ACK_LEVEL_HANDED_TO_KERNEL;
    case AckLevel::kWritten:
      return v1::ACK_LEVEL_WRITTEN;
    case AckLevel::kConfirmed:
      return v1::ACK_LEVEL_CONFIRMED;
    case AckLevel::kDurable:
      return v1::ACK_LEVEL_DURABLE;
  }
  return v1::ACK_LEVEL_UNSPECIFIED;
}

CallContext CallContextOf(const grpc::ServerContextBase& context) {
  CallContext call;
  call.hops = absl::StrJoin(MetadataOf(context, kEventHops), ",");  // several are no number
  const std::vector<std::string> parents = MetadataOf(context, kTraceparent);
  if (parents.size() != 1 || !IsTraceparent(parents[0])) return call;  // of several none counts
  call.traceparent = parents[0];
  // Several count as one that was cut (section 3.3.1).
  if (std::string state = absl::StrJoin(MetadataOf(context, kTracestate), ","); IsTracestate(state)) {
    call.tracestate = std::move(state);
  }
  return call;
}

absl::StatusOr<MessageRef> MessageFromWire(const WireEvent& event, const EventLimits& limits, absl::Time received,
                                           const CallContext& call) {
  if (event.name.empty()) return absl::InvalidArgumentError("event.name: the name is empty");
  if (event.name.size() > limits.name_bytes) {
    return Exceeded(Limit::kEventName, "event.name", event.name.size(), "bytes", limits.name_bytes);
  }
  for (size_t i = 0; i < event.name.size(); ++i) {
    if (!absl::ascii_isgraph(event.name[i])) {
      return absl::InvalidArgumentError(absl::StrCat("event.name: byte ", i, " is not a visible ASCII character"));
    }
  }
  if (event.has_time && !IsValid(event.seconds, event.nanos)) {
    return absl::InvalidArgumentError("event.event_time: not a valid timestamp");
  }
  for (size_t i = 0; i < event.params.size(); ++i) {
    const Json* const json = std::get_if<Json>(&event.params[i].value);
    if (json == nullptr) continue;
    if (absl::Status status = CheckJson(json->text, limits.depth, i); !status.ok()) return status;
  }
  if (absl::Status status = CheckParams(event.params, limits, "event.params"); !status.ok()) return status;
  const absl::StatusOr<int> hops = HopsOf(event, call);
  if (!hops.ok()) return hops.status();
  const Attributes attributes = AttributesOf(event, call);
  EventFields fields;
  fields.name = event.name;
  fields.params = event.params;
  fields.event_id = event.event_id;
  fields.event_time = event.has_time ? absl::FromUnixSeconds(event.seconds) + absl::Nanoseconds(event.nanos) : received;
  fields.source = event.source;
  fields.attributes = attributes;
  fields.hops = *hops;
  return Message::Make(fields);
}

absl::StatusOr<MessageRef> MessageFromWire(const v1::Event& event, const EventLimits& limits, absl::Time received,
                                           const CallContext& call) {
  absl::InlinedVector<Param, 16> params;
  for (const v1::Param& param : event.params()) params.push_back({param.name(), ValueOf(param)});
  const Attributes attributes(event.attributes().begin(), event.attributes().end());
  WireEvent wire;
  wire.name = event.name();
  wire.event_id = event.event_id();
  wire.source = event.source();
  wire.params = params;
  wire.attributes = attributes;
  wire.has_time = event.has_event_time();
  wire.seconds = event.event_time().seconds();
  wire.nanos = event.event_time().nanos();
  return MessageFromWire(wire, limits, received, call);
}

void ToWire(const DeliveryResult& delivery, v1::DeliveryOutcome* out) {
  out->set_subscription(delivery.subscription->name());
  out->set_outcome(OutcomeToWire(delivery.outcome));
  for (const AttemptRecord& record : delivery.attempts) {
    const Target& target = delivery.subscription->subscribers[record.subscriber].endpoint->target();
    v1::Attempt* const to = out->add_attempts();
    to->set_uri(target.masked);
    to->set_result(ResultToWire(record.result));
    if (record.result == AttemptRecord::Result::kOk) to->set_ack_level(ToWire(target.ack_level));
    to->set_code(static_cast<int32_t>(record.status.code()));
    to->set_error(std::string(record.status.message()));
    ToWire(record.duration, to->mutable_duration());
  }
}

void ToWire(const Explanation& explanation, v1::ExplainDeliveryResponse::Plan* out) {
  out->set_subscription(explanation.subscription->name());
  out->set_event(explanation.subscription->event);
  out->set_matches(explanation.matches);
  out->set_reason(explanation.reason);
  for (const Explanation::Step& step : explanation.steps) {
    if (step.tried) out->add_order(step.uri);
    v1::ExplainDeliveryResponse::Step* const to = out->add_steps();
    to->set_uri(step.uri);
    to->set_tried(step.tried);
    to->set_reason(step.reason);
  }
}

absl::Status UnknownEvent(absl::string_view event) {
  return absl::NotFoundError(absl::StrCat("event \"", event, "\" is not known (--strict_events)"));
}

void ToWire(const DeadLetter& letter, v1::DeadLetter* out) {
  out->set_name(absl::StrCat("dead-letters/", letter.id));
  out->set_subscription(letter.subscription);
  out->mutable_event()->set_name(letter.event);
  if (letter.message) {
    const absl::string_view bytes = letter.message->encoded(Encoding::kProtobuf);
    EV_CHECK(out->mutable_event()->ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  }
  for (const KeptAttempt& attempt : letter.last_attempts) {
    v1::Attempt* const to = out->add_attempts();
    to->set_uri(attempt.uri);
    to->set_result(ResultToWire(attempt.result));
    if (attempt.result == AttemptRecord::Result::kOk) to->set_ack_level(ToWire(attempt.ack_level));
    to->set_code(static_cast<int32_t>(attempt.status.code()));
    to->set_error(std::string(attempt.status.message()));
    ToWire(attempt.duration, to->mutable_duration());
  }
  ToWire(letter.created, out->mutable_create_time());
  out->set_reason(letter.reason);
  out->set_attempt_count(letter.attempts);
}

absl::StatusOr<uint64_t> NumberFromPageToken(const std::string& token) {
  uint64_t number = 0;
  if (token.empty() || absl::SimpleAtoi(token, &number)) return number;
  return absl::InvalidArgumentError("page_token: not one that this server gave");
}

std::string PageTokenOf(uint64_t number) { return number == 0 ? "" : absl::StrCat(number); }

absl::StatusOr<size_t> PageSizeFromWire(int32_t page_size) {
  if (page_size < 0) return absl::InvalidArgumentError("page_size: must not be negative");
  return page_size == 0 ? kDefaultPage : std::min(page_size, kMaxPage);
}

}  // namespace eventvirtual
