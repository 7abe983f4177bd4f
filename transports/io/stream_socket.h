// Where every TCP connection of a transport begins.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_STREAM_SOCKET_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_STREAM_SOCKET_H_

#include <sys/socket.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace eventvirtual {

// Prepares `fd`, a socket for a connection to `address`, which has been looked up and is about to be connected to, by
// us or by a library: no transport reaches a TCP peer past this function. It sees the address itself, whatever the name
// said. A library that takes no socket of ours is given a number, after one was opened to it here.
//
// Sets TCP_NODELAY, keepalive and TCP_USER_TIMEOUT (3 s: a half-open peer is noticed while we write; the system's own
// time is a quarter of an hour). PERMISSION_DENIED: the policy of destinations is against it; do not connect.
absl::Status PrepareStreamSocket(int fd, const sockaddr& address);

// A non-blocking, close-on-exec socket to `address`, prepared. UNAVAILABLE: what the kernel says.
absl::StatusOr<int> OpenStreamSocket(const sockaddr& address);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_STREAM_SOCKET_H_
