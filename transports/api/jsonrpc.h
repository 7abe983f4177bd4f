// The JSON-RPC 2.0 text that OpenSIPS' event modules put on the wire, byte for byte.
#ifndef EVENTVIRTUAL_TRANSPORTS_API_JSONRPC_H_
#define EVENTVIRTUAL_TRANSPORTS_API_JSONRPC_H_

#include <string>

#include "absl/strings/string_view.h"
#include "transports/api/message.h"

namespace eventvirtual {

struct JsonRpcOptions {
  absl::string_view id;      // a JSON value; when not empty the text is a request and "id" its first member
  absl::string_view method;  // replaces the event name in "method" when not empty
  absl::string_view
      event_param;    // when not empty and there are parameters: the event name is their first, named like this
  bool hops = false;  // "eventhops" (hops.h) is the last member, a number: OpenSIPS has none
};

// Appends one object: no spaces, no newline; members "id" (requests only), "jsonrpc", "method", "params" (only with
// parameters), "eventhops" (if asked for).
void AppendJsonRpc(const Message& message, const JsonRpcOptions& options, std::string* out);

// Appends the parameters: an array when none has a name and `event_param` is empty, else an object in which a nameless
// one is named by its position. Doubles print in the shortest form that reads back the same, from 2^63 on with an
// exponent; one that is not finite is null.
void AppendParams(const Message& message, absl::string_view event_param, std::string* out);

// Appends one value as JSON.
void AppendJsonValue(const Value& value, std::string* out);

// Appends `text` as a JSON string with its quotes: `"` and `\` escaped, \b \f \n \r \t, other bytes below 0x20 as
// \u00xx in lower case; all else unchanged.
void AppendJsonString(absl::string_view text, std::string* out);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_API_JSONRPC_H_
