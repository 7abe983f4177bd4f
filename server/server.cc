#include "server/server.h"

#include <event2/event.h>
#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <deque>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/access/access.h"
#include "server/access/certificates.h"
#include "server/admin/admin_server.h"
#include "server/admin/metrics_page.h"
#include "server/admin/status.h"
#include "server/admin/status_page.h"
#include "server/destinations/destinations.h"
#include "server/dispatch/dispatcher.h"
#include "server/durable/dead_letter_sender.h"
#include "server/durable/dead_letters.h"
#include "server/durable/durable_delivery.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/endpoint/prober.h"
#include "server/enroll/enroller.h"
#include "server/enroll/mi_client.h"
#include "server/enroll/own_sockets.h"
#include "server/files/reloaded.h"
#include "server/ingest/ingest.h"
#include "server/journal/journal.h"
#include "server/journal/subscription_store.h"
#include "server/limits/limits.h"
#include "server/limits/rates.h"
#include "server/load/load.h"
#include "server/log/log.h"
#include "server/metrics/call_counts.h"
#include "server/mi/mi_server.h"
#include "server/registry/registry.h"
#include "server/reports/delivery_log.h"
#include "server/reports/failure_reports.h"
#include "server/reports/health_log.h"
#include "server/reports/loop_log.h"
#include "server/rpc/calls.h"
#include "server/rpc/event_service.h"
#include "server/rpc/gate.h"
#include "server/rpc/health_service.h"
#include "server/rpc/listeners.h"
#include "server/rpc/methods.h"
#include "server/rpc/operator_service.h"
#include "server/rpc/subscription_service.h"
#include "transports/all.h"
#include "transports/api/catalog.h"
#include "transports/io/destination_gate.h"
#include "transports/io/event_loop.h"
#include "transports/io/run_on_loop.h"
#include "transports/io/secret_files.h"
#include "transports/stream/listeners.h"

namespace eventvirtual {
namespace {

constexpr int kLookahead = 16 << 10;                           // bytes that gRPC takes of a stream that is not read
constexpr absl::Duration kJournalPatience = absl::Seconds(5);  // with a disk, when the process ends

// Half of the processors: gRPC's queues, the subscribers and OpenSIPS need some, and what one loop does costs less than
// the same on two that share a processor with others.
int LoopsFor(int64_t threads) {
  if (threads > 0) return static_cast<int>(threads);
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency() / 2, 1u, 4u));
}

RegistryLimits RegistryLimitsOf(const Options& options) {
  RegistryLimits limits;
  limits.max_subscriptions = options.max_subscriptions;
  limits.max_subscriptions_per_principal = options.max_subscriptions_per_principal;
  limits.max_subscribers = static_cast<uint32_t>(options.max_subscribers);
  limits.max_event_name = static_cast<size_t>(options.max_event_name);
  limits.strict_events = options.strict_events;
  limits.events = options.events;
  return limits;
}

EventLimits EventLimitsOf(const Options& options) {
  EventLimits limits;
  limits.name_bytes = static_cast<size_t>(options.max_event_name);
  limits.params = static_cast<size_t>(options.max_params);
  limits.param_bytes = static_cast<size_t>(options.max_param_bytes);
  limits.depth = static_cast<size_t>(options.max_depth);
  return limits;
}

std::unique_ptr<Rates> RatesOf(Limit limit, int64_t per_second, absl::Duration burst) {
  return per_second == 0 ? nullptr : std::make_unique<Rates>(limit, per_second, burst);
}

// Whether it matters who is who.
bool TellsUsers(const Options& options) {
  return !options.access.empty() || options.raise_rate > 0 || options.change_rate > 0 ||
         options.max_subscriptions_per_principal < options.max_subscriptions;
}

LoopLimits LoopLimitsOf(const Options& options) {
  LoopLimits limits;
  limits.max_hops = static_cast<int>(options.max_hops);
  limits.max_repeats = static_cast<uint32_t>(options.max_repeats);
  limits.tell = &LogLoop;
  return limits;
}

ListenOptions ListenOptionsOf(const Options& options) {
  ListenOptions listen;
  listen.addresses = options.listen;
  listen.socket_group = options.socket_group;
  listen.tells_users = TellsUsers(options);
  listen.client_certificate_required = options.tokens.empty();
  listen.max_connections = static_cast<size_t>(options.max_connections);
  listen.max_connections_per_peer = static_cast<size_t>(options.max_connections_per_peer);
  return listen;
}

