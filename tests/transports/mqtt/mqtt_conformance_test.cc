// The conformance suite against a real mosquitto behind a proxy that cuts and stalls.
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/transports/io/tcp_proxy.h"
#include "tests/transports/mqtt/mqtt_broker.h"
#include "transports/mqtt/mqtt_transport.h"
#include "transports/testing/conformance.h"

namespace eventvirtual {
namespace {

class BrokerPeer final : public ConformancePeer {
 public:
  Transport& transport() override { return *transport_; }
  std::string uri() const override { return absl::StrCat("mqtt://127.0.0.1:", proxy_.port(), "/events"); }
  std::string uri_with_password() const override { return "mqtt://alice:s3cr3t@127.0.0.1:1/events"; }
  void Stop() override { proxy_.Stop(); }
  void Start() override { proxy_.Start(); }
  Stalled stalled() const override { return Stalled::kUnanswered; }
  void Stall() override { proxy_.Stall(); }
  void Resume() override { proxy_.Resume(); }
  std::optional<std::string> Receive(absl::Duration patience) override {
    std::optional<MqttReader::Event> event = reader_.Next(patience);
    if (!event.has_value()) return std::nullopt;
    return std::move(event->body);
  }

 private:
  MqttBroker broker_{"allow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\n"};
  TcpProxy proxy_{broker_.port()};
  MqttReader reader_{broker_};
  const std::unique_ptr<Transport> transport_ = MakeMqttTransport();
};

class MqttConformance : public testing::TestWithParam<ConformanceCase> {};
TEST_P(MqttConformance, Holds) {
  BrokerPeer peer;
  GetParam().run(peer);
}
INSTANTIATE_TEST_SUITE_P(Mqtt, MqttConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

}  // namespace
}  // namespace eventvirtual
