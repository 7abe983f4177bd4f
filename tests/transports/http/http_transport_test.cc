#include "transports/http/http_transport.h"

#include <dirent.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/http/http_server.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/io/on_loop.h"
#include "transports/api/encoding.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr absl::string_view kMayHaveArrived = "the event may have arrived";

std::string Text(const absl::Status& status) { return std::string(status.message()); }

absl::StatusOr<Target> Canonicalize(absl::string_view text) {
  const absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return uri.status();
  return MakeHttpTransport()->Canonicalize(*uri);
}

MessageRef MessageWithId(absl::string_view id) {
  EventFields fields;
  fields.name = "E_ID";
  fields.event_id = id;
  return Message::Make(fields);
}

int Threads() {
  DIR* const folder = opendir("/proc/self/task");
  int count = 0;
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

class HttpTest : public testing::Test {
 protected:
  const std::unique_ptr<Transport> transport_ = MakeHttpTransport();
};

// --- addresses

TEST(HttpAddress, HasOneCanonicalFormAndHidesSecrets) {
  struct Row {
    absl::string_view text, canonical, masked;
  };
  for (const Row& row : {
           Row{"http://Host", "http://host/", "http://host/"},
           Row{"http://host:80/", "http://host/", "http://host/"},
           Row{"https://host:443/a%2Fb//c/", "https://host/a%2Fb//c/", "https://host/a%2Fb//c/"},
           Row{"https://host:80/", "https://host:80/", "https://host:80/"},
           Row{"http://[::1]/x", "http://[::1]/x", "http://[::1]/x"},
           Row{"http://bob:s3cret@h/", "http://bob:s3cret@h/", "http://bob:***@h/"},
           Row{"http://bob@h/", "http://bob:@h/", "http://bob:***@h/"},
           Row{"http://b%6Fb:p%40s%2f%3a@h/", "http://bob:p%40s%2f%3a@h/", "http://bob:***@h/"},
           Row{"http://h/?timeout=5s&window=1&redirects=0", "http://h/", "http://h/"},
           Row{"http://h/p?query=token%3Dabc%26x%3D%2520&timeout=500",
               "http://h/p?query=token%3dabc%26x%3d%2520&timeout=500ms", "http://h/p?query=***&timeout=500ms"},
           Row{"http://h/?header.x-b=2&header.authorization=Bearer%20t0ken",
               "http://h/?header.authorization=Bearer%20t0ken&header.x-b=2",
               "http://h/?header.authorization=***&header.x-b=***"},
           Row{"https://h/?key=/k&cert=/c&ca=/a&window=8&redirects=1",
               "https://h/?window=8&redirects=1&ca=/a&cert=/c&key=/k",
               "https://h/?window=8&redirects=1&ca=/a&cert=/c&key=/k"},
           Row{"https://h/?verify=0", "https://h/?verify=0", "https://h/?verify=0"},
           Row{"https://10.0.0.5/?server_name=Billing.Example", "https://10.0.0.5/?server_name=billing.example",
               "https://10.0.0.5/?server_name=billing.example"},
       }) {
    const absl::StatusOr<Target> target = Canonicalize(row.text);
    ASSERT_TRUE(target.ok()) << row.text << ": " << target.status();
    EXPECT_EQ(target->canonical, row.canonical);
    EXPECT_EQ(target->masked, row.masked);
    const absl::StatusOr<Target> again = Canonicalize(target->canonical);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->canonical, target->canonical);
    EXPECT_TRUE(ParseUri(target->masked).ok());
  }
}

