// OpenSIPS' management commands, request by request and byte for byte.
#include "server/mi/mi_commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/server/dispatch/world.h"
#include "transports/api/jsonrpc.h"

namespace eventvirtual {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr size_t kRoomy = 64 << 20;

class MiTest : public testing::Test {
 protected:
  std::string Handle(absl::string_view request) { return mi_.Handle(request, kRoomy).text; }

  // As opensips-cli sends it: `params` is JSON, the id a string.
  std::string Ask(absl::string_view method, absl::string_view params = "{}") {
    return Handle(absl::StrCat(R"({"jsonrpc":"2.0","id":"7","method":")", method, R"(","params":)", params, "}"));
  }
  static std::string Result(absl::string_view result) {
    return absl::StrCat(R"({"jsonrpc":"2.0","result":)", result, R"(,"id":"7"})");
  }
  static std::string Error(int code, absl::string_view message, absl::string_view data = "") {
    return absl::StrCat(R"({"jsonrpc":"2.0","error":{"code":)", code, R"(,"message":")", message, "\"",
                        data.empty() ? "" : absl::StrCat(",\"data\":\"", data, "\""), R"(},"id":"7"})");
  }
  static std::string Invalid(absl::string_view data) { return Error(-32602, "Invalid params", data); }
  const std::string kOk = Result("\"OK\"");
  const std::string kBadValue = Error(400, "Bad parameter value");

  World world_;
  MiCommands mi_{world_.registry, world_.dispatcher, {absl::Seconds(20), absl::Seconds(3)}};
};

TEST_F(MiTest, ARequestIsToldWhatItLacks) {
  const std::string parse_error = R"({"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"},"id":null})";
  const std::string no_request = R"({"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":null})";
  const struct {
    std::string request, answer;
  } cases[] = {
      {"", parse_error},
      {"which", parse_error},
      {R"({"jsonrpc":"2.0","id":"7","method":"which")", parse_error},
      {R"({"jsonrpc":"2.0","id":"7","method":"which"} {})", parse_error},
      {"{\"jsonrpc\":\"2.0\",\"id\":\"\xff\",\"method\":\"which\"}", parse_error},
      {std::string(5000, '['), parse_error},
      {R"({"jsonrpc":"2.0","id":99999999999999999999999,"method":"which"})", parse_error},
      {"7", no_request},
      {"null", no_request},
      {"[]", no_request},
      {R"([{"jsonrpc":"2.0","id":"7","method":"which"}])", no_request},  // a batch
      {"{}", no_request},
      {R"({"id":"7","method":"which"})", Error(-32600, "Invalid Request")},
      {R"({"jsonrpc":"1.0","id":"7","method":"which"})", Error(-32600, "Invalid Request")},
      {R"({"jsonrpc":2.0,"id":"7","method":"which"})", Error(-32600, "Invalid Request")},
      {R"({"jsonrpc":"2.0","id":"7"})", Error(-32600, "Invalid Request")},
      {R"({"jsonrpc":"2.0","id":"7","method":7})", Error(-32600, "Invalid Request")},
      {R"({"jsonrpc":"2.0","id":"7","method":"version","params":"x"})", Error(-32600, "Invalid Request")},
      {R"({"jsonrpc":"2.0","id":"7","method":"version","params":null})", Error(-32600, "Invalid Request")},
      {R"({"jsonrpc":"2.0","id":[7],"method":"version"})", no_request},
      {R"({"jsonrpc":"2.0","id":true,"method":"version"})", no_request},
      {absl::StrCat(R"({"jsonrpc":"2.0","id":")", std::string(1024, '7'), R"(","method":"version"})"), no_request},
      {R"({"jsonrpc":"2.0","id":"7","method":"nothing"})", Error(-32601, "Method not found")},
      {R"({"jsonrpc":"2.0","id":"7","method":""})", Error(-32601, "Method not found")},
      {R"({"jsonrpc":"2.0","id":"7","method":"version","params":["x"]})", Invalid("Too few or too many parameters")},
      {R"({"jsonrpc":"2.0","id":"7","method":"version","params":{"x":1}})", Invalid("Too few or too many parameters")},
  };
  for (const auto& [request, answer] : cases) EXPECT_EQ(Handle(request), answer) << request;
  EXPECT_TRUE(mi_.Handle("which", kRoomy).unreadable);
  EXPECT_FALSE(mi_.Handle("{}", kRoomy).unreadable);
}

