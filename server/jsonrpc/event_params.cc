#include "server/jsonrpc/event_params.h"

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "transports/api/hops.h"
#include "transports/api/jsonrpc.h"

namespace eventvirtual {

std::string IdText(simdjson::dom::element id) {
  std::string text;
  if (id.is_string()) {
    AppendJsonString(View(id.get_string().value_unsafe()), &text);
  } else if (id.is_number() || id.is_null()) {
    text = simdjson::minify(id);
  }
  return text;
}

absl::StatusOr<int> HopsOf(simdjson::dom::element value) {
  if (value.is_string()) return ParseHops(View(value.get_string().value_unsafe()));
  return ParseHops(simdjson::minify(value));
}

bool IsEventName(absl::string_view name, size_t max_bytes) {
  return !name.empty() && name.size() <= max_bytes && absl::c_all_of(name, absl::ascii_isgraph);
}

void EventParams::Add(absl::string_view name, simdjson::dom::element value) {
  switch (value.type()) {
    case simdjson::dom::element_type::STRING:
      params_.push_back({name, View(value.get_string().value_unsafe())});
      break;
    case simdjson::dom::element_type::INT64:
      params_.push_back({name, int64_t{value.get_int64().value_unsafe()}});
      break;
    case simdjson::dom::element_type::DOUBLE:
      params_.push_back({name, value.get_double().value_unsafe()});
      break;
    case simdjson::dom::element_type::BOOL:
      params_.push_back({name, value.get_bool().value_unsafe()});
      break;
    case simdjson::dom::element_type::NULL_VALUE:
      params_.push_back({name, Null{}});
      break;
    default:
      texts_.push_back(simdjson::minify(value));
      params_.push_back({name, Json{texts_.back()}});
      break;
  }
}

absl::Status EventParams::Check(const EventLimits& limits) const { return CheckParams(params_, limits, "params"); }

MessageRef EventParams::MakeMessage(absl::string_view name, absl::string_view source, absl::Time received, int hops,
                                    absl::string_view jsonrpc) const {
  EventFields fields;
  fields.name = name;
  fields.params = params_;
  fields.event_time = received;
  fields.source = source;
  fields.jsonrpc = jsonrpc;
  fields.hops = hops;
  return Message::Make(fields);
}

}  // namespace eventvirtual
