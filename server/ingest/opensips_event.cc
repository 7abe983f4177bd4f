#include "server/ingest/opensips_event.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "server/jsonrpc/event_params.h"
#include "transports/api/check.h"
#include "transports/api/hops.h"

namespace eventvirtual {
namespace {

constexpr int kParseError = -32700;
constexpr int kInvalidRequest = -32600;
constexpr int kInvalidParams = -32602;
constexpr size_t kAround = 2;  // arrays and objects around a parameter: {"params":{…

// The id of what cannot be parsed as a whole.
std::string LeadingId(absl::string_view text) {
  if (!absl::ConsumePrefix(&text, R"({"id":)")) return "null";
  const size_t end = text.find(',');
  if (end == absl::string_view::npos) return "null";
  // As JSON writes a number, so that the answer is JSON: without zeros in front, and no larger than parsers take.
  uint64_t id = 0;
  const std::string digits(text.substr(0, end));
  return absl::SimpleAtoi(digits, &id) && absl::StrCat(id) == digits ? digits : "null";
}

}  // namespace

OpensipsEventParser::OpensipsEventParser(std::string event_param, const EventLimits& limits)
    : event_param_(std::move(event_param)), limits_(limits) {
  EV_CHECK(parser_.allocate(0, limits_.depth + kAround + 1) == simdjson::SUCCESS);
}

absl::Time OpensipsEventParser::WallNow() { return absl::Now(); }

OpensipsEvent OpensipsEventParser::Parse(absl::string_view text, absl::Time received) {
  OpensipsEvent event;
  const auto refuse = [&event](int code, std::string why) {
    event.error_code = code;
    event.error = std::move(why);
    return std::move(event);
  };
  simdjson::dom::object root;
  if (const auto error = parser_.parse(text.data(), text.size()).get(root); error != simdjson::SUCCESS) {
    event.id = LeadingId(text);
    if (error == simdjson::DEPTH_ERROR) {
      return refuse(kParseError, absl::StrCat("Parse error: ", TooDeep("params", limits_.depth).message()));
    }
    return refuse(kParseError, absl::StrCat("Parse error: ", simdjson::error_message(error)));
  }

  // The first of each name counts.
  std::optional<simdjson::dom::element> id, version, method, values, hops_given;
  bool plain = true;  // nothing else, and nothing twice
  for (const auto& [key, value] : root) {
    std::optional<simdjson::dom::element>* const member = key == "jsonrpc"          ? &version
                                                          : key == "method"         ? &method
                                                          : key == "params"         ? &values
                                                          : key == "id"             ? &id
                                                          : View(key) == kEventHops ? &hops_given
                                                                                    : nullptr;
    if (member == nullptr || member->has_value()) {
      plain = false;
    } else {
      *member = value;
    }
  }
  if (id.has_value() && !id->is_null()) {
    event.id = IdText(*id);
    if (event.id.empty()) {
      event.id = "null";
      return refuse(kInvalidRequest, "Invalid Request: \"id\" is neither a number nor a string");
    }
  }
  if (!version.has_value() || !version->is_string() || version->get_string().value_unsafe() != "2.0") {
    return refuse(kInvalidRequest, "Invalid Request: \"jsonrpc\" is not \"2.0\"");
  }
  if (!method.has_value() || !method->is_string()) {
    return refuse(kInvalidRequest, "Invalid Request: \"method\", the event's name, is missing or not a string");
  }
  int hops = 0;
  if (hops_given.has_value()) {
    plain = false;  // the next is told another number
    const absl::StatusOr<int> given = HopsOf(*hops_given);
    if (!given.ok()) return refuse(kInvalidRequest, absl::StrCat("Invalid Request: ", given.status().message()));
    hops = *given;
  }

  absl::string_view name = View(method->get_string().value_unsafe());
  EventParams params;
  if (values.has_value()) {
    if (values->is_object()) {
      const simdjson::dom::object members = values->get_object().value_unsafe();
      for (const auto& [key, value] : members) {
        if (!event_param_.empty() && View(key) == event_param_ && value.is_string()) {
          name = View(value.get_string().value_unsafe());
          plain = false;
          continue;
        }
        plain = plain && !key.empty();
        params.Add(View(key), value);
      }
    } else if (values->is_array()) {
      const simdjson::dom::array elements = values->get_array().value_unsafe();
      for (simdjson::dom::element value : elements) params.Add("", value);
    } else {
      return refuse(kInvalidParams, "Invalid params: neither an object nor an array");
    }
  }
  if (const absl::Status status = params.Check(limits_); !status.ok()) {
    return refuse(kInvalidParams, absl::StrCat("Invalid params: ", status.message()));
  }
  if (name.size() > limits_.name_bytes) {
    const absl::Status status =
        Exceeded(Limit::kEventName, "the event's name", name.size(), "bytes", limits_.name_bytes);
    return refuse(kInvalidRequest, absl::StrCat("Invalid Request: ", status.message()));
  }
  if (!IsEventName(name, limits_.name_bytes)) {
    return refuse(kInvalidRequest, "Invalid Request: the event's name is not one or more visible ASCII characters");
  }
  // What says no more than the event is passed on as it came.
  plain = plain && !id.has_value() && params.size() > 0 && text.front() == '{' && text.back() == '}';
  event.message = params.MakeMessage(name, "opensips", received, hops, plain ? text : absl::string_view());
  return event;
}

}  // namespace eventvirtual
