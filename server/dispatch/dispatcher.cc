#include "server/dispatch/dispatcher.h"

#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/time/clock.h"
#include "server/dispatch/delivery.h"
#include "transports/api/check.h"

namespace eventvirtual {

Dispatcher::~Dispatcher() { EV_CHECK(pending() == 0); }

RaiseReceipt Dispatcher::Raise(MessageRef message, RaiseDone done) {
  const absl::Time now = registry_.clock().Now();
  RaiseReceipt receipt;
  absl::InlinedVector<Ref<const Subscription>, 16> subscriptions;
  receipt.known = registry_.Read(message->name(), now, [&subscriptions](const Subscription& subscription) {
    subscriptions.emplace_back(&subscription);
  });
  if (!receipt.known) return receipt;
  receipt.matched = static_cast<uint32_t>(subscriptions.size());
  if (subscriptions.empty()) {
    if (done) std::move(done)({});
    return receipt;
  }

  started_.fetch_add(1, std::memory_order_relaxed);
  RaiseState* const raise =
      RaiseState::Make(this, registry_.clock(), std::move(message), std::move(done), absl::MakeSpan(subscriptions));
  for (Delivery& delivery : raise->deliveries()) {
    if (delivery.Start(now, &receipt.refusal)) ++receipt.accepted;
  }
  raise->Release();
  return receipt;
}

bool Dispatcher::AwaitIdle(absl::Duration timeout) {
  const absl::Time deadline = registry_.clock().Now() + timeout;
  while (pending() > 0) {
    if (registry_.clock().Now() >= deadline) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

}  // namespace eventvirtual