TEST(HttpAddress, WhatIsWrongIsNamedWithTheWayOut) {
  struct Row {
    absl::string_view text, said;
  };
  for (const Row& row : {
           Row{"http:host/path", "write http://host/path"},
           Row{"https:", "write https://host/path"},
           Row{"http:///path", "the host is empty"},
           Row{"http://h:0/", "not a number from 1 to 65535"},
           Row{"http://h/a?token", "option \"query\""},
           Row{"http://h/?token=abc", "known: query, timeout"},
           Row{"http://h/a#b", "offset 2 of the path"},
           Row{"http://h/a%2", "offset 2 of the path"},
           Row{"http://bob:12/s3cret@h/", "percent-encoded"},
           Row{"http://:s3cret@h/", "the user before '@' is empty"},
           Row{"http://bob:s3cret%zz@h/", "the password"},
           Row{"http://h/?query=a%20b", "offset 1 of option \"query\""},
           Row{"http://h/?window=65", "from 1 to 64"},
           Row{"http://h/?ca=/x", "\"ca\" is unknown"},
           Row{"https://h/?ca=x", "absolute path"},
           Row{"https://h/?cert=/x", "go together"},
           Row{"https://h/?ca=/x&verify=0", "no effect"},
           Row{"https://h/?server_name=a%2fb", "\"server_name\": \"a/b\" is not the name of a host"},
           Row{"https://h/?server_name=a:443", "\"server_name\": \"a:443\" is not the name of a host"},
           Row{"http://h/?server_name=a", "server_name"},
           Row{"http://h/?header.host=x", "allowed are header.authorization"},
           Row{"http://h/?header.x-a=1%0d%0ahost:s3cret", "printable"},
           Row{"http://h/?header.x-a=1&header.x-a=2", "given twice"},
           Row{"http://bob:s3cret@h/?header.authorization=s3cret", "exclude each other"},
       }) {
    const absl::Status status = Canonicalize(row.text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << row.text;
    EXPECT_THAT(Text(status), AllOf(HasSubstr(std::string(row.said)), Not(HasSubstr("s3cret")))) << row.text;
  }
}

// --- the wire

TEST_F(HttpTest, ARequestIsAPostOfTheJsonRpcTextWithTheEventsId) {
  HttpServer server(Answer("200 OK", "thanks"));
  LinkUnderTest link(*transport_, server.Url("/a/../b%20c"));
  ASSERT_EQ(link.WaitReady(), 1);
  const MessageRef message = MakeMessage("E_TEST", "x");
  ASSERT_TRUE(link.SendAndWait(message).ok());
  const std::optional<HttpRequest> request = server.Receive(kPatience);
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->head,
            absl::StrCat("POST /a/../b%20c HTTP/1.1\r\nHost: 127.0.0.1:", server.port(),
                         "\r\nUser-Agent: eventvirtual\r\nContent-Type: application/json"
                         "\r\nIdempotency-Key: ",
                         message->event_id(), "\r\neventhops: 1\r\nContent-Length: ", message->jsonrpc().size()));
  EXPECT_EQ(request->body, R"({"jsonrpc":"2.0","method":"E_TEST","params":["x"]})");
}

TEST_F(HttpTest, LoginQueryAndHeadersGoWithTheRequest) {
  HttpServer server(Answer("200 OK"));
  LinkUnderTest link(*transport_, absl::StrCat("http://alice:p%40ss:w@127.0.0.1:", server.port(),
                                               "/h?query=token%3Dabc&header.x-site=Berlin%201&header.user-agent=ua"));
  ASSERT_EQ(link.WaitReady(), 1);
  ASSERT_TRUE(link.SendAndWait(MessageOfSize(3 << 20)).ok());
  const std::optional<HttpRequest> request = server.Receive(kPatience);
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->line, "POST /h?token=abc HTTP/1.1");
  EXPECT_EQ(request->Header("authorization"), absl::StrCat("Basic ", absl::Base64Escape("alice:p@ss:w")));
  EXPECT_EQ(request->Header("x-site"), "Berlin 1");
  EXPECT_EQ(request->Header("user-agent"), "ua");
  EXPECT_EQ(request->Header("expect"), std::nullopt) << "a round trip for nothing";
}

