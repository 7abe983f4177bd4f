// The transport against librdkafka's mock cluster, whose brokers refuse, stall and go down as they are told.
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/io/loopback_listener.h"
#include "tests/transports/io/on_loop.h"
#include "transports/kafka/kafka_transport.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int16_t kProduceRequest = 0;  // the protocol's number
constexpr int kBroker = 1;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

std::vector<MessageRef> Many(int count, size_t size = 100) { return {static_cast<size_t>(count), MessageOfSize(size)}; }

// One broker, and a topic "calls" of one partition.
class KafkaMockTest : public testing::Test {
 protected:
  KafkaMockTest() {
    rd_kafka_conf_t* const conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", "127.0.0.1:1", nullptr, 0);
    rd_kafka_conf_set(conf, "log_level", "0", nullptr, 0);
    owner_ = rd_kafka_new(RD_KAFKA_PRODUCER, conf, nullptr, 0);
    cluster_ = rd_kafka_mock_cluster_new(owner_, 1);
    EXPECT_EQ(rd_kafka_mock_topic_create(cluster_, "calls", 1, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
  }
  ~KafkaMockTest() override {
    rd_kafka_mock_cluster_destroy(cluster_);
    rd_kafka_destroy(owner_);
    EXPECT_EQ(rd_kafka_wait_destroyed(static_cast<int>(absl::ToInt64Milliseconds(kPatience))), 0)
        << "a producer lives on";
  }

  std::string Uri(absl::string_view rest) const {
    return absl::StrCat("kafka:", rd_kafka_mock_cluster_bootstraps(cluster_), "/", rest);
  }
  std::unique_ptr<LinkUnderTest> Connect(absl::string_view rest = "calls") {
    return std::make_unique<LinkUnderTest>(*transport_, Uri(rest));
  }
  void FailNextProduces(int count, rd_kafka_resp_err_t error) {
    const std::vector<rd_kafka_resp_err_t> errors(count, error);
    rd_kafka_mock_push_request_errors_array(cluster_, kProduceRequest, errors.size(), errors.data());
  }
  // Events that the broker has.
  int64_t Stored() {
    rd_kafka_conf_t* const conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(cluster_), nullptr, 0);
    rd_kafka_t* const client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, nullptr, 0);
    int64_t low = 0, high = -1;
    EXPECT_EQ(rd_kafka_query_watermark_offsets(client, "calls", 0, &low, &high, 10000), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_destroy(client);
    return high - low;
  }

  rd_kafka_t* owner_;
  rd_kafka_mock_cluster_t* cluster_;
  const std::unique_ptr<Transport> transport_ = MakeKafkaTransport();
};

TEST_F(KafkaMockTest, EachEventIsConfirmedAndStoredOnce) {
  const auto link = Connect();
  ASSERT_EQ(link->WaitReady(), 256);
  const size_t first = link->Send(Many(256));
  for (size_t i = 0; i < 256; ++i) EXPECT_TRUE(link->Outcome(first + i).ok()) << link->Outcome(first + i);
  EXPECT_EQ(Stored(), 256);
}

TEST_F(KafkaMockTest, ErrorsThatPassAreOverBeforeTheTimeoutAndNothingIsStoredTwice) {
  const auto link = Connect();
  ASSERT_GT(link->WaitReady(), 0);
  for (rd_kafka_resp_err_t passing : {RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
                                      RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE}) {
    const int64_t before = Stored();
    FailNextProduces(2, passing);
    // One at a time: the mock takes gaps in a producer's sequence, which a real broker refuses.
    const absl::Status outcome = link->SendAndWait(MakeMessage("E_RETRIED"));
    EXPECT_TRUE(outcome.ok()) << rd_kafka_err2name(passing) << " " << outcome;
    EXPECT_EQ(Stored(), before + 1) << rd_kafka_err2name(passing);
  }
  EXPECT_FALSE(link->closed());
}

TEST_F(KafkaMockTest, ErrorsThatStayFailTheEventAtOnceAndTheLinkLives) {
  const auto link = Connect();
  ASSERT_GT(link->WaitReady(), 0);
  const struct {
    rd_kafka_resp_err_t error;
    absl::StatusCode code;
    const char* text;
  } cases[] = {
      {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, absl::StatusCode::kInvalidArgument, "g.message.max.bytes"},
      {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, absl::StatusCode::kPermissionDenied, "uthorization"},
  };
  for (const auto& [error, code, text] : cases) {
    FailNextProduces(1, error);
    const absl::Status outcome = link->SendAndWait(MakeMessage("E_REFUSED"));
    EXPECT_EQ(outcome.code(), code) << outcome;
    EXPECT_THAT(Text(outcome), AllOf(HasSubstr(Uri("calls")), HasSubstr(text)));
    // A denied topic stays denied until the library has asked for it anew.
    const absl::Time give_up = absl::Now() + kPatience;
    while (!link->SendAndWait(MakeMessage("E_NEXT")).ok()) ASSERT_LT(absl::Now(), give_up) << outcome;
  }
  EXPECT_FALSE(link->closed());
  EXPECT_EQ(Stored(), 2);
}

TEST_F(KafkaMockTest, AnEventLargerThanTheLimitFailsAlone) {
  const auto link = Connect("calls?g.message.max.bytes=20000");
  ASSERT_GT(link->WaitReady(), 0);
  const size_t first = link->Send({MessageOfSize(100), MessageOfSize(20001), MessageOfSize(19000)});
  EXPECT_TRUE(link->Outcome(first).ok());
  EXPECT_EQ(link->Outcome(first + 1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Text(link->Outcome(first + 1)), HasSubstr("g.message.max.bytes"));
  EXPECT_TRUE(link->Outcome(first + 2).ok()) << link->Outcome(first + 2);
}

TEST_F(KafkaMockTest, AnUnknownTopicIsNotFound) {
  rd_kafka_mock_topic_set_error(cluster_, "calls", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
  const auto link = Connect();
  const absl::Status why = link->WaitClosed();
  EXPECT_EQ(why.code(), absl::StatusCode::kNotFound) << why;
  EXPECT_THAT(Text(why), AllOf(HasSubstr(Uri("calls")), HasSubstr("Unknown topic")));
}

TEST_F(KafkaMockTest, ATopicThatTheBrokerCreatesMeanwhileIsWaitedFor) {
  rd_kafka_mock_topic_set_error(cluster_, "calls", RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE);
  const auto link = Connect();
  std::unique_ptr<Loop::Timer> creation;
  OnLoop(link->loop(), [&] {
    creation =
        link->loop().NewTimer([this] { rd_kafka_mock_topic_set_error(cluster_, "calls", RD_KAFKA_RESP_ERR_NO_ERROR); });
    creation->Arm(link->loop().Now() + absl::Milliseconds(50));  // by then the link has been refused, as a rule
  });
  ASSERT_GT(link->WaitReady(), 0);
  EXPECT_TRUE(link->SendAndWait(MakeMessage("E_CREATED")).ok());
  OnLoop(link->loop(), [&] { creation.reset(); });
}

TEST_F(KafkaMockTest, ATopicThatMustNotBeWrittenIsPermissionDenied) {
  rd_kafka_mock_topic_set_error(cluster_, "calls", RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
  EXPECT_EQ(Connect()->WaitClosed().code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(KafkaMockTest, ABrokerThatGoesDownClosesTheLinkAndIsServedByANewOneWhenItIsUp) {
  const auto link = Connect();
  ASSERT_GT(link->WaitReady(), 0);
  ASSERT_TRUE(link->SendAndWait(MakeMessage("E_BEFORE")).ok());
  rd_kafka_mock_broker_set_rtt(cluster_, kBroker, 5000);  // nothing is answered before it goes
  const size_t first = link->Send(Many(100));
  rd_kafka_mock_broker_set_down(cluster_, kBroker);
  for (size_t i = 0; i < 100; ++i) ASSERT_FALSE(link->Outcome(first + i).ok());
  const absl::Status why = link->WaitClosed();
  EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable) << why;
  EXPECT_THAT(Text(why), AllOf(HasSubstr(Uri("calls")), HasSubstr("down")));
  EXPECT_FALSE(link->SendAndWait(MakeMessage("E_AFTER")).ok());

  EXPECT_THAT(Text(Connect()->WaitClosed()), HasSubstr("refused"));

  rd_kafka_mock_broker_set_rtt(cluster_, kBroker, 0);
  rd_kafka_mock_broker_set_up(cluster_, kBroker);
  const auto next = Connect();
  ASSERT_GT(next->WaitReady(), 0);
  EXPECT_TRUE(next->SendAndWait(MakeMessage("E_UP")).ok());
}

TEST_F(KafkaMockTest, ABrokerThatDoesNotAnswerFailsTheEventAtItsTimeout) {
  const auto link = Connect("calls?timeout=500ms");
  ASSERT_GT(link->WaitReady(), 0);
  ASSERT_TRUE(link->SendAndWait(MakeMessage("E_BEFORE")).ok());
  rd_kafka_mock_broker_set_rtt(cluster_, kBroker, 60000);
  const absl::Status outcome = link->SendAndWait(MakeMessage("E_LATE"));  // the wait ends after ten seconds
  EXPECT_FALSE(outcome.ok());
  EXPECT_THAT(Text(outcome), HasSubstr("may have arrived"));
}

TEST_F(KafkaMockTest, ADestroyedLinkEndsWhatIsOutAtOnceAndNothingOfItArrivesLater) {
  auto link = Connect("calls?timeout=5m");
  ASSERT_GT(link->WaitReady(), 0);
  ASSERT_TRUE(link->SendAndWait(MakeMessage("E_BEFORE")).ok());
  rd_kafka_mock_broker_set_down(cluster_, kBroker);
  const size_t first = link->Send(Many(200));
  link->Destroy();
  EXPECT_EQ(link->Reported(), first + 200) << "destroyed with events that never end";
  link.reset();
  rd_kafka_mock_broker_set_up(cluster_, kBroker);
  const auto next = Connect();
  ASSERT_GT(next->WaitReady(), 0);
  EXPECT_TRUE(next->SendAndWait(MakeMessage("E_NEXT")).ok());
  EXPECT_EQ(Stored(), 2);
}

TEST_F(KafkaMockTest, OneLivingBrokerAmongDeadOnesIsEnough) {
  const std::string living = rd_kafka_mock_cluster_bootstraps(cluster_);
  for (int i = 0; i < 4; ++i) {  // the library begins with any of them
    LinkUnderTest link(*transport_, absl::StrCat("kafka:127.0.0.1:1,", living, ",127.0.0.1:2/calls"));
    ASSERT_GT(link.WaitReady(), 0);
    EXPECT_TRUE(link.SendAndWait(MakeMessage("E_ONE")).ok());
  }
}

TEST_F(KafkaMockTest, ANameIsResolved) {
  const std::string living = rd_kafka_mock_cluster_bootstraps(cluster_);
  LinkUnderTest link(*transport_, absl::StrCat("kafka:localhost", living.substr(living.rfind(':')), "/calls"));
  ASSERT_GT(link.WaitReady(), 0);
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_ONE")).ok());
}

TEST_F(KafkaMockTest, NobodyAtTheAddressIsSaidInWords) {
  LinkUnderTest refused(*transport_, "kafka:127.0.0.1:1/calls");
  const absl::Status why = refused.WaitClosed();
  EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Text(why), HasSubstr("refused"));
}

TEST_F(KafkaMockTest, APeerThatAcceptsAndSaysNothingIsGivenUp) {
  EventLoop loop("mute");
  std::unique_ptr<LoopbackListener> mute;
  std::vector<int> accepted;
  OnLoop(loop, [&] { mute = std::make_unique<LoopbackListener>(loop, 0, [&](int fd) { accepted.push_back(fd); }); });
  LinkUnderTest link(*transport_, absl::StrCat("kafka:127.0.0.1:", mute->port(), "/calls"));
  EXPECT_FALSE(link.WaitClosed().ok());
  link.Destroy();
  OnLoop(loop, [&] {
    mute.reset();
    for (int fd : accepted) close(fd);
  });
}

}  // namespace
}  // namespace eventvirtual
