// NatsAddress: the text of a nats subscriber, understood.
#ifndef EVENTVIRTUAL_TRANSPORTS_NATS_NATS_ADDRESS_H_
#define EVENTVIRTUAL_TRANSPORTS_NATS_NATS_ADDRESS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "transports/api/encoding.h"
#include "transports/api/secret.h"
#include "transports/api/uri.h"
#include "transports/io/tls_options.h"

namespace eventvirtual {

// `//[user:password@|token@]host[:port]/subject[?options]`; the README has the options.
struct NatsAddress : TlsOptions {
  bool tls = false;  // natss
  HostPort host;
  std::string user;
  Secret password, token;  // a user with a password or a token, or neither
  std::string subject;     // one that can be published to
  bool jetstream = false;
  Encoding encoding = Encoding::kJsonRpc;
  absl::Duration timeout = absl::Seconds(2);

  // All that is not to be shown.
  std::vector<const Secret*> Secrets() const { return {&password, &token}; }

  // The canonical text, or with `masked` the same with "***" for the password or token.
  std::string ToString(bool masked) const;
};

// INVALID_ARGUMENT names the faulty part and what would be accepted, never a password or token.
absl::StatusOr<NatsAddress> ParseNatsAddress(const Uri& uri);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_NATS_NATS_ADDRESS_H_
