// evctl: the command line of eventvirtual.
#include <google/protobuf/util/json_util.h>
#include <grpcpp/create_channel.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/completion.h"
#include "client/listen_udp.h"
#include "client/table.h"
#include "eventvirtual/v1/event.grpc.pb.h"
#include "eventvirtual/v1/operator.grpc.pb.h"
#include "eventvirtual/v1/subscription.grpc.pb.h"

ABSL_FLAG(std::string, server, "",
          "where eventvirtuald serves: host:port or unix:/path; default $EVENTVIRTUAL_SERVER, else 127.0.0.1:7060");
ABSL_FLAG(std::string, o, "text", "output: text, or json (one document per line)");
ABSL_FLAG(absl::Duration, timeout, absl::Seconds(30), "how long to wait for an answer");
ABSL_FLAG(absl::Duration, ttl, absl::ZeroDuration(), "subscribe: time to live; default 1h");
ABSL_FLAG(bool, never_expires, false, "subscribe: until it is ended");
ABSL_FLAG(std::string, id, "", "subscribe: the id to use instead of a derived one");
ABSL_FLAG(std::string, filter, "",
          "subscribe, unsubscribe: only events whose parameters are so: 'aor=*@example.org && count>3'");
ABSL_FLAG(absl::Duration, failover_timeout, absl::InfiniteDuration(),
          "subscribe: how long a failed subscriber is skipped; default: the server's");
ABSL_FLAG(bool, durable, false, "subscribe: keep each event on the server's disk until it is delivered");
ABSL_FLAG(std::string, dead_letter_uri, "", "subscribe, with --durable: who gets events that are given up");
ABSL_FLAG(uint32_t, rate, 0, "dead-letters replay: so many in a second at most; 0: as fast as it goes");
ABSL_FLAG(bool, force, false, "dead-letters purge: really");
ABSL_FLAG(std::string, event, "", "list, watch, dead-letters: this event alone");
ABSL_FLAG(std::string, wait, "accepted", "raise: answer when accepted, durable, or delivered");
ABSL_FLAG(bool, canary, false, "probe: also deliver one event, E_EVENTVIRTUAL_PROBE");
ABSL_FLAG(int, count, 0, "listen, listen-udp, tail: end after so many events; 0: never");
ABSL_FLAG(bool, failures, false, "tail: only deliveries of which something failed");