TEST_F(MiTest, AnIdComesBackAsItWas) {
  for (const std::string id : {"7", "\"7\"", "\"a\\\"b\\\\c\\n\"", "-1", "1.5", "18446744073709551615", "null"}) {
    EXPECT_EQ(Handle(absl::StrCat(R"({"jsonrpc":"2.0","id":)", id, R"(,"method":"version"})")),
              absl::StrCat("{\"jsonrpc\":\"2.0\",\"result\":{\"Server\":\"eventvirtual (0.1.0)\"},\"id\":", id, "}"));
  }
}

TEST_F(MiTest, ANotificationIsDoneAndNotAnswered) {
  EXPECT_EQ(Handle(R"({"jsonrpc":"2.0","method":"event_subscribe","params":["E","fake:a"]})"), "");
  EXPECT_EQ(world_.registry.size(), 1u);
  EXPECT_EQ(Handle(R"({"jsonrpc":"2.0","method":"nothing"})"), "");
  EXPECT_EQ(Handle(R"({"jsonrpc":"2.0","method":"event_subscribe","params":[]})"), "");
}

TEST_F(MiTest, WhichTellsTheCommandsAndTheirParameters) {
  EXPECT_EQ(
      Ask("which"),
      Result(R"(["event_subscribe","evi:subscribe","event_unsubscribe","evi:unsubscribe","events_list","evi:list",)"
             R"("subscribers_list","evi:subscribers","raise_event","evi:raise","which","core:which",)"
             R"("uptime","core:uptime","version","core:version"])"));
  EXPECT_EQ(Ask("core:which", "[]"), Ask("which"));
  const struct {
    std::string command, ways;
  } cases[] = {
      {"event_subscribe", R"([["event","socket"],["event","socket","expire"]])"},
      {"evi:subscribe", R"([["event","socket"],["event","socket","expire"]])"},
      {"event_unsubscribe", R"([["event","socket"]])"},
      {"evi:list", "[[]]"},
      {"subscribers_list", R"([[],["event"],["event","socket"]])"},
      {"raise_event", R"([["event"],["event","params"]])"},
      {"which", R"([[],["command"]])"},
      {"uptime", "[[]]"},
  };
  for (const auto& [command, ways] : cases) {
    EXPECT_EQ(Ask("which", absl::StrCat("{\"command\":\"", command, "\"}")), Result(ways)) << command;
  }
  EXPECT_EQ(Ask("which", R"({"command":"nothing"})"), Error(404, "unknown MI command"));
  EXPECT_EQ(Ask("which", R"({"command":[]})"), Invalid("Bad type for parameter 'command'"));
  EXPECT_EQ(Ask("which", R"({"x":"which"})"), Invalid("Named parameters do not match"));
}

TEST_F(MiTest, UptimeCountsFromTheStart) {
  const std::string since = absl::FormatTime("%a %b %e %H:%M:%S %Y", world_.loop.Now(), absl::LocalTimeZone());
  world_.loop.Advance(absl::Seconds(90000));
  const std::string now = absl::FormatTime("%a %b %e %H:%M:%S %Y", world_.loop.Now(), absl::LocalTimeZone());
  EXPECT_EQ(Ask("uptime"),
            Result(absl::StrCat("{\"Now\":\"", now, "\",\"Up since\":\"", since, "\",\"Up time\":\"90000 [sec]\"}")));
}

