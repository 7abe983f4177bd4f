// LoopbackListener: accepts tcp connections on 127.0.0.1, on a loop.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_IO_LOOPBACK_LISTENER_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_IO_LOOPBACK_LISTENER_H_

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "gtest/gtest.h"
#include "transports/api/loop.h"

namespace eventvirtual {

inline sockaddr_in LoopbackAddress(uint16_t port) {
  return {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
}

// Created, used and destroyed on the loop. Destroyed, it refuses connections; the same port can be had again.
class LoopbackListener {
 public:
  // `port` 0: any free one. `on_accept` owns the non-blocking descriptor it is given.
  LoopbackListener(Loop& loop, uint16_t port, absl::AnyInvocable<void(int fd)> on_accept)
      : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)), on_accept_(std::move(on_accept)) {
    const int on = 1;
    setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    sockaddr_in address = LoopbackAddress(port);
    socklen_t length = sizeof(address);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), length), 0) << errno;
    EXPECT_EQ(listen(fd_, 64), 0);
    getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
    watch_ = loop.NewWatch(fd_, [this](Loop::Readiness) {
      const int accepted = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (accepted >= 0) on_accept_(accepted);
    });
    Pause(false);
  }
  ~LoopbackListener() {
    watch_.reset();
    close(fd_);
  }

  uint16_t port() const { return port_; }
  // Paused, it leaves connections to the kernel, which accepts some for it.
  void Pause(bool paused) { watch_->Want({.readable = !paused, .writable = false}); }

 private:
  const int fd_;
  absl::AnyInvocable<void(int fd)> on_accept_;
  uint16_t port_ = 0;
  std::unique_ptr<Loop::Watch> watch_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_IO_LOOPBACK_LISTENER_H_
