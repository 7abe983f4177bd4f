#include "transports/io/stream_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cerrno>

namespace eventvirtual {
namespace {

constexpr int kUserTimeoutMs = 3000;
constexpr int kKeepaliveSeconds = 10;

void SetOption(int fd, int level, int name, int value) { setsockopt(fd, level, name, &value, sizeof(value)); }

}  // namespace

int PrepareStreamSocket(int fd, const sockaddr& /*address*/) {
  SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs);
  SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveSeconds);
  return 0;
}

int OpenStreamSocket(const sockaddr& address) {
  const int fd = socket(address.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fd;
  const int error = PrepareStreamSocket(fd, address);
  if (error == 0) return fd;
  close(fd);
  errno = error;
  return -1;
}

}  // namespace eventvirtual
