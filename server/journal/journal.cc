#include "server/journal/journal.h"

#include <algorithm>
#include <deque>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/log/log.h"
#include "transports/api/completion.h"
#include "transports/api/mutex.h"

namespace eventvirtual {
namespace {

constexpr absl::Duration kTryAgain = absl::Seconds(1);
// How long a commit waits for events that are about to come, at most; and never longer than the last one took.
constexpr absl::Duration kLongestWait = absl::Milliseconds(2);
constexpr uint64_t kMaxUnwritten = 64 << 20;  // bytes of events that wait for a commit
constexpr size_t kMaxChanges = 256;           // in one transaction, of those that are no events of callers

// For who may come again with an event that could not be written.
absl::Status Refused(const absl::Status& why) {
  return absl::Status(why.code(), absl::StrCat(why.message(), "; it is tried again each second"));
}

}  // namespace

struct Journal::Writer {
  using Subscriptions = absl::btree_map<std::string, std::optional<SavedSubscription>>;  // null: erased
  struct NewEvent {
    std::string record;
    absl::InlinedVector<uint32_t, 2> queues;
    std::optional<RaisedId> id;
    uint64_t first = 0;
    absl::AnyInvocable<void(absl::StatusOr<uint64_t>) &&> done;
  };
  struct Edit {
    absl::AnyInvocable<absl::Status(EventTable&)> change;
    absl::AnyInvocable<void() &&> done;
  };
  // What one turn of the thread does.
  struct Batch {
    Subscriptions subscriptions;
    std::vector<NewEvent> events;
    std::deque<Edit> edits;
    std::vector<Done> waiting;
    std::vector<absl::AnyInvocable<void(EventTable&) &&>> looks;
    bool probe = false;  // the last commit failed: one is to be made, whatever there is to write
    size_t changes() const { return subscriptions.size() + events.size() + edits.size(); }
    bool writes() const { return probe || !subscriptions.empty() || !events.empty() || !edits.empty(); }
    bool empty() const { return !writes() && waiting.empty() && looks.empty(); }
  };

  const std::string path;
  const uint64_t max_bytes;
  // The thread's.
  std::unique_ptr<JournalFile> file;
  LatencyHistogram commit_durations;  // any thread reads
  bool failing = false;
  size_t last_events = 0;  // that the last commit had, and how long it took
  absl::Duration last_took;
  absl::Time last_end;

  Mutex mutex;
  CondVar changed;
  Batch pending ABSL_GUARDED_BY(mutex);
  size_t company ABSL_GUARDED_BY(mutex) = 0;      // of so many events the thread wants to be told; 0: of the first
  uint64_t unwritten ABSL_GUARDED_BY(mutex) = 0;  // bytes of events that wait or are being committed
  uint64_t used ABSL_GUARDED_BY(mutex) = 0;       // bytes of the file
  uint64_t next_sequence ABSL_GUARDED_BY(mutex) = 1;
  absl::Status last_failure ABSL_GUARDED_BY(mutex);
  absl::Time refusing_until ABSL_GUARDED_BY(mutex) = absl::InfinitePast();
  bool committing ABSL_GUARDED_BY(mutex) = false;
  JournalCounts counts ABSL_GUARDED_BY(mutex);        // but for what counts() adds
  uint64_t refused_bytes ABSL_GUARDED_BY(mutex) = 0;  // of the event that was refused when it became full
  size_t in_commit ABSL_GUARDED_BY(mutex) = 0;
  bool closing ABSL_GUARDED_BY(mutex) = false;
  bool closed ABSL_GUARDED_BY(mutex) = false;

  Writer(std::unique_ptr<JournalFile> opened, uint64_t max)
      : path(opened->path()), max_bytes(max), file(std::move(opened)) {
    MutexLock lock(&mutex);
    next_sequence = file->held.last_sequence + 1;
    used = file->UsedBytes();
    counts.dead_letters = file->events().dead_letters();
  }