// Only who may see everything is shown what the route has.
void Guard(const Access& access, HttpRoute* route) {
  route->handle = [&access, path = route->path, behind = std::move(route->handle)](const HttpRequest& request,
                                                                                   HttpReply reply) {
    const absl::Status allowed =
        access.Ask({}, request.authorization, "loopback", path, {Role::kObserver, Role::kOperator});
    if (allowed.ok()) return behind(request, std::move(reply));
    std::move(reply).Send({403, "text/plain; charset=utf-8", absl::StrCat(std::string(allowed.message()), "\n")});
  };
}

EndpointLimits EndpointLimitsOf(const Options& options) {
  EndpointLimits limits;
  limits.queue_events = static_cast<uint32_t>(options.queue_events);
  limits.queue_bytes = options.queue_bytes;
  return limits;
}

// What libraries say of themselves goes to stderr, and would wait there with one of our threads, or theirs.
void LogLibevent(int severity, const char* text) {
  Log(severity >= EVENT_LOG_WARN ? LogLevel::kWarning : LogLevel::kDebug, "libevent", {{"text", text}});
}
void LogGrpc(gpr_log_func_args* said) {
  const LogLevel level = said->severity == GPR_LOG_SEVERITY_ERROR ? LogLevel::kWarning : LogLevel::kDebug;
  Log(level, "gRPC", {{"at", absl::StrCat(said->file, ":", said->line)}, {"text", said->message}});
}

absl::StatusOr<std::vector<std::unique_ptr<MiClient>>> MiClientsOf(const std::vector<std::string>& addresses) {
  std::vector<std::unique_ptr<MiClient>> clients;
  for (size_t i = 0; i < addresses.size(); ++i) {
    const std::string place = absl::StrCat("entry ", i + 1, " of ", addresses.size(), ": ");
    absl::StatusOr<std::unique_ptr<MiClient>> client = MakeMiClient(addresses[i]);
    if (!client.ok()) return absl::InvalidArgumentError(absl::StrCat(place, client.status().message()));
    for (const std::unique_ptr<MiClient>& other : clients) {
      if (other->name() == (*client)->name()) {
        return absl::InvalidArgumentError(absl::StrCat(place, other->name(), " is there already"));
      }
    }
    clients.push_back(*std::move(client));
  }
  return clients;
}

std::vector<Loop*> Pointers(std::deque<EventLoop>& loops) {
  std::vector<Loop*> pointers;
  for (EventLoop& loop : loops) pointers.push_back(&loop);
  return pointers;
}

}  // namespace

// In the order in which they are built; destroyed the other way round.
struct Server::Parts {
  explicit Parts(const Options& options)
      : options(options),
        defaults{options.failover_timeout, options.attempt_timeout},
        catalog(AllTransports(listeners)),
        loops(MakeLoops(LoopsFor(options.threads))),
        pool(Pointers(loops), EndpointLimitsOf(options), [this](const HealthChange& change) { TellHealth(change); }),
        registry(catalog, pool, loops[0], RegistryLimitsOf(options)),
        dispatcher(registry, LoopLimitsOf(options)),
        load(Pointers(loops), [this] { return dispatcher.pending(); }),
        reports(registry, dispatcher, loops[0]),
        health_log(registry),
        board(registry, pool, dispatcher, {static_cast<uint32_t>(options.queue_events), options.failover_timeout}),
        delivery_log(options.log_level == LogLevel::kDebug ? std::make_unique<DeliveryLog>(dispatcher) : nullptr),
        subscriptions(registry, defaults, load, watch_counts),
        raise_rates(RatesOf(Limit::kRaiseRate, options.raise_rate, options.rate_burst)),
        change_rates(RatesOf(Limit::kChangeRate, options.change_rate, options.rate_burst)),
        events(registry, dispatcher, listeners, load, watch_counts, EventLimitsOf(options)),
        prober(loops[0], EndpointLimitsOf(options).connect_timeout),
        enroller(registry, loops[0]),
        operators(catalog, pool, registry, prober, enroller, defaults, EventLimitsOf(options)),
        health({"", "eventvirtual.v1.SubscriptionService", "eventvirtual.v1.EventService",
                "eventvirtual.v1.OperatorService"}) {}

