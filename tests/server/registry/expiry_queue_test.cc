#include "server/registry/expiry_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

namespace eventvirtual {
namespace {

struct Timer : ExpiryQueue::Entry {
  absl::Time expires = absl::InfiniteFuture();
};

const absl::Time kStart = absl::FromUnixNanos(1790000000123456789);

// Takes out all that is due.
std::vector<Timer*> PopAll(ExpiryQueue& queue, absl::Time now) {
  std::vector<Timer*> popped;
  int moves = 1 << 30;
  while (ExpiryQueue::Entry* entry = queue.PopDue(now, &moves)) popped.push_back(static_cast<Timer*>(entry));
  return popped;
}

// Follows Next() as a loop's timer does, and gives the moment at which the first one comes out.
absl::Time RunUntilFirst(ExpiryQueue& queue, std::vector<Timer*>* popped, int* wake_ups) {
  absl::Time now;
  for (*wake_ups = 0; popped->empty(); ++*wake_ups) {
    now = queue.Next();
    if (now == absl::InfiniteFuture()) break;
    *popped = PopAll(queue, now);
  }
  return now;
}

TEST(ExpiryQueue, ComesOutAtItsTimeHoweverFarAwayThatIs) {
  for (const absl::Duration away :
       {absl::Nanoseconds(1), absl::Milliseconds(1), absl::Milliseconds(63), absl::Milliseconds(64), absl::Seconds(4),
        absl::Hours(1), absl::Hours(24 * 365), absl::Hours(24 * 365 * 200)}) {
    ExpiryQueue queue(kStart);
    Timer timer;
    queue.Set(&timer, kStart + away);
    std::vector<Timer*> popped;
    int wake_ups;
    const absl::Time now = RunUntilFirst(queue, &popped, &wake_ups);
    EXPECT_EQ(popped, std::vector<Timer*>{&timer}) << away;
    EXPECT_GE(now, kStart + away) << away;
    EXPECT_LT(now, kStart + away + absl::Milliseconds(1)) << away;
    EXPECT_LE(wake_ups, 8) << away;
    EXPECT_EQ(queue.Next(), absl::InfiniteFuture());
  }
}

TEST(ExpiryQueue, WhatIsOverdueComesOutAtOnce) {
  ExpiryQueue queue(kStart);
  Timer before_start, yesterday;
  queue.Set(&before_start, kStart - absl::Hours(1));
  queue.Set(&yesterday, absl::InfinitePast());
  EXPECT_LE(queue.Next(), kStart);
  EXPECT_EQ(PopAll(queue, kStart).size(), 2u);
}

TEST(ExpiryQueue, NeverMeansNever) {
  ExpiryQueue queue(kStart);
  Timer never, no_longer;
  queue.Set(&never, absl::InfiniteFuture());
  EXPECT_EQ(queue.Next(), absl::InfiniteFuture());
  queue.Set(&no_longer, kStart + absl::Seconds(1));
  queue.Set(&no_longer, absl::InfiniteFuture());
  EXPECT_TRUE(PopAll(queue, kStart + absl::Hours(1000)).empty());
  EXPECT_EQ(queue.Next(), absl::InfiniteFuture());
  // And back again.
  queue.Set(&no_longer, kStart + absl::Hours(1001));
  EXPECT_EQ(PopAll(queue, kStart + absl::Hours(1002)), std::vector<Timer*>{&no_longer});
}

TEST(ExpiryQueue, RemovedItNeitherComesOutNorWakesAnybody) {
  ExpiryQueue queue(kStart);
  Timer timer, neighbour;
  queue.Set(&timer, kStart + absl::Seconds(1));
  queue.Set(&neighbour, kStart + absl::Hours(1));
  queue.Remove(&timer);
  queue.Remove(&timer);
  EXPECT_GT(queue.Next(), kStart + absl::Minutes(30));
  EXPECT_TRUE(PopAll(queue, kStart + absl::Minutes(59)).empty());
  EXPECT_EQ(PopAll(queue, kStart + absl::Minutes(61)), std::vector<Timer*>{&neighbour});
}

TEST(ExpiryQueue, MovesAreCountedAndNothingIsForgottenBetweenTurns) {
  constexpr int kTimers = 1000;
  ExpiryQueue queue(kStart);
  std::vector<std::unique_ptr<Timer>> timers;
  for (int i = 0; i < kTimers; ++i) {
    timers.push_back(std::make_unique<Timer>());
    queue.Set(timers.back().get(), kStart + absl::Hours(1));
  }
  const absl::Time later = kStart + absl::Hours(2);
  size_t popped = 0;
  for (int turn = 0; turn < kTimers / 10; ++turn) {
    EXPECT_LE(queue.Next(), later);
    int moves = 10;
    while (queue.PopDue(later, &moves) != nullptr) ++popped;
    EXPECT_EQ(moves, 0);
    EXPECT_EQ(popped, 10u * static_cast<size_t>(turn + 1));
    // What comes in meanwhile is not lost behind the others.
    if (turn == 0) queue.Set(timers[0].get(), later + absl::Seconds(1));
  }
  EXPECT_EQ(PopAll(queue, later + absl::Seconds(2)), std::vector<Timer*>{timers[0].get()});
}

// Against the truth: a flat list that is searched.
TEST(ExpiryQueue, AThousandTimersThatChangeTheirMindsAreNeverEarlyAndNeverAMillisecondLate) {
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    std::minstd_rand random(seed);
    const auto below = [&random](int64_t limit) {
      return std::uniform_int_distribution<int64_t>(0, limit - 1)(random);
    };
    ExpiryQueue queue(kStart);
    std::vector<std::unique_ptr<Timer>> timers;
    for (int i = 0; i < 1000; ++i) timers.push_back(std::make_unique<Timer>());
    absl::Time now = kStart;
    int popped = 0;
    for (int step = 0; step < 20000; ++step) {
      Timer& timer = *timers[below(1000)];
      if (below(10) == 0) {
        queue.Remove(&timer);
        timer.expires = absl::InfiniteFuture();
      } else {
        // From nanoseconds to a month.
        timer.expires = now + absl::Nanoseconds(below(int64_t{1} << (10 + below(42))));
        queue.Set(&timer, timer.expires);
      }
      if (below(4) > 0) continue;
      // Mostly small steps, now and then a jump; never past what Next() says by more than that.
      now += absl::Nanoseconds(below(int64_t{1} << (10 + below(step % 100 == 0 ? 40 : 24))));
      for (Timer* out : PopAll(queue, now)) {
        ASSERT_LE(out->expires, now) << "early";
        out->expires = absl::InfiniteFuture();
        ++popped;
      }
      absl::Time first = absl::InfiniteFuture();
      for (const auto& left : timers) first = std::min(first, left->expires);
      ASSERT_GT(first, now - absl::Milliseconds(1)) << "late";
      ASSERT_TRUE(first == absl::InfiniteFuture() || queue.Next() < first + absl::Milliseconds(1));
      ASSERT_TRUE(queue.Next() > now || queue.Next() == absl::FromUnixMillis(absl::ToUnixMillis(now)));
    }
    EXPECT_GT(popped, 1000);
    for (const auto& timer : timers) queue.Remove(timer.get());
    EXPECT_EQ(queue.Next(), absl::InfiniteFuture());
  }
}

}  // namespace
}  // namespace eventvirtual
