// What the status page is told, in simulated time.
#include "server/admin/status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/dispatch/world.h"

namespace eventvirtual {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class StatusTest : public testing::Test {
 protected:
  static StatusLimits Limits() { return {.queue_events = 100, .failover_timeout = absl::Seconds(30)}; }

  std::string Json(const StatusQuery& query = {}) const {
    const absl::StatusOr<std::string> json = board_.Json(query);
    EXPECT_TRUE(json.ok()) << json.status();
    return json.ok() ? *json : "";
  }
  // Of the last one asked.
  simdjson::dom::element At(const std::string& pointer) {
    simdjson::dom::element found;
    EXPECT_EQ(document_.at_pointer(pointer).get(found), simdjson::SUCCESS) << pointer;
    return found;
  }
  bool Has(const std::string& pointer) { return document_.at_pointer(pointer).error() == simdjson::SUCCESS; }
  template <typename T>
  T Value(const std::string& pointer) {
    T value{};
    EXPECT_EQ(At(pointer).get(value), simdjson::SUCCESS) << pointer;
    return value;
  }
  std::string Text(const std::string& pointer) { return std::string(Value<std::string_view>(pointer)); }
  uint64_t Number(const std::string& pointer) { return Value<uint64_t>(pointer); }
  double Seconds(const std::string& pointer) { return Value<double>(pointer); }
  void Ask(const StatusQuery& query = {}) {
    ASSERT_EQ(parser_.parse(Json(query)).get(document_), simdjson::SUCCESS) << Json(query);
  }
  std::vector<std::string> Column(const std::string& list, const std::string& key) {
    std::vector<std::string> texts;
    for (size_t i = 0; Has(absl::StrCat("/", list, "/rows/", i)); ++i) {
      texts.push_back(Text(absl::StrCat("/", list, "/rows/", i, "/", key)));
    }
    return texts;
  }

  // The `key` of all rows of a list, page by page.
  std::vector<std::string> Walk(const std::string& list, const std::string& key, StatusQuery query) {
    std::vector<std::string> all;
    std::string& position = list == "events"      ? query.events
                            : list == "endpoints" ? query.endpoints
                                                  : query.subscriptions;
    for (int pages = 0; pages < 100; ++pages) {
      Ask(query);
      const std::vector<std::string> some = Column(list, key);
      EXPECT_LE(some.size(), query.limit);
      all.insert(all.end(), some.begin(), some.end());
      const std::string next = absl::StrCat("/", list, "/next");
      if (!Has(next)) return all;
      position = Text(next);
    }
    ADD_FAILURE() << "it never ends";
    return all;
  }

  void Fail(const std::string& event, const std::string& site, const std::string& why = "nack") {
    world_.Raise(event);
    world_.End(site, absl::UnavailableError(why));
  }

  void SetDrained(const std::string& uri, bool drained) {
    ASSERT_TRUE(world_.pool.SetDrained({world_.catalog.Resolve(uri)->target}, drained).ok());
  }

