// SubscriptionTable: the subscriptions, as they stand in the journal's database.
#ifndef EVENTVIRTUAL_SERVER_JOURNAL_SUBSCRIPTION_TABLE_H_
#define EVENTVIRTUAL_SERVER_JOURNAL_SUBSCRIPTION_TABLE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/journal/sqlite.h"

namespace eventvirtual {

// A subscription as it is written. Times are of the wall clock: they are read in another life.
struct SavedSubscription {
  std::string id, event, filter;
  std::string socket;                            // with its passwords; URIs in their canonical form
  std::vector<absl::Duration> attempt_timeouts;  // of each subscriber
  absl::Time created;
  absl::Time expires = absl::InfiniteFuture();
  absl::Duration failover_timeout, total_timeout, max_event_age;  // may be infinite
  uint32_t max_attempts = 0;
  uint32_t queue = 0;           // of durable delivery; 0: not durable
  std::string dead_letter_uri;  // with its password
  std::map<std::string, std::string> labels;
  std::string owner;  // "": nobody's
};

// On the thread of the database, which outlives it.
class SubscriptionTable {
 public:
  static absl::StatusOr<SubscriptionTable> Prepare(Database& database);

  absl::StatusOr<std::vector<SavedSubscription>> Load();  // in the order of creation
  absl::Status Save(const SavedSubscription& subscription);
  absl::Status Erase(const std::string& id);

 private:
  SubscriptionTable(Database& database, Statement save, Statement save_queue, Statement erase, Statement save_label,
                    Statement erase_labels);
  absl::Status LoadLabels(std::vector<SavedSubscription>* subscriptions);

  Database* database_;
  Statement save_, save_queue_, erase_, save_label_, erase_labels_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_JOURNAL_SUBSCRIPTION_TABLE_H_