namespace eventvirtual {
namespace {

// For scripts.
enum ExitCode { kOk = 0, kRefused = 1, kUsage = 2, kUnreachable = 3, kNotDelivered = 4 };

int Usage(absl::string_view fault) {
  std::fprintf(stderr, "evctl: %s; see evctl help\n", std::string(fault).c_str());
  return kUsage;
}

bool Json() { return absl::GetFlag(FLAGS_o) == "json"; }

void PrintJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  if (google::protobuf::util::MessageToJsonString(message, &text, options).ok()) std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

std::string ServerAddress() {
  if (const std::string flag = absl::GetFlag(FLAGS_server); !flag.empty()) return flag;
  const char* const variable = std::getenv("EVENTVIRTUAL_SERVER");
  return variable != nullptr && *variable != '\0' ? variable : "127.0.0.1:7060";
}

std::shared_ptr<grpc::Channel> Connect() {
  return grpc::CreateChannel(ServerAddress(), grpc::InsecureChannelCredentials());
}

void SetDeadline(grpc::ClientContext* context) {
  context->set_deadline(absl::ToChronoTime(absl::Now() + absl::GetFlag(FLAGS_timeout)));
}

int Failed(const grpc::Status& status) {
  static constexpr const char* kNames[] = {
      "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
      "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
      "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
      "DATA_LOSS", "UNAUTHENTICATED"};
  const int code = status.error_code();
  std::fprintf(stderr, "evctl: %s: %s\n", code >= 0 && code <= 16 ? kNames[code] : "?", status.error_message().c_str());
  // gRPC's own words for a server that is not there.
  const bool unreachable =
      code == grpc::StatusCode::UNAVAILABLE && absl::StrContains(status.error_message(), "failed to connect");
  if (unreachable) std::fprintf(stderr, "evctl: is eventvirtuald running at %s?\n", ServerAddress().c_str());
  return unreachable ? kUnreachable : kRefused;
}

// The enum's name without its prefix, in small letters: HEALTH_COOLING → cooling.
std::string Short(const std::string& name, absl::string_view prefix) {
  std::string text(absl::StripPrefix(name, prefix));
  for (char& c : text) c = c == '_' ? '-' : static_cast<char>(std::tolower(c));
  return text;
}

std::string ExpiryOf(const v1::Subscription& subscription) {
  if (subscription.never_expires()) return "never";
  return absl::FormatDuration(absl::Seconds(subscription.remaining_ttl().seconds()));
}

void AddRow(const v1::Subscription& subscription, std::vector<std::string> first, Table* table) {
  std::string event = subscription.event();
  if (!subscription.filter().empty()) absl::StrAppend(&event, " [", subscription.filter(), "]");
  first.insert(first.end(), {subscription.name(), std::move(event), ExpiryOf(subscription),
                             Short(v1::Subscription::State_Name(subscription.state()), "STATE_"),
                             absl::StrCat(subscription.raised_count()), absl::StrCat(subscription.delivered_count()),
                             absl::StrCat(subscription.failed_count()), subscription.socket()});
  table->Add(std::move(first));
}

void Print(const std::vector<v1::Subscription>& subscriptions) {
  Table table({"NAME", "EVENT", "EXPIRES", "STATE", "RAISED", "DELIVERED", "FAILED", "SOCKET"});
  for (const v1::Subscription& subscription : subscriptions) AddRow(subscription, {}, &table);
  table.Print();
}

int Subscribe(const std::vector<std::string>& words) {
  if (words.size() != 2) return Usage("subscribe takes EVENT and SOCKET (quote a socket that has spaces)");
  v1::SubscribeRequest request;
  request.mutable_subscription()->set_event(words[0]);
  request.mutable_subscription()->set_socket(words[1]);
  request.mutable_subscription()->set_filter(absl::GetFlag(FLAGS_filter));
  request.set_subscription_id(absl::GetFlag(FLAGS_id));
  absl::Duration ttl = absl::GetFlag(FLAGS_ttl);
  if (absl::GetFlag(FLAGS_never_expires)) {
    if (ttl != absl::ZeroDuration()) return Usage("give --ttl or --never_expires, not both");
    request.mutable_subscription()->set_never_expires(true);
  } else {
    if (ttl == absl::ZeroDuration()) ttl = absl::Hours(1);
    auto* const wire = request.mutable_subscription()->mutable_ttl();
    wire->set_seconds(absl::IDivDuration(ttl, absl::Seconds(1), &ttl));
    wire->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(ttl)));
  }
  if (absl::Duration cool = absl::GetFlag(FLAGS_failover_timeout); cool != absl::InfiniteDuration()) {
    auto* const wire = request.mutable_subscription()->mutable_delivery()->mutable_failover_timeout();
    wire->set_seconds(absl::IDivDuration(cool, absl::Seconds(1), &cool));
    wire->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(cool)));
  }
  if (absl::GetFlag(FLAGS_durable)) request.mutable_subscription()->mutable_delivery()->set_durable(true);
  if (const std::string uri = absl::GetFlag(FLAGS_dead_letter_uri); !uri.empty()) {
    request.mutable_subscription()->mutable_delivery()->set_dead_letter_uri(uri);
  }
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::SubscribeResponse response;
  const grpc::Status status = v1::SubscriptionService::NewStub(Connect())->Subscribe(&context, request, &response);
  if (!status.ok()) return Failed(status);
  if (Json()) {
    PrintJson(response);
  } else {
    std::printf("%s %s, expires: %s\n", response.created() ? "created" : "refreshed",
                response.subscription().name().c_str(), ExpiryOf(response.subscription()).c_str());
  }
  return kOk;
}

int Unsubscribe(const std::vector<std::string>& words) {
  if (words.empty() || words.size() > 2) return Usage("unsubscribe takes NAME, or EVENT and SOCKET");
  v1::UnsubscribeRequest request;
  if (words.size() == 1) {
    request.set_name(words[0]);
  } else {
    request.mutable_match()->set_event(words[0]);
    request.mutable_match()->set_socket(words[1]);
    request.mutable_match()->set_filter(absl::GetFlag(FLAGS_filter));
  }
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::UnsubscribeResponse response;
  const grpc::Status status = v1::SubscriptionService::NewStub(Connect())->Unsubscribe(&context, request, &response);
  if (!status.ok()) return Failed(status);
  if (Json()) {
    PrintJson(response);
  } else {
    std::printf("ended %s\n", response.subscription().name().c_str());
    if (response.undelivered_count() > 0) {
      const std::string& uri = response.subscription().delivery().dead_letter_uri();
      std::printf("%llu events were not delivered; they %s\n",
                  static_cast<unsigned long long>(response.undelivered_count()),
                  uri.empty() ? "become dead letters: evctl dead-letters" : absl::StrCat("go to ", uri).c_str());
    }
  }
  return kOk;
}

int Get(const std::vector<std::string>& words) {
  if (words.size() != 1) return Usage("get takes NAME");
  v1::GetSubscriptionRequest request;
  request.set_name(words[0]);
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::GetSubscriptionResponse response;
  const grpc::Status status =
      v1::SubscriptionService::NewStub(Connect())->GetSubscription(&context, request, &response);
  if (!status.ok()) return Failed(status);
  if (Json()) {
    PrintJson(response.subscription());
  } else {
    Print({response.subscription()});
  }
  return kOk;
}

