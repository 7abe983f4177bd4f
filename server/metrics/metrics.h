// Metrics: what the parts of the service have counted, as Prometheus reads it. Every name is told in docs/metrics.md.
#ifndef EVENTVIRTUAL_SERVER_METRICS_METRICS_H_
#define EVENTVIRTUAL_SERVER_METRICS_METRICS_H_

#include <string>

#include "server/access/access.h"
#include "server/dispatch/dispatcher.h"
#include "server/durable/dead_letter_sender.h"
#include "server/durable/durable_delivery.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/enroll/enroller.h"
#include "server/files/reloaded.h"
#include "server/ingest/ingest.h"
#include "server/journal/journal.h"
#include "server/load/load.h"
#include "server/metrics/call_counts.h"
#include "server/metrics/connection_counts.h"
#include "server/metrics/watch_counts.h"
#include "server/mi/mi_server.h"
#include "server/registry/registry.h"

namespace eventvirtual {

// Where the numbers are. All outlive what asks.
struct MetricSources {
  Registry& registry;
  const Dispatcher& dispatcher;
  const CallCounts& calls;
  const ConnectionCounts& connections;
  const WatchCounts& watches;
  const Load& load;
  const Enroller& enroller;
  // Null: not there.
  const Journal* journal = nullptr;
  const DeadLetterSender* dead_letters = nullptr;
  const Ingest* ingest = nullptr;
  const MiServer* mi = nullptr;
  const Access* access = nullptr;
  std::vector<const ReloadedFiles*> files = {};
};

// So many endpoints are shown each by itself: those that fail first. What is added up by transport has all of them.
inline constexpr size_t kShownEndpoints = 100;

// So many durable subscriptions likewise: those whose events have waited longest.
inline constexpr size_t kShownQueues = 100;

// All of it, in Prometheus' text format (version 0.0.4); `durable` is null where nothing is durable. Nothing is counted
// here: each number is one that the service keeps anyway, and asking costs who raises nothing. Takes some hundred
// nanoseconds for each subscription.
std::string MetricsText(const MetricSources& sources, const EndpointPool::Audit& endpoints,
                        const DurableAudit* durable);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_METRICS_METRICS_H_
