// The transport against a real broker, which is killed, paused and restarted.
#include "transports/kafka/kafka_transport.h"

#include <librdkafka/rdkafka.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/io/on_loop.h"
#include "tests/transports/kafka/kafka_server.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

// One broker for all tests: it needs seconds to start. Each test has a topic of its own.
class KafkaTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = new KafkaServer; }
  static void TearDownTestSuite() {
    delete std::exchange(server_, nullptr);
    EXPECT_EQ(rd_kafka_wait_destroyed(static_cast<int>(absl::ToInt64Milliseconds(kPatience))), 0);
  }

  std::unique_ptr<LinkUnderTest> Connect(absl::string_view rest) {
    return std::make_unique<LinkUnderTest>(*transport_, server_->Uri(rest));
  }

  static inline KafkaServer* server_ = nullptr;
  const std::unique_ptr<Transport> transport_ = MakeKafkaTransport();
};

TEST_F(KafkaTest, TenThousandEventsAreConfirmedAndConsumedInOrder) {
  KafkaTopic topic(*server_, "many");
  const auto link = Connect("many");
  const int window = link->WaitReady();
  ASSERT_EQ(window, 256);
  constexpr size_t kEvents = 10000;
  constexpr size_t kBatch = 128;  // half of the window is kept full
  for (size_t sent = 0; sent < kEvents;) {
    std::vector<MessageRef> batch;
    while (batch.size() < kBatch && sent + batch.size() < kEvents) {
      batch.push_back(MakeMessage("E_MANY", absl::StrCat(sent + batch.size())));
    }
    const size_t first = link->Send(batch);
    sent += batch.size();
    if (first < kBatch) continue;
    for (size_t i = first - kBatch; i < first; ++i) ASSERT_TRUE(link->Outcome(i).ok()) << link->Outcome(i);
  }
  for (size_t i = 0; i < kEvents; ++i) ASSERT_TRUE(link->Outcome(i).ok()) << i << ": " << link->Outcome(i);
  const std::vector<KafkaTopic::Event> events = topic.Drain();
  ASSERT_EQ(events.size(), kEvents);
  for (size_t i = 0; i < kEvents; ++i) {
    ASSERT_EQ(events[i].body, absl::StrCat(R"({"jsonrpc":"2.0","method":"E_MANY","params":[")", i, R"("]})"));
  }
}

TEST_F(KafkaTest, AConsumerSeesBodyKeyAndEventId) {
  KafkaTopic topic(*server_, "seen");
  const auto link = Connect("seen?key=k&g.compression.codec=lz4");
  ASSERT_GT(link->WaitReady(), 0);
  const struct {
    Value value;
    std::optional<std::string> key;
  } cases[] = {
      {absl::string_view("a84b4c76e66710@pc33"), "a84b4c76e66710@pc33"},
      {absl::string_view(""), ""},
      {int64_t{-42}, "-42"},
      {0.1, "0.1"},
      {true, "true"},
      {Json{"[1]"}, "[1]"},
      {Null{}, std::nullopt},
  };
  for (const auto& [value, key] : cases) {
    const Param params[] = {{"", absl::string_view("x")}, {"k", value}, {"k", absl::string_view("second")}};
    EventFields fields;
    fields.name = "E_SEEN";
    fields.params = params;
    fields.event_id = "id-17";
    const std::pair<absl::string_view, absl::string_view> attributes[] = {{"traceparent", "00-ab-cd-01"},
                                                                          {"tracestate", "a=1"}};
    fields.attributes = attributes;
    fields.hops = 2;
    const MessageRef message = Message::Make(fields);
    ASSERT_TRUE(link->SendAndWait(message).ok());
    const std::optional<KafkaTopic::Event> event = topic.Next();
    ASSERT_TRUE(event.has_value());
    EXPECT_EQ(event->body, std::string(message->jsonrpc()));
    EXPECT_EQ(event->key, key);
    EXPECT_THAT(event->headers, Contains(Pair("event-id", "id-17")));
    EXPECT_THAT(event->headers, Contains(Pair("traceparent", "00-ab-cd-01")));
    EXPECT_THAT(event->headers, Contains(Pair("tracestate", "a=1")));
    EXPECT_THAT(event->headers, Contains(Pair("eventhops", "3")));
  }
  ASSERT_TRUE(link->SendAndWait(MakeMessage("E_WITHOUT", "k")).ok());
  EXPECT_EQ(topic.Next()->key, std::nullopt);
}

TEST_F(KafkaTest, AMissingTopicIsNotFound) {
  const absl::Status why = Connect("no-such-topic")->WaitClosed();
  EXPECT_EQ(why.code(), absl::StatusCode::kNotFound) << why;
  EXPECT_THAT(Text(why), HasSubstr("no-such-topic"));
}

TEST_F(KafkaTest, WhatTheTopicRefusesAsTooLargeCanNeverBeDelivered) {
  KafkaTopic topic(*server_, "small", {{"max.message.bytes", "10000"}});
  const auto link = Connect("small");
  ASSERT_GT(link->WaitReady(), 0);
  const absl::Status refused = link->SendAndWait(MessageOfSize(20000));
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << refused;
  EXPECT_THAT(Text(refused), HasSubstr("g.message.max.bytes"));
  EXPECT_TRUE(link->SendAndWait(MessageOfSize(9000)).ok());
  EXPECT_EQ(topic.Drain().size(), 1u);
}

