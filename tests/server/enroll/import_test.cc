// What becomes of OpenSIPS' own virtual sockets, over a registry with a fake transport.
#include "server/enroll/import.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/server/dispatch/world.h"

namespace eventvirtual {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;

constexpr absl::Duration kForEver = absl::InfiniteDuration();

struct ImportWorld : World {
  Import import{registry,
                OwnSockets({"tcp:127.0.0.1:9060"}),
                "http://me:***@127.0.0.1/mi",
                {.failover_timeout = absl::Seconds(7), .attempt_timeout = absl::Seconds(3)}};

  std::vector<std::string> Take(const std::vector<ListedSubscriber>& listed) {
    std::vector<std::string> taken;
    for (const ListedSubscriber& one : import.Take(listed)) taken.push_back(one.socket);
    return taken;
  }
  std::vector<SubscriptionInfo> All() { return registry.List("", 0, 1000).subscriptions; }
};

// What is written to stderr meanwhile.
template <typename Do>
std::string LogOf(Do what) {
  testing::internal::CaptureStderr();
  what();
  return testing::internal::GetCapturedStderr();
}

TEST(Import, TakesAVirtualSocketWithWhatIsLeftOfItsTime) {
  ImportWorld world;
  const ListedSubscriber listed = {"E_A", "virtual:FAILOVER fake:me:s3cr3t@a fake:b", absl::Seconds(41)};
  std::vector<std::string> taken;
  const std::string log = LogOf([&] { taken = world.Take({listed}); });
  EXPECT_THAT(taken, ElementsAre(listed.socket));
  ASSERT_EQ(world.All().size(), 1u);
  const SubscriptionInfo info = world.All()[0];
  EXPECT_EQ(info.event, "E_A");
  EXPECT_EQ(info.policy, Policy::kFailover);
  EXPECT_EQ(info.expires, world.loop.Now() + absl::Seconds(41));
  EXPECT_EQ(info.delivery.failover_timeout, absl::Seconds(7));
  EXPECT_EQ(info.subscribers[0].attempt_timeout, absl::Seconds(3));
  EXPECT_THAT(info.labels, ElementsAre(Pair("imported_from", "http://me:***@127.0.0.1/mi")));
  EXPECT_THAT(log, HasSubstr("fake:me:***@a"));
  EXPECT_THAT(log, Not(HasSubstr("s3cr3t")));
}

TEST(Import, LeavesWhatIsNotVirtualHasExpiredOrIsOurs) {
  ImportWorld world;
  EXPECT_THAT(world.Take({{"E_A", "fake:a", kForEver},
                          {"E_A", "virtual:PARALLEL fake:a", absl::ZeroDuration()},
                          {"E_A", "virtual:PARALLEL fake:a", absl::Seconds(-5)},
                          {"E_EVI_SUBSCRIBER_DOWN", "virtual:PARALLEL fake:a", kForEver}}),
              IsEmpty());
  EXPECT_EQ(world.registry.size(), 0u);
}

TEST(Import, NeverTakesTheSafetyNetThatLeadsHere) {
  ImportWorld world;
  const ListedSubscriber net = {"E_A", "virtual:FAILOVER tcp:127.0.0.1:9060 fake:lost", kForEver};
  const ListedSubscriber second = {"E_A", "virtual:PARALLEL fake:a tcp:localhost:9060/method", kForEver};
  const std::string log = LogOf([&] {
    for (int i = 0; i < 3; ++i) EXPECT_THAT(world.Take({net, second}), IsEmpty());
  });
  EXPECT_EQ(world.registry.size(), 0u);
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 2) << "each is said once: " << log;
  EXPECT_THAT(log, Not(HasSubstr("known: fake"))) << "that the fake transport knows no tcp is not why";
}

TEST(Import, WhatTheRegistryRefusesStaysThereAndIsSaidOnceWithoutPasswords) {
  ImportWorld world;
  const std::vector<ListedSubscriber> bad = {
      {"E_A", "virtual:PARALLEL fake:a gopher:me:s3cr3t@b", kForEver},
      {"E_A", "virtual:SOMETIMES fake:me:s3cr3t@a", kForEver},
      {"E_A", "virtual:PARALLEL", kForEver},
      {"E_A*B", "virtual:PARALLEL fake:me:s3cr3t@a", kForEver},
  };
  std::string log = LogOf([&] {
    for (int i = 0; i < 3; ++i) EXPECT_THAT(world.Take(bad), IsEmpty());
  });
  EXPECT_EQ(world.registry.size(), 0u);
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 4) << log;
  EXPECT_THAT(log, HasSubstr("subscriber 2 of 2"));
  EXPECT_THAT(log, Not(HasSubstr("s3cr3t")));
  log = LogOf([&] {
    world.import.Forget();
    EXPECT_THAT(world.Take(bad), IsEmpty());
  });
  EXPECT_EQ(log, "") << "an outage is no reason to say it again";
  world.Take({});
  EXPECT_NE(LogOf([&] { world.Take(bad); }), "") << "it has come anew";
}

TEST(Import, WhatAScriptBringsBackAfterARestartIsTakenAgain) {
  ImportWorld world;
  const ListedSubscriber listed = {"E_A", "virtual:PARALLEL fake:a", kForEver};
  for (int restart = 0; restart < 10; ++restart) {
    world.import.Forget();
    ASSERT_THAT(world.Take({listed}), ElementsAre(listed.socket));
    world.import.Ended(listed);
    ASSERT_THAT(world.Take({}), IsEmpty());
  }
  EXPECT_EQ(world.registry.size(), 1u);
}

