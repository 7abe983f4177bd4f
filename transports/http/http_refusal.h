// What an HTTP answer that is no success means to an event.
#ifndef EVENTVIRTUAL_TRANSPORTS_HTTP_HTTP_REFUSAL_H_
#define EVENTVIRTUAL_TRANSPORTS_HTTP_HTTP_REFUSAL_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace eventvirtual {

struct HttpRefusal {
  long status = 0;            // not 2xx
  std::string redirected_to;  // origin of its Location; "" if there is none
  absl::Duration retry_after;
  absl::string_view body;  // its first 64 KiB
};

// INVALID_ARGUMENT when the server does not take this event (400, 413, 422), else a failure of the attempt; never OK.
// `name` is the masked target.
absl::Status RefusalOf(const HttpRefusal& refusal, absl::string_view name);

// "https://host:443" of a URL; "" of null and of what is no URL or holds a login. The rest of a URL may hold
// a token.
std::string OriginOf(const char* url);

// So many bytes are shown of what a server, or its certificate, says.
inline constexpr size_t kMaxErrorText = 200;

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_HTTP_HTTP_REFUSAL_H_
