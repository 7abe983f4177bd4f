// mqtt and mqtts against a real mosquitto.
#include "transports/mqtt/mqtt_transport.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/mqtt/mqtt_broker.h"

namespace eventvirtual {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr absl::Duration kSoon = absl::Seconds(20);
constexpr std::pair<absl::string_view, absl::string_view> kTrace{"traceparent", "00-ab-cd-01"};

class MqttTest : public testing::Test {
 protected:
  absl::Status Refusal(const std::string& uri) { return RefusalOf(*transport_, uri); }
  absl::Status Outcome(const std::string& uri) { return OutcomeOf(*transport_, uri); }

  const std::unique_ptr<Transport> transport_ = MakeMqttTransport();
};

std::string Text(const absl::Status& status) { return std::string(status.message()); }

TEST_F(MqttTest, AReaderSeesTopicBodyEventIdAndContentTypeWithEachQos) {
  MqttBroker broker;
  MqttReader reader(broker);
  for (int qos = 0; qos <= 2; ++qos) {
    LinkUnderTest link(*transport_, broker.Uri(absl::StrCat("sip/calls?qos=", qos)));
    ASSERT_GT(link.WaitReady(), 0);
    EventFields fields{.name = "E_ACC", .hops = 2};
    fields.attributes = absl::MakeConstSpan(&kTrace, 1);
    const MessageRef message = Message::Make(fields);
    ASSERT_TRUE(link.SendAndWait(message).ok());
    const std::optional<MqttReader::Event> event = reader.Next(kSoon);
    ASSERT_TRUE(event.has_value());
    EXPECT_EQ(event->properties.at("traceparent"), kTrace.second);
    EXPECT_EQ(event->properties.at("eventhops"), "3");
    EXPECT_EQ(event->topic, "sip/calls");
    EXPECT_EQ(event->body, message->jsonrpc());
    EXPECT_EQ(event->content_type, "application/json");
    EXPECT_EQ(event->properties.at("event-id"), message->event_id());
  }
}

TEST_F(MqttTest, CloudEventsInTheBinaryModeAreUserProperties) {
  MqttBroker broker;
  MqttReader reader(broker);
  LinkUnderTest link(*transport_, broker.Uri("t?encoding=cloudevents-binary"));
  ASSERT_GT(link.WaitReady(), 0);
  EventFields fields{.name = "E_ACC", .event_id = "7", .source = "/sbc", .hops = 3};
  fields.attributes = absl::MakeConstSpan(&kTrace, 1);
  ASSERT_TRUE(link.SendAndWait(Message::Make(fields)).ok());
  const std::optional<MqttReader::Event> event = reader.Next(kSoon);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->body, "{}");
  EXPECT_EQ(event->properties.at("traceparent"), kTrace.second);
  EXPECT_EQ(event->properties.at("eventhops"), "4");
  EXPECT_EQ(event->properties.at("specversion"), "1.0");
  EXPECT_EQ(event->properties.at("id"), "7");
  EXPECT_EQ(event->properties.at("source"), "/sbc");
  EXPECT_EQ(event->properties.at("type"), "E_ACC");
}

TEST_F(MqttTest, ARetainedEventIsThereForWhoComesLater) {
  MqttBroker broker;
  EXPECT_TRUE(Outcome(broker.Uri("t?retain=1")).ok());
  MqttReader reader(broker);
  const std::optional<MqttReader::Event> event = reader.Next(kSoon);
  ASSERT_TRUE(event.has_value());
  EXPECT_TRUE(event->retained);
}

TEST_F(MqttTest, TenThousandEventsAreAcknowledgedAndReadInOrder) {
  MqttBroker broker("allow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\n");
  MqttReader reader(broker);
  LinkUnderTest link(*transport_, broker.Uri("t"));
  const int window = link.WaitReady();
  ASSERT_GT(window, 0);
  for (int sent = 0; sent < 10000;) {
    std::vector<MessageRef> batch;
    for (int i = 0; i < window && sent < 10000; ++i, ++sent) batch.push_back(MakeMessage("E", absl::StrCat(sent)));
    const size_t first = link.Send(batch);
    for (size_t i = 0; i < batch.size(); ++i) {
      const std::optional<MqttReader::Event> event = reader.Next(kSoon);
      ASSERT_TRUE(event.has_value());
      ASSERT_EQ(event->body, batch[i]->jsonrpc());
      ASSERT_TRUE(link.Outcome(first + i).ok());
    }
  }
}