TEST_F(MiTest, ASubscriptionIsWhatWasAskedForByNameOrByPositionAndAsAText) {
  const struct {
    std::string method, params, expire;
  } cases[] = {
      {"event_subscribe", R"(["E","fake:a"])", "3600"},
      {"evi:subscribe", R"({"event":"E","socket":"fake:a"})", "3600"},
      {"event_subscribe", R"(["E","fake:a","1200"])", "1200"},
      {"event_subscribe", R"(["E","fake:a",1200])", "1200"},
      {"event_subscribe", R"(["E","fake:a",1200.0])", "1200"},
      {"evi:subscribe", R"({"expire":"7","socket":"fake:a","event":"E"})", "7"},
      {"event_subscribe", R"(["E","fake:a",2147483647])", "2147483647"},
  };
  for (const auto& [method, params, expire] : cases) {
    EXPECT_EQ(Ask(method, params), kOk) << params;
    EXPECT_EQ(Ask("subscribers_list", R"(["E"])"),
              Result(absl::StrCat(R"({"Event":{"name":"E","id":0,"Subscribers":[{"socket":"fake:a","expire":)", expire,
                                  ",\"ttl\":", expire, "}]}}")));
  }
  EXPECT_EQ(world_.registry.size(), 1u) << "each has refreshed the one before";
  EXPECT_TRUE(
      mi_.Handle(R"({"jsonrpc":"2.0","id":1,"method":"event_subscribe","params":["E","fake:a"]})", kRoomy).changed);
  EXPECT_FALSE(mi_.Handle(R"({"jsonrpc":"2.0","id":1,"method":"subscribers_list"})", kRoomy).changed);
  const SubscriptionInfo info = world_.registry.List("E", 0, 1).subscriptions[0];
  EXPECT_EQ(info.delivery.failover_timeout, absl::Seconds(20));
  EXPECT_EQ(info.subscribers[0].attempt_timeout, absl::Seconds(3));
  EXPECT_EQ(Ask("event_subscribe", R"([17,"virtual:FAILOVER  fake:a\tfake:b "])"), kOk) << "a number does for a name";
  EXPECT_EQ(Ask("subscribers_list", "[17]"),
            Result(R"({"Event":{"name":"17","id":1,"Subscribers":[)"
                   R"({"socket":"virtual:FAILOVER fake:a fake:b","expire":3600,"ttl":3600}]}})"));
}

TEST_F(MiTest, ASubscriptionThatCannotBeIsRefused) {
  const struct {
    std::string params, answer;
  } cases[] = {
      {R"(["E","gopher:a"])", kBadValue},
      {R"(["E","fake:"])", kBadValue},
      {R"(["E","a"])", kBadValue},
      {R"(["E","virtual:parallel fake:a"])", kBadValue},
      {R"(["E","virtual:PARALLEL"])", kBadValue},
      {R"(["E","virtual:PARALLELfake:a"])", kBadValue},
      {R"(["E","virtual:PARALLEL virtual:FAILOVER fake:a"])", kBadValue},
      {R"(["E F","fake:a"])", kBadValue},
      {R"(["E","gopher:a",0])", kBadValue},
      {R"(["E"])", Invalid("Too few or too many parameters")},
      {R"([])", Invalid("Too few or too many parameters")},
      {R"({})", Invalid("Too few or too many parameters")},
      {R"(["E","fake:a",1,1])", Invalid("Too few or too many parameters")},
      {R"({"event":"E","sock":"fake:a"})", Invalid("Named parameters do not match")},
      {R"({"event":"E","expire":"1"})", Invalid("Named parameters do not match")},
      {R"({"event":"E","event":"F"})", Invalid("Named parameters do not match")},
      {R"(["E","fake:a","soon"])", Invalid("Bad type for parameter 'expire'")},
      {R"(["E","fake:a",""])", Invalid("Bad type for parameter 'expire'")},
      {R"(["E","fake:a","1.5"])", Invalid("Bad type for parameter 'expire'")},
      {R"(["E","fake:a",1.5])", Invalid("Bad type for parameter 'expire'")},
      {R"(["E","fake:a",2147483648])", Invalid("Bad type for parameter 'expire'")},
      {R"(["E","fake:a",1e300])", Invalid("Bad type for parameter 'expire'")},
      {R"(["E","fake:a",true])", Invalid("Bad type for parameter 'expire'")},
      {R"(["E","fake:a",null])", Invalid("Bad type for parameter 'expire'")},
      {R"(["E","fake:a","-1"])", Invalid("Negative expire value")},
      {R"(["E","fake:a",-1])", Invalid("Negative expire value")},
      {R"([["E"],"fake:a"])", Invalid("Bad type for parameter 'event'")},
      {R"(["","fake:a"])", Invalid("Bad type for parameter 'event'")},
      {R"(["E",{}])", Invalid("Bad type for parameter 'socket'")},
      {R"(["E",""])", Invalid("Bad type for parameter 'socket'")},
  };
  for (const auto& [params, answer] : cases) EXPECT_EQ(Ask("event_subscribe", params), answer) << params;
  EXPECT_EQ(world_.registry.size(), 0u);
}

