// tcp:host:port[/method]: JSON-RPC objects back to back on one connection, with or without replies.
#ifndef EVENTVIRTUAL_TRANSPORTS_TCP_TCP_TRANSPORT_H_
#define EVENTVIRTUAL_TRANSPORTS_TCP_TCP_TRANSPORT_H_

#include <memory>

#include "transports/api/transport.h"

namespace eventvirtual {

// See README.md beside this file for syntax, options and what a success means.
std::unique_ptr<Transport> MakeTcpTransport();

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_TCP_TCP_TRANSPORT_H_
