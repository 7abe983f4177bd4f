#include "transports/io/connection_caps.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

namespace eventvirtual {
namespace {

// 0: no socket.
ino_t InodeOf(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) ? status.st_ino : 0;
}

std::string PeerOf(int fd) {
  sockaddr_storage storage = {};
  socklen_t length = sizeof(storage);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return "";  // it has gone already
  const void* bytes = nullptr;
  size_t size = 0;
  ucred user = {};
  if (storage.ss_family == AF_INET) {
    bytes = &reinterpret_cast<sockaddr_in*>(&storage)->sin_addr;
    size = 4;
  } else if (storage.ss_family == AF_INET6) {
    const in6_addr& address = reinterpret_cast<sockaddr_in6*>(&storage)->sin6_addr;
    const bool v4 = IN6_IS_ADDR_V4MAPPED(&address);
    bytes = address.s6_addr + (v4 ? 12 : 0);
    size = v4 ? 4 : 8;
  } else {
    length = sizeof(user);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &user, &length) != 0) return "";
    bytes = &user.uid;
    size = sizeof(user.uid);
  }
  std::string peer(1, static_cast<char>(storage.ss_family == AF_UNIX ? 'u' : 'i'));
  return peer.append(static_cast<const char*>(bytes), size);
}

}  // namespace

ConnectionCaps::Verdict ConnectionCaps::Admit(int fd) {
  // Its number is free again, so whoever had it has gone.
  Closed(fd);
  if (open_.size() >= max_) return Verdict::kTooMany;
  const std::string peer = PeerOf(fd);
  const auto of_peer = of_peer_.find(peer);
  if (of_peer != of_peer_.end() && of_peer->second >= max_per_peer_) return Verdict::kTooManyOfPeer;
  open_[fd] = {InodeOf(fd), peer};
  ++of_peer_[peer];
  return Verdict::kAdmitted;
}

void ConnectionCaps::Closed(int fd) {
  if (const auto gone = open_.find(fd); gone != open_.end()) Forget(gone);
}

bool ConnectionCaps::IsOfPeerOf(int fd, int counted) const {
  const auto found = open_.find(counted);
  return found != open_.end() && found->second.peer == PeerOf(fd);
}

ConnectionCaps::Connections::iterator ConnectionCaps::Forget(Connections::iterator connection) {
  const auto count = of_peer_.find(connection->second.peer);
  if (--count->second == 0) of_peer_.erase(count);
  return open_.erase(connection);
}

void ConnectionCaps::ForgetClosed() {
  for (auto next = open_.begin(); next != open_.end();) {
    next = InodeOf(next->first) == next->second.inode ? std::next(next) : Forget(next);
  }
}

}  // namespace eventvirtual