TEST_F(MiTest, WhyASubscriptionIsRefusedIsLoggedOnceASecondWithoutThePassword) {
  testing::internal::CaptureStderr();
  for (int i = 0; i < 5; ++i) Ask("event_subscribe", R"(["E_X","virtual:PARALLEL fake:a fake:me:s3cr3t@a?x=1"])");
  world_.loop.Advance(absl::Seconds(1));
  Ask("event_unsubscribe", R"(["E_Y","gopher:me:s3cr3t@a"])");
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("event=E_X error=\"subscriber 2 of 2"));
  EXPECT_THAT(log, HasSubstr("event=E_Y error=\"subscriber 1 of 1: no transport for scheme"));
  EXPECT_THAT(log, Not(HasSubstr("s3cr3t")));
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 2);
}

TEST_F(MiTest, ExpireZeroEndsASubscriptionAndIsFineWithoutOne) {
  ASSERT_EQ(Ask("event_subscribe", R"(["E","virtual:PARALLEL fake:a fake:b"])"), kOk);
  const MiAnswer answer = mi_.Handle(
      R"({"jsonrpc":"2.0","id":"7","method":"event_subscribe","params":["E","virtual:PARALLEL fake:b fake:a","0"]})",
      kRoomy);
  EXPECT_EQ(answer.text, kOk);
  EXPECT_TRUE(answer.changed) << "nothing is sent any more once the answer has come";
  EXPECT_EQ(world_.registry.size(), 0u);
  EXPECT_EQ(Ask("event_subscribe", R"(["E","fake:a",0])"), kOk);
  EXPECT_EQ(world_.registry.size(), 0u) << "it creates nothing";
}

TEST_F(MiTest, UnsubscribingEndsWhatWasSubscribed) {
  ASSERT_EQ(Ask("event_subscribe", R"(["E","fake:a"])"), kOk);
  EXPECT_EQ(Ask("event_unsubscribe", R"(["E","fake:b"])"), Error(404, "Subscriber does not exist"));
  EXPECT_EQ(Ask("event_unsubscribe", R"(["E2","fake:a"])"), Error(404, "Subscriber does not exist"));
  EXPECT_EQ(Ask("event_unsubscribe", R"(["E","gopher:b"])"), kBadValue);
  EXPECT_EQ(Ask("evi:unsubscribe", R"({"event":"E","socket":"fake:a"})"), kOk);
  EXPECT_EQ(Ask("event_unsubscribe", R"(["E","fake:a"])"), Error(404, "Subscriber does not exist"));
}

TEST_F(MiTest, TheListsAreThoseOfTheRegistryWhoeverFilledIt) {
  EXPECT_EQ(Ask("events_list"), Result(R"({"Events":[]})"));
  EXPECT_EQ(Ask("subscribers_list"), Result(R"({"Events":[]})"));
  EXPECT_EQ(Ask("subscribers_list", R"(["E_B"])"), Error(404, "Event not published"));
  ASSERT_EQ(Ask("event_subscribe", R"(["E_B","fake:me:s3cr3t@a","60"])"), kOk);
  world_.Subscribe("E_A", "virtual:ROUND-ROBIN fake:a fake:b");  // never expires
  SubscriptionSpec filtered = world_.Spec("E_A", "fake:c");
  filtered.filter = "x=\"1\"";
  ASSERT_TRUE(world_.registry.Subscribe(filtered).ok());
  world_.Subscribe("E_*", "fake:d");
  world_.Raise("E_C");
  ASSERT_EQ(Ask("evi:subscribe", R"(["E_B","fake:b"])"), kOk);
  world_.loop.Advance(absl::Milliseconds(9100));

  const std::string b = R"({"name":"E_B","id":0,"Subscribers":[{"socket":"fake:me:***@a","expire":60,"ttl":51},)"
                        R"({"socket":"fake:b","expire":3600,"ttl":3591}]})";
  const std::string a = R"({"name":"E_A","id":1,"Subscribers":[{"socket":"virtual:ROUND-ROBIN fake:a fake:b",)"
                        R"("expire":"never"},{"socket":"fake:c","expire":"never","filter":)";
  EXPECT_EQ(Ask("evi:list"),
            Result(R"({"Events":[{"name":"E_B","id":0},{"name":"E_A","id":1},{"name":"E_C","id":3}]})"));
  std::string filter;
  AppendJsonString(filtered.filter, &filter);
  EXPECT_EQ(
      Ask("evi:subscribers"),
      Result(absl::StrCat(R"({"Events":[)", b, ",", a, filter,
                          R"(}]},{"name":"E_*","id":2,"Subscribers":[{"socket":"fake:d","expire":"never"}]}]})")));
  EXPECT_EQ(Ask("subscribers_list", R"(["E_B"])"), Result(absl::StrCat("{\"Event\":", b, "}")));
  EXPECT_EQ(Ask("subscribers_list", R"({"event":"E_*"})"),
            Result(R"({"Event":{"name":"E_*","id":2,"Subscribers":[{"socket":"fake:d","expire":"never"}]}})"));
  EXPECT_EQ(Ask("subscribers_list", R"(["E_C"])"), Result(R"({"Event":{}})")) << "known, and nobody is subscribed";
  EXPECT_EQ(Ask("subscribers_list", R"(["E_D"])"), Error(404, "Event not published"));
  EXPECT_EQ(Ask("subscribers_list", "[[]]"), Invalid("Bad type for parameter 'event'"));
}

