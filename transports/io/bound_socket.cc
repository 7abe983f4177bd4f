#include "transports/io/bound_socket.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "transports/api/uri.h"
#include "transports/io/errno_text.h"
#include "transports/io/socket_address.h"
#include "transports/io/socket_file.h"

namespace eventvirtual {

absl::StatusOr<BoundSocket> BoundSocket::Internet(absl::string_view address, int type, Reach reach) {
  // Port 0 asks for any free one, which ParseHostPort() refuses for a destination.
  std::string text(address);
  const bool any_port = absl::ConsumeSuffix(&address, ":0");
  if (any_port) text = absl::StrCat(address, ":1");
  absl::StatusOr<HostPort> host = ParseHostPort(text);
  if (!host.ok()) return host.status();
  if (any_port) host->port = 0;
  std::optional<SocketAddress> numeric = SocketAddress::Numeric(*host);
  if (!numeric.has_value()) {
    return absl::InvalidArgumentError("the host must be a numeric address, such as 127.0.0.1");
  }
  if (reach == Reach::kLoopback && !numeric->IsLoopback()) {
    return absl::PermissionDeniedError(absl::StrCat(host->host, " is not a loopback address, such as 127.0.0.1"));
  }

  BoundSocket bound(socket(numeric->storage.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "");
  const int one = 1;
  if (bound.fd_ >= 0 && type == SOCK_STREAM) setsockopt(bound.fd_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (bound.fd_ < 0 || bind(bound.fd_, numeric->get(), numeric->length) != 0 ||
      (type == SOCK_STREAM && listen(bound.fd_, SOMAXCONN) != 0)) {
    return absl::UnavailableError(ErrnoText(errno));
  }
  getsockname(bound.fd_, numeric->get(), &numeric->length);
  host->port = numeric->port();
  bound.address_ = host->ToString();
  return bound;
}

absl::StatusOr<BoundSocket> BoundSocket::Unix(absl::string_view path, int type, std::optional<gid_t> group) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path[0] != '/' || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError("the path must be absolute and at most 107 bytes long");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  if (absl::Status status = RemoveDeadSocketFile(std::string(path), type); !status.ok()) return status;
  BoundSocket bound(socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), std::string(path));
  if (bound.fd_ < 0) return absl::UnavailableError(ErrnoText(errno));
  // The file is made with these rights or fewer, so that no other user is in for a moment.
  fchmod(bound.fd_, 0660);
  if (bind(bound.fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return absl::UnavailableError(ErrnoText(errno));
  }
  bound.path_ = std::string(path);
  if (group.has_value() && chown(address.sun_path, static_cast<uid_t>(-1), *group) != 0) {
    return absl::UnavailableError(absl::StrCat("cannot give it to the group ", *group, ": ", ErrnoText(errno)));
  }
  if (chmod(address.sun_path, 0660) != 0 || (type == SOCK_STREAM && listen(bound.fd_, SOMAXCONN) != 0)) {
    return absl::UnavailableError(ErrnoText(errno));
  }
  return bound;
}

BoundSocket::~BoundSocket() {
  if (fd_ >= 0) close(fd_);
  if (!path_.empty()) unlink(path_.c_str());
}

}  // namespace eventvirtual
