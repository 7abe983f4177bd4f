// EventTable: the events of durable subscriptions, and those that were given up, as they stand in the journal's
// database.
#ifndef EVENTVIRTUAL_SERVER_JOURNAL_EVENT_TABLE_H_
#define EVENTVIRTUAL_SERVER_JOURNAL_EVENT_TABLE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/journal/sqlite.h"

namespace eventvirtual {

// One event in one queue. What record and progress say is for who writes them.
struct QueuedEvent {
  uint64_t sequence = 0;  // grows with each event of the journal, so within a queue, too
  std::string record;
  std::string progress;  // empty: none was saved
};

// A queue that is not empty.
struct Backlog {
  uint32_t queue = 0;
  std::string subscription;  // the id of its subscription, which may have ended
  uint64_t last = 0;         // sequence
  uint64_t events = 0;
};

// An event that was given up. Times are of the wall clock.
struct SavedDeadLetter {
  uint64_t id = 0;  // given by Bury()
  absl::Time created;
  std::string subscription;  // its id
  std::string event;
  std::string reason;
  uint32_t attempts = 0;
  std::string last_attempts;  // for who writes them
  std::string record;
  std::string destination;  // the URI that it is still to be sent to, with its password; taken from its queue by Bury()
};

// An event that a caller raised under an id of its own.
struct RaisedId {
  std::string id;
  absl::Time raised;  // by the wall's clock
  uint32_t matched = 0;
};

// On the thread of the database, which outlives it. A queue's number is never used for another.
class EventTable {
 public:
  static absl::StatusOr<EventTable> Prepare(Database& database);

  absl::Status Append(uint32_t queue, uint64_t sequence, absl::string_view record);
  absl::Status Erase(uint32_t queue, uint64_t first, uint64_t last);
  absl::Status SaveProgress(uint32_t queue, uint64_t sequence, absl::string_view progress);
  // Up to `limit` events behind `after`, in their order; fewer when they have `max_bytes` together, but for the first.
  absl::StatusOr<std::vector<QueuedEvent>> Read(uint32_t queue, uint64_t after, size_t limit, size_t max_bytes);

  // The queues that are not empty. Goes over all events, some millions in a second.
  absl::StatusOr<std::vector<Backlog>> Backlogs();
  absl::StatusOr<uint32_t> LastQueue();      // that was ever given a subscription
  absl::Status EraseQueue(uint32_t number);  // its events are erased or buried already

  // Keeps the last kMaxRaisedIds.
  static constexpr uint64_t kMaxRaisedIds = 100000;
  absl::Status Remember(const RaisedId& id);
  absl::StatusOr<std::vector<RaisedId>> RaisedSince(absl::Time since);  // in their order

  // An event leaves its queue and becomes a dead letter. While there are more than `limit` of these, the oldest go.
  absl::Status Bury(uint32_t queue, uint64_t sequence, const SavedDeadLetter& letter, uint64_t limit);
  // Up to `limit` behind `after`, the older first, fewer when they have `max_bytes` together, but for the first; of
  // `event` alone unless that is empty.
  absl::StatusOr<std::vector<SavedDeadLetter>> ListDeadLetters(const std::string& event, uint64_t after, size_t limit,
                                                               size_t max_bytes);
  // The same of those that are still to be sent.
  absl::StatusOr<std::vector<SavedDeadLetter>> ListUnsent(uint64_t after, size_t limit, size_t max_bytes);
  absl::Status KeepUnsent(uint64_t id, const std::string& reason);      // it is not to be sent any more
  uint64_t last_dead_letter();                                          // its id
  absl::StatusOr<uint64_t> CountDeadLetters(const std::string& event);  // "": all
  absl::Status EraseDeadLetter(uint64_t id);
  absl::StatusOr<uint64_t> PurgeDeadLetters(const std::string& event);  // "": all; how many there were
  absl::Status Recount();                                               // after a transaction that was rolled back
  uint64_t dead_letters() const { return dead_letters_; }
  uint64_t dropped_dead_letters() const { return dropped_; }  // by the limit, since the start

 private:
  EventTable(Database& database, std::vector<Statement> statements);

  Database* database_;
  std::vector<Statement> statements_;
  uint64_t dead_letters_ = 0;
  uint64_t dropped_ = 0;
  uint64_t next_raised_ = 0;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_JOURNAL_EVENT_TABLE_H_
