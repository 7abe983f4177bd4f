#include "server/metrics/metrics.h"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/limits/limits.h"
#include "server/metrics/families.h"
#include "server/metrics/process_metrics.h"
#include "server/version.h"

namespace eventvirtual {
namespace {

double Seconds(absl::Duration duration) { return absl::ToDoubleSeconds(duration); }

void AddDeliveries(const Registry::Audit& audit, const Dispatcher& dispatcher, Families* families) {
  Family raises =
      families->Counter("eventvirtual_raises_total", "Events raised, by name; \"other\": beyond the first 200.");
  for (const auto& [event, count] : audit.raises) raises.Add({{"event", event}}, count);
  raises.Add({{"event", DeliveryLedger::kOther}}, audit.other_raises);
  families->Gauge("eventvirtual_raises_pending", "Events raised whose deliveries have not all ended.")
      .Add({}, dispatcher.pending());

  Family matched = families->Counter("eventvirtual_matched_total",
                                     "Events that subscriptions have matched, one for each subscription.");
  for (const auto& [account, counts] : audit.deliveries) {
    matched.Add({{"event", account->event}, {"transport", account->transport}}, counts.matched);
  }
  Family deliveries =
      families->Counter("eventvirtual_deliveries_total", "How what was matched has ended, one for each subscription.");
  constexpr std::pair<const char*, uint64_t DeliveryCounts::*> kOutcomes[] = {
      {"delivered", &DeliveryCounts::delivered},
      {"partial", &DeliveryCounts::partial},
      {"failed", &DeliveryCounts::failed},
      {"filtered", &DeliveryCounts::filtered},
      {"expired", &DeliveryCounts::expired},
      {"dropped", &DeliveryCounts::dropped},
      {"dead_lettered", &DeliveryCounts::dead_lettered},
  };
  for (const auto& [account, counts] : audit.deliveries) {
    for (const auto& [outcome, count] : kOutcomes) {
      deliveries.Add({{"event", account->event}, {"transport", account->transport}, {"outcome", outcome}},
                     counts.*count);
    }
  }
  Family pending = families->Gauge("eventvirtual_deliveries_pending", "What was matched and has not ended yet.");
  for (const auto& [account, counts] : audit.deliveries) {
    pending.Add({{"event", account->event}, {"transport", account->transport}}, counts.pending);
  }
}

void AddSubscriptions(const Registry::Audit& audit, Families* families) {
  families->Gauge("eventvirtual_subscriptions", "Subscriptions that live.").Add({}, uint64_t{audit.subscriptions});
  Family changes = families->Counter("eventvirtual_subscription_changes_total", "What happened to subscriptions.");
  constexpr const char* kNames[Registry::kChanges] = {"created", "refreshed", "expired", "removed"};
  for (size_t i = 0; i < Registry::kChanges; ++i) changes.Add({{"change", kNames[i]}}, audit.changes[i]);
  families->Gauge("eventvirtual_expiry_lag_seconds", "How long the next subscription to be removed has been expired.")
      .Add({}, Seconds(audit.expiry_lag));
  families->Gauge("eventvirtual_events", "Names of events that are known.").Add({}, uint64_t{audit.events});
  families->Gauge("eventvirtual_event_patterns", "Patterns of events that somebody is subscribed to.")
      .Add({}, uint64_t{audit.patterns});
}

prometheus::ClientMetric::Histogram HistogramOf(const LatencyHistogram::Counts& counts) {
  // Each fourth bucket ends at a power of two.
  constexpr int kFirst = 6, kLast = 26;  // 64 µs, 67 s
  prometheus::ClientMetric::Histogram histogram;
  histogram.sample_count = counts.total;
  histogram.sample_sum = Seconds(counts.sum);
  uint64_t seen = 0;
  size_t bucket = 0;
  for (int exponent = kFirst; exponent <= kLast; ++exponent) {
    const absl::Duration edge = absl::Microseconds(int64_t{1} << exponent);
    for (; bucket < LatencyHistogram::kBuckets && LatencyHistogram::UpperEdge(bucket) <= edge; ++bucket) {
      seen += counts.by_bucket[bucket];
    }
    histogram.bucket.push_back({seen, Seconds(edge)});
  }
  return histogram;
}

// The answers to offers, and the outcomes of what was accepted.
constexpr std::pair<const char*, uint64_t EndpointBooks::*> kAnswers[] = {
    {"accepted", &EndpointBooks::accepted}, {"full", &EndpointBooks::full}, {"down", &EndpointBooks::down}};
constexpr std::pair<const char*, uint64_t EndpointBooks::*> kOutcomes[] = {{"ok", &EndpointBooks::ok},
                                                                           {"failed", &EndpointBooks::failed},
                                                                           {"timed_out", &EndpointBooks::timed_out},
                                                                           {"unwanted", &EndpointBooks::unwanted}};

void AddTransports(const EndpointPool::Audit& audit, Families* families) {
  Family offers =
      families->Counter("eventvirtual_offers_total",
                        "Events offered to endpoints; what is not accepted is tried at the next subscriber.");
  for (const auto& [scheme, totals] : audit.transports) {
    for (const auto& [answer, count] : kAnswers) {
      offers.Add({{"transport", scheme}, {"answer", answer}}, totals.books.*count);
    }
  }
  Family attempts = families->Counter("eventvirtual_attempts_total", "How attempts at endpoints have ended.");
  for (const auto& [scheme, totals] : audit.transports) {
    for (const auto& [outcome, count] : kOutcomes) {
      attempts.Add({{"transport", scheme}, {"outcome", outcome}}, totals.books.*count);
    }
  }
  Family connects = families->Counter("eventvirtual_connects_total", "Connections that were begun.");
  for (const auto& [scheme, totals] : audit.transports) connects.Add({{"transport", scheme}}, totals.books.connects);
  Family durations = families->Histogram("eventvirtual_attempt_duration_seconds",
                                         "Of attempts that succeeded, from the queue to the receiver's word.");
  for (const auto& [scheme, totals] : audit.transports) {
    durations.Add({{"transport", scheme}}, HistogramOf(totals.latency));
  }
  Family endpoints = families->Gauge("eventvirtual_endpoints", "Endpoints that subscriptions use.");
  for (const auto& [scheme, totals] : audit.transports) {
    endpoints.Add({{"transport", scheme}}, uint64_t{totals.endpoints});
  }
  Family failing = families->Gauge("eventvirtual_endpoints_failing", "Endpoints whose last attempt failed.");
  for (const auto& [scheme, totals] : audit.transports) {
    failing.Add({{"transport", scheme}}, uint64_t{totals.failing});
  }
}

void AddEndpoints(const EndpointPool::Audit& audit, Families* families) {
  // Two that differ by their passwords alone have one name.
  struct Shown {
    bool up = true, drained = false;
    uint64_t missed = 0;
    EndpointBooks books;
    absl::Time last_success = absl::InfinitePast();
  };
  std::map<std::string, Shown> shown;
  for (const EndpointStats& stats : audit.foremost) {
    Shown& one = shown[stats.uri];
    one.up =
        one.up && stats.health != EndpointStats::Health::kFailing && stats.health != EndpointStats::Health::kProbing;
    one.drained = one.drained || stats.drained_since != absl::InfinitePast();
    one.missed += stats.missed;
    one.books += stats;
    one.last_success = std::max(one.last_success, stats.last_success);
  }
  Family up = families->Gauge("eventvirtual_endpoint_up", "0: its last attempt failed; else 1.");
  for (const auto& [uri, one] : shown) up.Add({{"uri", uri}}, one.up ? 1.0 : 0.0);
  Family drained = families->Gauge("eventvirtual_endpoint_drained", "1: it was taken out by hand.");
  for (const auto& [uri, one] : shown) drained.Add({{"uri", uri}}, one.drained ? 1.0 : 0.0);
  Family missed = families->Counter("eventvirtual_endpoint_missed_total",
                                    "Events of PARALLEL that passed it by while it was taken out.");
  for (const auto& [uri, one] : shown) missed.Add({{"uri", uri}}, one.missed);
  Family success = families->Gauge("eventvirtual_endpoint_last_success_timestamp_seconds",
                                   "When its last attempt succeeded, since the epoch; not there: none did.");
  for (const auto& [uri, one] : shown) {
    if (one.last_success != absl::InfinitePast()) {
      success.Add({{"uri", uri}}, Seconds(one.last_success - absl::UnixEpoch()));
    }
  }
  const auto held = [&](const char* name, const char* help, uint64_t EndpointBooks::*number) {
    Family family = families->Gauge(name, help);
    for (const auto& [uri, one] : shown) family.Add({{"uri", uri}}, one.books.*number);
    family.Add({{"uri", DeliveryLedger::kOther}}, audit.others.*number);
  };
  held("eventvirtual_endpoint_queue_events", "Events that wait for the endpoint.", &EndpointBooks::queued);
  held("eventvirtual_endpoint_in_flight_events", "Events sent whose outcome is not known yet.",
       &EndpointBooks::in_flight);
  held("eventvirtual_endpoint_queue_bytes", "Bytes of events that wait or are in flight.", &EndpointBooks::queue_bytes);

  Family offers = families->Counter("eventvirtual_endpoint_offers_total", "Events offered to this endpoint.");
  for (const auto& [uri, one] : shown) {
    for (const auto& [answer, count] : kAnswers) offers.Add({{"uri", uri}, {"answer", answer}}, one.books.*count);
  }
  Family attempts =
      families->Counter("eventvirtual_endpoint_attempts_total", "How attempts at this endpoint have ended.");
  for (const auto& [uri, one] : shown) {
    for (const auto& [outcome, count] : kOutcomes) attempts.Add({{"uri", uri}, {"outcome", outcome}}, one.books.*count);
  }
  Family connects = families->Counter("eventvirtual_endpoint_connects_total", "Connections to it that were begun.");
  for (const auto& [uri, one] : shown) connects.Add({{"uri", uri}}, one.books.connects);
}

void AddLoopGuard(const LoopGuard& guard, Families* families) {
  Family refused =
      families->Counter("eventvirtual_loops_refused_total", "Events that were refused since they go round in a loop.");
  refused.Add({{"found_by", "hops"}}, guard.too_many_hops());
  refused.Add({{"found_by", "repeats"}}, guard.too_many_repeats());
}

void AddBooks(const Registry::Audit& deliveries, const EndpointPool::Audit& endpoints, Families* families) {
  uint64_t of_subscriptions = 0;
  for (const DeliveryLedger::Row& row : deliveries.deliveries) of_subscriptions += row.counts.imbalance;
  Family books =
      families->Gauge("eventvirtual_books_imbalance", "Events that are nowhere to be found. Anything but 0 is a bug.");
  books.Add({{"book", "subscriptions"}}, of_subscriptions);
  books.Add({{"book", "endpoints"}}, endpoints.imbalance);
}

void AddLoops(const EndpointPool::Audit& audit, Families* families) {
  Family lags =
      families->Gauge("eventvirtual_loop_lag_seconds", "How long an event loop took until it answered this scrape.");
  for (size_t i = 0; i < audit.lags.size(); ++i) {
    lags.Add({{"loop", absl::StrCat(i)}}, Seconds(audit.lags[i]));
  }
}

void AddIngest(const Ingest& ingest, Families* families) {
  constexpr Ingest::Kind kKinds[Ingest::kKinds] = {Ingest::kUdp, Ingest::kUnix, Ingest::kTcp};
  constexpr std::pair<const char*, uint64_t IngestCounts::*> kResults[] = {
      {"accepted", &IngestCounts::accepted}, {"unsubscribed", &IngestCounts::unsubscribed},
      {"unknown", &IngestCounts::unknown},   {"looped", &IngestCounts::looped},
      {"refused", &IngestCounts::refused},   {"limited", &IngestCounts::limited},
      {"bad", &IngestCounts::bad},
  };
  Family messages =
      families->Counter("eventvirtual_ingest_messages_total", "What came from OpenSIPS, and what became of it.");
  for (const Ingest::Kind kind : kKinds) {
    for (const auto& [result, count] : kResults) {
      messages.Add({{"listener", Ingest::NameOf(kind)}, {"result", result}}, ingest.counts(kind).*count);
    }
  }
  Family bytes = families->Counter("eventvirtual_ingest_bytes_total", "Bytes that came from OpenSIPS.");
  for (const Ingest::Kind kind : kKinds) bytes.Add({{"listener", Ingest::NameOf(kind)}}, ingest.counts(kind).bytes);
  Family connections = families->Counter("eventvirtual_ingest_connections_total", "Connections to the tcp listeners.");
  connections.Add({{"result", "taken"}}, ingest.counts(Ingest::kTcp).connections);
  connections.Add({{"result", "turned_away"}}, ingest.counts(Ingest::kTcp).turned_away);
}

void AddJournal(const JournalCounts& counts, Families* families) {
  Family commits = families->Counter("eventvirtual_journal_commits_total", "Commits of the journal.");
  commits.Add({{"result", "ok"}}, counts.commits);
  commits.Add({{"result", "failed"}}, counts.failed_commits);
  families->Gauge("eventvirtual_journal_failing", "1: the last commit failed; it is tried again.")
      .Add({}, counts.failing ? 1.0 : 0.0);
  families->Gauge("eventvirtual_journal_full", "1: it has as many bytes as it may, and takes no event.")
      .Add({}, counts.full ? 1.0 : 0.0);
  families->Counter("eventvirtual_journal_refused_total", "Events that could not be written, and were refused.")
      .Add({}, counts.refused);
  families->Histogram("eventvirtual_journal_commit_duration_seconds", "How long commits took.")
      .Add({}, HistogramOf(counts.commit_durations));
  families->Gauge("eventvirtual_journal_pending_changes", "Changes that are not written yet.").Add({}, counts.pending);
  families->Gauge("eventvirtual_journal_size_bytes", "Bytes of the journal and its log of changes.")
      .Add({}, counts.bytes);
  families->Gauge("eventvirtual_journal_used_bytes", "Bytes of the journal without what is free in it.")
      .Add({}, counts.used);
  families->Gauge("eventvirtual_journal_max_bytes", "From so many used bytes on events are refused.")
      .Add({}, counts.max_bytes);
  families->Gauge("eventvirtual_dead_letters", "Events that were given up, and are kept.").Add({}, counts.dead_letters);
  families->Counter("eventvirtual_dead_letters_dropped_total", "The oldest of them, of which there were too many.")
      .Add({}, counts.dropped_dead_letters);
}

void AddDurable(const DurableAudit& audit, const DeadLetterSender::Counts& sent, Families* families) {
  families->Gauge("eventvirtual_durable_events", "Events in the journal that are not delivered yet.")
      .Add({}, audit.events);
  families->Gauge("eventvirtual_durable_oldest_age_seconds", "How long the oldest of them has been there.")
      .Add({}, Seconds(audit.oldest));
  Family queues = families->Gauge("eventvirtual_durable_queues", "Durable subscriptions that have such events.");
  queues.Add({{"state", "failing"}}, audit.failing);
  queues.Add({{"state", "flowing"}}, audit.queues - audit.failing);
  Family events = families->Gauge("eventvirtual_durable_queue_events", "Events that wait, by subscription.");
  for (const DurableAudit::Queue& queue : audit.foremost) {
    events.Add({{"subscription", queue.subscription}}, queue.events);
  }
  Family ages = families->Gauge("eventvirtual_durable_queue_oldest_age_seconds", "How long the oldest has waited.");
  for (const DurableAudit::Queue& queue : audit.foremost) {
    ages.Add({{"subscription", queue.subscription}}, Seconds(queue.oldest));
  }
  Family letters = families->Counter("eventvirtual_dead_letters_sent_total", "Dead letters with a dead_letter_uri.");
  letters.Add({{"result", "ok"}}, sent.sent);
  letters.Add({{"result", "failed"}}, sent.failed);
}

void AddMi(const MiServer& mi, Families* families) {
  Family requests = families->Counter("eventvirtual_mi_requests_total", "Requests to the management interface.");
  for (const MiCommands::Count& count : mi.counts()) {
    requests.Add({{"command", count.command}, {"result", "done"}}, count.done);
    requests.Add({{"command", count.command}, {"result", "refused"}}, count.refused);
  }
}

void AddEnrollments(const std::vector<EnrollmentStatus>& enrollments, Families* families) {
  using State = EnrollmentStatus::Event::State;
  constexpr std::pair<const char*, State> kStates[] = {{"waiting", State::kWaiting},
                                                       {"enrolled", State::kEnrolled},
                                                       {"covered", State::kCovered},
                                                       {"refused", State::kRefused}};
  if (enrollments.empty()) return;
  Family up = families->Gauge("eventvirtual_enrollment_up", "0: OpenSIPS does not answer; else 1.");
  for (const EnrollmentStatus& one : enrollments) {
    up.Add({{"opensips", one.opensips}}, one.state == EnrollmentStatus::State::kFailing ? 0.0 : 1.0);
  }
  Family events = families->Gauge("eventvirtual_enrollment_events", "Events that are wanted of OpenSIPS.");
  for (const EnrollmentStatus& one : enrollments) {
    for (const auto& [name, state] : kStates) {
      const auto is_in = [state = state](const EnrollmentStatus::Event& event) { return event.state == state; };
      events.Add({{"opensips", one.opensips}, {"state", name}},
                 static_cast<double>(std::count_if(one.events.begin(), one.events.end(), is_in)));
    }
  }
  Family calls = families->Counter("eventvirtual_enrollment_calls_total", "Calls of OpenSIPS' management interface.");
  for (const EnrollmentStatus& one : enrollments) {
    const EnrollmentCounters& counters = one.counters;
    calls.Add({{"opensips", one.opensips}, {"result", "done"}},
              counters.calls - counters.unanswered - counters.refused);
    calls.Add({{"opensips", one.opensips}, {"result", "refused"}}, counters.refused);
    calls.Add({{"opensips", one.opensips}, {"result", "unanswered"}}, counters.unanswered);
  }
  Family restarts = families->Counter("eventvirtual_enrollment_restarts_total", "How often OpenSIPS had forgotten us.");
  for (const EnrollmentStatus& one : enrollments) restarts.Add({{"opensips", one.opensips}}, one.counters.restarts);
  Family notices = families->Counter("eventvirtual_enrollment_notices_total", "Failure events raised at OpenSIPS.");
  for (const EnrollmentStatus& one : enrollments) {
    notices.Add({{"opensips", one.opensips}, {"result", "raised"}}, one.counters.notified);
    notices.Add({{"opensips", one.opensips}, {"result", "refused"}}, one.counters.notify_refused);
    notices.Add({{"opensips", one.opensips}, {"result", "dropped"}}, one.counters.notify_dropped);
  }
}

void AddConnections(const ConnectionCounts& counts, Families* families) {
  Family connections = families->Counter("eventvirtual_grpc_connections_total",
                                         "Connections that came to gRPC, and what became of them.");
  for (const auto& [result, count] : {std::pair<const char*, const std::atomic<uint64_t>*>{"taken", &counts.taken},
                                      {"no_descriptor", &counts.no_descriptor},
                                      {"too_many", &counts.too_many},
                                      {"too_many_of_peer", &counts.too_many_of_peer}}) {
    connections.Add({{"result", result}}, count->load(std::memory_order_relaxed));
  }
}

void AddLimits(Families* families) {
  Family exceeded = families->Counter("eventvirtual_limit_exceeded_total",
                                      "What was refused because of a limit, by the flag that sets it.");
  for (size_t i = 0; i < kLimits; ++i) {
    const Limit limit = static_cast<Limit>(i);
    exceeded.Add({{"limit", NameOf(limit)}}, ExceededCount(limit));
  }
}

void AddWatches(const WatchCounts& counts, Families* families) {
  families
      ->Counter("eventvirtual_watch_rows_lost_total", "Rows that watchers of deliveries missed: they read too slowly.")
      .Add({}, counts.rows_lost.load(std::memory_order_relaxed));
  families->Counter("eventvirtual_watches_ended_total", "Watches of subscriptions that had fallen too far behind.")
      .Add({}, counts.ended.load(std::memory_order_relaxed));
}

void AddLoad(const Load& load, Families* families) {
  const Load::Figures figures = load.figures();
  families->Gauge("eventvirtual_overload", "So many kinds of work are refused, since there is too much to do.")
      .Add({}, static_cast<double>(figures.refused_works));
  families->Gauge("eventvirtual_load_wait_seconds", "How long a task waits for its turn on the busiest event loop.")
      .Add({}, Seconds(figures.wait));
  Family refused = families->Counter("eventvirtual_shed_total", "What was refused since there was too much to do.");
  constexpr const char* kNames[Load::kWorks] = {"watching", "accepted", "delivered"};
  for (size_t i = 0; i < Load::kWorks; ++i) refused.Add({{"work", kNames[i]}}, figures.refused[i]);
}

void AddAccess(const Access& access, Families* families) {
  const AccessCounts& counts = access.counts();
  Family answers = families->Counter("eventvirtual_access_total", "Who asked to do something, and what they heard.");
  for (const auto& [answer, count] : {std::pair<const char*, const std::atomic<uint64_t>*>{"allowed", &counts.allowed},
                                      {"unauthenticated", &counts.unauthenticated},
                                      {"denied", &counts.denied}}) {
    answers.Add({{"answer", answer}}, count->load(std::memory_order_relaxed));
  }
}

void AddFiles(const std::vector<const ReloadedFiles*>& files, Families* families) {
  if (files.empty()) return;
  Family read = families->Counter("eventvirtual_files_read_total", "How often new contents of files came into force.");
  Family failing = families->Gauge("eventvirtual_files_failing",
                                   "1: what the files hold now is wrong, what was before is in force.");
  for (const ReloadedFiles* const some : files) {
    read.Add({{"files", some->name()}}, some->changes());
    failing.Add({{"files", some->name()}}, some->failing() ? 1.0 : 0.0);
  }
}

// The names are those of the interceptors for Go and Java, so their dashboards fit.
void AddCalls(const CallCounts& calls, Families* families) {
  static constexpr const char* kCodes[CallCounts::kCodes] = {
      "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
      "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
      "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
      "DataLoss", "Unauthenticated"};
  Family started = families->Counter("grpc_server_started_total", "RPCs that have begun.");
  for (const auto& method : calls.methods()) {
    started.Add({{"grpc_service", method->service}, {"grpc_method", method->name}},
                method->started.load(std::memory_order_relaxed));
  }
  Family handled = families->Counter("grpc_server_handled_total", "RPCs that have ended, by code.");
  for (const auto& method : calls.methods()) {
    for (size_t code = 0; code < CallCounts::kCodes; ++code) {
      const uint64_t count = method->ended[code].load(std::memory_order_relaxed);
      if (count == 0 && code != 0) continue;
      handled.Add({{"grpc_service", method->service}, {"grpc_method", method->name}, {"grpc_code", kCodes[code]}},
                  count);
    }
  }
  Family durations = families->Histogram("grpc_server_handling_seconds", "How long RPCs took; streams are left out.");
  for (const auto& method : calls.methods()) {
    if (method->streams) continue;
    prometheus::ClientMetric::Histogram histogram;
    for (size_t bucket = 0; bucket < CallCounts::kBuckets; ++bucket) {
      histogram.sample_count += method->durations[bucket].load(std::memory_order_relaxed);
      if (bucket + 1 == CallCounts::kBuckets) break;
      histogram.bucket.push_back({histogram.sample_count, Seconds(CallCounts::UpperEdge(bucket))});
    }
    histogram.sample_sum = static_cast<double>(method->micros.load(std::memory_order_relaxed)) / 1e6;
    durations.Add({{"grpc_service", method->service}, {"grpc_method", method->name}}, std::move(histogram));
  }
}

}  // namespace

std::string MetricsText(const MetricSources& sources, const EndpointPool::Audit& endpoints,
                        const DurableAudit* durable) {
  const Registry::Audit audit = sources.registry.TakeAudit();
  Families families;
  families.Gauge("eventvirtual_build_info", "1; the label says which version runs.").Add({{"version", kVersion}}, 1.0);
  AddBooks(audit, endpoints, &families);
  AddDeliveries(audit, sources.dispatcher, &families);
  AddSubscriptions(audit, &families);
  AddEndpoints(endpoints, &families);
  AddTransports(endpoints, &families);
  AddLoopGuard(sources.dispatcher.loop_guard(), &families);
  if (sources.ingest != nullptr) AddIngest(*sources.ingest, &families);
  if (sources.journal != nullptr) AddJournal(sources.journal->counts(), &families);
  if (durable != nullptr) AddDurable(*durable, sources.dead_letters->counts(), &families);
  if (sources.mi != nullptr) AddMi(*sources.mi, &families);
  AddEnrollments(sources.enroller.List(), &families);
  AddConnections(sources.connections, &families);
  AddLimits(&families);
  AddWatches(sources.watches, &families);
  AddLoad(sources.load, &families);
  if (sources.access != nullptr) AddAccess(*sources.access, &families);
  AddFiles(sources.files, &families);
  AddCalls(sources.calls, &families);
  AddLoops(endpoints, &families);
  AddProcess(&families);
  return prometheus::TextSerializer().Serialize(families.all());
}

}  // namespace eventvirtual
