#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/tcp_proxy.h"
#include "tests/transports/rabbitmq/rabbitmq_server.h"
#include "transports/rabbitmq/rabbitmq_transport.h"
#include "transports/testing/conformance.h"

namespace eventvirtual {
namespace {

// A real broker, and before it a proxy that is stopped and stalled: rabbitmq_transport_test does that to the broker.
class BrokerPeer final : public ConformancePeer {
 public:
  BrokerPeer(const RabbitmqServer& server, bool tls)
      : tls_options_(tls ? server.TlsOptions() : ""), client_(server), proxy_(tls ? server.tls_port() : server.port()) {
    client_.DeclareQueue("conformance");
    client_.Drain("conformance");
  }

  Transport& transport() override { return *transport_; }
  std::string uri() const override {
    if (tls_options_.empty()) return absl::StrCat("rabbitmq:127.0.0.1:", proxy_.port(), "/conformance");
    return absl::StrCat("amqps://localhost:", proxy_.port(), "?routing_key=conformance&", tls_options_);
  }
  std::string uri_with_password() const override {
    return tls_options_.empty() ? "rabbitmq:alice:s3cr3t@127.0.0.1:1/conformance"
                                : "amqps://alice:s3cr3t@127.0.0.1:1/v?routing_key=conformance";
  }
  void Start() override { proxy_.Start(); }
  void Stop() override { proxy_.Stop(); }
  Stalled stalled() const override { return Stalled::kUnanswered; }
  void Stall() override { proxy_.Stall(); }
  void Resume() override { proxy_.Resume(); }
  std::optional<std::string> Receive(absl::Duration patience) override {
    const absl::Time give_up = absl::Now() + patience;
    do {
      if (received_.empty()) {
        for (RabbitmqClient::Received& one : client_.Drain("conformance")) received_.push_back(std::move(one.body));
      }
      if (received_.empty()) continue;
      std::string text = std::move(received_.front());
      received_.pop_front();
      return text;
    } while (absl::Now() < give_up);
    return std::nullopt;
  }

 private:
  const std::unique_ptr<Transport> transport_ = MakeRabbitmqTransport();
  const std::string tls_options_;  // empty: no TLS
  RabbitmqClient client_;
  TcpProxy proxy_;
  std::deque<std::string> received_;
};

class RabbitmqConformance : public testing::TestWithParam<ConformanceCase> {
 protected:
  static void SetUpTestSuite() { server_ = new RabbitmqServer; }
  static void TearDownTestSuite() { delete std::exchange(server_, nullptr); }
  static inline RabbitmqServer* server_ = nullptr;
};

TEST_P(RabbitmqConformance, Holds) {
  BrokerPeer peer(*server_, /*tls=*/false);
  GetParam().run(peer);
}

class AmqpsConformance : public RabbitmqConformance {};

TEST_P(AmqpsConformance, Holds) {
  BrokerPeer peer(*server_, /*tls=*/true);
  GetParam().run(peer);
}

INSTANTIATE_TEST_SUITE_P(Rabbitmq, RabbitmqConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);
INSTANTIATE_TEST_SUITE_P(Amqps, AmqpsConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

}  // namespace
}  // namespace eventvirtual
