// udp:host:port: one datagram per event.
#ifndef EVENTVIRTUAL_TRANSPORTS_UDP_UDP_TRANSPORT_H_
#define EVENTVIRTUAL_TRANSPORTS_UDP_UDP_TRANSPORT_H_

#include <memory>

#include "transports/api/transport.h"

namespace eventvirtual {

// See README.md beside this file for syntax, options and what a success means.
std::unique_ptr<Transport> MakeUdpTransport();

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_UDP_UDP_TRANSPORT_H_
