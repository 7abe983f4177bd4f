// Stories of the core: what an operator sees when subscribers come, go, fail and recover.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/dispatch/world.h"

namespace eventvirtual {
namespace {

using Outcome = DeliveryResult::Outcome;
using Result = AttemptRecord::Result;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const absl::Status kNack = absl::UnavailableError("nack");

void ExpectBooksBalance(const EndpointStats& stats) {
  EXPECT_EQ(stats.offered, stats.accepted + stats.full + stats.down) << stats.uri;
  EXPECT_EQ(stats.accepted, stats.queued + stats.in_flight + stats.ok + stats.failed + stats.timed_out + stats.unwanted)
      << stats.uri;
}

TEST(Parallel, EveryoneIsNotifiedAtOnceAndOneFailureDoesNotStopTheOthers) {
  World world;
  world.Subscribe("E_TEST", "virtual:PARALLEL fake:a fake:b fake:c");
  auto raised = world.Raise("E_TEST", "1");
  EXPECT_EQ(raised.receipt.matched, 1u);
  EXPECT_EQ(raised.receipt.accepted, 1u);
  EXPECT_EQ(world.End("a", kNack), R"({"jsonrpc":"2.0","method":"E_TEST","params":{"n":"1"}})");
  world.End("b");
  EXPECT_FALSE(raised.ended());
  world.End("c");
  ASSERT_TRUE(raised.ended());
  EXPECT_EQ(raised.outcome(), Outcome::kPartial);
  EXPECT_EQ(raised.attempts()[0].result, Result::kFailed);
  EXPECT_EQ(raised.attempts()[1].result, Result::kOk);
  EXPECT_EQ(raised.attempts()[2].result, Result::kOk);
}

TEST(Parallel, ACoolingSubscriberIsStillReached) {
  World world;
  world.Subscribe("E", "virtual:PARALLEL fake:a fake:b");
  world.Raise("E");
  world.End("a", kNack);
  world.End("b");
  auto second = world.Raise("E");
  world.End("a");
  world.End("b");
  EXPECT_EQ(second.outcome(), Outcome::kDelivered);
}

TEST(Failover, TheFirstSuccessEndsIt) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  auto raised = world.Raise("E");
  EXPECT_FALSE(world.fake->at("b").has_parcel());
  world.End("a");
  EXPECT_EQ(raised.outcome(), Outcome::kDelivered);
  EXPECT_FALSE(world.fake->at("b").has_parcel());
}

TEST(Failover, AFailedPrimaryCoolsThenOneCanaryBringsItBack) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  auto first = world.Raise("E", "1");
  world.End("a", kNack);
  EXPECT_THAT(world.End("b"), HasSubstr(R"("n":"1")"));
  EXPECT_EQ(first.outcome(), Outcome::kDelivered);

  world.loop.Advance(absl::Seconds(29));
  world.Raise("E", "2");  // the primary is not even asked
  EXPECT_FALSE(world.fake->at("a").has_parcel());
  world.End("b");

  world.loop.Advance(absl::Seconds(2));
  world.Raise("E", "3");  // the canary
  world.Raise("E", "4");  // goes past it
  EXPECT_THAT(world.End("b"), HasSubstr(R"("n":"4")"));
  EXPECT_THAT(world.End("a"), HasSubstr(R"("n":"3")"));
  world.Raise("E", "5");
  world.Raise("E", "6");
  EXPECT_THAT(world.End("a"), HasSubstr(R"("n":"5")"));
  EXPECT_THAT(world.End("a"), HasSubstr(R"("n":"6")"));
}

TEST(Failover, AFailedCanaryStartsAnotherCoolDown) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  world.Raise("E", "1");
  world.End("a", kNack);
  world.End("b");
  world.loop.Advance(absl::Seconds(31));
  world.Raise("E", "2");
  world.End("a", kNack);
  world.End("b");
  world.loop.Advance(absl::Seconds(20));
  world.Raise("E", "3");
  EXPECT_FALSE(world.fake->at("a").has_parcel());
  world.End("b");
}

