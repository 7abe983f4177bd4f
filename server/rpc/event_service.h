// EventService: the data plane over gRPC.
#ifndef EVENTVIRTUAL_SERVER_RPC_EVENT_SERVICE_H_
#define EVENTVIRTUAL_SERVER_RPC_EVENT_SERVICE_H_

#include <atomic>
#include <cstdint>
#include <set>

#include "absl/base/thread_annotations.h"
#include "eventvirtual/v1/event.pb.h"
#include "server/dispatch/dispatcher.h"
#include "server/limits/rates.h"
#include "server/load/load.h"
#include "server/registry/registry.h"
#include "server/rpc/calls.h"
#include "server/rpc/delivery_watch.h"
#include "server/rpc/gate.h"
#include "server/rpc/listen_stream.h"
#include "server/rpc/raised_ids.h"
#include "transports/api/mutex.h"
#include "transports/stream/listeners.h"

namespace eventvirtual {

class EventService final {
 public:
  EventService(Registry& registry, Dispatcher& dispatcher, StreamListeners& listeners, const Load& load,
               WatchCounts& watch_counts, EventLimits limits = {})
      : registry_(registry),
        dispatcher_(dispatcher),
        listeners_(listeners),
        load_(load),
        watch_counts_(watch_counts),
        limits_(limits) {}

  // From here on events above the rate of the principal whom `gate` knows are refused with RESOURCE_EXHAUSTED: a Raise,
  // or each event of a stream by itself, which goes on. Both outlive this; `rates` null: there is none. Only before
  // anything is served.
  void LimitRate(const Gate* gate, Rates* rates) {
    gate_ = gate;
    rates_ = rates;
  }

  void Raise(UnaryCall* call, const v1::RaiseRequest* request, v1::RaiseResponse* response);
  void RaiseStream(Call* call);
  void Listen(Call* call);
  void ListEvents(UnaryCall* call, const v1::ListEventsRequest* request, v1::ListEventsResponse* response);
  void WatchDeliveries(Call* call, const v1::WatchDeliveriesRequest* request);

  // An event of an earlier life that was raised under an id of its caller's. Before anything is served.
  void Restore(const std::string& id, absl::Time raised, uint32_t matched) { raised_.Restore(id, raised, matched); }

  // The server is stopping: streams read no further, answer what they have read, and end with OK. Any thread.
  void EndStreams();
  bool HasListeners();  // any thread
  // Who listens is sent away with UNAVAILABLE. Any thread.
  void EndListeners();
  // Every watch of deliveries ends with OK, and new ones at once. Any thread.
  void EndWatches();

 private:
  class Stream;

  Registry& registry_;
  Dispatcher& dispatcher_;
  StreamListeners& listeners_;
  const Load& load_;
  WatchCounts& watch_counts_;
  const EventLimits limits_;
  const Gate* gate_ = nullptr;
  Rates* rates_ = nullptr;  // null: none
  RaisedIds raised_;
  std::atomic<int64_t> held_{0};  // by all streams
  Mutex mutex_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_listeners_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_watches_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<Stream*> streams_ ABSL_GUARDED_BY(mutex_);
  std::set<ListenStream*> listening_ ABSL_GUARDED_BY(mutex_);
  std::set<DeliveryWatch*> watches_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_EVENT_SERVICE_H_
