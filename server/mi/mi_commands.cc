#include "server/mi/mi_commands.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "server/jsonrpc/event_params.h"
#include "server/log/log.h"
#include "server/version.h"
#include "transports/api/check.h"
#include "transports/api/jsonrpc.h"

namespace eventvirtual {
namespace {

constexpr int kInvalidParams = -32602;
constexpr absl::Duration kDefaultExpire = absl::Seconds(3600);
constexpr size_t kPage = 1000;  // subscriptions or events that are asked for under one lock of the registry
constexpr absl::Duration kLogPause = absl::Seconds(1);
constexpr absl::string_view kOk = "\"OK\"";

MiError NoSuchSubscriber() { return {404, "Subscriber does not exist", ""}; }
MiError ServerError(std::string data) { return {-32000, "Server error", std::move(data)}; }

std::string JsonString(absl::string_view text) {
  std::string json;
  AppendJsonString(text, &json);
  return json;
}

// "Thu Aug  6 09:03:00 2026", as ctime(3) writes it.
std::string CTime(absl::Time time) { return absl::FormatTime("%a %b %e %H:%M:%S %Y", time, absl::LocalTimeZone()); }

void AppendSubscriber(const Subscription& subscription, absl::Time now, std::string* out) {
  *out += "{\"socket\":";
  AppendJsonString(subscription.socket(), out);
  const absl::Time expires = subscription.expires.Load();
  if (expires == absl::InfiniteFuture()) {
    *out += R"(,"expire":"never")";
  } else {
    // The caller's seconds were added to its clock a moment before the registry looked at its own.
    const absl::Duration expire = expires - subscription.refreshed.Load() + absl::Milliseconds(500);
    const absl::Duration ttl = std::max(absl::Ceil(expires - now, absl::Seconds(1)), absl::ZeroDuration());
    absl::StrAppend(out, ",\"expire\":", absl::ToInt64Seconds(expire), ",\"ttl\":", absl::ToInt64Seconds(ttl));
  }
  if (!subscription.filter().empty()) {
    *out += ",\"filter\":";
    AppendJsonString(subscription.filter(), out);
  }
  *out += '}';
}

std::string NameAndId(absl::string_view name, uint32_t id) {
  return absl::StrCat("\"name\":", JsonString(name), ",\"id\":", id);
}

MiError TooLong(size_t max_answer) {
  return ServerError(absl::StrCat("the answer has more than ", max_answer, " bytes: ask for less, or over HTTP"));
}

// The parameters of raise_event: an array of texts and numbers, an object, or a string that holds an object. `parser`
// keeps what the string holds.
MiError ReadEventParams(simdjson::dom::element given, simdjson::dom::parser* parser, EventParams* params) {
  const MiError bad_params{400, "Bad Params", ""};
  if (given.is_array()) {
    const simdjson::dom::array values = given.get_array().value_unsafe();
    for (simdjson::dom::element value : values) {
      if (!value.is_string() && !value.is_number()) return bad_params;
      params->Add("", value);
    }
  } else if (given.is_object() || given.is_string() || given.is_number()) {
    const std::optional<std::string> text = TextOf(given);
    const auto error = text.has_value() ? parser->parse(*text).get(given) : simdjson::SUCCESS;
    if (error == simdjson::DEPTH_ERROR) CountExceeded(Limit::kDepth);
    if (error != simdjson::SUCCESS) return bad_params;
    simdjson::dom::object members;
    if (given.get(members) != simdjson::SUCCESS) return bad_params;
    for (const auto& [name, value] : members) params->Add(View(name), value);
  } else {
    return {400, "No Params", ""};
  }
  return {};
}

}  // namespace

std::string MiErrorText(const MiError& error, absl::string_view id) {
  return absl::StrCat(R"({"jsonrpc":"2.0","error":{"code":)", error.code, ",\"message\":", JsonString(error.message),
                      error.data.empty() ? "" : absl::StrCat(",\"data\":", JsonString(error.data)), "},\"id\":", id,
                      "}");
}

absl::Span<const MiCommands::Command> MiCommands::All() {
  static constexpr Command kAll[kCommands] = {
      {"event_subscribe", "evi:subscribe", {{"event", "socket", "expire"}, 2, 3}, &MiCommands::Subscribe},
      {"event_unsubscribe", "evi:unsubscribe", {{"event", "socket"}, 2, 2}, &MiCommands::Unsubscribe},
      {"events_list", "evi:list", {{}, 0, 0}, &MiCommands::ListEvents},
      {"subscribers_list", "evi:subscribers", {{"event", "socket"}, 0, 2}, &MiCommands::ListSubscribers},
      {"raise_event", "evi:raise", {{"event", "params"}, 1, 2}, &MiCommands::Raise},
      {"which", "core:which", {{"command"}, 0, 1}, &MiCommands::Which},
      {"uptime", "core:uptime", {{}, 0, 0}, &MiCommands::Uptime},
      {"version", "core:version", {{}, 0, 0}, &MiCommands::Version},
  };
  return kAll;
}

const MiCommands::Command* MiCommands::Find(absl::string_view name) {
  for (const Command& command : All()) {
    if (command.old_name == name || command.name == name) return &command;
  }
  return nullptr;
}

MiCommands::MiCommands(Registry& registry, Dispatcher& dispatcher, MiDefaults defaults, const MiCommandLimits& limits)
    : registry_(registry),
      dispatcher_(dispatcher),
      defaults_(defaults),
      limits_(limits),
      started_(registry.clock().Now()),
      parser_(limits.event.depth) {}

MiAnswer MiCommands::Handle(absl::string_view text, size_t max_answer, const std::string& principal) {
  const MiRequest request = parser_.Parse(text);
  const Command* const command = request.error.code == 0 ? Find(request.method) : nullptr;
  Result result = Run(command, request, max_answer, principal);
  MiAnswer answer;
  answer.id = request.id;
  answer.unreadable = request.error.code == -32700;
  answer.changed = result.changed;
  answer.commit = std::move(result.commit);
  if (!request.id.empty() && result.json.size() + request.id.size() > max_answer) result.error = TooLong(max_answer);
  Tallies& tallies = tallies_[command == nullptr ? kCommands : static_cast<size_t>(command - All().data())];
  (result.error.code == 0 ? tallies.done : tallies.refused).Add(1);
  if (request.id.empty()) return answer;
  answer.text = result.error.code != 0
                    ? MiErrorText(result.error, request.id)
                    : absl::StrCat(R"({"jsonrpc":"2.0","result":)", result.json, ",\"id\":", request.id, "}");
  return answer;
}

std::vector<MiCommands::Count> MiCommands::counts() const {
  std::vector<Count> counts;
  for (size_t i = 0; i <= kCommands; ++i) {
    counts.push_back(
        {i < kCommands ? All()[i].old_name : "unknown", tallies_[i].done.Read(), tallies_[i].refused.Read()});
  }
  return counts;
}

MiCommands::Result MiCommands::Run(const Command* command, const MiRequest& request, size_t max_answer,
                                   const std::string& principal) {
  if (request.error.code != 0) return {"", request.error};
  if (command == nullptr) return {"", {-32601, "Method not found", ""}};
  Call call;
  call.max_answer = max_answer;
  call.principal = principal;
  call.hops = request.hops;
  MiError error = MatchParams(request, command->signature, &call.arguments);
  if (error.code != 0) return {"", std::move(error)};
  return (this->*command->run)(call);
}

MiError MiCommands::ReadSpec(const MiArguments& arguments, SubscriptionSpec* spec) {
  const std::optional<std::string> event = TextOf(*arguments[0]), socket = TextOf(*arguments[1]);
  if (!event.has_value() || event->empty()) return BadType("event");
  if (!socket.has_value() || socket->empty()) return BadType("socket");
  spec->event = *event;
  spec->delivery.failover_timeout = defaults_.failover_timeout;
  spec->keeps_options = true;
  const absl::Status status = SetSocket(*socket, defaults_.attempt_timeout, spec);
  return status.ok() ? MiError{} : Refused(spec->event, status);
}

absl::Status MiCommands::TakeRate(Rates* rates, const Call& call) const {
  return rates == nullptr ? absl::OkStatus() : rates->Take(call.principal, registry_.clock().Now());
}

MiCommands::Result MiCommands::Subscribe(const Call& call) {
  SubscriptionSpec spec;
  absl::Duration expire = kDefaultExpire;
  if (call.arguments[2].has_value()) {
    const std::optional<int32_t> seconds = IntegerOf(*call.arguments[2]);
    if (!seconds.has_value()) return {"", BadType("expire")};
    if (*seconds < 0) return {"", {kInvalidParams, "Invalid params", "Negative expire value"}};
    expire = absl::Seconds(*seconds);
  }
  if (absl::Status status = TakeRate(limits_.changes, call); !status.ok()) return {"", Refused("", status)};
  if (MiError error = ReadSpec(call.arguments, &spec); error.code != 0) return {"", std::move(error)};
  spec.owner = call.principal;
  if (expire == absl::ZeroDuration()) return EndSubscription(spec, {std::string(kOk)});
  spec.expires = registry_.clock().Now() + expire;
  const absl::Status status = registry_.Subscribe(spec).status();
  if (!status.ok()) return {"", Refused(spec.event, status)};
  return {std::string(kOk), {}, /*changed=*/true};
}

MiCommands::Result MiCommands::Unsubscribe(const Call& call) {
  SubscriptionSpec spec;
  if (absl::Status status = TakeRate(limits_.changes, call); !status.ok()) return {"", Refused("", status)};
  if (MiError error = ReadSpec(call.arguments, &spec); error.code != 0) return {"", std::move(error)};
  return EndSubscription(spec, {"", NoSuchSubscriber()});
}

MiCommands::Result MiCommands::EndSubscription(const SubscriptionSpec& spec, const Result& unless_there) {
  const absl::Status status = registry_.UnsubscribeMatch(spec).status();
  if (absl::IsNotFound(status)) return unless_there;
  if (!status.ok()) return {"", Refused(spec.event, status)};
  return {std::string(kOk), {}, /*changed=*/true};
}

void MiCommands::LogRefusal(absl::string_view event, const absl::Status& why) {
  const absl::Time now = registry_.clock().Now();
  if (now >= log_not_before_) {
    log_not_before_ = now + kLogPause;
    Log(LogLevel::kWarning, "a command over MI is refused", {{"event", event}, {"error", why.message()}});
  }
}

MiError MiCommands::Refused(absl::string_view event, const absl::Status& why) {
  LogRefusal(event, why);
  if (absl::IsInvalidArgument(why) || absl::IsNotFound(why)) return {400, "Bad parameter value", ""};
  return ServerError(std::string(why.message()));
}

MiCommands::Result MiCommands::ListEvents(const Call& call) {
  std::vector<Registry::EventInfo> events;
  size_t size = 0;
  for (std::string after;;) {
    std::vector<Registry::EventInfo> page = registry_.ListEvents(after, kPage);
    if (page.empty()) break;
    after = page.back().name;
    for (Registry::EventInfo& event : page) {
      size += event.name.size();
      events.push_back(std::move(event));
    }
    if (size > call.max_answer) return {"", TooLong(call.max_answer)};
  }
  std::sort(events.begin(), events.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  const auto append = [](std::string* out, const Registry::EventInfo& event) {
    absl::StrAppend(out, "{", NameAndId(event.name, event.id), "}");
  };
  return {absl::StrCat("{\"Events\":[", absl::StrJoin(events, ",", append), "]}")};
}

MiCommands::Result MiCommands::ListSubscribers(const Call& call) {
  if (!call.arguments[0].has_value()) return ListSubscribersOf("", call.max_answer);
  const std::optional<std::string> event = TextOf(*call.arguments[0]);
  if (!event.has_value()) return {"", BadType("event")};
  if (!registry_.EventId(*event).has_value()) return {"", {404, "Event not published", ""}};
  if (!call.arguments[1].has_value()) return ListSubscribersOf(*event, call.max_answer);
  SubscriptionSpec spec;
  MiError error = ReadSpec(call.arguments, &spec);
  if (error.code == kInvalidParams) return {"", std::move(error)};
  const absl::StatusOr<Registry::Entry> entry = registry_.Match(spec);
  if (!entry.ok()) return {"", NoSuchSubscriber()};
  std::string subscriber;
  AppendSubscriber(*entry->subscription, registry_.clock().Now(), &subscriber);
  return {absl::StrCat("{\"Event\":{", NameAndId(spec.event, entry->event_id), ",\"Subscriber\":", subscriber, "}}")};
}

MiCommands::Result MiCommands::ListSubscribersOf(absl::string_view event, size_t max_answer) {
  const absl::Time now = registry_.clock().Now();
  std::map<uint32_t, std::string> by_event;  // in the order of the ids: one event's members, up to its last subscriber
  size_t size = 0;
  uint64_t after = 0;
  do {
    const Registry::EntryPage page = registry_.ListEntries(event, after, kPage);
    for (const Registry::Entry& entry : page.entries) {
      std::string& text = by_event[entry.event_id];
      const size_t before = text.size();
      text += before == 0 ? NameAndId(entry.subscription->event, entry.event_id) + ",\"Subscribers\":[" : ",";
      AppendSubscriber(*entry.subscription, now, &text);
      size += text.size() - before;
    }
    if (size > max_answer) return {"", TooLong(max_answer)};
    after = page.next;
  } while (after != 0);

  if (!event.empty()) {
    const absl::string_view only = by_event.empty() ? absl::string_view() : by_event.begin()->second;
    return {absl::StrCat("{\"Event\":{", only, only.empty() ? "}}" : "]}}")};
  }
  const auto append = [](std::string* out, const auto& text) { absl::StrAppend(out, "{", text.second, "]}"); };
  return {absl::StrCat("{\"Events\":[", absl::StrJoin(by_event, ",", append), "]}")};
}

MiCommands::Result MiCommands::Raise(const Call& call) {
  const MiError not_registered{404, "Event not registered", ""};
  const std::optional<std::string> event = TextOf(*call.arguments[0]);
  if (!event.has_value()) return {"", BadType("event")};
  if (absl::Status status = TakeRate(limits_.raises, call); !status.ok()) return {"", Refused(*event, status)};
  if (event->size() > limits_.event.name_bytes) {
    LogRefusal("", Exceeded(Limit::kEventName, "event", event->size(), "bytes", limits_.event.name_bytes));
  }
  if (!IsEventName(*event, limits_.event.name_bytes)) return {"", not_registered};
  EventParams params;
  simdjson::dom::parser params_parser;
  EV_CHECK(params_parser.allocate(0, limits_.event.depth + 2) == simdjson::SUCCESS);  // {"param":…
  if (call.arguments[1].has_value()) {
    MiError error = ReadEventParams(*call.arguments[1], &params_parser, &params);
    if (error.code != 0) return {"", std::move(error)};
    if (const absl::Status status = params.Check(limits_.event); !status.ok()) {
      LogRefusal(*event, status);
      return {"", {400, "Bad Params", ""}};
    }
  }
  const RaiseReceipt receipt = dispatcher_.Raise(params.MakeMessage(*event, "mi", absl::Now(), call.hops), nullptr);
  if (receipt.looped) return {"", ServerError("the event goes round in a loop: see --max_hops and --max_repeats")};
  if (!receipt.known) return {"", not_registered};
  if (receipt.shed) return {"", ServerError(std::string(receipt.refusal.message()))};
  // Who filters it out has been asked, too.
  const bool taken = receipt.matched > 0 ? receipt.accepted + receipt.durable > 0 : receipt.filtered > 0;
  if (!taken) return {"", {480, "Temporarily Unavailable", ""}};
  return {std::string(kOk), {}, /*changed=*/false, receipt.commit};
}

MiCommands::Result MiCommands::Which(const Call& call) {
  const auto quote = [](std::string* out, absl::string_view name) { AppendJsonString(name, out); };
  if (call.arguments[0].has_value()) {
    const std::optional<std::string> name = TextOf(*call.arguments[0]);
    if (!name.has_value()) return {"", BadType("command")};
    const Command* const command = Find(*name);
    if (command == nullptr) return {"", {404, "unknown MI command", ""}};
    std::vector<std::string> ways;  // to call it
    for (size_t given = command->signature.required; given <= command->signature.count; ++given) {
      const auto end = command->signature.names.begin() + given;
      ways.push_back(absl::StrCat("[", absl::StrJoin(command->signature.names.begin(), end, ",", quote), "]"));
    }
    return {absl::StrCat("[", absl::StrJoin(ways, ","), "]")};
  }
  std::vector<absl::string_view> names;
  for (const Command& command : All()) {
    names.push_back(command.old_name);
    names.push_back(command.name);
  }
  return {absl::StrCat("[", absl::StrJoin(names, ",", quote), "]")};
}

MiCommands::Result MiCommands::Uptime(const Call&) {
  const absl::Time now = registry_.clock().Now();
  return {absl::StrCat("{\"Now\":\"", CTime(now), "\",\"Up since\":\"", CTime(started_), "\",\"Up time\":\"",
                       absl::ToInt64Seconds(now - started_), " [sec]\"}")};
}

MiCommands::Result MiCommands::Version(const Call&) {
  return {absl::StrCat("{\"Server\":\"eventvirtual (", kVersion, ")\"}")};
}

}  // namespace eventvirtual