TEST(Failover, WhenAllAreCoolingTheOneThatFailedLongestAgoIsTriedFirst) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  auto first = world.Raise("E", "1");
  world.End("a", kNack);
  world.loop.Advance(absl::Milliseconds(100));
  world.End("b", kNack);
  EXPECT_EQ(first.outcome(), Outcome::kFailed);
  world.loop.Advance(absl::Seconds(1));
  auto second = world.Raise("E", "2");
  EXPECT_TRUE(world.fake->at("a").has_parcel());
  world.End("a");
  EXPECT_EQ(second.outcome(), Outcome::kDelivered);
  EXPECT_EQ(second.attempts()[0].result, Result::kSkipped);
}

TEST(Failover, ARefusedConnectMovesOnAndASecondEventDoesNotWait) {
  World world;
  world.fake->at("a").connect_error = absl::UnavailableError("connection refused");
  world.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  auto raised = world.Raise("E", "1");
  world.End("b");
  EXPECT_EQ(raised.outcome(), Outcome::kDelivered);
  EXPECT_THAT(std::string(raised.attempts()[0].status.message()), HasSubstr("connection refused"));
  EXPECT_EQ(world.fake->at("a").connects, 1);
  world.Raise("E", "2");
  EXPECT_EQ(world.fake->at("a").connects, 1);
  world.End("b");
}

TEST(Failover, AHangingConnectEndsAtItsTimeLimit) {
  World world;
  world.fake->at("a").hang_connects = true;
  world.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  auto raised = world.Raise("E", "1");
  world.loop.Advance(absl::Milliseconds(1010));
  world.End("b");
  EXPECT_EQ(raised.outcome(), Outcome::kDelivered);
}

TEST(Failover, ATimeoutIsUnknownAndMovesOn) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:a?timeout=200ms fake:b");
  auto raised = world.Raise("E", "1");
  ASSERT_TRUE(world.fake->at("a").has_parcel());
  world.loop.Advance(absl::Milliseconds(210));
  world.End("b");
  EXPECT_EQ(raised.outcome(), Outcome::kDelivered);
  EXPECT_EQ(raised.attempts()[0].result, Result::kUnknown);
  world.End("a");  // a late report is nobody's business any more
  const EndpointStats stats = world.StatsOf("fake:a?timeout=200ms");
  EXPECT_EQ(stats.timed_out, 1u);
  EXPECT_EQ(stats.ok, 0u);
  ExpectBooksBalance(stats);
}

TEST(RoundRobin, TheTurnAdvancesWithEveryEventAlsoPastADeadOne) {
  World world;
  world.Subscribe("E", "virtual:ROUND-ROBIN fake:a fake:b fake:c");
  world.Raise("E", "1");
  world.End("a");
  world.Raise("E", "2");
  world.End("b", kNack);
  EXPECT_THAT(world.End("c"), HasSubstr(R"("n":"2")"));
  world.Raise("E", "3");
  EXPECT_THAT(world.End("c"), HasSubstr(R"("n":"3")"));
  world.Raise("E", "4");
  EXPECT_THAT(world.End("a"), HasSubstr(R"("n":"4")"));
  world.Raise("E", "5");  // b's turn, but it is cooling
  EXPECT_THAT(world.End("c"), HasSubstr(R"("n":"5")"));
}

TEST(Expiry, NothingIsDeliveredAfterItAndNothingIsRemovedEarly) {
  World world;
  const std::string name = world.Subscribe("E", "fake:a", absl::Seconds(10));
  world.loop.Advance(absl::Milliseconds(9999));
  EXPECT_EQ(world.Raise("E").receipt.matched, 1u);
  world.End("a");
  EXPECT_TRUE(world.registry.Get(name).ok());
  world.loop.Advance(absl::Milliseconds(1));
  EXPECT_EQ(world.Raise("E").receipt.matched, 0u);
  EXPECT_EQ(world.registry.Get(name).status().code(), absl::StatusCode::kNotFound);
  world.loop.Advance(kSweepSlack);
  EXPECT_EQ(world.registry.size(), 0u);
}

TEST(Expiry, WhatWaitsInTheQueueIsNotSentAfterIt) {
  World world;
  world.fake->at("a").window = 1;
  world.Subscribe("E", "fake:a?timeout=1m", absl::Seconds(5));
  auto first = world.Raise("E", "1");
  auto second = world.Raise("E", "2");
  world.loop.Advance(absl::Seconds(6));
  world.End("a");
  EXPECT_FALSE(world.fake->at("a").has_parcel());
  EXPECT_EQ(first.outcome(), Outcome::kDelivered);
  EXPECT_EQ(second.outcome(), Outcome::kExpired);
}

