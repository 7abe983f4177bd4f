// http and https against a real server: Debian's nginx, before an application that records what it is given.
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/http/http_server.h"
#include "tests/transports/http/nginx.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/io/server_process.h"
#include "transports/http/http_transport.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

class NginxTest : public testing::Test {
 protected:
  const std::unique_ptr<Transport> transport_ = MakeHttpTransport();
  HttpServer application_{Answer("200 OK", "ok")};
};

TEST_F(NginxTest, EventsShareOneConnection) {
  Nginx nginx(application_.port(), /*tls=*/false);
  LinkUnderTest link(*transport_, nginx.Url("127.0.0.1", "/"));
  ASSERT_EQ(link.WaitReady(), 1);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(link.SendAndWait(MakeMessage("E_TEST")).ok());
  const std::vector<std::string> log = nginx.Log(10);
  EXPECT_THAT(log[0], testing::StartsWith("HTTP/1.1"));
  EXPECT_EQ(std::set<std::string>(log.begin(), log.end()).size(), 1u);
}

TEST_F(NginxTest, ATooLargeEventIsRefusedAloneAndAMissingPageIsAFailure) {
  Nginx nginx(application_.port(), /*tls=*/false, "client_max_body_size 10k; location /gone { return 404; }");
  LinkUnderTest link(*transport_, nginx.Url("127.0.0.1", "/"));
  ASSERT_EQ(link.WaitReady(), 1);
  EXPECT_TRUE(absl::IsInvalidArgument(link.SendAndWait(MessageOfSize(20000))));
  EXPECT_TRUE(link.SendAndWait(MessageOfSize(10000)).ok());
  LinkUnderTest gone(*transport_, nginx.Url("127.0.0.1", "/gone"));
  ASSERT_EQ(gone.WaitReady(), 1);
  EXPECT_TRUE(absl::IsNotFound(gone.SendAndWait(MakeMessage("E_TEST"))));
}

TEST_F(NginxTest, AnApplicationThatIsDownIsAFailure) {
  Nginx nginx(application_.port(), /*tls=*/false);
  application_.Stop();
  LinkUnderTest link(*transport_, nginx.Url("127.0.0.1", "/"));
  ASSERT_EQ(link.WaitReady(), 1);
  const absl::Status outcome = link.SendAndWait(MakeMessage("E_TEST"));
  EXPECT_TRUE(absl::IsUnavailable(outcome)) << outcome;
  EXPECT_THAT(Text(outcome), HasSubstr("answered 502"));
}

// nginx ends a connection after so many requests, and after so long a pause.
TEST_F(NginxTest, ConnectionsThatTheServerEndsBetweenTwoEventsCostNone) {
  for (bool tls : {false, true}) {
    Nginx nginx(application_.port(), tls, "keepalive_requests 3; keepalive_timeout 1s;");
    LinkUnderTest link(*transport_, nginx.Url("localhost", tls ? "/?ca=" + nginx.File("ca.pem") : "/"));
    ASSERT_EQ(link.WaitReady(), 1);
    for (int i = 0; i < 20; ++i) {
      const MessageRef message = MakeMessage("E_TEST", absl::StrCat(i));
      const absl::Status outcome = link.SendAndWait(message);
      ASSERT_TRUE(outcome.ok()) << i << outcome;
      EXPECT_EQ(application_.Receive(kPatience)->body, message->jsonrpc());
    }
    const std::vector<std::string> log = nginx.Log(20);
    EXPECT_GE(std::set<std::string>(log.begin(), log.end()).size(), 7u);
    EXPECT_FALSE(application_.Receive(absl::ZeroDuration()).has_value()) << "came twice";
  }
}

TEST_F(NginxTest, TlsIsVerifiedUnlessToldOtherwise) {
  Nginx nginx(application_.port(), /*tls=*/true);
  const std::string ca = nginx.File("ca.pem");
  struct Row {
    std::string url;
    absl::StatusCode code;
    std::string said;
  };
  using Code = absl::StatusCode;
  for (const Row& row : {
           Row{nginx.Url("localhost", "/?ca=" + ca), Code::kOk, ""},
           Row{nginx.Url("localhost", "/"), Code::kUnauthenticated, "ca=/path names the authorities to trust"},
           Row{nginx.Url("127.0.0.1", "/?ca=" + ca), Code::kUnauthenticated, "127.0.0.1"},  // another name
           Row{nginx.Url("127.0.0.1", "/?verify=0"), Code::kOk, ""},
           Row{nginx.Url("127.0.0.1", "/?server_name=localhost&ca=" + ca), Code::kOk, ""},
           Row{nginx.Url("localhost", "/?server_name=other.example&ca=" + ca), Code::kUnauthenticated, "other.example"},
           Row{nginx.Url("localhost", "/?ca=" + nginx.File("server.key")), Code::kUnauthenticated, "ca, cert or key"},
       }) {
    LinkUnderTest link(*transport_, row.url);
    ASSERT_EQ(link.WaitReady(), 1);
    const absl::Status outcome = link.SendAndWait(MakeMessage("E_TEST"));
    EXPECT_EQ(outcome.code(), row.code) << row.url << ": " << outcome;
    EXPECT_THAT(Text(outcome), HasSubstr(row.said));
    if (!outcome.ok()) {
      EXPECT_EQ(link.WaitClosed().code(), row.code);
    }
    EXPECT_EQ(application_.Receive(absl::ZeroDuration()).has_value(), outcome.ok());
  }
  for (const std::string& line : nginx.Log(3)) EXPECT_THAT(line, testing::StartsWith("HTTP/2.0"));
  LinkUnderTest link(*transport_, nginx.Url("localhost", "/?ca=/nonexistent/ca.pem"));
  EXPECT_EQ(link.WaitReady(), 0);
  EXPECT_THAT(Text(link.WaitClosed()), HasSubstr("ca=/nonexistent/ca.pem: No such file or directory"));
}

