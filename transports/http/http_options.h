// HttpPeer: whom HttpLink talks to, its URL, and the options that transports over HTTP take.
#ifndef EVENTVIRTUAL_TRANSPORTS_HTTP_HTTP_OPTIONS_H_
#define EVENTVIRTUAL_TRANSPORTS_HTTP_HTTP_OPTIONS_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "transports/api/secret.h"
#include "transports/api/uri.h"
#include "transports/io/tls_options.h"

namespace eventvirtual {

struct HttpPeer : TlsOptions {
  bool tls = false;
  HostPort address;
  std::string path;  // of the request, as it goes on the wire: begins with '/', may end in a query
  Secret query;      // of the URL, without its '?'; may hold a token
  struct Login {
    std::string user;
    Secret password;
  };
  std::optional<Login> login;  // sent as basic authentication (RFC 7617)
  // "REGION:SERVICE" of AWS: the login is the id of a key and its secret, which signs each request (AWS Signature
  // Version 4) and is not sent.
  std::string signs_for;

  absl::Duration timeout = absl::Seconds(5);
  int window = 1;                         // requests at once; with more than one, events may overtake each other
  bool redirects = false;                 // follow 307 and 308 within the same scheme, host and port
  std::map<std::string, Secret> headers;  // lower-case names

  // All that is not to be shown.
  std::vector<const Secret*> Secrets() const;
};

// Takes `text`, a part of `uri`: "//[user:password@]host[:port][/path]", what stands behind the "http:" or "https:"
// that `peer->tls` says, into login, address and path. INVALID_ARGUMENT names the part that is wrong, never a password.
absl::Status TakeUrl(const Uri& uri, absl::string_view text, HttpPeer* peer);

// The URL of that peer, without its query; the port only if it is not the scheme's. Masked, the password is ***.
std::string UrlOf(const HttpPeer& peer, bool masked);

// Takes the options timeout, window and, with TLS, verify, ca, cert, key, server_name. Faults that `query.Done()` does
// not find are given here: INVALID_ARGUMENT.
absl::Status TakeConnectionOptions(QueryReader& query, HttpPeer* peer);

// Takes these, redirects and header.NAME. INVALID_ARGUMENT as above, without a header's value.
absl::Status TakeHttpOptions(const Uri& uri, QueryReader& query, HttpPeer* peer);

// Writes those that are not the default. Masked, a header's value is ***: it is often a token.
void AddHttpOptions(const HttpPeer& peer, bool masked, QueryWriter* query);

// Whether `text` can stand in a request's path or query (RFC 3986 section 3.3 and 3.4; '?' only with `in_query`).
// INVALID_ARGUMENT names the offset of what must be percent-encoded, in `what`.
absl::Status CheckUrlText(absl::string_view what, absl::string_view text, bool in_query);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_HTTP_HTTP_OPTIONS_H_
