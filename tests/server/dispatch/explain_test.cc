// What an operator is told of where an event would go.
#include "server/dispatch/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
using ::testing::SizeIs;
using ::testing::StartsWith;

const absl::Status kNack = absl::UnavailableError("nack");

Explanations ExplainEvent(World& world, absl::string_view event, absl::Duration age = absl::ZeroDuration()) {
  EventFields fields;
  fields.name = event;
  fields.event_time = world.loop.Now() - age;
  return Explain(world.registry, *Message::Make(fields), 1000);
}

// The one explanation that there is.
Explanation ExplainOne(World& world, absl::string_view event, absl::Duration age = absl::ZeroDuration()) {
  Explanations explanations = ExplainEvent(world, event, age);
  EV_CHECK(explanations.subscriptions.size() == 1);
  return explanations.subscriptions[0];
}

std::vector<std::string> Order(const Explanation& explanation) {
  std::vector<std::string> order;
  for (const Explanation::Step& step : explanation.steps) {
    if (step.tried) order.push_back(step.uri);
  }
  return order;
}

// How often the sites of the fake were offered something.
uint64_t Offered(World& world) {
  uint64_t offered = 0;
  for (const EndpointPool::Listed& listed : world.pool.List(0, 100)) offered += listed.stats.offered;
  return offered;
}

TEST(Explain, SaysWhatARaiseThenDoesAndChangesNothing) {
  World world;
  const std::string name = world.Subscribe("E", "virtual:ROUND-ROBIN fake:a fake:b fake:c");
  for (const char* site : {"a", "b", "c", "a"}) {
    for (int i = 0; i < 5; ++i) ExplainOne(world, "E");
    const Explanation explanation = ExplainOne(world, "E");
    EXPECT_TRUE(explanation.matches);
    EXPECT_EQ(Order(explanation)[0], absl::StrCat("fake:", site));
    EXPECT_EQ(explanation.steps[0].reason, "its turn");
    EXPECT_EQ(explanation.steps[1].reason, "if those before it fail");
    world.Raise("E");
    EXPECT_TRUE(world.fake->at(site).has_parcel());
    world.End(site);
  }
  EXPECT_EQ(Offered(world), 4u);
  EXPECT_EQ(world.registry.Get(name)->matched, 4u);
  EXPECT_EQ(world.registry.ListEvents("", 10)[0].raised, 4u);
}

TEST(Explain, AnUnknownNameStaysUnknown) {
  World world;
  EXPECT_THAT(ExplainEvent(world, "E").subscriptions, IsEmpty());
  EXPECT_THAT(world.registry.ListEvents("", 10), IsEmpty());
}

TEST(Explain, ACoolingPrimaryComesLastWithTheTimeLeftAndItsErrorWithoutThePassword) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:me:s3cr3t@a fake:b");
  EXPECT_THAT(Order(ExplainOne(world, "E")), ElementsAre("fake:me:***@a", "fake:b"));
  world.Raise("E");
  world.End("a", kNack);
  world.End("b");
  world.loop.Advance(absl::Seconds(10));
  const Explanation explanation = ExplainOne(world, "E");
  EXPECT_THAT(Order(explanation), ElementsAre("fake:b", "fake:me:***@a"));
  EXPECT_EQ(explanation.steps[0].reason, "the first");
  EXPECT_THAT(explanation.steps[1].reason, AllOf(HasSubstr("as a last resort"), HasSubstr("for another 20s"),
                                                 HasSubstr("failed 10s ago: nack"), Not(HasSubstr("s3cr3t"))));
}

TEST(Explain, TheCanaryIsNotClaimedAndOneThatIsOutIsSeen) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:a?timeout=1m fake:b");
  world.Raise("E");
  world.End("a", kNack);
  world.End("b");
  world.loop.Advance(absl::Seconds(31));
  for (int i = 0; i < 3; ++i) {
    const Explanation before = ExplainOne(world, "E");
    EXPECT_THAT(Order(before), ElementsAre("fake:a?timeout=1m", "fake:b"));
    EXPECT_THAT(before.steps[0].reason, HasSubstr("would find out whether it works again"));
  }
  world.Raise("E");  // the canary
  ASSERT_TRUE(world.fake->at("a").has_parcel());
  const Explanation after = ExplainOne(world, "E");
  EXPECT_THAT(Order(after), ElementsAre("fake:b", "fake:a?timeout=1m"));
  EXPECT_EQ(after.steps[0].reason, "the first");
  EXPECT_THAT(after.steps[1].reason, HasSubstr("another event is finding out"));
}

TEST(Explain, ParallelReachesAllAtOnceAlsoOneThatHasFailed) {
  World world;
  world.Subscribe("E", "virtual:PARALLEL fake:a fake:b");
  world.Raise("E");
  world.End("a", kNack);
  world.End("b");
  const Explanation explanation = ExplainOne(world, "E");
  EXPECT_THAT(Order(explanation), ElementsAre("fake:a", "fake:b"));
  EXPECT_THAT(explanation.steps[0].reason, StartsWith("at once, although it failed"));
  EXPECT_EQ(explanation.steps[1].reason, "at once");
}

