// AMQP URIs against a real broker that wants TLS and a client's certificate.
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/io/server_process.h"
#include "tests/transports/rabbitmq/rabbitmq_server.h"
#include "transports/rabbitmq/rabbitmq_transport.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

class AmqpsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = new RabbitmqServer; }
  static void TearDownTestSuite() { delete std::exchange(server_, nullptr); }

  // `rest`: "/vhost?options", or "?options".
  std::unique_ptr<LinkUnderTest> Connect(absl::string_view rest) {
    return ConnectTo(absl::StrCat("amqps://localhost:", server_->tls_port(), rest, "&", server_->TlsOptions()));
  }
  std::unique_ptr<LinkUnderTest> ConnectTo(absl::string_view uri) {
    return std::make_unique<LinkUnderTest>(*transport_, uri);
  }

  static inline RabbitmqServer* server_ = nullptr;
  const std::unique_ptr<Transport> transport_ = MakeRabbitmqTransport();
};

TEST_F(AmqpsTest, AHeadersExchangeInAnotherVirtualHostRoutesByTheHeaders) {
  server_->Ctl({"add_vhost", "tenant/a"});
  server_->Ctl({"set_permissions", "-p", "tenant/a", "guest", ".*", ".*", ".*"});
  RabbitmqClient client(*server_, "tenant/a");
  client.DeclareExchange("by-site", "headers");
  for (const std::string site : {"Berlin", "Bonn"}) {
    client.DeclareQueue(site);
    client.Bind(site, "by-site", "", {{"x-match", "all"}, {"Site", site}, {"kind", "call"}});
  }
  const auto berlin = Connect("/tenant%2Fa?exchange=by-site&header.Site=Berlin&header.kind=call");
  const auto bonn = Connect("/tenant%2Fa?exchange=by-site&header.Site=Bonn&header.kind=call&persistent=1");
  const auto nowhere = Connect("/tenant%2Fa?exchange=by-site&header.Site=Bonn");
  for (const auto& link : {berlin.get(), bonn.get(), nowhere.get()}) ASSERT_GT(link->WaitReady(), 0);
  EXPECT_TRUE(berlin->SendAndWait(MakeMessage("E_BERLIN")).ok());
  EXPECT_TRUE(bonn->SendAndWait(MakeMessage("E_BONN")).ok());
  EXPECT_EQ(nowhere->SendAndWait(MakeMessage("E_NOWHERE")).code(), absl::StatusCode::kNotFound);
  const std::vector<RabbitmqClient::Received> in_berlin = client.Drain("Berlin"), in_bonn = client.Drain("Bonn");
  ASSERT_EQ(in_berlin.size(), 1u);
  ASSERT_EQ(in_bonn.size(), 1u);
  EXPECT_THAT(in_berlin[0].body, HasSubstr("E_BERLIN"));
  EXPECT_EQ(in_berlin[0].delivery_mode, 1);
  EXPECT_THAT(in_bonn[0].body, HasSubstr("E_BONN"));
  EXPECT_EQ(in_bonn[0].delivery_mode, 2);
}

TEST_F(AmqpsTest, ThousandsOfEventsAndLargeOnesArriveWholeAndInOrder) {
  RabbitmqClient client(*server_);
  client.DeclareQueue("many");
  const auto link = Connect("?routing_key=many");
  ASSERT_EQ(link->WaitReady(), 256);
  std::vector<std::string> bodies;
  for (int batch = 0; batch < 20; ++batch) {
    std::vector<MessageRef> messages;
    for (int i = 0; i < 200; ++i) messages.push_back(MakeMessage("E_MANY", absl::StrCat(batch * 200 + i)));
    messages.push_back(MessageOfSize(100 + batch * 100000));  // of one to many TLS records and frames
    const size_t first = link->Send(messages);
    for (size_t i = 0; i < messages.size(); ++i) {
      bodies.emplace_back(messages[i]->jsonrpc());
      ASSERT_TRUE(link->Outcome(first + i).ok()) << link->Outcome(first + i);
    }
  }
  const std::vector<RabbitmqClient::Received> received = client.Drain("many");
  ASSERT_EQ(received.size(), bodies.size());
  for (size_t i = 0; i < bodies.size(); ++i) ASSERT_EQ(received[i].body, bodies[i]) << i;
}