TEST_F(MqttTest, ATopicWithoutReadersIsASuccessUnlessReadersAreAskedFor) {
  MqttBroker broker;
  EXPECT_TRUE(Outcome(broker.Uri("t")).ok());
  const absl::Status nobody = Outcome(broker.Uri("t?require_subscribers=1"));
  EXPECT_EQ(nobody.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Text(nobody), HasSubstr("nobody is subscribed"));
  MqttReader reader(broker);
  EXPECT_TRUE(Outcome(broker.Uri("t?require_subscribers=1")).ok());
}

TEST_F(MqttTest, LoginsAndRightsAreToldAndPasswordsNeverPrinted) {
  MqttBroker broker("allow_anonymous false\npassword_file %D/passwords\nacl_file %D/acl\n");
  // mosquitto reads these files when it is told to, and at its start.
  broker.process().Kill();
  ASSERT_EQ(std::system(absl::StrCat("mosquitto_passwd -b ", broker.folder() / "passwords", " bob s3cr3t").c_str()), 0);
  broker.Write("acl", "user bob\ntopic write mine/#\n");
  broker.process().Start();
  const std::string host = absl::StrCat("127.0.0.1:", broker.port());
  const absl::Status anonymous = Refusal(broker.Uri("t"));
  EXPECT_THAT(Text(anonymous), HasSubstr("refused")) << anonymous;
  const absl::Status wrong = Refusal(absl::StrCat("mqtt://bob:wr0ng@", host, "/mine/x"));
  EXPECT_TRUE(absl::IsUnauthenticated(wrong) || absl::IsPermissionDenied(wrong)) << wrong;
  EXPECT_THAT(Text(wrong), AllOf(HasSubstr("bob:***@"), Not(HasSubstr("wr0ng"))));
  EXPECT_TRUE(Outcome(absl::StrCat("mqtt://bob:s3cr3t@", host, "/mine/x")).ok());
  EXPECT_EQ(Outcome(absl::StrCat("mqtt://bob:s3cr3t@", host, "/others")).code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(MqttTest, AnEventThatTheBrokerDoesNotTakeFailsAloneAndForGood) {
  MqttBroker broker("allow_anonymous true\nmax_packet_size 1000\n");
  LinkUnderTest link(*transport_, broker.Uri("t"));
  ASSERT_GT(link.WaitReady(), 0);
  const size_t first = link.Send({MakeMessage("E_1"), MessageOfSize(2000), MakeMessage("E_2")});
  EXPECT_TRUE(link.Outcome(first).ok());
  EXPECT_EQ(link.Outcome(first + 1).code(), absl::StatusCode::kInvalidArgument) << link.Outcome(first + 1);
  EXPECT_TRUE(link.Outcome(first + 2).ok());
}

TEST_F(MqttTest, OverTlsTheBrokerMustBeWhoItIsSaidToBe) {
  MqttBroker broker("allow_anonymous true\n", /*tls=*/true);
  const std::string ca = absl::StrCat("ca=", broker.folder() / "ca.pem");
  const std::string port = absl::StrCat(":", broker.port(), "/t?");
  EXPECT_TRUE(Outcome(absl::StrCat("mqtts://localhost", port, ca)).ok());
  const absl::Status name = Refusal(absl::StrCat("mqtts://127.0.0.1", port, ca));
  EXPECT_EQ(name.code(), absl::StatusCode::kUnauthenticated) << name;
  const absl::Status authority = Refusal(absl::StrCat("mqtts://localhost", port, "qos=1"));
  EXPECT_EQ(authority.code(), absl::StatusCode::kUnauthenticated) << authority;
  EXPECT_TRUE(Outcome(absl::StrCat("mqtts://127.0.0.1", port, "verify=0")).ok());
  EXPECT_TRUE(Outcome(absl::StrCat("mqtts://127.0.0.1", port, "server_name=localhost&", ca)).ok());
  const absl::Status other = Refusal(absl::StrCat("mqtts://localhost", port, "server_name=other.example&", ca));
  EXPECT_EQ(other.code(), absl::StatusCode::kUnauthenticated) << other;
  EXPECT_THAT(Text(Refusal(absl::StrCat("mqtts://localhost", port, "ca=/nowhere.pem"))), HasSubstr("ca=/nowhere.pem"));
}

TEST_F(MqttTest, AClientCertificateIsShown) {
  MqttBroker broker("allow_anonymous true\nrequire_certificate true\n", /*tls=*/true);
  const auto uri = [&](const std::string& key) {
    return absl::StrCat("mqtts://localhost:", broker.port(), "/t?ca=", broker.folder() / "ca.pem",
                        "&cert=", broker.folder() / "client.pem", "&key=", broker.folder() / key);
  };
  EXPECT_TRUE(Outcome(uri("client.key")).ok());
  EXPECT_THAT(Text(Refusal(uri("locked.key"))), HasSubstr("key="));
  EXPECT_FALSE(Refusal(absl::StrCat("mqtts://localhost:", broker.port(), "/t?ca=", broker.folder() / "ca.pem")).ok());
}

TEST_F(MqttTest, KilledUnderLoadEachEventEndsOnceAndANewLinkWorksAfterItsRestart) {
  MqttBroker broker("allow_anonymous true\nmax_queued_messages 0\nautosave_interval 1\n");
  auto reader = std::make_unique<MqttReader>(broker);
  LinkUnderTest link(*transport_, broker.Uri("t"));
  const int window = link.WaitReady();
  ASSERT_GT(window, 0);
  std::vector<std::string> acknowledged;
  std::thread killer;
  for (int batch = 0; batch < 1000 && !link.closed(); ++batch) {
    std::vector<MessageRef> messages;
    for (int i = 0; i < 10; ++i) messages.push_back(MakeMessage(absl::StrCat("E_", batch * 10 + i)));
    const size_t first = link.Send(messages);
    if (batch == 20) killer = std::thread([&broker] { broker.process().Kill(); });
    for (int i = 0; i < 10; ++i) {
      if (link.Outcome(first + i).ok()) acknowledged.emplace_back(messages[i]->jsonrpc());
    }
  }
  killer.join();
  EXPECT_EQ(link.WaitClosed().code(), absl::StatusCode::kUnavailable);
  ASSERT_GE(acknowledged.size(), 200u);
  EXPECT_EQ(Refusal(broker.Uri("t")).code(), absl::StatusCode::kUnavailable);
  // A PUBACK is no promise of the disk: what mosquitto had not written is gone. What a reader had been sent is there.
  std::vector<std::string> read;
  while (std::optional<MqttReader::Event> event = reader->Next(absl::ZeroDuration())) read.push_back(event->body);
  for (size_t i = 0; i < read.size() && i < acknowledged.size(); ++i) ASSERT_EQ(read[i], acknowledged[i]);

  broker.process().Start();
  MqttReader again(broker, "another");
  LinkUnderTest next(*transport_, broker.Uri("t"));
  ASSERT_GT(next.WaitReady(), 0);
  EXPECT_TRUE(next.SendAndWait(MakeMessage("E_AFTER")).ok());
  EXPECT_TRUE(again.Next(kSoon).has_value());
}

TEST_F(MqttTest, AStoppedBrokerConfirmsNothingAndGoesOnWhenItIsContinued) {
  MqttBroker broker;
  LinkUnderTest link(*transport_, broker.Uri("t"));
  ASSERT_GT(link.WaitReady(), 0);
  broker.process().Pause();
  const size_t number = link.Send({MakeMessage("E_1")});
  EXPECT_EQ(Refusal("mqtt://127.0.0.1:1/t").code(), absl::StatusCode::kUnavailable) << "the loop is free";
  EXPECT_EQ(link.Reported(), 0u);
  broker.process().Continue();
  EXPECT_TRUE(link.Outcome(number).ok());
}

TEST_F(MqttTest, NobodyAtTheAddressIsSaidInWords) {
  const uint16_t port = FreePort();
  const absl::Status refused = Refusal(absl::StrCat("mqtt://u:s3cr3t@localhost:", port, "/t"));
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Text(refused), AllOf(HasSubstr("refused"), Not(HasSubstr("s3cr3t"))));
  EXPECT_THAT(Text(Refusal("mqtt://no-such-host.invalid/t")), HasSubstr("no-such-host.invalid"));
}

}  // namespace
}  // namespace eventvirtual