TEST_F(MiTest, OneSubscriberIsFoundByWhatItIsNotByHowItIsWritten) {
  ASSERT_EQ(Ask("event_subscribe", R"(["E","virtual:PARALLEL fake:a?timeout=2s fake:b",60])"), kOk);
  EXPECT_EQ(Ask("subscribers_list", R"(["E","virtual:PARALLEL fake:b fake:a?timeout=2000"])"),
            Result(R"({"Event":{"name":"E","id":0,"Subscriber":)"
                   R"({"socket":"virtual:PARALLEL fake:a?timeout=2s fake:b","expire":60,"ttl":60}}})"));
  const std::string missing = Error(404, "Subscriber does not exist");
  EXPECT_EQ(Ask("subscribers_list", R"(["E","virtual:PARALLEL fake:a fake:b"])"), missing);
  EXPECT_EQ(Ask("subscribers_list", R"(["E","fake:b"])"), missing);
  EXPECT_EQ(Ask("subscribers_list", R"(["E","gopher:b"])"), missing);
  EXPECT_EQ(Ask("subscribers_list", R"(["E","virtual:"])"), missing);
  EXPECT_EQ(Ask("subscribers_list", R"(["E2","fake:b"])"), Error(404, "Event not published"));
  EXPECT_EQ(Ask("subscribers_list", R"(["E",[]])"), Invalid("Bad type for parameter 'socket'"));
}

TEST_F(MiTest, WhatIsSubscribedHereIsRefreshedThereAndTheOtherWayRound) {
  SubscriptionSpec spec = world_.Spec("E", "virtual:FAILOVER fake:a fake:b");
  spec.labels["team"] = "voice";
  spec.expires = world_.loop.Now() + absl::Seconds(10);
  const std::string name = world_.registry.Subscribe(spec)->info.name;
  ASSERT_EQ(Ask("event_subscribe", R"(["E","virtual:FAILOVER fake:a fake:b",100])"), kOk);
  absl::StatusOr<SubscriptionInfo> info = world_.registry.Get(name);
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->expires, world_.loop.Now() + absl::Seconds(100));
  EXPECT_EQ(info->labels.at("team"), "voice") << "what MI has no words for stays";
  EXPECT_EQ(info->delivery.failover_timeout, absl::Seconds(30));
  EXPECT_FALSE(world_.registry.Subscribe(spec)->created);
  EXPECT_EQ(Ask("subscribers_list", R"(["E"])"),
            Result(R"({"Event":{"name":"E","id":0,"Subscribers":[)"
                   R"({"socket":"virtual:FAILOVER fake:a fake:b","expire":10,"ttl":10}]}})"));
}

