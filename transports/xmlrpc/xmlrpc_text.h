// The XML-RPC texts of an event and of the answer to it (xmlrpc.com/spec).
#ifndef EVENTVIRTUAL_TRANSPORTS_XMLRPC_XMLRPC_TEXT_H_
#define EVENTVIRTUAL_TRANSPORTS_XMLRPC_XMLRPC_TEXT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "transports/api/message.h"

namespace eventvirtual {

// A call of `method`. Its first parameter is the event's name. With `use_struct` the second, if the event has
// parameters, is one struct with a member for each, in their order; one without a name is named by its position.
// Without it every parameter of the event is one of the call, with the <name> before the <value> that OpenSIPS puts
// there and the specification does not know.
//
// Types: an integer beyond 32 bits and JSON are strings, null is an empty one: the specification has nothing else for
// them. Doubles are written without exponent. What XML 1.0 cannot hold (control characters, bytes that are not UTF-8)
// is replaced by U+FFFD.
std::string EncodeXmlRpc(const Message& message, absl::string_view method, bool use_struct);

// OK if `body` is a whole response without a fault; else UNAVAILABLE with what it is instead, printable.
absl::Status CheckXmlRpcResponse(absl::string_view body);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_XMLRPC_XMLRPC_TEXT_H_
