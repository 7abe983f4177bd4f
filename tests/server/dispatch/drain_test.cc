// Stories of subscribers that an operator takes out by hand and brings back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/server/dispatch/world.h"

namespace eventvirtual {
namespace {

using Outcome = DeliveryResult::Outcome;
using Result = AttemptRecord::Result;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

const absl::Status kNack = absl::UnavailableError("nack");

// By hand, as OperatorService does it.
absl::StatusOr<EndpointPool::Listed> SetDrained(World& world, const std::string& uri, bool drained) {
  absl::StatusOr<Destination> destination = world.catalog.Resolve(uri);
  EV_CHECK(destination.ok());
  absl::StatusOr<EndpointPool::Listed> listed = world.pool.SetDrained({destination->target}, drained);
  world.loop.RunUntilIdle();
  return listed;
}
void Drain(World& world, const std::string& uri) { EV_CHECK(SetDrained(world, uri, true).ok()); }
void Enable(World& world, const std::string& uri) { EV_CHECK(SetDrained(world, uri, false).ok()); }

TEST(Drain, FailoverGoesToTheNextAndComesBackWithoutAFailureOnTheWay) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  Drain(world, "fake:a");
  auto raised = world.Raise("E");
  EXPECT_FALSE(world.fake->at("a").has_parcel());
  world.End("b");
  EXPECT_EQ(raised.outcome(), Outcome::kDelivered);
  EXPECT_EQ(raised.attempts()[0].result, Result::kSkipped);
  EXPECT_EQ(raised.attempts()[0].status.message(), "taken out by hand");
  EXPECT_EQ(world.StatsOf("fake:a").health, EndpointStats::Health::kDrained);
  EXPECT_EQ(world.StatsOf("fake:a").offered, 0u);
  Enable(world, "fake:a");
  world.Raise("E");
  world.End("a");
  EXPECT_THAT(world.health, IsEmpty());
}

TEST(Drain, FailoverDoesNotFallBackOnOneThatIsOutWhenTheOthersFail) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  auto raised = world.Raise("E");  // the plan has both
  Drain(world, "fake:b");
  world.End("a", kNack);
  EXPECT_FALSE(world.fake->at("b").has_parcel());
  EXPECT_EQ(raised.outcome(), Outcome::kFailed);
  EXPECT_EQ(raised.attempts()[1].result, Result::kSkipped);
}

TEST(Drain, RoundRobinDealsToTheOthersEvenly) {
  World world;
  world.Subscribe("E", "virtual:ROUND-ROBIN fake:a fake:b fake:c");
  Drain(world, "fake:b");
  for (int i = 0; i < 10; ++i) {
    world.Raise("E");
    for (const char* site : {"a", "c"}) {
      while (world.fake->at(site).has_parcel()) world.End(site);
    }
  }
  EXPECT_EQ(world.StatsOf("fake:a").ok, 5u);
  EXPECT_EQ(world.StatsOf("fake:b").offered, 0u);
  EXPECT_EQ(world.StatsOf("fake:c").ok, 5u);
}

TEST(Drain, ParallelIsDeliveredWithoutItAndWhatItMissedIsCounted) {
  World world;
  const std::string name = world.Subscribe("E", "virtual:PARALLEL fake:a fake:b fake:c");
  Drain(world, "fake:c");
  auto first = world.Raise("E");
  EXPECT_EQ(first.receipt.accepted, 1u);
  world.End("a");
  world.End("b");
  EXPECT_EQ(first.outcome(), Outcome::kDelivered);
  EXPECT_EQ(first.attempts()[2].result, Result::kSkipped);
  auto second = world.Raise("E");
  world.End("a", kNack);
  world.End("b");
  EXPECT_EQ(second.outcome(), Outcome::kPartial);
  auto third = world.Raise("E");
  world.End("a", kNack);
  world.End("b", kNack);
  EXPECT_EQ(third.outcome(), Outcome::kFailed);
  EXPECT_EQ(world.StatsOf("fake:c").missed, 3u);
  EXPECT_EQ(world.StatsOf("fake:c").offered, 0u);
  EXPECT_EQ(world.registry.Get(name)->state, SubscriptionInfo::State::kFailing);
}

TEST(Drain, WhenAllAreOutTheEventIsRefusedAndNotLostSilently) {
  for (const char* socket :
       {"virtual:PARALLEL fake:a fake:b", "virtual:FAILOVER fake:a fake:b", "virtual:ROUND-ROBIN fake:a fake:b"}) {
    World world;
    const std::string name = world.Subscribe("E", socket);
    Drain(world, "fake:a");
    Drain(world, "fake:b");
    auto raised = world.Raise("E");
    EXPECT_EQ(raised.receipt.accepted, 0u) << socket;
    EXPECT_EQ(raised.receipt.refusal.code(), absl::StatusCode::kUnavailable) << socket;
    EXPECT_THAT(std::string(raised.receipt.refusal.message()), HasSubstr("evctl enable")) << socket;
    EXPECT_EQ(raised.outcome(), Outcome::kFailed) << socket;
    EXPECT_THAT(raised.attempts(), SizeIs(2)) << socket;
    EXPECT_EQ(world.registry.Get(name)->failed, 1u) << socket;
  }
}

