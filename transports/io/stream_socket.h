// OpenStreamSocket: where every TCP connection of a transport begins.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_STREAM_SOCKET_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_STREAM_SOCKET_H_

#include <sys/socket.h>

namespace eventvirtual {

// A socket for a connection to `address`, which has been looked up and is about to be connected to, by us or by a
// library: no transport reaches a TCP peer past this function. It sees the address itself, whatever the name said.
//
// Gives a non-blocking, close-on-exec descriptor with TCP_NODELAY, keepalive and TCP_USER_TIMEOUT (3 s: a half-open
// peer is noticed while we write; the system's own time is a quarter of an hour); -1 and errno when there is none.
int OpenStreamSocket(const sockaddr& address);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_STREAM_SOCKET_H_
