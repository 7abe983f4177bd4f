#include "transports/http/http_options.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kHeaderPrefix = "header.";
constexpr size_t kMaxHeaders = 16;
constexpr size_t kMaxHeaderValue = 1024;
constexpr int kMaxWindow = 64;

// What may be set without breaking the request's own framing, routing or credentials.
bool IsAllowedHeader(absl::string_view name) {
  return name == "authorization" || name == "user-agent" || (absl::StartsWith(name, "x-") && name.size() > 2);
}

absl::Status TakeHeaders(const Uri& uri, QueryReader& query, HttpPeer* peer) {
  for (const auto& option : uri.query) {
    absl::string_view name = option.first;
    if (!absl::ConsumePrefix(&name, kHeaderPrefix)) continue;
    if (!IsAllowedHeader(name) || absl::StrContains(name, '.')) {
      return absl::InvalidArgumentError(absl::StrCat("header \"", name,
                                                     "\" must not be set; allowed are header.authorization, "
                                                     "header.user-agent and header.x-NAME"));
    }
    const std::string value = query.TakeString(option.first, "");
    bool printable = !value.empty() && value.size() <= kMaxHeaderValue && value.front() != ' ' && value.back() != ' ';
    for (char c : value) printable = printable && absl::ascii_isprint(c);
    if (!printable) {
      return absl::InvalidArgumentError(absl::StrCat("header \"", name, "\" is not a text of 1 to ", kMaxHeaderValue,
                                                     " printable ASCII characters without blanks around it"));
    }
    peer->headers[std::string(name)] = value;
  }
  if (peer->headers.size() > kMaxHeaders) {
    return absl::InvalidArgumentError(absl::StrCat("more than ", kMaxHeaders, " headers"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status TakeHttpOptions(const Uri& uri, QueryReader& query, HttpPeer* peer) {
  peer->timeout = query.TakeDuration("timeout", peer->timeout, absl::Milliseconds(1), absl::Minutes(5));
  peer->window = static_cast<int>(query.TakeInt("window", peer->window, 1, kMaxWindow));
  peer->redirects = query.TakeBool("redirects", peer->redirects);
  if (peer->tls) {
    if (absl::Status status = TakeTlsOptions(query, peer); !status.ok()) return status;
  }
  if (absl::Status status = TakeHeaders(uri, query, peer); !status.ok()) return status;
  if (peer->login.has_value() && peer->headers.contains("authorization")) {
    return absl::InvalidArgumentError("user:password@ and header.authorization exclude each other");
  }
  return absl::OkStatus();
}

void AddHttpOptions(const HttpPeer& peer, bool masked, QueryWriter* query) {
  const HttpPeer defaults;
  if (peer.timeout != defaults.timeout) query->Add("timeout", absl::FormatDuration(peer.timeout));
  if (peer.window != defaults.window) query->Add("window", absl::StrCat(peer.window));
  if (peer.redirects) query->Add("redirects", "1");
  AddTlsOptions(peer, query);
  for (const auto& [name, value] : peer.headers) {
    query->Add(absl::StrCat(kHeaderPrefix, name), masked ? "***" : value);
  }
}

absl::Status CheckUrlText(absl::string_view what, absl::string_view text, bool in_query) {
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool escape = c == '%' && PercentDecode(text.substr(i, 3)).has_value();
    if (escape || absl::ascii_isalnum(c) || absl::StrContains("-._~!$&'()*+,;=:/", c)) continue;
    if (in_query && (c == '?' || c == '@')) continue;
    return absl::InvalidArgumentError(absl::StrCat("the character at offset ", i, " of ", what,
                                                   " must be percent-encoded (RFC 3986), as %40 for '@'"));
  }
  return absl::OkStatus();
}

}  // namespace eventvirtual
