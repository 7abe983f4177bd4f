// What OpenSIPS' event modules send: one JSON-RPC object per event.
#ifndef EVENTVIRTUAL_SERVER_INGEST_OPENSIPS_EVENT_H_
#define EVENTVIRTUAL_SERVER_INGEST_OPENSIPS_EVENT_H_

#include <simdjson.h>

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/limits/limits.h"
#include "transports/api/message.h"

namespace eventvirtual {

// One object, understood or refused.
struct OpensipsEvent {
  MessageRef message;  // null: refused
  std::string id;      // of a request, as JSON: "7", "\"a\""; "null": unreadable; empty: a notification, gets no answer

  // When refused: the JSON-RPC error.
  int error_code = 0;  // -32700 parse error, -32600 invalid request, -32602 invalid params
  std::string error;
};

// Reads events. Keeps its buffers from one to the next; not thread-safe.
class OpensipsEventParser {
 public:
  // `event_param`: the parameter that carries the event's name, which is then taken out; "": "method" is the name.
  explicit OpensipsEventParser(std::string event_param, const EventLimits& limits = {});

  // What the wall's clock shows: for `received`.
  static absl::Time WallNow();

  // `text` is one JSON object. Named parameters come as an object, positional ones as an array; order and repeated
  // names are kept. Nested values, and integers from 2^63 to 2^64 - 1, are passed on as JSON; larger ones are no JSON
  // to this parser. What is no JSON as a whole keeps its id where that comes first,
  // as OpenSIPS writes it: told of the error, it fails over at once.
  // "eventhops", which a service like this one sends with encoding=jsonrpc-hops, is how many have delivered the event.
  // `received` by the wall's clock. A notification that says no more than the event is passed on as it came to who
  // wants JSON-RPC.
  OpensipsEvent Parse(absl::string_view text, absl::Time received);

 private:
  const std::string event_param_;
  const EventLimits limits_;
  simdjson::dom::parser parser_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_INGEST_OPENSIPS_EVENT_H_
