// Stories of failures, and of who is told about them.
#include "server/reports/failure_reports.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
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
using ::testing::SizeIs;

const absl::Status kRefused = absl::UnavailableError("refused");
const char* const kMonitor = "fake:monitor?timeout=1h";  // it is looked at when a test gets round to it

// A world in which reports are made. A monitor hears them at fake:monitor.
class Reports : public testing::Test {
 protected:
  Reports() {
    world_.on_health = [this](const HealthChange& change) { reports_.OnHealthChange(change); };
    world_.fake->at("monitor").window = 10000;
  }
  ~Reports() override { world_.fake->at("monitor").connect_error = kRefused; }

  // What has come to the monitor, which takes it.
  std::vector<std::string> Heard() {
    std::vector<std::string> heard;
    while (world_.fake->at("monitor").has_parcel()) heard.push_back(world_.End("monitor"));
    return heard;
  }
  std::vector<std::string> HeardAfter(absl::Duration duration) {
    world_.loop.Advance(duration);
    return Heard();
  }
  uint64_t TimesRaised(absl::string_view event) const {
    for (const Registry::EventInfo& info : world_.registry.ListEvents("", 100)) {
      if (info.name == event) return info.raised;
    }
    return 0;
  }
  uint64_t ReportsRaised() const {
    return TimesRaised("E_EVI_SUBSCRIBER_DOWN") + TimesRaised("E_EVI_SUBSCRIBER_UP") +
           TimesRaised("E_EVI_DELIVERY_FAILED");
  }
  void RaiseOne(const std::string& event, absl::string_view event_id = "") {
    EventFields fields;
    fields.name = event;
    fields.event_id = event_id;
    world_.dispatcher.Raise(Message::Make(fields), nullptr);
    world_.loop.RunUntilIdle();
  }

  World world_;
  FailureReports reports_{world_.registry, world_.dispatcher, world_.loop};
};

TEST_F(Reports, WhenNobodyListensNothingIsRaised) {
  world_.Subscribe("E", "fake:a");
  world_.fake->at("a").connect_error = kRefused;
  for (int i = 0; i < 10; ++i) RaiseOne("E");
  world_.loop.Advance(absl::Seconds(10));
  EXPECT_THAT(world_.health, Not(IsEmpty()));
  EXPECT_THAT(world_.registry.ListEvents("", 100), SizeIs(1));
}

TEST_F(Reports, ASubscriberThatFailsAndOneThatWorksAgainAreToldWithoutThePassword) {
  world_.Subscribe("E_EVI_SUBSCRIBER_DOWN", kMonitor);
  world_.Subscribe("E_EVI_SUBSCRIBER_UP", kMonitor);
  world_.Subscribe("E", "fake:me:s3cr3t@a");
  RaiseOne("E");
  world_.End("a", absl::UnavailableError("no route to host"));
  EXPECT_THAT(Heard(), ElementsAre(R"({"jsonrpc":"2.0","method":"E_EVI_SUBSCRIBER_DOWN","params":)"
                                   R"({"uri":"fake:me:***@a","error":"no route to host"}})"));
  RaiseOne("E");
  world_.End("a", absl::UnavailableError("still none"));
  EXPECT_THAT(HeardAfter(absl::Seconds(5)), IsEmpty()) << "it is known";
  RaiseOne("E");
  world_.End("a");
  EXPECT_THAT(Heard(), ElementsAre(R"({"jsonrpc":"2.0","method":"E_EVI_SUBSCRIBER_UP","params":)"
                                   R"({"uri":"fake:me:***@a"}})"));
}

TEST_F(Reports, AFailedDeliveryIsToldAtOnceAndFurtherOnesOnceASecondWithTheirNumber) {
  world_.Subscribe("E_EVI_DELIVERY_FAILED", kMonitor);
  const std::string name = world_.Subscribe("E", "virtual:FAILOVER fake:b fake:me:s3cr3t@a");
  const auto fail = [this](int i) {
    RaiseOne("E", absl::StrCat("id-", i));
    for (int attempt = 0; attempt < 2; ++attempt) {
      world_.End(world_.fake->at("a").has_parcel() ? "a" : "b", absl::UnavailableError("no such host"));
    }
  };
  fail(1);
  EXPECT_THAT(Heard(), ElementsAre(absl::StrCat(
                           R"({"jsonrpc":"2.0","method":"E_EVI_DELIVERY_FAILED","params":{"subscription":")", name,
                           R"(","event":"E","event_id":"id-1","uri":"fake:me:***@a","error":"no such host",)",
                           R"("failed":1,"failed_total":1}})")));
  for (int i = 2; i <= 1000; ++i) {
    fail(i);
    world_.loop.Advance(absl::Microseconds(900));
  }
  EXPECT_THAT(Heard(), IsEmpty()) << "within a second";
  EXPECT_THAT(HeardAfter(absl::Seconds(1)),
              ElementsAre(AllOf(HasSubstr(R"("event_id":"id-1000")"), HasSubstr(R"("failed":999,"failed_total":1000)"),
                                Not(HasSubstr("s3cr3t")))));
  EXPECT_THAT(HeardAfter(absl::Minutes(1)), IsEmpty()) << "nothing has failed since";
  fail(1001);
  EXPECT_THAT(HeardAfter(absl::Milliseconds(1)), ElementsAre(HasSubstr(R"("failed":1,"failed_total":1001)")));
}

