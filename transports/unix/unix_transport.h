// unix:/path: one datagram per event to a unix datagram socket.
#ifndef EVENTVIRTUAL_TRANSPORTS_UNIX_UNIX_TRANSPORT_H_
#define EVENTVIRTUAL_TRANSPORTS_UNIX_UNIX_TRANSPORT_H_

#include <memory>

#include "transports/api/transport.h"

namespace eventvirtual {

// See README.md beside this file for syntax, options and what a success means.
std::unique_ptr<Transport> MakeUnixTransport();

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_UNIX_UNIX_TRANSPORT_H_
