// What an HTTP server refuses is never a success, whatever its status and its Location are, and says so in printable
// words. Of a URL no more is shown than its origin, which is its own origin.
#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "transports/api/check.h"
#include "transports/http/http_refusal.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxError = 600;
constexpr absl::string_view kName = "http://subscriber.example.org/";

std::string CheckOrigin(const std::string& url) {
  const std::string origin = OriginOf(url.c_str());
  if (origin.empty()) return origin;
  EV_CHECK(origin.find_first_of("@?#\\ ") == std::string::npos);
  const size_t host = origin.find("://");
  EV_CHECK(host != std::string::npos && !absl::StrContains(origin.substr(host + 3), '/'));
  EV_CHECK(absl::AsciiStrToLower(origin) == origin);
  if (absl::StrContains(url, '%'))
    return origin;  // a host that is written so may be a number, which has other spellings
  EV_CHECK(OriginOf(origin.c_str()) == origin);
  // What stands behind the host and port of a URL does not count, and a login makes it none.
  const std::string secret = absl::StrCat(origin, "/path?token=secret#secret");
  EV_CHECK(OriginOf(secret.c_str()) == origin);
  const std::string login = absl::StrCat(origin.substr(0, host + 3), "user:secret@", origin.substr(host + 3));
  EV_CHECK(OriginOf(login.c_str()).empty());
  return origin;
}

// Two bytes are the status and whether to wait; the rest is the Location.
void CheckRefusal(absl::string_view input) {
  if (input.size() < 2) return;
  HttpRefusal refusal;
  refusal.status = 300 + static_cast<uint8_t>(input[0]);  // to 555
  if (input[0] == '\0' && input[1] == '\0') refusal.status = 0;
  refusal.retry_after = absl::Seconds(static_cast<int8_t>(input[1]));
  refusal.redirected_to = CheckOrigin(std::string(input.substr(2)));
  const absl::Status status = RefusalOf(refusal, kName);
  EV_CHECK(!status.ok() && absl::StartsWith(status.message(), kName) && status.message().size() <= kMaxError);
  EV_CHECK(absl::StrContains(status.message(), absl::StrCat(refusal.status)));
  for (char c : status.message()) EV_CHECK(absl::ascii_isprint(c));
  // The event's own fault exactly where every other event could be taken.
  const bool is_of_the_event = refusal.status == 400 || refusal.status == 413 || refusal.status == 422;
  EV_CHECK(absl::IsInvalidArgument(status) == is_of_the_event);
  const bool waits = absl::StrContains(status.message(), "asks to wait");
  EV_CHECK(!waits || (absl::IsUnavailable(status) && refusal.retry_after > absl::ZeroDuration()));
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  eventvirtual::CheckRefusal(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
