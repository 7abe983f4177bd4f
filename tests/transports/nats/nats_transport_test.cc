// The transport against a real nats-server, which is killed, paused and restarted.
#include "transports/nats/nats_transport.h"

#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/io/loopback_listener.h"
#include "tests/transports/io/on_loop.h"
#include "tests/transports/io/tcp_proxy.h"
#include "tests/transports/nats/nats_server.h"
#include "transports/api/encoding.h"
#include "transports/io/event_loop.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Key;
using testing::Not;
using testing::Pair;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

MessageRef WithId(absl::string_view id, absl::string_view text) {
  const Param param{"", text};
  EventFields fields;
  fields.name = "E_ID";
  fields.params = absl::MakeConstSpan(&param, 1);
  fields.event_id = id;
  return Message::Make(fields);
}

class NatsTest : public testing::Test {
 protected:
  static void TearDownTestSuite() { WaitForNatsThreads(); }

  // A link to "nats://[login]127.0.0.1:PORT/" and `rest`.
  std::unique_ptr<LinkUnderTest> Connect(const NatsServer& server, absl::string_view rest,
                                         absl::string_view login = "") {
    return std::make_unique<LinkUnderTest>(*transport_,
                                           absl::StrCat("nats://", login, "127.0.0.1:", server.port(), "/", rest));
  }
  const std::unique_ptr<Transport> transport_ = MakeNatsTransport();
};

// Sends `count` events in batches, with half of the window full.
void SendMany(LinkUnderTest& link, size_t count) {
  constexpr size_t kBatch = 128;
  for (size_t sent = 0; sent < count;) {
    std::vector<MessageRef> batch;
    while (batch.size() < kBatch && sent + batch.size() < count) {
      batch.push_back(MakeMessage("E_MANY", absl::StrCat(sent + batch.size())));
    }
    const size_t first = link.Send(batch);
    sent += batch.size();
    if (first < kBatch) continue;
    for (size_t i = first - kBatch; i < first; ++i) ASSERT_TRUE(link.Outcome(i).ok()) << link.Outcome(i);
  }
  for (size_t i = 0; i < count; ++i) ASSERT_TRUE(link.Outcome(i).ok()) << i << ": " << link.Outcome(i);
}

std::string BodyOf(size_t number) {
  return absl::StrCat(R"({"jsonrpc":"2.0","method":"E_MANY","params":[")", number, R"("]})");
}

TEST_F(NatsTest, TenThousandEventsReachASubscriberInOrder) {
  NatsServer server;
  NatsClient client(server);
  client.Subscribe("many");
  const auto link = Connect(server, "many");
  ASSERT_EQ(link->WaitReady(), 256);
  SendMany(*link, 10000);
  for (size_t i = 0; i < 10000; ++i) ASSERT_EQ(client.Next().value_or(NatsClient::Event{}).body, BodyOf(i));
}

TEST_F(NatsTest, ThreeThousandEventsAreStoredInOrder) {
  NatsServer server;
  NatsClient client(server);
  client.AddStream("many");
  const auto link = Connect(server, "many.calls?jetstream=1");
  ASSERT_EQ(link->WaitReady(), 256);
  SendMany(*link, 3000);
  const std::vector<NatsClient::Event> stored = client.Stored("many");
  ASSERT_EQ(stored.size(), 3000u);
  for (size_t i = 0; i < stored.size(); ++i) ASSERT_EQ(stored[i].body, BodyOf(i));
}

