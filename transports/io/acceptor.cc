#include "transports/io/acceptor.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

namespace eventvirtual {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(100);
constexpr int kRound = 64;  // connections, before others on the loop have their turn

int Reserve() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

}  // namespace

Acceptor::Acceptor(BoundSocket listening, Loop& loop, absl::AnyInvocable<void(int fd)> take,
                   absl::AnyInvocable<void()> on_shed)
    : listening_(std::move(listening)),
      loop_(loop),
      take_(std::move(take)),
      on_shed_(std::move(on_shed)),
      reserve_(Reserve()),
      watch_(loop.NewWatch(listening_.fd(), [this](Loop::Readiness) { Accept(); })),
      retry_(loop.NewTimer([this] { watch_->Want({.readable = true, .writable = false}); })) {
  watch_->Want({.readable = true, .writable = false});
}

Acceptor::~Acceptor() {
  if (reserve_ >= 0) close(reserve_);
}

void Acceptor::Stop() {
  retry_->Cancel();
  watch_->Want({});
}

void Acceptor::Accept() {
  for (int round = 0; round < kRound; ++round) {
    if (reserve_ < 0) reserve_ = Reserve();
    const int fd = accept4(listening_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      take_(fd);
      continue;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) return;
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if ((errno == EMFILE || errno == ENFILE) && Shed()) continue;
    // Trying again at once would only spin.
    watch_->Want({});
    return retry_->Arm(loop_.Now() + kPause);
  }
}

// False: the reserve is gone, taken by another thread between two calls, or there is no memory for a socket.
bool Acceptor::Shed() {
  if (reserve_ < 0) return false;
  close(std::exchange(reserve_, -1));
  const int fd = accept4(listening_.fd(), nullptr, nullptr, SOCK_CLOEXEC);
  if (fd >= 0) {
    close(fd);
    on_shed_();
  }
  reserve_ = Reserve();
  return fd >= 0;
}

}  // namespace eventvirtual
