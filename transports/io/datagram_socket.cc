#include "transports/io/datagram_socket.h"

#include <errno.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <utility>

namespace eventvirtual {
namespace {

constexpr size_t kPerCall = 16;

std::optional<uid_t> UserOf(const msghdr& header) {
  const cmsghdr* const control = CMSG_FIRSTHDR(&header);
  if (control == nullptr || control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_CREDENTIALS) {
    return std::nullopt;
  }
  ucred user;
  std::memcpy(&user, CMSG_DATA(control), sizeof(user));
  return user.uid;
}

}  // namespace

DatagramSocket::DatagramSocket(BoundSocket bound, Loop& loop, size_t max_bytes, absl::AnyInvocable<void()> on_readable)
    : bound_(std::move(bound)),
      max_bytes_(max_bytes),
      buffer_(new char[kPerCall * max_bytes]),
      watch_(loop.NewWatch(bound_.fd(),
                           [on_readable = std::move(on_readable)](Loop::Readiness) mutable { on_readable(); })) {
  watch_->Want({.readable = true, .writable = false});
}

void DatagramSocket::AskForUsers() {
  const int one = 1;
  asks_for_users_ = setsockopt(bound_.fd(), SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) == 0;
}

bool DatagramSocket::Receive(absl::FunctionRef<void(const Datagram&)> take) {
  Datagram datagrams[kPerCall];
  iovec pieces[kPerCall];
  mmsghdr headers[kPerCall] = {};
  alignas(cmsghdr) char controls[kPerCall][CMSG_SPACE(sizeof(ucred))];
  for (size_t i = 0; i < kPerCall; ++i) {
    pieces[i] = {buffer_.get() + i * max_bytes_, max_bytes_};
    headers[i].msg_hdr.msg_iov = &pieces[i];
    headers[i].msg_hdr.msg_iovlen = 1;
    headers[i].msg_hdr.msg_name = &datagrams[i].from;
    headers[i].msg_hdr.msg_namelen = sizeof(datagrams[i].from);
    if (!asks_for_users_) continue;
    headers[i].msg_hdr.msg_control = controls[i];
    headers[i].msg_hdr.msg_controllen = sizeof(controls[i]);
  }
  const int got = recvmmsg(bound_.fd(), headers, kPerCall, 0, nullptr);
  for (int i = 0; i < got; ++i) {  // below 0: nothing, or an error of a peer that is none of ours
    datagrams[i].bytes = absl::string_view(static_cast<const char*>(pieces[i].iov_base), headers[i].msg_len);
    datagrams[i].cut = (headers[i].msg_hdr.msg_flags & MSG_TRUNC) != 0;
    // A unix socket that was not bound says its family and no path.
    const socklen_t length = headers[i].msg_hdr.msg_namelen;
    datagrams[i].from_length = length <= offsetof(sockaddr, sa_data) ? 0 : length;
    if (asks_for_users_) datagrams[i].user = UserOf(headers[i].msg_hdr);
    take(datagrams[i]);
  }
  return got == static_cast<int>(kPerCall);
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