  // On an endpoint's loop; an endpoint is told about once a second at most.
  void TellHealth(const HealthChange& change) {
    health_log.OnHealthChange(change);
    reports.OnHealthChange(change);
    enroller.Notify(*FailureReports::HealthReport(change.uri, change.why));
  }

  static std::deque<EventLoop> MakeLoops(int count) {
    std::deque<EventLoop> loops;
    for (int i = 0; i < count; ++i) loops.emplace_back(absl::StrCat("ev-loop-", i));
    return loops;
  }

  // Where this process listens: as it was told, and with the ports that were chosen.
  std::vector<std::string> AllListeners() const {
    std::vector<std::string> all;
    for (const auto* some :
         {&options.listen, &options.ingest, &options.mi, &options.http, &listening, &ingesting, &managing, &showing}) {
      all.insert(all.end(), some->begin(), some->end());
    }
    return all;
  }

  absl::Status LoadAccess() {
    if (!options.tls_cert.empty()) {
      auto loaded = LoadCertificates(options.tls_cert, options.tls_key, options.tls_client_ca);
      if (!loaded.ok()) return loaded.status();
      certificates = *std::move(loaded);
    }
    if (options.access.empty() && certificates == nullptr) return absl::OkStatus();
    auto loaded = Access::Load(options.access, options.tokens);
    if (!loaded.ok()) return loaded.status();
    access = *std::move(loaded);
    return absl::OkStatus();
  }

  // Those that are there to be read again.
  std::vector<ReloadedFiles*> Files() const {
    std::vector<ReloadedFiles*> files;
    if (!options.destinations.empty()) files.push_back(destinations.get());
    if (certificates != nullptr) files.push_back(certificates.get());
    if (!options.access.empty()) files.push_back(&access->files());
    return files;
  }

  AdminServer::Readiness CurrentReadiness() const {
    return {health.serving(), journal == nullptr ? absl::OkStatus() : journal->health()};
  }

  absl::Status Enroll() {
    if (options.enroll.empty()) return absl::OkStatus();
    absl::StatusOr<std::vector<std::unique_ptr<MiClient>>> clients = MiClientsOf(options.enroll);
    if (!clients.ok()) return clients.status();
    absl::StatusOr<std::string> ingest = IngestForOpensips(options.enroll_ingest, ingesting);
    if (!ingest.ok()) return ingest.status();
    EnrollOptions enroll;
    enroll.ingest = *std::move(ingest);
    enroll.own = ingesting;
    enroll.import = options.enroll_import;
    enroll.notify = options.enroll_notify;
    enroll.import_defaults = {options.failover_timeout, options.attempt_timeout};
    enroller.Start(enroll, *std::move(clients));
    return absl::OkStatus();
  }

  const Options options;
  const WireDefaults defaults;
  std::shared_ptr<Destinations> destinations;
  StreamListeners listeners;
  Catalog catalog;
  std::deque<EventLoop> loops;  // loops[0] also runs the expiry and the ingest
  EndpointPool pool;
  std::unique_ptr<Journal> journal;  // null: nothing is kept
  Registry registry;
  std::unique_ptr<SubscriptionStore> store;
  Dispatcher dispatcher;
  Load load;
  std::unique_ptr<EventLoop> durable_loop;  // of its own: memory traffic does not wait for it
  std::unique_ptr<DurableDelivery> durable;
  std::unique_ptr<DeadLetterSender> dead_letter_sender;
  std::unique_ptr<DeadLetters> dead_letters;
  FailureReports reports;  // the loops have stopped before it goes
  HealthLog health_log;
  StatusBoard board;
  std::unique_ptr<DeliveryLog> delivery_log;  // null: unless that level is logged
  WatchCounts watch_counts;
  SubscriptionService subscriptions;
  const std::unique_ptr<Rates> raise_rates, change_rates;  // null: none
  EventService events;
  Prober prober;
  Enroller enroller;
  OperatorService operators;
  HealthService health;
  CallCounts call_counts;  // empty without --http
  std::unique_ptr<Ingest> ingest;
  std::unique_ptr<EventLoop> operator_loop;  // of what operators ask for: no event waits while it lists
  std::unique_ptr<MiServer> mi;
  std::unique_ptr<MetricsPage> metrics;
  std::unique_ptr<AdminServer> admin;
  std::unique_ptr<EventLoop> accept_loop;      // of its own: a flood of connections delays no event
  std::shared_ptr<Certificates> certificates;  // null: no TLS
  std::unique_ptr<Access> access;              // null: whoever is on this host may do everything
  std::unique_ptr<Gate> gate;
  std::unique_ptr<Listeners> grpc_listeners;
  Calls calls;
  std::unique_ptr<grpc::Server> grpc;
  std::vector<std::string> listening;
  std::vector<std::string> ingesting;
  std::vector<std::string> managing;
  std::vector<std::string> showing;
};