  absl::Status Write(Batch& batch) {
    if (batch.probe) {
      // Another value each time: SQLite does not write what is there already.
      absl::Status status = file->database().Run(
          absl::StrCat("INSERT OR REPLACE INTO state VALUES('tried', ", absl::ToUnixNanos(absl::Now()), ")"));
      if (!status.ok()) return status;
    }
    for (const auto& [id, subscription] : batch.subscriptions) {
      absl::Status status =
          subscription.has_value() ? file->subscriptions().Save(*subscription) : file->subscriptions().Erase(id);
      if (!status.ok()) return status;
    }
    for (const NewEvent& event : batch.events) {
      uint64_t sequence = event.first;
      for (uint32_t queue : event.queues) {
        if (absl::Status status = file->events().Append(queue, sequence++, event.record); !status.ok()) return status;
      }
      if (!event.id.has_value()) continue;
      if (absl::Status status = file->events().Remember(*event.id); !status.ok()) return status;
    }
    for (Edit& edit : batch.edits) {
      if (absl::Status status = edit.change(file->events()); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status Commit(Batch& batch) {
    absl::Status status = file->database().Run("BEGIN IMMEDIATE");
    if (status.ok()) status = Write(batch);
    if (status.ok()) status = file->database().Run("COMMIT");
    if (!status.ok()) {
      (void)file->database().Run("ROLLBACK");  // where the failure has not done it already
      (void)file->events().Recount();
    }
    return status;
  }

  void TellHealth(const absl::Status& status) {
    if (status.ok() != failing) return;
    failing = !status.ok();
    if (failing) {
      Log(LogLevel::kError,
          "the journal cannot be written; events of durable subscriptions are refused, and what is subscribed now may "
          "not outlive this process",
          {{"error", status.message()}});
    } else {
      Log(LogLevel::kInfo, "the journal is written again", {{"file", path}});
    }
  }

  // Those whose turn the last commit was are about to raise their next: to wait a little for them, besides the events
  // that came during it, makes one commit of two. Callers in two halves that take turns would have half the rate; so
  // would those who wait for a commit in which nothing but what they raised before is erased.
  void AwaitCompany() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const absl::Time deadline = last_end + std::min(last_took, kLongestWait);
    company = pending.events.size() + last_events;
    while (last_events > 0 && pending.events.size() < company && !closing) {
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) break;
      changed.WaitFor(&mutex, left);
    }
    company = 0;
  }

  // Takes what waits; empty: the journal is to be closed.
  Batch Take() {
    Batch batch;
    MutexLock lock(&mutex);
    committing = false;
    AwaitCompany();
    while (pending.empty() && !closing && !failing) changed.Wait(&mutex);
    pending.probe = failing && !closing;
    committing = pending.writes();
    in_commit = pending.changes();
    std::swap(batch, pending);
    // The rest follows in the next commit: who waits for an event does not wait for thousands of them.
    while (batch.edits.size() > kMaxChanges) {
      pending.edits.push_front(std::move(batch.edits.back()));
      batch.edits.pop_back();
    }
    return batch;
  }

  // What cannot be written and must not be forgotten waits again, before what has come since.
  void Keep(Batch& batch, const absl::Status& why) {
    MutexLock lock(&mutex);
    pending.subscriptions.merge(std::move(batch.subscriptions));  // what has come since is newer
    while (!batch.edits.empty()) {
      pending.edits.push_front(std::move(batch.edits.back()));
      batch.edits.pop_back();
    }
    last_failure = Fresh(why);
    refusing_until = absl::Now() + kTryAgain;
  }

  // The thread.
  void Work() {
    while (true) {
      Batch batch = Take();
      if (batch.empty()) break;
      absl::Status status;
      if (batch.writes()) {
        const absl::Time begin = absl::Now();
        status = Commit(batch);
        last_events = batch.events.size();
        last_end = absl::Now();
        last_took = last_end - begin;
        if (status.ok()) commit_durations.Add(last_took, 1);
        if (!status.ok()) status = absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
        TellHealth(status);
      }
      uint64_t written = 0;
      for (const NewEvent& event : batch.events) written += event.record.size() * event.queues.size();
      const bool wrote = batch.writes();
      if (!status.ok()) Keep(batch, status);
      if (wrote) {
        const uint64_t now_used = file->UsedBytes();
        MutexLock lock(&mutex);
        unwritten -= written;
        used = now_used;
        if (status.ok()) last_failure = absl::OkStatus();
        in_commit = 0;
        counts.failing = failing;
        ++(failing ? counts.failed_commits : counts.commits);
        counts.refused += failing ? batch.events.size() : 0;
        counts.dead_letters = file->events().dead_letters();
        counts.dropped_dead_letters = file->events().dropped_dead_letters();
        SetFull(counts.full && TooFullFor(refused_bytes));
      }
      for (NewEvent& event : batch.events) {
        if (status.ok()) {
          std::move(event.done)(event.first);
        } else {
          std::move(event.done)(Refused(status));
        }
      }
      for (Edit& edit : batch.edits) {
        if (edit.done) std::move(edit.done)();
      }
      for (Done& done : batch.waiting) std::move(done)(Fresh(status));
      for (auto& look : batch.looks) std::move(look)(file->events());
      if (status.ok()) continue;
      MutexLock lock(&mutex);
      committing = false;
      if (closing) break;
      changed.WaitFor(&mutex, kTryAgain);
    }
    CloseFile(/*in_order=*/!failing);
    MutexLock lock(&mutex);
    closed = true;
    changed.SignalAll();
  }

  void CloseFile(bool in_order) {
    const absl::Status status = in_order ? file->CloseInOrder() : absl::OkStatus();
    if (!status.ok()) Log(LogLevel::kWarning, "the journal cannot be closed in order", {{"error", status.message()}});
    file.reset();  // the last connection writes the log of changes into the file
  }

  bool TooFullFor(uint64_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return used + unwritten + bytes > max_bytes;
  }

  absl::Status Full() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, " has ", used, " bytes, and may have ", max_bytes,
                     " (--journal_max_bytes); it takes events again when subscribers have taken some: try later"));
  }

  void SetFull(bool full) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (full == std::exchange(counts.full, full)) return;
    if (full) {
      Log(LogLevel::kError, "the journal is full; events of durable subscriptions are refused",
          {{"error", Full().message()}});
    } else {
      Log(LogLevel::kInfo, "the journal has room again", {{"file", path}});
    }
  }

  // Why an event of so many bytes is not taken now.
  absl::Status Refusal(uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (closing) return absl::UnavailableError("the server is stopping");
    if (!last_failure.ok() && absl::Now() < refusing_until) {
      return Refused(last_failure);
    }
    if (TooFullFor(bytes)) {
      if (!counts.full) refused_bytes = bytes;
      SetFull(true);
      return Full();
    }
    if (unwritten + bytes > kMaxUnwritten) {
      return absl::ResourceExhaustedError(
          absl::StrCat(path, ": ", unwritten, " bytes wait to be written; the disk is too slow: try later"));
    }
    return absl::OkStatus();
  }
};

