// Context headers: what travels beside an event, in every transport that has headers, properties or attributes.
#ifndef EVENTVIRTUAL_TRANSPORTS_API_CONTEXT_HEADERS_H_
#define EVENTVIRTUAL_TRANSPORTS_API_CONTEXT_HEADERS_H_

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "transports/api/message.h"

namespace eventvirtual {

// Calls `header` for eventhops (hops.h), then for those of the event's attributes that are a header of W3C Trace
// Context, traceparent and tracestate, and whose value can stand in one: 1 to 512 characters of printable ASCII (RFC
// 9110 section 5.5). The views live as long as the message.
void ForEachContextHeader(const Message& message,
                          absl::FunctionRef<void(absl::string_view name, absl::string_view value)> header);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_API_CONTEXT_HEADERS_H_
