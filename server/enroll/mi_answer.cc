#include "server/enroll/mi_answer.h"

#include <simdjson.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/jsonrpc/event_params.h"
#include "transports/api/jsonrpc.h"
#include "transports/io/printable.h"

namespace eventvirtual {
namespace {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

constexpr size_t kMaxErrorText = 200;                      // bytes of what a peer says
constexpr absl::Duration kDefaultExpire = absl::Hours(1);  // of event_subscribe
constexpr int64_t kNotFound = 404;
constexpr int64_t kMethodNotFound = -32601;

absl::Status ErrorOf(const object& error) {
  int64_t code = 0;
  std::string_view message, data;
  if (error["code"].get(code) != simdjson::SUCCESS || error["message"].get(message) != simdjson::SUCCESS) {
    return absl::FailedPreconditionError("an error without a code and a message");
  }
  std::string text = absl::StrCat(code, " ", View(message));
  if (error["data"].get(data) == simdjson::SUCCESS) absl::StrAppend(&text, " (", View(data), ")");
  text = Printable(absl::string_view(text).substr(0, kMaxErrorText));
  if (code == kNotFound) return absl::NotFoundError(text);
  if (code == kMethodNotFound) return absl::UnimplementedError(text);
  return absl::FailedPreconditionError(text);
}

absl::Status NoListing(absl::string_view what) {
  return absl::UnavailableError(absl::StrCat("the answer is no list of ", what));
}

absl::Duration TtlOf(const object& subscriber) {
  int64_t seconds = 0;
  std::string_view word;
  if (subscriber["ttl"].get(seconds) == simdjson::SUCCESS) return absl::Seconds(seconds);
  if (subscriber["expire"].get(word) == simdjson::SUCCESS && word == "never") return absl::InfiniteDuration();
  if (subscriber["expire"].get(seconds) == simdjson::SUCCESS) return absl::Seconds(seconds);  // older ones have no ttl
  return kDefaultExpire;
}

void AddSubscriber(std::string_view event, element listed, std::vector<ListedSubscriber>* subscribers) {
  object subscriber;
  std::string_view socket;
  if (listed.get(subscriber) != simdjson::SUCCESS || subscriber["socket"].get(socket) != simdjson::SUCCESS) return;
  subscribers->push_back({std::string(event), std::string(socket), TtlOf(subscriber)});
}

void AddEvent(element listed, std::vector<ListedSubscriber>* subscribers) {
  object event;
  std::string_view name;
  if (listed.get(event) != simdjson::SUCCESS || event["name"].get(name) != simdjson::SUCCESS) return;
  if (!IsEventName(View(name))) return;
  element one;
  array several;
  if (event["Subscriber"].get(one) == simdjson::SUCCESS) AddSubscriber(name, one, subscribers);
  if (event["Subscribers"].get(several) != simdjson::SUCCESS) return;
  for (element subscriber : several) AddSubscriber(name, subscriber, subscribers);
}

}  // namespace

std::string MiCallText(uint32_t id, absl::string_view method, absl::string_view params) {
  std::string text = absl::StrCat(R"({"jsonrpc":"2.0","id":)", id, R"(,"method":)");
  AppendJsonString(method, &text);
  absl::StrAppend(&text, R"(,"params":)", params, "}");
  return text;
}

std::optional<absl::StatusOr<std::string>> ReadMiAnswer(absl::string_view text, uint32_t id) {
  simdjson::dom::parser parser;
  object answer;
  if (parser.parse(text.data(), text.size()).get(answer) != simdjson::SUCCESS) {
    return absl::UnavailableError(absl::StrCat("the answer, ", text.size(), " bytes, is no JSON object"));
  }
  object error;
  const bool failed = answer["error"].get(error) == simdjson::SUCCESS;
  element answered;
  uint64_t number = 0;
  const bool has_id = answer["id"].get(answered) == simdjson::SUCCESS && !answered.is_null();
  // The error of a request that could not be read has no id to repeat.
  if (has_id ? answered.get(number) != simdjson::SUCCESS || number != id : !failed) return std::nullopt;
  if (failed) return ErrorOf(error);
  element result;
  if (answer["result"].get(result) != simdjson::SUCCESS) {
    return absl::UnavailableError("the answer has neither a \"result\" nor an \"error\"");
  }
  return simdjson::minify(result);
}

absl::StatusOr<std::vector<std::string>> ReadEventNames(absl::string_view result) {
  simdjson::dom::parser parser;
  object root;
  array events;
  if (parser.parse(result.data(), result.size()).get(root) != simdjson::SUCCESS ||
      root["Events"].get(events) != simdjson::SUCCESS) {
    return NoListing("events");
  }
  std::vector<std::string> names;
  for (element listed : events) {
    object event;
    std::string_view name;
    if (listed.get(event) != simdjson::SUCCESS || event["name"].get(name) != simdjson::SUCCESS) continue;
    if (IsEventName(View(name))) names.emplace_back(name);
  }
  return names;
}

absl::StatusOr<std::vector<ListedSubscriber>> ReadSubscribers(absl::string_view result) {
  simdjson::dom::parser parser;
  object root;
  if (parser.parse(result.data(), result.size()).get(root) != simdjson::SUCCESS) return NoListing("subscribers");
  std::vector<ListedSubscriber> subscribers;
  element one;
  array several;
  if (root["Event"].get(one) == simdjson::SUCCESS) {
    AddEvent(one, &subscribers);
  } else if (root["Events"].get(several) == simdjson::SUCCESS) {
    for (element event : several) AddEvent(event, &subscribers);
  } else {
    return NoListing("subscribers");
  }
  return subscribers;
}

}  // namespace eventvirtual
