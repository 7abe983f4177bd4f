// UnixReceiver: what a unix subscriber's application does.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_UNIX_UNIX_RECEIVER_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_UNIX_UNIX_RECEIVER_H_

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace eventvirtual {

// A subscriber's application: a unix socket bound to `path`.
class UnixReceiver {
 public:
  explicit UnixReceiver(const std::string& path, int type = SOCK_DGRAM) : fd_(socket(AF_UNIX, type | SOCK_CLOEXEC, 0)) {
    sockaddr_un address = {.sun_family = AF_UNIX};
    std::memcpy(address.sun_path, path.data(), path.size());
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0) << path;
    if (type == SOCK_STREAM) {
      EXPECT_EQ(listen(fd_, 1), 0);
    }
  }
  ~UnixReceiver() { Stop(); }
  UnixReceiver(const UnixReceiver&) = delete;
  void Stop() {  // leaves its file behind, as a process does that is killed
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  // The next datagram; nothing if none comes in time.
  std::optional<std::string> Receive(int patience_ms = 10000) {
    pollfd ready = {fd_, POLLIN, 0};
    if (poll(&ready, 1, patience_ms) != 1) return std::nullopt;
    const ssize_t size = recv(fd_, buffer_.data(), buffer_.size(), 0);
    EXPECT_GE(size, 0);
    return std::string(buffer_.data(), size);
  }

 private:
  int fd_;
  std::vector<char> buffer_ = std::vector<char>(1 << 20);
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_UNIX_UNIX_RECEIVER_H_
