// An event that comes back through a subscriber ends.
#include "server/dispatch/loop_guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/dispatch/world.h"
#include "transports/api/hops.h"

namespace eventvirtual {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

RaiseReceipt RaiseWithHops(World& world, int hops, bool* ended) {
  const RaiseReceipt receipt = world.dispatcher.Raise(Message::Make({.name = "E", .event_id = "7", .hops = hops}),
                                                      [ended](absl::Span<DeliveryResult>) { *ended = true; });
  world.loop.RunUntilIdle();
  return receipt;
}

TEST(LoopGuard, AnEventIsDeliveredAsOftenAsItMayAndNotOnceMore) {
  World world;
  world.Subscribe("E", "fake:a");
  int deliveries = 0;
  bool ended = false;
  RaiseReceipt receipt;
  for (int hops = 0; hops <= 20; ++hops) {  // round and round
    ended = false;
    receipt = RaiseWithHops(world, hops, &ended);
    if (receipt.looped) break;
    ASSERT_EQ(receipt.matched, 1u);
    world.End("a");
    ASSERT_TRUE(ended);
    ++deliveries;
  }
  EXPECT_EQ(deliveries, 8);
  EXPECT_TRUE(receipt.looped);
  EXPECT_EQ(receipt.matched + receipt.filtered + receipt.accepted, 0u);
  EXPECT_FALSE(world.fake->at("a").has_parcel());
  EXPECT_FALSE(ended) << "nothing was begun";
  EXPECT_TRUE(absl::IsFailedPrecondition(receipt.refusal)) << receipt.refusal;
  EXPECT_THAT(std::string(receipt.refusal.message()),
              AllOf(HasSubstr("event \"E\""), HasSubstr("8 services have delivered it"), HasSubstr("--max_hops is 8")));
  EXPECT_EQ(world.dispatcher.loop_guard().too_many_hops(), 1u);
  EXPECT_EQ(world.dispatcher.pending(), 0u);
}

TEST(LoopGuard, HowManyIsSaidByTheFlag) {
  for (const int most : {1, 3, kMostHops}) {
    LoopLimits limits;
    limits.max_hops = most;
    int told = 0;
    limits.tell = [&told, most](const Message& message, absl::string_view found_by) {
      ++told;
      EXPECT_GE(message.hops(), most);
      EXPECT_EQ(found_by, "hops");
    };
    LoopGuard guard(limits);
    for (int hops = 0; hops <= kMostHops; ++hops) {
      EXPECT_EQ(guard.Check(*Message::Make({.name = "E", .hops = hops}), absl::UnixEpoch()).ok(), hops < most)
          << hops << " of " << most;
    }
    EXPECT_EQ(told, kMostHops + 1 - most);
    EXPECT_EQ(guard.too_many_hops(), static_cast<uint64_t>(kMostHops + 1 - most));
    EXPECT_EQ(guard.too_many_repeats(), 0u);
  }
}

// --- events whose hops nobody counts

LoopGuard GuardOf(uint32_t max_repeats) {
  LoopLimits limits;
  limits.max_repeats = max_repeats;
  return LoopGuard(std::move(limits));
}

MessageRef Event(absl::string_view name, const std::vector<Param>& params, int hops = 0, bool is_report = false) {
  EventFields fields;
  fields.name = name;
  fields.params = params;
  fields.hops = hops;
  fields.is_report = is_report;
  return Message::Make(fields);
}

// How often it passes of `times` at `now`.
int Passes(LoopGuard& guard, const Message& message, int times, absl::Time now) {
  int passed = 0;
  for (int i = 0; i < times; ++i) passed += guard.Check(message, now).ok() ? 1 : 0;
  return passed;
}

TEST(LoopGuardRepeats, TheSameEventPassesAsOftenAsItMayInEachWindow) {
  LoopGuard guard = GuardOf(8);
  const MessageRef message = Event("E", {{"callid", "x"}});
  absl::Time now = absl::FromUnixSeconds(1000);
  EXPECT_EQ(Passes(guard, *message, 100, now), 8);
  now += LoopGuard::kWindow - absl::Nanoseconds(1);
  EXPECT_EQ(Passes(guard, *message, 1, now), 0);
  EXPECT_EQ(guard.too_many_repeats(), 93u);
  now += absl::Nanoseconds(1);
  EXPECT_EQ(Passes(guard, *message, 100, now), 8) << "throttled, never shut out for good";
  const absl::Status refusal = guard.Check(*message, now);
  EXPECT_TRUE(absl::IsResourceExhausted(refusal)) << refusal;
  EXPECT_THAT(std::string(refusal.message()),
              AllOf(HasSubstr("event \"E\""), HasSubstr("8 times within 10s"), HasSubstr("--max_repeats")));
  EXPECT_EQ(guard.too_many_hops(), 0u);
}

TEST(LoopGuardRepeats, WhatDiffersInAnythingIsAnotherEvent) {
  const std::vector<MessageRef> events = {
      Event("E", {}),
      Event("F", {}),
      Event("E", {{"a", "1"}}),
      Event("E", {{"b", "1"}}),
      Event("E", {{"", "1"}}),
      Event("E", {{"a", "2"}}),
      Event("E", {{"a", int64_t{1}}}),
      Event("E", {{"a", 1.0}}),
      Event("E", {{"a", true}}),
      Event("E", {{"a", Null{}}}),
      Event("E", {{"a", Json{"1"}}}),
      Event("E", {{"a", "1"}, {"a", "1"}}),
      Event("E", {{"a", "1"}, {"b", "2"}}),
      Event("E", {{"b", "2"}, {"a", "1"}}),
      Event("E", {{"a", "1b"}, {"", "2"}}),
      Event("E", {{"a1", "b"}, {"", "2"}}),
  };
  for (size_t one = 0; one < events.size(); ++one) {
    for (size_t other = 0; other < events.size(); ++other) {
      LoopGuard guard = GuardOf(1);  // a new one: two events may share a place
      EXPECT_TRUE(guard.Check(*events[one], absl::UnixEpoch()).ok());
      EXPECT_EQ(guard.Check(*events[other], absl::UnixEpoch()).ok(), one != other) << one << " then " << other;
    }
  }
}

TEST(LoopGuardRepeats, WhatHasHopsIsCountedByThemAndReportsAreNotCounted) {
  LoopGuard guard = GuardOf(1);
  EXPECT_EQ(Passes(guard, *Event("E", {}, /*hops=*/1), 100, absl::UnixEpoch()), 100);
  EXPECT_EQ(Passes(guard, *Event("E", {}, /*hops=*/8), 100, absl::UnixEpoch()), 0);
  EXPECT_EQ(Passes(guard, *Event("E_EVI_SUBSCRIBER_DOWN", {}, 0, /*is_report=*/true), 100, absl::UnixEpoch()), 100);
  LoopGuard off = GuardOf(0);
  EXPECT_EQ(Passes(off, *Event("E", {}), 100, absl::UnixEpoch()), 100);
}

// Many more events than there are places: each is let through, and one that comes again and again between them is
// found.
TEST(LoopGuardRepeats, CallRecordsPassHoweverManyThereAreAndALoopAmongThemIsFound) {
  LoopGuard guard = GuardOf(8);
  const MessageRef loop = Event("E_CDR", {{"callid", "round and round"}});
  int passed = 0;
  for (int i = 0; i < 100000; ++i) {
    const std::string callid = absl::StrCat(i);
    ASSERT_TRUE(guard.Check(*Event("E_CDR", {{"callid", absl::string_view(callid)}}), absl::UnixEpoch()).ok()) << i;
    if (i % 10 == 0) passed += guard.Check(*loop, absl::UnixEpoch()).ok() ? 1 : 0;
  }
  EXPECT_EQ(guard.too_many_repeats(), static_cast<uint64_t>(10000 - passed));
  EXPECT_LT(passed, 100) << "its place may be taken by others meanwhile, seldom";
}

TEST(LoopGuardRepeats, ThreadsTogetherGetNoMoreThanOne) {
  LoopGuard guard = GuardOf(1000);
  const MessageRef message = Event("E", {});
  std::atomic<int> passed{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { passed += Passes(guard, *message, 1000, absl::UnixEpoch()); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(passed, 1000);
}

}  // namespace
}  // namespace eventvirtual