Server::Server(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Server::~Server() {
  if (parts_ != nullptr) Drain();
}

const std::vector<std::string>& Server::listening() const { return parts_->listening; }
const std::vector<std::string>& Server::ingesting() const { return parts_->ingesting; }
const std::vector<std::string>& Server::managing() const { return parts_->managing; }
const std::vector<std::string>& Server::showing() const { return parts_->showing; }

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const Options& options,
                                                      std::shared_ptr<Destinations> destinations) {
  // Whatever fails below, the destructor stops what runs already.
  std::unique_ptr<Server> server(new Server(std::make_unique<Parts>(options)));
  Parts& parts = *server->parts_;
  parts.catalog.LimitBytes(static_cast<size_t>(options.max_uri));
  for (const auto& [scheme, query] : options.transport_defaults) {
    if (absl::Status status = parts.catalog.SetDefaults(scheme, query); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--transport_defaults: ", std::string(status.message())));
    }
  }
  parts.destinations = std::move(destinations);
  parts.destinations->PutInto([data_dir = options.data_dir](std::shared_ptr<const DestinationPolicy> policy) {
    SetDestinationPolicy(std::move(policy), data_dir);
  });
  SetSecretDirectory(options.secrets);
  parts.catalog.AskBeforeAdmission([](const Target& target) {
    absl::Status status = CheckTarget(target);
    Target copy = target;  // what is read now is only looked at: each connect reads it anew
    if (status.ok()) status = ReadSecrets(&copy);
    return status;
  });
  parts.dispatcher.ShedBy(&parts.load);
  SetOwnListeners(parts.AllListeners());  // what the journal brings back may be sent before anybody listens
  if (!options.data_dir.empty()) {
    absl::StatusOr<std::unique_ptr<Journal>> journal =
        Journal::Open(options.data_dir, options.full_sync ? Journal::Sync::kFull : Journal::Sync::kNormal,
                      static_cast<uint64_t>(options.journal_max_bytes));
    if (!journal.ok()) {
      return absl::Status(journal.status().code(),
                          absl::StrCat("--data_dir: ", std::string(journal.status().message())));
    }
    parts.journal = *std::move(journal);
    parts.durable_loop = std::make_unique<EventLoop>("ev-durable");
    parts.durable =
        std::make_unique<DurableDelivery>(*parts.journal, parts.registry, parts.dispatcher, *parts.durable_loop);
    parts.dead_letter_sender =
        std::make_unique<DeadLetterSender>(*parts.journal, parts.catalog, parts.pool, *parts.durable_loop);
    parts.durable->TellOfDeadLetters([sender = parts.dead_letter_sender.get()] { sender->Wake(); });
    parts.store = std::make_unique<SubscriptionStore>(*parts.journal, parts.registry);
    parts.durable->Resume(parts.store->left_alone());
    parts.dead_letters = std::make_unique<DeadLetters>(
        *parts.journal, parts.registry, *parts.durable_loop,
        [durable = parts.durable.get()](const MessageRef& message, const Ref<const Subscription>& subscription) {
          return durable->KeepAgain(message, subscription);
        });
    parts.operators.ShowDeadLetters(parts.dead_letters.get());
    for (const RaisedId& id : parts.journal->TakeRaisedIds()) parts.events.Restore(id.id, id.raised, id.matched);
    parts.subscriptions.AcknowledgeAfter(parts.journal.get());
    parts.subscriptions.CountBy(parts.durable.get());
    parts.subscriptions.watches().TellExpired(parts.store->TakeExpired());
    Log(LogLevel::kInfo, "subscriptions restored", {{"count", parts.store->restored()}});
  }

  gpr_set_log_function(LogGrpc);
  event_set_log_callback(LogLibevent);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.rpc_max_bytes));
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, static_cast<int>(options.rpc_max_metadata));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, static_cast<int>(options.max_streams));
  // The probe lets a window grow to megabytes, which a stream that is read no further may fill (docs/decisions/0026).
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kLookahead);
  grpc::ResourceQuota quota("rpc");
  quota.Resize(static_cast<size_t>(options.rpc_memory));
  builder.SetResourceQuota(quota);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             static_cast<int>(absl::ToInt64Milliseconds(options.handshake_timeout)));
  if (absl::Status status = parts.LoadAccess(); !status.ok()) return status;
  ListenOptions listen = ListenOptionsOf(options);
  listen.certificates = parts.certificates;
  absl::StatusOr<std::unique_ptr<Listeners>> listeners = Listeners::Bind(listen, &builder);
  if (!listeners.ok()) {
    return absl::Status(listeners.status().code(),
                        absl::StrCat("--listen: ", std::string(listeners.status().message())));
  }
  parts.grpc_listeners = *std::move(listeners);
  parts.gate = std::make_unique<Gate>(parts.access.get());
  parts.subscriptions.KnowOwners(parts.gate.get(), parts.change_rates.get());
  parts.events.LimitRate(parts.gate.get(), parts.raise_rates.get());
  const Gate* const gate = parts.access == nullptr ? nullptr : parts.gate.get();
  AddMethods(parts.subscriptions, gate, &parts.calls);
  AddMethods(parts.events, gate, &parts.calls);
  AddMethods(parts.operators, gate, &parts.calls);
  parts.health.AddTo(&parts.calls);
  parts.calls.Register(options.http.empty() ? nullptr : &parts.call_counts, parts.loops[0], &builder);
  parts.grpc = builder.BuildAndStart();
  if (parts.grpc == nullptr) return absl::UnavailableError("--listen: gRPC could not be started");
  parts.calls.Serve();
  parts.listening = parts.grpc_listeners->addresses();
  parts.accept_loop = std::make_unique<EventLoop>("ev-accept");
  parts.grpc_listeners->Start(*parts.accept_loop);
  RunOnLoop(*parts.accept_loop, [&parts](const std::shared_ptr<void>&) { parts.load.Start(*parts.accept_loop); });

  if (!options.ingest.empty()) {
    IngestOptions ingest;
    ingest.addresses = options.ingest;
    ingest.off_host = options.ingest_off_host;
    ingest.socket_group = options.socket_group;
    ingest.max_object_bytes = static_cast<size_t>(options.ingest_max_bytes);
    ingest.limits = EventLimitsOf(options);
    ingest.rate = options.ingest_rate;
    ingest.rate_burst = options.rate_burst;
    ingest.reply_padding = static_cast<size_t>(options.ingest_reply_padding);
    ingest.event_param = options.ingest_event_param;
    ingest.load = &parts.load;
    absl::StatusOr<std::unique_ptr<Ingest>> listening = Ingest::Listen(ingest, parts.loops[0], parts.dispatcher);
    if (!listening.ok()) {
      return absl::Status(listening.status().code(),
                          absl::StrCat("--ingest: ", std::string(listening.status().message())));
    }
    parts.ingest = *std::move(listening);
    parts.ingesting = parts.ingest->addresses();
  }

  if (!options.mi.empty() || !options.http.empty()) parts.operator_loop = std::make_unique<EventLoop>("ev-operator");
  if (!options.mi.empty()) {
    MiOptions mi;
    mi.addresses = options.mi;
    mi.defaults = {options.failover_timeout, options.attempt_timeout};
    mi.socket_group = options.socket_group;
    mi.max_bytes = static_cast<size_t>(options.mi_max_bytes);
    mi.limits = {EventLimitsOf(options), parts.raise_rates.get(), parts.change_rates.get()};
    mi.access = parts.access.get();
    absl::StatusOr<std::unique_ptr<MiServer>> listening =
        MiServer::Listen(mi, *parts.operator_loop, parts.registry, parts.dispatcher, parts.journal.get());
    if (!listening.ok()) {
      return absl::Status(listening.status().code(), absl::StrCat("--mi: ", std::string(listening.status().message())));
    }
    parts.mi = *std::move(listening);
    parts.managing = parts.mi->addresses();
  }

  if (!options.http.empty()) {
    const std::vector<ReloadedFiles*> files = parts.Files();
    const MetricSources sources{parts.registry,
                                parts.dispatcher,
                                parts.call_counts,
                                parts.grpc_listeners->counts(),
                                parts.watch_counts,
                                parts.load,
                                parts.enroller,
                                parts.journal.get(),
                                parts.dead_letter_sender.get(),
                                parts.ingest.get(),
                                parts.mi.get(),
                                parts.access.get(),
                                {files.begin(), files.end()}};
    parts.metrics = std::make_unique<MetricsPage>(sources, parts.pool, parts.durable.get(), *parts.operator_loop);
    parts.board.ShowJournal(parts.journal.get());
    parts.board.ShowLoad(&parts.load);
    std::vector<HttpRoute> routes = StatusRoutes(parts.board);
    routes.push_back(parts.metrics->route());
    if (parts.access != nullptr) {
      for (HttpRoute& route : routes) Guard(*parts.access, &route);
    }
    absl::StatusOr<std::unique_ptr<AdminServer>> listening = AdminServer::Listen(
        options.http, *parts.operator_loop, [&parts] { return parts.CurrentReadiness(); }, routes);
    if (!listening.ok()) {
      return absl::Status(listening.status().code(),
                          absl::StrCat("--http: ", std::string(listening.status().message())));
    }
    parts.admin = *std::move(listening);
    parts.showing = parts.admin->addresses();
  }

  SetOwnListeners(parts.AllListeners());

  if (absl::Status status = parts.Enroll(); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat("--enroll: ", std::string(status.message())));
  }

  if (parts.dead_letter_sender != nullptr) parts.dead_letter_sender->Wake();  // of an earlier life
  parts.health.SetServing(true);
  return server;
}

