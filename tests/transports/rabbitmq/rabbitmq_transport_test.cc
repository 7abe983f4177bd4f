// The transport against a real broker, which is killed, stopped, filled up and restarted; and against peers that are
// none.
#include "transports/rabbitmq/rabbitmq_transport.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/io/on_loop.h"
#include "tests/transports/rabbitmq/rabbitmq_server.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

// One broker for all tests: it needs seconds to start. Each test has queues and exchanges of its own.
class RabbitmqTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = new RabbitmqServer; }
  static void TearDownTestSuite() { delete std::exchange(server_, nullptr); }

  std::unique_ptr<LinkUnderTest> Connect(absl::string_view rest) {
    return std::make_unique<LinkUnderTest>(*transport_, server_->Uri(rest));
  }

  static inline RabbitmqServer* server_ = nullptr;
  const std::unique_ptr<Transport> transport_ = MakeRabbitmqTransport();
};

TEST_F(RabbitmqTest, TenThousandEventsAreConfirmedAndConsumedInOrder) {
  RabbitmqClient client(*server_);
  client.DeclareQueue("many");
  const auto link = Connect("many");
  const int window = link->WaitReady();
  ASSERT_EQ(window, 256);
  constexpr size_t kEvents = 10000;
  for (size_t sent = 0; sent < kEvents;) {
    // Never more than the window: half of it is kept full.
    std::vector<MessageRef> batch;
    while (batch.size() < 128 && sent + batch.size() < kEvents) {
      batch.push_back(MakeMessage("E_MANY", absl::StrCat(sent + batch.size())));
    }
    const size_t first = link->Send(batch);
    sent += batch.size();
    if (first >= 128) {
      for (size_t i = first - 128; i < first; ++i) ASSERT_TRUE(link->Outcome(i).ok()) << link->Outcome(i);
    }
  }
  for (size_t i = 0; i < kEvents; ++i) ASSERT_TRUE(link->Outcome(i).ok()) << i << ": " << link->Outcome(i);
  const std::vector<RabbitmqClient::Received> received = client.Drain("many");
  ASSERT_EQ(received.size(), kEvents);
  for (size_t i = 0; i < kEvents; ++i) {
    ASSERT_EQ(received[i].body, absl::StrCat(R"({"jsonrpc":"2.0","method":"E_MANY","params":[")", i, R"("]})"));
  }
}

TEST_F(RabbitmqTest, AConsumerSeesBodyPropertiesAndHeaders) {
  RabbitmqClient client(*server_);
  client.DeclareQueue("seen");
  client.DeclareExchange("calls", "topic");
  client.Bind("seen", "calls", "sip.#");
  const auto link = Connect("exchange=calls;persistent;header.site=K%C3%B6ln;header.n=1?sip.block.1");
  ASSERT_GT(link->WaitReady(), 0);
  const Param param{"ip", "10.0.0.1"};
  EventFields fields;
  fields.name = "E_SEEN";
  fields.params = absl::MakeConstSpan(&param, 1);
  fields.event_id = "id-17";
  fields.event_time = absl::FromUnixSeconds(1700000000);
  EXPECT_TRUE(link->SendAndWait(Message::Make(fields)).ok());

  const std::vector<RabbitmqClient::Received> received = client.Drain("seen");
  ASSERT_EQ(received.size(), 1u);
  EXPECT_EQ(received[0].body, R"({"jsonrpc":"2.0","method":"E_SEEN","params":{"ip":"10.0.0.1"}})");
  EXPECT_EQ(received[0].exchange, "calls");
  EXPECT_EQ(received[0].routing_key, "sip.block.1");
  EXPECT_EQ(received[0].content_type, "application/json");
  EXPECT_EQ(received[0].message_id, "id-17");
  EXPECT_EQ(received[0].delivery_mode, 2);
  EXPECT_EQ(received[0].timestamp, 1700000000u);
  EXPECT_THAT(received[0].headers, AllOf(Contains(Pair("site", "Köln")), Contains(Pair("n", "1"))));
}

