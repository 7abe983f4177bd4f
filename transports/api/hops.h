// Hops: how many services like this one have delivered an event already, so that one which comes back for ever ends.
#ifndef EVENTVIRTUAL_TRANSPORTS_API_HOPS_H_
#define EVENTVIRTUAL_TRANSPORTS_API_HOPS_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace eventvirtual {

// Their name, everywhere: of an event's attribute, of headers, properties and metadata, of the member of a JSON-RPC
// text. It may be the name of an extension of CloudEvents: a-z and 0-9, at most 20 of them.
inline constexpr absl::string_view kEventHops = "eventhops";

// More than any --max_hops: what claims more than these was not counted by one of us.
inline constexpr int kMostHops = 255;

// `text` is 0 to kMostHops in decimal digits. INVALID_ARGUMENT shows it.
absl::StatusOr<int> ParseHops(absl::string_view text);

// What a receiver is told: one more than `hops`, which is 0 to kMostHops. The text lives for ever.
absl::string_view NextHopsText(int hops);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_API_HOPS_H_
