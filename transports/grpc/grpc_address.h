// GrpcAddress: the text of a grpc subscriber, understood.
#ifndef EVENTVIRTUAL_TRANSPORTS_GRPC_GRPC_ADDRESS_H_
#define EVENTVIRTUAL_TRANSPORTS_GRPC_GRPC_ADDRESS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "transports/api/secret.h"
#include "transports/api/uri.h"
#include "transports/io/tls_options.h"

namespace eventvirtual {

// `grpc://host:port` or `grpcs://host:port`, and options; see the README.
struct GrpcAddress : TlsOptions {
  bool tls = false;  // grpcs
  HostPort host;
  Secret token;                   // a bearer token (RFC 6750); empty: none
  int window = 1;                 // calls at once; with more than one, events may overtake each other
  int64_t max_message = 4 << 20;  // bytes; what every implementation of gRPC takes unless told otherwise
  absl::Duration timeout = absl::Seconds(2);

  // All that is not to be shown.
  std::vector<const Secret*> Secrets() const { return {&token}; }

  // The canonical text, or with `masked` the same with "***" for the token.
  std::string ToString(bool masked) const;
};

// INVALID_ARGUMENT names the faulty part and what would be accepted, never the token.
absl::StatusOr<GrpcAddress> ParseGrpcAddress(const Uri& uri);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_GRPC_GRPC_ADDRESS_H_