TEST(Expiry, ARefreshMovesItBothWays) {
  World world;
  const std::string name = world.Subscribe("E", "fake:a", absl::Seconds(10));
  EXPECT_EQ(world.Subscribe("E", "fake:a", absl::Seconds(100)), name);
  world.loop.Advance(absl::Seconds(50));
  EXPECT_TRUE(world.registry.Get(name).ok());
  EXPECT_EQ(world.Subscribe("E", "fake:a", absl::Seconds(1)), name);
  world.loop.Advance(absl::Seconds(1) + kSweepSlack);
  EXPECT_EQ(world.registry.size(), 0u);
}

TEST(Unsubscribe, TheQueuedAreNotSentAndTheEndpointGoes) {
  World world;
  world.fake->at("a").window = 1;
  const std::string name = world.Subscribe("E", "fake:a?timeout=1m");
  world.Raise("E", "1");
  {
    auto second = world.Raise("E", "2");  // its results keep the subscription
    ASSERT_TRUE(world.registry.Unsubscribe(name).ok());
    world.End("a");
    EXPECT_EQ(second.outcome(), Outcome::kExpired);
  }
  world.loop.Advance(absl::Milliseconds(100));
  EXPECT_EQ(world.fake->at("a").open_links, 0);
  EXPECT_TRUE(world.pool.List(0, 10).empty());
}

TEST(Unsubscribe, OnceTheSendsAreOverNothingIsHandedToALinkAnyMore) {
  World world;
  const std::string name = world.Subscribe("E", "fake:a");
  world.Raise("E", "1");
  world.End("a");
  EventFields fields;
  fields.name = "E";
  world.dispatcher.Raise(Message::Make(fields), nullptr);  // accepted, and not yet looked at by the loop
  ASSERT_TRUE(world.registry.Unsubscribe(name).ok());
  bool over = false;
  world.registry.AfterSends([&] {
    over = true;
    EXPECT_FALSE(world.fake->at("a").has_parcel());
  });
  EXPECT_FALSE(over) << "the loop has not come round";
  world.loop.RunUntilIdle();
  EXPECT_TRUE(over);
  world.loop.Advance(absl::Minutes(1));
  EXPECT_FALSE(world.fake->at("a").has_parcel());
}

TEST(Health, AFailureAndARecoveryAreToldOnceEachAndWithoutThePassword) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:me:s3cr3t@a fake:b");
  world.Raise("E");
  world.End("a");
  EXPECT_THAT(world.health, IsEmpty()) << "that it works from the start is no news";
  for (int i = 0; i < 3; ++i) {
    world.Raise("E");
    world.End("a", kNack);
    world.End("b");
    world.loop.Advance(absl::Seconds(31));
  }
  EXPECT_THAT(world.health, ElementsAre("fake:me:***@a fails: nack"));
  world.Raise("E");
  world.End("a");
  world.Raise("E");
  world.End("a");
  EXPECT_THAT(world.health, ElementsAre("fake:me:***@a fails: nack", "fake:me:***@a works"));
}

TEST(Health, WhoFlapsIsToldAboutOnceASecondAndAsItIsInTheEnd) {
  World world;
  world.Subscribe("E", "fake:a");
  for (int i = 0; i < 1001; ++i) {
    world.Raise("E");
    world.End("a", i % 2 == 0 ? kNack : absl::OkStatus());
    world.loop.Advance(absl::Milliseconds(1));
  }
  EXPECT_LE(world.health.size(), 2u);
  world.loop.Advance(absl::Seconds(2));
  EXPECT_EQ(world.health.back(), "fake:a fails: nack");
}

TEST(Endpoint, IsSharedByCanonicalUriAndItsBooksBalance) {
  World world;
  world.Subscribe("E", "virtual:PARALLEL fake:a fake:b");
  world.Subscribe("E", "virtual:FAILOVER fake:a");
  world.Raise("E");
  EXPECT_EQ(world.fake->at("a").connects, 1);
  EXPECT_EQ(world.fake->at("a").parked.size(), 2u);
  world.End("a");
  world.End("a", kNack);
  ExpectBooksBalance(world.StatsOf("fake:a"));
  EXPECT_EQ(world.StatsOf("fake:a").ok, 1u);
  EXPECT_EQ(world.StatsOf("fake:a").failed, 1u);
}

