// Stories of durable delivery: what is acknowledged is delivered, in this life or in a later one.
#include "server/durable/durable_delivery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/server/durable/life.h"
#include "tests/transports/io/temporary_folder.h"

namespace eventvirtual {
namespace {

using Outcome = DeliveryResult::Outcome;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const absl::Status kNack = absl::UnavailableError("nack");

void ExpectBooksBalance(const SubscriptionInfo& info, uint64_t pending) {
  EXPECT_EQ(info.matched, info.delivered + info.partial + info.failed + info.filtered + info.expired + info.dropped +
                              info.dead_lettered + pending);
}

class DurableTest : public testing::Test {
 protected:
  const TemporaryFolder temporary_;
  const std::string folder_ = temporary_ / "data";
};

TEST_F(DurableTest, AnEventIsInTheJournalBeforeItIsAcknowledgedAndBeforeItIsSent) {
  Life life(folder_);
  const std::string name = life.Subscribe("E", "fake:a");
  const Life::Raised raised = life.Raise("E", 1);
  EXPECT_EQ(raised.receipt.matched, 1u);
  EXPECT_EQ(raised.receipt.durable, 1u);
  EXPECT_EQ(raised.receipt.accepted, 0u);
  life.AwaitJournal();
  EXPECT_FALSE(raised.committed->has_value());
  EXPECT_FALSE(life.Has("a"));
  life.Settle();
  ASSERT_TRUE(raised.committed->has_value());
  EXPECT_TRUE((*raised.committed)->ok());
  EXPECT_EQ(life.End("a"), "id-1");
  EXPECT_EQ(life.Info(name).delivered, 1u);
  ExpectBooksBalance(life.Info(name), 0);
}

TEST_F(DurableTest, WhatWasNotDeliveredIsDeliveredInTheNextLifeInOrderWithItsIds) {
  {
    Life life(folder_);
    life.world.fake->at("a").window = 2;
    life.Subscribe("E", "fake:a");
    for (int i = 1; i <= 5; ++i) life.Raise("E", i);
    life.Settle();
    EXPECT_EQ(life.End("a"), "id-1");
  }
  for (int lives = 0; lives < 2; ++lives) {
    Life life(folder_);
    ASSERT_TRUE(life.Has("a")) << lives;
  }
  Life life(folder_);
  life.Raise("E", 6);
  life.Settle();
  std::vector<std::string> arrived;
  while (life.Has("a")) arrived.push_back(life.End("a"));
  EXPECT_THAT(arrived, ElementsAre("id-2", "id-3", "id-4", "id-5", "id-6"));
  const SubscriptionInfo info = life.world.registry.List("", 0, 10).subscriptions[0];
  EXPECT_EQ(info.delivered, 5u);
  ExpectBooksBalance(info, 0);
}

TEST_F(DurableTest, WhatWasDeliveredDoesNotComeAgain) {
  {
    Life life(folder_);
    life.Subscribe("E", "fake:a");
    for (int i = 1; i <= 3; ++i) life.Raise("E", i);
    life.Settle();
    for (int i = 1; i <= 3; ++i) life.End("a");
  }
  Life life(folder_);
  EXPECT_FALSE(life.Has("a"));
}

// The middle one of what is out fails: the others of its time end, and nothing overtakes it any more.
TEST_F(DurableTest, AfterAFailedRoundAllThatFollowsWaitsForItsRetry) {
  Life life(folder_);
  life.world.fake->at("a").window = 3;
  const std::string name = life.Subscribe("E", "fake:a");
  for (int i = 1; i <= 6; ++i) life.Raise("E", i);
  life.Settle();
  life.End("a");
  life.End("a", kNack);
  std::vector<std::string> arrived;
  while (life.Has("a")) arrived.push_back(life.End("a"));  // what was out
  life.Raise("E", 7);
  life.Settle();
  EXPECT_FALSE(life.Has("a")) << "it pauses";
  life.Advance(absl::Seconds(1));
  ASSERT_TRUE(life.Has("a"));
  EXPECT_THAT(life.world.fake->at("a").parked, SizeIs(1)) << "one finds out";
  EXPECT_EQ(life.End("a"), "id-2");
  while (life.Has("a")) arrived.push_back(life.End("a"));
  EXPECT_THAT(arrived, ElementsAre("id-3", "id-4", "id-5", "id-6", "id-7"));
  ExpectBooksBalance(life.Info(name), 0);
}

TEST_F(DurableTest, WhoIsDownIsTriedAgainWithOneEventAndLongerAndLongerPauses) {
  Life life(folder_);
  life.world.fake->at("a").connect_error = absl::UnavailableError("connection refused");
  const std::string name = life.Subscribe("E", "fake:a?timeout=1h");
  for (int i = 1; i <= 100; ++i) life.Raise("E", i);
  life.Settle();
  const int first = life.world.fake->at("a").connects;
  life.Advance(absl::Minutes(10));
  const int retries = life.world.fake->at("a").connects - first;
  EXPECT_GE(retries, 20) << "at least one in 30 s";
  EXPECT_LE(retries, 120) << "15 s on average";
  ExpectBooksBalance(life.Info(name), 100);
  life.world.fake->at("a").connect_error = absl::OkStatus();
  life.Advance(absl::Seconds(31));
  for (int i = 1; i <= 100; ++i) EXPECT_EQ(life.End("a"), absl::StrCat("id-", i));
  ExpectBooksBalance(life.Info(name), 0);
}

TEST_F(DurableTest, WithFailoverARoundGoesThroughAllSubscribers) {
  Life life(folder_);
  life.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  life.Raise("E", 1);
  life.Settle();
  life.End("a", kNack);
  life.End("b", kNack);
  life.Advance(absl::Seconds(2));
  ASSERT_TRUE(life.Has("a")) << "it failed longest ago";
  life.End("a", kNack);
  EXPECT_EQ(life.End("b"), "id-1");
  life.Advance(absl::Minutes(2));
  EXPECT_FALSE(life.Has("a") || life.Has("b"));
}

TEST_F(DurableTest, ParallelTriesOnlyThoseAgainThatDoNotHaveItAlsoInTheNextLife) {
  {
    Life life(folder_);
    life.Subscribe("E", "virtual:PARALLEL fake:a fake:b fake:c");
    life.Raise("E", 1);
    life.Settle();
    life.End("a");
    life.End("b", kNack);
    life.End("c", kNack);
    life.Advance(absl::Seconds(1));
    EXPECT_FALSE(life.Has("a"));
    life.End("b", kNack);
    life.End("c");
  }
  Life life(folder_);
  EXPECT_FALSE(life.Has("a") || life.Has("c"));
  EXPECT_EQ(life.End("b"), "id-1");
  EXPECT_EQ(life.world.registry.List("", 0, 10).subscriptions[0].delivered, 1u);
  life.Advance(absl::Minutes(1));
  EXPECT_FALSE(life.Has("a") || life.Has("b") || life.Has("c"));
}

TEST_F(DurableTest, WhatIsNotDeliveredInItsTimeBecomesADeadLetterWithItsAttempts) {
  Life life(folder_);
  DeliveryOptions options;
  options.total_timeout = absl::Seconds(40);
  const std::string name = life.Subscribe("E", "fake:me:s3cr3t@a", options);
  life.Raise("E", 1);
  life.Raise("E", 2);
  life.Settle();
  while (life.Has("a")) life.End("a", kNack);
  for (int second = 0; second < 38; ++second) {
    life.Advance(absl::Seconds(1));
    while (life.Has("a")) life.End("a", kNack);
  }
  EXPECT_THAT(life.DeadLetters(), IsEmpty());
  life.Advance(absl::Seconds(3));
  const std::vector<SavedDeadLetter> letters = life.DeadLetters();
  ASSERT_THAT(letters, SizeIs(2));
  EXPECT_EQ(letters[0].event, "E");
  EXPECT_EQ(absl::StrCat("subscriptions/", letters[0].subscription), name);
  EXPECT_THAT(letters[0].reason, HasSubstr("total_timeout: not delivered within 40s"));
  EXPECT_GE(letters[0].attempts, 2u);
  const absl::StatusOr<KeptEvent> event = DecodeEvent(letters[0].record);
  ASSERT_TRUE(event.ok());
  EXPECT_EQ(event->message->event_id(), "id-1");
  EXPECT_EQ(life.Info(name).dead_lettered, 2u);
  ExpectBooksBalance(life.Info(name), 0);
  life.Advance(absl::Minutes(5));
  EXPECT_FALSE(life.Has("a"));
}

// What an operator sees of one that is stuck, over two lives.
TEST_F(DurableTest, WhatWaitsIsCountedAndHowLongAlsoInTheNextLife) {
  const auto audit = [](Life& life, size_t foremost) {
    DurableAudit taken;
    life.durable->TakeAudit(foremost, [&taken](DurableAudit all) { taken = std::move(all); });
    life.Settle();
    return taken;
  };
  {
    Life life(folder_);
    const std::string stuck = life.Subscribe("E", "fake:a?timeout=1h");
    const std::string fine = life.Subscribe("F", "fake:b?timeout=1h");
    EXPECT_EQ(audit(life, 10).queues, 0u);
    life.world.fake->at("a").connect_error = absl::UnavailableError("connection refused");
    for (int i = 1; i <= 5; ++i) life.Raise("E", i);
    life.Settle();
    life.Advance(absl::Minutes(20));
    for (int i = 6; i <= 8; ++i) life.Raise("F", i);
    life.Settle();
    DurableAudit all = audit(life, 1);
    EXPECT_EQ(all.events, 8u);
    EXPECT_EQ(all.queues, 2u);
    EXPECT_EQ(all.failing, 1u);
    EXPECT_GE(all.oldest, absl::Minutes(20));
    ASSERT_THAT(all.foremost, SizeIs(1)) << "the oldest";
    EXPECT_EQ(all.foremost[0].subscription, stuck);
    EXPECT_EQ(all.foremost[0].events, 5u);
    EXPECT_TRUE(all.foremost[0].failing);
    while (life.Has("b")) life.End("b");
    all = audit(life, 10);
    EXPECT_EQ(all.events, 5u);
    EXPECT_EQ(all.queues, 1u) << "what is empty is not listed";
  }
  Life life(folder_);
  DurableAudit all = audit(life, 10);
  EXPECT_EQ(all.events, 5u);
  while (life.Has("a")) life.End("a");
  all = audit(life, 10);
  EXPECT_EQ(all.events, 0u);
  EXPECT_EQ(all.oldest, absl::ZeroDuration());
}

TEST_F(DurableTest, StaleEventsAreNotSent) {
  {
    Life life(folder_);
    life.world.fake->at("a").connect_error = absl::UnavailableError("connection refused");
    DeliveryOptions options;
    options.max_event_age = absl::Milliseconds(1);
    life.Subscribe("E", "fake:a", options);
    life.world.loop.Advance(absl::Seconds(1));  // of the simulated time, which the next life does not have
    life.Raise("E", 1);
    life.Settle();
  }
  Life life(folder_);
  life.Advance(absl::Seconds(5));
  EXPECT_FALSE(life.Has("a"));
  ASSERT_THAT(life.DeadLetters(), SizeIs(1));
  EXPECT_THAT(life.DeadLetters()[0].reason, HasSubstr("max_event_age"));
}

TEST_F(DurableTest, MaxAttemptsCountOverAllRoundsAndEndIt) {
  Life life(folder_);
  DeliveryOptions options;
  options.max_attempts = 3;
  life.Subscribe("E", "virtual:FAILOVER fake:a fake:b", options);
  life.Raise("E", 1);
  life.Settle();
  life.End("a", kNack);
  life.End("b", kNack);
  life.Advance(absl::Seconds(1));
  life.End("a", kNack);
  EXPECT_FALSE(life.Has("b"));
  ASSERT_THAT(life.DeadLetters(), SizeIs(1));
  EXPECT_EQ(life.DeadLetters()[0].attempts, 3u);
  EXPECT_THAT(life.DeadLetters()[0].reason, HasSubstr("max_attempts: all 3 have failed"));
}

TEST_F(DurableTest, WhatCanNeverBeTakenDoesNotHoldUpTheOthers) {
  Life life(folder_);
  life.world.fake->at("a").window = 1;
  life.Subscribe("E", "fake:a");
  life.Raise("E", 1);
  life.Raise("E", 2);
  life.Settle();
  life.End("a", absl::InvalidArgumentError("too large"));
  EXPECT_EQ(life.End("a"), "id-2");
  ASSERT_THAT(life.DeadLetters(), SizeIs(1));
  EXPECT_THAT(life.DeadLetters()[0].reason, HasSubstr("refused"));
}

TEST_F(DurableTest, ASubscriptionThatEndsLeavesItsEventsAsDeadLettersAndGetsNothingMore) {
  for (const bool expires : {true, false}) {
    Life life(folder_);
    life.world.fake->at("a").window = 1;
    SubscriptionSpec spec = life.world.Spec("E", "fake:a");
    spec.delivery.durable = true;
    spec.expires = life.world.loop.Now() + absl::Seconds(5);
    const std::string name = life.world.registry.Subscribe(spec)->info.name;
    for (int i = 1; i <= 3; ++i) life.Raise("E", i);
    life.Settle();
    if (expires) {
      life.Advance(absl::Seconds(6));
    } else {
      ASSERT_TRUE(life.world.registry.Unsubscribe(name).ok());
      life.Settle();
    }
    if (life.Has("a")) life.End("a");  // it was out
    EXPECT_FALSE(life.Has("a"));
    const std::vector<SavedDeadLetter> letters = life.DeadLetters();
    ASSERT_THAT(letters, SizeIs(expires ? 3 : 5)) << "one was in time, unless its own time was over";
    EXPECT_EQ(letters.back().reason, expires ? "the subscription expired" : "unsubscribed");
    // The same again is another one: it does not get what belonged to the first.
    spec.expires = absl::InfiniteFuture();
    ASSERT_TRUE(life.world.registry.Subscribe(spec).ok());
    life.Settle();
    EXPECT_FALSE(life.Has("a"));
    ASSERT_TRUE(life.world.registry.UnsubscribeMatch(spec).ok());
    life.Settle();
  }
}

TEST_F(DurableTest, WhatIsLeftOfASubscriptionThatEndedWhileNobodyLookedBecomesDeadLetters) {
  {
    Life life(folder_);
    life.world.fake->at("a").connect_error = absl::UnavailableError("connection refused");
    SubscriptionSpec spec = life.world.Spec("E", "fake:a");
    spec.delivery.durable = true;
    spec.id = "billing";
    spec.expires = life.world.loop.Now() + absl::Nanoseconds(1000);  // by the wall's time it is over in the next life
    ASSERT_TRUE(life.world.registry.Subscribe(spec).ok());
    life.Raise("E", 1);
    life.Settle();
  }
  Life life(folder_);
  ASSERT_THAT(life.DeadLetters(), SizeIs(1));
  EXPECT_EQ(life.DeadLetters()[0].subscription, "billing");
  EXPECT_EQ(life.DeadLetters()[0].event, "E");
}

TEST_F(DurableTest, HowManyEventsWaitDoesNotMatterToMemory) {
  DurableLimits limits;
  limits.loaded_events = 20;
  Life life(folder_, limits);
  life.world.fake->at("a").window = 1;
  life.world.fake->at("b").window = 1;
  life.Subscribe("E_A", "fake:a?timeout=1h");
  life.Subscribe("E_B", "fake:b?timeout=1h");
  for (int i = 0; i < 300; ++i) {
    life.Raise("E_A", i);
    life.Raise("E_B", i);
  }
  life.Settle();
  EXPECT_LE(life.world.StatsOf("fake:a?timeout=1h").queued, 20u);
  for (int i = 0; i < 300; ++i) {
    ASSERT_TRUE(life.Has("a") && life.Has("b")) << i;
    EXPECT_EQ(life.End("a"), absl::StrCat("id-", i));
    EXPECT_EQ(life.End("b"), absl::StrCat("id-", i));
  }
}

// What was delivered and not yet erased may come again after a crash: never more than the window.
TEST_F(DurableTest, NoMoreIsOutOrNotYetErasedThanTheWindow) {
  Life life(folder_);
  life.world.fake->at("a").window = 5000;
  life.Subscribe("E", "fake:a?timeout=1h");
  for (int i = 0; i < 1000; ++i) life.Raise("E", i);
  life.Settle();
  EXPECT_THAT(life.world.fake->at("a").parked, SizeIs(DurableQueue::kWindow));
  // The first does not end: all others may, and none beyond the window begins.
  FakeTransport::Site& site = life.world.fake->at("a");
  Parcel first = std::move(site.parked.front());
  site.parked.pop_front();
  while (life.Has("a")) life.End("a");
  EXPECT_EQ(life.world.StatsOf("fake:a?timeout=1h").ok, 999u) << "those that are erased make room";
  std::move(first.done).Finish(absl::OkStatus());
  life.Settle();
}

TEST_F(DurableTest, WithAFullJournalDurableEventsAreRefusedAndOthersGoOn) {
  Life life(folder_, {}, 300000);
  life.world.fake->at("a").connect_error = absl::UnavailableError("connection refused");
  const std::string name = life.Subscribe("E", "fake:a?timeout=1h");
  life.world.Subscribe("E_MEMORY", "fake:b");
  absl::Status refused;
  int taken = 0;
  for (int i = 0; refused.ok() && i < 10000; ++i) {
    const Life::Raised raised = life.Raise("E", i);
    life.Settle();
    ASSERT_TRUE(raised.committed->has_value());
    refused = **raised.committed;
    taken += refused.ok();
  }
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--journal_max_bytes"));
  EXPECT_GT(taken, 100);
  EXPECT_EQ(life.Info(name).dropped, 1u);
  ExpectBooksBalance(life.Info(name), taken);
  EXPECT_EQ(life.Raise("E_MEMORY", 1).receipt.accepted, 1u);
  life.world.fake->at("a").connect_error = absl::OkStatus();
  life.Advance(absl::Seconds(31));
  while (life.Has("a")) life.End("a");
  const Life::Raised again = life.Raise("E", 1);
  life.Settle();
  EXPECT_TRUE((*again.committed)->ok()) << "there is room again";
}

TEST_F(DurableTest, WhoWaitsForTheEndHearsOfBothKindsAndOfWhatIsTriedAgain) {
  Life life(folder_);
  const std::string durable = life.Subscribe("E", "fake:a");
  life.world.Subscribe("E", "fake:b");
  const Life::Raised raised = life.Raise("E", 1, /*wait=*/true);
  EXPECT_EQ(raised.receipt.matched, 2u);
  EXPECT_EQ(raised.receipt.accepted, 1u);
  life.Settle();
  life.End("a", kNack);
  EXPECT_THAT(*raised.results, IsEmpty());
  life.End("b");
  ASSERT_THAT(*raised.results, SizeIs(2));
  for (const DeliveryResult& result : *raised.results) {
    const bool kept = result.subscription->name() == durable;
    EXPECT_EQ(result.outcome, kept ? Outcome::kPending : Outcome::kDelivered);
    EXPECT_THAT(result.attempts, SizeIs(1));
  }
  const Life::Raised behind = life.Raise("E", 2, /*wait=*/true);
  life.Settle();
  life.End("b");
  ASSERT_THAT(*behind.results, SizeIs(2)) << "its turn may come late: it is not waited for";
}

TEST_F(DurableTest, WhatIsDemandedToBeDurableIsNotRaisedWhereNothingIs) {
  Life life(folder_);
  life.world.Subscribe("E", "fake:b");
  EventFields fields;
  fields.name = "E";
  const RaiseReceipt receipt =
      life.world.dispatcher.Raise(Message::Make(fields), nullptr, life.world.loop.Now(), Demand::kDurable);
  life.Settle();
  EXPECT_EQ(receipt.matched, 1u);
  EXPECT_EQ(receipt.accepted + receipt.durable, 0u);
  EXPECT_FALSE(life.Has("b"));
}

TEST_F(DurableTest, ADurableSubscriptionStaysDurableAndAnotherDoesNotBecomeIt) {
  Life life(folder_);
  const std::string name = life.Subscribe("E", "fake:a");
  EXPECT_EQ(life.world.Subscribe("E", "fake:a"), name) << "refreshed";
  EXPECT_TRUE(life.Info(name).delivery.durable);
  life.world.Subscribe("F", "fake:a");
  SubscriptionSpec spec = life.world.Spec("F", "fake:a");
  spec.delivery.durable = true;
  EXPECT_EQ(life.world.registry.Subscribe(spec).status().code(), absl::StatusCode::kFailedPrecondition);
  World without_journal;
  const absl::Status refused = without_journal.registry.Subscribe(spec).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--data_dir=DIR"));
}

}  // namespace
}  // namespace eventvirtual
