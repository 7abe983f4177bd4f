#include "transports/io/datagram_link.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "transports/io/errno_text.h"

namespace eventvirtual {
namespace {

constexpr int kWindow = 256;

}  // namespace

DatagramLink::~DatagramLink() {
  *alive_ = false;
  watch_.reset();
  if (fd_ >= 0) close(fd_);
}

void DatagramLink::Ready(int connected_fd) {
  fd_ = connected_fd;
  watch_ = loop_.NewWatch(fd_, [this](Loop::Readiness ready) {
    if (ready.readable) {
      // Nobody has a reason to send us anything: what is readable is an error, or noise to be dropped.
      char noise[2048];
      if (recv(fd_, noise, sizeof(noise), MSG_DONTWAIT) < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        return Close(absl::DataLossError(absl::StrCat(name_, ": ", ErrnoText(errno))));
      }
    }
    if (ready.writable) Flush();
  });
  watch_->Want({.readable = true, .writable = false});
  host_.OnReady(kWindow);
}

void DatagramLink::Close(absl::Status why) {
  if (!closed_.ok()) return;
  closed_ = why;
  watch_.reset();
  std::deque<Parcel> failed;
  failed.swap(waiting_);
  for (Parcel& parcel : failed) std::move(parcel.done).Finish(why);
  loop_.Post([this, alive = alive_, why] {
    if (*alive) host_.OnClosed(why);
  });
}

void DatagramLink::Send(absl::Span<Parcel> parcels) {
  for (Parcel& parcel : parcels) {
    if (closed_.ok()) {
      waiting_.push_back(std::move(parcel));
    } else {
      std::move(parcel.done).Finish(closed_);
    }
  }
  Flush();
}

absl::Status DatagramLink::TakeSocketError() {
  int error = 0;
  socklen_t length = sizeof(error);
  getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length);
  if (error == 0) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(name_, ": ", ErrnoText(error)));
}

void DatagramLink::Flush() {
  if (!closed_.ok()) return;
  std::vector<Completion> sent;
  absl::Status failure;
  while (!waiting_.empty()) {
    const absl::string_view payload = waiting_.front().message->jsonrpc();
    if (send(fd_, payload.data(), payload.size(), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
      sent.push_back(std::move(waiting_.front().done));
      waiting_.pop_front();
      continue;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) break;
    if (errno == EINTR) continue;
    if (errno == EMSGSIZE) {
      Completion done = std::move(waiting_.front().done);
      waiting_.pop_front();
      std::move(done).Finish(absl::InvalidArgumentError(
          absl::StrCat(name_, ": an event of ", payload.size(), " bytes does not fit into one datagram")));
      continue;
    }
    failure = absl::UnavailableError(absl::StrCat(name_, ": ", ErrnoText(errno)));
    break;
  }
  if (failure.ok()) failure = TakeSocketError();
  // Which datagram an error belongs to is not known: all of this batch are reported as failed.
  for (Completion& done : sent) std::move(done).Finish(failure);
  if (!failure.ok()) return Close(failure);
  watch_->Want({.readable = true, .writable = !waiting_.empty()});
}

}  // namespace eventvirtual
