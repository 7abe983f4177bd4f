// One OpenSIPS and what becomes of it, in time that the test makes.
#include "server/enroll/enrollment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/server/enroll/fake_opensips.h"

namespace eventvirtual {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

using State = EnrollmentStatus::State;
using EventState = EnrollmentStatus::Event::State;

constexpr char kIngest[] = "tcp:127.0.0.1:9060";
constexpr absl::Duration kBack = absl::Seconds(5);  // until events flow again, whatever has happened

std::vector<std::string> Numbered(int count) {
  std::vector<std::string> events;
  for (int i = 0; i < count; ++i) events.push_back(absl::StrCat("E_", 1000 + i));
  return events;
}

struct World {
  explicit World(std::vector<std::string> published, bool import = false)
      : opensips(std::move(published)), enrollment(opensips.Client(), kIngest, import) {}

  Enrollment::Found Step() {
    opensips.SetNow(now);
    Enrollment::Found found = enrollment.Step(now, wanted, taken_over);
    next = now + found.next;
    most_calls = std::max(most_calls, Calls("").size());
    return found;
  }

  // Lets time pass; each step comes when it is due. Calls `look` before each, and at the end.
  template <typename Look>
  void Pass(absl::Duration duration, Look look) {
    const absl::Time end = now + duration;
    while (next <= end) {
      now = std::max(now, next);
      opensips.SetNow(now);
      look();
      calls.clear();
      Step();
    }
    now = end;
    opensips.SetNow(now);
    look();
  }
  void Pass(absl::Duration duration) {
    Pass(duration, [] {});
  }

  // The calls of the last step that begin so.
  std::vector<std::string> Calls(const std::string& beginning) {
    for (std::string& call : opensips.TakeCalls()) {
      calls.push_back(std::move(call));
      ++all_calls;
    }
    std::vector<std::string> found;
    std::copy_if(calls.begin(), calls.end(), std::back_inserter(found),
                 [&](const std::string& call) { return absl::StartsWith(call, beginning); });
    return found;
  }

  size_t EventsComing() {
    size_t coming = 0;
    for (const std::string& event : wanted) {
      const std::vector<std::string> receivers = opensips.Receivers(event);
      coming += std::count(receivers.begin(), receivers.end(), kIngest);
    }
    return coming;
  }

  EventState StateOf(const std::string& event) {
    for (const EnrollmentStatus::Event& one : enrollment.status().events) {
      if (one.name == event) return one.state;
    }
    ADD_FAILURE() << event << " is not there";
    return EventState::kWaiting;
  }

