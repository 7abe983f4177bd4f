// ConnectionCaps: how many connections may be open at once, in all and from one peer.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_CONNECTION_CAPS_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_CONNECTION_CAPS_H_

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <unordered_map>
#include <utility>

namespace eventvirtual {

// One thread.
class ConnectionCaps {
 public:
  enum class Verdict { kAdmitted, kTooMany, kTooManyOfPeer };

  // A peer is an IPv4 address, the /64 of an IPv6 address, or a user (SO_PEERCRED) on a unix socket.
  ConnectionCaps(size_t max, size_t max_per_peer) : max_(max), max_per_peer_(max_per_peer) {}

  // Counts the connection `fd`, or says which cap it is over; the caller closes it then.
  Verdict Admit(int fd);

  // It is closed next, or has been. Of one that is not counted (any more), nothing happens.
  void Closed(int fd);

  // For connections that are given away, to a library that tells nobody when it closes one: a socket's inode number is
  // never that of another one, so a descriptor that shows a different one, or none, has been closed. Looks at each.
  void ForgetClosed();

  // Whether `counted` is of the peer of `fd`.
  bool IsOfPeerOf(int fd, int counted) const;

  size_t open() const { return open_.size(); }  // as far as is known here

 private:
  struct Connection {
    ino_t inode = 0;
    std::string peer;
  };
  using Connections = std::unordered_map<int, Connection>;

  Connections::iterator Forget(Connections::iterator connection);

  const size_t max_, max_per_peer_;
  Connections open_;  // by descriptor
  std::unordered_map<std::string, size_t> of_peer_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_CONNECTION_CAPS_H_
