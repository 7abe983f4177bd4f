// How often a principal may do something, in simulated time.
#include "server/limits/rates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

namespace eventvirtual {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const absl::Time kStart = absl::UnixEpoch() + absl::Hours(500000);

int TakeAll(Rate& rate, absl::Time now) {
  int taken = 0;
  while (rate.Take(now).ok()) ++taken;
  return taken;
}

TEST(Rate, LetsABurstThroughAndThenOneForEachIntervalThatPasses) {
  Rate rate(Limit::kRaiseRate, "token:billing", 10, absl::Seconds(2));
  EXPECT_EQ(TakeAll(rate, kStart), 20);
  EXPECT_EQ(TakeAll(rate, kStart + absl::Milliseconds(99)), 0);
  EXPECT_EQ(TakeAll(rate, kStart + absl::Milliseconds(100)), 1);
  EXPECT_EQ(TakeAll(rate, kStart + absl::Milliseconds(450)), 3) << "what is left of an interval is not lost";
  EXPECT_EQ(TakeAll(rate, kStart + absl::Milliseconds(500)), 1);
  EXPECT_EQ(TakeAll(rate, kStart + absl::Hours(1)), 20) << "and never more than a burst, however long it was quiet";
}

TEST(Rate, WithoutABurstTakesOneAtATime) {
  Rate rate(Limit::kRaiseRate, "loopback", 1000, absl::ZeroDuration());
  EXPECT_EQ(TakeAll(rate, kStart), 1);
  EXPECT_EQ(TakeAll(rate, kStart + absl::Milliseconds(1)), 1);
}

TEST(Rate, SaysWhoWasRefusedWhyAndForHowLongAndCountsIt) {
  Rate rate(Limit::kChangeRate, "user:1000", 4, absl::Milliseconds(500));
  const uint64_t before = ExceededCount(Limit::kChangeRate);
  EXPECT_EQ(TakeAll(rate, kStart), 2);
  const absl::Status refused = rate.Take(kStart + absl::Milliseconds(50));
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(std::string(refused.message()), "user:1000: more than 4 a second (--change_rate); wait 200ms");
  EXPECT_EQ(RetryAfter(refused), absl::Milliseconds(200));
  EXPECT_EQ(ExceededCount(Limit::kChangeRate), before + 2);
  EXPECT_TRUE(rate.Take(kStart + absl::Milliseconds(250)).ok()) << "who waits as long as was said is let through";
  EXPECT_EQ(RetryAfter(absl::ResourceExhaustedError("another")), std::nullopt);
}

TEST(Rate, AClockThatIsBehindTakesNothingBack) {
  Rate rate(Limit::kRaiseRate, "loopback", 10, absl::Seconds(1));
  EXPECT_EQ(TakeAll(rate, kStart), 10);
  EXPECT_EQ(TakeAll(rate, kStart - absl::Seconds(5)), 0);
  EXPECT_EQ(TakeAll(rate, kStart + absl::Seconds(1)), 10);
}

TEST(Rate, ManyThreadsTogetherGetNoMoreThanOneAlone) {
  Rate rate(Limit::kRaiseRate, "loopback", 1000, absl::Seconds(10));
  std::atomic<int> taken{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 5000; ++j) taken += rate.Take(kStart).ok() ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(taken, 10000);
}

TEST(Rates, OnePrincipalLeavesTheOthersAlone) {
  Rates rates(Limit::kRaiseRate, 1, absl::ZeroDuration());
  EXPECT_TRUE(rates.Take("token:a", kStart).ok());
  EXPECT_THAT(std::string(rates.Take("token:a", kStart).message()), AllOf(HasSubstr("token:a"), HasSubstr("1s")));
  EXPECT_TRUE(rates.Take("token:b", kStart).ok());
}

TEST(Rates, TheTableIsBoundedAndThoseWhoHaveDoneNothingLatelyAreForgotten) {
  Rates rates(Limit::kRaiseRate, 1, absl::Seconds(10));
  const auto principal = [](size_t i) { return absl::StrCat("cert:", i); };
  const std::shared_ptr<Rate> kept = rates.Of("kept", kStart);
  for (size_t i = 1; i < Rates::kMaxPrincipals; ++i) ASSERT_TRUE(rates.Take(principal(i), kStart).ok());
  EXPECT_EQ(rates.size(), Rates::kMaxPrincipals);

  // All are busy: who is new shares a rate with the next who is.
  const std::shared_ptr<Rate> shared = rates.Of("new", kStart);
  EXPECT_EQ(rates.Of("newer", kStart), shared);
  EXPECT_EQ(rates.size(), Rates::kMaxPrincipals);
  EXPECT_THAT(std::string(TakeAll(*shared, kStart) == 10 ? shared->Take(kStart).message() : "more than a burst"),
              HasSubstr("others: more than 1 a second"));

  // One second later they have as much as ever, but for one; nothing is forgotten of it, or of who keeps theirs.
  ASSERT_TRUE(rates.Take(principal(7), kStart).ok());
  const absl::Time later = kStart + absl::Seconds(1);
  EXPECT_NE(rates.Of("new", later), shared);
  EXPECT_EQ(rates.size(), 3u) << "it, the one that is busy, and the one that is kept";
  EXPECT_EQ(rates.Of("kept", later), kept);
  EXPECT_EQ(TakeAll(*rates.Of(principal(7), later), later), 9);
}

}  // namespace
}  // namespace eventvirtual
