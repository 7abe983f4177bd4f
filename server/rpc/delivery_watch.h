// DeliveryWatch: one call of EventService.WatchDeliveries.
#ifndef EVENTVIRTUAL_SERVER_RPC_DELIVERY_WATCH_H_
#define EVENTVIRTUAL_SERVER_RPC_DELIVERY_WATCH_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "eventvirtual/v1/event.pb.h"
#include "server/dispatch/dispatcher.h"
#include "server/load/load.h"
#include "server/metrics/watch_counts.h"
#include "server/rpc/calls.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// Writes a row for each delivery that ends. Rows wait while the caller reads slowly; those for which there is no room,
// and those that end while watching is refused, are lost to it, and counted in the next row. Deliveries never wait. The
// caller's cancellation and End() end it. Deletes itself. Any thread.
class DeliveryWatch final : public WriteReactor<v1::WatchDeliveriesResponse>, private DeliveryObserver {
 public:
  // That wait, besides what gRPC has taken.
  static constexpr size_t kMaxRows = 1000;
  static constexpr size_t kMaxBytes = 1 << 20;

  // Of `event` alone, a name or a pattern, unless it is empty. `on_gone` is called as its last act.
  DeliveryWatch(Call* call, Dispatcher& dispatcher, const Load& load, WatchCounts& counts, std::string event,
                bool failures_only, std::function<void(DeliveryWatch*)> on_gone);

  // Watches from now on, and says so: the caller gets the initial metadata. Once.
  void Start();
  // Ends the stream with `status` as soon as the write that is out is done. What still waits is lost.
  void End(grpc::Status status);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  void OnDelivery(const Message& message, const DeliveryResult& delivery) override;
  void Step();  // starts what may be started: a write, or the end

  Dispatcher& dispatcher_;
  const Load& load_;
  WatchCounts& counts_;
  const std::string event_;
  const bool failures_only_;
  const std::function<void(DeliveryWatch*)> on_gone_;
  v1::WatchDeliveriesResponse row_;  // of who has set writing_

  Mutex mutex_;
  std::deque<v1::WatchDeliveriesResponse> rows_ ABSL_GUARDED_BY(mutex_);
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;      // of them
  uint64_t dropped_ ABSL_GUARDED_BY(mutex_) = 0;  // behind the last of them
  bool writing_ ABSL_GUARDED_BY(mutex_) = true;   // first the metadata
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<grpc::Status> end_;  // written before finished_, read after; else under the lock
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_DELIVERY_WATCH_H_
