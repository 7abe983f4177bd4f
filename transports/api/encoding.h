// What stands on the wire for one event: the encodings a subscriber may choose by the option "encoding".
#ifndef EVENTVIRTUAL_TRANSPORTS_API_ENCODING_H_
#define EVENTVIRTUAL_TRANSPORTS_API_ENCODING_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "transports/api/message.h"
#include "transports/api/uri.h"

namespace eventvirtual {

// What `message` is in `encoding`, appended to `out`. Message::encoded() keeps it; call that instead.
//   kJsonRpc            {"jsonrpc":"2.0","method":NAME,"params":PARAMS}, OpenSIPS' own, see AppendJsonRpc()
//   kJson               {"event":NAME,"event_id":…,"event_time":…,"source":…,"attributes":{…},"params":PARAMS}; source
//                       and params only if there are any; the time as RFC 3339, in UTC
//   kCloudEvents        CloudEvents 1.0 in the structured JSON mode (media type application/cloudevents+json); "data"
//                       is PARAMS, and absent without parameters; context attributes as ForEachCloudEventAttribute()
//                       says
//   kCloudEventsBinary  the body of the binary mode: PARAMS, {} without parameters. The context attributes go where the
//                       transport's binding puts them
//   kProtobuf           eventvirtual.v1.Event of proto/eventvirtual/v1/event.proto
//   kJsonRpcHops        kJsonRpc with one more member, "eventhops":HOPS, the last
// Those of kJson, kCloudEvents, kProtobuf have "eventhops" (hops.h) as their first attribute.
// PARAMS is an array when no parameter has a name, else an object, as in the JSON-RPC text.
void AppendEncoded(const Message& message, Encoding encoding, std::string* out);

// The media type of that text.
absl::string_view ContentType(Encoding encoding);

// Reads the option "encoding": "jsonrpc" (the default), "jsonrpc-hops", "json", "cloudevents", "protobuf" and, where
// the transport can carry headers, "cloudevents-binary".
Encoding TakeEncoding(QueryReader& query, bool has_headers);

// The same for a transport that carries only text, and so neither "protobuf" nor "cloudevents-binary".
Encoding TakeTextEncoding(QueryReader& query);

// Writes it back, if it is not the default.
void AddEncoding(Encoding encoding, QueryWriter* query);

// Calls `attribute` for each context attribute of CloudEvents 1.0, "datacontenttype" excepted (each binding has a place
// of its own for it: ContentType(kCloudEventsBinary)):
//   id           the event's id
//   source       the event's source, "eventvirtual" where it has none; percent-encoded where it is no URI reference
//   specversion  1.0
//   type         the event's name
//   time         RFC 3339, in UTC
//   eventhops    how many services have delivered the event then (hops.h)
//   …            each of the event's attributes whose name an extension may have: 1 to 20 of a-z and 0-9, none of the
//                specification's own. The first of a name counts
// Control characters in a value are percent-encoded. The views are valid during the call.
void ForEachCloudEventAttribute(const Message& message,
                                absl::FunctionRef<void(absl::string_view name, absl::string_view value)> attribute);

// A context attribute's value as the bindings for HTTP (section 3.1.3.2) and NATS want it in a header: space, '"', '%'
// and all that is not printable ASCII as %XX.
std::string CloudEventHeaderValue(absl::string_view value);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_API_ENCODING_H_
