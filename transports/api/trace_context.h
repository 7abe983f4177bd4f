// Trace context: which trace an event belongs to, as W3C Trace Context (https://www.w3.org/TR/trace-context-1/) writes
// it.
#ifndef EVENTVIRTUAL_TRANSPORTS_API_TRACE_CONTEXT_H_
#define EVENTVIRTUAL_TRANSPORTS_API_TRACE_CONTEXT_H_

#include <cstddef>

#include "absl/strings/string_view.h"
#include "transports/api/message.h"

namespace eventvirtual {

// The attributes of an event that hold it, and the headers that carry it.
inline constexpr absl::string_view kTraceparent = "traceparent";
inline constexpr absl::string_view kTracestate = "tracestate";

inline constexpr size_t kMaxTraceHeader = 512;  // characters of either; section 3.3.1.5 wants so many passed on

// Section 3.2: version 00 to the letter; a later one if it begins like 00 and goes on, if at all, behind a '-'.
bool IsTraceparent(absl::string_view text);

// Section 3.3: up to 32 members KEY=VALUE joined by ','; and no more than the 512 characters that section 3.3.1.5 wants
// passed on.
bool IsTracestate(absl::string_view text);

// The event's traceparent; "" if it has none.
absl::string_view TraceparentOf(const Message& message);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_API_TRACE_CONTEXT_H_
