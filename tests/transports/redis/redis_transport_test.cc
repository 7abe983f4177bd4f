// redis against a real server, and against peers that are none.
#include "transports/redis/redis_transport.h"

#include <sys/socket.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/io/loopback_listener.h"
#include "tests/transports/redis/redis_server.h"

namespace eventvirtual {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class RedisTest : public testing::Test {
 protected:
  absl::Status Refusal(const std::string& uri) { return RefusalOf(*transport_, uri); }
  absl::Status Outcome(const std::string& uri) { return OutcomeOf(*transport_, uri); }

  const std::unique_ptr<Transport> transport_ = MakeRedisTransport();
};

std::string Text(const absl::Status& status) { return std::string(status.message()); }

TEST_F(RedisTest, AConsumerSeesTheEventInEachKindOfPlace) {
  RedisServer server;
  EventFields fields{.name = "E_ACC", .event_id = "id-7"};
  const Param param{"n", int64_t{5}};
  fields.params = absl::MakeConstSpan(&param, 1);
  const MessageRef message = Message::Make(fields);
  const std::string body(message->jsonrpc());
  LinkUnderTest stream(*transport_, server.Uri("stream:s"));
  ASSERT_GT(stream.WaitReady(), 0);
  ASSERT_TRUE(stream.SendAndWait(message).ok());
  EXPECT_THAT(*server.Ask({"XRANGE", "s", "-", "+"}),
              HasSubstr(absl::StrCat("event E_ACC event_id id-7 eventhops 1 body ", body)));

  const std::pair<absl::string_view, absl::string_view> attributes[] = {{"traceparent", "00-ab-cd-01"},
                                                                        {"tracestate", "a=1"}};
  EventFields traced = fields;
  traced.attributes = attributes;
  traced.hops = 99;
  LinkUnderTest bounded(*transport_, server.Uri("stream:t?max_length=10"));
  ASSERT_GT(bounded.WaitReady(), 0);
  ASSERT_TRUE(bounded.SendAndWait(Message::Make(traced)).ok());
  EXPECT_THAT(
      *server.Ask({"XRANGE", "t", "-", "+"}),
      HasSubstr(absl::StrCat("event_id id-7 eventhops 100 traceparent 00-ab-cd-01 tracestate a=1 body ", body)));

  LinkUnderTest list(*transport_, server.Uri("list:a%20b?db=3&encoding=json"));
  ASSERT_GT(list.WaitReady(), 0);
  ASSERT_TRUE(list.SendAndWait(message).ok());
  EXPECT_EQ(*server.Ask({"EXISTS", "a b"}), "0");
  EXPECT_THAT(*server.Ask({"EVAL", "redis.call('SELECT', 3) return redis.call('LRANGE', 'a b', 0, -1)", "0"}),
              HasSubstr(R"("event_id":"id-7")"));
}

TEST_F(RedisTest, AChannelCountsItsReceivers) {
  RedisServer server;
  EXPECT_THAT(Text(Outcome(server.Uri("channel:c"))), HasSubstr("0 received it; min_receivers is 1"));
  EXPECT_TRUE(Outcome(server.Uri("channel:c?min_receivers=0")).ok());
  redisContext* const subscriber = redisConnect("127.0.0.1", server.port());
  freeReplyObject(redisCommand(subscriber, "SUBSCRIBE c"));
  EXPECT_TRUE(Outcome(server.Uri("channel:c")).ok());
  void* received = nullptr;
  ASSERT_EQ(redisGetReply(subscriber, &received), REDIS_OK);
  EXPECT_EQ(std::string(static_cast<redisReply*>(received)->element[2]->str), MakeMessage("E_X", "y")->jsonrpc());
  freeReplyObject(received);
  redisFree(subscriber);
}

TEST_F(RedisTest, TenThousandEventsAreInTheStreamInOrder) {
  RedisServer server({"--appendfsync", "no"});
  LinkUnderTest link(*transport_, server.Uri("stream:s"));
  const size_t window = link.WaitReady();
  ASSERT_GT(window, 0u);
  std::string expected;
  for (size_t sent = 0; sent < 10000;) {
    std::vector<MessageRef> batch;
    for (size_t i = 0; i < window && sent < 10000; ++i, ++sent) batch.push_back(MakeMessage(absl::StrCat("E_", sent)));
    const size_t first = link.Send(batch);
    for (size_t i = 0; i < batch.size(); ++i) ASSERT_TRUE(link.Outcome(first + i).ok());
  }
  const std::string all = *server.Ask({"XRANGE", "s", "-", "+"});
  size_t at = 0;
  for (int i = 0; i < 10000; ++i) {
    at = all.find(absl::StrCat("event E_", i, " "), at);
    ASSERT_NE(at, std::string::npos) << i;
  }
  EXPECT_EQ(*server.Ask({"XLEN", "s"}), "10000");
}

TEST_F(RedisTest, AStreamMayBeKeptShort) {
  RedisServer server({"--appendfsync", "no"});
  LinkUnderTest link(*transport_, server.Uri("stream:s?max_length=100"));
  ASSERT_GT(link.WaitReady(), 0);
  for (int i = 0; i < 20; ++i) {
    const size_t first = link.Send(std::vector<MessageRef>(100, MakeMessage("E_X")));
    for (int k = 0; k < 100; ++k) ASSERT_TRUE(link.Outcome(first + k).ok());
  }
  int64_t length = 0;
  ASSERT_TRUE(absl::SimpleAtoi(*server.Ask({"XLEN", "s"}), &length));
  EXPECT_GE(length, 100);
  EXPECT_LT(length, 300) << "about so many: whole nodes of a hundred are dropped";
}

TEST_F(RedisTest, LoginsAreToldApartAndNeverPrinted) {
  RedisServer server({"--requirepass", "s3cr3t"});
  const std::string host = absl::StrCat("127.0.0.1:", server.port());
  EXPECT_EQ(Refusal(server.Uri("list:l")).code(), absl::StatusCode::kUnauthenticated);
  const absl::Status wrong = Refusal(absl::StrCat("redis://:wr0ng@", host, "/list:l"));
  EXPECT_EQ(wrong.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(Text(wrong), AllOf(HasSubstr("WRONGPASS"), HasSubstr(":***@"), Not(HasSubstr("wr0ng"))));
  EXPECT_TRUE(Outcome(absl::StrCat("redis://:s3cr3t@", host, "/list:l")).ok());
  EXPECT_TRUE(Outcome(absl::StrCat("redis://default:s3cr3t@", host, "/list:l")).ok());

  RedisServer open;
  ASSERT_EQ(*open.Ask({"ACL", "SETUSER", "bob", "on", ">pw", "~mine*", "&*", "+@all"}), "OK");
  const std::string bob = absl::StrCat("redis://bob:pw@127.0.0.1:", open.port(), "/list:");
  EXPECT_TRUE(Outcome(bob + "mine1").ok());
  EXPECT_EQ(Outcome(bob + "others").code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(RedisTest, ErrorsOfRedisFailTheEventWithItsText) {
  RedisServer server;
  server.Ask({"SET", "taken", "x"});
  const absl::Status type = Outcome(server.Uri("list:taken"));
  EXPECT_EQ(type.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Text(type), HasSubstr("WRONGTYPE"));

  server.Ask({"CONFIG", "SET", "maxmemory", "1"});
  const absl::Status full = Outcome(server.Uri("stream:s"));
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Text(full), HasSubstr("OOM"));
  server.Ask({"CONFIG", "SET", "maxmemory", "0"});
  EXPECT_TRUE(Outcome(server.Uri("stream:s")).ok());
  EXPECT_THAT(Text(Refusal(server.Uri("stream:s?db=99"))), HasSubstr("DB index"));
}

TEST_F(RedisTest, AServerThatBecameAReplicaEndsTheLink) {
  RedisServer server, primary;
  LinkUnderTest link(*transport_, server.Uri("list:l"));
  ASSERT_GT(link.WaitReady(), 0);
  ASSERT_TRUE(link.SendAndWait(MakeMessage("E_1")).ok());
  ASSERT_EQ(*server.Ask({"REPLICAOF", "127.0.0.1", absl::StrCat(primary.port())}), "OK");
  EXPECT_THAT(Text(link.SendAndWait(MakeMessage("E_2"))), HasSubstr("READONLY"));
  EXPECT_THAT(Text(link.WaitClosed()), HasSubstr("READONLY"));
}

TEST_F(RedisTest, KilledUnderLoadAndRestartedItHasAllThatWasConfirmedInOrder) {
  RedisServer server;
  LinkUnderTest link(*transport_, server.Uri("list:l"));
  const int window = link.WaitReady();
  ASSERT_GT(window, 0);
  std::vector<std::string> confirmed;
  std::thread killer;
  for (int batch = 0; batch < 1000 && !link.closed(); ++batch) {
    std::vector<MessageRef> messages;
    for (int i = 0; i < window; ++i) messages.push_back(MakeMessage(absl::StrCat("E_", batch * window + i)));
    const size_t first = link.Send(messages);
    if (batch == 5) killer = std::thread([&server] { server.process().Kill(); });
    for (int i = 0; i < window; ++i) {
      const absl::Status outcome = link.Outcome(first + i);
      if (outcome.ok()) {
        confirmed.emplace_back(messages[i]->jsonrpc());
      } else {
        EXPECT_EQ(outcome.code(), absl::StatusCode::kUnavailable) << outcome;
      }
    }
  }
  killer.join();
  EXPECT_FALSE(link.WaitClosed().ok());
  ASSERT_GT(confirmed.size(), 1000u);
  EXPECT_EQ(Refusal(server.Uri("list:l")).code(), absl::StatusCode::kUnavailable);

  server.process().Start();
  while (server.Ask({"PING"}) != "PONG") {  // it reads its file
  }
  LinkUnderTest again(*transport_, server.Uri("list:l"));
  ASSERT_GT(again.WaitReady(), 0);
  EXPECT_TRUE(again.SendAndWait(MakeMessage("E_AFTER")).ok());
  for (const std::string& text : confirmed) {
    // Between two that were confirmed may stand one whose confirmation did not come.
    std::optional<std::string> popped;
    do {
      popped = server.Ask({"RPOP", "l"});
      ASSERT_TRUE(popped.has_value()) << "confirmed, and not there: " << text;
    } while (*popped != text);
  }
}

// Peers that are no Redis.
class RedisImpostor : public RedisTest {
 protected:
  // The link to a peer that answers whatever comes with `bytes`.
  absl::Status RefusalOf(const std::string& bytes) {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in any = LoopbackAddress(0);
    EXPECT_EQ(bind(listener, reinterpret_cast<const sockaddr*>(&any), sizeof(any)), 0);
    EXPECT_EQ(listen(listener, 1), 0);
    sockaddr_in address;
    socklen_t length = sizeof(address);
    getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
    std::thread peer([&] {
      const int fd = accept(listener, nullptr, nullptr);
      char request[256];
      EXPECT_GT(recv(fd, request, sizeof(request), 0), 0);
      for (size_t sent = 0; sent < bytes.size();) {
        const ssize_t done = send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
        if (done <= 0) break;
        sent += done;
      }
      while (recv(fd, request, sizeof(request), 0) > 0) {
      }
      close(fd);
    });
    const absl::Status refusal = Refusal(absl::StrCat("redis://127.0.0.1:", ntohs(address.sin_port), "/list:l"));
    peer.join();
    close(listener);
    return refusal;
  }
};

TEST_F(RedisImpostor, NonsenseEndsTheLinkWithAReason) {
  for (const std::string& bytes :
       {std::string("HTTP/1.1 400 Bad Request\r\n\r\n"), std::string("*1000000000\r\n"), std::string("*-1\r\n*2\r\n"),
        "$1000000\r\n" + std::string(200000, 'x'), std::string(200000, '+')}) {
    const absl::Status refusal = RefusalOf(bytes);
    EXPECT_EQ(refusal.code(), absl::StatusCode::kUnavailable) << bytes.substr(0, 20);
    EXPECT_THAT(Text(refusal), HasSubstr("commands")) << bytes.substr(0, 20);
  }
  EXPECT_THAT(Text(RefusalOf("-LOADING Redis is loading the dataset in memory\r\n")), HasSubstr("LOADING"));
  EXPECT_THAT(Text(RefusalOf("-ERR \x01\xff strange\r\n")), HasSubstr("?? strange"));
}

}  // namespace
}  // namespace eventvirtual