TEST_F(MiTest, AnEventIsRaisedWithItsParameters) {
  ASSERT_EQ(Ask("event_subscribe", R"(["E","fake:a"])"), kOk);
  const struct {
    std::string params, sent;
  } cases[] = {
      {R"(["E"])", ""},
      {R"({"event":"E"})", ""},
      {R"(["E",[]])", ""},
      {R"(["E","{}"])", ""},
      {R"(["E",["a","b"]])", R"(,"params":["a","b"])"},
      {R"(["E",["42",42,-1.5,""]])", R"(,"params":["42",42,-1.5,""])"},
      {R"(["E","{\"ip\":\"192.0.2.1\",\"n\":42}"])", R"(,"params":{"ip":"192.0.2.1","n":42})"},
      {R"({"params":"{\"a\":1,\"a\":\"2\"}","event":"E"})", R"(,"params":{"a":1,"a":"2"})"},
      {R"(["E",{"ok":true,"none":null,"list":[1,{"x":"y"}]}])",
       R"(,"params":{"ok":true,"none":null,"list":[1,{"x":"y"}]})"},
  };
  for (const auto& [params, sent] : cases) {
    EXPECT_EQ(Ask("raise_event", params), kOk) << params;
    world_.loop.RunUntilIdle();
    ASSERT_TRUE(world_.fake->at("a").has_parcel()) << params;
    EXPECT_EQ(world_.End("a"), absl::StrCat(R"({"jsonrpc":"2.0","method":"E")", sent, "}")) << params;
  }
}

TEST_F(MiTest, ARaiseThatCannotBeIsRefused) {
  ASSERT_EQ(Ask("event_subscribe", R"(["E","fake:a"])"), kOk);
  const std::string bad = Error(400, "Bad Params");
  const struct {
    std::string params, answer;
  } cases[] = {
      {R"(["E","not json"])", bad},
      {R"(["E",""])", bad},
      {R"(["E","[1]"])", bad},
      {R"(["E","7"])", bad},
      {R"(["E",7])", bad},
      {R"(["E",7.5])", bad},
      {R"(["E",[true]])", bad},
      {R"(["E",[["a"]]])", bad},
      {R"(["E",true])", Error(400, "No Params")},
      {R"(["E",null])", Error(400, "No Params")},
      {absl::StrCat(R"(["E",["0")",
                    [] {
                      std::string more;
                      for (int i = 0; i < 1024; ++i) more += ",\"1\"";
                      return more;
                    }(),
                    "]]"),
       bad},
      {R"([])", Invalid("Too few or too many parameters")},
      {R"(["E","{}","{}"])", Invalid("Too few or too many parameters")},
      {R"({"event":"E","param":"{}"})", Invalid("Named parameters do not match")},
      {R"([{}])", Invalid("Bad type for parameter 'event'")},
      {R"(["E F"])", Error(404, "Event not registered")},
      {R"([""])", Error(404, "Event not registered")},
      {R"(["E_NOBODY"])", Error(480, "Temporarily Unavailable")},
  };
  for (const auto& [params, answer] : cases) EXPECT_EQ(Ask("evi:raise", params), answer) << params;
  world_.loop.RunUntilIdle();
  EXPECT_FALSE(world_.fake->at("a").has_parcel());
}

TEST(MiRaise, OfAFullQueueOrAnEventThatIsFilteredOut) {
  EndpointLimits limits;
  limits.queue_events = 1;
  World world(limits);
  MiCommands mi(world.registry, world.dispatcher, {});
  world.Subscribe("E", "fake:a");
  const absl::string_view raise = R"({"jsonrpc":"2.0","id":1,"method":"raise_event","params":["E",{"n":1}]})";
  EXPECT_EQ(mi.Handle(raise, kRoomy).text, R"({"jsonrpc":"2.0","result":"OK","id":1})");
  EXPECT_EQ(mi.Handle(raise, kRoomy).text,
            R"({"jsonrpc":"2.0","error":{"code":480,"message":"Temporarily Unavailable"},"id":1})")
      << "the queue is full";
  SubscriptionSpec spec = world.Spec("E2", "fake:b");
  spec.filter = "n=2";
  ASSERT_TRUE(world.registry.Subscribe(spec).ok());
  EXPECT_EQ(mi.Handle(R"({"jsonrpc":"2.0","id":1,"method":"raise_event","params":["E2",{"n":1}]})", kRoomy).text,
            R"({"jsonrpc":"2.0","result":"OK","id":1})")
      << "who filters it out has been asked";
}