  World world_{{.queue_events = 100}};
  StatusBoard board_{world_.registry, world_.pool, world_.dispatcher, Limits()};
  simdjson::dom::parser parser_;
  simdjson::dom::element document_;
};

TEST_F(StatusTest, AServiceThatDoesNothingSaysSo) {
  world_.loop.Advance(absl::Milliseconds(1500));
  EXPECT_EQ(
      Json(),
      R"({"version":"0.1.0","uptime":1.500,)"
      R"("endpoints":{"failing":0,"drained":0,"idle":0,"queue_limit":100,"seen":0,"matching":0,"whole":true,"rows":[]},)"
      R"("subscriptions":{"count":0,"failing":0,"degraded":0,"seen":0,"matching":0,"whole":true,"rows":[]},)"
      R"("events":{"seen":0,"matching":0,"whole":true,"rows":[]},)"
      R"("totals":{"raised":0,"matched":0,"delivered":0,"lost":0,"dead_lettered":0,"expired":0,"pending":0,"attempts":0,)"
      R"("attempts_delivered":0,"attempts_failed":0,"attempts_refused":0,"queued":0,"in_flight":0}})");
}

TEST_F(StatusTest, ASubscriberThatFailsStandsFirstWithSinceWhenAndWhyUntilItWorksAgain) {
  world_.Subscribe("E_GOOD", "fake:good");
  world_.Subscribe("E", "virtual:FAILOVER fake:bad fake:worse", absl::Minutes(10));
  Ask();
  EXPECT_THAT(Column("endpoints", "health"), ElementsAre("idle", "idle", "idle"));
  EXPECT_FALSE(Has("/endpoints/rows/0/success_ago"));

  world_.Raise("E_GOOD");
  world_.End("good");
  Fail("E", "bad", "connection refused");
  world_.End("worse");
  world_.loop.Advance(absl::Seconds(12));
  Ask();
  EXPECT_THAT(Column("endpoints", "uri"), ElementsAre("fake:bad", "fake:good", "fake:worse"));
  EXPECT_THAT(Column("endpoints", "health"), ElementsAre("cooling", "healthy", "healthy"));
  EXPECT_EQ(Text("/endpoints/rows/0/error"), "connection refused");
  EXPECT_EQ(Seconds("/endpoints/rows/0/down_for"), 12);
  EXPECT_EQ(Seconds("/endpoints/rows/0/retry_in"), 18);
  EXPECT_EQ(Seconds("/endpoints/rows/1/success_ago"), 12);
  EXPECT_THAT(Column("subscriptions", "event"), ElementsAre("E", "E_GOOD"));
  EXPECT_THAT(Column("subscriptions", "state"), ElementsAre("degraded", "active"));
  EXPECT_EQ(Text("/subscriptions/rows/0/subscribers/0/health"), "cooling");
  EXPECT_EQ(Seconds("/subscriptions/rows/0/subscribers/0/down_for"), 12);
  EXPECT_EQ(Text("/subscriptions/rows/0/policy"), "FAILOVER");
  EXPECT_EQ(Seconds("/subscriptions/rows/0/expires_in"), 588);
  EXPECT_FALSE(Has("/subscriptions/rows/1/expires_in")) << "it never expires";
  EXPECT_EQ(Number("/totals/lost"), 0u) << "the other one has it";
  EXPECT_EQ(Number("/totals/attempts_failed"), 1u);

  // It has failed ever since, so that a later failure does not change since when.
  world_.loop.Advance(absl::Seconds(28));
  Ask();
  EXPECT_EQ(Text("/endpoints/rows/0/health"), "failing") << "the next event tries it";
  world_.Raise("E");
  Ask();
  EXPECT_EQ(Text("/endpoints/rows/0/health"), "probing");
  EXPECT_EQ(Number("/totals/pending"), 1u);
  world_.End("bad", absl::UnavailableError("still nobody"));
  world_.End("worse", absl::UnavailableError("full disk"));
  Ask();
  EXPECT_EQ(Seconds("/endpoints/rows/0/down_for"), 40);
  EXPECT_EQ(Text("/endpoints/rows/0/error"), "still nobody");
  EXPECT_THAT(Column("subscriptions", "state"), ElementsAre("failing", "active"));
  EXPECT_EQ(Number("/endpoints/failing"), 2u);
  EXPECT_EQ(Number("/subscriptions/failing"), 1u);
  EXPECT_EQ(Number("/totals/lost"), 1u);

  world_.loop.Advance(absl::Seconds(31));
  world_.Raise("E");
  world_.End("bad");
  Ask();
  EXPECT_THAT(Column("endpoints", "uri"), ElementsAre("fake:worse", "fake:good", "fake:bad"));
  EXPECT_EQ(Text("/endpoints/rows/2/health"), "healthy");
  EXPECT_FALSE(Has("/endpoints/rows/2/down_for"));
  EXPECT_EQ(Text("/endpoints/rows/2/error"), "still nobody") << "what went wrong last may still be asked";
  EXPECT_EQ(Seconds("/endpoints/rows/2/failure_ago"), 31);
}

TEST_F(StatusTest, WhoWasTakenOutByHandIsDrainedSinceThen) {
  world_.Subscribe("E_GOOD", "fake:good");
  world_.Subscribe("E", "virtual:PARALLEL fake:good fake:out");
  Fail("E_GOOD", "good");
  SetDrained("fake:out", true);
  world_.Raise("E");
  world_.loop.Advance(absl::Seconds(7));
  Ask();
  EXPECT_THAT(Column("endpoints", "health"), ElementsAre("cooling", "drained"));
  EXPECT_EQ(Seconds("/endpoints/rows/1/drained_for"), 7);
  EXPECT_EQ(Number("/endpoints/rows/1/missed"), 1u);
  EXPECT_FALSE(Has("/endpoints/rows/1/down_for"));
  EXPECT_EQ(Number("/endpoints/drained"), 1u);
  EXPECT_THAT(Column("subscriptions", "state"), ElementsAre("failing", "failing")) << "nobody works";
  SetDrained("fake:out", false);
  Ask();
  EXPECT_THAT(Column("endpoints", "health"), ElementsAre("cooling", "idle"));
  EXPECT_THAT(Column("subscriptions", "event"), ElementsAre("E_GOOD", "E"));
  EXPECT_THAT(Column("subscriptions", "state"), ElementsAre("failing", "degraded"));
}

TEST_F(StatusTest, WhatWaitsIsInFlightAndIsRefusedIsCounted) {
  world_.Subscribe("E", "fake:slow");
  for (int i = 0; i < 110; ++i) world_.Raise("E");  // four are in flight, a hundred wait
  Ask();
  EXPECT_EQ(Number("/endpoints/queue_limit"), 100u);
  EXPECT_EQ(Number("/endpoints/rows/0/queued"), 100u);
  EXPECT_EQ(Number("/endpoints/rows/0/in_flight"), 4u);
  EXPECT_EQ(Number("/endpoints/rows/0/refused"), 6u);
  EXPECT_EQ(Number("/totals/queued"), 100u);
  EXPECT_EQ(Number("/totals/lost"), 6u);
  EXPECT_EQ(Number("/totals/raised"), 110u);
  EXPECT_EQ(Number("/events/rows/0/raised"), 110u);
  EXPECT_EQ(Number("/events/rows/0/subscriptions"), 1u);
}

TEST_F(StatusTest, PagesGoThroughEverythingOnceAndFailingFirst) {
  // E5 has another subscriber that works.
  std::vector<std::string> order = {"E2", "E8", "E5"};
  for (int i = 0; i < 10; ++i) {
    world_.Subscribe(absl::StrCat("E", i), absl::StrCat("virtual:PARALLEL fake:", i, i == 5 ? " fake:0" : ""));
  }
  for (const std::string event : {"E8", "E2", "E5"}) Fail(event, event.substr(1));
  for (const std::string event : {"E0", "E1", "E3", "E4", "E6", "E7", "E9"}) order.push_back(event);
  for (size_t limit = 1; limit <= 11; ++limit) {
    StatusQuery query;
    query.limit = limit;
    EXPECT_EQ(Walk("subscriptions", "event", query), order) << limit;
    EXPECT_THAT(Walk("endpoints", "uri", query), ElementsAre("fake:2", "fake:5", "fake:8", "fake:0", "fake:1", "fake:3",
                                                             "fake:4", "fake:6", "fake:7", "fake:9"))
        << limit;
    std::vector<std::string> names = order;
    std::sort(names.begin(), names.end());
    EXPECT_EQ(Walk("events", "name", query), names) << limit;
  }
}

TEST_F(StatusTest, OfAVeryLongListOneAnswerLooksAtAPartAndTheNextGoesOn) {
  StatusLimits limits = Limits();
  limits.looked_at = 4;
  const StatusBoard board(world_.registry, world_.pool, world_.dispatcher, limits);
  for (int i = 10; i < 30; ++i) world_.Subscribe(absl::StrCat("E", i), absl::StrCat("fake:", i));
  Fail("E12", "12");
  Fail("E25", "25");

  StatusQuery query;
  query.limit = 3;
  query.filter = "E2";
  std::vector<std::string> events;
  for (int pages = 0; pages < 20; ++pages) {
    ASSERT_EQ(parser_.parse(*board.Json(query)).get(document_), simdjson::SUCCESS);
    EXPECT_FALSE(Value<bool>("/subscriptions/whole"));
    EXPECT_EQ(Number("/subscriptions/seen"), 4u);
    EXPECT_EQ(Number("/subscriptions/count"), 20u);
    for (const std::string& event : Column("subscriptions", "event")) events.push_back(event);
    if (!Has("/subscriptions/next")) break;
    query.subscriptions = Text("/subscriptions/next");
  }
  EXPECT_THAT(events, ElementsAre("E20", "E21", "E22", "E23", "E24", "E25", "E26", "E27", "E28", "E29"));
  query = {};
  query.limit = 2;
  ASSERT_EQ(parser_.parse(*board.Json(query)).get(document_), simdjson::SUCCESS);
  EXPECT_THAT(Column("subscriptions", "event"), ElementsAre("E12", "E10")) << "of the beginning, the failing first";
  EXPECT_THAT(Column("endpoints", "uri"), ElementsAre("fake:12", "fake:10"));
}

TEST_F(StatusTest, AFilterFindsNamesConditionsSubscribersAndErrorsInAnyCase) {
  SubscriptionSpec spec = world_.Spec("E_PIKE_BLOCKED", "fake:Alpha");
  spec.filter = "ip=192.0.2.1";
  ASSERT_TRUE(world_.registry.Subscribe(spec).ok());
  world_.Subscribe("E_OTHER", "fake:beta");
  Fail("E_OTHER", "beta", "Connection reset by peer");
  const struct {
    std::string filter;
    size_t subscriptions, endpoints, events;
  } cases[] = {
      {"", 2, 2, 2},      {"pike", 1, 0, 1}, {"ALPHA", 1, 1, 0},  {"192.0.2", 1, 0, 0},        {"reset BY", 0, 1, 0},
      {"fake:", 2, 2, 0}, {"E_", 2, 0, 2},   {"nobody", 0, 0, 0}, {"subscriptions/", 0, 0, 0},
  };
  for (const auto& one : cases) {
    StatusQuery query;
    query.filter = one.filter;
    Ask(query);
    EXPECT_EQ(Column("subscriptions", "event").size(), one.subscriptions) << one.filter;
    EXPECT_EQ(Column("endpoints", "uri").size(), one.endpoints) << one.filter;
    EXPECT_EQ(Column("events", "name").size(), one.events) << one.filter;
    EXPECT_EQ(Number("/subscriptions/matching"), one.subscriptions) << one.filter;
    EXPECT_EQ(Number("/endpoints/failing"), 1u) << "sums are of all: " << one.filter;
    EXPECT_EQ(Number("/totals/lost"), 1u) << one.filter;
  }
}

TEST_F(StatusTest, PasswordsAreMaskedAndWhatAPeerOrAClientSaidIsText) {
  const std::string evil = "</script><script>alert(\"1\")</script>\\\n\x01";
  SubscriptionSpec spec = world_.Spec("E", "fake:me:s3cr3t@a");
  spec.labels = {{evil, evil}};
  ASSERT_TRUE(world_.registry.Subscribe(spec).ok());
  Fail("E", "a", evil);
  EXPECT_THAT(Json(), AllOf(HasSubstr("fake:me:***@a"), Not(HasSubstr("s3cr3t"))));
  Ask();
  EXPECT_EQ(Text("/endpoints/rows/0/error"), evil);
  const auto labels = Value<simdjson::dom::object>("/subscriptions/rows/0/labels");
  ASSERT_EQ(labels.size(), 1u);
  EXPECT_EQ(std::string((*labels.begin()).key), evil);
  StatusQuery query;
  query.filter = "s3cr3t";
  Ask(query);
  EXPECT_THAT(Column("subscriptions", "name"), IsEmpty()) << "a filter must not find out what is masked";
  EXPECT_THAT(Column("endpoints", "uri"), IsEmpty());
}

TEST_F(StatusTest, TenThousandSubscriptionsMakeNoLongerAnswerThanFifty) {
  for (int i = 10000; i < 10050; ++i) world_.Subscribe(absl::StrCat("E", i), absl::StrCat("fake:", i));
  const size_t few = Json().size();
  for (int i = 10050; i < 20000; ++i) world_.Subscribe(absl::StrCat("E", i), absl::StrCat("fake:", i));
  Ask();
  EXPECT_EQ(Number("/subscriptions/count"), 10000u);
  EXPECT_EQ(Column("subscriptions", "event").size(), 50u);
  EXPECT_LE(Json().size(), few + 200) << "the sums have more digits, and there are positions";
  StatusQuery query;
  query.limit = 100000;
  Ask(query);
  EXPECT_EQ(Column("subscriptions", "event").size(), StatusBoard::kMaxRows);
}

TEST_F(StatusTest, APositionThatWasNotGivenIsRefusedWithTheWayOut) {
  for (const std::string position : {"x", "17", ".", "0.", "0.x", "3.1", "-1.1", "0.1.1", "0.99999999999999999999"}) {
    StatusQuery query;
    query.endpoints = position;
    EXPECT_THAT(std::string(board_.Json(query).status().message()),
                AllOf(HasSubstr("endpoints: "), HasSubstr("leave it out")))
        << position;
    query = {};
    query.subscriptions = position;
    EXPECT_EQ(board_.Json(query).status().code(), absl::StatusCode::kInvalidArgument) << position;
  }
  StatusQuery query;
  query.filter = std::string(StatusBoard::kMaxFilter + 1, 'x');
  EXPECT_THAT(std::string(board_.Json(query).status().message()), HasSubstr("filter: 201 bytes; at most 200"));
}

}  // namespace
}  // namespace eventvirtual