void Server::Reload(bool asked) {
  for (ReloadedFiles* const files : parts_->Files()) files->Look(asked);
}

void Server::Drain() {
  Parts& parts = *parts_;
  const absl::Time deadline = absl::Now() + parts.options.drain_timeout;
  parts.health.SetServing(false);
  parts.enroller.Stop();  // OpenSIPS sends nothing more before the ingest takes nothing more
  if (parts.ingest != nullptr) parts.ingest->Stop();
  if (parts.mi != nullptr) parts.mi->Stop();
  parts.subscriptions.watches().End();
  parts.events.EndStreams();
  parts.prober.Stop();
  if (parts.durable != nullptr) {  // what is queued is for the next start
    parts.durable->Stop();
    parts.dead_letter_sender->Stop();
  }
  // What has been raised still reaches those who listen, in half of the time at most: new raises may never end.
  if (parts.events.HasListeners()) {
    parts.dispatcher.AwaitIdle(std::max((deadline - absl::Now()) / 2, absl::ZeroDuration()));
    parts.events.EndListeners();
  }
  parts.events.EndWatches();
  parts.health.EndWatches();
  if (parts.grpc_listeners != nullptr) parts.grpc_listeners->Stop();
  if (parts.accept_loop != nullptr) {
    RunOnLoop(*parts.accept_loop, [&parts](const std::shared_ptr<void>&) { parts.load.Stop(); });
  }
  if (parts.grpc != nullptr) parts.grpc->Shutdown(absl::ToChronoTime(deadline));
  parts.dispatcher.AwaitIdle(std::max(deadline - absl::Now(), absl::ZeroDuration()));
  parts.reports.Stop();
  // What is still out ends now: closing an endpoint fails what it holds.
  parts.pool.CloseAll();
  parts.dispatcher.AwaitIdle(absl::InfiniteDuration());
  parts.calls.Stop();
  parts.grpc.reset();
  parts.admin.reset();  // until here it can be seen what the stop waits for
  parts.metrics.reset();
  parts.ingest.reset();
  parts.mi.reset();
  parts.store.reset();
  if (parts.durable != nullptr) {
    // How the last rounds have ended is on its way to it, and from it to the journal.
    RunOnLoop(*parts.durable_loop, [](const std::shared_ptr<void>&) {});
    RunOnLoop(*parts.durable_loop, [&parts](const std::shared_ptr<void>&) {
      parts.dead_letters.reset();
      parts.durable.reset();
      parts.dead_letter_sender.reset();
    });
  }
  if (parts.journal != nullptr) parts.journal->Close(kJournalPatience);
  parts.registry.Stop();
  parts.pool.AwaitEmpty();
  for (EventLoop& loop : parts.loops) loop.Stop();
  if (parts.durable_loop != nullptr) parts.durable_loop->Stop();
  parts_.reset();
}

}  // namespace eventvirtual
