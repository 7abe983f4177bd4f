// Subscriptions in the next life of the service.
#include "server/journal/subscription_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/server/dispatch/world.h"
#include "tests/transports/io/temporary_folder.h"

namespace eventvirtual {
namespace {

using ::testing::ElementsAre;

constexpr absl::Duration kPatience = absl::Seconds(20);

// One life of the service, on a journal that outlives it.
struct Life {
  explicit Life(const std::string& folder) : journal(*Journal::Open(folder, Journal::Sync::kNormal)) {
    store = std::make_unique<SubscriptionStore>(*journal, world.registry);
  }
  ~Life() {
    store.reset();
    journal->Close(kPatience);
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const SubscriptionInfo& info : world.registry.List("", 0, 100).subscriptions) names.push_back(info.name);
    return names;
  }
  std::unique_ptr<Journal> journal;
  World world;
  std::unique_ptr<SubscriptionStore> store;
};

class SubscriptionStoreTest : public testing::Test {
 protected:
  const TemporaryFolder temporary_;
  const std::string folder_ = temporary_ / "data";
};

TEST_F(SubscriptionStoreTest, ASubscriptionComesBackAsItWas) {
  SubscriptionInfo before;
  {
    Life life(folder_);
    SubscriptionSpec spec = life.world.Spec("E_*", "virtual:FAILOVER fake:me:s3cr3t@a fake:b");
    spec.filter = "n=1*";
    spec.id = "billing";
    spec.labels["team"] = "voice";
    spec.owner = "token:billing";
    spec.delivery.failover_timeout = absl::Seconds(3);
    spec.subscribers[1].attempt_timeout = absl::Seconds(9);
    spec.expires = life.world.loop.Now() + absl::Hours(1);
    before = life.world.registry.Subscribe(spec)->info;
    life.world.loop.Advance(absl::Minutes(10));
  }
  Life life(folder_);
  EXPECT_EQ(life.store->restored(), 1u);
  const absl::StatusOr<SubscriptionInfo> after = life.world.registry.Get("subscriptions/billing");
  ASSERT_TRUE(after.ok());
  EXPECT_EQ(after->event, before.event);
  EXPECT_EQ(after->filter, before.filter);
  EXPECT_EQ(after->socket, before.socket);
  EXPECT_EQ(after->labels, before.labels);
  EXPECT_EQ(after->owner, "token:billing");
  EXPECT_EQ(after->delivery.failover_timeout, before.delivery.failover_timeout);
  EXPECT_EQ(after->delivery.total_timeout, before.delivery.total_timeout);
  EXPECT_EQ(after->subscribers[1].attempt_timeout, absl::Seconds(9));
  int read = 0;
  life.world.registry.Read("E_X", life.world.loop.Now(), [&read](const Subscription& subscription) {
    EXPECT_EQ(subscription.subscribers[0].endpoint->target().canonical, "fake:me:s3cr3t@a") << "with its password";
    ++read;
  });
  EXPECT_EQ(read, 1);
}

TEST_F(SubscriptionStoreTest, WhatEndedStaysEndedAndARefreshIsKept) {
  std::string kept, refreshed;
  {
    Life life(folder_);
    kept = life.world.Subscribe("E_1", "fake:a");
    const std::string removed = life.world.Subscribe("E_2", "fake:a");
    life.world.Subscribe("E_3", "fake:a", absl::Seconds(5));
    refreshed = life.world.Subscribe("E_4", "fake:a", absl::Seconds(5));
    life.world.Subscribe("E_4", "fake:a", absl::Hours(5));
    ASSERT_TRUE(life.world.registry.Unsubscribe(removed).ok());
    life.world.loop.Advance(absl::Seconds(6));
  }
  for (int lives = 0; lives < 3; ++lives) {
    Life life(folder_);
    EXPECT_THAT(life.Names(), ElementsAre(kept, refreshed));
    EXPECT_GT(life.world.registry.Get(refreshed)->expires - life.world.loop.Now(), absl::Hours(4));
  }
}

TEST_F(SubscriptionStoreTest, WhatExpiredMeanwhileIsGoneAndErased) {
  {
    Life life(folder_);
    SubscriptionSpec spec = life.world.Spec("E", "fake:a");
    spec.expires = life.world.loop.Now() + absl::Nanoseconds(1);  // of the wall's time, it is over when we look again
    ASSERT_TRUE(life.world.registry.Subscribe(spec).ok());
  }
  EXPECT_EQ(Life(folder_).store->restored(), 0u);
  const std::unique_ptr<Journal> journal = *Journal::Open(folder_, Journal::Sync::kNormal);
  EXPECT_TRUE(journal->TakeSubscriptions().empty());
}

TEST_F(SubscriptionStoreTest, WhatCannotBeRestoredIsKeptForAnotherStart) {
  {
    const std::unique_ptr<Journal> journal = *Journal::Open(folder_, Journal::Sync::kNormal);
    SavedSubscription saved;
    saved.id = "from-a-newer-program";
    saved.event = "E";
    saved.socket = "carrier-pigeon:a";
    saved.failover_timeout = saved.total_timeout = saved.max_event_age = absl::InfiniteDuration();
    journal->Save(saved);
    saved.id = "good";
    saved.socket = "fake:a";
    journal->Save(saved);
    journal->Close(kPatience);
  }
  for (int lives = 0; lives < 2; ++lives) {
    Life life(folder_);
    EXPECT_THAT(life.Names(), ElementsAre("subscriptions/good"));
  }
  const std::unique_ptr<Journal> journal = *Journal::Open(folder_, Journal::Sync::kNormal);
  EXPECT_EQ(journal->TakeSubscriptions().size(), 2u);
}

}  // namespace
}  // namespace eventvirtual
