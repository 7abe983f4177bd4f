// Who is subscribed to what: names, refreshes, limits, listings, watchers.
#include "server/registry/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/server/dispatch/world.h"

namespace eventvirtual {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;

using State = SubscriptionInfo::State;

absl::Status Refusal(World& world, const SubscriptionSpec& spec) { return world.registry.Subscribe(spec).status(); }

TEST(Subscribe, TheSameAgainRefreshesWhateverTheSpellingOfItsAddresses) {
  World world;
  const std::string name = world.Subscribe("E", "virtual:FAILOVER fake:a fake:b?timeout=1s");
  SubscriptionSpec again = world.Spec("E", "virtual:FAILOVER fake:a?timeout=1000 fake:b");
  again.expires = world.loop.Now() + absl::Hours(1);
  again.delivery.failover_timeout = absl::Seconds(7);
  again.labels["team"] = "voice";
  const absl::StatusOr<Registry::Subscribed> refreshed = world.registry.Subscribe(again);
  ASSERT_TRUE(refreshed.ok());
  EXPECT_FALSE(refreshed->created);
  EXPECT_EQ(refreshed->info.name, name);
  EXPECT_EQ(refreshed->info.expires, again.expires);
  EXPECT_EQ(refreshed->info.delivery.failover_timeout, absl::Seconds(7));
  EXPECT_EQ(refreshed->info.labels.at("team"), "voice");
  EXPECT_EQ(world.registry.size(), 1u);
}

TEST(Subscribe, OrderMattersUnlessAllAreReachedAtOnce) {
  World world;
  const std::string failover = world.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  EXPECT_NE(world.Subscribe("E", "virtual:FAILOVER fake:b fake:a"), failover);
  EXPECT_NE(world.Subscribe("E", "virtual:ROUND-ROBIN fake:a fake:b"), failover);
  const std::string parallel = world.Subscribe("E", "virtual:PARALLEL fake:a fake:b");
  EXPECT_EQ(world.Subscribe("E", "virtual:PARALLEL fake:b fake:a"), parallel);
  EXPECT_NE(world.Subscribe("E", "virtual:PARALLEL fake:a fake:b fake:b"), parallel) << "twice is not once";
  EXPECT_NE(world.Subscribe("E2", "virtual:PARALLEL fake:a fake:b"), parallel);
  EXPECT_EQ(world.registry.size(), 6u);
}

TEST(Subscribe, ARefreshFindsTheSubscriberOfEachAttemptTimeout) {
  World world;
  world.Subscribe("E", "virtual:PARALLEL fake:a fake:b fake:a");
  SubscriptionSpec again = world.Spec("E", "virtual:PARALLEL fake:b fake:a fake:a");
  for (int i = 0; i < 3; ++i) again.subscribers[i].attempt_timeout = absl::Seconds(i + 1);
  const absl::StatusOr<Registry::Subscribed> refreshed = world.registry.Subscribe(again);
  ASSERT_TRUE(refreshed.ok());
  EXPECT_FALSE(refreshed->created);
  std::vector<std::pair<std::string, absl::Duration>> timeouts;
  for (const auto& subscriber : refreshed->info.subscribers) {
    timeouts.emplace_back(subscriber.uri, subscriber.attempt_timeout);
  }
  EXPECT_THAT(timeouts, ElementsAre(Pair("fake:a", absl::Seconds(2)), Pair("fake:b", absl::Seconds(1)),
                                    Pair("fake:a", absl::Seconds(3))));
}

TEST(Subscribe, WhoKnowsNoOptionsRefreshesTheExpiryAlone) {
  World world;
  SubscriptionSpec spec = world.Spec("E", "fake:a");
  spec.delivery.failover_timeout = absl::Seconds(7);
  spec.subscribers[0].attempt_timeout = absl::Seconds(2);
  spec.labels["team"] = "voice";
  ASSERT_TRUE(world.registry.Subscribe(spec).ok());
  world.loop.Advance(absl::Seconds(5));
  SubscriptionSpec again = world.Spec("E", "fake:a");
  again.keeps_options = true;
  again.expires = world.loop.Now() + absl::Hours(1);
  const absl::StatusOr<Registry::Subscribed> refreshed = world.registry.Subscribe(again);
  ASSERT_TRUE(refreshed.ok());
  EXPECT_FALSE(refreshed->created);
  EXPECT_EQ(refreshed->info.expires, again.expires);
  EXPECT_EQ(refreshed->info.delivery.failover_timeout, absl::Seconds(7));
  EXPECT_EQ(refreshed->info.subscribers[0].attempt_timeout, absl::Seconds(2));
  EXPECT_EQ(refreshed->info.labels.at("team"), "voice");
  const absl::StatusOr<Registry::Entry> entry = world.registry.Match(again);
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ(entry->subscription->refreshed.Load(), world.loop.Now());
  EXPECT_EQ(entry->subscription->created.Load(), world.loop.Now() - absl::Seconds(5));
}

TEST(Subscribe, ANameIsTheSameInEveryProcessAndTellsNoPassword) {
  World first, second;
  const std::string name = first.Subscribe("E", "virtual:PARALLEL fake:me:s3cr3t@a fake:b");
  EXPECT_EQ(second.Subscribe("E", "virtual:PARALLEL fake:b fake:me:other@a"), name) << "derived from what is shown";
  // Both at once: the second is numbered.
  EXPECT_EQ(first.Subscribe("E", "virtual:PARALLEL fake:b fake:me:other@a"), name + "-2");
  const absl::StatusOr<SubscriptionInfo> info = first.registry.Get(name);
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->socket, "virtual:PARALLEL fake:me:***@a fake:b");
}

