#include "server/journal/journal.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/journal/sqlite.h"
#include "server/log/log.h"
#include "transports/api/completion.h"
#include "transports/api/mutex.h"

namespace eventvirtual {
namespace {

constexpr absl::Duration kTryAgain = absl::Seconds(1);
constexpr int kMaxDamaged = 9;   // files that are kept
constexpr int64_t kVersion = 1;  // of the tables; `PRAGMA user_version`

// Times are nanoseconds since the epoch, durations nanoseconds; NULL is infinite.
constexpr char kSchema[] = R"(
  CREATE TABLE state(name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
  INSERT INTO state VALUES('closed_in_order', '1');
  CREATE TABLE subscriptions(
    id TEXT PRIMARY KEY, event TEXT, filter TEXT, socket TEXT, attempt_timeouts TEXT, created INTEGER, expires INTEGER,
    failover_timeout INTEGER, total_timeout INTEGER, max_event_age INTEGER, max_attempts INTEGER) WITHOUT ROWID;
  CREATE TABLE labels(subscription TEXT, name TEXT, value TEXT, PRIMARY KEY(subscription, name)) WITHOUT ROWID;
  PRAGMA user_version = 1;
)";

std::optional<int64_t> NanosOf(absl::Time time) {
  if (time == absl::InfiniteFuture()) return std::nullopt;
  return absl::ToUnixNanos(time);
}

std::optional<int64_t> NanosOf(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return std::nullopt;
  return absl::ToInt64Nanoseconds(duration);
}

absl::Duration DurationOf(std::optional<int64_t> nanos) {
  return nanos.has_value() ? absl::Nanoseconds(*nanos) : absl::InfiniteDuration();
}

absl::Status Named(const absl::Status& status, const std::string& path) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

// `path` and what SQLite keeps beside it, out of the way; where to.
absl::StatusOr<std::string> MoveAside(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::string aside;
  for (int number = 1; number <= kMaxDamaged; ++number) {
    aside = absl::StrCat(path, ".damaged-", number);
    if (!fs::exists(aside, error)) break;
  }
  for (const char* suffix : {"-wal", "-shm"}) fs::rename(path + suffix, aside + suffix, error);  // may not be there
  fs::rename(path, aside, error);
  if (error) return absl::UnavailableError(absl::StrCat("cannot be moved to ", aside, ": ", error.message()));
  return aside;
}

}  // namespace

struct Journal::Writer {
  using Done = absl::AnyInvocable<void(absl::Status) &&>;
  using Changes = absl::btree_map<std::string, std::optional<SavedSubscription>>;  // null: erased

  std::string path;
  // The thread's.
  std::unique_ptr<Database> database;
  std::optional<Statement> save, erase, save_label, erase_labels;
  std::vector<SavedSubscription> loaded;

  Mutex mutex;
  CondVar changed;
  Changes pending ABSL_GUARDED_BY(mutex);
  std::vector<Done> waiting ABSL_GUARDED_BY(mutex);
  bool committing ABSL_GUARDED_BY(mutex) = false;
  JournalCounts counts ABSL_GUARDED_BY(mutex);
  size_t in_commit ABSL_GUARDED_BY(mutex) = 0;
  bool closing ABSL_GUARDED_BY(mutex) = false;
  bool closed ABSL_GUARDED_BY(mutex) = false;