int ListSubscriptions(const std::vector<std::string>& words) {
  if (!words.empty()) return Usage("list takes no words");
  const auto stub = v1::SubscriptionService::NewStub(Connect());
  std::vector<v1::Subscription> all;
  v1::ListSubscriptionsRequest request;
  request.set_event(absl::GetFlag(FLAGS_event));
  request.set_page_size(1000);
  do {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::ListSubscriptionsResponse response;
    const grpc::Status status = stub->ListSubscriptions(&context, request, &response);
    if (!status.ok()) return Failed(status);
    for (v1::Subscription& subscription : *response.mutable_subscriptions()) {
      if (Json()) {
        PrintJson(subscription);
      } else {
        all.push_back(std::move(subscription));
      }
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  if (!Json()) Print(all);
  return kOk;
}

int Watch(const std::vector<std::string>& words) {
  if (!words.empty()) return Usage("watch takes no words");
  v1::WatchSubscriptionsRequest request;
  request.set_event(absl::GetFlag(FLAGS_event));
  grpc::ClientContext context;
  const auto stub = v1::SubscriptionService::NewStub(Connect());
  const auto reader = stub->WatchSubscriptions(&context, request);
  v1::WatchSubscriptionsResponse response;
  while (reader->Read(&response)) {
    if (Json()) {
      PrintJson(response);
      continue;
    }
    const v1::Subscription& subscription = response.subscription();
    std::printf("%-9s  %s  %s  %s\n",
                Short(v1::WatchSubscriptionsResponse::Change_Name(response.change()), "CHANGE_").c_str(),
                subscription.name().c_str(), subscription.event().c_str(), subscription.socket().c_str());
    std::fflush(stdout);
  }
  const grpc::Status status = reader->Finish();
  return status.ok() ? kOk : Failed(status);
}

// EVENT and its parameters.
void SetEvent(const std::vector<std::string>& words, v1::Event* event) {
  event->set_name(words[0]);
  for (size_t i = 1; i < words.size(); ++i) {
    v1::Param* const param = event->add_params();
    const size_t equals = words[i].find('=');
    if (equals == std::string::npos || equals == 0) {
      param->set_string_value(words[i]);
    } else if (words[i][equals - 1] == ':') {
      param->set_name(words[i].substr(0, equals - 1));
      param->set_json_value(words[i].substr(equals + 1));
    } else {
      param->set_name(words[i].substr(0, equals));
      param->set_string_value(words[i].substr(equals + 1));
    }
  }
}

int Raise(const std::vector<std::string>& words) {
  if (words.empty()) return Usage("raise takes EVENT and its parameters");
  v1::RaiseRequest request;
  SetEvent(words, request.mutable_event());
  const std::string wait = absl::GetFlag(FLAGS_wait);
  if (wait != "accepted" && wait != "durable" && wait != "delivered") {
    return Usage("--wait is accepted, durable or delivered");
  }
  request.set_wait(wait == "delivered" ? v1::WAIT_DELIVERED : wait == "durable" ? v1::WAIT_DURABLE : v1::WAIT_ACCEPTED);
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::RaiseResponse response;
  const grpc::Status status = v1::EventService::NewStub(Connect())->Raise(&context, request, &response);
  if (!status.ok()) return Failed(status);
  bool delivered = true;
  for (const v1::DeliveryOutcome& delivery : response.deliveries()) {
    delivered = delivered && delivery.outcome() == v1::DeliveryOutcome::OUTCOME_DELIVERED;
  }
  if (Json()) {
    PrintJson(response);
  } else {
    std::printf("%s matched %u subscription%s\n", response.event_id().c_str(), response.matched_subscriptions(),
                response.matched_subscriptions() == 1 ? "" : "s");
    if (response.deliveries_size() > 0) {
      Table table({"SUBSCRIPTION", "OUTCOME", "SUBSCRIBER", "RESULT", "ERROR"});
      for (const v1::DeliveryOutcome& delivery : response.deliveries()) {
        for (const v1::Attempt& attempt : delivery.attempts()) {
          table.Add({delivery.subscription(), Short(v1::DeliveryOutcome::Outcome_Name(delivery.outcome()), "OUTCOME_"),
                     attempt.uri(), Short(v1::Attempt::Result_Name(attempt.result()), "RESULT_"), attempt.error()});
        }
      }
      table.Print();
    }
  }
  return delivered ? kOk : kNotDelivered;
}

std::string DurationOf(const google::protobuf::Duration& duration, absl::Duration unit) {
  return absl::FormatDuration(
      absl::Trunc(absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos()), unit));
}

// A line for each attempt.
void PrintTail(const v1::WatchDeliveriesResponse& row) {
  if (row.dropped() > 0)
    std::printf("(%d deliveries missed: they end faster than this reads)\n", static_cast<int>(row.dropped()));
  if (!row.has_delivery()) return;
  const std::string outcome = Short(v1::DeliveryOutcome::Outcome_Name(row.delivery().outcome()), "OUTCOME_");
  const std::string head =
      absl::StrCat(absl::FormatTime("%H:%M:%E3S", absl::Now(), absl::LocalTimeZone()), "  ", row.event(), "  ",
                   row.event_id(), "  ", row.delivery().subscription(), "  ", outcome);
  const std::string trace = row.traceparent().empty() ? "" : absl::StrCat("  traceparent=", row.traceparent());
  if (row.delivery().attempts().empty()) std::printf("%s%s\n", head.c_str(), trace.c_str());
  for (const v1::Attempt& attempt : row.delivery().attempts()) {
    const bool ok = attempt.result() == v1::Attempt::RESULT_OK;
    std::printf("%s  %s  %s  %s  %s%s\n", head.c_str(), attempt.uri().c_str(),
                Short(v1::Attempt::Result_Name(attempt.result()), "RESULT_").c_str(),
                DurationOf(attempt.duration(), absl::Microseconds(1)).c_str(),
                ok ? Short(v1::AckLevel_Name(attempt.ack_level()), "ACK_LEVEL_").c_str() : attempt.error().c_str(),
                trace.c_str());
  }
}

int Tail(const std::vector<std::string>& words) {
  if (words.size() > 1) return Usage("tail takes EVENT or nothing");
  v1::WatchDeliveriesRequest request;
  if (!words.empty()) request.set_event(words[0]);
  request.set_failures_only(absl::GetFlag(FLAGS_failures));
  grpc::ClientContext context;
  const auto stub = v1::EventService::NewStub(Connect());
  const auto reader = stub->WatchDeliveries(&context, request);
  reader->WaitForInitialMetadata();
  if (!Json())
    std::printf("TIME  EVENT  EVENT ID  SUBSCRIPTION  OUTCOME  SUBSCRIBER  RESULT  DURATION  PROVES, OR ERROR\n");
  std::fflush(stdout);
  const int count = absl::GetFlag(FLAGS_count);
  v1::WatchDeliveriesResponse row;
  for (int shown = 0; (count == 0 || shown < count) && reader->Read(&row); ++shown) {
    if (Json()) {
      PrintJson(row);
    } else {
      PrintTail(row);
      std::fflush(stdout);
    }
  }
  if (count > 0) context.TryCancel();
  const grpc::Status status = reader->Finish();
  return status.ok() || (count > 0 && status.error_code() == grpc::StatusCode::CANCELLED) ? kOk : Failed(status);
}

int Explain(const std::vector<std::string>& words) {
  if (words.empty()) return Usage("explain takes EVENT and its parameters");
  v1::ExplainDeliveryRequest request;
  SetEvent(words, request.mutable_event());
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::ExplainDeliveryResponse response;
  const grpc::Status status = v1::OperatorService::NewStub(Connect())->ExplainDelivery(&context, request, &response);
  if (!status.ok()) return Failed(status);
  if (Json()) {
    PrintJson(response);
    return kOk;
  }
  Table table({"SUBSCRIPTION", "EVENT", "MATCHES", "ORDER", "SUBSCRIBER", "WHY"});
  for (const v1::ExplainDeliveryResponse::Plan& plan : response.plans()) {
    table.Add({plan.subscription(), plan.event(), plan.matches() ? "yes" : "no", "", "", plan.reason()});
    int tried = 0;
    for (const v1::ExplainDeliveryResponse::Step& step : plan.steps()) {
      table.Add({"", "", "", step.tried() ? absl::StrCat(++tried) : "-", step.uri(), step.reason()});
    }
  }
  table.Print();
  if (response.plans().empty()) std::printf("nobody is subscribed to %s\n", words[0].c_str());
  if (response.omitted() > 0) std::printf("and %d more\n", static_cast<int>(response.omitted()));
  return kOk;
}

int Events(const std::vector<std::string>& words) {
  if (!words.empty()) return Usage("events takes no words");
  const auto stub = v1::EventService::NewStub(Connect());
  v1::ListEventsRequest request;
  request.set_page_size(1000);
  Table table({"EVENT", "RAISED", "SUBSCRIPTIONS"});
  do {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::ListEventsResponse response;
    const grpc::Status status = stub->ListEvents(&context, request, &response);
    if (!status.ok()) return Failed(status);
    for (const v1::ListEventsResponse::Entry& entry : response.events()) {
      if (Json()) PrintJson(entry);
      table.Add({entry.name(), absl::StrCat(entry.raised_count()), absl::StrCat(entry.subscription_count())});
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  if (!Json()) table.Print();
  return kOk;
}

int Endpoints(const std::vector<std::string>& words) {
  if (!words.empty()) return Usage("endpoints takes no words");
  const auto stub = v1::OperatorService::NewStub(Connect());
  v1::ListEndpointsRequest request;
  request.set_page_size(1000);
  Table table({"ENDPOINT", "HEALTH", "OFFERED", "DELIVERED", "FAILED", "REFUSED", "QUEUED", "IN FLIGHT", "LAST ERROR"});
  do {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::ListEndpointsResponse response;
    const grpc::Status status = stub->ListEndpoints(&context, request, &response);
    if (!status.ok()) return Failed(status);
    for (const v1::EndpointStatus& endpoint : response.endpoints()) {
      if (Json()) PrintJson(endpoint);
      table.Add({endpoint.uri(), Short(v1::EndpointStatus::Health_Name(endpoint.health()), "HEALTH_"),
                 absl::StrCat(endpoint.offered()), absl::StrCat(endpoint.delivered()), absl::StrCat(endpoint.failed()),
                 absl::StrCat(endpoint.refused()), absl::StrCat(endpoint.queued()), absl::StrCat(endpoint.in_flight()),
                 endpoint.last_error()});
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  if (!Json()) table.Print();
  return kOk;
}

int Enrollments(const std::vector<std::string>& words) {
  if (!words.empty()) return Usage("enrollments takes no words");
  const auto stub = v1::OperatorService::NewStub(Connect());
  v1::ListEnrollmentsRequest request;
  Table table({"OPENSIPS", "STATE", "INGEST", "EVENTS", "COME", "RESTARTS", "TAKEN OVER", "ERROR"});
  do {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::ListEnrollmentsResponse response;
    const grpc::Status status = stub->ListEnrollments(&context, request, &response);
    if (!status.ok()) return Failed(status);
    for (const v1::Enrollment& enrollment : response.enrollments()) {
      if (Json()) PrintJson(enrollment);
      int come = 0;
      for (const v1::Enrollment::Event& event : enrollment.events()) {
        come += event.state() == v1::Enrollment::Event::STATE_ENROLLED ||
                event.state() == v1::Enrollment::Event::STATE_COVERED;
      }
      table.Add({enrollment.opensips(), Short(v1::Enrollment::State_Name(enrollment.state()), "STATE_"),
                 enrollment.ingest(), absl::StrCat(enrollment.events_size()), absl::StrCat(come),
                 absl::StrCat(enrollment.restarts()), absl::StrCat(enrollment.taken_over()), enrollment.error()});
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  if (!Json()) table.Print();
  return kOk;
}

int Transports(const std::vector<std::string>& words) {
  if (!words.empty()) return Usage("transports takes no words");
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::ListTransportsResponse response;
  const grpc::Status status = v1::OperatorService::NewStub(Connect())->ListTransports(&context, {}, &response);
  if (!status.ok()) return Failed(status);
  Table table({"SCHEME", "SUCCESS PROVES", "SYNTAX"});
  for (const auto& transport : response.transports()) {
    if (Json()) PrintJson(transport);
    table.Add({transport.scheme(), Short(v1::AckLevel_Name(transport.ack_level()), "ACK_LEVEL_"), transport.syntax()});
  }
  if (!Json()) table.Print();
  return kOk;
}

int Probe(const std::vector<std::string>& words) {
  if (words.size() != 1) return Usage("probe takes URI");
  v1::ProbeSubscriberRequest request;
  request.set_uri(words[0]);
  request.set_send_canary(absl::GetFlag(FLAGS_canary));
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::ProbeSubscriberResponse response;
  const grpc::Status status = v1::OperatorService::NewStub(Connect())->ProbeSubscriber(&context, request, &response);
  if (!status.ok()) return Failed(status);
  const bool good = response.code() == grpc::StatusCode::OK;
  if (Json()) {
    PrintJson(response);
  } else {
    std::printf("%s after %s\n",
                !response.reachable()   ? "not reachable"
                : !good                 ? "reachable, but the canary failed"
                : request.send_canary() ? "canary delivered"
                                        : "reachable",
                DurationOf(response.latency(), absl::Microseconds(10)).c_str());
    if (good && request.send_canary()) {
      std::printf("success proves: %s\n", Short(v1::AckLevel_Name(response.ack_level()), "ACK_LEVEL_").c_str());
    }
  }
  if (!good && !Json()) std::fprintf(stderr, "evctl: %s\n", response.error().c_str());
  return good ? kOk : kNotDelivered;
}

int SetMode(const std::vector<std::string>& words, v1::SetEndpointModeRequest::Mode mode) {
  v1::SetEndpointModeRequest request;
  request.set_uri(words[0]);
  request.set_mode(mode);
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::SetEndpointModeResponse response;
  const grpc::Status status = v1::OperatorService::NewStub(Connect())->SetEndpointMode(&context, request, &response);
  if (!status.ok()) return Failed(status);
  const v1::EndpointStatus& endpoint = response.endpoint();
  if (Json()) {
    PrintJson(response);
  } else {
    std::printf("%s is %s; still to be sent: %d\n", endpoint.uri().c_str(),
                Short(v1::EndpointStatus::Health_Name(endpoint.health()), "HEALTH_").c_str(),
                static_cast<int>(endpoint.queued() + endpoint.in_flight()));
  }
  return kOk;
}

int Drain(const std::vector<std::string>& words) {
  if (words.size() != 1) return Usage("drain takes URI");
  return SetMode(words, v1::SetEndpointModeRequest::MODE_DRAINED);
}

int Enable(const std::vector<std::string>& words) {
  if (words.size() != 1) return Usage("enable takes URI");
  return SetMode(words, v1::SetEndpointModeRequest::MODE_ENABLED);
}

// Calls `take` for each, until it says no.
template <typename Take>
grpc::Status ForEachDeadLetter(Take take) {
  const auto stub = v1::OperatorService::NewStub(Connect());
  v1::ListDeadLettersRequest request;
  request.set_event(absl::GetFlag(FLAGS_event));
  request.set_page_size(1000);
  do {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::ListDeadLettersResponse response;
    const grpc::Status status = stub->ListDeadLetters(&context, request, &response);
    if (!status.ok()) return status;
    for (const v1::DeadLetter& letter : response.dead_letters()) {
      if (!take(letter)) return status;
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return grpc::Status::OK;
}

int ListDeadLetters() {
  Table table({"NAME", "SINCE", "EVENT", "EVENT ID", "SUBSCRIPTION", "ATTEMPTS", "REASON"});
  const grpc::Status status = ForEachDeadLetter([&table](const v1::DeadLetter& letter) {
    if (Json()) PrintJson(letter);
    const absl::Time since = absl::FromUnixSeconds(letter.create_time().seconds());
    table.Add({letter.name(), absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", since, absl::UTCTimeZone()), letter.event().name(),
               letter.event().event_id(), letter.subscription(), absl::StrCat(letter.attempt_count()),
               letter.reason()});
    return true;
  });
  if (!status.ok()) return Failed(status);
  if (!Json()) table.Print();
  return kOk;
}

int ShowDeadLetter(const std::string& name) {
  bool found = false;
  const grpc::Status status = ForEachDeadLetter([&](const v1::DeadLetter& letter) {
    if (letter.name() != name) return true;
    PrintJson(letter);
    found = true;
    return false;
  });
  if (!status.ok()) return Failed(status);
  return found ? kOk : Failed(grpc::Status(grpc::StatusCode::NOT_FOUND, "there is no " + name));
}

int ReplayDeadLetters() {
  v1::ReplayDeadLettersRequest request;
  request.set_event(absl::GetFlag(FLAGS_event));
  request.set_max_per_second(absl::GetFlag(FLAGS_rate));
  grpc::ClientContext context;  // takes as long as it takes
  v1::ReplayDeadLettersResponse response;
  const grpc::Status status = v1::OperatorService::NewStub(Connect())->ReplayDeadLetters(&context, request, &response);
  if (!status.ok()) return Failed(status);
  if (Json()) {
    PrintJson(response);
  } else {
    std::printf("replayed %llu, failed %llu\n", static_cast<unsigned long long>(response.replayed()),
                static_cast<unsigned long long>(response.failed()));
    if (response.failed() > 0) std::fprintf(stderr, "evctl: %s\n", response.error().c_str());
  }
  return response.failed() == 0 ? kOk : kNotDelivered;
}

int PurgeDeadLetters() {
  v1::PurgeDeadLettersRequest request;
  request.set_event(absl::GetFlag(FLAGS_event));
  request.set_force(absl::GetFlag(FLAGS_force));
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::PurgeDeadLettersResponse response;
  const grpc::Status status = v1::OperatorService::NewStub(Connect())->PurgeDeadLetters(&context, request, &response);
  if (!status.ok()) return Failed(status);
  if (Json()) {
    PrintJson(response);
  } else {
    std::printf(request.force() ? "purged %llu\n" : "%llu would be purged; --force does it\n",
                static_cast<unsigned long long>(response.purge_count()));
  }
  return kOk;
}

int DeadLetters(const std::vector<std::string>& words) {
  const std::string verb = words.empty() ? "" : words[0];
  if (verb == "show" && words.size() == 2) return ShowDeadLetter(words[1]);
  if (words.size() == 1 && verb == "list") return ListDeadLetters();
  if (words.size() == 1 && verb == "replay") return ReplayDeadLetters();
  if (words.size() == 1 && verb == "purge") return PurgeDeadLetters();
  return Usage("dead-letters takes list, show NAME, replay, or purge");
}

int Listen(const std::vector<std::string>& words) {
  if (words.size() != 1) return Usage("listen takes NAME");
  grpc::ClientContext context;
  const auto stub = v1::EventService::NewStub(Connect());
  const auto stream = stub->Listen(&context);
  v1::ListenRequest request;
  request.set_name(words[0]);
  stream->Write(request);
  const int count = absl::GetFlag(FLAGS_count);
  v1::ListenResponse response;
  for (int taken = 0; (count == 0 || taken < count) && stream->Read(&response); ++taken) {
    PrintJson(response.event());
    request.Clear();
    request.add_acks(response.delivery_id());
    stream->Write(request);
  }
  stream->WritesDone();
  while (stream->Read(&response)) {  // what came behind the last one is not acknowledged
  }
  const grpc::Status status = stream->Finish();
  return status.ok() ? kOk : Failed(status);
}

int ListenDatagrams(const std::vector<std::string>& words) {
  if (words.size() != 1) return Usage("listen-udp takes ADDR, such as 127.0.0.1:8081");
  const absl::Status status = ListenUdp(words[0], absl::GetFlag(FLAGS_count));
  if (status.ok()) return kOk;
  std::fprintf(stderr, "evctl: %s\n", std::string(status.message()).c_str());
  return absl::IsInvalidArgument(status) ? kUsage : kRefused;
}

int Completion(const std::vector<std::string>& words);

struct Command {
  const char* usage;    // its name and words
  const char* summary;  // one line
  const char* details;
  int (*run)(const std::vector<std::string>&);
};

constexpr Command kCommands[] = {
    {"subscribe EVENT SOCKET", "tell SOCKET of EVENT",
     R"(EVENT is a name, or the beginning of names with a * behind it ("E_UL_*").
SOCKET is "virtual:POLICY uri uri ..." with POLICY one of PARALLEL, FAILOVER, ROUND-ROBIN, or one uri. Subscribing the
same again refreshes its expiry.
  --ttl=1h                 time to live (the default)
  --never_expires          until it is ended
  --id=ID                  the id to use instead of a derived one
  --failover_timeout=30s   how long a failed subscriber is skipped
  --filter=CONDITIONS      only events whose parameters are so, as "aor=*@example.org && count>3"
  --durable                keep each event on the server's disk until it is delivered (needs --data_dir there)
  --dead_letter_uri=URI    with --durable: events that are given up are sent there, instead of being kept on the server

  evctl subscribe E_CDR "virtual:FAILOVER rabbitmq:guest:guest@127.0.0.1/cdr flatstore:/var/log/cdr.log" --ttl=24h
)",
     Subscribe},
    {"unsubscribe NAME | EVENT SOCKET", "end a subscription",
     R"(By its NAME, as list shows it, or by what was subscribed.

  evctl unsubscribe subscriptions/4f0c6a57b2f1d3e
  evctl unsubscribe E_CDR udp:127.0.0.1:8081
)",
     Unsubscribe},
    {"get NAME", "show one subscription", "  evctl get subscriptions/4f0c6a57b2f1d3e\n", Get},
    {"list", "show all subscriptions", "  --event=EVENT   this event alone\n", ListSubscriptions},
    {"watch", "show changes of subscriptions as they happen",
     "Begins with those that exist; runs until it is stopped.\n  --event=EVENT   this event alone\n", Watch},
    {"raise EVENT [PARAM...]", "raise an event",
     R"(PARAM is name=text, name:=json (a number, true, an object) or text without a name.
  --wait=accepted    answer when the event is queued for its subscribers (the default)
  --wait=durable     the same, and only where a durable subscription takes it
  --wait=delivered   answer when all attempts have ended, and show them

  evctl raise E_PIKE_BLOCKED ip=10.0.0.1 hits:=42 --wait=delivered
)",
     Raise},
    {"explain EVENT [PARAM...]", "say where an event would go, and why",
     R"(Nothing is sent. Shows which subscriptions would take the event or why not, and in which order their subscribers would
be tried; "-": not at all. PARAM as for raise.

  evctl explain E_PIKE_BLOCKED ip=10.0.0.1 hits:=42
)",
     Explain},
    {"tail [EVENT]", "show deliveries as they end",
     R"(A line for each attempt, with its time from accept to outcome and what a success proves. EVENT is a name or a pattern
("E_UL_*"). Runs until it is stopped. Deliveries never wait for it: what it is too slow for is missed, and counted.
  --failures   only deliveries that did not reach all, or not at the first attempt
  --count=N    end after N deliveries

  evctl tail 'E_UL_*' --failures
)",
     Tail},
    {"events", "show the events and how often they were raised", "", Events},
    {"endpoints", "show the destinations, their health and counters", "", Endpoints},
    {"enrollments", "show the OpenSIPS at which the server is subscribed",
     R"(EVENTS are those that our subscriptions want, COME those that OpenSIPS sends us; -o json shows each.
)",
     Enrollments},
    {"transports", "show the schemes a SOCKET may use", "", Transports},
    {"probe URI", "try a destination, without a subscription",
     R"(Connects to one subscriber and logs in there; says what to mend. Subscriptions that use it see nothing of this.
  --canary   also deliver one event, E_EVENTVIRTUAL_PROBE

  evctl probe rabbitmq:guest:guest@127.0.0.1/cdr --canary
)",
     Probe},
    {"drain URI", "take a subscriber out by hand",
     R"(Events go to the others from now on; what is queued or in flight is still sent. URI is one that was subscribed, or as
endpoints shows it. It stays out until enable, whatever becomes of its subscriptions, or until the server ends. An event
whose subscribers are all out is refused.

  evctl drain rabbitmq:guest:***@127.0.0.1:5672/cdr
)",
     Drain},
    {"enable URI", "bring a subscriber back that was drained",
     R"(Also forgets that it had failed: the next event goes to it at once.
)",
     Enable},
    {"dead-letters VERB [NAME]", "events of durable subscriptions that were given up",
     R"(VERB is one of
  list        all, the older first
  show        the one called NAME, with its event and its last attempts
  replay      give them back to their subscriptions; those whose subscription has ended stay
  purge       count them; with --force, forget them for good
  --event=EVENT   this event alone
  --rate=N        replay so many in a second at most

  evctl dead-letters replay --event=E_CDR --rate=100
)",
     DeadLetters},
    {"listen NAME", "be the subscriber stream:NAME",
     R"(Prints each event as one line of JSON and acknowledges it. Runs until it is stopped, or another listens to NAME.
  --count=N   end after N events

  evctl listen billing
)",
     Listen},
    {"listen-udp ADDR", "print what arrives at a UDP address",
     "  --count=N   end after N datagrams\n\n  evctl listen-udp 127.0.0.1:8081\n", ListenDatagrams},
    {"completion bash", "print the completion script of a shell",
     "The packages install it. By hand:\n\n  source <(evctl completion bash)\n", Completion},
};

