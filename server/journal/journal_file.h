// JournalFile: the journal's database, opened: what a crash, a failing disk or an older version has left is put in
// order or out of the way.
#ifndef EVENTVIRTUAL_SERVER_JOURNAL_JOURNAL_FILE_H_
#define EVENTVIRTUAL_SERVER_JOURNAL_JOURNAL_FILE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/journal/event_table.h"
#include "server/journal/sqlite.h"
#include "server/journal/subscription_table.h"

namespace eventvirtual {

// One thread at a time. All of it blocks.
class JournalFile {
 public:
  enum class Sync {
    kFull,    // each commit is on the disk: survives the loss of power
    kNormal,  // survives the death of the process; the last commits may be lost with the power
  };

  // Makes `directory`, for the owner alone, unless it is there, and sees that a loss of power does not take it away:
  // after that, a process may close itself in and not see the folders above it any more. Gives its path without links.
  // UNAVAILABLE names it.
  static absl::StatusOr<std::string> MakeDirectory(const std::string& directory);

  // Opens DIRECTORY/journal.db, or creates it. One that was not closed in order is checked as a whole. A damaged one is
  // moved aside (journal.db.damaged-1 …) with a line in the log, and an empty one takes its place; of a damaged log,
  // the commits that it has lost are counted in a line, and it is copied. FAILED_PRECONDITION: another process has the
  // file, or a newer version wrote it. UNAVAILABLE, RESOURCE_EXHAUSTED: it cannot be read or written. All messages name
  // it.
  static absl::StatusOr<std::unique_ptr<JournalFile>> Open(const std::string& directory, Sync sync);

  // What the file held when it was opened; the subscriptions in the order of creation.
  struct Held {
    std::vector<SavedSubscription> subscriptions;
    std::vector<Backlog> backlogs;
    std::vector<RaisedId> raised;  // in the last ten minutes
    uint32_t last_queue = 0;       // the highest number that a queue has had
    uint64_t last_sequence = 0;    // of the events
  };
  Held held;

  const std::string& path() const { return path_; }
  Database& database() { return *database_; }
  SubscriptionTable& subscriptions() { return *subscriptions_; }
  EventTable& events() { return *events_; }
  uint64_t UsedBytes();  // without what is free in it; 0: that cannot be read

  // The next start needs no check of the whole: nothing is written any more.
  absl::Status CloseInOrder();

 private:
  explicit JournalFile(std::string path) : path_(std::move(path)) {}
  static absl::StatusOr<std::unique_ptr<JournalFile>> OpenAsItIs(const std::string& path, Sync sync);
  absl::Status Begin(Sync sync);
  absl::Status TellOfLostCommits() const;
  absl::Status Migrate(const std::string& from);
  absl::Status CheckUnlessClosedInOrder();
  absl::Status Load();

  const std::string path_;
  std::unique_ptr<Database> database_;
  std::optional<SubscriptionTable> subscriptions_;
  std::optional<EventTable> events_;
  std::optional<Statement> pages_, free_pages_;
  uint64_t page_size_ = 0;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_JOURNAL_JOURNAL_FILE_H_
