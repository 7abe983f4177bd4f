#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "transports/testing/conformance.h"
#include "transports/unix/unix_transport.h"

namespace eventvirtual {
namespace {

class UnixPeer final : public ConformancePeer {
 public:
  UnixPeer() {
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    Start();
  }
  ~UnixPeer() override {
    Stop();
    std::filesystem::remove_all(folder_);
  }

  Transport& transport() override { return *transport_; }
  std::string uri() const override { return "unix:" + path(); }
  void Start() override {
    fd_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un address = {.sun_family = AF_UNIX};
    std::memcpy(address.sun_path, path().data(), path().size());
    std::filesystem::remove(path());
    ASSERT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  void Stop() override {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  // Nobody reads while the test does not.
  Stalled stalled() const override { return Stalled::kHeldBack; }
  std::optional<std::string> Receive(absl::Duration patience) override {
    pollfd ready = {fd_, POLLIN, 0};
    if (poll(&ready, 1, static_cast<int>(absl::ToInt64Milliseconds(patience))) != 1) return std::nullopt;
    const ssize_t size = recv(fd_, buffer_.data(), buffer_.size(), 0);
    EXPECT_GE(size, 0);
    return std::string(buffer_.data(), size);
  }
  // A datagram and the kernel's own bookkeeping for it share the send buffer.
  size_t largest() const override {
    size_t bytes = 0;
    std::ifstream("/proc/sys/net/core/wmem_default") >> bytes;
    return bytes - 32;
  }

 private:
  std::string path() const { return folder_ + "/app.sock"; }

  const std::unique_ptr<Transport> transport_ = MakeUnixTransport();
  std::string folder_ = "/tmp/evXXXXXX";
  int fd_ = -1;
  std::vector<char> buffer_ = std::vector<char>(4 << 20);
};

class UnixConformance : public testing::TestWithParam<ConformanceCase> {};

TEST_P(UnixConformance, Holds) {
  UnixPeer peer;
  GetParam().run(peer);
}

INSTANTIATE_TEST_SUITE_P(Unix, UnixConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

}  // namespace
}  // namespace eventvirtual
