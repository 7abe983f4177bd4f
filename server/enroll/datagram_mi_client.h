// MI over datagrams, as OpenSIPS' module mi_datagram serves it.
#ifndef EVENTVIRTUAL_SERVER_ENROLL_DATAGRAM_MI_CLIENT_H_
#define EVENTVIRTUAL_SERVER_ENROLL_DATAGRAM_MI_CLIENT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/enroll/mi_client.h"

namespace eventvirtual {

// `address`: "udp:host:port" or "unix:/path", as MakeMiClient() has it. One datagram each way. OpenSIPS answers from
// another socket than the one it is asked at, so an answer is known by its id alone. To be answered, a unix client has
// a socket file of its own, that OpenSIPS may write to: beside OpenSIPS' file, or else in /tmp; it goes with the
// client.
absl::StatusOr<std::unique_ptr<MiClient>> MakeDatagramMiClient(const std::string& address, const MiLimits& limits);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ENROLL_DATAGRAM_MI_CLIENT_H_
