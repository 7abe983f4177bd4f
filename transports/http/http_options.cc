#include "transports/http/http_options.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kHeaderPrefix = "header.";
constexpr size_t kMaxHeaders = 16;
constexpr size_t kMaxHeaderValue = 1024;
constexpr int kMaxWindow = 64;
constexpr uint16_t kPort = 80, kTlsPort = 443;

// `what` names the part in errors; a password is never repeated.
absl::Status Decode(absl::string_view what, absl::string_view text, std::string* out) {
  std::optional<std::string> decoded = PercentDecode(text);
  if (!decoded.has_value() || absl::StrContains(*decoded, '\0')) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": a '%' must be followed by two hexadecimal digits, and not by 00; write '%' as %25"));
  }
  *out = *std::move(decoded);
  return absl::OkStatus();
}

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
    Secret secret = query.TakeSecret(option.first);
    const std::string& value = secret.Reveal();
    bool printable = !value.empty() && value.size() <= kMaxHeaderValue && value.front() != ' ' && value.back() != ' ';
    for (char c : value) printable = printable && absl::ascii_isprint(c);
    if (secret.known() && !printable) {
      return absl::InvalidArgumentError(absl::StrCat("header \"", name, "\" is not a text of 1 to ", kMaxHeaderValue,
                                                     " printable ASCII characters without blanks around it"));
    }
    peer->headers[std::string(name)] = std::move(secret);
  }
  if (peer->headers.size() > kMaxHeaders) {
    return absl::InvalidArgumentError(absl::StrCat("more than ", kMaxHeaders, " headers"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status TakeUrl(const Uri& uri, absl::string_view text, HttpPeer* peer) {
  if (!absl::ConsumePrefix(&text, "//")) {
    const absl::string_view scheme = peer->tls ? "https" : "http";
    return absl::InvalidArgumentError(absl::StrCat("no // behind the scheme; write ", scheme, "://host/path"));
  }
  const size_t slash = std::min(text.find('/'), text.size());
  absl::string_view authority = text.substr(0, slash);
  peer->path = slash == text.size() ? "/" : std::string(text.substr(slash));
  // Before the host, for the errors of that repeat it: an '@' here stands behind a password with a bare '/'.
  if (absl::Status status = CheckUrlText("the path", peer->path, /*in_query=*/false); !status.ok()) return status;
  if (const size_t at = authority.rfind('@'); at != absl::string_view::npos) {
    const std::pair<absl::string_view, absl::string_view> login =
        absl::StrSplit(authority.substr(0, at), absl::MaxSplits(':', 1));
    peer->login.emplace();
    if (absl::Status status = Decode("the user", login.first, &peer->login->user); !status.ok()) return status;
    absl::StatusOr<Secret> password = SecretInBody(uri, "the password", login.second);
    if (!password.ok()) return password.status();
    if (absl::StrContains(password->Reveal(), '\0')) {
      return absl::InvalidArgumentError("the password must not hold %00");
    }
    peer->login->password = *std::move(password);
    if (peer->login->user.empty() || absl::StrContains(peer->login->user, ':')) {
      return absl::InvalidArgumentError("the user before '@' is empty or holds a ':' (RFC 7617 section 2)");
    }
    authority.remove_prefix(at + 1);
  }
  absl::StatusOr<HostPort> address = ParseHostPort(authority, peer->tls ? kTlsPort : kPort);
  if (!address.ok()) return address.status();
  peer->address = *std::move(address);
  return absl::OkStatus();
}

std::string UrlOf(const HttpPeer& peer, bool masked) {
  std::string text = peer.tls ? "https://" : "http://";
  if (peer.login.has_value()) {
    absl::StrAppend(&text, PercentEncode(peer.login->user, ""), ":", InBody(peer.login->password, masked), "@");
  }
  std::string host = peer.address.ToString();
  if (peer.address.port == (peer.tls ? kTlsPort : kPort)) host.resize(host.rfind(':'));
  return absl::StrCat(text, host, peer.path);
}

std::vector<const Secret*> HttpPeer::Secrets() const {
  std::vector<const Secret*> secrets = {&query};
  if (login.has_value()) secrets.push_back(&login->password);
  for (const auto& [name, value] : headers) secrets.push_back(&value);
  return secrets;
}

absl::Status TakeConnectionOptions(QueryReader& query, HttpPeer* peer) {
  peer->timeout = query.TakeDuration("timeout", peer->timeout, absl::Milliseconds(1), absl::Minutes(5));
  peer->window = static_cast<int>(query.TakeInt("window", peer->window, 1, kMaxWindow));
  return peer->tls ? TakeTlsOptions(query, peer) : absl::OkStatus();
}

absl::Status TakeHttpOptions(const Uri& uri, QueryReader& query, HttpPeer* peer) {
  if (absl::Status status = TakeConnectionOptions(query, peer); !status.ok()) return status;
  peer->redirects = query.TakeBool("redirects", peer->redirects);
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
    query->AddSecret(absl::StrCat(kHeaderPrefix, name), value, masked);
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
