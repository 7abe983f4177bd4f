#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "transports/testing/conformance.h"
#include "transports/udp/udp_transport.h"

namespace eventvirtual {
namespace {

class UdpPeer final : public ConformancePeer {
 public:
  UdpPeer() { Start(); }
  ~UdpPeer() override { Stop(); }

  Transport& transport() override { return *transport_; }
  std::string uri() const override { return absl::StrCat("udp:127.0.0.1:", port_); }
  void Start() override {
    fd_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port_), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    ASSERT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), length), 0);
    ASSERT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
  }
  void Stop() override {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  Stalled stalled() const override { return Stalled::kDropped; }
  std::optional<std::string> Receive(absl::Duration patience) override {
    pollfd ready = {fd_, POLLIN, 0};
    if (poll(&ready, 1, static_cast<int>(absl::ToInt64Milliseconds(patience))) != 1) return std::nullopt;
    const ssize_t size = recv(fd_, buffer_.data(), buffer_.size(), 0);
    EXPECT_GE(size, 0);
    return std::string(buffer_.data(), size);
  }
  size_t largest() const override { return 65457; }

 private:
  const std::unique_ptr<Transport> transport_ = MakeUdpTransport();
  uint16_t port_ = 0;
  int fd_ = -1;
  std::vector<char> buffer_ = std::vector<char>(70000);
};

class UdpConformance : public testing::TestWithParam<ConformanceCase> {};

TEST_P(UdpConformance, Holds) {
  UdpPeer peer;
  GetParam().run(peer);
}

INSTANTIATE_TEST_SUITE_P(Udp, UdpConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

}  // namespace
}  // namespace eventvirtual