TEST_F(Reports, EachSubscriptionHasAReportOfItsOwn) {
  world_.Subscribe("E_EVI_DELIVERY_FAILED", kMonitor);
  const std::string first = world_.Subscribe("E", "fake:a");
  const std::string second = world_.Subscribe("E", "virtual:PARALLEL fake:a fake:b");
  world_.Subscribe("E", "virtual:FAILOVER fake:a fake:b");  // succeeds
  world_.fake->at("a").connect_error = kRefused;
  RaiseOne("E");
  while (world_.fake->at("b").has_parcel()) world_.End("b");
  EXPECT_THAT(HeardAfter(absl::Milliseconds(200)),
              ElementsAre(AllOf(HasSubstr(first), HasSubstr("fake:a")),
                          AllOf(HasSubstr(second), HasSubstr(R"("uri":"fake:a","error":"refused","failed":1)"))));
}

TEST_F(Reports, WhatNoQueueTakesAndWhatTimesOutHasFailed) {
  EndpointLimits limits;
  limits.queue_events = 1;
  World world(limits);
  FailureReports reports(world.registry, world.dispatcher, world.loop);
  world.Subscribe("E_EVI_DELIVERY_FAILED", kMonitor);
  world.Subscribe("E", "fake:a");
  world.fake->at("a").hang_connects = true;
  world.Raise("E", "1");
  world.Raise("E", "2");
  ASSERT_TRUE(world.fake->at("monitor").has_parcel());
  EXPECT_THAT(world.End("monitor"), HasSubstr(R"("uri":"fake:a","error":"the queue of fake:a is full","failed":1)"));
  world.loop.Advance(absl::Seconds(3));
  ASSERT_TRUE(world.fake->at("monitor").has_parcel());
  EXPECT_THAT(world.End("monitor"), HasSubstr(R"("failed":1,"failed_total":2)"));
}

TEST_F(Reports, APatternHearsAllThree) {
  const std::string name = world_.Subscribe("E_EVI_*", kMonitor);
  world_.Subscribe("E", "fake:a");
  RaiseOne("E");
  world_.End("a", kRefused);
  EXPECT_THAT(HeardAfter(absl::Seconds(2)),
              ElementsAre(HasSubstr("E_EVI_SUBSCRIBER_DOWN"), HasSubstr("E_EVI_DELIVERY_FAILED")));
  RaiseOne("E");
  world_.End("a");
  EXPECT_THAT(HeardAfter(absl::Seconds(2)), ElementsAre(HasSubstr("E_EVI_SUBSCRIBER_UP")));
  ASSERT_TRUE(world_.registry.Unsubscribe(name).ok());
  const uint64_t raised = ReportsRaised();
  RaiseOne("E");
  world_.End("a", kRefused);
  world_.loop.Advance(absl::Seconds(2));
  EXPECT_EQ(ReportsRaised(), raised) << "nobody listens any more";
}

TEST_F(Reports, WhoIsThereBeforeTheyAreMadeHearsThem) {
  World world;
  world.Subscribe("E_EVI_DELIVERY_FAILED", kMonitor);
  FailureReports reports(world.registry, world.dispatcher, world.loop);
  world.Subscribe("E", "fake:a");
  world.fake->at("a").connect_error = kRefused;
  world.Raise("E");
  EXPECT_TRUE(world.fake->at("monitor").has_parcel());
}

TEST_F(Reports, TheFailedDeliveryOfAReportIsNotReported) {
  world_.Subscribe("E_EVI_*", kMonitor);
  world_.fake->at("monitor").connect_error = kRefused;
  world_.Subscribe("E", "fake:a");
  RaiseOne("E");
  world_.End("a", kRefused);
  world_.loop.Advance(absl::Minutes(10));
  EXPECT_EQ(TimesRaised("E_EVI_DELIVERY_FAILED"), 1u);
  EXPECT_EQ(TimesRaised("E_EVI_SUBSCRIBER_DOWN"), 1u) << "that the monitor is down too, the log tells";
  EXPECT_THAT(world_.health, ElementsAre("fake:a fails: refused", "fake:monitor?timeout=1h fails: refused"));
}

