#include "transports/nats/nats_address.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace eventvirtual {
namespace {

constexpr uint16_t kPort = 4222;
constexpr size_t kMaxSubject = 1024;  // with the reply's subject far below the 4096 bytes of a control line
constexpr size_t kMaxLogin = 1024;    // of each part; libnats sends all of them in one line

// `what` names the part in errors; the text is a secret and never repeated. libnats puts it between quotes as it is.
absl::Status Check(absl::string_view what, absl::string_view text) {
  if (text.size() > kMaxLogin) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is longer than ", kMaxLogin, " bytes"));
  }
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '"' && text[i] != '\\' && !absl::ascii_iscntrl(text[i])) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("character ", i + 1, " of ", what, " is a quote, a backslash or a control character"));
  }
  return absl::OkStatus();
}

absl::Status Decode(absl::string_view what, absl::string_view text, std::string* out) {
  std::optional<std::string> decoded = PercentDecode(text);
  if (!decoded.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": a '%' must be followed by two hexadecimal digits; write a '%' itself as %25"));
  }
  *out = *std::move(decoded);
  return Check(what, *out);
}

absl::Status Take(const Uri& uri, absl::string_view what, absl::string_view text, Secret* out) {
  absl::StatusOr<Secret> secret = SecretInBody(uri, what, text);
  if (!secret.ok()) return secret.status();
  *out = *std::move(secret);
  return Check(what, out->Reveal());
}

absl::Status ParseLogin(const Uri& uri, absl::string_view text, NatsAddress* address) {
  // The ':' of a ${secret:NAME} is none that parts.
  const size_t colon = text.substr(0, text.find(kSecretBegin)).find(':');
  if (text.substr(0, colon).empty()) {
    return absl::InvalidArgumentError("the login before '@' is empty; write user:password@host or token@host");
  }
  if (colon == absl::string_view::npos) return Take(uri, "the token", text, &address->token);
  if (absl::Status status = Decode("the user", text.substr(0, colon), &address->user); !status.ok()) return status;
  return Take(uri, "the password", text.substr(colon + 1), &address->password);
}

// What a message can be published to (NATS documentation, "Subject-Based Messaging").
absl::Status CheckSubject(absl::string_view subject) {
  if (subject.empty()) return absl::InvalidArgumentError("the subject is empty; write nats://host:port/subject");
  if (subject.size() > kMaxSubject) {
    return absl::InvalidArgumentError(absl::StrCat("the subject is longer than ", kMaxSubject, " bytes"));
  }
  if (subject.front() == '$') {
    return absl::InvalidArgumentError("the subject begins with '$': such subjects command the server");
  }
  char last = '.';
  for (size_t i = 0; i < subject.size(); ++i) {
    const char c = subject[i];
    if (c == '*' || c == '>') {
      return absl::InvalidArgumentError(absl::StrCat("character ", i + 1, " of the subject is the wildcard '",
                                                     std::string(1, c), "'; events are published to one subject"));
    }
    if (c == '?') {
      return absl::InvalidArgumentError(
          "there is a '?' in the subject; what follows it must read as options: jetstream=1");
    }
    if (!absl::ascii_isgraph(c)) {
      return absl::InvalidArgumentError(
          absl::StrCat("character ", i + 1, " of the subject is not printable ASCII; spaces are not allowed"));
    }
    if (c == '.' && last == '.') {
      return absl::InvalidArgumentError(absl::StrCat("the token at character ", i + 1, " of the subject is empty"));
    }
    last = c;
  }
  if (last == '.')
    return absl::InvalidArgumentError("the last token of the subject is empty; remove the '.' at its end");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<NatsAddress> ParseNatsAddress(const Uri& uri) {
  NatsAddress address;
  address.tls = uri.scheme == "natss";
  absl::string_view body = uri.body;
  if (!absl::ConsumePrefix(&body, "//")) {
    return absl::InvalidArgumentError(absl::StrCat("no // behind the scheme; write ", uri.scheme, "://host/subject"));
  }
  const size_t slash = body.find('/');
  if (slash == absl::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat("no '/' behind the host; write ", uri.scheme, "://host/subject"));
  }
  absl::string_view authority = body.substr(0, slash);
  address.subject = std::string(body.substr(slash + 1));
  // Before the host, for the errors of that repeat it: it may be a part of a login.
  if (absl::StrContains(address.subject, '@')) {
    return absl::InvalidArgumentError(
        "there is an '@' behind the first '/'; write a '/' of a password as %2F, and subjects without '@'");
  }
  if (const size_t at = authority.rfind('@'); at != absl::string_view::npos) {
    if (absl::Status status = ParseLogin(uri, authority.substr(0, at), &address); !status.ok()) return status;
    authority.remove_prefix(at + 1);
  }
  absl::StatusOr<HostPort> host = ParseHostPort(authority, kPort);
  if (!host.ok()) return host.status();
  address.host = *std::move(host);
  if (absl::Status status = CheckSubject(address.subject); !status.ok()) return status;

  QueryReader query(uri);
  address.jetstream = query.TakeBool("jetstream", address.jetstream);
  address.encoding = TakeEncoding(query, /*has_headers=*/true);
  address.timeout = query.TakeDuration("timeout", address.timeout, absl::Milliseconds(1), absl::Minutes(5));
  if (address.tls) {
    if (absl::Status status = TakeTlsOptions(query, &address); !status.ok()) return status;
  }
  if (absl::Status status = query.Done(); !status.ok()) return status;
  return address;
}

std::string NatsAddress::ToString(bool masked) const {
  std::string login;
  if (!user.empty()) login = absl::StrCat(PercentEncode(user, ""), ":", InBody(password, masked), "@");
  if (!token.empty()) login = absl::StrCat(InBody(token, masked), "@");
  QueryWriter query;
  if (jetstream) query.Add("jetstream", "1");
  AddEncoding(encoding, &query);
  if (timeout != NatsAddress().timeout) query.Add("timeout", absl::FormatDuration(timeout));
  AddTlsOptions(*this, &query);
  return absl::StrCat(tls ? "natss://" : "nats://", login, host.ToString(), "/", subject, query.text());
}

}  // namespace eventvirtual
