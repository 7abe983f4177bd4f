#include "server/reports/delivery_log.h"

#include <string>

#include "server/log/log.h"
#include "transports/api/trace_context.h"

namespace eventvirtual {

DeliveryLog::DeliveryLog(Dispatcher& dispatcher) : dispatcher_(dispatcher) { dispatcher_.Watch(this); }

DeliveryLog::~DeliveryLog() { dispatcher_.Unwatch(this); }

void DeliveryLog::OnDelivery(const Message& message, const DeliveryResult& delivery) {
  if (!delivery.failed()) return;
  const AttemptRecord* const last = delivery.last_failure();
  const std::string name = delivery.subscription->name();
  absl::string_view uri, error;
  if (last != nullptr) {
    uri = delivery.subscription->subscribers[last->subscriber].endpoint->target().masked;
    error = last->status.message();
  }
  Log(LogLevel::kDebug, "delivery failed",
      {{"subscription", name},
       {"event", message.name()},
       {"event_id", message.event_id()},
       {"traceparent", TraceparentOf(message)},
       {"uri", uri},
       {"error", error}});
}

}  // namespace eventvirtual
