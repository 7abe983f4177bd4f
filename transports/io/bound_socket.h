// BoundSocket: the socket of a listener.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_BOUND_SOCKET_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_BOUND_SOCKET_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace eventvirtual {

// Owns the descriptor, and the file of a unix socket. Move-only.
class BoundSocket {
 public:
  enum class Reach {
    kAny,
    kLoopback,  // an address that other hosts reach is refused
  };

  // `address` is host:port with a numeric host; port 0 takes any that is free. `type` is SOCK_DGRAM, or SOCK_STREAM,
  // which then listens. INVALID_ARGUMENT: no such address; PERMISSION_DENIED: its reach; UNAVAILABLE: what the kernel
  // says.
  static absl::StatusOr<BoundSocket> Internet(absl::string_view address, int type, Reach reach = Reach::kAny);

  // A socket at `path`, absolute and at most 107 bytes long, for its owner and its group (0660): that of the process,
  // or `group`. `type` is SOCK_DGRAM, or SOCK_STREAM, which then listens. The file of a process that has gone is
  // replaced; UNAVAILABLE: a living one has it, or something else is there; or this process may not give it to that
  // group.
  static absl::StatusOr<BoundSocket> Unix(absl::string_view path, int type, std::optional<gid_t> group = std::nullopt);

  BoundSocket(BoundSocket&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)),
        address_(std::move(other.address_)),
        path_(std::exchange(other.path_, std::string())) {}
  BoundSocket& operator=(BoundSocket&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(address_, other.address_);
    std::swap(path_, other.path_);
    return *this;
  }
  ~BoundSocket();

  int fd() const { return fd_; }  // non-blocking, close-on-exec
  // As given, with the port that was chosen for 0.
  const std::string& address() const { return address_; }

 private:
  BoundSocket(int fd, std::string address) : fd_(fd), address_(std::move(address)) {}

  int fd_;
  std::string address_;
  std::string path_;  // of a unix socket
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_BOUND_SOCKET_H_
