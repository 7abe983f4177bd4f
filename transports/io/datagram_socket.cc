#include "transports/io/datagram_socket.h"

#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <utility>

namespace eventvirtual {

DatagramSocket::DatagramSocket(BoundSocket bound, Loop& loop, size_t max_bytes, absl::AnyInvocable<void()> on_readable)
    : bound_(std::move(bound)),
      buffer_(max_bytes, '\0'),
      watch_(loop.NewWatch(bound_.fd(),
                           [on_readable = std::move(on_readable)](Loop::Readiness) mutable { on_readable(); })) {
  watch_->Want({.readable = true, .writable = false});
}

std::optional<Datagram> DatagramSocket::Receive() {
  std::optional<Datagram> datagram(std::in_place);
  datagram->from_length = sizeof(datagram->from);
  const ssize_t got = recvfrom(bound_.fd(), buffer_.data(), buffer_.size(), MSG_TRUNC,
                               reinterpret_cast<sockaddr*>(&datagram->from), &datagram->from_length);
  if (got < 0) return std::nullopt;  // nothing more, or an error of a peer that is none of ours
  const size_t size = std::min(static_cast<size_t>(got), buffer_.size());
  datagram->bytes = absl::string_view(buffer_.data(), size);
  datagram->cut = static_cast<size_t>(got) > size;
  // A unix socket that was not bound says its family and no path.
  if (datagram->from_length <= offsetof(sockaddr, sa_data)) datagram->from_length = 0;
  return datagram;
}

void DatagramSocket::Answer(const Datagram& to, absl::string_view bytes) {
  if (to.from_length == 0) return;
  const auto send_from = [&to, bytes](int fd) {
    return sendto(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&to.from),
                  to.from_length) >= 0;
  };
  if (to.from.ss_family == AF_UNIX) {
    // What a unix socket has sent is charged to it until it is read: who reads nothing would fill ours. So each answer
    // has a socket of its own, which only a client that is connected to us does not take.
    const int own = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const bool done = own >= 0 && (send_from(own) || errno != EPERM);
    if (own >= 0) close(own);
    if (done) return;
  }
  send_from(bound_.fd());
}

void DatagramSocket::Stop() { watch_->Want({}); }

}  // namespace eventvirtual
