// UdpReceiver: what a udp subscriber's application does.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_UDP_UDP_RECEIVER_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_UDP_UDP_RECEIVER_H_

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace eventvirtual {

// A subscriber's application: a UDP socket on a loopback address, to be stopped and started on the same port.
class UdpReceiver {
 public:
  explicit UdpReceiver(int family = AF_INET) : family_(family) { Start(); }
  ~UdpReceiver() { Stop(); }

  void Start() {
    fd_ = socket(family_, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_storage address = {};
    socklen_t length = sizeof(address);
    if (family_ == AF_INET6) {
      auto* const v6 = reinterpret_cast<sockaddr_in6*>(&address);
      *v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port_), .sin6_addr = in6addr_loopback};
      length = sizeof(*v6);
    } else {
      auto* const v4 = reinterpret_cast<sockaddr_in*>(&address);
      *v4 = {.sin_family = AF_INET, .sin_port = htons(port_), .sin_addr = {htonl(INADDR_LOOPBACK)}};
      length = sizeof(*v4);
    }
    ASSERT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), length), 0);
    ASSERT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(family_ == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                                      : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
  }
  void Stop() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }

  std::string uri() const { return absl::StrCat("udp:", family_ == AF_INET6 ? "[::1]" : "127.0.0.1", ":", port_); }

  // The next datagram; nothing if none comes in time.
  std::optional<std::string> Receive(sockaddr_storage* from = nullptr, int patience_ms = 10000) {
    pollfd ready = {fd_, POLLIN, 0};
    if (poll(&ready, 1, patience_ms) != 1) return std::nullopt;
    socklen_t length = sizeof(sockaddr_storage);
    const ssize_t size =
        recvfrom(fd_, buffer_.data(), buffer_.size(), 0, reinterpret_cast<sockaddr*>(from), from ? &length : nullptr);
    EXPECT_GE(size, 0);
    return std::string(buffer_.data(), size);
  }
  void SendBack(const sockaddr_storage& to, const std::string& text) {
    EXPECT_EQ(sendto(fd_, text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof(sockaddr_in)),
              ssize_t(text.size()));
  }

 private:
  const int family_;
  uint16_t port_ = 0;
  int fd_ = -1;
  std::vector<char> buffer_ = std::vector<char>(70000);
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_UDP_UDP_RECEIVER_H_
