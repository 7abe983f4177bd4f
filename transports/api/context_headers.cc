#include "transports/api/context_headers.h"

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "transports/api/hops.h"
#include "transports/api/trace_context.h"

namespace eventvirtual {

void ForEachContextHeader(const Message& message,
                          absl::FunctionRef<void(absl::string_view name, absl::string_view value)> header) {
  header(kEventHops, NextHopsText(message.hops()));
  for (const auto& [name, value] : message.attributes()) {
    if (name != kTraceparent && name != kTracestate) continue;
    if (!value.empty() && value.size() <= kMaxTraceHeader && absl::c_all_of(value, absl::ascii_isprint))
      header(name, value);
  }
}

}  // namespace eventvirtual
