// MI over real sockets: peers that answer, and peers that do not as they should.
#include "server/enroll/mi_client.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/transports/http/http_server.h"
#include "tests/transports/io/on_loop.h"
#include "tests/transports/io/server_process.h"
#include "transports/io/event_loop.h"

namespace eventvirtual {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// The id of a request.
uint64_t IdOf(absl::string_view request) {
  uint64_t id = 0;
  const size_t at = request.find("\"id\":");
  const absl::string_view digits = request.substr(at + 5);
  EXPECT_TRUE(absl::SimpleAtoi(digits.substr(0, digits.find_first_not_of("0123456789")), &id)) << request;
  return id;
}

std::string Result(uint64_t id, absl::string_view result) {
  return absl::StrCat(R"({"jsonrpc":"2.0","result":)", result, ",\"id\":", id, "}");
}

// MI over datagrams. Like OpenSIPS it answers from another socket than the one it is asked at.
class DatagramServer {
 public:
  using Answers = std::function<std::vector<std::string>(const std::string& request)>;

  // `path` "": over udp.
  DatagramServer(std::string path, Answers answers) : path_(std::move(path)), answers_(std::move(answers)) {
    const int family = path_.empty() ? AF_INET : AF_UNIX;
    in_ = socket(family, SOCK_DGRAM, 0);
    out_ = socket(family, SOCK_DGRAM, 0);
    if (path_.empty()) {
      sockaddr_in any = LoopbackAddress(0);
      socklen_t length = sizeof(any);
      EXPECT_EQ(bind(in_, reinterpret_cast<sockaddr*>(&any), length), 0);
      getsockname(in_, reinterpret_cast<sockaddr*>(&any), &length);
      address = absl::StrCat("udp:127.0.0.1:", ntohs(any.sin_port));
    } else {
      sockaddr_un un = {};
      un.sun_family = AF_UNIX;
      std::strcpy(un.sun_path, path_.c_str());
      EXPECT_EQ(bind(in_, reinterpret_cast<sockaddr*>(&un), sizeof(un)), 0);
      address = absl::StrCat("unix:", path_);
    }
    OnLoop(loop_, [this] {
      watch_ = loop_.NewWatch(in_, [this](Loop::Readiness) { Read(); });
      watch_->Want({.readable = true, .writable = false});
    });
  }
  ~DatagramServer() {
    OnLoop(loop_, [this] { watch_.reset(); });
    close(in_);
    close(out_);
    if (!path_.empty()) unlink(path_.c_str());
  }

  std::string address;

 private:
  void Read() {
    char bytes[65536];
    sockaddr_storage from = {};
    socklen_t length = sizeof(from);
    const ssize_t got = recvfrom(in_, bytes, sizeof(bytes), 0, reinterpret_cast<sockaddr*>(&from), &length);
    if (got < 0) return;
    for (const std::string& answer : answers_(std::string(bytes, static_cast<size_t>(got)))) {
      if (sendto(out_, answer.data(), answer.size(), 0, reinterpret_cast<sockaddr*>(&from), length) >= 0) continue;
      EXPECT_TRUE(errno == ENOENT || errno == ECONNREFUSED) << errno;  // who has what it asked for may have gone
    }
  }

