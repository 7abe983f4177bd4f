#include "server/journal/journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/journal/log_tail.h"
#include "server/journal/sqlite.h"
#include "server/log/log.h"
#include "transports/api/completion.h"
#include "transports/api/mutex.h"
#include "transports/io/errno_text.h"

namespace eventvirtual {
namespace {

constexpr absl::Duration kTryAgain = absl::Seconds(1);
constexpr absl::Duration kRaisedWindow = absl::Minutes(10);
// How long a commit waits for events that are about to come: a part of what the last one took.
constexpr int kPartOfCommit = 4;
constexpr absl::Duration kLongestWait = absl::Milliseconds(2);
constexpr int kMaxDamaged = 9;                // files that are kept
constexpr uint64_t kMaxUnwritten = 64 << 20;  // bytes of events that wait for a commit
constexpr size_t kMaxChanges = 256;           // in one transaction, of those that are no events of callers
constexpr int64_t kVersion = 3;               // of the tables; `PRAGMA user_version`
constexpr int kCheckpointPages = 4000;        // of the log of changes, some 16 MB, before they go into the file

// What makes a database of version n one of n + 1. Times are nanoseconds since the epoch, durations nanoseconds; NULL
// is infinite.
constexpr const char* kMigrations[kVersion] = {
    R"(CREATE TABLE state(name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
       INSERT INTO state VALUES('closed_in_order', '1');
       CREATE TABLE subscriptions(
         id TEXT PRIMARY KEY, event TEXT, filter TEXT, socket TEXT, attempt_timeouts TEXT, created INTEGER,
         expires INTEGER, failover_timeout INTEGER, total_timeout INTEGER, max_event_age INTEGER, max_attempts INTEGER)
         WITHOUT ROWID;
       CREATE TABLE labels(subscription TEXT, name TEXT, value TEXT, PRIMARY KEY(subscription, name)) WITHOUT ROWID;)",
    R"(ALTER TABLE subscriptions ADD COLUMN queue INTEGER NOT NULL DEFAULT 0;
       ALTER TABLE subscriptions ADD COLUMN dead_letter_uri TEXT NOT NULL DEFAULT '';
       CREATE TABLE queues(number INTEGER PRIMARY KEY, subscription TEXT);
       CREATE TABLE events(
         queue INTEGER, sequence INTEGER, record BLOB, progress BLOB, PRIMARY KEY(queue, sequence)) WITHOUT ROWID;
       CREATE TABLE dead_letters(
         id INTEGER PRIMARY KEY AUTOINCREMENT, created INTEGER, subscription TEXT, event TEXT, reason TEXT,
         attempts INTEGER, last_attempts BLOB, record BLOB);
       CREATE TABLE raised(number INTEGER PRIMARY KEY, id TEXT, raised INTEGER, matched INTEGER);)",
    // A queue outlives its subscription, so it says where its dead letters go; one of them, where it is still to be
    // sent.
    R"(ALTER TABLE queues ADD COLUMN dead_letter_uri TEXT NOT NULL DEFAULT '';
       ALTER TABLE dead_letters ADD COLUMN destination TEXT NOT NULL DEFAULT '';
       CREATE INDEX unsent ON dead_letters(id) WHERE destination != '';)",
};

absl::Status Named(const absl::Status& status, const std::string& path) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

// For who may come again with an event that could not be written.
absl::Status Refused(const absl::Status& why) {
  return absl::Status(why.code(), absl::StrCat(why.message(), "; it is tried again each second"));
}

// The names in `folder` and of all folders above it are there after a loss of power, too. SQLite syncs its own and
// takes no notice of whether it could.
absl::Status SyncFolders(std::filesystem::path folder) {
  for (;; folder = folder.parent_path()) {
    const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int error = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0) close(fd);
    // What we may not read we have not made; and some file systems have no sync for folders.
    if (error != 0 && error != EACCES && error != EINVAL) return absl::UnavailableError(ErrnoText(error));
    if (folder == folder.root_path()) return absl::OkStatus();
  }
}

// Writes the file once more as it is, and syncs it. What a process could not sync before it died can be read and need
// not be on the disk, and a sync now would not bring it there: for the kernel it is written.
absl::Status WriteAgain(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? absl::OkStatus() : absl::UnavailableError(ErrnoText(errno));
  std::string bytes(1 << 20, '\0');
  off_t at = 0;
  ssize_t count = 0;
  while ((count = pread(fd, bytes.data(), bytes.size(), at)) > 0) {
    count = pwrite(fd, bytes.data(), static_cast<size_t>(count), at);
    if (count < 0) break;
    at += count;
  }
  const int error = count < 0 || fdatasync(fd) != 0 ? errno : 0;
  close(fd);
  return error == 0 ? absl::OkStatus() : absl::UnavailableError(ErrnoText(error));
}