TEST_F(RabbitmqTest, MessagesLargerThanAFrameAreCutAndArriveWhole) {
  RabbitmqClient client(*server_);
  client.DeclareQueue("large");
  const auto link = Connect("large");
  ASSERT_GT(link->WaitReady(), 0);
  const std::vector<size_t> sizes = {131072 - 9, 131072 - 8, 131072 - 7, 131072, 2 * (131072 - 8), 3000000};
  std::vector<MessageRef> messages;
  for (size_t size : sizes) messages.push_back(MessageOfSize(size));
  const size_t first = link->Send(messages);
  for (size_t i = 0; i < sizes.size(); ++i) EXPECT_TRUE(link->Outcome(first + i).ok()) << sizes[i];
  const std::vector<RabbitmqClient::Received> received = client.Drain("large");
  ASSERT_EQ(received.size(), sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) {
    EXPECT_EQ(received[i].body, std::string(messages[i]->jsonrpc()));
    EXPECT_EQ(received[i].delivery_mode, 1);
  }
}

TEST_F(RabbitmqTest, WhatNoQueueTakesIsAFailureAndItsNeighboursAreNot) {
  RabbitmqClient client(*server_);
  client.DeclareQueue("routed");
  client.DeclareExchange("some", "headers");
  const auto link = Connect("no-such-queue");
  ASSERT_GT(link->WaitReady(), 0);
  const absl::Status returned = link->SendAndWait(MakeMessage("E_LOST"));
  EXPECT_EQ(returned.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Text(returned), AllOf(HasSubstr("NO_ROUTE (312)"), HasSubstr("exchange \"\""),
                                    HasSubstr("routing key \"no-such-queue\"")));

  // The same message, many times over, on a route that comes and goes: each copy ends for itself.
  client.DeclareExchange("flicker", "direct");
  const auto flicker = Connect("exchange=flicker?key");
  ASSERT_GT(flicker->WaitReady(), 0);
  const MessageRef message = MakeMessage("E_COPY");
  size_t delivered = 0;
  for (int round = 0; round < 6; ++round) {
    if (round == 3) client.Bind("routed", "flicker", "key");
    const size_t first = flicker->Send({message, message, message});
    for (size_t i = first; i < first + 3; ++i) {
      EXPECT_EQ(flicker->Outcome(i).code(), round < 3 ? absl::StatusCode::kNotFound : absl::StatusCode::kOk);
      delivered += flicker->Outcome(i).ok();
    }
  }
  EXPECT_EQ(client.Drain("routed").size(), delivered);
  EXPECT_FALSE(flicker->closed());
}

