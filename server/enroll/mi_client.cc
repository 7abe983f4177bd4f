#include "server/enroll/mi_client.h"

#include <random>

#include "absl/strings/match.h"
#include "server/enroll/datagram_mi_client.h"
#include "server/enroll/http_mi_client.h"

namespace eventvirtual {

MiIds::MiIds() : last_(std::random_device()()) {}

absl::StatusOr<std::unique_ptr<MiClient>> MakeMiClient(const std::string& address, const MiLimits& limits) {
  if (absl::StartsWith(address, "udp:") || absl::StartsWith(address, "unix:"))
    return MakeDatagramMiClient(address, limits);
  if (absl::StartsWith(address, "http://") || absl::StartsWith(address, "https://"))
    return MakeHttpMiClient(address, limits);
  return absl::InvalidArgumentError("write http://host:port/mi, udp:host:port or unix:/path");
}

}  // namespace eventvirtual
