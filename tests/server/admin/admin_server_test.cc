// What orchestrators ask, over real sockets.
#include "server/admin/admin_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "tests/server/http/http_client.h"
#include "transports/io/event_loop.h"

namespace eventvirtual {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class AdminTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<AdminServer>> Listen(const std::vector<std::string>& addresses) {
    std::vector<HttpRoute> routes;
    routes.push_back({"GET", "/more", [](const HttpRequest&, HttpReply reply) {
                        std::move(reply).Send({200, "text/plain", "more"});
                      }});
    return AdminServer::Listen(
        addresses, loop_,
        [this] {
          return AdminServer::Readiness{ready_.load(), trouble_};
        },
        std::move(routes));
  }
  static HttpClient::Response Get(HttpClient& client, const std::string& path) {
    return client.Ask("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
  }

  std::atomic<bool> ready_{false};
  absl::Status trouble_;  // written before anything is asked
  EventLoop loop_{"admin"};
};

TEST_F(AdminTest, WhatDoesNotWorkIsSaidAndIsNoReasonToTakeItOutOfService) {
  trouble_ = absl::ResourceExhaustedError("the journal is full");
  ready_ = true;
  const auto admin = Listen({"127.0.0.1:0"});
  ASSERT_TRUE(admin.ok());
  HttpClient client((*admin)->addresses()[0]);
  const HttpClient::Response answer = Get(client, "/readyz");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, "ready\nthe journal is full\n");
}

TEST_F(AdminTest, IsAliveFromTheStartAndReadyOnlyWhileItServes) {
  const auto admin = Listen({"127.0.0.1:0"});
  ASSERT_TRUE(admin.ok());
  HttpClient client((*admin)->addresses()[0]);
  EXPECT_EQ(Get(client, "/healthz").status, 200);
  EXPECT_EQ(Get(client, "/readyz").status, 503);
  ready_ = true;
  EXPECT_EQ(Get(client, "/readyz").status, 200);
  ready_ = false;
  EXPECT_EQ(Get(client, "/readyz").status, 503);
  EXPECT_EQ(Get(client, "/healthz").status, 200);
}

TEST_F(AdminTest, ServesTheRoutesItIsGivenOnEachAddressAndNamesThemToWhoIsLost) {
  const auto admin = Listen({"127.0.0.1:0", "127.0.0.1:0"});
  ASSERT_TRUE(admin.ok());
  ASSERT_EQ((*admin)->addresses().size(), 2u);
  for (const std::string& address : (*admin)->addresses()) {
    HttpClient client(address);
    EXPECT_EQ(Get(client, "/more").body, "more");
    const HttpClient::Response lost = Get(client, "/status");
    EXPECT_EQ(lost.status, 404);
    EXPECT_THAT(lost.body, AllOf(HasSubstr("/more"), HasSubstr("/healthz"), HasSubstr("/readyz")));
    EXPECT_EQ(client.Ask(HttpClient::Post("/healthz", "")).status, 405);
  }
}

TEST_F(AdminTest, AnAddressThatWillNotDoIsRefusedWithTheWayOut) {
  for (const std::string address : {"localhost:0", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", ""}) {
    const auto refused = Listen({"127.0.0.1:0", address});
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument) << address;
    EXPECT_THAT(std::string(refused.status().message()),
                AllOf(HasSubstr("\"" + address + "\""), HasSubstr("write host:port"), HasSubstr("127.0.0.1:7063")));
  }
  const auto first = Listen({"127.0.0.1:0"});
  ASSERT_TRUE(first.ok());
  const std::string taken = (*first)->addresses()[0];
  const auto second = Listen({taken});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()),
              AllOf(HasSubstr(taken), HasSubstr("in use"), HasSubstr("a port that is free")));
}

TEST_F(AdminTest, WhatItHadTakenIsAnsweredWhenItStops) {
  ready_ = true;
  const auto admin = Listen({"127.0.0.1:0"});
  ASSERT_TRUE(admin.ok());
  HttpClient client((*admin)->addresses()[0]);
  EXPECT_EQ(Get(client, "/readyz").status, 200);
  (*admin)->Stop();
  EXPECT_TRUE(client.Ended());
}

}  // namespace
}  // namespace eventvirtual