TEST(Endpoint, AFullQueueRefusesAtOnceAndFailoverMovesOnOnTheSameThread) {
  EndpointLimits limits;
  limits.queue_events = 2;
  World world(limits);
  world.fake->at("a").window = 1;
  world.Subscribe("E", "virtual:FAILOVER fake:a?timeout=1m fake:b");
  for (int i = 0; i < 3; ++i) world.Raise("E");  // one in flight, two queued
  EXPECT_FALSE(world.fake->at("b").has_parcel());
  auto raised = world.Raise("E");
  EXPECT_TRUE(world.fake->at("b").has_parcel());
  world.End("b");
  EXPECT_EQ(raised.attempts()[0].result, Result::kRefused);
  EXPECT_EQ(world.StatsOf("fake:a?timeout=1m").full, 1u);
}

TEST(Endpoint, OneHugeMessageIsTakenByAnIdleQueue) {
  EndpointLimits limits;
  limits.queue_bytes = 100;
  World world(limits);
  world.Subscribe("E", "fake:a?timeout=1m");
  EXPECT_EQ(world.Raise("E", std::string(1000, 'x')).receipt.accepted, 1u);
  const auto second = world.Raise("E", "x");
  EXPECT_EQ(second.receipt.accepted, 0u);
  EXPECT_EQ(second.receipt.refusal.code(), absl::StatusCode::kResourceExhausted);
}

TEST(Endpoint, WhatWaitsBehindALinkThatWorkedIsSentOnTheNextOne) {
  World world;
  world.fake->at("a").window = 1;
  world.Subscribe("E", "fake:a");
  world.Raise("E", "1");
  auto second = world.Raise("E", "2");
  auto third = world.Raise("E", "3");
  world.End("a");
  world.fake->CloseLink("a", absl::UnavailableError("restarted"));
  world.loop.RunUntilIdle();
  EXPECT_EQ(second.outcome(), Outcome::kFailed);  // it was out
  EXPECT_THAT(world.End("a"), HasSubstr(R"("n":"3")"));
  EXPECT_EQ(third.outcome(), Outcome::kDelivered);
  EXPECT_EQ(world.fake->at("a").connects, 2);
}

TEST(Endpoint, ALinkThatStopsReportingIsReplaced) {
  World world;
  world.fake->at("a").window = 2;
  world.Subscribe("E", "fake:a");
  auto first = world.Raise("E");
  auto second = world.Raise("E");
  world.loop.Advance(absl::Milliseconds(1100));
  EXPECT_EQ(first.attempts()[0].result, Result::kUnknown);
  EXPECT_EQ(second.attempts()[0].result, Result::kUnknown);
  EXPECT_EQ(world.fake->at("a").open_links, 0);
  auto third = world.Raise("E");
  world.loop.Advance(absl::Milliseconds(600));
  world.End("a");
  EXPECT_EQ(third.outcome(), Outcome::kDelivered);
  EXPECT_EQ(world.fake->at("a").connects, 2);
}

TEST(Endpoint, ALateReportFromAnOldLinkIsNotTakenForTheNextOnes) {
  World world;
  world.Subscribe("E", "fake:a?timeout=10s");
  auto first = world.Raise("E", "1");
  Parcel kept = std::move(world.fake->at("a").parked.front());  // by a library that reports when it likes
  world.fake->at("a").parked.clear();
  world.fake->CloseLink("a", absl::UnavailableError("reset"));
  world.loop.RunUntilIdle();
  EXPECT_EQ(first.outcome(), Outcome::kFailed);
  world.loop.Advance(absl::Seconds(1));
  auto second = world.Raise("E", "2");
  ASSERT_TRUE(world.fake->at("a").has_parcel());
  std::move(kept.done).Finish(absl::OkStatus());
  world.loop.RunUntilIdle();
  EXPECT_FALSE(second.ended());
  world.End("a");
  EXPECT_EQ(second.outcome(), Outcome::kDelivered);
}

