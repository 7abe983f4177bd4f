#include "server/load/load.h"

#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <utility>

#include "tests/server/dispatch/world.h"
#include "transports/api/message.h"
#include "transports/testing/simulated_loop.h"

namespace eventvirtual {
namespace {

// A loop that is late: what is posted to it waits until its time has come.
class LateLoop final : public Loop {
 public:
  explicit LateLoop(const Clock& clock) : clock_(clock) {}

  absl::Time Now() const override { return clock_.Now(); }
  bool OnLoop() const override { return true; }
  void Post(absl::AnyInvocable<void() &&> task) override { tasks_.emplace_back(Now() + wait, std::move(task)); }
  std::unique_ptr<Timer> NewTimer(absl::AnyInvocable<void()>) override { return nullptr; }
  std::unique_ptr<Watch> NewWatch(int, absl::AnyInvocable<void(Readiness)>) override { return nullptr; }

  void RunDue() {
    while (!tasks_.empty() && tasks_.front().first <= Now()) {
      absl::AnyInvocable<void()&&> task = std::move(tasks_.front().second);
      tasks_.pop_front();
      std::move(task)();
    }
  }

  absl::Duration wait;

 private:
  const Clock& clock_;
  std::deque<std::pair<absl::Time, absl::AnyInvocable<void() &&>>> tasks_;
};

class LoadTest : public ::testing::Test {
 protected:
  LoadTest() {
    load.Start(looking);
    load.OnBusy();
  }

  void Pass(absl::Duration duration) {
    for (absl::Duration passed; passed < duration; passed += absl::Milliseconds(1)) {
      looking.Advance(absl::Milliseconds(1));
      late.RunDue();
    }
  }
  size_t refused_works() const { return load.figures().refused_works; }

