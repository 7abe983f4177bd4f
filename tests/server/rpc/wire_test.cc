// What the core tells stands on the wire as it is. What comes from there: tests/fuzz/wire_fuzz.cc.
#include "server/rpc/wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "tests/server/dispatch/world.h"

namespace eventvirtual {
namespace {

using Outcome = DeliveryResult::Outcome;
using Result = AttemptRecord::Result;
using ::testing::ElementsAre;

TEST(ToWire, ADeliveryIsToldWithEachOfItsAttempts) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:me:secret@a fake:b");
  const World::Raised raised = world.Raise("E");
  world.End("a", absl::UnavailableError("gone"));
  world.End("b");
  v1::DeliveryOutcome told;
  ToWire((**raised.results)[0], &told);
  EXPECT_EQ(told.outcome(), v1::DeliveryOutcome::OUTCOME_DELIVERED);
  ASSERT_EQ(told.attempts_size(), 2);
  EXPECT_EQ(told.attempts(0).uri(), "fake:me:***@a");
  EXPECT_EQ(told.attempts(0).result(), v1::Attempt::RESULT_FAILED);
  EXPECT_EQ(told.attempts(0).code(), static_cast<int>(absl::StatusCode::kUnavailable));
  EXPECT_EQ(told.attempts(0).ack_level(), v1::ACK_LEVEL_UNSPECIFIED) << "nothing was acknowledged";
  EXPECT_EQ(told.attempts(1).result(), v1::Attempt::RESULT_OK);
  EXPECT_NE(told.attempts(1).ack_level(), v1::ACK_LEVEL_UNSPECIFIED);
}

TEST(ToWire, EachOutcomeHasAWordOfItsOwn) {
  World world;
  world.Subscribe("E", "fake:a");
  const World::Raised raised = world.Raise("E");
  world.End("a");
  DeliveryResult result = (**raised.results)[0];
  std::set<int> words = {v1::DeliveryOutcome::OUTCOME_UNSPECIFIED};
  for (Outcome outcome : {Outcome::kDelivered, Outcome::kPartial, Outcome::kFailed, Outcome::kFiltered,
                          Outcome::kExpired, Outcome::kPending, Outcome::kDropped, Outcome::kDeadLettered}) {
    v1::DeliveryOutcome told;
    result.outcome = outcome;
    ToWire(result, &told);
    EXPECT_TRUE(words.insert(told.outcome()).second) << v1::DeliveryOutcome::Outcome_Name(told.outcome());
  }
}

TEST(ToWire, ADeadLetterIsToldWithItsEventAndItsAttempts) {
  DeadLetter letter;
  letter.id = 7;
  letter.event = "E";
  letter.reason = "it was expired";
  letter.attempts = 9;
  for (Result result : {Result::kOk, Result::kFailed, Result::kUnknown, Result::kRefused, Result::kSkipped}) {
    letter.last_attempts.push_back(
        {"fake:a", result, AckLevel::kDurable, absl::AbortedError("why"), absl::Milliseconds(5)});
  }
  v1::DeadLetter without;
  ToWire(letter, &without);
  EXPECT_EQ(without.event().name(), "E") << "its record is damaged, and it is listed all the same";
  EXPECT_EQ(without.event().params_size(), 0);

  const Param param{"n", int64_t{1}};
  EventFields fields;
  fields.name = "E";
  fields.event_id = "id";
  fields.params = absl::MakeConstSpan(&param, 1);
  letter.message = Message::Make(fields);
  v1::DeadLetter told;
  ToWire(letter, &told);
  EXPECT_EQ(told.name(), "dead-letters/7");
  EXPECT_EQ(told.event().event_id(), "id");
  EXPECT_EQ(told.event().params(0).int_value(), 1);
  std::vector<v1::Attempt::Result> results;
  for (const v1::Attempt& attempt : told.attempts()) results.push_back(attempt.result());
  EXPECT_THAT(results, ElementsAre(v1::Attempt::RESULT_OK, v1::Attempt::RESULT_FAILED, v1::Attempt::RESULT_UNKNOWN,
                                   v1::Attempt::RESULT_REFUSED, v1::Attempt::RESULT_SKIPPED));
  EXPECT_EQ(told.attempts(0).ack_level(), v1::ACK_LEVEL_DURABLE);
  EXPECT_EQ(told.attempts(1).error(), "why");
  EXPECT_EQ(told.attempt_count(), 9u);
}

TEST(ToWire, AnEnrollmentIsToldWithEachOfItsEvents) {
  SimulatedLoop loop;
  const ClockBridge bridge(loop);
  using State = EnrollmentStatus::State;
  using EventState = EnrollmentStatus::Event::State;
  EnrollmentStatus status;
  status.opensips = "http://127.0.0.1:8888/mi";
  status.counters.calls = 5;
  for (EventState state : {EventState::kWaiting, EventState::kEnrolled, EventState::kCovered, EventState::kRefused}) {
    status.events.push_back({"E", state, "why"});
  }
  std::set<int> states = {v1::Enrollment::STATE_UNSPECIFIED}, event_states = {v1::Enrollment::Event::STATE_UNSPECIFIED};
  for (State state : {State::kWaiting, State::kEnrolled, State::kPartial, State::kFailing}) {
    status.state = state;
    v1::Enrollment told;
    ToWire(status, bridge, &told);
    EXPECT_TRUE(states.insert(told.state()).second);
    EXPECT_EQ(told.opensips(), status.opensips);
    EXPECT_EQ(told.calls(), 5u);
    EXPECT_EQ(told.has_last_answer_time(), state != State::kWaiting) << "it was never answered";
    for (const v1::Enrollment::Event& event : told.events()) event_states.insert(event.state());
    status.last_answer = bridge.now();
  }
  EXPECT_EQ(event_states.size(), 5u);
}

TEST(ToWire, AnEndpointIsToldAsItStands) {
  World world;
  world.Subscribe("E", "fake:a");
  const ClockBridge bridge(world.loop);
  EndpointStats stats;
  stats.last_error = absl::UnavailableError("refused");
  stats.failing_since = stats.drained_since = stats.last_failure = bridge.now();
  const auto health = [&](EndpointStats::Health is, absl::Duration cool_down) {
    stats.health = is;
    v1::EndpointStatus told;
    ToWire(stats, 1, cool_down, bridge, &told);
    EXPECT_EQ(told.last_error(), "refused");
    EXPECT_TRUE(told.has_last_failure_time() && !told.has_last_success_time());
    EXPECT_EQ(told.has_retry_time(), told.health() == v1::EndpointStatus::HEALTH_COOLING);
    EXPECT_EQ(told.has_drained_time(), told.health() == v1::EndpointStatus::HEALTH_DRAINED);
    return told.health();
  };
  using Health = EndpointStats::Health;
  EXPECT_EQ(health(Health::kIdle, absl::Seconds(1)), v1::EndpointStatus::HEALTH_IDLE);
  EXPECT_EQ(health(Health::kHealthy, absl::Seconds(1)), v1::EndpointStatus::HEALTH_HEALTHY);
  EXPECT_EQ(health(Health::kProbing, absl::Seconds(1)), v1::EndpointStatus::HEALTH_PROBING);
  EXPECT_EQ(health(Health::kDrained, absl::Seconds(1)), v1::EndpointStatus::HEALTH_DRAINED);
  EXPECT_EQ(health(Health::kFailing, absl::Seconds(1)), v1::EndpointStatus::HEALTH_COOLING);
  EXPECT_EQ(health(Health::kFailing, absl::ZeroDuration()), v1::EndpointStatus::HEALTH_PROBING);
}

TEST(ToWire, APlanIsToldWithThoseThatArePassedOver) {
  World world;
  const std::string name = world.Subscribe("E", "virtual:FAILOVER fake:a fake:b");
  Explanation plan{
      world.registry.Find(name), true, "in their order", {{"fake:a", true, ""}, {"fake:b", false, "drained"}}};
  v1::ExplainDeliveryResponse::Plan told;
  ToWire(plan, &told);
  EXPECT_EQ(told.subscription(), name);
  EXPECT_THAT(told.order(), ElementsAre("fake:a"));
  ASSERT_EQ(told.steps_size(), 2);
  EXPECT_EQ(told.steps(1).reason(), "drained");
}

TEST(ToGrpc, AStatusKeepsItsCodeAndItsText) {
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
  const grpc::Status status = ToGrpc(UnknownEvent("E"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), "event \"E\" is not known (--strict_events)");
}

TEST(Pages, ATokenIsGivenBackAsItCameAndNothingElseIsOne) {
  for (uint64_t number : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
    EXPECT_EQ(*NumberFromPageToken(PageTokenOf(number)), number);
  }
  for (const char* token : {"x", "-1", "18446744073709551616", "1 2"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(NumberFromPageToken(token).status())) << token;
  }
  EXPECT_EQ(*PageSizeFromWire(0), 100u);
  EXPECT_EQ(*PageSizeFromWire(7), 7u);
  EXPECT_EQ(*PageSizeFromWire(1001), 1000u);
  EXPECT_TRUE(absl::IsInvalidArgument(PageSizeFromWire(-1).status()));
}

}  // namespace
}  // namespace eventvirtual