constexpr absl::string_view kCommonHelp = R"(
Everywhere:
  --server=ADDR    host:port or unix:/path; default $EVENTVIRTUAL_SERVER, else 127.0.0.1:7060
  -o text|json     json: one document per line
  --timeout=30s    how long to wait for an answer
Exit: 0 done, 1 the server refused or a flag is wrong, 2 wrong words, 3 server unreachable,
      4 not delivered to all (raise --wait=delivered), or not reachable (probe)
)";

const Command* FindCommand(absl::string_view name) {
  for (const Command& command : kCommands) {
    if (name == absl::string_view(command.usage).substr(0, absl::string_view(command.usage).find(' '))) return &command;
  }
  return nullptr;
}

std::string Help() {
  std::string text = "evctl: steer eventvirtuald\n\n";
  for (const Command& command : kCommands) absl::StrAppendFormat(&text, "  %-32s %s\n", command.usage, command.summary);
  absl::StrAppend(&text, "\nevctl help COMMAND shows more of one.\n", kCommonHelp);
  return text;
}

std::string Help(const Command& command) {
  return absl::StrCat("evctl ", command.usage, ": ", command.summary, "\n\n", command.details, kCommonHelp);
}

int Completion(const std::vector<std::string>& words) {
  if (words != std::vector<std::string>{"bash"}) return Usage("completion takes bash, the one shell it knows");
  std::vector<std::pair<std::string, std::vector<std::string>>> commands;
  for (const Command& command : kCommands) {
    const absl::string_view usage = command.usage;
    commands.emplace_back(usage.substr(0, usage.find(' ')), FlagsIn(command.details));
  }
  std::printf("%s", BashCompletion(commands, FlagsIn(kCommonHelp)).c_str());
  return kOk;
}

