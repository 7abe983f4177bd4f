// A call that is understood says what the core then knows, whichever way it was read: an event that is taken, read back
// from what receivers get, is the same event and is taken again; a subscription that is taken, as it is shown, is taken
// again and is the same one. What is refused says which field, in few words.
#include <google/protobuf/util/message_differencer.h>
#include <simdjson.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/log/log.h"
#include "server/rpc/event_reader.h"
#include "server/rpc/wire.h"
#include "tests/server/dispatch/world.h"
#include "transports/api/check.h"
#include "transports/api/hops.h"
#include "transports/api/trace_context.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxError = 1024;  // and what it repeats of a socket
constexpr absl::string_view kParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
constexpr size_t kDeepJson = 4096;  // deeper than what is taken, by what is put around it

void CheckError(const absl::Status& status, size_t size, std::initializer_list<absl::string_view> fields) {
  EV_CHECK(absl::IsInvalidArgument(status) && status.message().size() <= size + kMaxError);
  EV_CHECK(std::any_of(fields.begin(), fields.end(),
                       [&status](absl::string_view field) { return absl::StartsWith(status.message(), field); }));
}

bool IsTime(const google::protobuf::Timestamp& time) {
  return time.seconds() >= -62135596800 && time.seconds() < 253402300800 && time.nanos() >= 0 &&
         time.nanos() < 1000000000;
}

// Few and small, so that a short input is more than is taken.
constexpr EventLimits kLimits{/*name_bytes=*/256, /*params=*/16, /*param_bytes=*/1024, /*depth=*/64};

bool IsSmall(const v1::Param& param) {
  return std::max({param.name().size(), param.string_value().size(), param.json_value().size()}) <= kLimits.param_bytes;
}

bool MayBeTaken(const v1::Event& event) {
  return !event.name().empty() && event.name().size() <= kLimits.name_bytes &&
         static_cast<size_t>(event.params_size()) <= kLimits.params &&
         std::all_of(event.params().begin(), event.params().end(), IsSmall) &&
         std::all_of(event.name().begin(), event.name().end(), [](char c) { return c > ' ' && c < '\x7f'; }) &&
         (!event.has_event_time() || IsTime(event.event_time()));
}

// As it says itself.
absl::StatusOr<int> HopsOf(const v1::Event& event) {
  const auto own = event.attributes().find(std::string(kEventHops));
  return own == event.attributes().end() ? 0 : ParseHops(own->second);
}

// The serialized text has no order of a map's entries.
bool IsSame(const google::protobuf::Message& a, const google::protobuf::Message& b) {
  return google::protobuf::util::MessageDifferencer::Equals(a, b);
}

void CheckTrace(const v1::Event& sent, const v1::Event& taken, bool call_has_one) {
  const auto own = sent.attributes().find(std::string(kTraceparent));
  const bool has_own = own != sent.attributes().end() && IsTraceparent(own->second);
  const auto parent = taken.attributes().find(std::string(kTraceparent));
  EV_CHECK((parent != taken.attributes().end()) == (has_own || call_has_one));
  if (has_own) EV_CHECK(parent->second == own->second);
  const auto state = taken.attributes().find(std::string(kTracestate));
  if (state != taken.attributes().end()) EV_CHECK(has_own && IsTracestate(state->second));
  size_t others = 0;
  for (const auto& [name, value] : sent.attributes()) {
    if (name == kTraceparent || name == kTracestate || name == kEventHops) continue;
    const auto found = taken.attributes().find(name);
    EV_CHECK(found != taken.attributes().end() && found->second == value);
    ++others;
  }
  EV_CHECK(taken.attributes_size() <= static_cast<int>(others) + 3);
}