TEST_F(RabbitmqTest, AMissingExchangeFailsTheEventsAndTheLinkGoesOnWhenItIsThere) {
  RabbitmqClient client(*server_);
  client.DeclareQueue("late");
  const auto link = Connect("exchange=late-exchange?late");
  ASSERT_GT(link->WaitReady(), 0);
  for (int round = 0; round < 3; ++round) {
    const size_t first = link->Send({MakeMessage("E_1"), MakeMessage("E_2"), MakeMessage("E_3")});
    for (size_t i = first; i < first + 3; ++i) {
      EXPECT_EQ(link->Outcome(i).code(), absl::StatusCode::kNotFound);
      EXPECT_THAT(Text(link->Outcome(i)), AllOf(HasSubstr("no exchange 'late-exchange'"), HasSubstr("(404)")));
    }
  }
  client.DeclareExchange("late-exchange", "direct");
  client.Bind("late", "late-exchange", "late");
  EXPECT_TRUE(link->SendAndWait(MakeMessage("E_4")).ok());
  client.DeleteExchange("late-exchange");
  EXPECT_EQ(link->SendAndWait(MakeMessage("E_5")).code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(link->closed());
  EXPECT_EQ(client.Drain("late").size(), 1u);
}

TEST_F(RabbitmqTest, AQueueThatRejectsIsAFailure) {
  RabbitmqClient client(*server_);
  client.DeclareQueue("small", false, {{"x-max-length", "5"}, {"x-overflow", "reject-publish"}});
  const auto link = Connect("small");
  ASSERT_GT(link->WaitReady(), 0);
  size_t accepted = 0, refused = 0;
  for (int i = 0; i < 20; ++i) {
    const absl::Status outcome = link->SendAndWait(MakeMessage("E_SMALL"));
    if (outcome.ok()) {
      ++accepted;
    } else {
      ++refused;
      EXPECT_THAT(Text(outcome), HasSubstr("basic.nack"));
    }
  }
  EXPECT_GE(accepted, 5u);
  EXPECT_GT(refused, 0u);
  EXPECT_EQ(client.Drain("small").size(), accepted);
  EXPECT_TRUE(link->SendAndWait(MakeMessage("E_SMALL")).ok()) << "there is room again";
}

TEST_F(RabbitmqTest, AMessageThatDoesNotFitFailsAloneAndForGood) {
  RabbitmqClient client(*server_);
  client.DeclareQueue("fits");
  const auto link = Connect("fits");
  ASSERT_GT(link->WaitReady(), 0);
  EventFields fields;
  fields.name = "E_LONG_ID";
  const std::string id(256, 'i');
  fields.event_id = id;
  const size_t first = link->Send({MakeMessage("E_1"), Message::Make(fields), MakeMessage("E_3")});
  EXPECT_TRUE(link->Outcome(first).ok());
  EXPECT_EQ(link->Outcome(first + 1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Text(link->Outcome(first + 1)), HasSubstr("an event id may have 255 bytes (this one has 256)"));
  EXPECT_TRUE(link->Outcome(first + 2).ok());
  EXPECT_EQ(client.Drain("fits").size(), 2u);
}

TEST_F(RabbitmqTest, AWrongPasswordAndAWrongVhostAreToldApartAndNeverPrinted) {
  LinkUnderTest wrong_password(*transport_,
                               absl::StrCat("rabbitmq:guest:opensesame@127.0.0.1:", server_->port(), "/q"));
  const absl::Status refused = wrong_password.WaitClosed();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnauthenticated) << refused;
  EXPECT_THAT(Text(refused), AllOf(HasSubstr("guest:***@127.0.0.1"), HasSubstr("ACCESS_REFUSED"), HasSubstr("(403)"),
                                   Not(HasSubstr("opensesame"))));
  const absl::Status no_vhost = Connect("vhost=nowhere?q")->WaitClosed();
  EXPECT_EQ(no_vhost.code(), absl::StatusCode::kPermissionDenied) << no_vhost;
  EXPECT_THAT(Text(no_vhost), AllOf(HasSubstr("vhost nowhere not found"), HasSubstr("(530)")));
}

TEST_F(RabbitmqTest, AUserWithoutTheRightToWriteIsTold) {
  server_->Ctl({"add_vhost", "locked"});
  server_->Ctl({"add_user", "reader", "rw"});
  server_->Ctl({"set_permissions", "-p", "locked", "reader", ".*", "", ".*"});
  LinkUnderTest link(*transport_, absl::StrCat("rabbitmq:reader:rw@127.0.0.1:", server_->port(),
                                               "/exchange=amq.fanout;vhost=locked?"));
  ASSERT_GT(link.WaitReady(), 0);
  const absl::Status refused = link.SendAndWait(MakeMessage("E_1"));
  EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied) << refused;
  EXPECT_THAT(Text(refused), HasSubstr("ACCESS_REFUSED"));
  EXPECT_FALSE(link.closed());
}

TEST_F(RabbitmqTest, AKilledBrokerEndsEachMessageOnceAndANewLinkWorksAfterItsRestart) {
  RabbitmqClient(*server_).DeclareQueue("killed", /*durable=*/true);
  // A broker killed within a second or so of it forgets even a durable queue: an orderly restart writes it down.
  server_->Stop();
  server_->Start();
  const auto link = Connect("persistent?killed");
  ASSERT_GT(link->WaitReady(), 0);
  ASSERT_TRUE(link->SendAndWait(MakeMessage("E_KEPT", "first")).ok());
  server_->Pause();  // so that what follows is certainly out
  std::vector<MessageRef> batch;
  for (int i = 0; i < 256; ++i) batch.push_back(MakeMessage("E_OUT"));
  const size_t first = link->Send(batch);
  EXPECT_EQ(link->Reported(), 1u);
  server_->Kill();
  EXPECT_EQ(link->WaitClosed().code(), absl::StatusCode::kUnavailable);
  for (size_t i = first; i < first + 256; ++i) ASSERT_EQ(link->Outcome(i).code(), absl::StatusCode::kUnavailable) << i;
  EXPECT_EQ(link->SendAndWait(MakeMessage("E_LATE")).code(), absl::StatusCode::kUnavailable) << "a link lives once";

  const absl::Status refused = Connect("killed")->WaitClosed();
  EXPECT_THAT(Text(refused), HasSubstr("Connection refused"));

  server_->Start();
  const auto again = Connect("persistent?killed");
  ASSERT_GT(again->WaitReady(), 0);
  EXPECT_TRUE(again->SendAndWait(MakeMessage("E_KEPT", "second")).ok());
  server_->Stop();
  EXPECT_THAT(Text(again->WaitClosed()), HasSubstr("CONNECTION_FORCED"));

  // Durable queue, persistent messages: what was confirmed has outlived a kill and a stop.
  server_->Start();
  std::vector<std::string> kept;
  for (const RabbitmqClient::Received& received : RabbitmqClient(*server_).Drain("killed")) {
    if (received.body.find("E_KEPT") != std::string::npos) kept.push_back(received.body);
  }
  ASSERT_EQ(kept.size(), 2u);
  EXPECT_THAT(kept[0], HasSubstr("first"));
  EXPECT_THAT(kept[1], HasSubstr("second"));
}