TEST_F(NatsTest, ASubscriberSeesIdTypeAndEachEncoding) {
  NatsServer server;
  NatsClient client(server);
  client.Subscribe("seen");
  const std::pair<absl::string_view, absl::string_view> attributes[] = {{"site", "K\xc3\xb6ln"},
                                                                        {"traceparent", "00-ab-cd-01"}};
  const Param params[] = {{"n", int64_t{1}}};
  EventFields fields;
  fields.name = "E_SEEN";
  fields.params = params;
  fields.event_id = "id 17\r\nX-Evil: 1";
  fields.source = "/sip";
  fields.attributes = attributes;
  fields.hops = 2;
  const MessageRef message = Message::Make(fields);
  const struct {
    const char* name;
    Encoding encoding;
  } rows[] = {{"jsonrpc", Encoding::kJsonRpc},
              {"json", Encoding::kJson},
              {"cloudevents", Encoding::kCloudEvents},
              {"cloudevents-binary", Encoding::kCloudEventsBinary},
              {"protobuf", Encoding::kProtobuf}};
  for (const auto& [name, encoding] : rows) {
    const auto link = Connect(server, absl::StrCat("seen?encoding=", name));
    ASSERT_GT(link->WaitReady(), 0);
    ASSERT_TRUE(link->SendAndWait(message).ok());
    const std::optional<NatsClient::Event> event = client.Next();
    ASSERT_TRUE(event.has_value());
    EXPECT_EQ(event->body, std::string(message->encoded(encoding)));
    EXPECT_THAT(event->headers, Contains(Pair("Nats-Msg-Id", "id%2017%0D%0AX-Evil:%201")));
    EXPECT_THAT(event->headers, Contains(Pair("traceparent", "00-ab-cd-01")));
    EXPECT_THAT(event->headers, Contains(Pair("eventhops", "3")));
    EXPECT_THAT(event->headers, Not(Contains(Key("X-Evil"))));
    if (encoding != Encoding::kCloudEventsBinary) {
      EXPECT_THAT(event->headers, Contains(Pair("Content-Type", std::string(ContentType(encoding)))));
      EXPECT_EQ(event->headers.size(), 4u);
      continue;
    }
    EXPECT_THAT(event->headers, Not(Contains(Key("Content-Type"))));
    EXPECT_THAT(event->headers,
                AllOf(Contains(Pair("ce-specversion", "1.0")), Contains(Pair("ce-type", "E_SEEN")),
                      Contains(Pair("ce-source", "/sip")), Contains(Pair("ce-site", "K%C3%B6ln")),
                      Contains(Pair("ce-traceparent", "00-ab-cd-01")), Contains(Pair("ce-eventhops", "3")),
                      Contains(Pair("ce-datacontenttype", "application/json")), Contains(Key("ce-id")),
                      Contains(Key("ce-time"))));
  }
}

TEST_F(NatsTest, OneEventIdIsStoredOnceHoweverOftenItComes) {
  NatsServer server;
  NatsClient client(server);
  client.AddStream("once");
  for (int i = 0; i < 2; ++i) {
    const auto link = Connect(server, "once?jetstream=1");
    ASSERT_GT(link->WaitReady(), 0);
    EXPECT_TRUE(link->SendAndWait(WithId("a", "first")).ok());
    EXPECT_TRUE(link->SendAndWait(WithId("a", "again")).ok());
  }
  const auto link = Connect(server, "once?jetstream=1");
  ASSERT_GT(link->WaitReady(), 0);
  EXPECT_TRUE(link->SendAndWait(WithId("b", "other")).ok());
  const std::vector<NatsClient::Event> stored = client.Stored("once");
  ASSERT_EQ(stored.size(), 2u);
  EXPECT_THAT(stored[0].body, HasSubstr("first"));
  EXPECT_THAT(stored[1].body, HasSubstr("other"));
}

// --- refusals

TEST_F(NatsTest, WithoutAStreamAnEventIsNotFoundAndTheLinkLives) {
  NatsServer server;
  NatsClient client(server);
  const auto link = Connect(server, "late?jetstream=1");
  ASSERT_GT(link->WaitReady(), 0);
  const absl::Status outcome = link->SendAndWait(MakeMessage("E_EARLY"));
  EXPECT_TRUE(absl::IsNotFound(outcome)) << outcome;
  EXPECT_THAT(Text(outcome), HasSubstr("no stream takes this subject"));
  client.AddStream("late");
  EXPECT_TRUE(link->SendAndWait(MakeMessage("E_LATE")).ok());
  EXPECT_FALSE(link->closed());
}