TEST(Endpoint, EveryAcceptedEventSeesARealConnectBeforeItsDeadline) {
  World world;
  world.fake->at("a").connect_error = absl::UnavailableError("refused");
  world.Subscribe("E", "fake:a");
  for (int i = 0; i < 50; ++i) {
    world.Raise("E");
    world.loop.Advance(absl::Seconds(1));
  }
  world.fake->at("a").connect_error = absl::OkStatus();
  auto raised = world.Raise("E");
  world.loop.Advance(absl::Milliseconds(700));
  world.End("a");
  EXPECT_EQ(raised.outcome(), Outcome::kDelivered);
}

TEST(Endpoint, SendingResumesSoonAfterALongOutageHoweverPatientTheAttempts) {
  World world;
  world.fake->at("a").connect_error = absl::UnavailableError("refused");
  world.Subscribe("E", "fake:a?timeout=1m");
  for (int i = 0; i < 100; ++i) {
    world.Raise("E");
    world.loop.Advance(absl::Seconds(1));
  }
  world.fake->at("a").connect_error = absl::OkStatus();
  world.Raise("E");
  world.loop.Advance(absl::Milliseconds(900));
  EXPECT_TRUE(world.fake->at("a").has_parcel());
}

TEST(Endpoint, ARefusedLoginIsNotHammered) {
  World world;
  world.fake->at("a").connect_error = absl::UnauthenticatedError("wrong password");
  world.Subscribe("E", "fake:user:secret@a");
  world.Raise("E");
  EXPECT_EQ(world.fake->at("a").connects, 1);
  const auto second = world.Raise("E");
  EXPECT_EQ(second.receipt.refusal.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.receipt.refusal.message()), HasSubstr("wrong password"));
  EXPECT_THAT(std::string(second.receipt.refusal.message()), ::testing::Not(HasSubstr("secret")));
  world.loop.Advance(absl::Seconds(3));
  world.Raise("E");
  EXPECT_EQ(world.fake->at("a").connects, 1);
  world.loop.Advance(absl::Seconds(4));
  world.Raise("E");
  EXPECT_EQ(world.fake->at("a").connects, 2);
}

TEST(Endpoint, AMessageThatCanNeverBeDeliveredDoesNotStartACoolDown) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  world.Raise("E", "big");
  world.End("a", absl::InvalidArgumentError("too large"));
  world.End("b", absl::InvalidArgumentError("too large"));
  world.Raise("E", "small");
  EXPECT_TRUE(world.fake->at("a").has_parcel());
}

TEST(Cork, WhatIsOfferedUnderItLeavesWhenTheOutermostEndsAndNotBefore) {
  World world;
  world.Subscribe("E", "virtual:PARALLEL fake:a fake:b");
  std::vector<World::Raised> raised;
  {
    Cork outer;
    {
      Cork inner;
      raised.push_back(world.Raise("E", "1"));
    }
    raised.push_back(world.Raise("E", "2"));
    for (const World::Raised& one : raised) EXPECT_EQ(one.receipt.accepted, 1u);
    EXPECT_EQ(world.StatsOf("fake:a").connects, 0u);
  }
  EXPECT_EQ(world.StatsOf("fake:a").queued, 2u);
  EXPECT_EQ(world.StatsOf("fake:a").connects, 0u);
  world.loop.RunUntilIdle();
  for (const char* site : {"a", "b"}) {
    EXPECT_EQ(world.fake->at(site).parked.size(), 2u) << site;
    EXPECT_THAT(world.End(site), HasSubstr(R"({"n":"1"})"));
    EXPECT_THAT(world.End(site), HasSubstr(R"({"n":"2"})"));
  }
  for (const World::Raised& one : raised) EXPECT_EQ(one.outcome(), DeliveryResult::Outcome::kDelivered);
}

TEST(Cork, TheBoundOfAQueueHoldsUnderIt) {
  EndpointLimits limits;
  limits.queue_events = 100;
  World world(limits);
  world.Subscribe("E", "fake:a?timeout=1m");
  uint32_t accepted = 0;
  {
    Cork cork;
    for (int i = 0; i < 150; ++i) accepted += world.Raise("E").receipt.accepted;
  }
  EXPECT_EQ(accepted, 100u);
  const EndpointStats stats = world.StatsOf("fake:a?timeout=1m");
  EXPECT_EQ(stats.offered, 150u);
  EXPECT_EQ(stats.accepted, 100u);
  EXPECT_EQ(stats.full, 50u);
  EXPECT_EQ(stats.queued, 100u);
}

