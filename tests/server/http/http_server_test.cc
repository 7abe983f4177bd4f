// The HTTP server over real sockets: what it answers, and what bad clients do not cost the others.
#include "server/http/http_server.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/server/http/http_client.h"
#include "tests/transports/io/on_loop.h"
#include "transports/io/event_loop.h"
#include "transports/io/run_on_loop.h"

namespace eventvirtual {
namespace {

using Response = HttpClient::Response;

// Echoes at /echo, gives `size` bytes at /large, and keeps what is asked at /later until the test answers.
class HttpTest : public testing::Test {
 protected:
  ~HttpTest() override { Stop(); }

  void Start(const HttpLimits& limits = {}) {
    absl::StatusOr<BoundSocket> bound = BoundSocket::Internet("127.0.0.1:0", SOCK_STREAM);
    ASSERT_TRUE(bound.ok());
    address_ = bound->address();
    OnLoop(loop_, [&] { server_ = std::make_unique<HttpServer>(*std::move(bound), loop_, Routes(), limits); });
  }
  void Stop() {
    OnLoop(loop_, [this] {
      server_.reset();
      kept_.clear();  // harmless now
    });
  }

  std::vector<HttpRoute> Routes() {
    return {
        {"POST", "/echo",
         [](const HttpRequest& request, HttpReply reply) {
           std::move(reply).Send({200, "application/json", std::string(request.body)});
         }},
        {"GET", "/asked",
         [](const HttpRequest& request, HttpReply reply) {
           std::string text = absl::StrCat("first a: '", request.Argument("a"), "'");
           for (const auto& [name, value] : request.arguments) absl::StrAppend(&text, "|", name, "=", value);
           std::move(reply).Send({200, "", std::move(text), {{"X-One", "1"}, {"X-Two", "2"}}});
         }},
        {"GET", "/large",
         [this](const HttpRequest&, HttpReply reply) {
           std::move(reply).Send({200, "", std::string(large_.load(), 'x')});
         }},
        {"POST", "/later",
         [this](const HttpRequest&, HttpReply reply) {
           kept_.push_back(std::move(reply));
           asked_.Set();
         }},
        {"POST", "/dropped", [](const HttpRequest&, HttpReply) {}},
        {"POST", "/nothing",
         [](const HttpRequest&, HttpReply reply) {
           std::move(reply).Send({204, "", ""});
         }},
    };
  }

