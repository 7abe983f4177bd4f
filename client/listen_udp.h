// evctl listen-udp: prints what arrives.
#ifndef EVENTVIRTUAL_CLIENT_LISTEN_UDP_H_
#define EVENTVIRTUAL_CLIENT_LISTEN_UDP_H_

#include <string>

#include "absl/status/status.h"

namespace eventvirtual {

// Binds `address` ("host:port", port 0 chooses one; numeric hosts), says where on stderr, then writes each datagram as
// one line to stdout, flushed, until `count` have come (0: for ever).
absl::Status ListenUdp(const std::string& address, int count);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_CLIENT_LISTEN_UDP_H_