TEST(Endpoint, ABurstMayFollowAnotherWhosePlacesWereGivenBack) {
  World world;
  world.fake->at("a").window = 1000;
  world.Subscribe("E", "fake:a");
  for (int burst = 0; burst < 3; ++burst) {
    std::vector<World::Raised> raised;
    {
      Cork cork;
      for (int i = 0; i < 1000; ++i) raised.push_back(world.Raise("E", absl::StrCat(i)));
    }
    world.loop.RunUntilIdle();
    ASSERT_EQ(world.fake->at("a").parked.size(), 1000u);
    for (int i = 0; i < 1000; ++i) ASSERT_THAT(world.End("a"), HasSubstr(absl::StrCat(R"({"n":")", i, "\"")));
    for (const World::Raised& one : raised) ASSERT_EQ(one.outcome(), DeliveryResult::Outcome::kDelivered);
    world.loop.Advance(absl::Minutes(1));  // the timer looks, and finds nothing to do
  }
  // Of the fourth, half is still out when the timer looks.
  for (int i = 0; i < 1000; ++i) world.Raise("E");
  for (int i = 0; i < 500; ++i) world.End("a");
  world.loop.Advance(absl::Minutes(1));
  EXPECT_EQ(world.StatsOf("fake:a").timed_out, 500u);
  EXPECT_EQ(world.StatsOf("fake:a").ok, 3500u);
}

TEST(Cork, WhatItHoldsKeepsItsOrderAndEndsWithTheEndpoint) {
  World world;
  world.Subscribe("E", "fake:a");
  std::vector<World::Raised> raised;
  {
    Cork cork;
    for (int i = 0; i < 200; ++i) raised.push_back(world.Raise("E", absl::StrCat(i)));
  }
  world.loop.RunUntilIdle();
  for (int i = 0; i < 100; ++i) EXPECT_THAT(world.End("a"), HasSubstr(absl::StrCat(R"({"n":")", i, "\"")));
  {
    Cork cork;
    raised.push_back(world.Raise("E"));
    raised.push_back(world.Raise("E"));
    world.pool.CloseAll();
  }
  world.loop.RunUntilIdle();
  for (const World::Raised& one : raised) EXPECT_TRUE(one.ended());
  EXPECT_EQ(raised.back().outcome(), DeliveryResult::Outcome::kFailed);
}

TEST(Delivery, TotalTimeoutEndsTheEventAcrossAttempts) {
  World world;
  SubscriptionSpec spec = world.Spec("E", "virtual:FAILOVER fake:a fake:b fake:c");
  spec.delivery.total_timeout = absl::Milliseconds(1500);
  ASSERT_TRUE(world.registry.Subscribe(spec).ok());
  auto raised = world.Raise("E");
  world.loop.Advance(absl::Milliseconds(1600));
  ASSERT_TRUE(raised.ended());
  EXPECT_EQ(raised.outcome(), Outcome::kFailed);
  EXPECT_EQ(raised.attempts().size(), 2u);
}

TEST(Delivery, TheSameSocketTwiceIsDeliveredTwice) {
  World world;
  world.Subscribe("E", "virtual:PARALLEL fake:a fake:a");
  world.Raise("E");
  EXPECT_EQ(world.fake->at("a").parked.size(), 2u);
}

TEST(Filters, AnEventThatIsNotWantedIsCountedAndNotSent) {
  World world;
  SubscriptionSpec spec = world.Spec("E", "fake:a");
  spec.filter = "n=1*";
  const std::string name = world.registry.Subscribe(spec)->info.name;
  world.Subscribe("E", "fake:b");
  auto wanted = world.Raise("E", "12");
  EXPECT_EQ(wanted.receipt.matched, 2u);
  EXPECT_THAT(world.End("a"), HasSubstr("12"));
  world.End("b");
  auto unwanted = world.Raise("E", "21");
  EXPECT_EQ(unwanted.receipt.matched, 1u);
  EXPECT_EQ(unwanted.receipt.filtered, 1u);
  EXPECT_FALSE(world.fake->at("a").has_parcel());
  world.End("b");
  ASSERT_EQ((*unwanted.results)->size(), 2u);
  EXPECT_EQ((**unwanted.results)[0].outcome, Outcome::kDelivered);
  EXPECT_EQ((**unwanted.results)[1].outcome, Outcome::kFiltered);
  EXPECT_EQ((**unwanted.results)[1].subscription->name(), name);
  const SubscriptionInfo info = *world.registry.Get(name);
  EXPECT_EQ(info.matched, 2u);
  EXPECT_EQ(info.delivered, 1u);
  EXPECT_EQ(info.filtered, 1u);
}