// "help", "help COMMAND", "--help", "COMMAND --help": answered before the flags are parsed, or Abseil would answer.
// Nothing if no help is asked for.
std::optional<int> RunHelp(absl::Span<char* const> words) {
  bool wanted = false;
  const Command* command = nullptr;
  for (size_t i = 0; i < words.size() && absl::string_view(words[i]) != "--"; ++i) {
    const absl::string_view word = words[i];
    if (word == "help" && command == nullptr) {  // behind a command it is a word like others
      wanted = true;
      if (i + 1 == words.size()) break;
      command = FindCommand(words[i + 1]);
      if (command == nullptr) return Usage(absl::StrCat("there is no command \"", words[i + 1], "\""));
    } else if (word == "--help" || word == "-help" || word == "-h") {
      wanted = true;
    } else if (command == nullptr) {
      command = FindCommand(word);
    }
  }
  if (!wanted) return std::nullopt;
  std::printf("%s", (command != nullptr ? Help(*command) : Help()).c_str());
  return kOk;
}

int Run(std::vector<std::string> words) {
  if (words.empty()) {
    std::fprintf(stderr, "%s", Help().c_str());
    return kUsage;
  }
  if (absl::GetFlag(FLAGS_o) != "text" && !Json()) return Usage("-o is text or json");
  const Command* const command = FindCommand(words[0]);
  if (command == nullptr) return Usage(absl::StrCat("there is no command \"", words[0], "\""));
  words.erase(words.begin());
  return command->run(words);
}

}  // namespace
}  // namespace eventvirtual

int main(int argc, char** argv) {
  if (const std::optional<int> code = eventvirtual::RunHelp(absl::MakeSpan(argv + 1, argc - 1))) return *code;
  absl::FlagsUsageConfig usage;
  usage.version_string = [] { return std::string("evctl 0.1.0\n"); };
  absl::SetFlagsUsageConfig(usage);
  const std::vector<char*> rest = absl::ParseCommandLine(argc, argv);
  return eventvirtual::Run(std::vector<std::string>(rest.begin() + 1, rest.end()));
}