Journal::Journal(std::shared_ptr<Writer> writer)
    : held_(std::move(writer->file->held)), writer_(std::move(writer)), worker_("journal") {
  worker_.Run([writer = writer_] { writer->Work(); });
}

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(const std::string& directory, Sync sync, uint64_t max_bytes) {
  absl::StatusOr<std::unique_ptr<JournalFile>> file = JournalFile::Open(directory, sync);
  if (!file.ok()) return file.status();
  return std::unique_ptr<Journal>(new Journal(std::make_shared<Writer>(*std::move(file), max_bytes)));
}

Journal::~Journal() { Close(absl::ZeroDuration()); }

std::vector<SavedSubscription> Journal::TakeSubscriptions() { return std::move(held_.subscriptions); }
std::vector<RaisedId> Journal::TakeRaisedIds() { return std::move(held_.raised); }
std::vector<Backlog> Journal::TakeBacklogs() { return std::move(held_.backlogs); }
uint32_t Journal::last_queue() const { return held_.last_queue; }
uint64_t Journal::last_sequence() const { return held_.last_sequence; }

void Journal::Save(SavedSubscription subscription) {
  MutexLock lock(&writer_->mutex);
  std::string id = subscription.id;
  writer_->pending.subscriptions.insert_or_assign(std::move(id), std::move(subscription));
  writer_->changed.SignalAll();
}

