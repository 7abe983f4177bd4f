#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "gtest/gtest.h"
#include "tests/transports/unix/unix_receiver.h"
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
  ~UnixPeer() override { std::filesystem::remove_all(folder_); }

  Transport& transport() override { return *transport_; }
  std::string uri() const override { return "unix:" + path(); }
  void Start() override {
    std::filesystem::remove(path());
    receiver_.emplace(path());
  }
  void Stop() override { receiver_->Stop(); }
  // Nobody reads while the test does not.
  Stalled stalled() const override { return Stalled::kHeldBack; }
  std::optional<std::string> Receive(absl::Duration patience) override {
    return receiver_->Receive(static_cast<int>(absl::ToInt64Milliseconds(patience)));
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
  std::optional<UnixReceiver> receiver_;
};

class UnixConformance : public testing::TestWithParam<ConformanceCase> {};

TEST_P(UnixConformance, Holds) {
  UnixPeer peer;
  GetParam().run(peer);
}

INSTANTIATE_TEST_SUITE_P(Unix, UnixConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

}  // namespace
}  // namespace eventvirtual
