// A subscriber that is understood has one canonical text, which every transport understands the same way; a password
// stands in none of what people see.
#include <simdjson.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "transports/all.h"
#include "transports/api/check.h"
#include "transports/api/transport.h"
#include "transports/api/uri.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kPassword = "s3cret-passw0rd";  // could be a password, a host, an option or a routing key
constexpr size_t kMaxPlaces = 32;
constexpr size_t kMaxError = 1024;  // and what it repeats of the input; the options of kafka are many

bool IsUtf8(absl::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

void CheckError(const absl::Status& status, absl::string_view text) {
  EV_CHECK(absl::IsInvalidArgument(status));
  EV_CHECK(!status.message().empty() && status.message().size() <= text.size() + kMaxError);
  EV_CHECK(IsUtf8(status.message()) || !IsUtf8(text));
}

// `text` with the password put into the first places from `begin` to `end`.
std::vector<std::string> WithPassword(absl::string_view text, size_t begin, size_t end) {
  std::vector<std::string> planted;
  for (size_t i = begin; i <= std::min(end, begin + kMaxPlaces); ++i) {
    planted.push_back(absl::StrCat(text.substr(0, i), kPassword, text.substr(i)));
  }
  return planted;
}

void CheckCanonical(const Transport& transport, const Uri& uri, absl::string_view text) {
  const absl::StatusOr<Target> target = transport.Canonicalize(uri);
  if (!target.ok()) return CheckError(target.status(), text);
  const absl::StatusOr<Uri> canonical = ParseUri(target->canonical);
  EV_CHECK(canonical.ok());
  EV_CHECK(canonical->scheme == uri.scheme);
  const absl::StatusOr<Target> again = transport.Canonicalize(*canonical);
  EV_CHECK(again.ok());
  EV_CHECK(again->canonical == target->canonical);
  EV_CHECK(again->masked == target->masked);
  EV_CHECK(again->ack_level == target->ack_level);
  EV_CHECK(again->attempt_timeout == target->attempt_timeout);
  EV_CHECK(target->attempt_timeout > absl::ZeroDuration());
}

// What is shown of `user:password@host` is the same whatever the password is.
void CheckMask(const Transport& transport, const Uri& uri) {
  if (!absl::StrContains(transport.syntax(), "password")) return;
  const size_t begin = absl::StartsWith(uri.body, "//") ? 2 : 0;
  const absl::string_view login = absl::string_view(uri.body).substr(0, uri.body.find('/', begin));
  const size_t colon = login.find(':'), at = login.rfind('@');
  if (at == absl::string_view::npos || colon > at) return;
  if (absl::StrContains(login, kSecretBegin)) return;  // the names are shown, and a password may be put before them
  std::string masked;
  for (const std::string& body : WithPassword(uri.body, colon + 1, at)) {
    const absl::StatusOr<Target> target = transport.Canonicalize({uri.scheme, body, uri.query});
    EV_CHECK(!absl::StrContains(target.status().message(), kPassword));
    if (!target.ok()) continue;
    EV_CHECK(!absl::StrContains(target->masked, kPassword));
    EV_CHECK(masked.empty() || target->masked == masked);
    masked = target->masked;
  }
}

void CheckUri(absl::string_view text) {
  const bool plants = !absl::StrContains(text, kPassword);  // else it may stand where it is no password
  const size_t scheme_end = text.substr(0, 1) == "/" ? 0 : text.find(':');
  if (plants && scheme_end != absl::string_view::npos) {
    for (const std::string& planted : WithPassword(text, scheme_end + 1, text.size())) {
      EV_CHECK(!absl::StrContains(ParseUri(planted).status().message(), kPassword));
    }
  }
  const absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return CheckError(uri.status(), text);

  // What was cut can be put together again, and the body alone holds no second query.
  QueryWriter query;
  for (const auto& [name, value] : uri->query) query.Add(name, value);
  const absl::StatusOr<Uri> again = ParseUri(absl::StrCat(uri->scheme, ":", uri->body, query.text()));
  EV_CHECK(again.ok() && again->scheme == uri->scheme && again->body == uri->body && again->query == uri->query);
  const absl::StatusOr<Uri> body = ParseUri(absl::StrCat(uri->scheme, ":", uri->body));
  EV_CHECK(body.ok() && body->body == uri->body && body->query.empty());

  // Every transport takes every body and query: most of what the fuzzer finds for one is worth a try on the others.
  static const auto* const transports =
      new std::vector<std::unique_ptr<Transport>>(AllTransports(*new StreamListeners));
  for (const std::unique_ptr<Transport>& transport : *transports) {
    for (absl::string_view scheme : transport->schemes()) {
      const Uri own{std::string(scheme), uri->body, uri->query};
      CheckCanonical(*transport, own, text);
      if (plants) CheckMask(*transport, own);
    }
  }
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  eventvirtual::CheckUri(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