void CheckEvent(const v1::Event& sent, bool call_has_trace) {
  const absl::Time received = absl::FromUnixSeconds(1790000000);
  CallContext call;
  if (call_has_trace) call.traceparent = std::string(kParent);
  const absl::StatusOr<MessageRef> message = MessageFromWire(sent, kLimits, received, call);
  const absl::StatusOr<int> hops = HopsOf(sent);
  if (!message.ok()) {
    CheckError(message.status(), 0, {"event.name: ", "event.params", "event.event_time: ", "eventhops: "});
    EV_CHECK(!MayBeTaken(sent) || !hops.ok() || absl::StrContains(message.status().message(), "].json_value: "));
    return;
  }
  EV_CHECK(MayBeTaken(sent) && hops.ok() && (*message)->hops() == *hops);
  v1::Event taken;
  const absl::string_view bytes = (*message)->encoded(Encoding::kProtobuf);
  EV_CHECK(taken.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  EV_CHECK(taken.name() == sent.name() && taken.source() == sent.source());
  EV_CHECK(!taken.event_id().empty() && (sent.event_id().empty() || taken.event_id() == sent.event_id()));
  EV_CHECK((*message)->id_was_given() == !sent.event_id().empty());
  if (sent.has_event_time()) {
    EV_CHECK(IsSame(taken.event_time(), sent.event_time()));
  } else {
    EV_CHECK(taken.event_time().seconds() == 1790000000);
  }
  EV_CHECK(taken.params_size() == sent.params_size());
  for (int i = 0; i < sent.params_size(); ++i) {
    const v1::Param &from = sent.params(i), &to = taken.params(i);
    EV_CHECK(to.name() == from.name());
    if (from.value_case() == v1::Param::VALUE_NOT_SET || from.value_case() == v1::Param::kNullValue) {
      EV_CHECK(to.value_case() == v1::Param::kNullValue);  // null_value: false is no other value
    } else {
      std::string sent_value, taken_value;  // by their bytes: NaN is not itself
      EV_CHECK(from.SerializeToString(&sent_value) && to.SerializeToString(&taken_value));
      EV_CHECK(sent_value == taken_value);
    }
  }
  CheckTrace(sent, taken, call_has_trace);

  std::string& told = (*taken.mutable_attributes())[std::string(kEventHops)];
  EV_CHECK(told == absl::StrCat(*hops + 1));
  told = absl::StrCat(*hops);
  const absl::StatusOr<MessageRef> again = MessageFromWire(taken, kLimits, absl::UnixEpoch());
  EV_CHECK(again.ok());
  for (Encoding encoding : {Encoding::kJsonRpc, Encoding::kJson, Encoding::kCloudEvents, Encoding::kCloudEventsBinary,
                            Encoding::kJsonRpcHops}) {
    const absl::string_view text = (*message)->encoded(encoding);
    EV_CHECK((*again)->encoded(encoding) == text || taken.attributes_size() > 2);  // a map has no order
    simdjson::dom::parser parser;
    EV_CHECK(parser.allocate(text.size() + 1, kDeepJson) == simdjson::SUCCESS);
    EV_CHECK(parser.parse(text.data(), text.size()).error() == simdjson::SUCCESS);
  }
}

// What is read where it stands is what protobuf reads; whatever it refuses is refused the same.
void CheckReader(absl::string_view bytes, const v1::Event& sent) {
  EventReader reader;
  WireEvent read;
  EV_CHECK(reader.Read(bytes, &read).ok());
  const absl::StatusOr<MessageRef> one = MessageFromWire(read, kLimits, absl::UnixEpoch());
  const absl::StatusOr<MessageRef> other = MessageFromWire(sent, kLimits, absl::UnixEpoch());
  EV_CHECK(one.ok() == other.ok());
  if (!one.ok()) return;
  v1::Event taken[2];
  for (int i = 0; i < 2; ++i) {
    const absl::string_view text = (i == 0 ? *one : *other)->encoded(Encoding::kProtobuf);
    EV_CHECK(taken[i].ParseFromArray(text.data(), static_cast<int>(text.size())));
    if (sent.event_id().empty()) taken[i].clear_event_id();
    // NaN is not itself.
    for (v1::Param& param : *taken[i].mutable_params()) {
      if (param.double_value() != param.double_value()) param.set_string_value("NaN");
    }
  }
  EV_CHECK(IsSame(taken[0], taken[1]));
}

RegistryLimits FewOfEach() {
  RegistryLimits limits;
  limits.max_subscriptions = 8;
  limits.max_events = 8;
  return limits;
}

void CheckSubscription(const v1::Subscription& sent) {
  static World* world = nullptr;  // a new one, unless the last one was not touched
  if (world == nullptr) world = new World({}, FewOfEach());
  const ClockBridge bridge(world->registry.clock());
  const auto check_error = [&sent](const absl::Status& status) {
    CheckError(status, sent.socket().size(),
               {"event: ", "socket: ", "policy: ", "subscribers[",
                "ttl: ", "expire_time: ", "never_expires: ", "expiration: ", "delivery.", "labels: "});
  };
  const absl::StatusOr<SubscriptionSpec> match = SpecFromWire(sent, {}, bridge, /*for_match=*/true);
  const absl::StatusOr<SubscriptionSpec> spec = SpecFromWire(sent, {}, bridge, /*for_match=*/false);
  if (!match.ok()) {
    EV_CHECK(match.status() == spec.status());
    return check_error(match.status());
  }
  if (!spec.ok()) return check_error(spec.status());
  EV_CHECK(spec->event == sent.event() && spec->filter == sent.filter());
  EV_CHECK(spec->subscribers.size() == match->subscribers.size() && !spec->subscribers.empty());
  EV_CHECK(spec->expires > bridge.now());
  EV_CHECK(spec->delivery.total_timeout > absl::ZeroDuration() && spec->delivery.max_event_age > absl::ZeroDuration());
  EV_CHECK(spec->delivery.failover_timeout >= absl::ZeroDuration());

  const absl::StatusOr<Registry::Subscribed> subscribed = world->registry.Subscribe(*spec);
  if (!subscribed.ok()) return;
  v1::Subscription shown;
  ToWire(subscribed->info, bridge, &shown);
  std::string bytes;
  EV_CHECK(shown.SerializeToString(&bytes) && shown.ParseFromString(bytes));  // a string that is no UTF-8 is not read
  v1::Subscription copy = shown;
  copy.clear_policy();
  copy.clear_subscribers();
  const absl::StatusOr<SubscriptionSpec> again = SpecFromWire(copy, {}, bridge, /*for_match=*/false);
  EV_CHECK(again.ok());
  EV_CHECK(again->event == spec->event && again->filter == shown.filter() && again->labels == spec->labels);
  EV_CHECK(again->expires == subscribed->info.expires);
  EV_CHECK(again->policy == spec->policy && again->subscribers.size() == spec->subscribers.size());
  EV_CHECK(again->delivery.failover_timeout == spec->delivery.failover_timeout);
  EV_CHECK(again->delivery.total_timeout == spec->delivery.total_timeout);
  EV_CHECK(again->delivery.max_event_age == spec->delivery.max_event_age);
  EV_CHECK(again->delivery.max_attempts == spec->delivery.max_attempts);
  if (!absl::StrContains(shown.socket(), "***")) {  // else it is shown without its password
    const absl::StatusOr<Registry::Subscribed> refreshed = world->registry.Subscribe(*again);
    EV_CHECK(refreshed.ok() && !refreshed->created && refreshed->info.name == subscribed->info.name);
  }
  delete std::exchange(world, nullptr);
}

}  // namespace
}  // namespace eventvirtual