TEST(Import, WhatSomebodyKeepsRefreshingThereLastsHereToo) {
  ImportWorld world;
  const ListedSubscriber listed = {"E_A", "virtual:PARALLEL fake:a", absl::Seconds(60)};
  for (int i = 0; i < 5; ++i) {
    ASSERT_THAT(world.Take({listed}), ElementsAre(listed.socket));
    world.import.Ended(listed);
    world.Take({});
    world.loop.Advance(absl::Seconds(40));
    ASSERT_EQ(world.registry.size(), 1u);
  }
}

// event_virtual cannot find a socket again whose tcp or xmlrpc member it has used: ending it ends nothing.
TEST(Import, WhatOpensipsDoesNotEndIsGivenUpSoThatNothingComesTwiceForEver) {
  ImportWorld world;
  const ListedSubscriber stuck = {"E_A", "virtual:PARALLEL fake:a", kForEver};
  const std::string log = LogOf([&] {
    for (int i = 0; i < Import::kMaxEnds; ++i) {
      ASSERT_THAT(world.Take({stuck}), ElementsAre(stuck.socket));
      world.import.Ended(stuck);
    }
    for (int i = 0; i < 3; ++i) EXPECT_THAT(world.Take({stuck}), IsEmpty());
  });
  EXPECT_EQ(world.registry.size(), 0u);
  EXPECT_THAT(log, HasSubstr("OpenSIPS does not end it"));
  EXPECT_THAT(world.import.GiveBack(), IsEmpty()) << "it is still there";
  world.import.Forget();  // a restart has made it new
  EXPECT_THAT(world.Take({stuck}), ElementsAre(stuck.socket));
}

TEST(Import, WhatCouldNotBeEndedYetIsNotGivenUp) {
  ImportWorld world;
  const ListedSubscriber listed = {"E_A", "virtual:PARALLEL fake:a", kForEver};
  for (int i = 0; i < 10; ++i)
    ASSERT_THAT(world.Take({listed}), ElementsAre(listed.socket)) << "its event is not enrolled";
}

TEST(Import, TheSameSubscriptionOfOursKeepsItsOptionsAndLastsAsLong) {
  ImportWorld world;
  SubscriptionSpec own = world.Spec("E_A", "virtual:PARALLEL fake:a fake:b");
  own.expires = world.loop.Now() + absl::Seconds(10);
  own.delivery.failover_timeout = absl::Seconds(99);
  own.labels["team"] = "voice";
  ASSERT_TRUE(world.registry.Subscribe(own).ok());
  const ListedSubscriber listed = {"E_A", "virtual:PARALLEL fake:b fake:a", kForEver};
  EXPECT_THAT(world.Take({listed}), ElementsAre(listed.socket));
  ASSERT_EQ(world.registry.size(), 1u);
  EXPECT_EQ(world.All()[0].expires, absl::InfiniteFuture());
  EXPECT_EQ(world.All()[0].delivery.failover_timeout, absl::Seconds(99));
  EXPECT_THAT(world.All()[0].labels, ElementsAre(Pair("team", "voice")));
  world.Take({{"E_A", "virtual:PARALLEL fake:a fake:b", absl::Seconds(5)}});
  EXPECT_EQ(world.All()[0].expires, absl::InfiniteFuture()) << "never shortened";
}

TEST(Import, OfASubscriptionOfOursThatOpensipsDoesNotEndOursStays) {
  ImportWorld world;
  world.Subscribe("E_A", "virtual:PARALLEL fake:a");
  const ListedSubscriber stuck = {"E_A", "virtual:PARALLEL fake:a", kForEver};
  for (int i = 0; i < Import::kMaxEnds + 1; ++i) {
    world.Take({stuck});
    world.import.Ended(stuck);
  }
  EXPECT_EQ(world.registry.size(), 1u);
}

TEST(Import, GivesBackWhatWasEndedThereAndLivesHere) {
  ImportWorld world;
  const ListedSubscriber for_ever = {"E_A", "virtual:PARALLEL fake:me:s3cr3t@a", kForEver};
  const ListedSubscriber some_time = {"E_B", "virtual:PARALLEL fake:b", absl::Seconds(100)};
  const ListedSubscriber not_ended = {"E_C", "virtual:PARALLEL fake:c", kForEver};
  const ListedSubscriber unsubscribed = {"E_D", "virtual:PARALLEL fake:d", kForEver};
  world.Take({for_ever, some_time, not_ended, unsubscribed});
  for (const ListedSubscriber& one : {for_ever, some_time, unsubscribed}) world.import.Ended(one);
  world.Take({not_ended});
  ASSERT_TRUE(world.registry.Unsubscribe(world.registry.List("E_D", 0, 1).subscriptions[0].name).ok());
  world.loop.Advance(absl::Seconds(30));
  std::vector<std::string> back;
  for (const ListedSubscriber& one : world.import.GiveBack()) {
    back.push_back(absl::StrCat(one.event, " ", one.socket, " ", absl::ToInt64Seconds(one.ttl)));
  }
  EXPECT_THAT(back, testing::UnorderedElementsAre("E_A virtual:PARALLEL fake:me:s3cr3t@a 31536000",
                                                  "E_B virtual:PARALLEL fake:b 70"));
}

}  // namespace
}  // namespace eventvirtual