// What was confirmed is there, once, and in order, whatever became of the rest.
TEST_F(KafkaTest, KilledUnderLoadAndRestartedItHasAllThatWasConfirmed) {
  KafkaTopic topic(*server_, "killed");
  std::vector<std::string> confirmed;
  size_t failed = 0, number = 0;
  for (int round = 0; round < 3; ++round) {
    const auto link = Connect("killed?timeout=5s");
    ASSERT_GT(link->WaitReady(), 0) << round;
    std::vector<std::pair<size_t, std::string>> sent;  // number at the link, body
    bool killed = round == 2;                          // the last round is one of peace
    for (int batch = 0; batch < 50; ++batch) {
      std::vector<MessageRef> messages;
      for (int i = 0; i < 100; ++i) messages.push_back(MakeMessage("E_KILLED", absl::StrCat(number++)));
      const size_t first = link->Send(messages);
      for (size_t i = 0; i < messages.size(); ++i) {
        sent.emplace_back(first + i, std::string(messages[i]->jsonrpc()));
      }
      if (batch == 20 && !std::exchange(killed, true)) server_->Kill();  // with a batch on its way
      for (size_t i = sent.size() - messages.size(); i < sent.size(); ++i) {
        if (link->Outcome(sent[i].first).ok()) {
          confirmed.push_back(sent[i].second);
        } else {
          ++failed;
        }
      }
    }
    if (round == 2) break;
    EXPECT_EQ(link->WaitClosed().code(), absl::StatusCode::kUnavailable);
    EXPECT_FALSE(Connect("killed")->WaitClosed().ok());
    server_->Start();
  }
  EXPECT_GE(confirmed.size(), 5000u);  // the last round alone
  EXPECT_GE(failed, 2u * 29 * 100);
  std::vector<std::string> there;
  for (KafkaTopic::Event& event : topic.Drain()) there.push_back(std::move(event.body));
  size_t at = 0;
  for (const std::string& body : confirmed) {
    while (at < there.size() && there[at] != body) ++at;
    ASSERT_LT(at, there.size()) << body << " was confirmed and is not there, or not in its place";
    ++at;
  }
  for (size_t i = 1; i < there.size(); ++i) ASSERT_NE(there[i - 1], there[i]) << "stored twice";
}

TEST_F(KafkaTest, APausedBrokerFailsEventsInTimeAndServesAgainWhenItGoesOn) {
  KafkaTopic topic(*server_, "paused");
  const auto link = Connect("paused?timeout=1s");
  ASSERT_GT(link->WaitReady(), 0);
  ASSERT_TRUE(link->SendAndWait(MakeMessage("E_BEFORE")).ok());
  server_->Pause();
  const absl::Status outcome = link->SendAndWait(MakeMessage("E_PAUSED"));  // the wait ends after ten seconds
  EXPECT_FALSE(outcome.ok());
  EXPECT_THAT(Text(outcome), HasSubstr("may have arrived"));
  EXPECT_FALSE(Connect("paused")->WaitClosed().ok());
  server_->Continue();
  const auto next = Connect("paused");
  ASSERT_GT(next->WaitReady(), 0);
  EXPECT_TRUE(next->SendAndWait(MakeMessage("E_AFTER")).ok());
}

TEST_F(KafkaTest, OverTlsWithALoginAndNotWithoutThem) {
  KafkaTopic topic(*server_, "secure");
  const std::string certificate =
      absl::StrReplaceAll(server_->certificate(), {{"\n", "%0a"}, {"\r", ""}, {" ", "%20"}, {"+", "%2b"}});
  const std::string login = server_->SecureUri(
      "secure?g.security.protocol=sasl_ssl&g.sasl.mechanism=PLAIN&g.sasl.username=alice&g.sasl.password=");
  {
    LinkUnderTest link(*transport_, absl::StrCat(login, "s3cr3t&g.ssl.ca.pem=", certificate));
    ASSERT_GT(link.WaitReady(), 0);
    EXPECT_TRUE(link.SendAndWait(MakeMessage("E_SECURE")).ok());
    EXPECT_EQ(topic.Drain().size(), 1u);
  }
  {
    LinkUnderTest link(*transport_, absl::StrCat(login, "wr0ng&g.ssl.ca.pem=", certificate));
    const absl::Status why = link.WaitClosed();
    EXPECT_EQ(why.code(), absl::StatusCode::kUnauthenticated) << why;
    EXPECT_THAT(Text(why), AllOf(HasSubstr("g.sasl.password=***"), Not(HasSubstr("wr0ng"))));
  }
  {
    LinkUnderTest link(*transport_, absl::StrCat(login, "s3cr3t"));
    const absl::Status why = link.WaitClosed();
    EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable) << why;
    EXPECT_THAT(Text(why), HasSubstr("certificate verify failed"));
  }
  {
    LinkUnderTest link(*transport_, absl::StrCat(login, "s3cr3t&g.ssl.ca.pem=no%20certificate"));
    const absl::Status why = link.WaitClosed();
    EXPECT_FALSE(why.ok());
    EXPECT_THAT(Text(why), AllOf(HasSubstr("ssl.ca.pem"), Not(HasSubstr("s3cr3t"))));
  }
}

}  // namespace
}  // namespace eventvirtual
