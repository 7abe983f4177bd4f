// The page and its numbers over HTTP.
#include "server/admin/status_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "server/admin/admin_server.h"
#include "tests/server/dispatch/world.h"
#include "tests/server/http/http_client.h"
#include "transports/io/event_loop.h"

namespace eventvirtual {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Response = HttpClient::Response;

class StatusPageTest : public testing::Test {
 protected:
  static std::string Request(const std::string& path, const std::string& method = "GET") {
    return method + " " + path + " HTTP/1.1\r\nHost: x\r\n\r\n";
  }
  Response Get(const std::string& path) { return client_.Ask(Request(path)); }

  World world_;
  StatusBoard board_{world_.registry, world_.pool, world_.dispatcher, {}};
  EventLoop loop_{"admin"};
  const std::unique_ptr<AdminServer> admin_ = *AdminServer::Listen(
      {"127.0.0.1:0"}, loop_,
      [] {
        return AdminServer::Readiness{true, absl::OkStatus()};
      },
      StatusRoutes(board_));
  HttpClient client_{admin_->addresses()[0]};
};

TEST_F(StatusPageTest, ThePageIsOneFileThatMayRunItsOwnScriptAloneAndIsNotKept) {
  Response page = Get("/");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.headers["content-type"], "text/html; charset=utf-8");
  EXPECT_EQ(page.headers["cache-control"], "no-store");
  EXPECT_EQ(page.headers["x-content-type-options"], "nosniff");
  EXPECT_THAT(page.headers["content-security-policy"],
              AllOf(HasSubstr("default-src 'none'"), HasSubstr("script-src 'sha256-"), HasSubstr("style-src 'sha256-"),
                    HasSubstr("frame-ancestors 'none'"), Not(HasSubstr("unsafe"))));
  EXPECT_TRUE(absl::StartsWith(page.body, "<!doctype html>"));
  EXPECT_TRUE(absl::EndsWith(page.body, "</html>\n"));
  EXPECT_THAT(page.body, AllOf(Not(HasSubstr("http://127")), Not(HasSubstr("src=")), Not(HasSubstr("innerHTML"))));
}

TEST_F(StatusPageTest, TheNumbersComeAsJsonAndTheQueryIsTaken) {
  for (int i = 0; i < 5; ++i) world_.Subscribe(absl::StrCat("E_", i), absl::StrCat("fake:a", i));
  Response all = Get("/status.json");
  EXPECT_EQ(all.status, 200);
  EXPECT_EQ(all.headers["content-type"], "application/json");
  EXPECT_EQ(all.headers["cache-control"], "no-store");
  EXPECT_THAT(all.body, AllOf(HasSubstr("E_0"), HasSubstr("E_4")));
  EXPECT_THAT(Get("/status.json?filter=e%5F3").body, AllOf(HasSubstr("E_3"), Not(HasSubstr("E_2"))));
  const std::string first = Get("/status.json?limit=2&filter=").body;
  EXPECT_THAT(first, AllOf(HasSubstr("fake:a1"), Not(HasSubstr("fake:a2")), HasSubstr("\"next\":\"2.2\"")));
  EXPECT_THAT(Get("/status.json?limit=2&endpoints=2.2&subscriptions=2.2&events=E_1").body,
              AllOf(Not(HasSubstr("a1")), Not(HasSubstr("E_1\"")), HasSubstr("fake:a2"), HasSubstr("E_3")));
}

TEST_F(StatusPageTest, WhatIsWrongWithTheQueryIsSaid) {
  EXPECT_EQ(Get("/status.json?limit=0").status, 400);
  EXPECT_EQ(Get("/status.json?limit=x").body, "limit: write a number from 1 to 200\n");
  EXPECT_EQ(Get("/status.json?limit=201").status, 400);
  EXPECT_EQ(Get("/status.json?endpoints=x").status, 400);
  EXPECT_EQ(Get("/status.json?filter=" + std::string(201, 'x')).status, 400);
  EXPECT_EQ(Get("/status.json?unknown=x").status, 200);
}

TEST_F(StatusPageTest, HeadHasNoBodyAndWhoeverWantsToWriteIsRefused) {
  for (const std::string path : {"/", "/status.json"}) {
    ASSERT_TRUE(client_.Send(Request(path, "HEAD")));
    Response head = client_.Read(/*has_body=*/false);
    EXPECT_EQ(head.status, 200);
    EXPECT_EQ(head.headers["content-length"], std::to_string(Get(path).body.size())) << path;
    for (const std::string method : {"POST", "PUT", "DELETE"}) {
      Response refused = client_.Ask(method + " " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
      EXPECT_EQ(refused.status, 405) << method << path;
      EXPECT_EQ(refused.headers["allow"], "GET, HEAD");
    }
  }
  EXPECT_EQ(Get("/status").status, 404);
}

}  // namespace
}  // namespace eventvirtual