  FakeOpensips opensips;
  Enrollment enrollment;
  absl::Time now = absl::FromUnixSeconds(1000000), next = now;
  std::vector<std::string> wanted, calls;
  std::vector<ListedSubscriber> taken_over;
  size_t most_calls = 0, all_calls = 0;
};

TEST(Enrollment, WhatIsWantedIsSubscribedAndNeverExpires) {
  World world({"E_A", "E_B", "E_C"});
  world.wanted = {"E_A", "E_B"};
  EXPECT_EQ(world.enrollment.status().state, State::kWaiting);
  world.Step();
  EXPECT_THAT(world.Calls("event_subscribe"),
              ElementsAre("event_subscribe E_A tcp:127.0.0.1:9060 60", "event_subscribe E_B tcp:127.0.0.1:9060 60"));
  EXPECT_EQ(world.enrollment.status().state, State::kEnrolled);
  world.Pass(absl::Minutes(10), [&] { ASSERT_EQ(world.EventsComing(), 2u) << world.now; });
  EXPECT_THAT(world.opensips.Receivers("E_C"), IsEmpty());
  EXPECT_EQ(world.enrollment.status().counters.restarts, 0u);
}

TEST(Enrollment, WithoutUsItExpiresWithinAMinute) {
  World world({"E_A"});
  world.wanted = {"E_A"};
  world.Step();
  world.opensips.SetNow(world.now + Enrollment::kExpire);
  EXPECT_THAT(world.opensips.Receivers("E_A"), IsEmpty());
}

TEST(Enrollment, WhatNobodyWantsAnyMoreIsEnded) {
  World world({"E_A", "E_B"});
  world.wanted = {"E_A", "E_B"};
  world.Step();
  world.wanted = {"E_B"};
  world.calls.clear();
  world.Step();
  EXPECT_THAT(world.Calls("event_subscribe"), ElementsAre("event_subscribe E_A tcp:127.0.0.1:9060 0"));
  EXPECT_EQ(world.EventsComing(), 1u);
  EXPECT_EQ(world.enrollment.status().events.size(), 1u);
}

TEST(Enrollment, WhatCouldNotBeEndedIsEndedWhenOpensipsAnswersAgain) {
  World world({"E_A"});
  world.wanted = {"E_A"};
  world.Step();
  world.wanted = {};
  world.opensips.SetDown(true);
  world.Step();
  world.opensips.SetDown(false);
  world.Pass(kBack);
  EXPECT_THAT(world.opensips.Receivers("E_A"), IsEmpty());
}

class Restart : public testing::TestWithParam<int> {};

TEST_P(Restart, IsNoticedWheneverItComesAndAllIsEnrolledAgain) {
  for (int at = 0; at < 40; at += GetParam() < 100 ? 3 : 13) {  // also in the middle of renewals
    World world(Numbered(GetParam()));
    world.wanted = Numbered(GetParam());
    world.Pass(absl::Seconds(10 + at));
    ASSERT_EQ(world.EventsComing(), world.wanted.size());
    world.opensips.Restart();
    ASSERT_EQ(world.EventsComing(), 0u);
    world.Pass(kBack);
    ASSERT_EQ(world.EventsComing(), world.wanted.size()) << "restarted after " << 10 + at << " s";
    ASSERT_EQ(world.enrollment.status().counters.restarts, 1u);
  }
}

TEST_P(Restart, WithAnOutageIsOverSoonAfterOpensipsAnswers) {
  World world(Numbered(GetParam()));
  world.wanted = Numbered(GetParam());
  world.Pass(absl::Seconds(10));
  world.opensips.SetDown(true);
  world.opensips.Restart();
  world.Pass(absl::Minutes(3));
  EXPECT_EQ(world.enrollment.status().state, State::kFailing);
  EXPECT_EQ(world.enrollment.status().error, "Connection refused");
  world.opensips.SetDown(false);
  world.Pass(kBack);
  EXPECT_EQ(world.EventsComing(), world.wanted.size());
  EXPECT_EQ(world.enrollment.status().state, State::kEnrolled);
  EXPECT_EQ(world.enrollment.status().error, "");
  EXPECT_EQ(world.enrollment.status().counters.restarts, 1u);
}

TEST(Enrollment, ARestartInTheMiddleOfAStepLosesNothingThatTheStepHadDone) {
  for (int call = 1; call <= 20; ++call) {
    World world(Numbered(10));
    world.wanted = Numbered(10);
    world.Step();
    world.now += Enrollment::kRenewal;  // all are renewed in one step
    world.opensips.RestartDuringCall(call);
    world.Step();
    world.Pass(kBack);
    ASSERT_EQ(world.EventsComing(), 10u) << "restarted during call " << call;
  }
}

INSTANTIATE_TEST_SUITE_P(Events, Restart, testing::Values(1, 3, 500));

TEST(Enrollment, AnOutageWithoutARestartIsNoRestart) {
  World world({"E_A"});
  world.wanted = {"E_A"};
  world.Pass(absl::Seconds(10));
  world.opensips.SetDown(true);
  world.Pass(absl::Seconds(10));
  world.opensips.SetDown(false);
  world.Pass(kBack);
  EXPECT_EQ(world.enrollment.status().counters.restarts, 0u);
  EXPECT_EQ(world.enrollment.status().state, State::kEnrolled);
}

TEST(Enrollment, ASilentOpensipsIsAskedTwiceAStep) {
  World world(Numbered(500));
  world.wanted = Numbered(500);
  world.Step();
  world.opensips.SetDown(true);
  world.calls.clear();
  world.most_calls = 0;
  world.Pass(absl::Seconds(30));
  EXPECT_EQ(world.most_calls, 2u) << "each may take the whole timeout";
}

TEST(Enrollment, AnEventThatOpensipsRefusesHoldsUpNoOtherAndIsTriedAgain) {
  World world({"E_A", "E_C"});
  world.wanted = {"E_A", "E_B", "E_C"};
  world.Step();
  EXPECT_EQ(world.EventsComing(), 2u);
  EXPECT_EQ(world.enrollment.status().state, State::kPartial);
  EXPECT_EQ(world.StateOf("E_B"), EventState::kRefused);
  EXPECT_THAT(world.enrollment.status().error,
              AllOf(HasSubstr("E_B: 400 Bad parameter value"), HasSubstr("event_stream")));
  world.Pass(absl::Seconds(30));
  world.opensips.Publish("E_B");
  world.Pass(kBack);
  EXPECT_EQ(world.EventsComing(), 3u);
  EXPECT_EQ(world.enrollment.status().state, State::kEnrolled);
}

TEST(Enrollment, APatternStandsForWhatOpensipsKnowsAlsoLater) {
  World world({"E_UL_INSERT", "E_UL_DELETE", "E_OTHER", "E_EVI_SUBSCRIBER_DOWN"});
  world.wanted = {"E_OTHER", "E_UL_*", "E_UL_DELETE"};
  world.Step();
  EXPECT_THAT(world.Calls("event_subscribe"), ElementsAre("event_subscribe E_OTHER tcp:127.0.0.1:9060 60",
                                                          "event_subscribe E_UL_DELETE tcp:127.0.0.1:9060 60",
                                                          "event_subscribe E_UL_INSERT tcp:127.0.0.1:9060 60"));
  world.opensips.Publish("E_UL_UPDATE");
  world.Pass(kBack);
  EXPECT_THAT(world.opensips.Receivers("E_UL_UPDATE"), ElementsAre(kIngest));
  world.wanted = {"E_OTHER", "E_UL_DELETE"};
  world.Step();
  EXPECT_THAT(world.opensips.Receivers("E_UL_UPDATE"), IsEmpty());
  EXPECT_EQ(world.EventsComing(), 2u);
}

TEST(Enrollment, OurOwnEventsAreNeverAskedOfOpensips) {
  World world({"E_A", "E_EVI_SUBSCRIBER_DOWN"});
  world.wanted = {"*", "E_EVI_SUBSCRIBER_DOWN"};
  world.Pass(absl::Minutes(1));
  EXPECT_THAT(world.opensips.Receivers("E_EVI_SUBSCRIBER_DOWN"), IsEmpty());
  EXPECT_THAT(world.opensips.Receivers("E_A"), ElementsAre(kIngest));
}

TEST(Enrollment, APatternWithoutAListIsToldAndTheRestComes) {
  World world({"E_A", "E_UL_INSERT"});
  world.opensips.Forbid("events_list");
  world.wanted = {"E_A", "E_UL_*"};
  world.Step();
  EXPECT_THAT(world.opensips.Receivers("E_A"), ElementsAre(kIngest));
  EXPECT_EQ(world.enrollment.status().state, State::kPartial);
  EXPECT_THAT(world.enrollment.status().error, HasSubstr("events_list: -32601"));
  world.Pass(absl::Minutes(1), [&] { EXPECT_EQ(world.enrollment.status().state, State::kPartial) << "it stays told"; });
  world.wanted = {"E_A"};
  world.Step();
  EXPECT_EQ(world.enrollment.status().state, State::kEnrolled);
}

TEST(Enrollment, WithNothingWantedItIsStillKnownWhetherOpensipsAnswers) {
  World world({"E_A"});
  world.Step();
  EXPECT_EQ(world.enrollment.status().state, State::kEnrolled);
  world.opensips.SetDown(true);
  world.Pass(kBack);
  EXPECT_EQ(world.enrollment.status().state, State::kFailing);
}

// Five hundred events cost a look every two seconds, and two calls each in half a minute.
TEST(Enrollment, HundredsOfEventsCostAFewCallsASecond) {
  World world(Numbered(500));
  world.wanted = Numbered(500);
  world.Pass(absl::Seconds(60));
  EXPECT_LE(world.most_calls, Enrollment::kMaxCalls + 2u);
  world.all_calls = 0;
  world.Pass(absl::Minutes(5), [&] { ASSERT_EQ(world.EventsComing(), 500u); });
  EXPECT_LE(world.all_calls / 300.0, 2 * 500 / 30.0 + 1);
}

TEST(Enrollment, IsNotCalledEnrolledBeforeEachEventWasTried) {
  World world(Numbered(500));
  world.wanted = Numbered(500);
  EXPECT_EQ(world.Step().next, absl::ZeroDuration()) << "there is more to do at once";
  EXPECT_EQ(world.enrollment.status().state, State::kWaiting);
  world.Pass(absl::ZeroDuration());
  EXPECT_EQ(world.EventsComing(), 500u);
  EXPECT_EQ(world.enrollment.status().state, State::kEnrolled);
}

TEST(Enrollment, HundredsThatNobodyWantsAnyMoreEndInBoundedSteps) {
  World world(Numbered(500));
  world.wanted = Numbered(500);
  world.Pass(absl::Seconds(10));
  world.wanted = {};
  world.most_calls = 0;
  world.Pass(absl::Seconds(5));
  EXPECT_LE(world.most_calls, Enrollment::kMaxCalls + 2u);
  world.wanted = Numbered(500);
  EXPECT_EQ(world.EventsComing(), 0u);
}

TEST(Enrollment, TooManyEventsAreToldAndBounded) {
  World world({"E_A"});
  world.wanted = Numbered(Enrollment::kMaxEvents + 1);
  world.Step();
  EXPECT_EQ(world.enrollment.status().events.size(), Enrollment::kMaxEvents);
  EXPECT_THAT(world.enrollment.status().error, HasSubstr("10001 events are wanted"));
}

// A stand-in that shows no single event, or shows sockets in words of its own.
class Blind : public testing::TestWithParam<bool> {
 protected:
  void Prepare(World& world) {
    GetParam() ? world.opensips.ListNoSingleEvents() : world.opensips.PrintSocketsDifferently();
  }
};

TEST_P(Blind, RenewsWithoutLookingAndSoSurvivesARestart) {
  World world(Numbered(80));
  Prepare(world);
  world.wanted = Numbered(80);
  world.Pass(absl::Seconds(61), [&] { ASSERT_TRUE(world.now == world.next || world.EventsComing() == 80); });
  world.opensips.Restart();
  world.Pass(kBack);
  EXPECT_EQ(world.EventsComing(), 80u);
  EXPECT_EQ(world.enrollment.status().counters.restarts, 0u) << "nobody can know";
}

TEST_P(Blind, RenewsNoMoreThanAHundredAtATime) {
  World world(Numbered(500));
  Prepare(world);
  world.wanted = Numbered(500);
  world.Pass(absl::Seconds(20));
  world.most_calls = 0;
  world.Pass(absl::Minutes(5), [&] { ASSERT_EQ(world.EventsComing(), 500u) << world.now; });
  EXPECT_LE(world.most_calls, 2u * Enrollment::kMaxBlindRenewals + 2);
}

TEST(Enrollment, OfAPeerThatKnowsNothingElseTakesPlaceToo) {
  World world({"E_A", "E_UL_INSERT"});
  world.wanted = {"E_A", "E_UL_*"};
  for (const char* method : {"subscribers_list", "events_list of all"}) world.opensips.LeaveUnanswered(method);
  world.Pass(absl::Minutes(2), [&] { ASSERT_TRUE(world.now == world.next || world.EventsComing() == 1u); });
  EXPECT_THAT(world.enrollment.status().error, HasSubstr("events_list: no answer"));
  world.opensips.Restart();
  world.Pass(kBack);
  EXPECT_EQ(world.EventsComing(), 1u);
}

TEST(Covered, AnOutageIsNoticedAlsoWhereNothingIsOurs) {
  World world({"E_A"});
  world.opensips.Subscribe("E_A", kIngest);
  world.wanted = {"E_A"};
  world.Pass(absl::Seconds(10));
  world.opensips.SetDown(true);
  world.Pass(kBack);
  EXPECT_EQ(world.enrollment.status().state, State::kFailing);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Blind, testing::Bool());

TEST(Covered, WhatTheSafetyNetOfTheScriptBringsIsNotAskedForTwice) {
  World world({"E_A", "E_B"});
  world.opensips.Subscribe("E_A", "virtual:FAILOVER tcp:127.0.0.1:9060 flatstore:/var/spool/lost.log");
  world.wanted = {"E_A", "E_B"};
  world.Pass(absl::Minutes(2));
  EXPECT_EQ(world.opensips.Receivers("E_A").size(), 1u);
  EXPECT_EQ(world.StateOf("E_A"), EventState::kCovered);
  EXPECT_EQ(world.StateOf("E_B"), EventState::kEnrolled);
  EXPECT_EQ(world.enrollment.status().state, State::kEnrolled);
  world.wanted = {"E_B"};
  world.Step();
  EXPECT_EQ(world.opensips.Receivers("E_A").size(), 1u) << "it is none of ours";
}

TEST(Covered, WhatTheScriptSubscribedForEverIsNotMadeToExpire) {
  World world({"E_A"});
  world.opensips.Subscribe("E_A", kIngest);
  world.wanted = {"E_A"};
  world.Pass(absl::Minutes(2));
  EXPECT_THAT(world.Calls("event_subscribe"), IsEmpty());
  EXPECT_THAT(world.opensips.Receivers("E_A"), ElementsAre(kIngest));
}

TEST(Covered, WhenTheSafetyNetComesLaterOursEnds) {
  World world({"E_A"});
  world.wanted = {"E_A"};
  world.Step();
  world.opensips.Subscribe("E_A", "virtual:PARALLEL udp:127.0.0.1:7 tcp:localhost:9060/method");
  world.Pass(kBack);
  EXPECT_THAT(world.opensips.Receivers("E_A"), ElementsAre(HasSubstr("virtual:")));
  EXPECT_EQ(world.StateOf("E_A"), EventState::kCovered);
}

TEST(Covered, IsNoRestartWhenItCanNoLongerBeSeen) {
  World world({"E_A"});
  world.opensips.Subscribe("E_A", "virtual:FAILOVER tcp:127.0.0.1:9060 flatstore:/var/spool/lost.log");
  world.wanted = {"E_A"};
  world.Pass(absl::Seconds(4));
  world.opensips.ListNoSingleEvents();
  world.Pass(absl::Seconds(10));
  EXPECT_EQ(world.enrollment.status().counters.restarts, 0u);
}

TEST(Covered, WhenTheSafetyNetGoesOursComes) {
  World world({"E_A"});
  world.opensips.Subscribe("E_A", "virtual:FAILOVER tcp:127.0.0.1:9060 flatstore:/var/spool/lost.log");
  world.wanted = {"E_A"};
  world.Pass(absl::Seconds(11));
  world.opensips.Restart();
  world.Pass(kBack);
  EXPECT_THAT(world.opensips.Receivers("E_A"), ElementsAre(kIngest));
}

TEST(Covered, NoSocketThatBringsOnlySome) {
  for (const char* socket : {"virtual:FAILOVER flatstore:/var/spool/x.log tcp:127.0.0.1:9060",
                             "virtual:ROUND-ROBIN tcp:127.0.0.1:9060 tcp:127.0.0.1:9061",
                             "virtual:PARALLEL tcp:127.0.0.1:9061 udp:127.0.0.1:9060", "tcp:10.0.0.1:9060"}) {
    World world({"E_A"});
    world.opensips.Subscribe("E_A", socket);
    world.wanted = {"E_A"};
    world.Step();
    EXPECT_THAT(world.opensips.Receivers("E_A"), ElementsAre(socket, kIngest));
  }
}

TEST(TakenOver, IsEndedThereOnlyOnceItsEventComesHere) {
  World world({"E_A", "E_B"});
  const ListedSubscriber enrolled = {"E_A", "virtual:PARALLEL udp:127.0.0.1:7", absl::InfiniteDuration()};
  const ListedSubscriber refused = {"E_X", "virtual:PARALLEL udp:127.0.0.1:7", absl::InfiniteDuration()};
  const ListedSubscriber unwanted = {"E_B", "virtual:PARALLEL udp:127.0.0.1:7", absl::InfiniteDuration()};
  world.wanted = {"E_A", "E_X"};
  world.taken_over = {enrolled, refused, unwanted};
  const Enrollment::Found found = world.Step();
  ASSERT_EQ(found.ended.size(), 1u);
  EXPECT_EQ(found.ended[0].event, "E_A");
  const std::vector<std::string> calls = world.Calls("event_subscribe");
  EXPECT_THAT(calls,
              ElementsAre("event_subscribe E_A tcp:127.0.0.1:9060 60", "event_subscribe E_X tcp:127.0.0.1:9060 60",
                          "event_subscribe E_A virtual:PARALLEL udp:127.0.0.1:7 0"));
}

TEST(TakenOver, AllSubscribersAreListedEveryFewSecondsAndAtOnceAfterARestart) {
  World world({"E_A"}, /*import=*/true);
  world.wanted = {"E_A"};
  Enrollment::Found found = world.Step();
  EXPECT_TRUE(found.forgotten) << "whatever was known before";
  ASSERT_TRUE(found.subscribers.has_value());
  world.now += absl::Seconds(1);
  found = world.Step();
  EXPECT_FALSE(found.subscribers.has_value());
  EXPECT_FALSE(found.forgotten);
  world.now += absl::Seconds(2);
  world.opensips.Restart();
  world.opensips.Subscribe("E_A", "virtual:PARALLEL udp:127.0.0.1:7");
  (void)world.Step();  // looks at one event
  ASSERT_EQ(world.EventsComing(), 1u);
  world.now += absl::Seconds(4);
  found = world.Step();
  ASSERT_TRUE(found.subscribers.has_value());
  ASSERT_EQ(found.subscribers->size(), 2u);
}

TEST(TakenOver, AListThatCannotBeHadStopsNothingElse) {
  World world({"E_A"}, /*import=*/true);
  world.opensips.Forbid("subscribers_list");
  world.wanted = {"E_A"};
  world.Pass(absl::Minutes(2));
  EXPECT_EQ(world.EventsComing(), 1u);
  EXPECT_EQ(world.enrollment.status().state, State::kPartial);
  EXPECT_THAT(world.enrollment.status().error, HasSubstr("import: subscribers_list: -32601"));
}

// As over datagrams, into which the list of a large proxy does not fit.
TEST(TakenOver, AListThatIsNeverAnsweredMakesNothingElseSuspect) {
  World world(Numbered(10), /*import=*/true);
  world.opensips.LeaveUnanswered("subscribers_list of all");
  world.wanted = Numbered(10);
  world.Pass(absl::Seconds(20));
  world.all_calls = 0;
  world.Pass(absl::Minutes(5), [&] { ASSERT_EQ(world.EventsComing(), 10u); });
  EXPECT_LE(world.all_calls / 300.0, 2 * 10 / 30.0 + 1 / 2.0 + 1 / 4.0 + 0.1) << "renewals, looks, lists";
  EXPECT_THAT(world.enrollment.status().error, HasSubstr("import: subscribers_list: no answer"));
}

TEST(End, GivesBackFirstAndThenEndsEverything) {
  World world({"E_A", "E_B"});
  world.wanted = {"E_A", "E_B", "E_REFUSED"};
  world.Step();
  world.calls.clear();
  world.enrollment.Cancel();
  world.Step();
  EXPECT_THAT(world.Calls(""), IsEmpty()) << "cancelled";
  world.enrollment.End({{"E_A", "virtual:PARALLEL udp:127.0.0.1:7", absl::Seconds(100)}});
  EXPECT_THAT(world.Calls(""),
              ElementsAre("event_subscribe E_A virtual:PARALLEL udp:127.0.0.1:7 100",
                          "event_subscribe E_A tcp:127.0.0.1:9060 0", "event_subscribe E_B tcp:127.0.0.1:9060 0"));
}

TEST(End, OfASilentOpensipsIsOneCall) {
  World world(Numbered(10));
  world.wanted = Numbered(10);
  world.Step();
  world.opensips.SetDown(true);
  world.calls.clear();
  world.enrollment.End({});
  EXPECT_EQ(world.Calls("").size(), 1u);
}

MessageRef Failure(absl::Span<const Param> params) {
  return Message::Make({.name = "E_EVI_SUBSCRIBER_DOWN", .params = params});
}

TEST(Notices, AreRaisedAsMiTakesThem) {
  World world({"E_EVI_SUBSCRIBER_DOWN"});
  world.Step();
  const Param named[] = {{"uri", "udp:127.0.0.1:7"}, {"failures", int64_t{3}}};
  const Param positional[] = {{"", "udp:127.0.0.1:7"}, {"", int64_t{3}}};
  EXPECT_TRUE(world.enrollment.Notify(*Failure(named)));
  EXPECT_FALSE(world.enrollment.Notify(*Failure(positional))) << "they are waited for already";
  world.enrollment.Notify(*Failure({}));
  world.calls.clear();
  world.enrollment.SendNotices();
  EXPECT_THAT(
      world.Calls(""),
      ElementsAre(R"(raise_event E_EVI_SUBSCRIBER_DOWN {"uri":"udp:127.0.0.1:7","failures":3})",
                  R"(raise_event E_EVI_SUBSCRIBER_DOWN ["udp:127.0.0.1:7",3])", "raise_event E_EVI_SUBSCRIBER_DOWN"));
  EXPECT_EQ(world.enrollment.status().counters.notified, 3u);
  EXPECT_TRUE(world.enrollment.Notify(*Failure({}))) << "the next is the first again";
}

TEST(Notices, ThatOpensipsDoesNotKnowAreCounted) {
  World world({"E_A"});
  world.Step();
  world.enrollment.Notify(*Failure({}));
  world.enrollment.SendNotices();
  EXPECT_EQ(world.enrollment.status().counters.notify_refused, 1u);
}

TEST(Notices, AreDroppedAndCountedWhenOpensipsIsSilentOrTooManyWait) {
  World world({"E_EVI_SUBSCRIBER_DOWN"});
  world.Step();
  for (size_t i = 0; i < Enrollment::kMaxNotices + 5; ++i) world.enrollment.Notify(*Failure({}));
  EXPECT_EQ(world.enrollment.status().counters.notify_dropped, 5u);
  world.opensips.SetDown(true);
  world.calls.clear();
  world.enrollment.SendNotices();
  EXPECT_EQ(world.Calls("").size(), 1u) << "one may cost the whole timeout";
  EXPECT_EQ(world.enrollment.status().counters.notify_dropped, Enrollment::kMaxNotices + 5);
  world.Step();  // now it is known to be silent
  world.calls.clear();
  world.enrollment.Notify(*Failure({}));
  world.enrollment.SendNotices();
  EXPECT_THAT(world.Calls(""), IsEmpty());
  EXPECT_EQ(world.enrollment.status().counters.notify_dropped, Enrollment::kMaxNotices + 6);
}

TEST(Notices, AreBoundedInBytesToo) {
  World world({"E_EVI_SUBSCRIBER_DOWN"});
  const std::string large(Enrollment::kMaxNoticeBytes / 4, 'x');
  const Param param[] = {{"", absl::string_view(large)}};
  for (int i = 0; i < 10; ++i) world.enrollment.Notify(*Failure(param));
  EXPECT_EQ(world.enrollment.status().counters.notify_dropped, 7u);
}

}  // namespace
}  // namespace eventvirtual
