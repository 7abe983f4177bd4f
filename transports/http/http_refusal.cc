#include "transports/http/http_refusal.h"

#include <curl/curl.h>

#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "transports/io/printable.h"

namespace eventvirtual {
absl::Status RefusalOf(const HttpRefusal& refusal, absl::string_view name) {
  const std::string what = absl::StrCat(name, ": the server answered ", refusal.status);
  switch (refusal.status) {
    case 400:
    case 413:
    case 422:
      return absl::InvalidArgumentError(absl::StrCat(what, ": it does not take this event"));
    case 401:
      return absl::UnauthenticatedError(absl::StrCat(what, ": user, password or header.authorization is not accepted"));
    case 403:
      return absl::PermissionDeniedError(what);
    case 404:
    case 410:
      return absl::NotFoundError(absl::StrCat(what, ": nothing is at this path"));
    default:
      break;
  }
  if (refusal.status / 100 == 3) {
    return absl::UnavailableError(
        absl::StrCat(what, refusal.redirected_to.empty() ? "" : ", a redirection to ",
                     Printable(absl::string_view(refusal.redirected_to).substr(0, kMaxErrorText)),
                     "; subscribe to the final address, or set redirects=1 for 307 and 308 within this server"));
  }
  if (refusal.retry_after <= absl::ZeroDuration()) return absl::UnavailableError(what);
  return absl::UnavailableError(
      absl::StrCat(what, ", and asks to wait for ", absl::ToInt64Seconds(refusal.retry_after), " s"));
}

std::string OriginOf(const char* text) {
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> url(curl_url(), &curl_url_cleanup);
  if (text == nullptr || curl_url_set(url.get(), CURLUPART_URL, text, CURLU_DISALLOW_USER) != CURLUE_OK) return "";
  const auto part = [&](CURLUPart which) {
    char* value = nullptr;
    curl_url_get(url.get(), which, &value, CURLU_DEFAULT_PORT);
    const std::string copy = value == nullptr ? "" : value;
    curl_free(value);
    return copy;
  };
  return absl::AsciiStrToLower(
      absl::StrCat(part(CURLUPART_SCHEME), "://", part(CURLUPART_HOST), ":", part(CURLUPART_PORT)));
}

}  // namespace eventvirtual
