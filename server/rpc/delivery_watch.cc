#include "server/rpc/delivery_watch.h"

#include <algorithm>
#include <utility>

#include "server/rpc/wire.h"
#include "transports/api/trace_context.h"

namespace eventvirtual {
namespace {

// Something did not arrive where it was tried, or not at all.
bool HasFailed(const DeliveryResult& delivery) {
  if (delivery.outcome != DeliveryResult::Outcome::kDelivered) return true;
  return std::any_of(delivery.attempts.begin(), delivery.attempts.end(), [](const AttemptRecord& attempt) {
    return attempt.result != AttemptRecord::Result::kOk && attempt.result != AttemptRecord::Result::kSkipped;
  });
}

}  // namespace

DeliveryWatch::DeliveryWatch(Call* call, Dispatcher& dispatcher, const Load& load, WatchCounts& counts,
                             std::string event, bool failures_only, std::function<void(DeliveryWatch*)> on_gone)
    : WriteReactor(call),
      dispatcher_(dispatcher),
      load_(load),
      counts_(counts),
      event_(std::move(event)),
      failures_only_(failures_only),
      on_gone_(std::move(on_gone)) {}

void DeliveryWatch::Start() {
  dispatcher_.Watch(this);
  StartSendInitialMetadata();
}

void DeliveryWatch::End(grpc::Status status) {
  {
    MutexLock lock(&mutex_);
    if (!end_.has_value()) end_ = std::move(status);
  }
  Step();
}

void DeliveryWatch::OnDelivery(const Message& message, const DeliveryResult& delivery) {
  if (!event_.empty() && !Takes(event_, message.name())) return;
  if (failures_only_ && !HasFailed(delivery)) return;
  {
    MutexLock lock(&mutex_);
    if (end_.has_value()) return;
    if (rows_.size() == kMaxRows || bytes_ > kMaxBytes || load_.Refuses(Load::Work::kWatching)) {
      counts_.rows_lost.fetch_add(1, std::memory_order_relaxed);
      ++dropped_;
      return;
    }
    v1::WatchDeliveriesResponse& row = rows_.emplace_back();
    row.set_event_id(std::string(message.event_id()));
    row.set_event(std::string(message.name()));
    ToWire(delivery, row.mutable_delivery());
    row.set_dropped(std::exchange(dropped_, 0));
    row.set_traceparent(std::string(TraceparentOf(message)));
    bytes_ += row.ByteSizeLong();
  }
  Step();
}

void DeliveryWatch::Step() {
  bool write = false;
  {
    MutexLock lock(&mutex_);
    if (writing_ || finished_) return;
    if (end_.has_value()) {
      finished_ = true;
    } else if (!rows_.empty()) {
      row_ = std::move(rows_.front());
      bytes_ -= row_.ByteSizeLong();
      rows_.pop_front();
      write = writing_ = true;
    } else if (dropped_ > 0) {  // nothing came behind them that could say so
      row_.Clear();
      row_.set_dropped(std::exchange(dropped_, 0));
      write = writing_ = true;
    } else {
      return;
    }
  }
  // Who has come here has the stream to itself: no other passes the two flags.
  if (write) {
    StartWrite(&row_);
  } else {
    Finish(*end_);
  }
}

void DeliveryWatch::OnWriteDone(bool ok) {
  {
    MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok && !end_.has_value()) end_ = grpc::Status(grpc::StatusCode::CANCELLED, "the watcher has gone");
  }
  Step();
}

void DeliveryWatch::OnCancel() { End(grpc::Status(grpc::StatusCode::CANCELLED, "cancelled")); }

void DeliveryWatch::OnDone() {
  dispatcher_.Unwatch(this);
  on_gone_(this);
  delete this;
}

}  // namespace eventvirtual