TEST_F(HttpTest, EachEncodingHasItsMediaTypeAndTheBinaryModeItsHeaders) {
  HttpServer server(Answer("200 OK"));
  const std::pair<absl::string_view, absl::string_view> attributes[] = {{"traceparent", "00-1"},
                                                                        {"tracestate", "a\r\nX-Evil: 1"}};
  EventFields fields{.name = "E_ACC", .event_id = "id 7", .source = "/sbc", .hops = 2};
  fields.attributes = attributes;
  const MessageRef message = Message::Make(fields);
  for (const auto& [word, encoding] : {std::pair{"jsonrpc", Encoding::kJsonRpc},
                                       {"json", Encoding::kJson},
                                       {"cloudevents", Encoding::kCloudEvents},
                                       {"cloudevents-binary", Encoding::kCloudEventsBinary},
                                       {"protobuf", Encoding::kProtobuf}}) {
    LinkUnderTest link(*transport_, server.Url(absl::StrCat("/?encoding=", word)));
    ASSERT_EQ(link.WaitReady(), 1);
    ASSERT_TRUE(link.SendAndWait(message).ok());
    const std::optional<HttpRequest> request = server.Receive(kPatience);
    ASSERT_TRUE(request.has_value());
    EXPECT_EQ(request->body, message->encoded(encoding)) << word;
    EXPECT_EQ(request->Header("content-type"), std::string(ContentType(encoding)));
    EXPECT_EQ(request->Header("traceparent"), "00-1");
    EXPECT_EQ(request->Header("eventhops"), "3") << word;
    EXPECT_EQ(request->Header("tracestate"), std::nullopt) << "no header's value";
    EXPECT_EQ(request->Header("x-evil"), std::nullopt);
    const bool binary = encoding == Encoding::kCloudEventsBinary;
    EXPECT_EQ(request->Header("ce-id"), binary ? std::optional<std::string>("id%207") : std::nullopt);
    if (!binary) continue;
    EXPECT_EQ(request->Header("ce-specversion"), "1.0");
    EXPECT_EQ(request->Header("ce-type"), "E_ACC");
    EXPECT_EQ(request->Header("ce-source"), "/sbc");
    EXPECT_EQ(request->Header("ce-traceparent"), "00-1");
    EXPECT_EQ(request->Header("ce-eventhops"), "3");
  }
}

TEST_F(HttpTest, AnEventIdCannotWriteHeaders) {
  HttpServer server(Answer("200 OK"));
  LinkUnderTest link(*transport_, server.Url("/"));
  ASSERT_EQ(link.WaitReady(), 1);
  ASSERT_TRUE(link.SendAndWait(MessageWithId("a\r\nX-Evil: 1")).ok());
  const std::optional<HttpRequest> request = server.Receive(kPatience);
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->Header("x-evil"), std::nullopt);
  EXPECT_EQ(request->Header("idempotency-key"), "a%0d%0aX-Evil%3a%201");
}

TEST_F(HttpTest, AProxyOfTheEnvironmentIsNotUsed) {
  for (const char* name : {"http_proxy", "ALL_PROXY"}) setenv(name, "http://127.0.0.1:1", 1);
  HttpServer server(Answer("200 OK"));
  LinkUnderTest link(*transport_, server.Url("/"));
  ASSERT_EQ(link.WaitReady(), 1);
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_TEST")).ok());
  for (const char* name : {"http_proxy", "ALL_PROXY"}) unsetenv(name);
}

TEST_F(HttpTest, ANameIsLookedUpOnTheLoopAndEachOfItsAddressesTried) {
  HttpServer server(Answer("200 OK"));  // at 127.0.0.1; localhost is ::1 too
  LinkUnderTest link(*transport_, absl::StrCat("http://LocalHost:", server.port(), "/"));
  ASSERT_EQ(link.WaitReady(), 1);
  const int threads = Threads();
  ASSERT_TRUE(link.SendAndWait(MakeMessage("E_TEST")).ok());
  EXPECT_EQ(Threads(), threads) << "somebody has a thread for names";
  EXPECT_EQ(server.Receive(kPatience)->Header("host"), absl::StrCat("localhost:", server.port()));
}