TEST_F(NatsTest, AFullStreamRefusesAndTakesAgainWhenThereIsRoom) {
  NatsServer server;
  NatsClient client(server);
  client.AddStream("full", /*max_messages=*/3);
  const auto link = Connect(server, "full?jetstream=1");
  ASSERT_GT(link->WaitReady(), 0);
  const size_t first = link->Send({MakeMessage("E_1"), MakeMessage("E_2"), MakeMessage("E_3"), MakeMessage("E_4")});
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(link->Outcome(first + i).ok()) << link->Outcome(first + i);
  const absl::Status outcome = link->Outcome(first + 3);
  EXPECT_TRUE(absl::IsUnavailable(outcome)) << outcome;
  EXPECT_THAT(Text(outcome), HasSubstr("maximum messages exceeded"));
  EXPECT_EQ(client.Stored("full").size(), 3u);
  client.DeleteStream("full");
  client.AddStream("full");
  EXPECT_TRUE(link->SendAndWait(MakeMessage("E_5")).ok());
}

TEST_F(NatsTest, WhatAStreamOrTheServerFindsTooLargeFailsAlone) {
  NatsServer server("max_payload: 20000");
  NatsClient client(server);
  client.AddStream("small", /*max_messages=*/-1, /*max_size=*/5000);
  const auto link = Connect(server, "small?jetstream=1");
  ASSERT_GT(link->WaitReady(), 0);
  const size_t first =
      link->Send({MessageOfSize(4000), MessageOfSize(9000), MessageOfSize(30000), MessageOfSize(4000)});
  EXPECT_TRUE(link->Outcome(first).ok()) << link->Outcome(first);
  EXPECT_TRUE(absl::IsInvalidArgument(link->Outcome(first + 1))) << link->Outcome(first + 1);
  EXPECT_TRUE(absl::IsInvalidArgument(link->Outcome(first + 2))) << link->Outcome(first + 2);
  EXPECT_THAT(Text(link->Outcome(first + 2)), HasSubstr("the server takes 20000"));
  EXPECT_TRUE(link->Outcome(first + 3).ok());
  EXPECT_EQ(client.Stored("small").size(), 2u);
  EXPECT_FALSE(link->closed());
}

// A byte more, and the server ends the connection: its count of the headers must be ours.
TEST_F(NatsTest, TheLargestMessageThatTheServerTakesArrives) {
  NatsServer server("max_payload: 20000");
  NatsClient client(server);
  client.Subscribe("edge");
  const auto link = Connect(server, "edge");
  ASSERT_GT(link->WaitReady(), 0);
  size_t largest = 0;
  for (size_t size = 20000; size > 19000 && largest == 0; --size) {
    const absl::Status outcome = link->SendAndWait(WithId("0123456789", std::string(size, 'x')));
    if (outcome.ok()) largest = size;
    ASSERT_TRUE(outcome.ok() || absl::IsInvalidArgument(outcome)) << outcome;
  }
  const std::optional<NatsClient::Event> event = client.Next();
  ASSERT_TRUE(event.has_value());
  // As nats-server counts: the head's first line, each header, and the empty line.
  size_t bytes = event->body.size() + 12;
  for (const auto& [name, value] : event->headers) bytes += name.size() + value.size() + 4;
  EXPECT_EQ(bytes, 20000u);
}

constexpr char kUsers[] = R"(
authorization { users: [
  {user: alice, password: "s3cr3t"}
  {user: writer, password: "s3cr3t", permissions: {publish: ["open"], subscribe: {deny: ">"}}}
  {user: storer, password: "s3cr3t", permissions: {publish: ["open"], subscribe: ["_INBOX.>"]}}
] })";