void Journal::Erase(const std::string& id) {
  MutexLock lock(&writer_->mutex);
  writer_->pending.subscriptions.insert_or_assign(id, std::nullopt);
  writer_->changed.SignalAll();
}

void Journal::AfterCommit(Done done) {
  {
    MutexLock lock(&writer_->mutex);
    if (!writer_->closed && (writer_->committing || writer_->pending.writes())) {
      writer_->pending.waiting.push_back(std::move(done));
      writer_->changed.SignalAll();
      return;
    }
  }
  std::move(done)(absl::OkStatus());
}

void Journal::Append(std::string record, absl::InlinedVector<uint32_t, 2> queues, std::optional<RaisedId> id,
                     absl::AnyInvocable<void(absl::StatusOr<uint64_t> first) &&> done) {
  absl::Status refusal;
  bool awaited = false;
  {
    MutexLock lock(&writer_->mutex);
    const uint64_t bytes = record.size() * queues.size();
    refusal = writer_->Refusal(bytes);
    if (refusal.ok()) {
      const uint64_t first = writer_->next_sequence;
      writer_->next_sequence += queues.size();
      writer_->unwritten += bytes;
      writer_->pending.events.push_back({std::move(record), std::move(queues), std::move(id), first, std::move(done)});
      awaited = writer_->pending.events.size() == std::max<size_t>(writer_->company, 1);
    } else {
      ++writer_->counts.refused;
    }
  }
  if (!refusal.ok()) return std::move(done)(std::move(refusal));
  // Outside of the lock, which the thread takes first of all when it wakes.
  if (awaited) writer_->changed.SignalAll();
}

void Journal::Change(absl::AnyInvocable<absl::Status(EventTable&)> change, absl::AnyInvocable<void() &&> done) {
  bool awaited;
  {
    MutexLock lock(&writer_->mutex);
    if (writer_->closing) return;
    awaited = writer_->pending.edits.empty() && writer_->company == 0;
    writer_->pending.edits.push_back({std::move(change), std::move(done)});
  }
  if (awaited) writer_->changed.SignalAll();
}

void Journal::Look(absl::AnyInvocable<void(EventTable&) &&> look) {
  MutexLock lock(&writer_->mutex);
  if (writer_->closing) return;
  writer_->pending.looks.push_back(std::move(look));
  writer_->changed.SignalAll();
}

absl::Status Journal::health() const {
  MutexLock lock(&writer_->mutex);
  if (!writer_->last_failure.ok()) return Fresh(writer_->last_failure);
  return writer_->counts.full ? writer_->Full() : absl::OkStatus();
}

JournalCounts Journal::counts() const {
  JournalCounts counts;
  {
    MutexLock lock(&writer_->mutex);
    counts = writer_->counts;
    counts.pending = writer_->pending.changes() + writer_->in_commit;
    counts.used = writer_->used;
  }
  counts.max_bytes = writer_->max_bytes;
  counts.commit_durations = writer_->commit_durations.Read();
  for (const char* suffix : {"", "-wal"}) {
    std::error_code none;
    const std::uintmax_t size = std::filesystem::file_size(writer_->path + suffix, none);
    if (!none) counts.bytes += size;
  }
  return counts;
}

void Journal::Close(absl::Duration patience) {
  MutexLock lock(&writer_->mutex);
  writer_->closing = true;
  writer_->changed.SignalAll();
  while (!writer_->closed && patience > absl::ZeroDuration()) {
    if (!writer_->changed.WaitFor(&writer_->mutex, patience)) return;
  }
}

}  // namespace eventvirtual