// Who is wrong, and what the user is told.
TEST_F(AmqpsTest, ACertificateThatIsNotTrustedIsNamed) {
  const TemporaryFolder stranger;
  MakeCertificates(stranger);
  const std::string authority = absl::StrCat("&ca=", server_->File("ca.pem"));
  const std::string certificate =
      absl::StrCat("&cert=", server_->File("client.pem"), "&key=", server_->File("client.key"));
  struct Row {
    std::string host, options, error;
    absl::StatusCode code = absl::StatusCode::kUnauthenticated;
  };
  for (const Row& row : {
           Row{"127.0.0.1", authority + certificate, "certificate of 127.0.0.1 is not trusted: IP address mismatch"},
           Row{"localhost", certificate, "certificate of localhost is not trusted: "},
           Row{"localhost", absl::StrCat("&server_name=other.example", authority, certificate),
               "certificate of other.example is not trusted: hostname mismatch"},
           Row{"localhost", absl::StrCat("&ca=", stranger / "ca.pem", certificate), "names the authorities to trust"},
           Row{"localhost", authority, "the peer does not accept our certificate; cert=/path and key=/path"},
           Row{"localhost",
               absl::StrCat(authority, "&cert=", stranger / "client.pem", "&key=", stranger / "client.key"),
               "the peer does not accept our certificate"},
           Row{"localhost",
               absl::StrCat(authority, "&cert=", server_->File("client.pem"), "&key=", server_->File("locked.key")),
               "\"key\": the file holds no private key in PEM form that opens without a password"},
           Row{"localhost",
               absl::StrCat(authority, "&cert=", server_->File("client.pem"), "&key=", server_->File("server.key")),
               "\"key\": the key does not belong to the certificate"},
           Row{"localhost",
               absl::StrCat(authority, "&cert=", server_->File("client.key"), "&key=", server_->File("client.key")),
               "\"cert\": the file holds no certificate in PEM form"},
           Row{"localhost", absl::StrCat("&ca=", server_->File("client.key"), certificate),
               "\"ca\": the file holds no certificate in PEM form"},
           Row{"localhost", "&ca=/nonexistent.pem", "ca=/nonexistent.pem: No such file",
               absl::StatusCode::kUnavailable},
       }) {
    const auto link =
        ConnectTo(absl::StrCat("amqps://u:secret@", row.host, ":", server_->tls_port(), "?routing_key=q", row.options));
    const absl::Status why = link->WaitClosed();
    EXPECT_EQ(why.code(), row.code) << why;
    EXPECT_THAT(Text(why), AllOf(HasSubstr(row.error), HasSubstr("u:***@"), Not(HasSubstr("secret"))));
  }
}

TEST_F(AmqpsTest, ACertificateMayBearTheNameThatIsSaidBesideTheAddress) {
  RabbitmqClient(*server_).DeclareQueue("named");
  const auto link =
      ConnectTo(absl::StrCat("amqps://127.0.0.1:", server_->tls_port(),
                             "?routing_key=named&server_name=localhost&ca=", server_->File("ca.pem"),
                             "&cert=", server_->File("client.pem"), "&key=", server_->File("client.key")));
  ASSERT_GT(link->WaitReady(), 0) << link->WaitClosed();
  EXPECT_TRUE(link->SendAndWait(MakeMessage("E_1")).ok());
}

