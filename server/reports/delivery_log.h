// DeliveryLog: a line for each delivery that fails, for who looks for single events in the log.
#ifndef EVENTVIRTUAL_SERVER_REPORTS_DELIVERY_LOG_H_
#define EVENTVIRTUAL_SERVER_REPORTS_DELIVERY_LOG_H_

#include "server/dispatch/dispatcher.h"

namespace eventvirtual {

// Logs at the level debug, with the ids of the event and of its trace. While one exists, each raise keeps a record of
// its attempts. Of one subscription few lines are written (log.h).
class DeliveryLog final : private DeliveryObserver {
 public:
  explicit DeliveryLog(Dispatcher& dispatcher);  // outlives it
  ~DeliveryLog();

 private:
  void OnDelivery(const Message& message, const DeliveryResult& delivery) override;

  Dispatcher& dispatcher_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_REPORTS_DELIVERY_LOG_H_
