// Every event is in exactly one place, at any moment, and what has gone stays in the sums.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/server/dispatch/world.h"

namespace eventvirtual {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

const absl::Status kNack = absl::UnavailableError("nack");

// The sums of one event and transport.
DeliveryCounts SumOf(World& world, const std::string& event, const std::string& transport = "fake") {
  for (const DeliveryLedger::Row& row : world.registry.TakeAudit().deliveries) {
    if (row.account->event == event && row.account->transport == transport) return row.counts;
  }
  return {};
}

EndpointBooks AttemptsOf(World& world) {
  EndpointBooks books;
  world.pool.TakeAudit(10, [&](const EndpointPool::Audit& audit) { books = audit.transports.at("fake").books; });
  world.loop.RunUntilIdle();
  return books;
}

TEST(Books, BalanceAfterEachStepOfEveryWayToEnd) {
  World world;
  const std::string name = world.Subscribe("E", "virtual:PARALLEL fake:a fake:b");
  world.Subscribe("E", "virtual:FAILOVER fake:c fake:a");
  SubscriptionSpec filtered = world.Spec("E", "fake:a");
  filtered.filter = "n=1";
  ASSERT_TRUE(world.registry.Subscribe(filtered).ok());
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 3; ++i) world.Raise("E", absl::StrCat(i));
    EXPECT_EQ(world.Imbalance(), 0u);
    world.End("a", round % 2 == 0 ? absl::OkStatus() : kNack);
    EXPECT_EQ(world.Imbalance(), 0u);
    world.End("b", kNack);
    world.End("c", kNack);
    EXPECT_EQ(world.Imbalance(), 0u);
    if (round == 2) world.fake->CloseLink("b", absl::UnavailableError("closed"));
    world.loop.Advance(absl::Milliseconds(400));  // the rest waits, or times out in a later round
    EXPECT_EQ(world.Imbalance(), 0u);
  }
  EXPECT_GT(SumOf(world, "E").pending, 0u);
  ASSERT_TRUE(world.registry.Unsubscribe(name).ok());  // what waits for it is not wanted any more
  EXPECT_EQ(world.Imbalance(), 0u);
  world.loop.Advance(absl::Minutes(1));
  EXPECT_EQ(world.Imbalance(), 0u);

  const DeliveryCounts sum = SumOf(world, "E");
  EXPECT_EQ(sum.matched, 4u * 3 * 3);
  EXPECT_EQ(sum.filtered, 4u * 2);
  EXPECT_EQ(sum.pending, 0u);
  EXPECT_EQ(sum.matched, sum.delivered + sum.partial + sum.failed + sum.filtered + sum.expired);
  const EndpointBooks attempts = AttemptsOf(world);
  EXPECT_EQ(attempts.offered, attempts.accepted + attempts.full + attempts.down);
  EXPECT_EQ(attempts.accepted, attempts.ok + attempts.failed + attempts.timed_out + attempts.unwanted);
  EXPECT_GT(attempts.timed_out, 0u);
}

TEST(Books, WhatIsOutWhenItsSubscriptionEndsIsCountedWhenItEnds) {
  World world;
  const std::string name = world.Subscribe("E", "fake:a");
  world.Raise("E");
  world.Raise("E");
  world.End("a");
  EXPECT_EQ(SumOf(world, "E").delivered, 1u);
  ASSERT_TRUE(world.registry.Unsubscribe(name).ok());
  world.loop.Advance(absl::Milliseconds(100));  // the registry has let go of it
  EXPECT_EQ(SumOf(world, "E").delivered, 1u);
  EXPECT_EQ(SumOf(world, "E").pending, 1u);
  world.End("a");
  EXPECT_EQ(SumOf(world, "E").delivered, 2u);
  EXPECT_EQ(SumOf(world, "E").pending, 0u);
  world.loop.Advance(absl::Seconds(1));  // and its endpoint is gone, too
  EXPECT_EQ(AttemptsOf(world).ok, 2u);
  EXPECT_EQ(AttemptsOf(world).in_flight, 0u);
}