TEST_F(AmqpsTest, AnExpiredCertificateIsNamedAndTakenOnlyWithoutVerification) {
  RabbitmqClient(*server_).DeclareQueue("expired");
  const std::string now = server_->File("server.pem"), valid = server_->File("valid.pem");
  std::filesystem::rename(now, valid);
  std::filesystem::copy_file(server_->File("expired.pem"), now);
  server_->Ctl({"eval", "ssl:clear_pem_cache()."});
  const absl::Status why = Connect("?routing_key=expired")->WaitClosed();
  EXPECT_EQ(why.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(Text(why), HasSubstr("certificate of localhost is not trusted: certificate has expired"));

  const auto careless = ConnectTo(absl::StrCat("amqps://127.0.0.1:", server_->tls_port(),
                                               "?routing_key=expired&verify=0&cert=", server_->File("client.pem"),
                                               "&key=", server_->File("client.key")));
  ASSERT_GT(careless->WaitReady(), 0);
  EXPECT_TRUE(careless->SendAndWait(MakeMessage("E_1")).ok());

  std::filesystem::rename(valid, now);
  server_->Ctl({"eval", "ssl:clear_pem_cache()."});
  EXPECT_GT(Connect("?routing_key=expired")->WaitReady(), 0);
}

TEST_F(AmqpsTest, ThePortOfTheOtherSchemeIsNamed) {
  EXPECT_THAT(Text(ConnectTo(absl::StrCat("amqps://localhost:", server_->port(), "?routing_key=q"))->WaitClosed()),
              HasSubstr("it speaks no TLS there"));
  EXPECT_THAT(Text(ConnectTo(absl::StrCat("amqp://localhost:", server_->tls_port(), "?routing_key=q"))->WaitClosed()),
              HasSubstr("it speaks TLS there; write amqps://"));
}

TEST_F(AmqpsTest, ALoginAndAVirtualHostAreRefusedAsWithoutTls) {
  const auto wrong = ConnectTo(absl::StrCat("amqps://guest:opensesame@localhost:", server_->tls_port(),
                                            "?routing_key=q&", server_->TlsOptions()));
  const absl::Status refused = wrong->WaitClosed();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnauthenticated) << refused;
  EXPECT_THAT(Text(refused), AllOf(HasSubstr("ACCESS_REFUSED"), Not(HasSubstr("opensesame"))));
  const absl::Status no_vhost = Connect("/nowhere?routing_key=q")->WaitClosed();
  EXPECT_EQ(no_vhost.code(), absl::StatusCode::kPermissionDenied) << no_vhost;
}

TEST_F(AmqpsTest, AStoppedBrokerBlocksNeitherSendNorTheDestructor) {
  RabbitmqClient(*server_).DeclareQueue("stopped");
  auto link = Connect("?routing_key=stopped");
  ASSERT_GT(link->WaitReady(), 0);
  server_->Pause();
  const size_t first = link->Send(std::vector<MessageRef>(100, MessageOfSize(1 << 20)));
  auto silent = Connect("?routing_key=stopped");  // connects, and never gets an answer to its handshake
  EXPECT_EQ(link->Reported(), 0u);
  link->Destroy();
  silent->Destroy();
  EXPECT_EQ(link->Outcome(first + 99).code(), absl::StatusCode::kUnavailable);
  server_->Continue();
}

TEST_F(AmqpsTest, KilledUnderLoadAndRestartedItHasAllThatWasConfirmedInOrder) {
  RabbitmqClient(*server_).DeclareQueue("killed", /*durable=*/true);
  // A broker killed within a second or so of it forgets even a durable queue: an orderly restart writes it down.
  server_->Stop();
  server_->Start();
  std::vector<std::string> confirmed;
  size_t failed = 0, number = 0;
  for (int round = 0; round < 2; ++round) {
    const auto link = Connect("?routing_key=killed&persistent=1");
    ASSERT_GT(link->WaitReady(), 0) << round;
    for (int batch = 0; batch < 40; ++batch) {
      std::vector<MessageRef> messages;
      for (int i = 0; i < 100; ++i) messages.push_back(MakeMessage("E_KILLED", absl::StrCat(number++)));
      const size_t first = link->Send(messages);
      if (round == 0 && batch == 20) server_->Kill();  // with a batch on its way
      for (size_t i = 0; i < messages.size(); ++i) {
        if (link->Outcome(first + i).ok()) {
          confirmed.emplace_back(messages[i]->jsonrpc());
        } else {
          ++failed;
        }
      }
    }
    if (round == 1) break;  // the one of peace
    EXPECT_EQ(link->WaitClosed().code(), absl::StatusCode::kUnavailable);
    EXPECT_FALSE(Connect("?routing_key=killed")->WaitClosed().ok());
    server_->Start();
  }
  EXPECT_GE(confirmed.size(), 20u * 100 + 40 * 100);
  EXPECT_GE(failed, 19u * 100);
  std::vector<std::string> there;
  for (RabbitmqClient::Received& one : RabbitmqClient(*server_).Drain("killed")) there.push_back(std::move(one.body));
  size_t at = 0;
  for (const std::string& body : confirmed) {
    while (at < there.size() && there[at] != body) ++at;
    ASSERT_LT(at, there.size()) << body << " was confirmed and is not there, or not in its place";
    ++at;
  }
}

}  // namespace
}  // namespace eventvirtual
