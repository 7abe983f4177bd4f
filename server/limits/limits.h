// Limits: how large what comes from outside may be, and what is said and counted where it is larger. All of them stand
// in docs/security.md, "Limits".
#ifndef EVENTVIRTUAL_SERVER_LIMITS_LIMITS_H_
#define EVENTVIRTUAL_SERVER_LIMITS_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "transports/api/message.h"

namespace eventvirtual {

// Each is a flag. Those of gRPC's own, which it neither lets us word nor count, are not here.
enum class Limit : uint8_t {
  kIngestBytes,
  kMiBytes,
  kEventName,
  kParams,
  kParamBytes,
  kDepth,
  kUri,
  kSubscribers,
  kSubscriptions,
  kSubscriptionsPerPrincipal,
  kRaiseRate,
  kChangeRate,
  kIngestRate,
};
inline constexpr size_t kLimits = 13;

// The name of its flag, "max_params".
absl::string_view NameOf(Limit limit);

// Counts that something was refused because of `limit`. Any thread.
void CountExceeded(Limit limit);
uint64_t ExceededCount(Limit limit);  // since the process began

// Counts, and gives the error "PLACE: SIZE UNIT; at most MOST are taken (--FLAG)", INVALID_ARGUMENT.
absl::Status Exceeded(Limit limit, absl::string_view place, uint64_t size, absl::string_view unit, uint64_t most);

// What one event may have, whoever raises it.
struct EventLimits {
  size_t name_bytes = 256;
  size_t params = 1024;
  size_t param_bytes = 1 << 20;  // of the name of one, and of its value
  size_t depth = 64;             // arrays and objects in each other, in the JSON of one parameter; at most 1000
};

// Whether there are not too many and none is too large; else the error, which begins with `place` and names the first
// that is.
absl::Status CheckParams(absl::Span<const Param> params, const EventLimits& limits, absl::string_view place);

// The error for JSON in which more than `most` arrays and objects are in each other. A parser does not say where.
absl::Status TooDeep(absl::string_view place, size_t most);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_LIMITS_LIMITS_H_
