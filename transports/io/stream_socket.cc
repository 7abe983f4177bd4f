#include "transports/io/stream_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cerrno>

#include "transports/io/destination_gate.h"
#include "transports/io/errno_text.h"

namespace eventvirtual {
namespace {

constexpr int kUserTimeoutMs = 3000;
constexpr int kKeepaliveSeconds = 10;

void SetOption(int fd, int level, int name, int value) { setsockopt(fd, level, name, &value, sizeof(value)); }

}  // namespace

absl::Status PrepareStreamSocket(int fd, const sockaddr& address) {
  if (absl::Status status = CheckPeer(address, SOCK_STREAM); !status.ok()) return status;
  SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs);
  SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveSeconds);
  return absl::OkStatus();
}

absl::StatusOr<int> OpenStreamSocket(const sockaddr& address) {
  const int fd = socket(address.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::UnavailableError(ErrnoText(errno));
  absl::Status status = PrepareStreamSocket(fd, address);
  if (status.ok()) return fd;
  close(fd);
  return status;
}

}  // namespace eventvirtual