TEST_F(NatsTest, WithoutTheRightLoginALinkIsUnauthenticatedAndSaysNoPassword) {
  NatsServer server(kUsers);
  EXPECT_GT(Connect(server, "open", "alice:s3cr3t@")->WaitReady(), 0);
  for (const char* login : {"", "alice:wr0ng@", "bob:wr0ng@", "wr0ng@"}) {
    const absl::Status why = Connect(server, "open", login)->WaitClosed();
    EXPECT_TRUE(absl::IsUnauthenticated(why)) << login << why;
    EXPECT_THAT(Text(why), AllOf(HasSubstr("Authorization Violation"), Not(HasSubstr("wr0ng"))));
  }
  NatsServer guarded("authorization { token: \"s3cr3t\" }");
  EXPECT_GT(Connect(guarded, "open", "s3cr3t@")->WaitReady(), 0);
  const absl::Status why = Connect(guarded, "open", "wr0ng@")->WaitClosed();
  EXPECT_TRUE(absl::IsUnauthenticated(why)) << why;
  EXPECT_THAT(Text(why), AllOf(HasSubstr("***@"), Not(HasSubstr("wr0ng"))));
}

TEST_F(NatsTest, WhatALoginMayNotPublishIsDenied) {
  NatsServer server(kUsers);
  NatsClient client(server, "alice:s3cr3t@");
  client.AddStream("closed");
  for (const char* rest : {"closed", "closed?jetstream=1"}) {
    const auto link = Connect(server, rest, "storer:s3cr3t@");
    ASSERT_GT(link->WaitReady(), 0);
    const absl::Status outcome = link->SendAndWait(MakeMessage("E_DENIED"));
    EXPECT_TRUE(absl::IsPermissionDenied(outcome)) << outcome;
    EXPECT_THAT(Text(outcome), HasSubstr("may not publish to the subject \"closed\""));
    EXPECT_TRUE(absl::IsPermissionDenied(link->WaitClosed()));
  }
  EXPECT_EQ(client.Stored("closed").size(), 0u);
}

TEST_F(NatsTest, ALoginThatMayOnlyPublishServesButNotJetStream) {
  NatsServer server(kUsers);
  NatsClient client(server, "alice:s3cr3t@");
  client.Subscribe("open");
  const auto link = Connect(server, "open", "writer:s3cr3t@");
  ASSERT_GT(link->WaitReady(), 0);
  EXPECT_TRUE(link->SendAndWait(MakeMessage("E_OPEN")).ok());
  EXPECT_TRUE(client.Next().has_value());
  const absl::Status why = Connect(server, "open?jetstream=1", "writer:s3cr3t@")->WaitClosed();
  EXPECT_TRUE(absl::IsPermissionDenied(why)) << why;
  EXPECT_THAT(Text(why), HasSubstr("_INBOX.>"));
}

TEST_F(NatsTest, AnAnswerThatIsNotJetStreamsIsNoSuccess) {
  NatsServer server;
  NatsClient client(server);
  natsSubscription* responder = nullptr;
  Checked(natsConnection_Subscribe(
      &responder, client.connection(), "echo",
      [](natsConnection* connection, natsSubscription*, natsMsg* message, void*) {
        natsConnection_PublishString(connection, natsMsg_GetReply(message), R"({"hello":"stream"})");
        natsMsg_Destroy(message);
      },
      nullptr));
  Checked(natsConnection_Flush(client.connection()));
  const auto link = Connect(server, "echo?jetstream=1");
  ASSERT_GT(link->WaitReady(), 0);
  const absl::Status outcome = link->SendAndWait(MakeMessage("E_ECHO"));
  EXPECT_TRUE(absl::IsUnavailable(outcome)) << outcome;
  EXPECT_THAT(Text(outcome), HasSubstr("not JetStream's"));
  natsSubscription_Destroy(responder);
}

// --- a server that goes, and comes back

