#include "transports/io/stream_connector.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/io/errno_text.h"
#include "transports/io/self_connection.h"
#include "transports/io/stream_socket.h"

namespace eventvirtual {

StreamConnector::StreamConnector(Loop& loop, const HostPort& host, absl::Duration timeout,
                                 absl::AnyInvocable<void(absl::StatusOr<int>) &&> on_connected,
                                 const std::string& name_servers)
    : loop_(loop), host_(host), timeout_(timeout), on_connected_(std::move(on_connected)) {
  timer_ = loop_.NewTimer([this] {
    last_error_ = absl::UnavailableError(absl::StrCat(addresses_[next_ - 1].ToString(), ": no answer"));
    CloseAttempt();
    TryNext();
  });
  lookup_ = std::make_unique<NameLookup>(
      loop, host,
      [this](absl::StatusOr<std::vector<SocketAddress>> addresses) {
        if (!addresses.ok()) return Fail(addresses.status());
        addresses_ = *std::move(addresses);
        TryNext();
      },
      name_servers);
}

StreamConnector::~StreamConnector() { CloseAttempt(); }

void StreamConnector::CloseAttempt() {
  watch_.reset();
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

void StreamConnector::TryNext() {
  while (next_ < addresses_.size()) {
    const SocketAddress& address = addresses_[next_++];
    const absl::StatusOr<int> opened = OpenStreamSocket(reinterpret_cast<const sockaddr&>(address.storage));
    if (!opened.ok()) {
      // Another address that is only dead may come back.
      if (last_error_.ok() || absl::IsPermissionDenied(last_error_) || !absl::IsPermissionDenied(opened.status())) {
        last_error_ =
            absl::Status(opened.status().code(), absl::StrCat(address.ToString(), ": ", opened.status().message()));
      }
      continue;
    }
    fd_ = *opened;
    if (connect(fd_, reinterpret_cast<const sockaddr*>(&address.storage), address.length) == 0 ||
        errno == EINPROGRESS) {
      timer_->Arm(loop_.Now() + timeout_ / static_cast<int64_t>(addresses_.size()));
      watch_ = loop_.NewWatch(fd_, [this](Loop::Readiness) { OnWritable(); });
      watch_->Want({.readable = false, .writable = true});
      return;
    }
    last_error_ = absl::UnavailableError(absl::StrCat(address.ToString(), ": ", ErrnoText(errno)));
    CloseAttempt();
  }
  Fail(last_error_);
}

void StreamConnector::OnWritable() {
  int error = 0;
  socklen_t length = sizeof(error);
  getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length);
  if (error == 0 && IsSelfConnection(fd_)) error = ECONNREFUSED;
  if (error != 0) {
    last_error_ = absl::UnavailableError(absl::StrCat(addresses_[next_ - 1].ToString(), ": ", ErrnoText(error)));
    CloseAttempt();
    TryNext();
    return;
  }
  watch_.reset();
  timer_->Cancel();
  std::exchange(on_connected_, nullptr)(std::exchange(fd_, -1));
}

void StreamConnector::Fail(absl::Status why) {
  timer_->Cancel();
  std::exchange(on_connected_, nullptr)(
      absl::Status(why.code(), absl::StrCat("cannot connect to ", host_.ToString(), ": ", why.message())));
}

}  // namespace eventvirtual
