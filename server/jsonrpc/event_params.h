// What ingest and the management interface read alike in the JSON-RPC requests of OpenSIPS and its tools.
#ifndef EVENTVIRTUAL_SERVER_JSONRPC_EVENT_PARAMS_H_
#define EVENTVIRTUAL_SERVER_JSONRPC_EVENT_PARAMS_H_

#include <simdjson.h>

#include <cstddef>
#include <list>
#include <string>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/limits/limits.h"
#include "transports/api/message.h"

namespace eventvirtual {

inline absl::string_view View(std::string_view text) { return absl::string_view(text.data(), text.size()); }

// The "id" of a request as the JSON that stands in its answer: "7", "\"a\"", "null"; "": none of those.
std::string IdText(simdjson::dom::element id);

// The member "eventhops" of a request: a number of hops (hops.h), or a string that holds one. INVALID_ARGUMENT shows
// it.
absl::StatusOr<int> HopsOf(simdjson::dom::element value);

// One or more visible ASCII characters, up to `max_bytes`.
bool IsEventName(absl::string_view name, size_t max_bytes = EventLimits().name_bytes);

// Collects the parameters of one event. Views into the parsed document are kept: it must live as long.
class EventParams {
 public:
  EventParams() = default;
  EventParams(const EventParams&) = delete;

  // `name` is empty for a positional one. Arrays, objects, and integers from 2^63 to 2^64 - 1, are kept as JSON.
  void Add(absl::string_view name, simdjson::dom::element value);

  size_t size() const { return params_.size(); }

  // Whether they are not too many and none is too large; else the error that names the first. Add() does not look.
  absl::Status Check(const EventLimits& limits) const;

  // The event, which happened at `received` by the wall's clock, with `hops` behind it (hops.h). `jsonrpc`, unless
  // empty, is its text as it came, passed on as it is to who wants JSON-RPC.
  MessageRef MakeMessage(absl::string_view name, absl::string_view source, absl::Time received, int hops,
                         absl::string_view jsonrpc = {}) const;

 private:
  absl::InlinedVector<Param, 16> params_;
  std::list<std::string> texts_;  // what views of JSON point to
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_JSONRPC_EVENT_PARAMS_H_