TEST(Explain, WhoWouldRefuseIsNamed) {
  EndpointLimits limits;
  limits.queue_events = 1;
  World world(limits);
  world.fake->at("a").window = 1;
  world.Subscribe("E", "virtual:FAILOVER fake:a?timeout=1m fake:down");
  world.Raise("E");  // out
  world.Raise("E");  // queued
  world.fake->at("down").connect_error = absl::UnauthenticatedError("wrong password");
  world.Raise("E");
  const Explanation explanation = ExplainOne(world, "E");
  EXPECT_THAT(explanation.steps[0].reason, HasSubstr("its queue is full"));
  EXPECT_THAT(explanation.steps[1].reason, AllOf(HasSubstr("wrong password"), HasSubstr("between two connects")));
}

TEST(Explain, WhatMaxAttemptsLeavesOutIsPassedOver) {
  World world;
  SubscriptionSpec spec = world.Spec("E", "virtual:FAILOVER fake:a fake:b");
  spec.delivery.max_attempts = 1;
  ASSERT_TRUE(world.registry.Subscribe(spec).ok());
  const Explanation explanation = ExplainOne(world, "E");
  EXPECT_THAT(Order(explanation), ElementsAre("fake:a"));
  ASSERT_THAT(explanation.steps, SizeIs(2));
  EXPECT_EQ(explanation.steps[1].reason, "max_attempts is 1");
}

TEST(Explain, WhatIsDrainedIsPassedOverAndWhenAllAreTheEventWouldBeRefused) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  ASSERT_TRUE(world.pool.SetDrained({world.catalog.Resolve("fake:a")->target}, true).ok());
  world.loop.Advance(absl::Minutes(3));
  const Explanation one = ExplainOne(world, "E");
  EXPECT_THAT(Order(one), ElementsAre("fake:b"));
  EXPECT_EQ(one.steps[1].reason, "taken out by hand 3m ago");
  ASSERT_TRUE(world.pool.SetDrained({world.catalog.Resolve("fake:b")->target}, true).ok());
  const Explanation both = ExplainOne(world, "E");
  EXPECT_THAT(Order(both), IsEmpty());
  EXPECT_THAT(both.reason, HasSubstr("all its subscribers have been taken out by hand"));
}

TEST(Explain, WhyASubscriptionDoesNotMatch) {
  World world;
  SubscriptionSpec filtered = world.Spec("E_FILTERED", "fake:a");
  filtered.filter = "n=1";
  ASSERT_TRUE(world.registry.Subscribe(filtered).ok());
  EXPECT_EQ(ExplainOne(world, "E_FILTERED").reason, R"(filter: condition 1 of 1, "n=1", does not hold: there is no n)");

  SubscriptionSpec young = world.Spec("E_OLD", "fake:a");
  young.delivery.max_event_age = absl::Minutes(1);
  ASSERT_TRUE(world.registry.Subscribe(young).ok());
  EXPECT_TRUE(ExplainOne(world, "E_OLD", absl::Minutes(1)).matches);
  EXPECT_EQ(ExplainOne(world, "E_OLD", absl::Hours(2)).reason, "the event is 2h old; max_event_age is 1m");
  EXPECT_THAT(ExplainOne(world, "E_OLD", absl::Hours(2)).steps, IsEmpty());
}

TEST(Explain, PatternsMatchLikeARaiseAndThoseThatAlmostDoAreNamed) {
  World world;
  world.Subscribe("E_UL_*", "fake:pattern");
  world.Subscribe("E_UL_INSERT", "fake:name");
  world.Subscribe("E_UL_INSERT_*", "fake:longer");
  world.Subscribe("e_ul_insert", "fake:small");
  world.Subscribe("E_DIALOG", "fake:other");
  const Explanations all = ExplainEvent(world, "E_UL_INSERT");
  ASSERT_THAT(all.subscriptions, SizeIs(4));
  EXPECT_EQ(all.subscriptions[0].subscription->event, "E_UL_INSERT");
  EXPECT_TRUE(all.subscriptions[0].matches);
  EXPECT_EQ(all.subscriptions[1].subscription->event, "E_UL_*");
  EXPECT_TRUE(all.subscriptions[1].matches);
  EXPECT_FALSE(all.subscriptions[2].matches);
  EXPECT_EQ(all.subscriptions[2].reason, R"(it is to "e_ul_insert", and upper and lower case are told apart)");
  EXPECT_FALSE(all.subscriptions[3].matches);
  EXPECT_EQ(all.subscriptions[3].reason, R"("E_UL_INSERT_*" is for names that begin with all of "E_UL_INSERT_")");
}

TEST(Explain, OfManyTheFirstAreExplainedAndTheOthersCounted) {
  World world;
  for (int i = 0; i < 30; ++i) {
    world.Subscribe("E", absl::StrCat("fake:", i));
    world.Subscribe("e", absl::StrCat("fake:", i));
  }
  EventFields fields;
  fields.name = "E";
  const Explanations explanations = Explain(world.registry, *Message::Make(fields), 20);
  EXPECT_THAT(explanations.subscriptions, SizeIs(20 + Registry::kMaxNear));
  EXPECT_EQ(explanations.omitted, 10u);
}

TEST(Explain, WithStrictEventsAnUnknownNameIsRefusedAsARaiseWouldBe) {
  RegistryLimits limits;
  limits.strict_events = true;
  World world({}, limits);
  EXPECT_FALSE(ExplainEvent(world, "E").known);
  world.Subscribe("E_*", "fake:a");
  EXPECT_FALSE(ExplainEvent(world, "E").known);
  EXPECT_TRUE(ExplainEvent(world, "E_X").known);
  EXPECT_EQ(world.Raise("E_X").receipt.known, true);
  world.End("a");
}

}  // namespace
}  // namespace eventvirtual