TEST_F(RabbitmqTest, AStoppedBrokerBlocksNeitherSendNorTheDestructor) {
  RabbitmqClient client(*server_);
  client.DeclareQueue("stopped");
  auto link = Connect("stopped");
  ASSERT_GT(link->WaitReady(), 0);
  server_->Pause();
  // Far more than the socket buffers hold.
  std::vector<MessageRef> batch(100, MessageOfSize(1 << 20));
  const size_t first = link->Send(batch);
  EXPECT_EQ(link->Reported(), 0u);
  auto silent = Connect("stopped");  // connects, and never hears a word
  link->Destroy();
  silent->Destroy();
  EXPECT_EQ(link->Reported(), 100u);
  EXPECT_EQ(link->Outcome(first + 99).code(), absl::StatusCode::kUnavailable);
  server_->Continue();
  const auto again = Connect("stopped");
  ASSERT_GT(again->WaitReady(), 0);
  EXPECT_TRUE(again->SendAndWait(MakeMessage("E_AGAIN")).ok());
}

TEST_F(RabbitmqTest, ABrokerThatFallsSilentIsGivenUpAfterTwoHeartbeats) {
  RabbitmqClient(*server_).DeclareQueue("silent");
  const auto link = Connect("heartbeat=1?silent");
  ASSERT_GT(link->WaitReady(), 0);
  server_->Pause();
  EXPECT_THAT(Text(link->WaitClosed()), HasSubstr("no sign of life for"));
  server_->Continue();
}

TEST_F(RabbitmqTest, HeartbeatsKeepAnIdleLinkAlive) {
  RabbitmqClient(*server_).DeclareQueue("idle");
  const auto link = Connect("heartbeat=1?idle");
  ASSERT_GT(link->WaitReady(), 0);
  // The broker gives up a peer that is silent for two heartbeats, as we do: let five pass.
  Signal five_passed;
  std::unique_ptr<Loop::Timer> timer;
  OnLoop(link->loop(), [&] {
    timer = link->loop().NewTimer([&] { five_passed.Set(); });
    timer->Arm(link->loop().Now() + absl::Seconds(5));
  });
  EXPECT_TRUE(five_passed.Wait());
  OnLoop(link->loop(), [&] { timer.reset(); });
  EXPECT_FALSE(link->closed());
  EXPECT_TRUE(link->SendAndWait(MakeMessage("E_1")).ok());
}

