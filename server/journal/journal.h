// Journal: what must outlive the process, in one SQLite file: the subscriptions, and the events of durable ones.
#ifndef EVENTVIRTUAL_SERVER_JOURNAL_JOURNAL_H_
#define EVENTVIRTUAL_SERVER_JOURNAL_JOURNAL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/endpoint/latency_histogram.h"
#include "server/journal/event_table.h"
#include "server/journal/journal_file.h"
#include "server/journal/subscription_table.h"
#include "transports/io/worker.h"

namespace eventvirtual {

// Since the file was opened.
struct JournalCounts {
  uint64_t commits = 0, failed_commits = 0;
  LatencyHistogram::Counts commit_durations;  // of those that succeeded
  uint64_t refused = 0;                       // events
  uint64_t pending = 0;                       // changes that are not on the disk
  bool failing = false;                       // the last commit failed
  bool full = false;                          // an event was refused for the size of the file, and would be still
  uint64_t bytes = 0;                         // of the file and its log of changes
  uint64_t used = 0, max_bytes = 0;  // of the file, without what is free in it; from where on it takes no event
  uint64_t dead_letters = 0;
  uint64_t dropped_dead_letters = 0;  // the oldest, since there were too many
};

// One thread writes. What comes while it commits is committed together next: so a commit takes as many changes as
// arrive in the time of one. After a commit with events it waits a little for as many, for as long as it took and 2 ms
// at most. A change that cannot be written is tried again, every second, until it succeeds; an event that cannot be
// written is refused. While it cannot write, it tries to each second even if nobody asks, so that it knows when it can.
//
// Callbacks come on the journal's thread, or where they are given to it, and must not block.
class Journal {
 public:
  using Sync = JournalFile::Sync;
  using Done = absl::AnyInvocable<void(absl::Status) &&>;

  // Opens the file, as JournalFile::Open() says. From `max_bytes` in it on it takes no event; all else goes on. Blocks.
  static absl::StatusOr<std::unique_ptr<Journal>> Open(const std::string& directory, Sync sync,
                                                       uint64_t max_bytes = uint64_t{4} << 30);
  ~Journal();  // Close() without patience, unless it was called

  // What the file held when it was opened; the subscriptions in the order of creation. Once each.
  std::vector<SavedSubscription> TakeSubscriptions();
  std::vector<Backlog> TakeBacklogs();
  std::vector<RaisedId> TakeRaisedIds();  // of the last ten minutes
  uint32_t last_queue() const;            // the highest number that a queue has had
  uint64_t last_sequence() const;         // of the events that the file held

  // Any thread; never block. The last word for an id counts, so what waits is bounded by the ids.
  void Save(SavedSubscription subscription);
  void Erase(const std::string& id);

  // Calls `done` once all that was saved and erased before is committed: OK; or with why it could not be. Any thread;
  // never blocks.
  void AfterCommit(Done done);

  // Writes one event into each of `queues`. `done` hears the sequence in the first of them (the others follow by one)
  // when it is committed, in the order of the sequences; or why it is not: RESOURCE_EXHAUSTED: the file has as many
  // bytes as it may, the disk is full, or too many events wait to be written; UNAVAILABLE: it cannot be written. While
  // that is so, it is tried once a second, and the others hear it at once. An event that is refused may still be there
  // in the next life: a disk that fails does not say what it has. Any thread; never blocks.
  // With an `id`, that is remembered in the same commit.
  void Append(std::string record, absl::InlinedVector<uint32_t, 2> queues, std::optional<RaisedId> id,
              absl::AnyInvocable<void(absl::StatusOr<uint64_t> first) &&> done);

  // Any other change of the events. `change` is called in a transaction, until it is committed; then `done` is called.
  // Without either, when the journal is closed before. Any thread; never blocks.
  void Change(absl::AnyInvocable<absl::Status(EventTable&)> change, absl::AnyInvocable<void() &&> done);

  // Calls `look` outside of any transaction. Changes that were asked for before are there, unless they fail.
  void Look(absl::AnyInvocable<void(EventTable&) &&> look);

  // Why events are refused now: RESOURCE_EXHAUSTED or UNAVAILABLE, as Append() says; OK: they are taken. Any thread.
  absl::Status health() const;

  JournalCounts counts() const;  // any thread

  // Commits what waits and closes the file in order, in `patience` at most. Nothing may be asked after it. Blocks.
  void Close(absl::Duration patience);

 private:
  struct Writer;
  explicit Journal(std::shared_ptr<Writer> writer);

  JournalFile::Held held_;
  const std::shared_ptr<Writer> writer_;  // the thread's own: a disk that hangs is not waited for
  Worker worker_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_JOURNAL_JOURNAL_H_