TEST_F(NginxTest, AClientCertificateIsShown) {
  Nginx nginx(application_.port(), /*tls=*/true, "");
  Nginx strict(application_.port(), /*tls=*/true,
               absl::StrCat("ssl_verify_client on; ssl_client_certificate ", nginx.File("ca.pem"), ";"));
  const std::string base = strict.Url("localhost", "/?ca=" + strict.File("ca.pem"));
  const std::string cert = absl::StrCat("&cert=", nginx.File("client.pem"));
  {
    LinkUnderTest link(*transport_, absl::StrCat(base, cert, "&key=", nginx.File("client.key")));
    ASSERT_EQ(link.WaitReady(), 1);
    const absl::Status outcome = link.SendAndWait(MakeMessage("E_TEST"));
    EXPECT_TRUE(outcome.ok()) << outcome;
    EXPECT_THAT(strict.Log(1)[0], HasSubstr("SUCCESS"));
  }
  {
    LinkUnderTest link(*transport_, base);
    ASSERT_EQ(link.WaitReady(), 1);
    EXPECT_FALSE(link.SendAndWait(MakeMessage("E_TEST")).ok());
  }
  // A locked key is refused: nobody is there to type its password.
  LinkUnderTest link(*transport_, absl::StrCat(base, cert, "&key=", nginx.File("locked.key")));
  ASSERT_EQ(link.WaitReady(), 1);
  const absl::Status outcome = link.SendAndWait(MakeMessage("E_TEST"));
  EXPECT_TRUE(absl::IsUnauthenticated(outcome)) << outcome;
}

TEST_F(NginxTest, AWindowOverHttp2SharesOneConnection) {
  Nginx nginx(application_.port(), /*tls=*/true);
  LinkUnderTest link(*transport_, nginx.Url("localhost", absl::StrCat("/?window=32&ca=", nginx.File("ca.pem"))));
  ASSERT_EQ(link.WaitReady(), 32);
  for (int round = 0; round < 10; ++round) {
    std::vector<MessageRef> messages;
    for (int i = 0; i < 32; ++i) messages.push_back(MakeMessage("E_TEST", absl::StrCat(round, " ", i)));
    const size_t first = link.Send(messages);
    for (int i = 0; i < 32; ++i) ASSERT_TRUE(link.Outcome(first + i).ok()) << link.Outcome(first + i);
  }
  const std::vector<std::string> log = nginx.Log(320);
  EXPECT_EQ(std::set<std::string>(log.begin(), log.end()).size(), 1u) << log[0] << log.back();
}

TEST_F(NginxTest, AStoppedServerTimesOutAndServesAgainWhenItGoesOn) {
  Nginx nginx(application_.port(), /*tls=*/true);
  LinkUnderTest link(*transport_, nginx.Url("localhost", absl::StrCat("/?timeout=1s&ca=", nginx.File("ca.pem"))));
  ASSERT_EQ(link.WaitReady(), 1);
  ASSERT_TRUE(link.SendAndWait(MakeMessage("E_TEST")).ok());
  nginx.process().Pause();
  const absl::Status outcome = link.SendAndWait(MakeMessage("E_TEST"));
  EXPECT_TRUE(absl::IsDeadlineExceeded(outcome)) << outcome;
  nginx.process().Continue();
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_TEST")).ok());
}

TEST_F(NginxTest, KilledUnderLoadNothingConfirmedIsMissingAndANewLinkGoesOn) {
  for (bool tls : {false, true}) {
    Nginx nginx(application_.port(), tls);
    const std::string url = nginx.Url("localhost", tls ? "/?ca=" + nginx.File("ca.pem") : "/");
    std::vector<std::string> confirmed;
    for (int round = 0; round < 3; ++round) {
      LinkUnderTest link(*transport_, url);
      ASSERT_EQ(link.WaitReady(), 1);
      for (int i = 0; i < 200; ++i) {
        const MessageRef message = MakeMessage("E_LOAD", absl::StrCat(tls, " ", round, " ", i));
        const size_t number = link.Send({message});
        if (i == 100 + round) nginx.process().Kill();
        if (!link.Outcome(number).ok()) break;
        confirmed.emplace_back(message->jsonrpc());
      }
      EXPECT_FALSE(link.SendAndWait(MakeMessage("E_DOWN")).ok());
      EXPECT_TRUE(absl::IsUnavailable(link.WaitClosed()));
      nginx.process().Start();
    }
    EXPECT_GE(confirmed.size(), 300u);
    std::vector<std::string> received;
    while (const std::optional<HttpRequest> request = application_.Receive(absl::ZeroDuration())) {
      received.push_back(request->body);
    }
    // In order, each once; what was out when the server died may be between.
    auto at = received.begin();
    for (const std::string& text : confirmed) {
      at = std::find(at, received.end(), text);
      ASSERT_NE(at, received.end()) << text;
      EXPECT_EQ(std::count(received.begin(), received.end(), text), 1) << text;
    }
  }
}

}  // namespace
}  // namespace eventvirtual