// What was confirmed is there, once, and in order, whatever became of the rest.
TEST_F(NatsTest, KilledUnderLoadAndRestartedItHasAllThatWasConfirmed) {
  NatsServer server;
  std::make_unique<NatsClient>(server)->AddStream("killed");
  std::vector<std::string> confirmed;
  size_t failed = 0, number = 0;
  for (int round = 0; round < 3; ++round) {
    const auto link = Connect(server, "killed?jetstream=1&timeout=5s");
    ASSERT_GT(link->WaitReady(), 0) << round;
    bool killed = round == 2;  // the last round is one of peace
    for (int batch = 0; batch < 30; ++batch) {
      std::vector<MessageRef> messages;
      for (int i = 0; i < 100; ++i) messages.push_back(MakeMessage("E_KILLED", absl::StrCat(number++)));
      const size_t first = link->Send(messages);
      if (batch == 10 && !std::exchange(killed, true)) server.process().Kill();  // with a batch on its way
      for (size_t i = 0; i < messages.size(); ++i) {
        if (link->Outcome(first + i).ok()) {
          confirmed.push_back(std::string(messages[i]->jsonrpc()));
        } else {
          ++failed;
        }
      }
    }
    if (round == 2) break;
    const absl::Status why = link->WaitClosed(), refused = Connect(server, "killed?jetstream=1")->WaitClosed();
    EXPECT_TRUE(absl::IsUnavailable(why)) << why;
    EXPECT_TRUE(absl::IsUnavailable(refused)) << refused;
    EXPECT_THAT(Text(refused), HasSubstr("no server accepts connections there"));
    server.process().Start();
    NatsClient client(server);  // waits for JetStream to have recovered
    const absl::Time give_up = absl::Now() + kPatience;
    while (!client.Stored("killed", 1).has_value() && absl::Now() < give_up) {
    }
  }
  EXPECT_GE(confirmed.size(), 3000u);  // the last round alone
  EXPECT_GE(failed, 2u * 19 * 100);
  std::vector<NatsClient::Event> there = NatsClient(server).Stored("killed");
  size_t at = 0;
  for (const std::string& body : confirmed) {
    while (at < there.size() && there[at].body != body) ++at;
    ASSERT_LT(at, there.size()) << body << " was confirmed and is not there, or not in its place";
    ++at;
  }
  std::set<std::string> ids;
  for (const NatsClient::Event& event : there) {
    EXPECT_TRUE(ids.insert(event.headers.at("Nats-Msg-Id")).second) << "stored twice: " << event.body;
  }
}

// What was sent again after a failure of unknown outcome is stored once: JetStream remembers ids over a restart.
TEST_F(NatsTest, WhatIsSentAgainAfterAKillIsStoredOnce) {
  NatsServer server;
  std::make_unique<NatsClient>(server)->AddStream("again");
  std::vector<MessageRef> messages;
  for (int i = 0; i < 200; ++i) messages.push_back(MakeMessage("E_AGAIN", absl::StrCat(i)));
  {
    const auto link = Connect(server, "again?jetstream=1");
    ASSERT_GT(link->WaitReady(), 0);
    const size_t first = link->Send(messages);
    EXPECT_TRUE(link->Outcome(first).ok());
    server.process().Kill();
    for (size_t i = 0; i < messages.size(); ++i) link->Outcome(first + i).IgnoreError();
  }
  server.process().Start();
  NatsClient client(server);
  const absl::Time give_up = absl::Now() + kPatience;
  while (!client.Stored("again", 1).has_value() && absl::Now() < give_up) {
  }
  const auto link = Connect(server, "again?jetstream=1");
  ASSERT_GT(link->WaitReady(), 0);
  const size_t first = link->Send(messages);
  for (size_t i = 0; i < messages.size(); ++i) ASSERT_TRUE(link->Outcome(first + i).ok()) << link->Outcome(first + i);
  EXPECT_EQ(client.Stored("again").size(), messages.size());
}

TEST_F(NatsTest, APausedServerConfirmsNothingAndAllThatWaitedWhenItGoesOn) {
  NatsServer server;
  NatsClient client(server);
  client.AddStream("paused");
  for (const char* rest : {"paused", "paused?jetstream=1"}) {
    const auto link = Connect(server, rest);
    ASSERT_GT(link->WaitReady(), 0);
    ASSERT_TRUE(link->SendAndWait(MakeMessage("E_BEFORE")).ok());
    server.process().Pause();
    const size_t first = link->Send({MakeMessage("E_PAUSED")});
    const absl::Status refused = Connect(server, rest)->WaitClosed();  // a new link has no use for such a server
    EXPECT_TRUE(absl::IsUnavailable(refused)) << refused;
    EXPECT_THAT(Text(refused), HasSubstr("the server does not answer"));
    EXPECT_EQ(link->Reported(), first);
    server.process().Continue();
    EXPECT_TRUE(link->Outcome(first).ok()) << link->Outcome(first);
  }
}

