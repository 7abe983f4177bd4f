// DeliveryLedger: what has become of the events that subscriptions have matched, also of subscriptions that are gone.
#ifndef EVENTVIRTUAL_SERVER_REGISTRY_DELIVERY_LEDGER_H_
#define EVENTVIRTUAL_SERVER_REGISTRY_DELIVERY_LEDGER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

class Subscription;

// A snapshot of one subscription, or of several together.
//   matched = delivered + partial + failed + filtered + expired + dropped + dead_lettered + pending
struct DeliveryCounts {
  uint64_t matched = 0, delivered = 0, partial = 0, failed = 0, filtered = 0, expired = 0;
  uint64_t dropped = 0, dead_lettered = 0;  // of durable ones, which have no other failures
  uint64_t pending = 0;                     // matched, and not ended yet
  uint64_t imbalance = 0;                   // by how much the books are wrong: zero

  DeliveryCounts& operator+=(const DeliveryCounts& other);
};

// Counts are kept by each subscription, where a raise finds them. They are added up when somebody asks, by event and
// transport; what a subscription has counted when it goes stays here, so that no sum ever goes down.
class DeliveryLedger {
 public:
  // So many pairs of event and transport are told apart, the first that come; the others are one for each transport.
  // One that is told apart stays so: were the most used ones chosen anew each time, the sum of the others would go
  // down.
  static constexpr size_t kMaxAccounts = 200;
  static constexpr absl::string_view kOther = "other";

  // Where a subscription's counts belong.
  struct Account {
    DeliveryLedger& ledger;
    std::string event;      // as it is subscribed, which may be a pattern; or kOther
    std::string transport;  // scheme of its subscribers, or "mixed"
    // Guarded by the ledger's mutex.
    DeliveryCounts gone;
    DeliveryCounts gone_since_visit;  // of those that the audit at hand has visited
  };

  struct Row {
    const Account* account;
    DeliveryCounts counts;
  };

  // Lives as long as the ledger. Any thread.
  Account& AccountOf(absl::string_view event, absl::string_view transport);

  // `subscription` is in no list any more, but events are still on their way to it. `visited`: the audit at hand has
  // added it up already.
  void Leave(const Subscription* subscription, bool visited);

  // Its end: nothing counts for it any more.
  void Close(const Subscription* subscription, Account& account, const DeliveryCounts& last);

  // The end of an audit that has visited all subscriptions that are in a list: adds what it could not visit.
  std::vector<Row> Finish(absl::flat_hash_map<const Account*, DeliveryCounts> visited);

 private:
  Mutex mutex_;
  std::map<std::pair<std::string, std::string>, std::unique_ptr<Account>> accounts_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<const Subscription*, bool> leaving_ ABSL_GUARDED_BY(mutex_);  // visited
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_REGISTRY_DELIVERY_LEDGER_H_