  const std::string path_;
  const Answers answers_;
  int in_ = -1, out_ = -1;
  EventLoop loop_{"mi-server"};
  std::unique_ptr<Loop::Watch> watch_;
};

// Patient, so that no slow machine decides a test; see those that are about time.
std::unique_ptr<MiClient> Client(const std::string& address,
                                 const MiLimits& limits = {.timeout = kPatience, .max_answer = MiLimits().max_answer}) {
  absl::StatusOr<std::unique_ptr<MiClient>> client = MakeMiClient(address, limits);
  EXPECT_TRUE(client.ok()) << client.status();
  return *std::move(client);
}

const MiLimits kShort = {.timeout = absl::Milliseconds(100)};

TEST(MakeMiClient, SaysWhatItTakesAndRepeatsNoPassword) {
  for (const char* address :
       {"", "opensips", "tcp:127.0.0.1:1", "ftp://me:s3cr3t@host/", "http://", "http://me:s3cr3t@",
        "http://me:s3cr3t@host:port/", "udp:127.0.0.1", "udp:host:1", "udp:127.0.0.1:0", "unix:mi", "unix:"}) {
    const absl::Status status = MakeMiClient(address).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << address;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("s3cr3t")));
  }
  EXPECT_EQ(MakeMiClient(absl::StrCat("unix:/", std::string(107, 'x'))).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(MakeMiClient, ANameShowsNoLogin) {
  EXPECT_EQ(Client("http://127.0.0.1:8888/mi")->name(), "http://127.0.0.1:8888/mi");
  EXPECT_EQ(Client("http://me:s3cr3t@127.0.0.1:8888/mi")->name(), "http://me:***@127.0.0.1:8888/mi");
  EXPECT_EQ(Client("http://127.0.0.1/mi?token=s3cr3t")->name(), "http://127.0.0.1/mi?***");
  EXPECT_EQ(Client("udp:127.0.0.1:8888")->name(), "udp:127.0.0.1:8888");
  EXPECT_EQ(Client("udp:[::1]:8888")->name(), "udp:[::1]:8888");
}

// --- HTTP

TEST(HttpMi, PostsAndReadsTheAnswerOverOneConnection) {
  HttpServer server([](const HttpRequest& request) { return Answer("200 OK", Result(IdOf(request.body), R"("OK")")); });
  const auto client = Client(server.Url("/mi"));
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(*client->Call("event_subscribe", R"(["E_A","tcp:127.0.0.1:9060",60])"), "\"OK\"");
  const HttpRequest request = *server.Receive(kPatience);
  EXPECT_EQ(request.line, "POST /mi HTTP/1.1");
  EXPECT_EQ(request.Header("content-type"), "application/json");
  EXPECT_EQ(request.Header("authorization"), std::nullopt);
  EXPECT_EQ(request.body, absl::StrCat(R"({"jsonrpc":"2.0","id":)", IdOf(request.body),
                                       R"(,"method":"event_subscribe","params":["E_A","tcp:127.0.0.1:9060",60]})"));
  EXPECT_EQ(server.accepted(), 1);
}

TEST(HttpMi, SendsTheLoginOfTheUrl) {
  HttpServer server([](const HttpRequest& request) { return Answer("200 OK", Result(IdOf(request.body), "1")); });
  const auto client = Client(absl::StrCat("http://me:s%3Acr3t@127.0.0.1:", server.port(), "/mi"));
  EXPECT_EQ(*client->Call("which", "{}"), "1");
  EXPECT_EQ(server.Receive(kPatience)->Header("authorization"), "Basic bWU6czpjcjN0");
}

TEST(HttpMi, WhatMiRefusesIsTold) {
  HttpServer server([](const HttpRequest& request) {
    return Answer("200 OK",
                  absl::StrCat(R"({"jsonrpc":"2.0","error":{"code":400,"message":"Bad parameter value"},"id":)",
                               IdOf(request.body), "}"));
  });
  EXPECT_EQ(Client(server.Url("/mi"))->Call("x", "{}").status(),
            absl::FailedPreconditionError("400 Bad parameter value"));
}

TEST(HttpMi, WhatIsNoAnswerOfMiIsNone) {
  for (const HttpAnswer& answer :
       {Answer("404 Not Found", "<html>"), Answer("401 Unauthorized"), Answer("500 Internal Error"),
        Answer("200 OK", "<html>"), Answer("200 OK", ""),
        Answer("200 OK", R"({"jsonrpc":"2.0","result":"OK","id":"other"})"),
        Answer("302 Found", "", "Location: /elsewhere\r\n"), HttpAnswer{"garbage\r\n\r\n", HttpAnswer::Then::kClose},
        HttpAnswer{"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"half", HttpAnswer::Then::kClose},
        HttpAnswer{"HTTP/1.1 200 OK\r\n", HttpAnswer::Then::kReset}}) {
    HttpServer server(answer);
    const auto client = Client(absl::StrCat("http://me:s3cr3t@127.0.0.1:", server.port(), "/mi"));
    const absl::Status status = client->Call("which", "{}").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << answer.bytes << status;
    EXPECT_THAT(std::string(status.message()), AllOf(Not(HasSubstr("s3cr3t")), Not(HasSubstr("elsewhere"))));
    EXPECT_TRUE(server.Receive(kPatience).has_value());
    EXPECT_EQ(server.Receive(absl::ZeroDuration()), std::nullopt) << "a redirect is not followed";
  }
}

TEST(HttpMi, AnAnswerThatIsTooLongIsCutAndTold) {
  for (const bool fits : {true, false}) {
    HttpServer server([fits](const HttpRequest& request) {
      std::string answer = Result(IdOf(request.body), "\"\"");
      answer.insert(answer.find("\"\"") + 1, std::string(1000000 - answer.size() + (fits ? 0 : 1), 'x'));
      return Answer("200 OK", answer);
    });
    const auto client = Client(server.Url("/mi"), {.timeout = kPatience, .max_answer = 1000000});
    const absl::Status status = client->Call("subscribers_list", "{}").status();
    EXPECT_EQ(status, fits ? absl::OkStatus() : absl::ResourceExhaustedError("the answer has more than 1000000 bytes"));
  }
}

TEST(HttpMi, ASilentPeerIsGivenUp) {
  HttpServer server(HttpAnswer{});
  const absl::Status status = Client(server.Url("/mi"), kShort)->Call("which", "{}").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("timed out"));
}

TEST(HttpMi, ARefusedPortIsToldAndTheNextCallFindsWhoListensAgain) {
  HttpServer server([](const HttpRequest& request) { return Answer("200 OK", Result(IdOf(request.body), "1")); });
  const auto client = Client(server.Url("/mi"));
  EXPECT_TRUE(client->Call("which", "{}").ok());
  server.Stop();
  EXPECT_EQ(client->Call("which", "{}").status().code(), absl::StatusCode::kUnavailable);
  server.Start();
  EXPECT_TRUE(client->Call("which", "{}").ok());
}

TEST(HttpMi, ProxiesOfTheEnvironmentAreNotAsked) {
  HttpServer server([](const HttpRequest& request) { return Answer("200 OK", Result(IdOf(request.body), "1")); });
  HttpServer proxy(Answer("200 OK", "{}"));
  setenv("http_proxy", proxy.Url("/").c_str(), 1);
  EXPECT_TRUE(Client(server.Url("/mi"))->Call("which", "{}").ok());
  unsetenv("http_proxy");
  EXPECT_EQ(proxy.accepted(), 0);
}

// --- datagrams

class DatagramMi : public testing::TestWithParam<const char*> {
 protected:
  std::string Path() const { return std::string(GetParam()) == "udp" ? "" : folder_ / "mi"; }
  TemporaryFolder folder_;
};

TEST_P(DatagramMi, OneRequestOneAnswerFromAnotherSocket) {
  std::string asked;
  DatagramServer server(Path(), [&asked](const std::string& request) {
    asked = request;
    return std::vector<std::string>{Result(IdOf(request), R"("OK")")};
  });
  const auto client = Client(server.address);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(*client->Call("event_subscribe", R"(["E_A","unix:/x",60])"), "\"OK\"");
  EXPECT_EQ(asked, absl::StrCat(R"({"jsonrpc":"2.0","id":)", IdOf(asked),
                                R"(,"method":"event_subscribe","params":["E_A","unix:/x",60]})"));
}

TEST_P(DatagramMi, AnswersToOtherRequestsArePassedOver) {
  DatagramServer server(Path(), [](const std::string& request) {
    const uint64_t id = IdOf(request);
    return std::vector<std::string>{Result(id - 1, R"("late")"), Result(id + 1, R"("early")"), Result(id, R"("OK")"),
                                    Result(id, R"("twice")")};
  });
  const auto client = Client(server.address);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(*client->Call("which", "{}"), "\"OK\"");
}

TEST_P(DatagramMi, WhatIsNoAnswerOfMiIsNone) {
  for (const char* answer : {"400 Parse_error", "", "{", "\xff\xfe"}) {
    DatagramServer server(Path(), [answer](const std::string&) { return std::vector<std::string>{answer}; });
    EXPECT_EQ(Client(server.address)->Call("which", "{}").status().code(), absl::StatusCode::kUnavailable) << answer;
  }
}

TEST_P(DatagramMi, TheLargestAnswerOfOpensipsIsRead) {
  DatagramServer server(Path(), [](const std::string& request) {
    std::string answer = Result(IdOf(request), "\"\"");
    answer.insert(answer.find("\"\"") + 1, std::string(65457 - answer.size(), 'x'));
    return std::vector<std::string>{answer};
  });
  EXPECT_TRUE(Client(server.address)->Call("subscribers_list", "{}").ok());
}

TEST_P(DatagramMi, ASilentPeerIsGivenUpAlsoIfItTalksOfOtherThings) {
  DatagramServer server(
      Path(), [](const std::string& request) { return std::vector<std::string>{Result(IdOf(request) + 1, "1")}; });
  EXPECT_EQ(Client(server.address, kShort)->Call("which", "{}").status(),
            absl::UnavailableError("no answer within 100ms"));
}

TEST_P(DatagramMi, WhenNobodyListensItIsToldAtOnceAndTheNextCallFindsWhoListensAgain) {
  std::string address;
  {
    address = DatagramServer(Path(), [](const std::string&) { return std::vector<std::string>(); }).address;
  }
  const auto client = Client(address);
  const absl::Status status = client->Call("which", "{}").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("no answer within")));
  if (Path().empty()) return;  // the port may be another's by now
  DatagramServer server(
      Path(), [](const std::string& request) { return std::vector<std::string>{Result(IdOf(request), "1")}; });
  EXPECT_TRUE(client->Call("which", "{}").ok());
}