// Takes one report and refuses the next, so that its health changes as often as it can be told.
TEST_F(Reports, AMonitorThatFlapsDoesNotFeedItself) {
  world_.Subscribe("E_EVI_*", kMonitor);
  world_.Subscribe("E", "fake:a");
  RaiseOne("E");
  world_.End("a", kRefused);
  bool takes = false;
  for (int i = 0; i < 36000; ++i) {  // an hour
    while (world_.fake->at("monitor").has_parcel()) {
      world_.End("monitor", takes ? absl::OkStatus() : kRefused);
      takes = !takes;
    }
    world_.loop.Advance(absl::Milliseconds(100));
  }
  EXPECT_LE(ReportsRaised(), 2u);
}

TEST_F(Reports, TwoMonitorsThatFlapDoNotFeedEachOther) {
  world_.Subscribe("E_EVI_*", kMonitor);
  world_.Subscribe("E_EVI_*", "fake:other");
  world_.Subscribe("E", "fake:a");
  RaiseOne("E");
  world_.End("a", kRefused);
  for (int i = 0; i < 36000; ++i) {
    for (const std::string site : {"monitor", "other"}) {
      while (world_.fake->at(site).has_parcel()) {
        world_.End(site, (i + (site == "other")) % 2 == 0 ? absl::OkStatus() : kRefused);
      }
    }
    world_.loop.Advance(absl::Milliseconds(100));
  }
  EXPECT_LE(ReportsRaised(), 2u);
}

// As a datagram to a closed port: it counts as sent, then the error comes and ends the link.
TEST_F(Reports, AMonitorThatIsSeenToBeGoneOnlyBehindASuccessDoesNotFeedItself) {
  world_.Subscribe("E_EVI_*", kMonitor);
  world_.Subscribe("E", "fake:a");
  RaiseOne("E");
  world_.End("a", kRefused);
  for (int i = 0; i < 36000; ++i) {
    while (world_.fake->at("monitor").has_parcel()) {
      world_.End("monitor");
      world_.fake->CloseLink("monitor", absl::DataLossError("connection refused"));
      world_.loop.RunUntilIdle();
    }
    world_.loop.Advance(absl::Milliseconds(100));
  }
  EXPECT_LE(ReportsRaised(), 2u);
}

TEST_F(Reports, AMonitorThatFailsBecauseOfOtherEventsIsReported) {
  world_.Subscribe("E_EVI_SUBSCRIBER_DOWN", "fake:other");
  world_.Subscribe("E_EVI_SUBSCRIBER_DOWN", kMonitor);
  world_.Subscribe("E", kMonitor);
  RaiseOne("E");
  world_.End("monitor", kRefused);
  ASSERT_TRUE(world_.fake->at("other").has_parcel());
  EXPECT_THAT(world_.End("other"), HasSubstr(R"("uri":"fake:monitor?timeout=1h")"));
}

TEST_F(Reports, AFloodOfFailuresLeavesAHundredAtATimeAndIsToldWhole) {
  world_.Subscribe("E_EVI_*", kMonitor);
  for (int i = 0; i < 450; ++i) {
    world_.Subscribe("E", absl::StrCat("fake:a", i));
    world_.fake->at(absl::StrCat("a", i)).connect_error = kRefused;
  }
  RaiseOne("E");
  std::vector<std::string> heard = Heard();
  EXPECT_THAT(heard, SizeIs(200)) << "a hundred of each kind";
  RaiseOne("E");
  EXPECT_THAT(Heard(), IsEmpty());
  const std::vector<std::string> next = HeardAfter(absl::Milliseconds(100)), rest = HeardAfter(absl::Seconds(3));
  EXPECT_THAT(next, SizeIs(200));
  heard.insert(heard.end(), next.begin(), next.end());
  heard.insert(heard.end(), rest.begin(), rest.end());
  size_t down = 0, once = 0, twice = 0;
  for (const std::string& report : heard) {
    down += absl::StrContains(report, "E_EVI_SUBSCRIBER_DOWN");
    once += absl::StrContains(report, R"("failed":1,)");
    twice += absl::StrContains(report, R"("failed":2,)");
  }
  EXPECT_EQ(down, 450u);
  EXPECT_EQ(once + 2 * twice, 900u);
}

TEST_F(Reports, OnceStoppedNothingIsReported) {
  world_.Subscribe("E_EVI_*", kMonitor);
  world_.Subscribe("E", "fake:a");
  world_.fake->at("a").connect_error = kRefused;
  reports_.Stop();
  RaiseOne("E");
  EXPECT_THAT(HeardAfter(absl::Seconds(5)), IsEmpty());
}

}  // namespace
}  // namespace eventvirtual