TEST(MiHops, ARaiseSaysHowOftenTheEventHasBeenDelivered) {
  World world;
  MiCommands mi(world.registry, world.dispatcher, {});
  world.Subscribe("E", "fake:a");
  const auto raise = [&mi](absl::string_view hops) {
    return mi
        .Handle(
            absl::StrCat(R"({"jsonrpc":"2.0","id":1,"method":"raise_event","params":["E"],"eventhops":)", hops, "}"),
            kRoomy)
        .text;
  };
  EXPECT_EQ(raise("7"), R"({"jsonrpc":"2.0","result":"OK","id":1})");
  EXPECT_THAT(raise("8"), AllOf(HasSubstr(R"("code":-32000,"message":"Server error")"),
                                HasSubstr("goes round in a loop: see --max_hops")));
  EXPECT_THAT(raise("-8"), AllOf(HasSubstr(R"("code":-32600,"message":"Invalid Request")"),
                                 HasSubstr(R"(\"-8\" is not a number of hops)")));
  world.loop.RunUntilIdle();
  world.End("a");
  EXPECT_FALSE(world.fake->at("a").has_parcel());
}

TEST(MiStrict, NamesThatAreNotGivenAreUnknown) {
  RegistryLimits limits;
  limits.strict_events = true;
  limits.events = {"E_GIVEN"};
  World world({}, limits);
  MiCommands mi(world.registry, world.dispatcher, {});
  const auto ask = [&mi](absl::string_view method, absl::string_view event, absl::string_view more) {
    return mi
        .Handle(
            absl::StrCat(R"({"jsonrpc":"2.0","id":1,"method":")", method, R"(","params":[")", event, "\"", more, "]}"),
            kRoomy)
        .text;
  };
  const auto error = [](int code, absl::string_view message) {
    return absl::StrCat(R"({"jsonrpc":"2.0","error":{"code":)", code, R"(,"message":")", message, R"("},"id":1})");
  };
  EXPECT_EQ(ask("event_subscribe", "E_OTHER", R"(,"fake:a")"), error(400, "Bad parameter value"));
  EXPECT_EQ(ask("raise_event", "E_OTHER", ""), error(404, "Event not registered"));
  EXPECT_EQ(ask("subscribers_list", "E_OTHER", ""), error(404, "Event not published"));
  EXPECT_EQ(ask("raise_event", "E_GIVEN", ""), error(480, "Temporarily Unavailable"));
  EXPECT_EQ(ask("event_subscribe", "E_GIVEN", R"(,"fake:a")"), R"({"jsonrpc":"2.0","result":"OK","id":1})");
}

TEST(MiLimits, WhatIsTooMuchIsAServerErrorThatSaysWhy) {
  RegistryLimits limits;
  limits.max_subscriptions = 1;
  World world({}, limits);
  MiCommands mi(world.registry, world.dispatcher, {});
  world.Subscribe("E", "fake:a");
  EXPECT_THAT(mi.Handle(R"({"jsonrpc":"2.0","id":1,"method":"event_subscribe","params":["E","fake:b"]})", kRoomy).text,
              HasSubstr(R"("code":-32000,"message":"Server error","data":"there are 1 subscriptions, as many as)"));
}

TEST(MiLimits, AnAnswerThatIsTooLongForItsCarrierIsAnErrorWithTheWayOut) {
  World world;
  MiCommands mi(world.registry, world.dispatcher, {});
  for (int i = 0; i < 3000; ++i) world.Subscribe(absl::StrCat("E_", i % 1500), absl::StrCat("fake:", i));
  for (const std::string method : {"subscribers_list", "events_list"}) {
    const std::string request = absl::StrCat(R"({"jsonrpc":"2.0","id":1,"method":")", method, "\"}");
    const size_t size = mi.Handle(request, kRoomy).text.size();
    ASSERT_GT(size, 30000u);
    for (const size_t max : {size_t{1000}, size - 60}) {
      EXPECT_EQ(mi.Handle(request, max).text,
                absl::StrCat(R"({"jsonrpc":"2.0","error":{"code":-32000,"message":"Server error",)"
                             R"("data":"the answer has more than )",
                             max, R"( bytes: ask for less, or over HTTP"},"id":1})"));
    }
  }
}

}  // namespace
}  // namespace eventvirtual