TEST(Filters, AnEventThatNobodyWantsEndsAtOnceAndTellsOfAHundredAtMost) {
  World world;
  for (int i = 0; i < 150; ++i) {
    SubscriptionSpec spec = world.Spec("E", "fake:a");
    spec.filter = absl::StrCat("n=", i);
    EV_CHECK(world.registry.Subscribe(spec).ok());
  }
  auto raised = world.Raise("E", "none");
  EXPECT_EQ(raised.receipt.matched, 0u);
  EXPECT_EQ(raised.receipt.filtered, 150u);
  ASSERT_TRUE(raised.ended());
  EXPECT_EQ((*raised.results)->size(), kMaxFilteredResults);
}

TEST(Patterns, ARaiseReachesThoseWhoAskedForTheNameAndThoseWhoAskedForItsBeginning) {
  World world;
  world.Subscribe("E_UL_*", "virtual:FAILOVER fake:a fake:b");
  world.Subscribe("E_UL_INSERT", "fake:c");
  auto raised = world.Raise("E_UL_INSERT");
  EXPECT_EQ(raised.receipt.matched, 2u);
  world.End("a", kNack);
  EXPECT_THAT(world.End("b"), HasSubstr("E_UL_INSERT")) << "the name that was raised, not the pattern";
  world.End("c");
  EXPECT_TRUE(raised.ended());
  EXPECT_EQ(world.Raise("E_DIALOG").receipt.matched, 0u);
}

// What an observer is told, a line each.
class Heard final : public DeliveryObserver {
 public:
  void OnDelivery(const Message& message, const DeliveryResult& delivery) override {
    std::string line = absl::StrCat(message.name(), " ", delivery.subscription->event, ":");
    for (const AttemptRecord& attempt : delivery.attempts) {
      absl::StrAppend(&line, " ", delivery.subscription->subscribers[attempt.subscriber].endpoint->target().masked,
                      attempt.result == Result::kOk ? " ok" : " not");
    }
    lines.push_back(std::move(line));
  }
  std::vector<std::string> lines;
};

TEST(Watch, EachDeliveryIsToldAsItEndsAlsoOfARaiseThatNobodyWaitsFor) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  world.Subscribe("E*", "virtual:PARALLEL fake:c fake:d");
  Heard heard;
  world.dispatcher.Watch(&heard);
  EventFields fields;
  fields.name = "E";
  world.dispatcher.Raise(Message::Make(fields), nullptr);
  world.loop.RunUntilIdle();
  world.End("d");
  world.End("c", kNack);
  EXPECT_THAT(heard.lines, ElementsAre("E E*: fake:c not fake:d ok")) << "the other is still out";
  world.End("a", kNack);
  world.End("b");
  EXPECT_THAT(heard.lines, ElementsAre("E E*: fake:c not fake:d ok", "E E: fake:a not fake:b ok"));
  world.dispatcher.Unwatch(&heard);
  world.dispatcher.Raise(Message::Make(fields), nullptr);
  world.loop.Advance(absl::Minutes(1));
  EXPECT_THAT(heard.lines, SizeIs(2));
}

TEST(Watch, WhoWaitsForTheEndIsToldAllTheSame) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  Heard heard;
  world.dispatcher.Watch(&heard);
  auto raised = world.Raise("E");
  world.End("a", kNack);
  world.End("b");
  EXPECT_THAT(raised.attempts(), SizeIs(2));
  EXPECT_THAT(heard.lines, SizeIs(1));
  world.dispatcher.Unwatch(&heard);
}

}  // namespace
}  // namespace eventvirtual