TEST_F(RabbitmqTest, AnAlarmFailsEventsAtOnceWithItsReasonAndWhatWasOutArrivesWhenItEnds) {
  RabbitmqClient client(*server_);
  client.DeclareQueue("alarm");
  const auto link = Connect("alarm");
  const auto given_up = Connect("alarm");
  ASSERT_GT(link->WaitReady(), 0);
  ASSERT_GT(given_up->WaitReady(), 0);
  ASSERT_TRUE(link->SendAndWait(MakeMessage("E_BEFORE")).ok());
  server_->Ctl({"set_vm_memory_high_watermark", "0"});
  // It is the first publish that makes the broker say it; that one is taken in when the alarm ends.
  for (const auto& one : {link.get(), given_up.get()}) {
    const absl::Status first = one->SendAndWait(MakeMessage("E_FIRST"));
    EXPECT_EQ(first.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(Text(first), AllOf(HasSubstr("rabbitmq:127.0.0.1:"), HasSubstr("takes nothing at present"),
                                   HasSubstr("(low on memory)"), HasSubstr("may arrive when it does")));
  }
  const size_t second = link->Send(std::vector<MessageRef>(200, MessageOfSize(10000)));
  given_up->Send({MakeMessage("E_UNSENT")});
  for (size_t i = second; i < second + 200; ++i) {
    ASSERT_EQ(link->Outcome(i).code(), absl::StatusCode::kUnavailable);
    ASSERT_THAT(Text(link->Outcome(i)), HasSubstr("takes nothing at present (low on memory)"));
  }
  EXPECT_FALSE(link->closed());
  given_up->Destroy();
  EXPECT_EQ(given_up->Reported(), 2u);
  server_->Ctl({"set_vm_memory_high_watermark", "0.9"});
  // Its end is told like its beginning: an event may still meet the one before it.
  const absl::Time give_up = absl::Now() + kPatience;
  while (!link->SendAndWait(MakeMessage("E_AFTER")).ok()) ASSERT_LT(absl::Now(), give_up);
  std::vector<std::string> bodies;
  for (RabbitmqClient::Received& received : client.Drain("alarm")) bodies.push_back(std::move(received.body));
  EXPECT_THAT(bodies, Contains(HasSubstr("E_FIRST")));
  EXPECT_THAT(bodies, Contains(HasSubstr("E_AFTER")));
  EXPECT_THAT(bodies, Not(Contains(HasSubstr("E_SIZE")))) << "what failed during the alarm was never sent";
  EXPECT_THAT(bodies, Not(Contains(HasSubstr("E_UNSENT")))) << "a link that was given up must not publish late";
}

TEST_F(RabbitmqTest, AFullDiskAtTheBrokerIsNamed) {
  RabbitmqClient(*server_).DeclareQueue("disk");
  const auto link = Connect("disk");
  ASSERT_GT(link->WaitReady(), 0);
  server_->Ctl({"set_disk_free_limit", "1000000GB"});
  EXPECT_THAT(Text(link->SendAndWait(MakeMessage("E_1"))), HasSubstr("takes nothing at present (low on disk)"));
  server_->Ctl({"set_disk_free_limit", "1MB"});
  const absl::Time give_up = absl::Now() + kPatience;
  while (!link->SendAndWait(MakeMessage("E_AFTER")).ok()) ASSERT_LT(absl::Now(), give_up);
}

TEST_F(RabbitmqTest, AMessageTooLargeForTheBrokerFailsForGoodAndTheLinkGoesOn) {
  RabbitmqClient client(*server_);
  client.DeclareQueue("too-large");
  const auto link = Connect("too-large");
  ASSERT_GT(link->WaitReady(), 0);
  const absl::Status refused = link->SendAndWait(MessageOfSize(5 << 20));
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << "the broker is healthy";
  EXPECT_THAT(Text(refused), AllOf(HasSubstr("PRECONDITION_FAILED"), HasSubstr("(406)")));
  EXPECT_TRUE(link->SendAndWait(MakeMessage("E_AFTER")).ok());
  EXPECT_FALSE(link->closed());
  EXPECT_EQ(client.Drain("too-large").size(), 1u);
}

TEST_F(RabbitmqTest, WithoutMandatoryWhatNoQueueTakesCounts) {
  RabbitmqClient client(*server_);
  client.DeclareExchange("nobody", "fanout");
  const auto link = Connect("exchange=nobody;mandatory=0?");
  ASSERT_GT(link->WaitReady(), 0);
  EXPECT_TRUE(link->SendAndWait(MakeMessage("E_UNHEARD")).ok());
  const auto strict = Connect("exchange=nobody?");
  ASSERT_GT(strict->WaitReady(), 0);
  EXPECT_EQ(strict->SendAndWait(MakeMessage("E_UNHEARD")).code(), absl::StatusCode::kNotFound);
}

TEST_F(RabbitmqTest, EachEncodingArrivesWithItsContentTypeAndTheEventsId) {
  RabbitmqClient client(*server_);
  client.DeclareQueue("encoded");
  const Param param{"ip", "10.0.0.1"};
  const std::pair<absl::string_view, absl::string_view> attribute{"traceparent", "00-1"};
  EventFields fields;
  fields.name = "E_ENCODED";
  fields.params = absl::MakeConstSpan(&param, 1);
  fields.event_id = "id-17";
  fields.event_time = absl::FromUnixSeconds(1700000000);
  fields.source = "sip/1";
  fields.attributes = absl::MakeConstSpan(&attribute, 1);
  fields.hops = 2;
  const MessageRef message = Message::Make(fields);
  struct Row {
    const char* option;
    Encoding encoding;
    const char* content_type;
  };
  for (const Row& row :
       {Row{"jsonrpc", Encoding::kJsonRpc, "application/json"}, Row{"json", Encoding::kJson, "application/json"},
        Row{"cloudevents", Encoding::kCloudEvents, "application/cloudevents+json"},
        Row{"cloudevents-binary", Encoding::kCloudEventsBinary, "application/json"},
        Row{"protobuf", Encoding::kProtobuf, "application/protobuf"}}) {
    const auto link = Connect(absl::StrCat("header.site=K?encoded?encoding=", row.option));
    ASSERT_GT(link->WaitReady(), 0);
    ASSERT_TRUE(link->SendAndWait(message).ok());
    const std::vector<RabbitmqClient::Received> received = client.Drain("encoded");
    ASSERT_EQ(received.size(), 1u);
    EXPECT_EQ(received[0].body, std::string(message->encoded(row.encoding))) << row.option;
    EXPECT_EQ(received[0].content_type, row.content_type) << row.option;
    EXPECT_EQ(received[0].message_id, "id-17");
    std::map<std::string, std::string> expected = {{"site", "K"}, {"eventhops", "3"}, {"traceparent", "00-1"}};
    if (row.encoding == Encoding::kCloudEventsBinary) {
      expected.insert({{"cloudEvents_specversion", "1.0"},
                       {"cloudEvents_id", "id-17"},
                       {"cloudEvents_source", "sip/1"},
                       {"cloudEvents_type", "E_ENCODED"},
                       {"cloudEvents_time", "2023-11-14T22:13:20Z"},
                       {"cloudEvents_traceparent", "00-1"},
                       {"cloudEvents_eventhops", "3"}});
    }
    EXPECT_EQ(received[0].headers, expected) << row.option;
  }
}

// --- peers that are no broker

// Accepts one connection on a free port, sends `bytes`, and keeps it open until the end.
class Impostor {
 public:
  explicit Impostor(std::string bytes) : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(listen(listener_, 1), 0);
    EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, bytes = std::move(bytes)] {
      const int peer = accept(listener_, nullptr, nullptr);
      if (peer < 0) return;
      EXPECT_EQ(send(peer, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
      char rest[4096];
      while (recv(peer, rest, sizeof(rest), 0) > 0) {
      }
      close(peer);
    });
  }
  ~Impostor() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  std::string uri() const { return absl::StrCat("rabbitmq:127.0.0.1:", port_, "/q"); }

 private:
  const int listener_;
  uint16_t port_ = 0;
  std::thread thread_;
};