TEST_P(DatagramMi, ARequestThatIsTooLongIsNoOutage) {
  DatagramServer server(
      Path(), [](const std::string& request) { return std::vector<std::string>{Result(IdOf(request), "1")}; });
  const auto client = Client(server.address);
  const std::string params = absl::StrCat("[\"", std::string(1 << 20, 'x'), "\"]");
  EXPECT_EQ(client->Call("event_subscribe", params).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(client->Call("which", "{}").ok());
}

INSTANTIATE_TEST_SUITE_P(Sockets, DatagramMi, testing::Values("udp", "unix"),
                         [](const auto& info) { return std::string(info.param); });

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

DatagramServer::Answers One() {
  return [](const std::string& request) { return std::vector<std::string>{Result(IdOf(request), "1")}; };
}

TEST(UnixMi, EachClientHasAFileForRepliesThatOpensipsMayWriteToAndThatGoesWithIt) {
  TemporaryFolder folder;
  DatagramServer server(folder / "mi", One());
  auto first = Client(server.address);
  auto second = Client(server.address);
  EXPECT_TRUE(first->Call("which", "{}").ok());
  EXPECT_TRUE(second->Call("which", "{}").ok());
  struct stat status;
  ASSERT_EQ(stat((folder / "eventvirtual-mi.0").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0666u);
  EXPECT_TRUE(Exists(folder / "eventvirtual-mi.1"));
  first.reset();
  EXPECT_FALSE(Exists(folder / "eventvirtual-mi.0"));
  EXPECT_TRUE(second->Call("which", "{}").ok());
}

TEST(UnixMi, AFileThatADeadServiceLeftIsTaken) {
  TemporaryFolder folder;
  DatagramServer server(folder / "mi", One());
  const int dead = socket(AF_UNIX, SOCK_DGRAM, 0);
  sockaddr_un un = {};
  un.sun_family = AF_UNIX;
  std::strcpy(un.sun_path, (folder / "eventvirtual-mi.0").c_str());
  ASSERT_EQ(bind(dead, reinterpret_cast<sockaddr*>(&un), sizeof(un)), 0);
  close(dead);
  const auto client = Client(server.address);
  EXPECT_TRUE(client->Call("which", "{}").ok());
  EXPECT_FALSE(Exists(folder / "eventvirtual-mi.1"));
}

TEST(UnixMi, WhereOpensipsFolderCannotBeWrittenToTheFileIsInTmp) {
  TemporaryFolder folder;
  DatagramServer server(folder / "mi", One());
  // A name that is no socket, for root may write everywhere: bind() cannot take it, nor is it cleared away.
  for (int i = 0; i < 64; ++i) std::ofstream(folder / absl::StrCat("eventvirtual-mi.", i)) << "not a socket";
  const auto client = Client(server.address);
  EXPECT_TRUE(client->Call("which", "{}").ok());
}

}  // namespace
}  // namespace eventvirtual
