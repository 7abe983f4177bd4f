// IsSelfConnection: whether a connected IP socket reaches only itself.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_SELF_CONNECTION_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_SELF_CONNECTION_H_

#include <sys/socket.h>

#include <cstring>

namespace eventvirtual {

// A connect to a local port at which nobody listens succeeds once in a while: when the kernel picks that very port as
// our own (tcp: a simultaneous open, RFC 9293 section 3.5). Every event would then be "delivered" to ourselves. Treat
// it as refused. The chance is one in the number of ephemeral ports, for each connect while such a receiver is down.
inline bool IsSelfConnection(int fd) {
  sockaddr_storage here = {};
  sockaddr_storage there = {};
  socklen_t here_length = sizeof(here);
  socklen_t there_length = sizeof(there);
  return getsockname(fd, reinterpret_cast<sockaddr*>(&here), &here_length) == 0 &&
         getpeername(fd, reinterpret_cast<sockaddr*>(&there), &there_length) == 0 && here_length == there_length &&
         std::memcmp(&here, &there, here_length) == 0;
}

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_SELF_CONNECTION_H_