  EventLoop loop_{"http"};
  std::atomic<size_t> large_{10 << 20};
  std::vector<HttpReply> kept_;  // on the loop
  Signal asked_;
  std::string address_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpTest, ARequestGetsTheResponseOfItsPathAndMethod) {
  Start();
  HttpClient client(address_);
  const Response echo = client.Ask(HttpClient::Post("/echo", "{}"));
  EXPECT_EQ(echo.status, 200);
  EXPECT_EQ(echo.headers.at("content-type"), "application/json");
  EXPECT_EQ(echo.body, "{}");
  EXPECT_EQ(client.Ask(HttpClient::Post("/echo?from=x", "")).status, 200) << "a query changes nothing";
  EXPECT_EQ(client.Ask(HttpClient::Post("/echo", "")).body, "");
  EXPECT_EQ(client.Ask(HttpClient::Post("/nothing", "x")).status, 204);

  const Response missing = client.Ask(HttpClient::Post("/elsewhere", "x"));
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(missing.body, "there is nothing here; known: /echo, /asked, /large, /later, /dropped, /nothing\n");
  EXPECT_EQ(client.Ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status, 404);
  const Response get = client.Ask("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(get.status, 405);
  EXPECT_EQ(get.headers.at("allow"), "POST");
  EXPECT_EQ(client.Ask("BREW /echo HTTP/1.1\r\nHost: x\r\n\r\n").status, 405);
  EXPECT_EQ(client.Ask(HttpClient::Post("/large", "x")).headers.at("allow"), "GET, HEAD");
  EXPECT_EQ(client.Ask(HttpClient::Post("/echo", "still here")).body, "still here") << "all on one connection";
}

TEST_F(HttpTest, AQueryReachesTheHandlerUnescapedAndItsHeadersTheClient) {
  Start();
  HttpClient client(address_);
  const auto get = [&](const std::string& query) {
    return client.Ask("GET /asked" + query + " HTTP/1.1\r\nHost: x\r\n\r\n");
  };
  const Response asked = get("?a=1%202&a=3&b=%26%3D&c=&d");
  EXPECT_EQ(asked.body, "first a: '1 2'|a=1 2|a=3|b=&=|c=|d=");
  EXPECT_EQ(asked.headers.at("x-one"), "1");
  EXPECT_EQ(asked.headers.at("x-two"), "2");
  EXPECT_EQ(get("").body, "first a: ''");
  EXPECT_EQ(get("?").body, "first a: ''");
  EXPECT_EQ(get("?%zz=%").status, 200);
}

TEST_F(HttpTest, HeadIsGetWithoutTheBody) {
  Start();
  large_ = 1000;
  HttpClient client(address_);
  ASSERT_TRUE(client.Send("HEAD /large HTTP/1.1\r\nHost: x\r\n\r\n"));
  const Response head = client.Read(/*has_body=*/false);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-length"), "1000");
  EXPECT_EQ(client.Ask("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").body.size(), 1000u);
}

TEST_F(HttpTest, PipelinedRequestsAreAnsweredInTheirOrder) {
  Start();
  HttpClient client(address_);
  std::string requests;
  for (int i = 0; i < 100; ++i) requests += HttpClient::Post("/echo", absl::StrCat(i));
  ASSERT_TRUE(client.Send(requests));
  for (int i = 0; i < 100; ++i) ASSERT_EQ(client.Read().body, absl::StrCat(i));
}

TEST_F(HttpTest, ARequestMayComeByteByByteAndByItsParts) {
  Start();
  HttpClient slow(address_), other(address_);
  for (const char byte : HttpClient::Post("/echo", "{\"a\":1}")) {
    ASSERT_TRUE(slow.Send(absl::string_view(&byte, 1)));
    ASSERT_EQ(other.Ask(HttpClient::Post("/echo", "x")).body, "x");
  }
  EXPECT_EQ(slow.Read().body, "{\"a\":1}");
  ASSERT_TRUE(slow.Send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"));
  ASSERT_TRUE(slow.Send("2\r\nde\r\n0\r\n\r\n"));
  EXPECT_EQ(slow.Read().body, "abcde");
  ASSERT_TRUE(slow.Send("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"));
  ASSERT_TRUE(slow.Send("abc"));
  EXPECT_EQ(slow.Read().body, "abc");
}

TEST_F(HttpTest, HalfRequestsAndGarbageHarmNobody) {
  Start();
  HttpClient other(address_);
  for (const std::string& bytes :
       {std::string("POST /echo HT"), std::string("POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"),
        std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 9), std::string(1000, '\0'), std::string("\r\n\r\n\r\n"),
        std::string("POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
        std::string("POST /echo HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
        std::string("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"),
        std::string("{\"jsonrpc\":\"2.0\"}\r\n\r\n")}) {
    {
      HttpClient client(address_);
      ASSERT_TRUE(client.Send(bytes));
      shutdown(client.fd(), SHUT_WR);
      EXPECT_TRUE(client.Ended()) << bytes;
    }
    ASSERT_EQ(other.Ask(HttpClient::Post("/echo", "x")).body, "x") << "behind " << bytes;
  }
}

TEST_F(HttpTest, WhoSendsNothingMoreBehindItsRequestIsStillAnswered) {
  Start();
  HttpClient client(address_);
  ASSERT_TRUE(client.Send(HttpClient::Post("/later", "")));
  shutdown(client.fd(), SHUT_WR);
  ASSERT_TRUE(asked_.Wait());
  OnLoop(loop_, [this] { std::move(kept_.back()).Send({200, "", "now"}); });
  EXPECT_EQ(client.Read().body, "now");
  EXPECT_TRUE(client.Ended());
}

TEST_F(HttpTest, WhatIsTooLargeIsToldSoOrCutOff) {
  HttpLimits limits;
  limits.max_body = 1000;
  limits.max_head = 4096;
  Start(limits);
  HttpClient client(address_);
  EXPECT_EQ(client.Ask(HttpClient::Post("/echo", std::string(1000, 'x'))).body.size(), 1000u);
  const Response refused = client.Ask(HttpClient::Post("/echo", std::string(1001, 'x')));
  EXPECT_EQ(refused.status, 413);
  EXPECT_EQ(refused.body, "at most 1000 bytes are taken\n");
  EXPECT_EQ(client.Ask(HttpClient::Post("/echo", "x")).body, "x") << "the connection goes on";
  EXPECT_EQ(client.Ask(absl::StrCat("GET /", std::string(8000, 'x'), " HTTP/1.1\r\nHost: x\r\n\r\n")).status, 414);

  HttpClient heads(address_);
  EXPECT_EQ(heads.Ask(absl::StrCat("GET / HTTP/1.1\r\nHost: ", std::string(8000, 'x'), "\r\n\r\n")).status, 431);

  HttpClient endless(address_);
  ASSERT_TRUE(endless.Send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
  const std::string chunk = absl::StrCat("400\r\n", std::string(1024, 'x'), "\r\n");
  for (int i = 0; i < 20; ++i) {
    if (!endless.Send(chunk)) break;
  }
  EXPECT_TRUE(endless.Ended());
}

TEST_F(HttpTest, WhoMakesUsWaitTooLongIsLeft) {
  HttpLimits limits;
  limits.patience = absl::Seconds(1);
  Start(limits);
  const absl::Time give_up = absl::Now() + kPatience;
  HttpClient silent(address_), half(address_), kept(address_), trickling(address_), deaf(address_);
  ASSERT_TRUE(half.Send("POST /echo HTTP/1.1\r\n"));
  ASSERT_EQ(kept.Ask(HttpClient::Post("/echo", "x")).status, 200);
  ASSERT_TRUE(deaf.Send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n"));
  // Each byte begins no new patience.
  bool cut = false;
  while (!cut && absl::Now() < give_up) cut = !trickling.Send("P");
  EXPECT_TRUE(cut);
  EXPECT_TRUE(silent.Ended());
  EXPECT_TRUE(half.Ended());
  // However busy the others are.
  HttpClient busy(address_), another(address_);
  ASSERT_TRUE(another.Send("POST /echo HTTP/1.1\r\n"));
  char byte;
  while (recv(another.fd(), &byte, 1, MSG_DONTWAIT) < 0 && absl::Now() < give_up) {
    ASSERT_EQ(busy.Ask(HttpClient::Post("/echo", "x")).status, 200);
  }
  EXPECT_TRUE(another.Ended());
  EXPECT_TRUE(kept.Ended());
  EXPECT_TRUE(deaf.Ended());
}

TEST_F(HttpTest, WhoHasMadeUsWaitLongestGoesForANewConnection) {
  HttpLimits limits;
  limits.max_connections = 3;
  Start(limits);
  HttpClient first(address_), second(address_), third(address_);
  ASSERT_EQ(third.Ask(HttpClient::Post("/echo", "x")).status, 200);
  ASSERT_EQ(second.Ask(HttpClient::Post("/echo", "x")).status, 200);
  ASSERT_EQ(first.Ask(HttpClient::Post("/echo", "x")).status, 200);
  HttpClient fourth(address_);
  EXPECT_EQ(fourth.Ask(HttpClient::Post("/echo", "x")).status, 200);
  EXPECT_TRUE(third.Ended());
  EXPECT_EQ(second.Ask(HttpClient::Post("/echo", "x")).status, 200);
  EXPECT_EQ(first.Ask(HttpClient::Post("/echo", "x")).status, 200);

  for (int i = 0; i < 200; ++i) {  // slow clients in any number
    HttpClient half(address_);
    ASSERT_TRUE(half.Send("POST /ec"));
    HttpClient whole(address_);
    ASSERT_EQ(whole.Ask(HttpClient::Post("/echo", "x")).status, 200);
  }
}

TEST_F(HttpTest, OnePeersConnectionsGoForItsOwn) {
  HttpLimits limits;
  limits.max_connections = 10;
  limits.max_connections_per_peer = 2;
  Start(limits);
  HttpClient other(address_, /*from_another_address=*/true);
  ASSERT_EQ(other.Ask(HttpClient::Post("/echo", "x")).status, 200);  // who makes us wait longest
  HttpClient first(address_), second(address_);
  ASSERT_EQ(first.Ask(HttpClient::Post("/echo", "x")).status, 200);
  ASSERT_EQ(second.Ask(HttpClient::Post("/echo", "x")).status, 200);
  std::deque<HttpClient> more;
  for (int i = 0; i < 20; ++i) {
    more.emplace_back(address_);
    ASSERT_EQ(more.back().Ask(HttpClient::Post("/echo", "x")).status, 200);
  }
  EXPECT_TRUE(first.Ended());
  EXPECT_TRUE(second.Ended());
  EXPECT_EQ(other.Ask(HttpClient::Post("/echo", "x")).status, 200);
}

TEST_F(HttpTest, RequestsThatAreWorkedOnStayAndTheNewConnectionGoes) {
  HttpLimits limits;
  limits.max_connections_per_peer = 2;
  Start(limits);
  HttpClient one(address_), two(address_);
  for (HttpClient* const client : {&one, &two}) ASSERT_TRUE(client->Send(HttpClient::Post("/later", "")));
  const absl::Time give_up = absl::Now() + kPatience;
  for (size_t kept = 0; kept < 2;) {
    ASSERT_LT(absl::Now(), give_up);
    OnLoop(loop_, [&] { kept = kept_.size(); });
  }
  HttpClient three(address_);
  EXPECT_TRUE(three.Ended());
  OnLoop(loop_, [this] {
    for (HttpReply& reply : kept_) std::move(reply).Send({200, "", "now"});
  });
  EXPECT_EQ(one.Read().body, "now");
  EXPECT_EQ(two.Read().body, "now");
  EXPECT_EQ(HttpClient(address_).Ask(HttpClient::Post("/echo", "x")).status, 200);
}

TEST_F(HttpTest, AResponseMayComeLaterOrNever) {
  Start();
  HttpClient client(address_), other(address_);
  ASSERT_TRUE(client.Send(HttpClient::Post("/later", "") + HttpClient::Post("/echo", "behind it")));
  ASSERT_TRUE(asked_.Wait());
  EXPECT_EQ(other.Ask(HttpClient::Post("/echo", "x")).body, "x");
  OnLoop(loop_, [this] { std::move(kept_.back()).Send({200, "", "now"}); });
  EXPECT_EQ(client.Read().body, "now");
  EXPECT_EQ(client.Read().body, "behind it");
  EXPECT_EQ(client.Ask(HttpClient::Post("/dropped", "")).status, 500);
}

TEST_F(HttpTest, AResponseToWhoHasGoneIsHarmless) {
  Start();
  {
    HttpClient client(address_);
    ASSERT_TRUE(client.Send(HttpClient::Post("/later", "")));
    ASSERT_TRUE(asked_.Wait());
  }
  HttpClient other(address_);
  EXPECT_EQ(other.Ask(HttpClient::Post("/echo", "x")).body, "x");
  OnLoop(loop_, [this] { std::move(kept_.back()).Send({200, "", "now"}); });
  EXPECT_EQ(other.Ask(HttpClient::Post("/echo", "x")).body, "x");

  HttpClient waiting(address_);
  ASSERT_TRUE(waiting.Send(HttpClient::Post("/later", "")));
  ASSERT_EQ(other.Ask(HttpClient::Post("/echo", "x")).body, "x");
  Stop();  // with a request that nobody has answered
  EXPECT_TRUE(waiting.Ended());
}

TEST_F(HttpTest, ResponsesThatNobodyTakesAreBounded) {
  HttpLimits limits;
  limits.max_unsent = 25 << 20;
  Start(limits);
  HttpClient deaf_one(address_), deaf_two(address_), client(address_);
  ASSERT_TRUE(deaf_one.Send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n"));
  ASSERT_EQ(client.Ask(HttpClient::Post("/echo", "x")).status, 200);  // one round of the loop, at least
  ASSERT_TRUE(deaf_two.Send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n"));
  ASSERT_EQ(client.Ask(HttpClient::Post("/echo", "x")).status, 200);
  EXPECT_EQ(client.Ask("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").status, 503);
  EXPECT_EQ(deaf_one.Read().body.size(), 10u << 20);
  EXPECT_EQ(client.Ask("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").status, 200) << "there is room again";
}

TEST_F(HttpTest, FinishingAnswersWhatHasComeWholeAndEndsTheRest) {
  Start();
  HttpClient idle(address_), half(address_), whole(address_);
  ASSERT_EQ(idle.Ask(HttpClient::Post("/echo", "x")).status, 200);
  ASSERT_TRUE(half.Send("POST /later HTTP/1.1\r\n"));
  ASSERT_TRUE(whole.Send(HttpClient::Post("/later", "")));
  ASSERT_TRUE(asked_.Wait());
  RunOnLoop(loop_, [this](const std::shared_ptr<void>& hold) {
    server_->Finish(hold);
    std::move(kept_.back()).Send({200, "", "the last"});
  });
  EXPECT_EQ(whole.Read().body, "the last");
  EXPECT_TRUE(whole.Ended());
  EXPECT_TRUE(idle.Ended());
  EXPECT_TRUE(half.Ended());
}

TEST_F(HttpTest, FinishingDoesNotWaitForWhoNeverReads) {
  Start();
  HttpClient deaf(address_);
  ASSERT_TRUE(deaf.Send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n"));
  HttpClient other(address_);
  ASSERT_EQ(other.Ask(HttpClient::Post("/echo", "x")).status, 200);
  RunOnLoop(loop_, [this](const std::shared_ptr<void>& hold) { server_->Finish(hold); });  // or the test hangs
  Stop();
}

}  // namespace
}  // namespace eventvirtual