TEST(Drain, WhatIsQueuedAndInFlightIsStillSent) {
  World world;
  world.fake->at("a").window = 1;
  world.Subscribe("E", "fake:a?timeout=1m");
  auto first = world.Raise("E", "1");
  auto second = world.Raise("E", "2");
  Drain(world, "fake:a?timeout=1m");
  EXPECT_EQ(world.StatsOf("fake:a?timeout=1m").queued, 1u);
  world.End("a");
  EXPECT_THAT(world.End("a"), HasSubstr(R"("n":"2")"));
  EXPECT_EQ(first.outcome(), Outcome::kDelivered);
  EXPECT_EQ(second.outcome(), Outcome::kDelivered);
}

TEST(Enable, ForgetsACoolDownAndTheNextEventIsTheCanary) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  world.Raise("E", "1");
  world.End("a", kNack);
  world.End("b");
  Drain(world, "fake:a");
  Enable(world, "fake:a");
  EXPECT_EQ(world.StatsOf("fake:a").health, EndpointStats::Health::kFailing) << "until it has shown that it works";
  world.Raise("E", "2");
  world.Raise("E", "3");  // goes past the canary
  EXPECT_THAT(world.End("b"), HasSubstr(R"("n":"3")"));
  EXPECT_THAT(world.End("a"), HasSubstr(R"("n":"2")"));
  world.Raise("E", "4");
  EXPECT_THAT(world.End("a"), HasSubstr(R"("n":"4")"));
  world.loop.Advance(absl::Seconds(1));
  EXPECT_THAT(world.health, ElementsAre("fake:a fails: nack", "fake:a works"));
}

TEST(Enable, AFailureAfterItStartsACoolDownOfItsOwn) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  world.Raise("E");
  world.End("a", kNack);
  world.End("b");
  Drain(world, "fake:a");
  Enable(world, "fake:a");
  world.Raise("E");
  world.End("a", kNack);
  world.End("b");
  world.Raise("E");
  EXPECT_FALSE(world.fake->at("a").has_parcel());
  world.End("b");
}

TEST(Enable, AlsoEndsThePauseAfterARefusedLogin) {
  World world;
  world.fake->at("a").connect_error = absl::UnauthenticatedError("wrong password");
  world.Subscribe("E", "fake:a");
  world.Raise("E");
  EXPECT_EQ(world.Raise("E").receipt.accepted, 0u);
  world.fake->at("a").connect_error = absl::OkStatus();
  Drain(world, "fake:a");
  Enable(world, "fake:a");
  auto raised = world.Raise("E");
  world.End("a");
  EXPECT_EQ(raised.outcome(), Outcome::kDelivered);
}

TEST(Drain, OutlivesTheSubscriptionsAndEndsWithEnable) {
  World world;
  const std::string name = world.Subscribe("E", "fake:a");
  Drain(world, "fake:a");
  ASSERT_TRUE(world.registry.Unsubscribe(name).ok());
  world.loop.Advance(absl::Hours(1));
  EXPECT_EQ(world.StatsOf("fake:a").health, EndpointStats::Health::kDrained);
  world.Subscribe("E", "fake:a");
  EXPECT_EQ(world.Raise("E").receipt.accepted, 0u);
  ASSERT_TRUE(world.registry.Unsubscribe(name).ok());
  Enable(world, "fake:a");
  world.loop.Advance(absl::Milliseconds(100));
  EXPECT_THAT(world.pool.List(0, 10), IsEmpty());
  EXPECT_EQ(SetDrained(world, "fake:a", true).status().code(), absl::StatusCode::kNotFound);
}

TEST(Drain, IsFoundByWhatIsShownUnlessThatIsSeveral) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:me:s3cr3t@a fake:me:0ther@a fake:you:third@b");
  const absl::StatusOr<EndpointPool::Listed> shown = SetDrained(world, "fake:you:***@b", true);
  ASSERT_TRUE(shown.ok());
  EXPECT_EQ(shown->stats.uri, "fake:you:***@b");
  const absl::Status several = SetDrained(world, "fake:me:***@a", true).status();
  EXPECT_EQ(several.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(several.message()), Not(HasSubstr("s3cr3t")));
  EXPECT_TRUE(SetDrained(world, "fake:me:0ther@a", true).ok());
  world.Raise("E");
  world.End("a");
  const absl::Status none = SetDrained(world, "fake:me:wr0ng@c", true).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(none.message()), Not(HasSubstr("wr0ng")));
}

TEST(Drain, AThousandAtMostAreOut) {
  World world;
  for (size_t i = 0; i <= EndpointPool::kMaxDrained; ++i) world.Subscribe("E", absl::StrCat("fake:", i));
  for (size_t i = 0; i < EndpointPool::kMaxDrained; ++i) Drain(world, absl::StrCat("fake:", i));
  Drain(world, "fake:0");  // that it is out already is no fault
  const std::string last = absl::StrCat("fake:", EndpointPool::kMaxDrained);
  EXPECT_EQ(SetDrained(world, last, true).status().code(), absl::StatusCode::kResourceExhausted);
  Enable(world, "fake:0");
  Drain(world, last);
}

}  // namespace
}  // namespace eventvirtual
