// MakePlan as tables: candidates in, order out.
#include "server/dispatch/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace eventvirtual {
namespace {

using ::testing::ElementsAre;

// Failed so many seconds after the epoch and still cooling.
Candidate Cooling(int at) { return {true, absl::FromUnixSeconds(at)}; }
const Candidate kFine;
const Candidate kDrained = {.drained = true};

TEST(MakePlan, FailoverKeepsTheOrderAndPutsTheCoolingLast) {
  EXPECT_THAT(MakePlan(Policy::kFailover, {kFine, kFine, kFine}, 9).order, ElementsAre(0, 1, 2));
  const Plan plan = MakePlan(Policy::kFailover, {Cooling(9), kFine, Cooling(3), kFine}, 0);
  EXPECT_THAT(plan.order, ElementsAre(1, 3, 2, 0));
  EXPECT_EQ(plan.eligible, 2);
}

TEST(MakePlan, FailoverWithAllCoolingTriesTheOneThatFailedLongestAgoFirst) {
  const Plan plan = MakePlan(Policy::kFailover, {Cooling(9), Cooling(3), Cooling(5)}, 0);
  EXPECT_THAT(plan.order, ElementsAre(1, 2, 0));
  EXPECT_EQ(plan.eligible, 0);
}

TEST(MakePlan, RoundRobinBeginsWithTheTurn) {
  const std::vector<Candidate> three(3);
  EXPECT_THAT(MakePlan(Policy::kRoundRobin, three, 0).order, ElementsAre(0, 1, 2));
  EXPECT_THAT(MakePlan(Policy::kRoundRobin, three, 4).order, ElementsAre(1, 2, 0));
  EXPECT_THAT(MakePlan(Policy::kRoundRobin, three, ~uint64_t{0}).order, ElementsAre(0, 1, 2));
  EXPECT_THAT(MakePlan(Policy::kRoundRobin, {kFine, Cooling(1), kFine}, 1).order, ElementsAre(2, 0, 1));
}

TEST(MakePlan, OneThatIsDrainedIsAsIfItWereNotThere) {
  EXPECT_THAT(MakePlan(Policy::kFailover, {kDrained, kFine, Cooling(1)}, 0).order, ElementsAre(1, 2));
  const std::vector<Candidate> four = {kFine, kDrained, kFine, kFine};
  for (uint64_t turn = 0; turn < 9; ++turn) {
    EXPECT_EQ(MakePlan(Policy::kRoundRobin, four, turn).order[0], (std::vector<int>{0, 2, 3})[turn % 3]) << turn;
  }
  EXPECT_THAT(MakePlan(Policy::kRoundRobin, {kDrained, kFine, kDrained, Cooling(1)}, 1).order, ElementsAre(1, 3));
  EXPECT_TRUE(MakePlan(Policy::kFailover, {kDrained, {true, absl::UnixEpoch(), true}}, 0).order.empty());
}

TEST(MakePlan, OneSubscriberIsAllThereIs) {
  for (Policy policy : {Policy::kFailover, Policy::kRoundRobin}) {
    EXPECT_THAT(MakePlan(policy, {Cooling(1)}, 3).order, ElementsAre(0));
  }
}

}  // namespace
}  // namespace eventvirtual
