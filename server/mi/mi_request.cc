#include "server/mi/mi_request.h"

#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/jsonrpc/event_params.h"
#include "transports/api/check.h"
#include "transports/api/hops.h"

namespace eventvirtual {
namespace {

constexpr size_t kAround = 3;    // arrays and objects around a parameter of an event: {"params":{"params":{…
constexpr size_t kMaxId = 1024;  // bytes: it must fit into the smallest answer

MiError InvalidParams(std::string data) { return {-32602, "Invalid params", std::move(data)}; }

size_t SizeOf(simdjson::dom::element params) {
  return params.is_array() ? params.get_array().value_unsafe().size() : params.get_object().value_unsafe().size();
}

bool FitsInteger(double value) {
  return value >= std::numeric_limits<int32_t>::min() && value <= std::numeric_limits<int32_t>::max();
}

}  // namespace

MiRequestParser::MiRequestParser(size_t depth) : depth_(depth) {
  EV_CHECK(parser_.allocate(0, depth_ + kAround + 1) == simdjson::SUCCESS);
}

MiRequest MiRequestParser::Parse(absl::string_view text) {
  MiRequest request;
  request.id = "null";  // of what is no request
  simdjson::dom::element root;
  if (const auto error = parser_.parse(text.data(), text.size()).get(root); error != simdjson::SUCCESS) {
    const bool too_deep = error == simdjson::DEPTH_ERROR;
    request.error = {-32700, "Parse error", too_deep ? std::string(TooDeep("params", depth_).message()) : ""};
    return request;
  }
  const MiError no_request{-32600, "Invalid Request", ""};
  simdjson::dom::object members;
  if (root.get(members) != simdjson::SUCCESS) {
    request.error = no_request;
    return request;
  }

  simdjson::dom::element id, params, hops;
  const bool is_notification = members["id"].get(id) != simdjson::SUCCESS;
  if (!is_notification) {
    const std::string id_text = IdText(id);
    if (id_text.empty() || id_text.size() > kMaxId) {
      request.error = no_request;
    } else {
      request.id = id_text;
    }
  }
  std::string_view version, method;
  if (members["jsonrpc"].get(version) != simdjson::SUCCESS || version != "2.0" ||
      members["method"].get(method) != simdjson::SUCCESS) {
    request.error = no_request;
  }
  request.method = View(method);
  if (members["params"].get(params) == simdjson::SUCCESS) {
    if (!params.is_array() && !params.is_object()) {
      request.error = no_request;
    } else if (SizeOf(params) > 0) {
      request.params = params;
    }
  }
  if (members.at_key(std::string_view(kEventHops.data(), kEventHops.size())).get(hops) == simdjson::SUCCESS) {
    const absl::StatusOr<int> given = HopsOf(hops);
    if (given.ok()) {
      request.hops = *given;
    } else {
      request.error = {-32600, "Invalid Request", std::string(given.status().message())};
    }
  }
  if (is_notification && request.error.code == 0) request.id.clear();
  return request;
}

MiError MatchParams(const MiRequest& request, const MiSignature& signature, MiArguments* arguments) {
  const size_t given = request.params.has_value() ? SizeOf(*request.params) : 0;
  if (given < signature.required || given > signature.count) return InvalidParams("Too few or too many parameters");
  if (given == 0) return {};
  if (request.params->is_array()) {
    const simdjson::dom::array values = request.params->get_array().value_unsafe();
    size_t i = 0;
    for (simdjson::dom::element value : values) (*arguments)[i++] = value;
    return {};
  }
  const simdjson::dom::object members = request.params->get_object().value_unsafe();
  for (size_t i = 0; i < given; ++i) {
    const absl::string_view name = signature.names[i];
    simdjson::dom::element value;
    if (members.at_key(std::string_view(name.data(), name.size())).get(value) != simdjson::SUCCESS) {
      return InvalidParams("Named parameters do not match");
    }
    (*arguments)[i] = value;
  }
  return {};
}

MiError BadType(absl::string_view name) { return InvalidParams(absl::StrCat("Bad type for parameter '", name, "'")); }

std::optional<std::string> TextOf(simdjson::dom::element value) {
  if (value.is_string()) return std::string(value.get_string().value_unsafe());
  if (value.is_int64()) return absl::StrCat(value.get_int64().value_unsafe());
  return std::nullopt;
}

std::optional<int32_t> IntegerOf(simdjson::dom::element value) {
  int32_t integer = 0;
  if (value.is_string()) {
    return absl::SimpleAtoi(View(value.get_string().value_unsafe()), &integer) ? std::optional(integer) : std::nullopt;
  }
  double number = 0;
  if (value.get(number) != simdjson::SUCCESS || !FitsInteger(number) || number != std::floor(number)) {
    return std::nullopt;
  }
  return static_cast<int32_t>(number);
}

}  // namespace eventvirtual