TEST_F(HttpTest, AHostThatDoesNotExistClosesTheLink) {
  LinkUnderTest link(*transport_, "http://nosuchhost.invalid/");
  EXPECT_EQ(link.WaitReady(), 0);
  const absl::Status why = link.WaitClosed();
  EXPECT_TRUE(absl::IsUnavailable(why)) << why;
  EXPECT_THAT(Text(why), HasSubstr("http://nosuchhost.invalid/: cannot look up host"));
}

// --- answers

TEST_F(HttpTest, TheStatusDecides) {
  struct Row {
    absl::string_view status, headers;
    absl::StatusCode code;
    absl::string_view said;
  };
  using Code = absl::StatusCode;
  for (const Row& row : {
           Row{"200 OK", "", Code::kOk, ""},
           Row{"201 Created", "Location: /other\r\n", Code::kOk, ""},
           Row{"202 Accepted", "", Code::kOk, ""},
           Row{"299 Whatever", "", Code::kOk, ""},
           Row{"301 Moved", "Location: https://other.example/t0ken?a=t0ken\r\n", Code::kUnavailable,
               "a redirection to https://other.example:443; subscribe to the final address"},
           Row{"302 Found", "Location: /login\r\n", Code::kUnavailable, "the server answered 302"},
           Row{"304 Not Modified", "", Code::kUnavailable, "304"},
           Row{"307 Temporary", "Location: /here\r\n", Code::kUnavailable, "set redirects=1"},
           Row{"400 Bad Request", "", Code::kInvalidArgument, "400: it does not take this event"},
           Row{"401 Unauthorized", "WWW-Authenticate: Basic realm=x\r\n", Code::kUnauthenticated, "401"},
           Row{"403 Forbidden", "", Code::kPermissionDenied, "403"},
           Row{"404 Not Found", "", Code::kNotFound, "404"},
           Row{"405 Method Not Allowed", "", Code::kUnavailable, "405"},
           Row{"408 Request Timeout", "", Code::kUnavailable, "408"},
           Row{"410 Gone", "", Code::kNotFound, "410"},
           Row{"413 Too Large", "", Code::kInvalidArgument, "413"},
           Row{"415 Unsupported", "", Code::kUnavailable, "415"},
           Row{"422 Unprocessable", "", Code::kInvalidArgument, "422"},
           Row{"429 Too Many", "Retry-After: 17\r\n", Code::kUnavailable, "429, and asks to wait for 17 s"},
           Row{"500 Oops", "", Code::kUnavailable, "500"},
           Row{"503 Busy", "Retry-After: 2\r\n", Code::kUnavailable, "503, and asks to wait for 2 s"},
           Row{"599 Odd", "", Code::kUnavailable, "599"},
       }) {
    HttpServer server(Answer(row.status, "", row.headers));
    LinkUnderTest link(*transport_, server.Url("/?query=token%3Dt0ken"));
    ASSERT_EQ(link.WaitReady(), 1);
    const absl::Status outcome = link.SendAndWait(MakeMessage("E_TEST"));
    EXPECT_EQ(outcome.code(), row.code) << row.status << ": " << outcome;
    EXPECT_THAT(Text(outcome), AllOf(HasSubstr(std::string(row.said)), Not(HasSubstr("t0ken")))) << row.status;
    EXPECT_FALSE(link.closed()) << "the connection is good";
    server.Receive(kPatience);
    EXPECT_FALSE(server.Receive(absl::ZeroDuration()).has_value()) << "asked again after " << row.status;
  }
}