TEST_F(NatsTest, AServerThatStaysPausedEndsTheLink) {
  NatsServer server;
  const auto link = Connect(server, "paused?timeout=100ms");
  ASSERT_GT(link->WaitReady(), 0);
  server.process().Pause();
  const absl::Status outcome = link->SendAndWait(MakeMessage("E_PAUSED"));
  EXPECT_TRUE(absl::IsUnavailable(outcome)) << outcome;
  EXPECT_THAT(Text(outcome), HasSubstr("may have arrived"));
  EXPECT_TRUE(absl::IsUnavailable(link->WaitClosed()));
  server.process().Continue();
}

// The server drops a subscriber that does not read; who publishes does not hear of it.
TEST_F(NatsTest, ASlowSubscriberIsLostAndThePublisherGoesOn) {
  NatsServer server("max_pending: 1MB, write_deadline: \"100ms\"");
  const int slow = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = LoopbackAddress(server.port());
  ASSERT_EQ(connect(slow, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  const std::string words = "CONNECT {\"verbose\":false}\r\nSUB slow 1\r\nPING\r\n";
  ASSERT_EQ(send(slow, words.data(), words.size(), 0), static_cast<ssize_t>(words.size()));
  std::string heard;  // until the subscription stands; nothing is read after that
  while (heard.find("PONG") == std::string::npos) {
    char bytes[4096];
    const ssize_t got = recv(slow, bytes, sizeof(bytes), 0);
    ASSERT_GT(got, 0);
    heard.append(bytes, got);
  }
  const auto link = Connect(server, "slow");
  ASSERT_GT(link->WaitReady(), 0);
  for (int i = 0; i < 200; ++i) {
    const absl::Status outcome = link->SendAndWait(MessageOfSize(100000));
    ASSERT_TRUE(outcome.ok()) << i << outcome;
  }
  EXPECT_FALSE(link->closed());
  EXPECT_THAT(server.Log(), HasSubstr("Slow Consumer"));
  close(slow);
}

// --- TLS

constexpr char kTls[] = "tls { cert_file: \"{folder}/server.pem\", key_file: \"{folder}/server.key\" }";
constexpr char kMutualTls[] =
    "tls { cert_file: \"{folder}/server.pem\", key_file: \"{folder}/server.key\", ca_file: \"{folder}/ca.pem\", "
    "verify: true }";

TEST_F(NatsTest, TlsIsVerifiedUnlessToldOtherwise) {
  NatsServer server(kTls, /*certificates=*/true);
  const auto url = [&](absl::string_view host, absl::string_view options) {
    return absl::StrCat("natss://", host, ":", server.port(), "/secure?", options);
  };
  const std::string ca = "ca=" + server.File("ca.pem");
  const struct {
    std::string url;
    absl::StatusCode code;
    std::string said;
  } rows[] = {
      {url("localhost", ca), absl::StatusCode::kOk, ""},
      {url("127.0.0.1", "verify=0"), absl::StatusCode::kOk, ""},
      {url("localhost", "timeout=1s"), absl::StatusCode::kUnauthenticated, "ca=/path"},
      {url("127.0.0.1", ca), absl::StatusCode::kUnauthenticated, "mismatch"},  // another name
      {url("127.0.0.1", "server_name=localhost&" + ca), absl::StatusCode::kOk, ""},
      {url("localhost", "server_name=other.example&" + ca), absl::StatusCode::kUnauthenticated, "mismatch"},
      {url("localhost", "ca=/nonexistent/ca.pem"), absl::StatusCode::kUnavailable,
       "ca=/nonexistent/ca.pem: No such file"},
      {url("localhost", "ca=" + server.File("nats.conf")), absl::StatusCode::kUnauthenticated, "certificate"},
      {absl::StrCat("nats://localhost:", server.port(), "/secure"), absl::StatusCode::kFailedPrecondition, "natss://"},
  };
  for (const auto& row : rows) {
    LinkUnderTest link(*transport_, row.url);
    if (row.code == absl::StatusCode::kOk) {
      ASSERT_GT(link.WaitReady(), 0) << row.url << link.WaitClosed();
      EXPECT_TRUE(link.SendAndWait(MakeMessage("E_SECURE")).ok());
      const size_t first = link.Send(std::vector<MessageRef>(20, MessageOfSize(100000)));
      for (size_t i = 0; i < 20; ++i) EXPECT_TRUE(link.Outcome(first + i).ok()) << link.Outcome(first + i);
      continue;
    }
    const absl::Status why = link.WaitClosed();
    EXPECT_EQ(why.code(), row.code) << row.url << why;
    EXPECT_THAT(Text(why), HasSubstr(row.said));
  }
}

TEST_F(NatsTest, AServerWithoutTlsGetsNoLoginFromNatss) {
  NatsServer server("trace: true");
  {
    LinkUnderTest link(*transport_, absl::StrCat("natss://alice:s3cr3t@127.0.0.1:", server.port(), "/secure"));
    const absl::Status why = link.WaitClosed();
    EXPECT_EQ(why.code(), absl::StatusCode::kFailedPrecondition) << why;
    EXPECT_THAT(Text(why), AllOf(HasSubstr("no TLS"), Not(HasSubstr("s3cr3t"))));
  }
  EXPECT_GT(Connect(server, "open", "bob:s3cr3t@")->WaitReady(), 0);
  EXPECT_THAT(server.Log(), AllOf(HasSubstr("bob"), Not(HasSubstr("alice"))));  // what it traces of a CONNECT
}

TEST_F(NatsTest, AClientCertificateIsShown) {
  NatsServer server(kMutualTls, /*certificates=*/true);
  const std::string url = absl::StrCat("natss://localhost:", server.port(), "/secure?ca=", server.File("ca.pem"));
  const std::string cert = absl::StrCat("&cert=", server.File("client.pem"), "&key=");
  {
    LinkUnderTest link(*transport_, absl::StrCat(url, cert, server.File("client.key")));
    ASSERT_GT(link.WaitReady(), 0) << link.WaitClosed();
    EXPECT_TRUE(link.SendAndWait(MakeMessage("E_SECURE")).ok());
  }
  EXPECT_FALSE(LinkUnderTest(*transport_, url).WaitClosed().ok());
  const absl::Status locked =
      LinkUnderTest(*transport_, absl::StrCat(url, cert, server.File("locked.key"))).WaitClosed();
  EXPECT_TRUE(absl::IsUnauthenticated(locked)) << locked;
  EXPECT_THAT(Text(locked), HasSubstr("locked"));
}

// libnats waits without a deadline here: only the end of the link ends its threads.
TEST_F(NatsTest, AStoppedServerHoldsNoThreadOverTlsOnceTheLinkHasGone) {
  NatsServer server(kTls, /*certificates=*/true);
  TcpProxy proxy(server.port());
  for (bool stall : {false, true}) {
    LinkUnderTest link(
        *transport_, absl::StrCat("natss://localhost:", proxy.port(), "/secure?timeout=1m&ca=", server.File("ca.pem")));
    ASSERT_GT(link.WaitReady(), 0);
    ASSERT_TRUE(link.SendAndWait(MakeMessage("E_BEFORE")).ok());
    const int working = NatsThreads().all;
    const absl::Time give_up = absl::Now() + kPatience;
    if (stall) {
      proxy.Stall();
      link.Send(std::vector<MessageRef>(200, MessageOfSize(100000)));
      for (int idle = 0; idle < 200 && absl::Now() < give_up; ++idle) {  // until the worker has to wait
        if (NatsThreads().asleep < working) idle = 0;
      }
    }
    link.Destroy();
    while (NatsThreads().all > working - 3 && absl::Now() < give_up) {
    }
    EXPECT_EQ(NatsThreads().all, working - 3) << stall;
  }
  proxy.Resume();
}

TEST_F(NatsTest, AServerThatStopsInTheHandshakeIsLeftWhenTheLinkGoes) {
  EventLoop loop("server");
  Signal greeted, left;
  int client = -1;
  std::unique_ptr<Loop::Watch> watch;
  std::unique_ptr<LoopbackListener> server;
  OnLoop(loop, [&] {
    server = std::make_unique<LoopbackListener>(loop, 0, [&](int fd) {
      client = fd;
      const absl::string_view info = "INFO {\"server_id\":\"A\",\"version\":\"2.9.10\",\"tls_required\":true}\r\n";
      send(fd, info.data(), info.size(), MSG_NOSIGNAL);
      watch = loop.NewWatch(fd, [&](Loop::Readiness) {
        char bytes[4096];
        const ssize_t got = recv(client, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (got > 0) return greeted.Set();  // to which it never answers
        watch.reset();
        left.Set();
      });
      watch->Want({.readable = true});
    });
  });
  LinkUnderTest link(*transport_, absl::StrCat("natss://127.0.0.1:", server->port(), "/a"));
  EXPECT_TRUE(greeted.Wait());
  link.Destroy();
  EXPECT_TRUE(left.Wait());
  OnLoop(loop, [&] {
    server.reset();
    watch.reset();
    close(client);
  });
}

// --- servers that a server advertises

// Says where else there are servers, refuses or ends, and counts who comes there.
TEST_F(NatsTest, ServersThatAServerAdvertisesAreNotConnectedTo) {
  EventLoop loop("servers");
  std::atomic<int> visits = 0;
  std::vector<int> clients;
  std::vector<std::unique_ptr<Loop::Watch>> watches;
  std::unique_ptr<LoopbackListener> decoy, server;
  std::string reply;
  OnLoop(loop, [&] {
    decoy = std::make_unique<LoopbackListener>(loop, 0, [&](int fd) {
      ++visits;
      close(fd);
    });
    server = std::make_unique<LoopbackListener>(loop, 0, [&](int fd) {
      const std::string info = absl::StrCat(
          R"(INFO {"server_id":"A","version":"2.9.10","proto":1,"host":"127.0.0.1","port":1,"headers":true,)",
          R"("max_payload":1000,"connect_urls":["127.0.0.1:)", decoy->port(), "\"]}\r\n");
      send(fd, info.data(), info.size(), MSG_NOSIGNAL);
      watches.push_back(loop.NewWatch(fd, [&, fd](Loop::Readiness) {
        char bytes[4096];
        if (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
          send(fd, reply.data(), reply.size(), MSG_NOSIGNAL);
          if (reply[0] != '-') return;
        }
        shutdown(fd, SHUT_RDWR);
        watches.clear();
      }));
      watches.back()->Want({.readable = true});
      clients.push_back(fd);
    });
    reply = "-ERR 'Authorization Violation'\r\n";
  });
  const std::string url = absl::StrCat("nats://127.0.0.1:", server->port(), "/a");
  EXPECT_TRUE(absl::IsUnauthenticated(LinkUnderTest(*transport_, url).WaitClosed()));
  OnLoop(loop, [&] { reply = "PONG\r\n"; });
  {
    LinkUnderTest link(*transport_, url);
    ASSERT_GT(link.WaitReady(), 0);
    OnLoop(loop, [&] {
      watches.clear();
      shutdown(clients.back(), SHUT_RDWR);
    });
    EXPECT_TRUE(absl::IsUnavailable(link.WaitClosed()));
  }
  OnLoop(loop, [&] {
    decoy.reset();
    server.reset();
    watches.clear();
    for (int fd : clients) close(fd);
  });
  EXPECT_EQ(visits, 0);
}

}  // namespace
}  // namespace eventvirtual
