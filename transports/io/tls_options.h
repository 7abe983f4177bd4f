// TlsOptions: the options by which a subscriber says whom to trust and who we are.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_TLS_OPTIONS_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_TLS_OPTIONS_H_

#include <string>

#include "absl/status/status.h"
#include "transports/api/uri.h"

namespace eventvirtual {

struct TlsOptions {
  bool verify = true;         // the server's certificate and its name
  std::string ca, cert, key;  // absolute paths of PEM files; empty: the system's authorities, no certificate
  std::string server_name;    // empty: the host's

  // The name by which the server of `host` is asked for (RFC 6066 section 3) and that its certificate must bear.
  const std::string& NameOf(const std::string& host) const { return server_name.empty() ? host : server_name; }
};

// Takes the options verify, ca, cert, key and server_name. INVALID_ARGUMENT: a path that is not absolute, a certificate
// without its key, authorities that nobody looks at, or a name that is none. What is not a path or a truth value at
// all, `query.Done()` finds.
absl::Status TakeTlsOptions(QueryReader& query, TlsOptions* options);

// Writes those that are not the default.
void AddTlsOptions(const TlsOptions& options, QueryWriter* query);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_TLS_OPTIONS_H_
