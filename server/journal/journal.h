// Journal: what must outlive the process, in one SQLite file. As yet: the subscriptions.
#ifndef EVENTVIRTUAL_SERVER_JOURNAL_JOURNAL_H_
#define EVENTVIRTUAL_SERVER_JOURNAL_JOURNAL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "transports/io/worker.h"

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
  std::map<std::string, std::string> labels;
};

// Since the file was opened.
struct JournalCounts {
  uint64_t commits = 0, failed_commits = 0;
  uint64_t pending = 0;  // changes that are not on the disk
  bool failing = false;  // the last commit failed
  uint64_t bytes = 0;    // of the file and its log of changes
};

// One thread writes. What comes while it commits is committed together next: so a commit takes as many changes as
// arrive in the time of one, and waits for none. A write that fails is tried again, every second and with each new
// change, until it succeeds; it is not acknowledged before.
class Journal {
 public:
  enum class Sync {
    kFull,    // each commit is on the disk: survives the loss of power
    kNormal,  // survives the death of the process; the last commits may be lost with the power
  };

  // Opens DIRECTORY/journal.db, or creates it; blocks. One that was not closed in order is checked as a whole. A
  // damaged one is moved aside (journal.db.damaged-1 …) with a line in the log, and an empty one takes its place.
  // FAILED_PRECONDITION: another process has it, or a newer version wrote it. UNAVAILABLE, RESOURCE_EXHAUSTED: it
  // cannot be read or written. All messages name the file.
  static absl::StatusOr<std::unique_ptr<Journal>> Open(const std::string& directory, Sync sync);
  ~Journal();  // Close() without patience, unless it was called

  // What the file held when it was opened, in the order of creation. Once.
  std::vector<SavedSubscription> TakeSubscriptions();

  // Any thread; never block. The last word for an id counts, so what waits is bounded by the ids.
  void Save(SavedSubscription subscription);
  void Erase(const std::string& id);

  // Calls `done` on the journal's thread, or here when nothing waits, once all that was saved and erased before is
  // committed: OK; or with why it could not be. Any thread; never blocks.
  void AfterCommit(absl::AnyInvocable<void(absl::Status) &&> done);

  JournalCounts counts() const;  // any thread

  // Commits what waits and closes the file in order, in `patience` at most. Nothing may be saved after it. Blocks.
  void Close(absl::Duration patience);

 private:
  struct Writer;
  explicit Journal(std::shared_ptr<Writer> writer);

  const std::shared_ptr<Writer> writer_;  // the thread's own: a disk that hangs is not waited for
  Worker worker_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_JOURNAL_JOURNAL_H_
