// The transport against librdkafka's mock cluster, whose brokers refuse, stall and go down as they are told.
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/io/on_loop.h"
#include "transports/kafka/kafka_transport.h"

namespace eventvirtual {
namespace {

using testing::HasSubstr;

constexpr int16_t kProduceRequest = 0;  // https://kafka.apache.org/protocol: API keys
constexpr int16_t kMetadataRequest = 3;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

class KafkaMockTest : public testing::Test {
 protected:
  KafkaMockTest()
      : owner_(rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), nullptr, 0)),
        cluster_(rd_kafka_mock_cluster_new(owner_, 1)) {
    EXPECT_EQ(rd_kafka_mock_topic_create(cluster_, "calls", 1, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
  }
  ~KafkaMockTest() override {
    rd_kafka_mock_cluster_destroy(cluster_);
    rd_kafka_destroy(owner_);
    EXPECT_EQ(rd_kafka_wait_destroyed(static_cast<int>(absl::ToInt64Milliseconds(kPatience))), 0)
        << "a producer lives on";
  }

  std::string Uri(absl::string_view rest = "calls") const {
    return absl::StrCat("kafka:", rd_kafka_mock_cluster_bootstraps(cluster_), "/", rest);
  }
  std::unique_ptr<LinkUnderTest> Connect(absl::string_view rest = "calls") {
    return std::make_unique<LinkUnderTest>(*transport_, Uri(rest));
  }

  rd_kafka_t* const owner_;
  rd_kafka_mock_cluster_t* const cluster_;
  const std::unique_ptr<Transport> transport_ = MakeKafkaTransport();
};

TEST_F(KafkaMockTest, AnEventIsConfirmed) {
  const auto link = Connect();
  ASSERT_EQ(link->WaitReady(), 256);
  EXPECT_TRUE(link->SendAndWait(MakeMessage("E_ONE")).ok());
}

}  // namespace
}  // namespace eventvirtual