TEST_F(HttpTest, RedirectsAreFollowedOnlyWhenAskedForAndOnlyWithinTheServer) {
  HttpServer elsewhere(Answer("200 OK"));
  HttpServer server([&](const HttpRequest& request) {
    if (absl::StrContains(request.line, "/final ")) return Answer("204 No Content");
    if (absl::StrContains(request.line, "/round ")) return Answer("308 Permanent", "", "Location: /round\r\n");
    if (absl::StrContains(request.line, "/away ")) {
      return Answer("307 Temporary", "", absl::StrCat("Location: ", elsewhere.Url("/"), "\r\n"));
    }
    return Answer("307 Temporary", "", "Location: /final\r\n");
  });
  {
    LinkUnderTest link(*transport_, server.Url("/start?redirects=1"));
    ASSERT_EQ(link.WaitReady(), 1);
    const MessageRef message = MakeMessage("E_TEST", "moved");
    EXPECT_TRUE(link.SendAndWait(message).ok());
    for (const char* line : {"POST /start HTTP/1.1", "POST /final HTTP/1.1"}) {
      const std::optional<HttpRequest> request = server.Receive(kPatience);
      ASSERT_TRUE(request.has_value());
      EXPECT_EQ(request->line, line);
      EXPECT_EQ(request->body, message->jsonrpc());
      EXPECT_EQ(request->Header("idempotency-key"), message->event_id());
    }
    EXPECT_TRUE(link.SendAndWait(MakeMessage("E_NEXT")).ok());
    EXPECT_EQ(server.Receive(kPatience)->line, "POST /start HTTP/1.1") << "a temporary redirection is not remembered";
    server.Receive(kPatience);
  }
  {
    LinkUnderTest link(*transport_, server.Url("/away?redirects=1"));
    ASSERT_EQ(link.WaitReady(), 1);
    EXPECT_TRUE(absl::IsUnavailable(link.SendAndWait(MakeMessage("E_TEST"))));
    EXPECT_FALSE(elsewhere.Receive(absl::ZeroDuration()).has_value());
  }
  {
    LinkUnderTest link(*transport_, server.Url("/round?redirects=1"));
    ASSERT_EQ(link.WaitReady(), 1);
    EXPECT_TRUE(absl::IsUnavailable(link.SendAndWait(MakeMessage("E_TEST"))));
  }
}

TEST_F(HttpTest, AGiantAnswerIsCutOffAndItsStatusCounts) {
  constexpr size_t kGiant = 64 << 20;
  HttpServer server(Answer("200 OK", std::string(kGiant, 'x')));
  LinkUnderTest link(*transport_, server.Url("/"));
  ASSERT_EQ(link.WaitReady(), 1);
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_TEST")).ok());
  EXPECT_LT(server.written(), kGiant / 2);
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_NEXT")).ok()) << "on another connection";
  EXPECT_EQ(server.accepted(), 2);
}

TEST_F(HttpTest, AnAnswerMayComeInPieces) {
  for (const char* bytes :
       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.0 200 OK\n\nuntil the end"}) {
    HttpServer server(HttpAnswer{bytes, HttpAnswer::Then::kClose});
    LinkUnderTest link(*transport_, server.Url("/"));
    ASSERT_EQ(link.WaitReady(), 1);
    const absl::Status outcome = link.SendAndWait(MakeMessage("E_TEST"));
    EXPECT_TRUE(outcome.ok()) << bytes << outcome;
  }
}

