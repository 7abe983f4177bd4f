#include "transports/io/acceptor.h"

#include <errno.h>
#include <sys/socket.h>

#include <utility>

namespace eventvirtual {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(100);

}  // namespace

Acceptor::Acceptor(BoundSocket listening, Loop& loop, absl::AnyInvocable<void(int fd)> take)
    : listening_(std::move(listening)),
      loop_(loop),
      take_(std::move(take)),
      watch_(loop.NewWatch(listening_.fd(), [this](Loop::Readiness) { Accept(); })),
      retry_(loop.NewTimer([this] { watch_->Want({.readable = true, .writable = false}); })) {
  watch_->Want({.readable = true, .writable = false});
}

void Acceptor::Stop() {
  retry_->Cancel();
  watch_->Want({});
}

void Acceptor::Accept() {
  while (true) {
    const int fd = accept4(listening_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      take_(fd);
      continue;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) return;
    if (errno == EINTR || errno == ECONNABORTED) continue;
    // Out of descriptors: trying again at once would only spin.
    watch_->Want({});
    return retry_->Arm(loop_.Now() + kPause);
  }
}

}  // namespace eventvirtual