// Where to put a damaged `path`; of many the last is given up for it.
std::string FreeName(const std::string& path) {
  std::error_code error;
  std::string name;
  for (int number = 1; number <= kMaxDamaged; ++number) {
    name = absl::StrCat(path, ".damaged-", number);
    if (!std::filesystem::exists(name, error) && !std::filesystem::exists(name + "-wal", error)) break;
  }
  return name;
}

// `path` and what SQLite keeps beside it, out of the way; where to.
absl::StatusOr<std::string> MoveAside(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const std::string aside = FreeName(path);
  for (const char* suffix : {"-wal", "-shm"}) fs::rename(path + suffix, aside + suffix, error);  // may not be there
  fs::rename(path, aside, error);
  if (error) return absl::UnavailableError(absl::StrCat("cannot be moved to ", aside, ": ", error.message()));
  return aside;
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

  std::string path;
  uint64_t max_bytes = 0;
  // The thread's.
  std::unique_ptr<Database> database;
  std::optional<SubscriptionTable> subscriptions;
  std::optional<EventTable> events;
  std::optional<Statement> pages, free_pages;
  LatencyHistogram commit_durations;  // any thread reads
  std::vector<SavedSubscription> loaded;
  std::vector<Backlog> backlogs;
  std::vector<RaisedId> raised;
  uint32_t last_queue = 0;
  uint64_t last_sequence = 0;  // that the file held
  int64_t page_size = 0;
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

  // All that Journal::Open() says, but for moving aside.
  absl::Status Open(Sync sync) {
    absl::StatusOr<std::unique_ptr<Database>> opened = Database::Open(path);
    if (!opened.ok()) return opened.status();
    database = *std::move(opened);
    // One process alone: it also needs no shared memory beside the file.
    for (const std::string& pragma :
         {std::string("PRAGMA locking_mode = EXCLUSIVE"), std::string("PRAGMA journal_mode = WAL"),
          absl::StrCat("PRAGMA synchronous = ", sync == Sync::kFull ? "FULL" : "NORMAL"),
          absl::StrCat("PRAGMA wal_autocheckpoint = ", kCheckpointPages),
          // To sort many subscriptions at the start it would want a file elsewhere, where this process may not write.
          std::string("PRAGMA temp_store = MEMORY")}) {
      if (absl::Status status = database->Run(pragma); !status.ok()) return status;
    }
    const absl::StatusOr<std::string> version = database->Ask("PRAGMA user_version");
    if (!version.ok()) return version.status();
    // SQLite has locked the file and read its log, and nothing is written yet.
    if (absl::Status status = TellOfLostCommits(); !status.ok()) return status;
    if (absl::Status status = WriteAgain(path + "-wal"); !status.ok()) return status;
    if (absl::Status status = Migrate(*version); !status.ok()) return status;
    absl::StatusOr<std::string> closed_in_order =
        database->Ask("SELECT value FROM state WHERE name = 'closed_in_order'");
    if (!closed_in_order.ok()) return closed_in_order.status();
    if (*closed_in_order != "1") {
      const absl::StatusOr<std::string> found = database->Ask("PRAGMA quick_check(1)");
      if (!found.ok()) return found.status();
      if (*found != "ok") return absl::DataLossError(*found);
    }
    if (absl::Status status = Load(); !status.ok()) return status;
    return database->Run("UPDATE state SET value = '0' WHERE name = 'closed_in_order'");
  }

  // What stands in the log and cannot be read is not there any more for SQLite, and soon overwritten.
  absl::Status TellOfLostCommits() {
    namespace fs = std::filesystem;
    const std::string log = path + "-wal", aside = FreeName(path) + "-wal";
    const absl::StatusOr<size_t> lost = UnreadableCommits(log);
    if (!lost.ok()) return lost.status();
    if (*lost <= 1) return absl::OkStatus();  // the one that was being written when the power went
    std::error_code error;
    fs::copy_file(log, aside, fs::copy_options::overwrite_existing, error);
    Log(LogLevel::kError,
        "the end of the journal's log is damaged, or was not on the disk when the power went; events of its commits "
        "are lost",
        {{"file", log}, {"commits", absl::StrCat(*lost)}, {"copied_to", error ? error.message() : aside}});
    return absl::OkStatus();
  }

  absl::Status Migrate(const std::string& from) {
    int64_t version = 0;
    if (!absl::SimpleAtoi(from, &version) || version < 0 || version > kVersion) {
      return absl::FailedPreconditionError(absl::StrCat("a newer version wrote it (", from, "; this one knows ",
                                                        kVersion, "); use that one, or another --data_dir"));
    }
    for (; version < kVersion; ++version) {
      absl::Status status = database->Run(
          absl::StrCat("BEGIN IMMEDIATE;", kMigrations[version], "PRAGMA user_version = ", version + 1, ";COMMIT"));
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // The tables, and what they hold.
  absl::Status Load() {
    absl::StatusOr<SubscriptionTable> subscription_table = SubscriptionTable::Prepare(*database);
    if (!subscription_table.ok()) return subscription_table.status();
    subscriptions.emplace(*std::move(subscription_table));
    absl::StatusOr<EventTable> event_table = EventTable::Prepare(*database);
    if (!event_table.ok()) return event_table.status();
    events.emplace(*std::move(event_table));
    for (const auto& [statement, sql] : std::initializer_list<std::pair<std::optional<Statement>*, const char*>>{
             {&pages, "PRAGMA page_count"}, {&free_pages, "PRAGMA freelist_count"}}) {
      absl::StatusOr<Statement> prepared = Statement::Prepare(*database, sql);
      if (!prepared.ok()) return prepared.status();
      statement->emplace(*std::move(prepared));
    }
    const absl::StatusOr<std::string> size = database->Ask("PRAGMA page_size");
    if (!size.ok()) return size.status();
    if (!absl::SimpleAtoi(*size, &page_size)) return absl::DataLossError("pages without a size");

    absl::StatusOr<std::vector<SavedSubscription>> saved = subscriptions->Load();
    if (!saved.ok()) return saved.status();
    loaded = *std::move(saved);
    absl::StatusOr<std::vector<Backlog>> found = events->Backlogs();
    if (!found.ok()) return found.status();
    backlogs = *std::move(found);
    absl::StatusOr<std::vector<RaisedId>> ids = events->RaisedSince(absl::Now() - kRaisedWindow);
    if (!ids.ok()) return ids.status();
    raised = *std::move(ids);
    absl::StatusOr<uint32_t> queue = events->LastQueue();
    if (!queue.ok()) return queue.status();
    last_queue = *queue;
    for (const Backlog& backlog : backlogs) last_sequence = std::max(last_sequence, backlog.last);
    MutexLock lock(&mutex);
    next_sequence = last_sequence + 1;
    used = UsedBytes();
    counts.dead_letters = events->dead_letters();
    return absl::OkStatus();
  }

  // 0: it does not say.
  uint64_t UsedBytes() {
    int64_t count[2] = {};
    Statement* const statements[2] = {&*pages, &*free_pages};
    for (int i = 0; i < 2; ++i) {
      const absl::StatusOr<bool> row = statements[i]->Step();
      if (row.ok() && *row) count[i] = statements[i]->Number(0);
      statements[i]->Reset();
    }
    return static_cast<uint64_t>(std::max<int64_t>(count[0] - count[1], 0) * page_size);
  }

  absl::Status Write(Batch& batch) {
    if (batch.probe) {
      // Another value each time: SQLite does not write what is there already.
      absl::Status status = database->Run(
          absl::StrCat("INSERT OR REPLACE INTO state VALUES('tried', ", absl::ToUnixNanos(absl::Now()), ")"));
      if (!status.ok()) return status;
    }
    for (const auto& [id, subscription] : batch.subscriptions) {
      absl::Status status = subscription.has_value() ? subscriptions->Save(*subscription) : subscriptions->Erase(id);
      if (!status.ok()) return status;
    }
    for (const NewEvent& event : batch.events) {
      uint64_t sequence = event.first;
      for (uint32_t queue : event.queues) {
        if (absl::Status status = events->Append(queue, sequence++, event.record); !status.ok()) return status;
      }
      if (!event.id.has_value()) continue;
      if (absl::Status status = events->Remember(*event.id); !status.ok()) return status;
    }
    for (Edit& edit : batch.edits) {
      if (absl::Status status = edit.change(*events); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status Commit(Batch& batch) {
    absl::Status status = database->Run("BEGIN IMMEDIATE");
    if (status.ok()) status = Write(batch);
    if (status.ok()) status = database->Run("COMMIT");
    if (!status.ok()) {
      (void)database->Run("ROLLBACK");  // where the failure has not done it already
      (void)events->Recount();
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
  // that have `come` during it, makes one commit of two. Callers in two halves that take turns would have half the
  // rate; so would those who wait for a commit in which nothing but what they raised before is erased.
  void AwaitCompany(size_t come) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const absl::Time deadline = last_end + std::min(last_took / kPartOfCommit, kLongestWait);
    company = come + last_events;
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
    const size_t come = pending.events.size();
    while (pending.empty() && !closing && !failing) changed.Wait(&mutex);
    AwaitCompany(come);
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
        if (!status.ok()) status = Named(status, path);
        TellHealth(status);
      }
      uint64_t written = 0;
      for (const NewEvent& event : batch.events) written += event.record.size() * event.queues.size();
      const bool wrote = batch.writes();
      if (!status.ok()) Keep(batch, status);
      if (wrote) {
        const uint64_t now_used = UsedBytes();
        MutexLock lock(&mutex);
        unwritten -= written;
        used = now_used;
        if (status.ok()) last_failure = absl::OkStatus();
        in_commit = 0;
        counts.failing = failing;
        ++(failing ? counts.failed_commits : counts.commits);
        counts.refused += failing ? batch.events.size() : 0;
        counts.dead_letters = events->dead_letters();
        counts.dropped_dead_letters = events->dropped_dead_letters();
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
      for (auto& look : batch.looks) std::move(look)(*events);
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
    if (in_order) {
      const absl::Status status = database->Run("UPDATE state SET value = '1' WHERE name = 'closed_in_order'");
      if (!status.ok()) Log(LogLevel::kWarning, "the journal cannot be closed in order", {{"error", status.message()}});
    }
    subscriptions.reset();
    events.reset();
    pages.reset();
    free_pages.reset();
    database.reset();  // the last connection writes the log of changes into the file
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

Journal::Journal(std::shared_ptr<Writer> writer) : writer_(std::move(writer)), worker_("journal") {
  worker_.Run([writer = writer_] { writer->Work(); });
}

absl::Status Journal::MakeDirectory(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::exists(directory, error)) {
    fs::create_directories(directory, error);
    if (!error) fs::permissions(directory, fs::perms::owner_all, error);
  }
  const fs::path real = error ? fs::path() : fs::canonical(directory, error);
  if (error) return absl::UnavailableError(absl::StrCat(directory, ": ", error.message()));
  return Named(SyncFolders(real), directory);
}

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(const std::string& directory, Sync sync, uint64_t max_bytes) {
  if (absl::Status status = MakeDirectory(directory); !status.ok()) return status;
  std::error_code error;
  const std::filesystem::path real = std::filesystem::canonical(directory, error);
  if (error) return absl::UnavailableError(absl::StrCat(directory, ": ", error.message()));
  const std::string path = real / "journal.db";
  const auto new_writer = [&path, max_bytes] {
    auto writer = std::make_shared<Writer>();
    writer->path = path;
    writer->max_bytes = max_bytes;
    return writer;
  };
  std::shared_ptr<Writer> writer = new_writer();
  absl::Status opened = writer->Open(sync);
  if (absl::IsDataLoss(opened)) {  // a read that failed looks like damage, too, and may succeed now
    writer = new_writer();
    opened = writer->Open(sync);
  }
  if (absl::IsDataLoss(opened)) {
    writer = new_writer();
    const absl::StatusOr<std::string> aside = MoveAside(path);
    if (!aside.ok()) return Named(aside.status(), path);
    Log(LogLevel::kError, "the journal is damaged; it was moved aside, and an empty one takes its place",
        {{"file", path}, {"moved_to", *aside}, {"error", opened.message()}});
    opened = writer->Open(sync);
  }
  if (opened.ok()) opened = SyncFolders(real);
  if (!opened.ok()) {
    const bool held = absl::IsFailedPrecondition(opened) && absl::StrContains(opened.message(), "locked");
    return Named(
        held ? absl::FailedPreconditionError("another process has it open; give each its own --data_dir") : opened,
        path);
  }
  return std::unique_ptr<Journal>(new Journal(std::move(writer)));
}

Journal::~Journal() { Close(absl::ZeroDuration()); }

std::vector<SavedSubscription> Journal::TakeSubscriptions() { return std::move(writer_->loaded); }
std::vector<RaisedId> Journal::TakeRaisedIds() { return std::move(writer_->raised); }
std::vector<Backlog> Journal::TakeBacklogs() { return std::move(writer_->backlogs); }
uint32_t Journal::last_queue() const { return writer_->last_queue; }
uint64_t Journal::last_sequence() const { return writer_->last_sequence; }

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
  {
    MutexLock lock(&writer_->mutex);
    const uint64_t bytes = record.size() * queues.size();
    refusal = writer_->Refusal(bytes);
    if (refusal.ok()) {
      const uint64_t first = writer_->next_sequence;
      writer_->next_sequence += queues.size();
      writer_->unwritten += bytes;
      writer_->pending.events.push_back({std::move(record), std::move(queues), std::move(id), first, std::move(done)});
      const size_t waiting = writer_->pending.events.size();
      if (waiting == 1 || waiting == writer_->company) writer_->changed.SignalAll();
      return;
    }
    ++writer_->counts.refused;
  }
  std::move(done)(std::move(refusal));
}

void Journal::Change(absl::AnyInvocable<absl::Status(EventTable&)> change, absl::AnyInvocable<void() &&> done) {
  MutexLock lock(&writer_->mutex);
  if (writer_->closing) return;
  writer_->pending.edits.push_back({std::move(change), std::move(done)});
  writer_->changed.SignalAll();
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