TEST(RabbitmqImpostor, GarbageClosesTheLinkWithAReason) {
  const std::string end(1, '\xCE');
  const auto frame = [&](char type, std::string payload) {
    std::string head(1, type);
    head += std::string(2, '\0');
    for (int shift : {24, 16, 8, 0}) head += static_cast<char>(payload.size() >> shift);
    return head + payload + end;
  };
  struct Row {
    std::string bytes, error;
  };
  const std::unique_ptr<Transport> transport = MakeRabbitmqTransport();
  for (const Row& row : {
           Row{std::string("AMQP\0\0\x09\x01", 8), "does not speak AMQP 0-9-1"},  // "I would speak another version"
           Row{std::string("\x15\x03\x03\0\x02\x02\x46", 7), "write amqps://"},   // a TLS alert
           Row{"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak AMQP 0-9-1"},
           Row{std::string("\x01\0\0\xff\xff\xff\xff", 7), "a frame is larger"},
           Row{std::string("\x01\0\0\0\0\0\x04\0\x0a\0\x0aX", 12), "no end mark"},
           Row{frame(1, ""), "a method has no number"},
           Row{frame(1, std::string(3, '\0')), "a method has no number"},
           Row{frame(1, "\xff\xff\xff\xff"), "a method is unknown or malformed"},
           Row{frame(1, std::string("\0\x0a\0\x0a", 4)), "a method is unknown or malformed"},  // start, cut off
           Row{frame(1, std::string("\0\x0a\0\x1e\0\0\0\0\0", 9)),
               "a method is unknown or malformed"},  // tune, cut off
           Row{frame(1, std::string("\0\x0a\0\x1e\0\0\0\0\0\x01\0\0", 12)), "frames smaller"},
           Row{frame(2, std::string(11, '\0')), "the properties of a message are malformed"},
           Row{frame(2, std::string("\0\x3c\0\0\0\0\0\0\0\0\0\0\xff\xff", 14)),
               "the properties of a message are malformed"},
           Row{frame(2, std::string("\0\x3c\0\0\0\0\0\0\0\0\0\0\0\0", 14)), "lacks our header"},
       }) {
    Impostor impostor(row.bytes);
    LinkUnderTest link(*transport, impostor.uri());
    const absl::Status why = link.WaitClosed();
    EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(Text(why), HasSubstr(row.error));
    link.Destroy();
  }
}

}  // namespace
}  // namespace eventvirtual
