#include <memory>
#include <optional>
#include <string>

#include "gtest/gtest.h"
#include "tests/transports/udp/udp_receiver.h"
#include "transports/testing/conformance.h"
#include "transports/udp/udp_transport.h"

namespace eventvirtual {
namespace {

class UdpPeer final : public ConformancePeer {
 public:
  Transport& transport() override { return *transport_; }
  std::string uri() const override { return receiver_.uri(); }
  void Start() override { receiver_.Start(); }
  void Stop() override { receiver_.Stop(); }
  Stalled stalled() const override { return Stalled::kDropped; }
  std::optional<std::string> Receive(absl::Duration patience) override {
    return receiver_.Receive(nullptr, static_cast<int>(absl::ToInt64Milliseconds(patience)));
  }
  size_t largest() const override { return 65457; }

 private:
  const std::unique_ptr<Transport> transport_ = MakeUdpTransport();
  UdpReceiver receiver_;
};

class UdpConformance : public testing::TestWithParam<ConformanceCase> {};

TEST_P(UdpConformance, Holds) {
  UdpPeer peer;
  GetParam().run(peer);
}

INSTANTIATE_TEST_SUITE_P(Udp, UdpConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

}  // namespace
}  // namespace eventvirtual
