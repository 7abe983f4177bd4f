// DurableQueue alone: what goes in, what comes out.
#include "server/durable/durable_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace eventvirtual {
namespace {

using Result = DeliveryResult::Outcome;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const absl::Time kStart = absl::FromUnixSeconds(1700000000);

KeptEvent MakeEvent(absl::Time time = kStart) {
  EventFields fields;
  fields.name = "E";
  fields.event_time = time;
  return {Message::Make(fields), time};
}

DeliveryResult Ended(Result outcome) {
  DeliveryResult result;
  result.outcome = outcome;
  if (outcome != Result::kDelivered) {
    result.attempts.push_back({0, AttemptRecord::Result::kFailed, absl::UnavailableError("nack"), {}});
  }
  return result;
}

std::vector<uint64_t> Started(const DurableQueue::Steps& steps) {
  std::vector<uint64_t> sequences;
  for (const DurableQueue::Start& start : steps.starts) sequences.push_back(start.sequence);
  return sequences;
}

TEST(RetryPause, GrowsToThirtySecondsAndIsSpreadOverAllOfIt) {
  EXPECT_EQ(RetryPause(1, 1), absl::Seconds(1));
  EXPECT_EQ(RetryPause(2, 1), absl::Seconds(2));
  EXPECT_EQ(RetryPause(5, 1), absl::Seconds(16));
  EXPECT_EQ(RetryPause(6, 1), absl::Seconds(30));
  EXPECT_EQ(RetryPause(1000000, 1), absl::Seconds(30));
  EXPECT_EQ(RetryPause(6, 0.5), absl::Seconds(15));
  EXPECT_EQ(RetryPause(6, 0), absl::ZeroDuration());
}

TEST(DurableQueue, NeighboursThatWereDeliveredAreErasedTogetherWhateverTheirOrder) {
  DurableQueue queue(0);
  for (uint64_t sequence : {2, 5, 9, 11}) queue.OnCommitted(sequence, MakeEvent(), nullptr, true);
  DurableQueue::Steps steps;
  queue.Step(kStart, {}, 100, 0, &steps);
  EXPECT_THAT(Started(steps), ElementsAre(2, 5, 9, 11));
  for (uint64_t sequence : {9, 2, 5}) queue.OnRoundEnd(sequence, Ended(Result::kDelivered), {});
  steps = {};
  queue.Step(kStart, {}, 100, 0, &steps);
  ASSERT_THAT(steps.erase, SizeIs(1));
  EXPECT_EQ(steps.erase[0].first, 2u);
  EXPECT_EQ(steps.erase[0].last, 9u);
  EXPECT_THAT(steps.starts, IsEmpty());
}

TEST(DurableQueue, WhatIsReadAndCommittedAtOnceIsTakenOnce) {
  DurableQueue queue(3);
  DurableQueue::Steps steps;
  queue.Step(kStart, {}, 100, 0, &steps);
  EXPECT_EQ(steps.read_after, 0u);
  queue.OnCommitted(4, MakeEvent(), nullptr, true);  // while it is being read: the read may have seen it or not
  queue.OnLoaded(steps.read_epoch, {{3, MakeEvent(), {}, ""}, {4, MakeEvent(), {}, ""}}, false);
  queue.OnCommitted(5, MakeEvent(), nullptr, true);
  steps = {};
  queue.Step(kStart, {}, 100, 0, &steps);
  EXPECT_THAT(Started(steps), ElementsAre(3, 4, 5));
}

TEST(DurableQueue, AReadThatComesBackAfterAFailureIsNotTaken) {
  DurableQueue queue(9);
  DurableQueue::Steps steps;
  queue.Step(kStart, {}, 100, 0, &steps);
  queue.OnLoaded(steps.read_epoch, {{1, MakeEvent(), {}, ""}}, false);
  steps = {};
  queue.Step(kStart, {}, 100, 0, &steps);  // starts the first, and reads on
  EXPECT_THAT(Started(steps), ElementsAre(1));
  EXPECT_EQ(steps.read_after, 1u);
  const uint64_t epoch = steps.read_epoch;
  queue.OnRoundEnd(1, Ended(Result::kFailed), {});
  steps = {};
  queue.Step(kStart, {}, 100, 1, &steps);
  ASSERT_THAT(steps.save, SizeIs(1));
  queue.OnSaved(1);
  queue.Step(kStart, {}, 100, 1, &steps);
  EXPECT_EQ(steps.wake, kStart + absl::Seconds(1));
  queue.OnLoaded(epoch, {{2, MakeEvent(), {}, ""}}, false);
  steps = {};
  queue.Step(kStart + absl::Seconds(1), {}, 100, 1, &steps);
  EXPECT_EQ(steps.read_after, 0u) << "from the first again";
}

// A disk that does not take what is delivered off the queue holds the queue, and nothing comes twice in this life.
TEST(DurableQueue, WithoutErasuresTheWindowStaysFull) {
  DurableQueue queue(0);
  DurableQueue::Steps steps;
  size_t started = 0;
  for (uint64_t sequence = 1; sequence <= 1000; ++sequence) {
    queue.OnCommitted(sequence, MakeEvent(), nullptr, true);
    steps = {};
    queue.Step(kStart, {}, 100, 0, &steps);
    for (const DurableQueue::Start& start : steps.starts) {
      ++started;
      queue.OnRoundEnd(start.sequence, Ended(Result::kDelivered), {});
    }
  }
  EXPECT_EQ(started, DurableQueue::kWindow);
}

TEST(DurableQueue, WhatCannotBeUnderstoodBecomesADeadLetterAndTheNextGoesOn) {
  DurableQueue queue(2);
  DurableQueue::Steps steps;
  queue.Step(kStart, {}, 100, 0, &steps);
  queue.OnLoaded(steps.read_epoch, {{1, {}, {}, "garbage"}, {2, MakeEvent(), {}, ""}}, false);
  steps = {};
  queue.Step(kStart, {}, 100, 0, &steps);
  EXPECT_THAT(Started(steps), ElementsAre(2));
  ASSERT_THAT(steps.bury, SizeIs(1));
  EXPECT_EQ(steps.bury[0].damaged_record, "garbage");
}

// A journal, receivers that fail at random, and time, all as simple as can be: whatever happens, each event is
// delivered, none twice while nothing crashes, and what was never out is not overtaken.
TEST(DurableQueue, WhateverFailsEveryEventIsDeliveredOnceAndWhatWasNeverOutKeepsItsOrder) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::minstd_rand random(seed + 1);
    std::map<uint64_t, Progress> journal;
    std::vector<uint64_t> out, delivered;
    std::set<uint64_t> ever_out;
    uint64_t committed = 0;
    absl::Time now = kStart;
    absl::Time wake = absl::InfiniteFuture();
    DurableQueue queue(0);
    std::vector<DurableQueue::Range> erasing;
    std::vector<DurableQueue::Save> saving;
    bool reading = false;
    DurableQueue::Steps read;
    const auto settle = [&] {
      for (const DurableQueue::Range& range : std::exchange(erasing, {})) {
        journal.erase(journal.lower_bound(range.first), journal.upper_bound(range.last));
        queue.OnGone(range.first, range.last);
      }
      for (const DurableQueue::Save& save : std::exchange(saving, {})) {
        journal.at(save.sequence) = save.progress;
        queue.OnSaved(save.sequence);
      }
      if (!std::exchange(reading, false)) return;
      std::vector<DurableQueue::Loaded> rows;
      for (auto row = journal.upper_bound(read.read_after); row != journal.end() && rows.size() < read.read; ++row) {
        rows.push_back({row->first, MakeEvent(), row->second, ""});
      }
      queue.OnLoaded(read.read_epoch, std::move(rows), false);
    };
    constexpr uint64_t kEvents = 400;
    for (int turn = 0; delivered.size() < kEvents; ++turn) {
      ASSERT_LT(turn, 100000) << "it does not go on, seed " << seed;
      const bool calm = turn > 3000;
      switch (random() % 4) {
        case 0:
          for (size_t i = random() % 20; i > 0 && committed < kEvents; --i) {
            journal[++committed];
            queue.OnCommitted(committed, MakeEvent(), nullptr, random() % 8 > 0);
          }
          break;
        case 1:
          for (size_t i = random() % 10; i > 0 && !out.empty(); --i) {
            const auto one = out.begin() + static_cast<ptrdiff_t>(random() % out.size());
            const bool failed = !calm && random() % 10 == 0;
            if (!failed) delivered.push_back(*one);
            queue.OnRoundEnd(*one, Ended(failed ? Result::kFailed : Result::kDelivered), {});
            out.erase(one);
          }
          break;
        case 2:
          settle();
          break;
        case 3:
          now = std::max(now, std::min(wake, now + absl::Seconds(1)));
          break;
      }
      DurableQueue::Steps steps;
      queue.Step(now, {}, random() % 4 == 0 ? 0 : 100, 0.5, &steps);
      wake = steps.wake;
      ASSERT_LE(out.size() + steps.starts.size(), DurableQueue::kWindow);
      for (const DurableQueue::Start& start : steps.starts) {
        if (ever_out.insert(start.sequence).second) {
          ASSERT_EQ(*ever_out.rbegin(), start.sequence) << "overtaken, seed " << seed;
        }
        out.push_back(start.sequence);
      }
      erasing.insert(erasing.end(), steps.erase.begin(), steps.erase.end());
      saving.insert(saving.end(), steps.save.begin(), steps.save.end());
      if (steps.read > 0) {
        ASSERT_FALSE(reading);
        reading = true;
        read = std::move(steps);
      }
    }
    EXPECT_EQ(std::set<uint64_t>(delivered.begin(), delivered.end()).size(), kEvents) << "twice, seed " << seed;
  }
}

}  // namespace
}  // namespace eventvirtual