TEST(Subscribe, AChosenIdIsKeptAndBelongsToOne) {
  World world;
  SubscriptionSpec spec = world.Spec("E", "fake:a");
  spec.id = "cdr-1.a_b~";
  EXPECT_EQ(world.registry.Subscribe(spec)->info.name, "subscriptions/cdr-1.a_b~");
  SubscriptionSpec other = world.Spec("E2", "fake:b");
  other.id = spec.id;
  EXPECT_EQ(Refusal(world, other).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(world.registry.Validate(other).status().code(), absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(world.registry.Unsubscribe("subscriptions/cdr-1.a_b~").ok());
  EXPECT_TRUE(world.registry.Subscribe(other).ok());
}

TEST(Subscribe, RefusalsNameThePlaceAndWhatWouldBeTaken) {
  World world;
  const auto refusal = [&](auto change) {
    SubscriptionSpec spec = world.Spec("E", "virtual:FAILOVER fake:a fake:b fake:c");
    change(spec);
    const absl::Status status = Refusal(world, spec);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(refusal([](auto& spec) { spec.event = ""; }), HasSubstr("event name is empty"));
  EXPECT_THAT(refusal([](auto& spec) { spec.event = std::string(257, 'E'); }), HasSubstr("257 bytes; at most 256"));
  EXPECT_THAT(refusal([](auto& spec) { spec.event = "E_\xff"; }), HasSubstr("byte 2 of the event name"));
  EXPECT_THAT(refusal([](auto& spec) { spec.id = "a/b"; }), HasSubstr("A-Z a-z 0-9 . _ ~ -"));
  EXPECT_THAT(refusal([](auto& spec) { spec.id = std::string(65, 'i'); }), HasSubstr("at most 64"));
  EXPECT_THAT(refusal([](auto& spec) { spec.subscribers.clear(); }), HasSubstr("no subscriber"));
  EXPECT_THAT(refusal([](auto& spec) { spec.subscribers.resize(65, {"fake:a"}); }),
              HasSubstr("65 subscribers; at most 64"));
  EXPECT_THAT(refusal([](auto& spec) { spec.subscribers[1].uri = "gopher:x"; }),
              AllOf(HasSubstr("subscriber 2 of 3"), HasSubstr("\"gopher\""), HasSubstr("known: fake")));
  EXPECT_THAT(refusal([](auto& spec) { spec.subscribers[2].uri = "fake:me:s3cr3t@a?colour=red"; }),
              AllOf(HasSubstr("subscriber 3 of 3"), HasSubstr("option 1 is unknown"), Not(HasSubstr("s3cr3t"))));
  EXPECT_THAT(refusal([&](auto& spec) { spec.expires = world.loop.Now(); }), HasSubstr("in the past"));
  EXPECT_EQ(world.registry.size(), 0u);
  EXPECT_TRUE(world.pool.List(0, 10).empty()) << "a refusal leaves no endpoint behind";
}

TEST(Subscribe, MoreThanAllowedAreRefusedUntilOneGoes) {
  RegistryLimits limits;
  limits.max_subscriptions = 2;
  World world({}, limits);
  const std::string name = world.Subscribe("E", "fake:a");
  world.Subscribe("E", "fake:b", absl::Seconds(5));
  EXPECT_EQ(Refusal(world, world.Spec("E", "fake:c")).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(world.registry.Subscribe(world.Spec("E", "fake:a")).ok()) << "a refresh needs no room";
  world.loop.Advance(absl::Seconds(5) + kSweepSlack);
  EXPECT_TRUE(world.registry.Subscribe(world.Spec("E", "fake:c")).ok());
  ASSERT_TRUE(world.registry.Unsubscribe(name).ok());
  EXPECT_TRUE(world.registry.Subscribe(world.Spec("E", "fake:d")).ok());
}

TEST(Validate, TellsWhatWouldHappenAndChangesNothing) {
  World world;
  const absl::StatusOr<Registry::Subscribed> would = world.registry.Validate(world.Spec("E", "fake:a"));
  ASSERT_TRUE(would.ok());
  EXPECT_TRUE(would->created);
  EXPECT_EQ(world.registry.size(), 0u);
  EXPECT_EQ(world.Subscribe("E", "fake:a"), would->info.name);
  EXPECT_FALSE(world.registry.Validate(world.Spec("E", "fake:a"))->created);
}

TEST(Unsubscribe, ByNameOrByWhatWasSubscribed) {
  World world;
  const std::string name = world.Subscribe("E", "virtual:PARALLEL fake:a fake:b");
  EXPECT_EQ(world.registry.UnsubscribeMatch(world.Spec("E", "virtual:PARALLEL fake:a")).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(world.registry.UnsubscribeMatch(world.Spec("E", "virtual:PARALLEL fake:b fake:a"))->name, name);
  EXPECT_EQ(world.registry.Unsubscribe(name).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(world.registry.Get(name).status().code(), absl::StatusCode::kNotFound);
}

TEST(List, GoesPageByPageInTheOrderOfCreationAlsoWhileThingsChange) {
  World world;
  std::vector<std::string> names;
  for (int i = 0; i < 10; ++i) names.push_back(world.Subscribe(i % 2 == 0 ? "EVEN" : "ODD", absl::StrCat("fake:", i)));
  std::vector<std::string> seen;
  uint64_t after = 0;
  do {
    const Registry::Page page = world.registry.List("", after, 3);
    for (const SubscriptionInfo& info : page.subscriptions) seen.push_back(info.name);
    after = page.next;
    if (seen.size() == 3) (void)world.registry.Unsubscribe(names[2]);  // the last one seen
    if (seen.size() == 6) (void)world.registry.Unsubscribe(names[8]);  // not seen yet
  } while (after != 0);
  names.erase(names.begin() + 8);
  EXPECT_EQ(seen, names);
  EXPECT_EQ(world.registry.List("ODD", 0, 100).subscriptions.size(), 5u);
  EXPECT_TRUE(world.registry.List("NOBODY", 0, 100).subscriptions.empty());
}

TEST(Match, FindsWhatWouldBeRefreshedWhileItLives) {
  World world;
  world.Subscribe("E", "virtual:PARALLEL fake:a fake:b", absl::Seconds(10));
  const absl::StatusOr<Registry::Entry> found = world.registry.Match(world.Spec("E", "virtual:PARALLEL fake:b fake:a"));
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->subscription->socket(), "virtual:PARALLEL fake:a fake:b");
  EXPECT_EQ(found->event_id, world.registry.EventId("E"));
  EXPECT_EQ(world.registry.Match(world.Spec("E", "fake:a")).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(world.registry.Match(world.Spec("E", "gopher:a")).status().code(), absl::StatusCode::kInvalidArgument);
  world.loop.Advance(absl::Seconds(10));
  EXPECT_EQ(world.registry.Match(world.Spec("E", "virtual:PARALLEL fake:a fake:b")).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(List, ShowsWhoIsFailing) {
  World world;
  const std::string name = world.Subscribe("E", "virtual:PARALLEL fake:a fake:b");
  EXPECT_EQ(world.registry.Get(name)->state, State::kActive);
  world.Raise("E");
  world.End("a", absl::UnavailableError("nack"));
  world.End("b");
  EXPECT_EQ(world.registry.Get(name)->state, State::kDegraded);
  world.Raise("E");
  world.End("a", absl::UnavailableError("nack"));
  world.End("b", absl::UnavailableError("nack"));
  const absl::StatusOr<SubscriptionInfo> info = world.registry.Get(name);
  EXPECT_EQ(info->state, State::kFailing);
  EXPECT_EQ(info->matched, 2u);
  EXPECT_EQ(info->partial, 1u);
  EXPECT_EQ(info->failed, 1u);
}

class Recorder final : public Registry::Observer {
 public:
  void OnChange(Registry::Change change, const Subscription& subscription,
                absl::FunctionRef<SubscriptionInfo()>) override {
    static constexpr const char* kNames[] = {"created", "refreshed", "expired", "removed"};
    changes.push_back(absl::StrCat(kNames[static_cast<int>(change)], " ", subscription.event));
  }
  std::vector<std::string> changes;
};

TEST(Watch, HearsEveryChangeOnceAndInOrder) {
  World world;
  world.Subscribe("E_OLD", "fake:a");
  Recorder recorder;
  const std::vector<Ref<Subscription>> current = world.registry.Watch(&recorder);
  ASSERT_EQ(current.size(), 1u);
  EXPECT_EQ(current[0]->event, "E_OLD");
  world.Subscribe("E_NEW", "fake:a", absl::Seconds(10));
  world.Subscribe("E_NEW", "fake:a", absl::Seconds(20));
  world.loop.Advance(absl::Seconds(19));
  EXPECT_THAT(recorder.changes, ElementsAre("created E_NEW", "refreshed E_NEW"));
  world.loop.Advance(absl::Seconds(1) + kSweepSlack);
  ASSERT_TRUE(world.registry.Unsubscribe(current[0]->name()).ok());
  EXPECT_THAT(recorder.changes, ElementsAre("created E_NEW", "refreshed E_NEW", "expired E_NEW", "removed E_OLD"));
  world.registry.Unwatch(&recorder);
  world.Subscribe("E_UNSEEN", "fake:a");
  EXPECT_EQ(recorder.changes.size(), 4u);
}

TEST(Watch, AnExpiryIsTheSameHoweverItIsNoticed) {
  World world;
  Recorder recorder;
  world.registry.Watch(&recorder);
  world.Subscribe("E", "fake:a", absl::Seconds(10));
  // Its time comes; the sweep has not run when somebody subscribes the same again.
  world.loop.Advance(absl::Seconds(10));
  world.Subscribe("E", "fake:a", absl::Seconds(10));
  EXPECT_THAT(recorder.changes, ElementsAre("created E", "expired E", "created E"));
  world.registry.Unwatch(&recorder);
}

TEST(Limits, EachPrincipalHasItsOwnNumberOfSubscriptions) {
  RegistryLimits limits;
  limits.max_subscriptions_per_principal = 2;
  World world({}, limits);
  const auto of = [&world](const std::string& owner, const std::string& event, absl::Duration ttl) {
    SubscriptionSpec spec = world.Spec(event, "fake:a");
    spec.owner = owner;
    spec.expires = world.loop.Now() + ttl;
    return world.registry.Subscribe(spec);
  };
  const uint64_t before = ExceededCount(Limit::kSubscriptionsPerPrincipal);
  const absl::StatusOr<Registry::Subscribed> first = of("token:a", "E_1", absl::Hours(1));
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->info.owner, "token:a");
  ASSERT_TRUE(of("token:a", "E_2", absl::Seconds(10)).ok());
  const absl::Status refused = of("token:a", "E_3", absl::Hours(1)).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr("token:a has 2"), HasSubstr("--max_subscriptions_per_principal")));
  EXPECT_EQ(ExceededCount(Limit::kSubscriptionsPerPrincipal), before + 1);
  EXPECT_TRUE(of("token:a", "E_1", absl::Hours(1)).ok()) << "a refresh is none more";
  EXPECT_EQ(of("token:b", "E_1", absl::Hours(1))->info.owner, "token:a") << "nor does a refresh change whose it is";

  EXPECT_TRUE(of("token:b", "E_3", absl::Hours(1)).ok()) << "others are not concerned";
  for (const char* event : {"E_4", "E_5", "E_6"})
    EXPECT_TRUE(of("", event, absl::Hours(1)).ok()) << "nobody's count not";

  world.loop.Advance(absl::Seconds(10) + kSweepSlack);
  ASSERT_TRUE(of("token:a", "E_7", absl::Hours(1)).ok()) << "what has expired is given back";
  EXPECT_FALSE(of("token:a", "E_8", absl::Hours(1)).ok());
  ASSERT_TRUE(world.registry.Unsubscribe(first->info.name).ok());
  EXPECT_TRUE(of("token:a", "E_8", absl::Hours(1)).ok()) << "and what was ended";
  EXPECT_FALSE(of("token:a", "E_9", absl::Hours(1)).ok());
}

TEST(Events, AreKnownOnceRaisedOrSubscribedAndTheirNumberIsBounded) {
  RegistryLimits limits;
  limits.max_events = 3;
  World world({}, limits);
  world.Subscribe("E_B", "fake:a");
  for (const char* event : {"E_C", "E_A", "E_TOO_MANY", "E_A"}) world.Raise(event);
  std::vector<std::string> listed;
  for (const Registry::EventInfo& event : world.registry.ListEvents("", 10)) {
    listed.push_back(absl::StrCat(event.name, " ", event.raised, " ", event.subscriptions));
  }
  EXPECT_THAT(listed, ElementsAre("E_A 2 0", "E_B 0 1", "E_C 1 0"));
  EXPECT_EQ(world.registry.ListEvents("E_A", 1)[0].name, "E_B");
  world.Subscribe("E_TOO_MANY", "fake:a");
  EXPECT_EQ(world.Raise("E_TOO_MANY").receipt.matched, 1u) << "a subscription is always known";
  world.End("a");
}

TEST(Events, EachKeepsItsIdWhoeverComesAndGoes) {
  RegistryLimits limits;
  limits.events = {"E_GIVEN"};
  World world({}, limits);
  EXPECT_EQ(world.registry.EventId("E_GIVEN"), 0u);
  const std::string name = world.Subscribe("E_B", "fake:a");
  world.Raise("E_A");
  world.Subscribe("E_*", "fake:a");
  EXPECT_EQ(world.registry.EventId("E_B"), 1u);
  EXPECT_EQ(world.registry.EventId("E_A"), 2u);
  EXPECT_EQ(world.registry.EventId("E_*"), 3u);
  EXPECT_EQ(world.registry.EventId("E_"), std::nullopt) << "a pattern is no name";
  EXPECT_EQ(world.registry.EventId("E_B*"), std::nullopt);
  EXPECT_EQ(world.registry.EventId("E_C"), std::nullopt);
  ASSERT_TRUE(world.registry.Unsubscribe(name).ok());
  world.Subscribe("E_B", "fake:b");
  EXPECT_EQ(world.registry.EventId("E_B"), 1u);
  EXPECT_EQ(world.registry.ListEvents("E_A", 1)[0].id, 1u);
}

TEST(Events, StrictOnesAreThoseGivenOrEverSubscribed) {
  RegistryLimits limits;
  limits.strict_events = true;
  {
    World world({}, limits);
    EXPECT_FALSE(world.Raise("E").receipt.known);
    const std::string name = world.Subscribe("E", "fake:a");
    EXPECT_TRUE(world.Raise("E").receipt.known);
    world.End("a");
    ASSERT_TRUE(world.registry.Unsubscribe(name).ok());
    EXPECT_TRUE(world.Raise("E").receipt.known);
  }
  limits.events = {"E_GIVEN"};
  World world({}, limits);
  EXPECT_TRUE(world.Raise("E_GIVEN").receipt.known);
  EXPECT_EQ(Refusal(world, world.Spec("E_OTHER", "fake:a")).code(), absl::StatusCode::kNotFound);
}

// Who is told of `event`, by the fake's sites, in order.
std::vector<std::string> ToldOf(World& world, const std::string& event) {
  std::vector<std::string> told;
  const bool known = world.registry.Read(event, world.loop.Now(), [&told](const Subscription& subscription) {
    told.push_back(subscription.subscribers[0].endpoint->target().masked);
  });
  if (!known) told.push_back("unknown");
  return told;
}

TEST(Patterns, TakeEveryNameThatBeginsSoTheLongerPatternBeforeTheShorter) {
  World world;
  world.Subscribe("E_*", "fake:e");
  world.Subscribe("*", "fake:all");
  world.Subscribe("E_UL_*", "fake:ul");
  world.Subscribe("E_UL_CONTACT", "fake:contact");
  world.Subscribe("E_UL_CONTACT*", "fake:contacts");
  world.Subscribe("E_ULTRA*", "fake:ultra");
  EXPECT_THAT(ToldOf(world, "E_UL_CONTACT"),
              ElementsAre("fake:contact", "fake:contacts", "fake:ul", "fake:e", "fake:all"));
  EXPECT_THAT(ToldOf(world, "E_UL_CONTACT_INSERT"), ElementsAre("fake:contacts", "fake:ul", "fake:e", "fake:all"));
  EXPECT_THAT(ToldOf(world, "E_UL_"), ElementsAre("fake:ul", "fake:e", "fake:all")) << "nothing may follow";
  EXPECT_THAT(ToldOf(world, "E_UL"), ElementsAre("fake:e", "fake:all"));
  EXPECT_THAT(ToldOf(world, "E_ULTRA"), ElementsAre("fake:ultra", "fake:e", "fake:all"));
  EXPECT_THAT(ToldOf(world, "F"), ElementsAre("fake:all"));
}

TEST(SubscribedEvents, AreTheNamesAndPatternsOfLivingSubscriptions) {
  World world;
  EXPECT_THAT(world.registry.SubscribedEvents(), IsEmpty());
  const std::string first = world.Subscribe("E_B", "fake:a");
  const std::string second = world.Subscribe("E_B", "fake:b");
  world.Subscribe("E_UL_*", "fake:a");
  const std::string pattern = world.Subscribe("E_A*", "fake:a");
  world.Subscribe("E_A", "fake:a", absl::Seconds(5));
  world.Raise("E_UL_INSERT");  // known, and subscribed to by nobody itself
  EXPECT_THAT(world.registry.SubscribedEvents(), ElementsAre("E_A", "E_B", "E_A*", "E_UL_*"));
  world.loop.Advance(absl::Seconds(5) + kSweepSlack);
  ASSERT_TRUE(world.registry.Unsubscribe(first).ok());
  ASSERT_TRUE(world.registry.Unsubscribe(pattern).ok());
  EXPECT_THAT(world.registry.SubscribedEvents(), ElementsAre("E_B", "E_UL_*"));
  ASSERT_TRUE(world.registry.Unsubscribe(second).ok());
  EXPECT_THAT(world.registry.SubscribedEvents(), ElementsAre("E_UL_*"));
}

TEST(Patterns, ComeAndGoWhileTheirNamesStay) {
  World world;
  for (const char* name : {"A", "E_1", "E_12", "E_2", "F"}) EXPECT_THAT(ToldOf(world, name), ElementsAre());
  const std::string shorter = world.Subscribe("E_*", "fake:e");
  const std::string longer = world.Subscribe("E_1*", "fake:e1");
  EXPECT_THAT(ToldOf(world, "E_12"), ElementsAre("fake:e1", "fake:e"));
  EXPECT_THAT(ToldOf(world, "E_2"), ElementsAre("fake:e"));
  EXPECT_THAT(ToldOf(world, "F"), ElementsAre());
  const std::string middle = world.Subscribe("E*", "fake:m");
  ASSERT_TRUE(world.registry.Unsubscribe(shorter).ok());
  EXPECT_THAT(ToldOf(world, "E_12"), ElementsAre("fake:e1", "fake:m"));
  EXPECT_THAT(ToldOf(world, "E_3"), ElementsAre("fake:m"));
  ASSERT_TRUE(world.registry.Unsubscribe(middle).ok());
  ASSERT_TRUE(world.registry.Unsubscribe(longer).ok());
  for (const char* name : {"A", "E_1", "E_12", "E_2", "E_3", "F"}) EXPECT_THAT(ToldOf(world, name), ElementsAre());
}

// Against the obvious, slow way: random patterns and names over a small alphabet, so that they nest.
TEST(Patterns, AreFoundAsASearchOfAllOfThemWould) {
  World world(EndpointLimits{}, [] {
    RegistryLimits limits;
    limits.max_events = 20;  // and beyond them names are not remembered
    return limits;
  }());
  std::minstd_rand random(7);
  const auto text = [&random](size_t most) {
    std::string text;
    for (size_t i = random() % (most + 1); i > 0; --i) text.push_back("ab"[random() % 2]);
    return text;
  };
  std::vector<std::pair<std::string, std::string>> patterns;  // and the subscription's name
  for (int step = 0; step < 3000; ++step) {
    if (random() % 3 == 0) {
      const std::string pattern = text(5);
      const std::string name = world.Subscribe(pattern + "*", "fake:x" + pattern);
      if (std::find(patterns.begin(), patterns.end(), std::pair(pattern, name)) == patterns.end()) {
        patterns.emplace_back(pattern, name);
      }
    } else if (!patterns.empty() && random() % 3 == 0) {
      const size_t which = random() % patterns.size();
      ASSERT_TRUE(world.registry.Unsubscribe(patterns[which].second).ok());
      patterns.erase(patterns.begin() + static_cast<int>(which));
    }
    const std::string name = "a" + text(6);
    std::vector<std::string> expected;
    for (const auto& [pattern, subscription] : patterns) {
      if (absl::StartsWith(name, pattern)) expected.push_back("fake:x" + pattern);
    }
    std::sort(expected.begin(), expected.end(), [](const auto& a, const auto& b) { return a.size() > b.size(); });
    ASSERT_EQ(ToldOf(world, name), expected) << name << " in step " << step;
  }
}

TEST(Patterns, AreToldFromNamesAndListed) {
  World world;
  EXPECT_THAT(std::string(Refusal(world, world.Spec("E_*_X", "fake:a")).message()), HasSubstr("byte 2"));
  world.Subscribe("E_*", "fake:a");
  world.Subscribe("E_1", "fake:b");
  EXPECT_EQ(world.registry.List("E_*", 0, 10).subscriptions.size(), 1u);
  const std::vector<Registry::EventInfo> events = world.registry.ListEvents("", 10);
  ASSERT_EQ(events.size(), 1u) << "a pattern is no event";
  EXPECT_EQ(events[0].name, "E_1");
  EXPECT_EQ(events[0].subscriptions, 2u);
}

TEST(Patterns, WithStrictEventsTakeTheKnownNames) {
  RegistryLimits listed;
  listed.strict_events = true;
  listed.events = {"E_1", "E_2"};
  World world(EndpointLimits{}, listed);
  world.Subscribe("E_*", "fake:e");
  EXPECT_THAT(ToldOf(world, "E_1"), ElementsAre("fake:e"));
  EXPECT_THAT(ToldOf(world, "E_3"), ElementsAre("unknown"));
  RegistryLimits open;
  open.strict_events = true;
  World subscribed(EndpointLimits{}, open);
  EXPECT_THAT(ToldOf(subscribed, "E_1"), ElementsAre("unknown"));
  subscribed.Subscribe("E_*", "fake:e");
  EXPECT_THAT(ToldOf(subscribed, "E_1"), ElementsAre("fake:e"));
  EXPECT_THAT(ToldOf(subscribed, "F"), ElementsAre("unknown"));
}

TEST(Filters, BelongToWhatASubscriptionIs) {
  World world;
  const std::string all = world.Subscribe("E", "fake:a");
  SubscriptionSpec spec = world.Spec("E", "fake:a");
  spec.filter = "  aor =*@example.org &&  count>3";
  const absl::StatusOr<Registry::Subscribed> some = world.registry.Subscribe(spec);
  ASSERT_TRUE(some.ok());
  EXPECT_TRUE(some->created);
  EXPECT_NE(some->info.name, all);
  EXPECT_EQ(some->info.filter, "aor=*@example.org && count>3");
  spec.filter = some->info.filter;
  const absl::StatusOr<Registry::Subscribed> again = world.registry.Subscribe(spec);
  ASSERT_TRUE(again.ok());
  EXPECT_FALSE(again->created) << "written in another way it is the same";
  EXPECT_EQ(again->info.name, some->info.name);
  EXPECT_EQ(world.registry.Validate(spec)->info.name, some->info.name);
  World other;
  EXPECT_EQ(other.registry.Subscribe(spec)->info.name, some->info.name) << "the name is the same in every process";
  ASSERT_TRUE(world.registry.UnsubscribeMatch(spec).ok());
  EXPECT_TRUE(world.registry.Get(all).ok());
  spec.filter = "aor";
  EXPECT_THAT(std::string(Refusal(world, spec).message()), HasSubstr("filter: position 4: no operator"));
}

}  // namespace
}  // namespace eventvirtual
