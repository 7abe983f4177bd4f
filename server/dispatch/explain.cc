#include "server/dispatch/explain.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/dispatch/delivery.h"

namespace eventvirtual {
namespace {

std::string Ago(absl::Duration duration) {
  const absl::Duration unit = duration < absl::Seconds(1) ? absl::Milliseconds(1) : absl::Seconds(1);
  return absl::FormatDuration(absl::Trunc(duration, unit));
}

// What one subscriber would say to an offer that it gets: "" if there is nothing to say.
std::string RefusalOf(const Subscription::Subscriber& subscriber, const Message& message, absl::Time now) {
  switch (subscriber.endpoint->WouldAdmit(message, now + AttemptTimeoutOf(subscriber))) {
    case Admission::kAccepted:
      return "";
    case Admission::kFull:
      return "its queue is full, so it would refuse at once";
    case Admission::kDown:
      return "it is between two connects, so it would refuse at once";
  }
  return "";
}

std::string FailureOf(const Endpoint& endpoint, absl::Time now) {
  const EndpointStats stats = endpoint.stats();
  return absl::StrCat("failed ", Ago(now - stats.last_failure), " ago: ", stats.last_error.message());
}

Explanation::Step StepOf(const Subscription::Subscriber& subscriber, const Message& message, absl::Time now,
                         std::string reason) {
  if (const std::string refusal = RefusalOf(subscriber, message, now); !refusal.empty()) {
    absl::StrAppend(&reason, "; ", refusal);
  }
  return {subscriber.endpoint->target().masked, true, std::move(reason)};
}

void ExplainParallel(const Message& message, absl::Time now, Explanation* explanation) {
  explanation->reason = "PARALLEL: all at once";
  for (const Subscription::Subscriber& subscriber : explanation->subscription->subscribers) {
    const Endpoint& endpoint = *subscriber.endpoint;
    if (endpoint.drained()) continue;
    std::string reason = "at once";
    if (endpoint.failing_since() != absl::InfinitePast()) {
      absl::StrAppend(&reason, ", although it ", FailureOf(endpoint, now));
    }
    explanation->steps.push_back(StepOf(subscriber, message, now, std::move(reason)));
  }
}

// As Delivery::Advance() would go along it if each failed.
void ExplainPlan(const Message& message, absl::Time now, Explanation* explanation) {
  const Subscription& subscription = *explanation->subscription;
  const uint64_t turn = subscription.turn.load(std::memory_order_relaxed);
  const bool rotates = subscription.policy == Policy::kRoundRobin;
  explanation->reason = rotates ? "ROUND-ROBIN: in this order, until one succeeds; with each event another one begins"
                                : "FAILOVER: in this order, until one succeeds";
  Plan plan = PlanOf(subscription, turn, now);
  const auto beyond = CutToMaxAttempts(subscription.max_attempts.load(std::memory_order_relaxed), &plan);
  for (size_t index = 0; index < plan.order.size(); ++index) {
    const uint8_t position = plan.order[index];
    const Subscription::Subscriber& subscriber = subscription.subscribers[position];
    const Endpoint& endpoint = *subscriber.endpoint;
    const bool failing = endpoint.failing_since() != absl::InfinitePast();
    std::string reason = !explanation->steps.empty() ? "if those before it fail" : rotates ? "its turn" : "the first";
    if (index < plan.eligible && failing) {
      if (endpoint.stats().health == EndpointStats::Health::kProbing) {
        plan.order.push_back(position);  // where it stands, behind the last
        continue;
      }
      absl::StrAppend(&reason, ", and this event would find out whether it works again; it ", FailureOf(endpoint, now));
    } else if (failing) {
      const absl::Duration left = endpoint.failing_since() + subscription.failover_timeout.Load() - now;
      absl::StrAppend(&reason, "; as a last resort: ",
                      left > absl::ZeroDuration() ? absl::StrCat("cooling down for another ", Ago(left))
                                                  : "another event is finding out whether it works again",
                      ", for it ", FailureOf(endpoint, now));
    }
    explanation->steps.push_back(StepOf(subscriber, message, now, std::move(reason)));
  }
  for (const uint8_t position : beyond) {
    explanation->steps.push_back(
        {subscription.subscribers[position].endpoint->target().masked, false,
         absl::StrCat("max_attempts is ", subscription.max_attempts.load(std::memory_order_relaxed))});
  }
}

void ExplainDrained(absl::Time now, Explanation* explanation) {
  const absl::Span<const Subscription::Subscriber> subscribers = explanation->subscription->subscribers;
  for (const Subscription::Subscriber& subscriber : subscribers) {
    const EndpointStats stats = subscriber.endpoint->stats();
    if (stats.health != EndpointStats::Health::kDrained) continue;
    explanation->steps.push_back(
        {stats.uri, false, absl::StrCat("taken out by hand ", Ago(now - stats.drained_since), " ago")});
  }
  const bool tried = std::any_of(explanation->steps.begin(), explanation->steps.end(),
                                 [](const Explanation::Step& step) { return step.tried; });
  if (!tried) explanation->reason = std::string(AllTakenOut(subscribers.size()).message());
}

// Why the subscription would not be delivered to; "" if it would.
std::string MismatchOf(const Subscription& subscription, const Message& message, absl::Time now) {
  if (!subscription.Live(now)) {
    return subscription.removed.load(std::memory_order_acquire)
               ? "it has been ended"
               : absl::StrCat("it expired ", Ago(now - subscription.expires.Load()), " ago");
  }
  if (subscription.filtering != nullptr) {
    const std::string refusal = subscription.filtering->filter.Refusal(message);
    if (!refusal.empty()) return absl::StrCat("filter: ", refusal);
  }
  if (IsTooOld(subscription, message, now)) {
    return absl::StrCat("the event is ", Ago(now - message.event_time()), " old; max_event_age is ",
                        absl::FormatDuration(subscription.max_event_age.Load()));
  }
  return "";
}

std::string NearMissOf(absl::string_view subscribed, absl::string_view event) {
  absl::string_view beginning = subscribed;
  const bool is_pattern = absl::ConsumeSuffix(&beginning, "*");
  if (is_pattern && beginning.size() > event.size()) {
    return absl::StrCat("\"", subscribed, "\" is for names that begin with all of \"", beginning, "\"");
  }
  return absl::StrCat("it is to \"", subscribed, "\", and upper and lower case are told apart");
}

}  // namespace

Explanations Explain(const Registry& registry, const Message& message, size_t limit) {
  const absl::Time now = registry.clock().Now();
  Registry::Survey survey = registry.Look(message.name(), limit);
  Explanations explanations;
  explanations.known = survey.known;
  explanations.omitted = survey.omitted;
  for (Ref<const Subscription>& subscription : survey.subscriptions) {
    Explanation explanation;
    explanation.reason = MismatchOf(*subscription, message, now);
    explanation.matches = explanation.reason.empty();
    const bool parallel = subscription->policy == Policy::kParallel;
    explanation.subscription = std::move(subscription);
    if (explanation.matches) {
      (parallel ? ExplainParallel : ExplainPlan)(message, now, &explanation);
      ExplainDrained(now, &explanation);
    }
    explanations.subscriptions.push_back(std::move(explanation));
  }
  for (Ref<const Subscription>& near : survey.near) {
    std::string reason = NearMissOf(near->event, message.name());
    explanations.subscriptions.push_back({std::move(near), false, std::move(reason), {}});
  }
  return explanations;
}

}  // namespace eventvirtual
