// Uri: the text of one subscriber, cut into scheme, body and query, and the small parsers that transports share.
#ifndef EVENTVIRTUAL_TRANSPORTS_API_URI_H_
#define EVENTVIRTUAL_TRANSPORTS_API_URI_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "transports/api/secret.h"

namespace eventvirtual {

// `scheme:body[?name=value&name=value]`, OpenSIPS' socket syntax with our options behind a question mark.
// May hold a password: it has no stream operator, and nothing prints `body` but the transport that masks it.
struct Uri {
  std::string scheme;  // lower case
  std::string body;    // as written, up to the query: "127.0.0.1:8080/block", "//host/path", "/var/log/x.log"

  // Percent-decoded, in the order given. A '?' in the body that no `name=` follows belongs to the body (a RabbitMQ
  // routing key follows one); see ParseUri.
  std::vector<std::pair<std::string, std::string>> query;

  // What stands for the names in its ${secret:NAME}, once that has been read; before, there is none.
  NamedSecrets secrets;
};

// Cuts one subscriber. A bare absolute path is a unix socket, as in OpenSIPS. The query is what follows the last '?' if
// it reads as name=value pairs joined by '&', each name of [A-Za-z0-9_.-]+; otherwise there is none.
// INVALID_ARGUMENT: empty, no scheme, a scheme that is not [a-z][a-z0-9+.-]*, white space or control bytes, bad
// escapes, a body that reads as one with a query itself. The message never repeats what stands behind the scheme: that
// may hold a password.
absl::StatusOr<Uri> ParseUri(absl::string_view text);

struct HostPort {
  std::string host;  // name, IPv4, or IPv6 without brackets
  uint16_t port = 0;
  std::string ToString() const;  // "host:port", "[v6]:port"
};

// "host:port" or "[v6]:port", port 1…65535; `default_port` (0: none) serves a text without one.
// INVALID_ARGUMENT names what is wrong with host or port. Host names are lower-cased; they are not resolved.
absl::StatusOr<HostPort> ParseHostPort(absl::string_view text, uint16_t default_port = 0);

// Replaces each %xx in `text` by its byte. Nothing when a '%' is not followed by two hexadecimal digits.
std::optional<std::string> PercentDecode(absl::string_view text);

// Writes every byte as %xx but letters, digits, "-._~" and those of `keep`; PercentDecode() reads it back.
std::string PercentEncode(absl::string_view text, absl::string_view keep);

// INVALID_ARGUMENT if the first '/' of an address may be one of a password, with the true host behind it: there is a
// ':' or an '@' in `authority` before it, and in `rest` behind it an '@' and then a '/'. `what` names in the error what
// `rest` is.
absl::Status CheckWhole(absl::string_view authority, absl::string_view what, absl::string_view rest);

// The password or token `what` that is `written` in the body of `uri`: percent-decoded, but for each ${secret:NAME},
// which stands for what that file holds, byte by byte. INVALID_ARGUMENT repeats nothing of it.
absl::StatusOr<Secret> SecretInBody(const Uri& uri, absl::string_view what, absl::string_view written);

// How it is written there, canonically; with `masked`, as "***" but for the names.
std::string InBody(const Secret& secret, bool masked);

// Reads a URI's query: each Take… consumes one option; Done() refuses what is left over, naming it and the known ones.
//
//   QueryReader query(uri);
//   bool reliable = query.TakeBool("reliable", false);
//   absl::Duration timeout = query.TakeDuration("timeout", absl::Seconds(1), absl::Milliseconds(1), absl::Minutes(1));
//   if (absl::Status status = query.Done(); !status.ok()) return status;
//
// The first fault is kept and given by Done(): an unknown or repeated option, or a value out of its bounds. Where there
// may be a password, an unknown option's name is not repeated: it may be the end of one with a bare '?' or '&'.
class QueryReader {
 public:
  explicit QueryReader(const Uri& uri) : uri_(uri) {}

  bool TakeBool(absl::string_view name, bool fallback);  // 1, 0, true, false, yes, no
  int64_t TakeInt(absl::string_view name, int64_t fallback, int64_t min, int64_t max);
  // "500ms", "2s", "1h"; a bare number counts milliseconds, as OpenSIPS' timeouts do.
  absl::Duration TakeDuration(absl::string_view name, absl::Duration fallback, absl::Duration min, absl::Duration max);
  std::string TakeString(absl::string_view name, absl::string_view fallback);
  // A password or token, in which ${secret:NAME} stands for what that file holds; in a `url`, percent-encoded.
  Secret TakeSecret(absl::string_view name, bool url = false);
  // One of `words`: gives its index.
  int TakeWord(absl::string_view name, int fallback, absl::Span<const absl::string_view> words);

  absl::Status Done();

 private:
  const std::string* Find(absl::string_view name);
  bool MayHoldSecrets() const;

  const Uri& uri_;
  std::vector<std::string> known_;
  bool has_secret_ = false;
  absl::Status fault_;
};

// Writes the options that differ from their defaults, in the order they are added: how a canonical text ends.
class QueryWriter {
 public:
  // Adds `name=value`, percent-encoded so that ParseUri() reads it back.
  void Add(absl::string_view name, absl::string_view value);
  // With `masked`, as "***" but for the names.
  void AddSecret(absl::string_view name, const Secret& secret, bool masked);
  // "", or "?a=1&b=2".
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_API_URI_H_
