#include <librdkafka/rdkafka.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/transports/io/on_loop.h"
#include "tests/transports/kafka/kafka_server.h"
#include "transports/kafka/kafka_transport.h"
#include "transports/testing/conformance.h"

namespace eventvirtual {
namespace {

// A real broker, and before it a proxy that is stopped and stalled: kafka_transport_test does that to the broker. Each
// peer has a topic of its own.
class BrokerPeer final : public ConformancePeer {
 public:
  explicit BrokerPeer(KafkaServer& server)
      : server_(server), name_(absl::StrCat("conformance-", ++topics_)), topic_(server, name_) {
    while (topic_.Next().has_value()) {
    }
  }
  ~BrokerPeer() override {
    server_.proxy().Resume();
    server_.proxy().Stop();
    server_.proxy().Start();
  }

  Transport& transport() override { return *transport_; }
  std::string uri() const override { return server_.ProxiedUri(name_ + "?g.message.max.bytes=4000000"); }
  std::string uri_with_password() const override {
    return "kafka:127.0.0.1:1/calls?g.security.protocol=sasl_plaintext&g.sasl.mechanism=PLAIN&g.sasl.username=alice&"
           "g.sasl.password=s3cr3t";
  }
  void Start() override { server_.proxy().Start(); }
  void Stop() override { server_.proxy().Stop(); }
  Stalled stalled() const override { return Stalled::kUnanswered; }
  void Stall() override { server_.proxy().Stall(); }
  void Resume() override { server_.proxy().Resume(); }
  std::optional<std::string> Receive(absl::Duration patience) override {
    std::optional<KafkaTopic::Event> event = topic_.Next(patience);
    if (!event.has_value()) return std::nullopt;
    return std::move(event->body);
  }

 private:
  static inline int topics_ = 0;
  const std::unique_ptr<Transport> transport_ = MakeKafkaTransport();
  KafkaServer& server_;
  const std::string name_;
  KafkaTopic topic_;
};

class KafkaConformance : public testing::TestWithParam<ConformanceCase> {
 protected:
  static void SetUpTestSuite() { server_ = new KafkaServer; }
  static void TearDownTestSuite() {
    delete std::exchange(server_, nullptr);
    EXPECT_EQ(rd_kafka_wait_destroyed(static_cast<int>(absl::ToInt64Milliseconds(kPatience))), 0);
  }
  static inline KafkaServer* server_ = nullptr;
};

TEST_P(KafkaConformance, Holds) {
  BrokerPeer peer(*server_);
  GetParam().run(peer);
}

INSTANTIATE_TEST_SUITE_P(Kafka, KafkaConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

}  // namespace
}  // namespace eventvirtual