// The first byte says what the rest is: an Event, one in a call that belongs to a trace, or a Subscription.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace eventvirtual;  // NOLINT: this is the property
  SetLogLevel(LogLevel::kError);
  if (size == 0) return 0;
  if (data[0] % 3 == 2) {
    v1::Subscription subscription;
    if (subscription.ParseFromArray(data + 1, static_cast<int>(size - 1))) CheckSubscription(subscription);
    return 0;
  }
  const absl::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  v1::Event event;
  if (event.ParseFromArray(data + 1, static_cast<int>(size - 1))) {
    // Unknown fields are nobody's. Not the event's own: on a message with a map, protobuf's reflection crashes under
    // ThreadSanitizer, for which it is not instrumented.
    if (event.has_event_time()) event.mutable_event_time()->DiscardUnknownFields();
    for (v1::Param& param : *event.mutable_params()) param.DiscardUnknownFields();
    CheckEvent(event, data[0] % 3 == 1);
    CheckReader(bytes, event);
  } else {
    EventReader reader;
    WireEvent read;
    CheckError(reader.Read(bytes, &read), 0, {"event: ", "event."});
  }
  v1::RaiseStreamRequest request;
  WireBatch batch;
  const absl::Status whole = ReadBatch(bytes, &batch);
  if (!whole.ok()) {
    CheckError(whole, 0, {"the request: ", "sequence: ", "wait: ", "events["});
    EV_CHECK(!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  } else if (request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {  // else an event is broken
    EV_CHECK(batch.sequence == request.sequence() && batch.wait == request.wait());
    EV_CHECK(static_cast<int>(batch.events.size()) == request.events_size());
  }
  return 0;
}