  SimulatedLoop looking;
  LateLoop late{looking};
  uint64_t pending = 10000;
  int looks = 0;
  Load load{{&late}, [this] {
              ++looks;
              return pending;
            }};
};

TEST_F(LoadTest, TheLongerTasksWaitTheMoreIsRefusedAndWatchingIsTheFirst) {
  late.wait = absl::Milliseconds(40);
  Pass(absl::Seconds(2));
  EXPECT_EQ(refused_works(), 0u);
  EXPECT_EQ(load.figures().wait, absl::Milliseconds(40));
  late.wait = absl::Milliseconds(60);
  Pass(absl::Seconds(2));
  EXPECT_TRUE(load.Refuses(Load::Work::kWatching));
  EXPECT_FALSE(load.Refuses(Load::Work::kAccepted));
  late.wait = absl::Milliseconds(150);
  Pass(absl::Seconds(2));
  EXPECT_TRUE(load.Refuses(Load::Work::kAccepted));
  EXPECT_FALSE(load.Refuses(Load::Work::kDelivered));
  late.wait = absl::Seconds(5);
  Pass(absl::Seconds(2));  // the task has not come back yet
  EXPECT_TRUE(load.Refuses(Load::Work::kDelivered));
}

TEST_F(LoadTest, WhoCanWaitIsLetWaitFromTheFirstRefusalUntilTenSecondsAfterTheLast) {
  late.wait = absl::Milliseconds(40);
  Pass(absl::Seconds(2));
  EXPECT_FALSE(load.Paces());
  late.wait = absl::Milliseconds(60);
  Pass(absl::Seconds(1));
  ASSERT_EQ(refused_works(), 1u);
  EXPECT_TRUE(load.Paces());
  late.wait = absl::ZeroDuration();
  Pass(absl::Seconds(9));
  ASSERT_EQ(refused_works(), 0u);
  EXPECT_TRUE(load.Paces());
  Pass(absl::Seconds(2));
  EXPECT_FALSE(load.Paces());
}

TEST_F(LoadTest, ARoundEndsWhenEveryLoopHasDoneWhatItWasGiven) {
  LateLoop one{looking}, other{looking};
  one.wait = absl::Milliseconds(1);
  other.wait = absl::Milliseconds(3);
  const Load two{{&one, &other}, [] { return 0; }};
  int ended = 0;
  two.AfterRound([&ended] { ++ended; });
  looking.Advance(absl::Milliseconds(2));
  one.RunDue();
  other.RunDue();
  EXPECT_EQ(ended, 0);
  looking.Advance(absl::Milliseconds(2));
  other.RunDue();
  EXPECT_EQ(ended, 1);
}

TEST_F(LoadTest, AWaitThatDoesNotLastIsABurst) {
  for (int i = 0; i < 20; ++i) {
    late.wait = absl::Milliseconds(i % 4 == 3 ? 1 : 90);
    Pass(Load::kLook);
    ASSERT_EQ(refused_works(), 0u);
  }
}

TEST_F(LoadTest, WhereLittleIsOnItsWayALateLoopIsSomebodyElsesDoing) {
  pending = Load::kBusy - 1;
  late.wait = absl::Seconds(1);
  Pass(absl::Seconds(5));
  EXPECT_EQ(refused_works(), 0u);
}

TEST_F(LoadTest, AtRestNobodyLooks) {
  pending = 0;
  Pass(absl::Seconds(1));
  EXPECT_EQ(looks, 5);
  Pass(absl::Hours(1));
  EXPECT_EQ(looks, 5);
}

TEST_F(LoadTest, ThatMuchIsOnItsWayIsSeenAtOnceAlsoAfterARest) {
  pending = 0;
  Pass(absl::Seconds(2));
  pending = 10000;
  late.wait = absl::Milliseconds(60);
  load.OnBusy();
  Pass(4 * Load::kLook);
  EXPECT_EQ(refused_works(), 0u);
  Pass(Load::kLook + late.wait);
  EXPECT_EQ(refused_works(), 1u) << "as soon as of one that never rested";
}

TEST_F(LoadTest, BurstsThatEndAtOnceHaveItLookLittleMoreOftenThanWhatLasts) {
  pending = 0;
  Pass(absl::Seconds(1));
  looks = 0;
  for (int i = 0; i < 10000; ++i) {
    load.OnBusy();
    Pass(absl::Milliseconds(1));
  }
  EXPECT_LE(looks, 1.3 * (absl::Seconds(10) / Load::kLook));
}

TEST_F(LoadTest, ItLooksUntilWhatItRefusedIsLongOver) {
  late.wait = absl::Milliseconds(600);
  Pass(absl::Seconds(5));
  ASSERT_EQ(refused_works(), 3u);
  pending = 0;
  Pass(absl::Seconds(1));
  EXPECT_EQ(refused_works(), 0u);
  EXPECT_EQ(load.figures().wait, absl::ZeroDuration());
  EXPECT_TRUE(load.Paces());
  Pass(absl::Seconds(10));
  EXPECT_FALSE(load.Paces());
  looks = 0;
  Pass(absl::Minutes(1));
  EXPECT_EQ(looks, 0);
}

TEST_F(LoadTest, OnceStoppedItIsNotWoken) {
  load.OnBusy();
  load.Stop();
  load.OnBusy();
  Pass(absl::Seconds(1));
  EXPECT_EQ(looks, 0);
}

// At the dispatcher: not the first events, but the hundredth.
TEST_F(LoadTest, WhoeverRaisesTheEventThatMakesItMuchHasItLook) {
  pending = 0;
  Pass(absl::Seconds(1));
  looks = 0;
  World world;
  world.dispatcher.ShedBy(&load);
  world.Subscribe("E_A", "fake:a");
  for (uint64_t i = 1; i < Load::kBusy; ++i) world.Raise("E_A");
  Pass(absl::Seconds(1));
  EXPECT_EQ(looks, 0);
  world.Raise("E_A");
  ASSERT_EQ(world.dispatcher.pending(), Load::kBusy);
  looking.RunUntilIdle();
  EXPECT_EQ(looks, 1);
}

TEST_F(LoadTest, WhatWasRefusedIsLetInAgainStepByStepWithinTwoSeconds) {
  late.wait = absl::Milliseconds(600);
  Pass(absl::Seconds(5));
  ASSERT_EQ(refused_works(), 3u);
  late.wait = absl::ZeroDuration();
  size_t before = refused_works();
  for (int i = 0; i < 20; ++i) {
    Pass(Load::kLook);
    EXPECT_GE(refused_works() + 1, before) << "two steps at once";
    before = refused_works();
  }
  EXPECT_EQ(refused_works(), 0u);
}

TEST_F(LoadTest, WhoseWorkIsRefusedIsToldSoAndCounted) {
  EXPECT_EQ(load.Refuse(Load::Work::kAccepted).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(load.figures().refused, (std::array<uint64_t, Load::kWorks>{0, 1, 0}));
}

// At the dispatcher: of two events only the one that is waited for is taken.
TEST_F(LoadTest, AnEventThatNobodyWaitsForIsRefusedBeforeOneThatSomebodyWaitsFor) {
  World world;
  world.dispatcher.ShedBy(&load);
  world.Subscribe("E_A", "fake:a");
  late.wait = absl::Milliseconds(150);
  Pass(absl::Seconds(2));
  EventFields fields;
  fields.name = "E_A";
  const RaiseReceipt accepted = world.dispatcher.Raise(Message::Make(fields), nullptr);
  EXPECT_FALSE(accepted.taken());
  EXPECT_EQ(accepted.refusal.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(world.Raise("E_A").receipt.taken());
  late.wait = absl::Seconds(1);
  Pass(absl::Seconds(3));
  const World::Raised refused = world.Raise("E_A");
  EXPECT_FALSE(refused.receipt.taken());
  EXPECT_FALSE(refused.ended()) << "nobody is told twice";
  EXPECT_EQ(load.figures().refused, (std::array<uint64_t, Load::kWorks>{0, 1, 1}));
}

}  // namespace
}  // namespace eventvirtual
