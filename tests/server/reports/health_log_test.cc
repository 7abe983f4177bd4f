// What the log can say about subscribers that fail and work again.
#include "server/reports/health_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/server/dispatch/world.h"

namespace eventvirtual {
namespace {

using ::testing::ElementsAre;

const absl::Status kRefused = absl::UnavailableError("refused");

struct Told {
  std::string uri;
  bool works = false;
  absl::Duration ago, down_for;
  uint64_t queued = 0, failed = 0, refused = 0;
  std::string fate;
};

class HealthTold : public testing::Test {
 protected:
  explicit HealthTold(EndpointLimits limits = {}) : world_(limits) {
    world_.on_health = [this](const HealthChange& change) {
      log_->OnHealthChange(change);
      told_.push_back({std::string(change.uri), change.why.ok(), change.ago, change.down_for, change.queued,
                       change.failed, change.refused, log_->FateOfEvents(change.endpoint)});
    };
    log_.emplace(world_.registry);
  }

  ~HealthTold() override { world_.on_health = nullptr; }

  // Lets the destination fail; gives what is said of its events.
  std::string FateWhenItFails(const std::string& name, const std::string& event) {
    world_.fake->at(name).connect_error = kRefused;
    world_.Raise(event);
    world_.loop.Advance(absl::Seconds(2));
    EXPECT_FALSE(told_.empty());
    return told_.empty() ? "" : told_.front().fate;
  }

  std::vector<Told> told_;
  World world_;
  std::optional<HealthLog> log_;
};

TEST_F(HealthTold, WhatBecomesOfItsEventsFollowsFromTheSubscriptionsItIsIn) {
  world_.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  world_.Subscribe("F", "virtual:FAILOVER fake:a fake:c");
  world_.Subscribe("G", "virtual:FAILOVER fake:c fake:a");
  world_.Subscribe("H", "virtual:ROUND-ROBIN fake:c fake:a");
  world_.Subscribe("I", "virtual:PARALLEL fake:c fake:a");
  world_.Subscribe("J", "fake:a");
  EXPECT_EQ(FateWhenItFails("a", "J"),
            "FAILOVER goes on to the next (2 subscriptions), it is FAILOVER's last, so what comes as far fails (1), "
            "ROUND-ROBIN goes on to the next (1), PARALLEL goes on to the others (1), events to it alone fail (1)");
}

TEST_F(HealthTold, SubscriptionsThatEndedOrExpiredDoNotCount) {
  world_.Subscribe("J", "fake:a");
  const std::string ended = world_.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  world_.Subscribe("F", "virtual:FAILOVER fake:a fake:b", absl::Seconds(1));
  world_.Subscribe("J", "fake:a");  // a refresh
  ASSERT_TRUE(world_.registry.Unsubscribe(ended).ok());
  world_.loop.Advance(absl::Seconds(2));
  EXPECT_EQ(FateWhenItFails("a", "J"), "events to it alone fail (1 subscription)");
}

TEST_F(HealthTold, ThoseThatExistedBeforeTheLogCount) {
  log_.reset();
  world_.Subscribe("J", "fake:a");
  log_.emplace(world_.registry);
  EXPECT_EQ(FateWhenItFails("a", "J"), "events to it alone fail (1 subscription)");
}

TEST_F(HealthTold, RecoveryTellsHowLongItWasDownAndWhatFailedMeanwhile) {
  world_.Subscribe("E", "fake:a");
  world_.Raise("E");
  world_.End("a");
  world_.Raise("E");
  world_.End("a", kRefused);
  ASSERT_EQ(told_.size(), 1u);
  EXPECT_FALSE(told_[0].works);
  EXPECT_EQ(told_[0].ago, absl::ZeroDuration());
  for (int i = 0; i < 4; ++i) {
    world_.loop.Advance(absl::Seconds(10));
    world_.Raise("E");
    world_.End("a", kRefused);
  }
  world_.loop.Advance(absl::Seconds(5));
  world_.Raise("E");
  world_.End("a");
  ASSERT_EQ(told_.size(), 2u);
  EXPECT_TRUE(told_[1].works);
  EXPECT_EQ(told_[1].down_for, absl::Seconds(45));
  EXPECT_EQ(told_[1].failed, 5u);
  EXPECT_EQ(told_[1].refused, 0u);

  // The next outage is counted from its own beginning.
  world_.loop.Advance(absl::Hours(1));
  world_.Raise("E");
  world_.End("a", kRefused);
  world_.loop.Advance(absl::Seconds(3));
  world_.Raise("E");
  world_.End("a");
  ASSERT_EQ(told_.size(), 4u);
  EXPECT_EQ(told_[3].down_for, absl::Seconds(3));
  EXPECT_EQ(told_[3].failed, 1u);
}

TEST_F(HealthTold, WhatIsToldLateSaysSinceWhenItIs) {
  world_.Subscribe("E", "fake:a");
  world_.Raise("E");
  world_.End("a", kRefused);  // told at once
  world_.loop.Advance(absl::Milliseconds(200));
  world_.Raise("E");
  world_.End("a");  // works again since here
  world_.loop.Advance(absl::Seconds(2));
  ASSERT_EQ(told_.size(), 2u);
  EXPECT_EQ(told_[1].ago, absl::Milliseconds(800));
  EXPECT_EQ(told_[1].down_for, absl::Milliseconds(200));
}

class SmallQueue : public HealthTold {
 protected:
  SmallQueue() : HealthTold(Limits()) {}
  static EndpointLimits Limits() {
    EndpointLimits limits;
    limits.queue_events = 2;
    return limits;
  }
};

TEST_F(SmallQueue, WhatWaitsAndWhatIsRefusedIsTold) {
  world_.Subscribe("E", "fake:a?timeout=1h");
  world_.fake->at("a").window = 1;
  for (int i = 0; i < 5; ++i) world_.Raise("E");  // one is out, two wait, two are refused
  world_.End("a", kRefused);
  ASSERT_EQ(told_.size(), 1u);
  EXPECT_EQ(told_[0].queued, 2u);
  for (int i = 0; i < 4; ++i) world_.Raise("E");
  world_.loop.Advance(absl::Seconds(10));
  while (world_.fake->at("a").has_parcel()) world_.End("a");
  ASSERT_EQ(told_.size(), 2u);
  EXPECT_EQ(told_[1].failed, 1u);
  EXPECT_EQ(told_[1].refused, 3u);
}

}  // namespace
}  // namespace eventvirtual
