#include "transports/io/datagram_link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/io/errno_text.h"

namespace eventvirtual {
namespace {

constexpr int kWindow = 256;

// One UDP_SEGMENT call: at most 64 datagrams (UDP_MAX_SEGMENTS, linux/udp.h) and 64 KiB; each must fit into the path's
// MTU unfragmented, so what is larger than IPv6's least MTU of 1280 (RFC 8200) allows is sent by itself.
constexpr size_t kMaxRun = 64;
constexpr size_t kMaxRunBytes = 65000;
constexpr size_t kMaxSegment = 1280 - 40 - 8;

// Where there is no room, what waits is tried again after a while. Readiness would tell a unix socket after each single
// datagram that its reader has taken, and the next send would find no room again, which costs as much as one that does:
// so every second call was in vain. A device whose queue is full leaves its socket writable; there is nothing to be
// told.
constexpr absl::Duration kRetryNoRoom = absl::Microseconds(100);
constexpr absl::Duration kRetryCongested = absl::Milliseconds(1);

}  // namespace

DatagramLink::~DatagramLink() {
  *alive_ = false;
  watch_.reset();
  if (fd_ >= 0) close(fd_);
}

void DatagramLink::Ready(int connected_fd) {
  fd_ = connected_fd;
  const int off = 0;  // the size is given with each run; refused where there is no such thing
  cuts_runs_ = setsockopt(fd_, IPPROTO_UDP, UDP_SEGMENT, &off, sizeof(off)) == 0;
  retry_ = loop_.NewTimer([this] {
    retrying_ = false;
    Flush();
  });
  watch_ = loop_.NewWatch(fd_, [this](Loop::Readiness ready) {
    if (!ready.readable) return;
    // Nobody has a reason to send us anything: what is readable is an error, or noise to be dropped.
    char noise[1];
    if (recv(fd_, noise, sizeof(noise), MSG_DONTWAIT) < 0 && errno != EAGAIN && errno != EINTR) {
      Close(absl::DataLossError(absl::StrCat(name_, ": ", ErrnoText(errno), ", reported after events had been sent")));
    }
  });
  watch_->Want({.readable = true, .writable = false});
  host_.OnReady(kWindow);
}

void DatagramLink::Close(absl::Status why) {
  if (!closed_.ok()) return;
  closed_ = why;
  watch_.reset();
  retry_.reset();
  std::deque<Parcel> failed;
  failed.swap(waiting_);
  for (Parcel& parcel : failed) std::move(parcel.done).Finish(why);
  loop_.Post([this, alive = alive_, why] {
    if (*alive) host_.OnClosed(why);
  });
}

void DatagramLink::Send(absl::Span<Parcel> parcels) {
  for (Parcel& parcel : parcels) {
    const size_t size = parcel.message->encoded(encoding_).size();
    if (!closed_.ok()) {
      std::move(parcel.done).Finish(closed_);
    } else if (size > max_payload_) {
      std::move(parcel.done)
          .Finish(absl::InvalidArgumentError(absl::StrCat(name_, ": the event has ", size,
                                                          " bytes as JSON; a datagram holds at most ", max_payload_)));
    } else {
      waiting_.push_back(std::move(parcel));
    }
  }
  if (!retrying_) Flush();
}

int DatagramLink::TakeSocketError() {
  int error = 0;
  socklen_t length = sizeof(error);
  getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

// How many of those that wait, from the first on, may leave in one call: all of one size, the last may be smaller.
size_t DatagramLink::RunLength() const {
  const size_t size = waiting_.front().message->encoded(encoding_).size();
  if (!cuts_runs_ || size > kMaxSegment) return 1;
  const size_t most = std::min({waiting_.size(), kMaxRun, kMaxRunBytes / size});
  size_t count = 1;
  while (count < most && waiting_[count].message->encoded(encoding_).size() == size) ++count;
  if (count < most && waiting_[count].message->encoded(encoding_).size() < size) ++count;
  return count;
}

// Sends the first `count` of those that wait, all or none. 0 or an errno.
int DatagramLink::SendRun(size_t count) {
  if (count == 1) {
    const absl::string_view payload = waiting_.front().message->encoded(encoding_);
    while (send(fd_, payload.data(), payload.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
      if (errno != EINTR) return errno;
    }
    return 0;
  }
  iovec pieces[kMaxRun];
  for (size_t i = 0; i < count; ++i) {
    const absl::string_view payload = waiting_[i].message->encoded(encoding_);
    pieces[i] = {const_cast<char*>(payload.data()), payload.size()};
  }
  msghdr header = {};
  header.msg_iov = pieces;
  header.msg_iovlen = count;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(uint16_t))] = {};
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  cmsghdr* const option = CMSG_FIRSTHDR(&header);
  option->cmsg_level = IPPROTO_UDP;
  option->cmsg_type = UDP_SEGMENT;
  option->cmsg_len = CMSG_LEN(sizeof(uint16_t));
  const auto size = static_cast<uint16_t>(pieces[0].iov_len);
  std::memcpy(CMSG_DATA(option), &size, sizeof(size));
  while (sendmsg(fd_, &header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

void DatagramLink::Flush() {
  if (!closed_.ok()) return;
  if (const int error = TakeSocketError(); error != 0) {
    // It was there before we sent: it speaks of what has been reported as sent.
    return Close(
        absl::DataLossError(absl::StrCat(name_, ": ", ErrnoText(error), ", reported after events had been sent")));
  }
  int error = 0;
  while (!waiting_.empty()) {
    const size_t count = RunLength();
    error = SendRun(count);
    if (error != 0 && count > 1 && (error == EIO || error == EINVAL || error == EMSGSIZE || error == ENOPROTOOPT)) {
      cuts_runs_ = false;  // this path or device cannot: one by one
      continue;
    }
    if (error == EMSGSIZE) {
      std::move(waiting_.front().done)
          .Finish(absl::InvalidArgumentError(
              absl::StrCat(name_, ": the event has ", waiting_.front().message->encoded(encoding_).size(),
                           " bytes as JSON; the system takes no datagram of that size (net.core.wmem_default)")));
      waiting_.pop_front();
      continue;
    }
    if (error != 0) break;
    for (size_t i = 0; i < count; ++i) {
      sent_.push_back(std::move(waiting_.front().done));
      waiting_.pop_front();
    }
  }
  const bool no_room = error == EAGAIN || error == EWOULDBLOCK;
  const bool congested = error == ENOBUFS;
  if (no_room || congested || waiting_.empty()) error = TakeSocketError();

  // Which datagram an error belongs to is not known: all of this batch are reported as failed.
  const absl::Status outcome =
      error == 0 ? absl::OkStatus() : absl::UnavailableError(absl::StrCat(name_, ": ", ErrnoText(error)));
  for (Completion& done : sent_) std::move(done).Finish(outcome);
  sent_.clear();
  if (!outcome.ok()) return Close(outcome);
  if (no_room || congested) {
    retrying_ = true;
    retry_->Arm(loop_.Now() + (no_room ? kRetryNoRoom : kRetryCongested));
  }
}

}  // namespace eventvirtual