  // All that Journal::Open() says, but for moving aside.
  absl::Status Open(Sync sync) {
    absl::StatusOr<std::unique_ptr<Database>> opened = Database::Open(path);
    if (!opened.ok()) return opened.status();
    database = *std::move(opened);
    // One process alone: it also needs no shared memory beside the file.
    for (const char* pragma : {"PRAGMA locking_mode = EXCLUSIVE", "PRAGMA journal_mode = WAL",
                               sync == Sync::kFull ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL"}) {
      if (absl::Status status = database->Run(pragma); !status.ok()) return status;
    }
    if (absl::Status status = CheckVersion(); !status.ok()) return status;
    absl::StatusOr<std::string> closed_in_order =
        database->Ask("SELECT value FROM state WHERE name = 'closed_in_order'");
    if (!closed_in_order.ok()) return closed_in_order.status();
    if (*closed_in_order != "1") {
      const absl::StatusOr<std::string> found = database->Ask("PRAGMA quick_check(1)");
      if (!found.ok()) return found.status();
      if (*found != "ok") return absl::DataLossError(*found);
    }
    if (absl::Status status = Prepare(); !status.ok()) return status;
    if (absl::Status status = Load(); !status.ok()) return status;
    return database->Run("UPDATE state SET value = '0' WHERE name = 'closed_in_order'");
  }

  absl::Status CheckVersion() {
    const absl::StatusOr<std::string> text = database->Ask("PRAGMA user_version");
    if (!text.ok()) return text.status();
    int64_t version = 0;
    if (absl::SimpleAtoi(*text, &version) && version == kVersion) return absl::OkStatus();
    if (version != 0) {
      return absl::FailedPreconditionError(absl::StrCat("a newer version wrote it (", version, "; this one knows ",
                                                        kVersion, "); use that one, or another --data_dir"));
    }
    return database->Run(absl::StrCat("BEGIN IMMEDIATE;", kSchema, "COMMIT"));
  }

  absl::Status Prepare() {
    for (const auto& [statement, sql] : std::initializer_list<std::pair<std::optional<Statement>*, const char*>>{
             {&save, "INSERT OR REPLACE INTO subscriptions VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
             {&erase, "DELETE FROM subscriptions WHERE id = ?"},
             {&save_label, "INSERT OR REPLACE INTO labels VALUES(?, ?, ?)"},
             {&erase_labels, "DELETE FROM labels WHERE subscription = ?"}}) {
      absl::StatusOr<Statement> prepared = Statement::Prepare(*database, sql);
      if (!prepared.ok()) return prepared.status();
      statement->emplace(*std::move(prepared));
    }
    return absl::OkStatus();
  }

  absl::Status Load() {
    absl::StatusOr<Statement> rows = Statement::Prepare(*database, "SELECT * FROM subscriptions ORDER BY created, id");
    if (!rows.ok()) return rows.status();
    absl::StatusOr<bool> row = rows->Step();
    for (; row.ok() && *row; row = rows->Step()) {
      SavedSubscription& one = loaded.emplace_back();
      one.id = rows->Text(0);
      one.event = rows->Text(1);
      one.filter = rows->Text(2);
      one.socket = rows->Text(3);
      for (absl::string_view text : absl::StrSplit(rows->Text(4), ' ', absl::SkipEmpty())) {
        int64_t nanos = 0;
        if (!absl::SimpleAtoi(text, &nanos)) return absl::DataLossError("attempt_timeouts that are no numbers");
        one.attempt_timeouts.push_back(absl::Nanoseconds(nanos));
      }
      one.created = absl::FromUnixNanos(rows->Number(5));
      if (const auto expires = rows->OptionalNumber(6)) one.expires = absl::FromUnixNanos(*expires);
      one.failover_timeout = DurationOf(rows->OptionalNumber(7));
      one.total_timeout = DurationOf(rows->OptionalNumber(8));
      one.max_event_age = DurationOf(rows->OptionalNumber(9));
      one.max_attempts = static_cast<uint32_t>(rows->Number(10));
    }
    if (!row.ok()) return row.status();
    return LoadLabels();
  }

  absl::Status LoadLabels() {
    absl::btree_map<std::string, SavedSubscription*> by_id;
    for (SavedSubscription& one : loaded) by_id[one.id] = &one;
    absl::StatusOr<Statement> rows = Statement::Prepare(*database, "SELECT * FROM labels");
    if (!rows.ok()) return rows.status();
    absl::StatusOr<bool> row = rows->Step();
    for (; row.ok() && *row; row = rows->Step()) {
      const auto found = by_id.find(rows->Text(0));
      if (found != by_id.end()) found->second->labels[rows->Text(1)] = rows->Text(2);
    }
    return row.status();
  }

  absl::Status Write(const std::string& id, const std::optional<SavedSubscription>& change) {
    if (absl::Status status = erase_labels->Bind(id).Run(); !status.ok()) return status;
    if (!change.has_value()) return erase->Bind(id).Run();
    const std::string timeouts = absl::StrJoin(
        change->attempt_timeouts, " ",
        [](std::string* out, absl::Duration timeout) { absl::StrAppend(out, absl::ToInt64Nanoseconds(timeout)); });
    save->Bind(id).Bind(change->event).Bind(change->filter).Bind(change->socket).Bind(timeouts);
    save->Bind(absl::ToUnixNanos(change->created)).Bind(NanosOf(change->expires));
    save->Bind(NanosOf(change->failover_timeout)).Bind(NanosOf(change->total_timeout));
    save->Bind(NanosOf(change->max_event_age)).Bind(int64_t{change->max_attempts});
    if (absl::Status status = save->Run(); !status.ok()) return status;
    for (const auto& [name, value] : change->labels) {
      if (absl::Status status = save_label->Bind(id).Bind(name).Bind(value).Run(); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status Commit(const Changes& changes) {
    absl::Status status = database->Run("BEGIN IMMEDIATE");
    for (auto it = changes.begin(); status.ok() && it != changes.end(); ++it) status = Write(it->first, it->second);
    if (status.ok()) status = database->Run("COMMIT");
    if (!status.ok()) (void)database->Run("ROLLBACK");  // where the failure has not done it already
    return status;
  }

  // The thread.
  void Work() {
    bool failing = false;
    while (true) {
      Changes changes;
      std::vector<Done> told;
      {
        MutexLock lock(&mutex);
        committing = false;
        while (pending.empty() && waiting.empty() && !closing) changed.Wait(&mutex);
        if (pending.empty() && waiting.empty()) break;
        committing = true;
        changes.swap(pending);
        in_commit = changes.size();
        told.swap(waiting);
      }
      const absl::Status status = changes.empty() ? absl::OkStatus() : Named(Commit(changes), path);
      if (status.ok() == failing) {
        failing = !status.ok();
        if (failing) {
          Log(LogLevel::kError, "the journal cannot be written; what is subscribed now may not outlive this process",
              {{"error", status.message()}});
        } else {
          Log(LogLevel::kInfo, "the journal is written again", {{"file", path}});
        }
      }
      {
        MutexLock lock(&mutex);
        in_commit = 0;
        counts.failing = failing;
        if (!changes.empty()) ++(failing ? counts.failed_commits : counts.commits);
        if (!failing) changes.clear();
        pending.merge(std::move(changes));  // what has come since is newer
      }
      for (Done& done : told) std::move(done)(Fresh(status));
      if (!failing) continue;
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
    for (std::optional<Statement>* statement : {&save, &erase, &save_label, &erase_labels}) statement->reset();
    database.reset();  // the last connection writes the log of changes into the file
  }
};

Journal::Journal(std::shared_ptr<Writer> writer) : writer_(std::move(writer)), worker_("journal") {
  worker_.Run([writer = writer_] { writer->Work(); });
}

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(const std::string& directory, Sync sync) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::exists(directory, error)) {
    fs::create_directories(directory, error);
    if (!error) fs::permissions(directory, fs::perms::owner_all, error);
  }
  const fs::path real = error ? fs::path() : fs::canonical(directory, error);
  if (error) return absl::UnavailableError(absl::StrCat(directory, ": ", error.message()));
  const std::string path = real / "journal.db";
  auto writer = std::make_shared<Writer>();
  writer->path = path;
  absl::Status opened = writer->Open(sync);
  if (absl::IsDataLoss(opened)) {
    writer = std::make_shared<Writer>();
    writer->path = path;
    const absl::StatusOr<std::string> aside = MoveAside(path);
    if (!aside.ok()) return Named(aside.status(), path);
    Log(LogLevel::kError, "the journal is damaged; it was moved aside, and an empty one takes its place",
        {{"file", path}, {"moved_to", *aside}, {"error", opened.message()}});
    opened = writer->Open(sync);
  }
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

void Journal::Save(SavedSubscription subscription) {
  MutexLock lock(&writer_->mutex);
  std::string id = subscription.id;
  writer_->pending.insert_or_assign(std::move(id), std::move(subscription));
  writer_->changed.SignalAll();
}

void Journal::Erase(const std::string& id) {
  MutexLock lock(&writer_->mutex);
  writer_->pending.insert_or_assign(id, std::nullopt);
  writer_->changed.SignalAll();
}

void Journal::AfterCommit(absl::AnyInvocable<void(absl::Status) &&> done) {
  {
    MutexLock lock(&writer_->mutex);
    if (!writer_->closed && (writer_->committing || !writer_->pending.empty())) {
      writer_->waiting.push_back(std::move(done));
      writer_->changed.SignalAll();
      return;
    }
  }
  std::move(done)(absl::OkStatus());
}

JournalCounts Journal::counts() const {
  JournalCounts counts;
  {
    MutexLock lock(&writer_->mutex);
    counts = writer_->counts;
    counts.pending = writer_->pending.size() + writer_->in_commit;
  }
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