TEST_F(HttpTest, EndlessHeadersAndGarbageFail) {
  for (const std::string& bytes :
       {std::string("SSH-2.0-OpenSSH_9.2\r\n"), std::string(), std::string("HTTP/1.1 banana\r\n\r\n"),
        absl::StrCat("HTTP/1.1 200 OK\r\nX: ", std::string(4 << 20, 'x'), "\r\n\r\n"),
        std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")}) {
    HttpServer server(HttpAnswer{bytes, HttpAnswer::Then::kClose});
    LinkUnderTest link(*transport_, server.Url("/"));
    ASSERT_EQ(link.WaitReady(), 1);
    const absl::Status outcome = link.SendAndWait(MakeMessage("E_TEST"));
    EXPECT_TRUE(absl::IsUnavailable(outcome)) << bytes.substr(0, 40) << outcome;
    EXPECT_THAT(Text(outcome), HasSubstr(std::string(kMayHaveArrived)));
  }
}

// --- connections

TEST_F(HttpTest, NobodyListensClosesTheLinkWithoutAPassword) {
  uint16_t port = 0;
  { port = HttpServer(Answer("200 OK")).port(); }
  LinkUnderTest link(*transport_, absl::StrCat("http://bob:s3cret@127.0.0.1:", port, "/"));
  ASSERT_EQ(link.WaitReady(), 1);
  const absl::Status outcome = link.SendAndWait(MakeMessage("E_TEST"));
  EXPECT_TRUE(absl::IsUnavailable(outcome)) << outcome;
  EXPECT_THAT(Text(outcome), AllOf(HasSubstr("http://bob:***@127.0.0.1:"), Not(HasSubstr("s3cret")),
                                   Not(HasSubstr(std::string(kMayHaveArrived)))));
  EXPECT_TRUE(absl::IsUnavailable(link.WaitClosed()));
  EXPECT_TRUE(absl::IsUnavailable(link.SendAndWait(MakeMessage("E_LATE"))));
}

TEST_F(HttpTest, AServerThatNeverAnswersTimesOutAndTheNextEventHasItsOwnConnection) {
  HttpServer server([](const HttpRequest& request) {
    return absl::StrContains(request.body, "E_SILENT") ? HttpAnswer{} : Answer("200 OK");
  });
  LinkUnderTest link(*transport_, server.Url("/?timeout=2s"));
  ASSERT_EQ(link.WaitReady(), 1);
  const absl::Status outcome = link.SendAndWait(MakeMessage("E_SILENT"));
  EXPECT_TRUE(absl::IsDeadlineExceeded(outcome)) << outcome;
  EXPECT_THAT(Text(outcome), HasSubstr(std::string(kMayHaveArrived)));
  EXPECT_FALSE(link.closed());
  EXPECT_EQ(server.Receive(kPatience)->connection, 1);
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_NEXT")).ok());
  EXPECT_GT(server.Receive(kPatience)->connection, 1);
}

TEST_F(HttpTest, AnAnswerThatBreaksOffFails) {
  const std::string half = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this";
  for (const std::string& bytes : {half, std::string("HTTP/1.1 200 OK\r\nContent-Le")}) {
    for (HttpAnswer::Then then : {HttpAnswer::Then::kClose, HttpAnswer::Then::kReset}) {
      HttpServer server(HttpAnswer{bytes, then});
      LinkUnderTest link(*transport_, server.Url("/"));
      ASSERT_EQ(link.WaitReady(), 1);
      const absl::Status outcome = link.SendAndWait(MakeMessage("E_TEST"));
      EXPECT_TRUE(absl::IsUnavailable(outcome)) << outcome;
      EXPECT_THAT(Text(outcome), HasSubstr(std::string(kMayHaveArrived)));
      EXPECT_FALSE(link.closed()) << "a connection could be made";
    }
  }
}

TEST_F(HttpTest, AConnectionIsUsedAgainAndOneThatHasEndedMeanwhileIsNot) {
  HttpServer server(Answer("200 OK"));
  LinkUnderTest link(*transport_, server.Url("/"));
  ASSERT_EQ(link.WaitReady(), 1);
  for (int i = 1; i <= 20; ++i) {
    const MessageRef message = MakeMessage("E_TEST", absl::StrCat(i));
    const absl::Status outcome = link.SendAndWait(message);
    ASSERT_TRUE(outcome.ok()) << outcome;
    const std::optional<HttpRequest> request = server.Receive(kPatience);
    ASSERT_TRUE(request.has_value());
    EXPECT_EQ(request->body, message->jsonrpc());
    EXPECT_EQ(request->connection, (i + 1) / 2) << "two on each";
    if (i % 2 == 0) server.CloseConnections();
  }
  EXPECT_FALSE(server.Receive(absl::ZeroDuration()).has_value()) << "came twice";
}

TEST_F(HttpTest, AServerThatClosesAfterEachAnswerIsServedAllTheSame) {
  for (const char* headers : {"Connection: close\r\n", ""}) {
    HttpServer server([headers](const HttpRequest&) {
      HttpAnswer answer = Answer("200 OK", "", headers);
      answer.then = HttpAnswer::Then::kClose;
      return answer;
    });
    LinkUnderTest link(*transport_, server.Url("/"));
    ASSERT_EQ(link.WaitReady(), 1);
    for (int i = 0; i < 20; ++i) {
      const MessageRef message = MakeMessage("E_TEST", absl::StrCat(i));
      const absl::Status outcome = link.SendAndWait(message);
      if (absl::StrContains(headers, "close")) {
        ASSERT_TRUE(outcome.ok()) << outcome;
      }
      // Without a warning the end may cross the next request: then that fails, but is not sent twice.
      const std::optional<HttpRequest> request = server.Receive(outcome.ok() ? kPatience : absl::ZeroDuration());
      if (request.has_value()) {
        EXPECT_EQ(request->body, message->jsonrpc());
      }
    }
    EXPECT_FALSE(server.Receive(absl::ZeroDuration()).has_value()) << "came twice";
  }
}

// curl would send it again on a new connection: the server may have taken it the first time.
TEST_F(HttpTest, AnEventThatWasTakenButNotAnsweredIsNotSentTwice) {
  for (HttpAnswer::Then then : {HttpAnswer::Then::kClose, HttpAnswer::Then::kReset}) {
    HttpServer server([then](const HttpRequest& request) {
      return absl::StrContains(request.body, "E_LOST") ? HttpAnswer{"", then} : Answer("200 OK");
    });
    LinkUnderTest link(*transport_, server.Url("/"));
    ASSERT_EQ(link.WaitReady(), 1);
    ASSERT_TRUE(link.SendAndWait(MakeMessage("E_FIRST")).ok());
    const absl::Status outcome = link.SendAndWait(MakeMessage("E_LOST"));
    EXPECT_TRUE(absl::IsUnavailable(outcome)) << outcome;
    EXPECT_THAT(Text(outcome), HasSubstr(std::string(kMayHaveArrived)));
    ASSERT_TRUE(link.SendAndWait(MakeMessage("E_NEXT")).ok());
    for (const char* name : {"E_FIRST", "E_LOST", "E_NEXT"}) {
      EXPECT_THAT(server.Receive(kPatience)->body, HasSubstr(name));
    }
    EXPECT_FALSE(server.Receive(absl::ZeroDuration()).has_value()) << "came twice";
  }
}

TEST_F(HttpTest, AWindowPutsSoManyRequestsOnTheWayAtOnce) {
  HttpServer server(HttpAnswer{});  // silent
  LinkUnderTest link(*transport_, server.Url("/?window=8"));
  ASSERT_EQ(link.WaitReady(), 8);
  std::vector<MessageRef> messages;
  for (int i = 0; i < 8; ++i) messages.push_back(MakeMessage("E_TEST", absl::StrCat(i)));
  const size_t first = link.Send(messages);
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(server.Receive(kPatience).has_value()) << i;
  EXPECT_EQ(server.accepted(), 8);
  EXPECT_EQ(link.Reported(), 0u);
  server.CloseConnections();
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(absl::IsUnavailable(link.Outcome(first + i)));
  EXPECT_FALSE(server.Receive(absl::ZeroDuration()).has_value()) << "came twice";
}

}  // namespace
}  // namespace eventvirtual