TEST(Books, WhatGoesBehindTheBackOfAnAuditCountsOnce) {
  World world;  // the ledger never looks into a subscription that was visited
  const auto* const subscription = reinterpret_cast<const Subscription*>(&world);
  DeliveryLedger ledger;
  DeliveryLedger::Account& account = ledger.AccountOf("E", "fake");
  DeliveryCounts when_visited, last;
  when_visited.matched = 3;
  last.matched = 5;
  ledger.Leave(subscription, /*visited=*/true);
  ledger.Close(subscription, account, last);
  EXPECT_EQ(ledger.Finish({{&account, when_visited}})[0].counts.matched, 3u);
  EXPECT_EQ(ledger.Finish({})[0].counts.matched, 5u);
}

TEST(Books, AnEventHasTheTransportThatItsSubscribersHaveInCommon) {
  World world;
  world.Subscribe("E", "virtual:PARALLEL fake:a fake:b");
  world.Subscribe("E*", "fake:a");
  world.Raise("E");
  EXPECT_EQ(SumOf(world, "E").matched, 1u);
  EXPECT_EQ(SumOf(world, "E*").matched, 1u);
}

TEST(Books, ManyNamesShareOneRowAndNoneLosesTheOneThatItHas) {
  World world;
  constexpr size_t kMany = DeliveryLedger::kMaxAccounts + 50;
  for (size_t round = 1; round <= 2; ++round) {
    for (size_t i = 0; i < kMany; ++i) {
      const std::string event = absl::StrCat("E_", i);
      const std::string name = world.Subscribe(event, "fake:a");
      world.Raise(event);
      world.End("a");
      ASSERT_TRUE(world.registry.Unsubscribe(name).ok());
    }
    EXPECT_EQ(SumOf(world, "E_0").delivered, round);
    EXPECT_EQ(SumOf(world, absl::StrCat("E_", DeliveryLedger::kMaxAccounts - 1)).delivered, round);
    EXPECT_EQ(SumOf(world, "other").delivered, 50 * round);
  }
  const Registry::Audit audit = world.registry.TakeAudit();
  EXPECT_EQ(audit.deliveries.size(), DeliveryLedger::kMaxAccounts + 1);
  uint64_t raises = audit.other_raises;
  for (const auto& [event, count] : audit.raises) raises += count;
  EXPECT_EQ(raises, 2 * kMany);
  EXPECT_EQ(audit.other_raises, 2 * 50u);
}

TEST(Books, RaisesOfNamesThatAreForgottenStayInTheSum) {
  RegistryLimits limits;
  limits.max_events = 1;
  World world({}, limits);
  for (int i = 0; i < 3; ++i) {
    const std::string event = absl::StrCat("E_", i);
    const std::string name = world.Subscribe(event, "fake:a");
    world.Raise(event);
    ASSERT_TRUE(world.registry.Unsubscribe(name).ok());
  }
  EXPECT_THAT(world.registry.TakeAudit().raises, ElementsAre(Pair("E_0", 1), Pair("E_1", 1), Pair("E_2", 1)));
  EXPECT_EQ(world.registry.TakeAudit().events, 1u);
}

TEST(Books, OperatorsSeeThoseFirstThatFailAndTheOthersTogether) {
  World world;
  for (const char* site : {"a", "b", "c", "d"}) world.Subscribe("E", absl::StrCat("fake:", site));
  world.Raise("E");
  world.End("a");
  world.End("b", kNack);
  world.End("d");
  EndpointPool::Audit audit;
  world.pool.TakeAudit(2, [&](EndpointPool::Audit taken) { audit = std::move(taken); });
  world.loop.RunUntilIdle();
  ASSERT_EQ(audit.foremost.size(), 2u);
  EXPECT_EQ(audit.foremost[0].uri, "fake:b");  // fails
  EXPECT_EQ(audit.foremost[1].uri, "fake:c");  // has something out
  EXPECT_EQ(audit.others.ok, 2u);
  EXPECT_EQ(audit.transports.at("fake").endpoints, 4u);
  EXPECT_EQ(audit.transports.at("fake").failing, 1u);
  EXPECT_EQ(audit.transports.at("fake").books.accepted, 4u);
  EXPECT_EQ(audit.lags.size(), 1u);
}

}  // namespace
}  // namespace eventvirtual
