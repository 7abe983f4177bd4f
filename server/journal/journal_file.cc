#include "server/journal/journal_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/memory/memory.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/journal/log_tail.h"
#include "server/log/log.h"
#include "transports/api/check.h"
#include "transports/io/errno_text.h"

namespace eventvirtual {
namespace {

constexpr absl::Duration kRaisedWindow = absl::Minutes(10);
constexpr int kMaxDamaged = 9;          // files that are kept
constexpr int64_t kVersion = 3;         // of the tables; `PRAGMA user_version`
constexpr int kCheckpointPages = 4000;  // of the log of changes, some 16 MB, before they go into the file

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

// Gives what was found to `to`.
template <typename Found, typename To>
absl::Status Take(absl::StatusOr<Found> found, To* to) {
  if (!found.ok()) return found.status();
  *to = *std::move(found);
  return absl::OkStatus();
}

int64_t NumberOf(const std::string& text) {  // what SQLite gives as one
  int64_t number = 0;
  EV_CHECK(absl::SimpleAtoi(text, &number));
  return number;
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
  if (fd < 0) return absl::UnavailableError(ErrnoText(errno));
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
  const auto is_there = [](const std::string& file) {
    std::error_code error;
    return std::filesystem::exists(file, error);
  };
  std::string name;
  for (int number = 1; number <= kMaxDamaged; ++number) {
    name = absl::StrCat(path, ".damaged-", number);
    if (!is_there(name) && !is_there(name + "-wal")) break;
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

absl::StatusOr<std::string> JournalFile::MakeDirectory(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::exists(directory, error)) {
    fs::create_directories(directory, error);
    if (!error) fs::permissions(directory, fs::perms::owner_all, error);
  }
  const fs::path real = error ? fs::path() : fs::canonical(directory, error);
  if (error) return absl::UnavailableError(absl::StrCat(directory, ": ", error.message()));
  if (absl::Status status = SyncFolders(real); !status.ok()) return Named(status, directory);
  return real.string();
}

absl::StatusOr<std::unique_ptr<JournalFile>> JournalFile::Open(const std::string& directory, Sync sync) {
  const absl::StatusOr<std::string> real = MakeDirectory(directory);
  if (!real.ok()) return real.status();
  const std::string path = *real + "/journal.db";
  absl::StatusOr<std::unique_ptr<JournalFile>> file = OpenAsItIs(path, sync);
  // A read that failed looks like damage, too, and may succeed now.
  if (absl::IsDataLoss(file.status())) file = OpenAsItIs(path, sync);
  if (absl::IsDataLoss(file.status())) {
    const absl::StatusOr<std::string> aside = MoveAside(path);
    if (!aside.ok()) return Named(aside.status(), path);
    Log(LogLevel::kError, "the journal is damaged; it was moved aside, and an empty one takes its place",
        {{"file", path}, {"moved_to", *aside}, {"error", file.status().message()}});
    file = OpenAsItIs(path, sync);
  }
  const absl::Status status = file.ok() ? SyncFolders(*real) : file.status();
  if (status.ok()) return file;
  const bool held = absl::IsFailedPrecondition(status) && absl::StrContains(status.message(), "locked");
  return Named(
      held ? absl::FailedPreconditionError("another process has it open; give each its own --data_dir") : status, path);
}

absl::StatusOr<std::unique_ptr<JournalFile>> JournalFile::OpenAsItIs(const std::string& path, Sync sync) {
  std::unique_ptr<JournalFile> file = absl::WrapUnique(new JournalFile(path));
  absl::Status status = Take(Database::Open(path), &file->database_);
  if (status.ok()) status = file->Begin(sync);
  if (!status.ok()) return status;
  return file;
}

absl::Status JournalFile::Begin(Sync sync) {
  std::string version;
  // One process alone: it also needs no shared memory beside the file. To sort many subscriptions at the start it would
  // want a file elsewhere, where this process may not write.
  absl::Status status = database_->Run(absl::StrCat(
      "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA temp_store = MEMORY; PRAGMA synchronous = ",
      sync == Sync::kFull ? "FULL" : "NORMAL", "; PRAGMA wal_autocheckpoint = ", kCheckpointPages));
  if (status.ok()) status = Take(database_->Ask("PRAGMA user_version"), &version);
  // SQLite has locked the file and read its log, and nothing is written yet.
  if (status.ok()) status = TellOfLostCommits();
  if (status.ok()) status = WriteAgain(path_ + "-wal");
  if (status.ok()) status = Migrate(version);
  if (status.ok()) status = CheckUnlessClosedInOrder();
  if (status.ok()) status = Load();
  if (status.ok()) status = database_->Run("UPDATE state SET value = '0' WHERE name = 'closed_in_order'");
  return status;
}

// What stands in the log and cannot be read is not there any more for SQLite, and soon overwritten.
absl::Status JournalFile::TellOfLostCommits() const {
  namespace fs = std::filesystem;
  const std::string log = path_ + "-wal";
  const absl::StatusOr<size_t> lost = UnreadableCommits(log);
  if (!lost.ok()) return lost.status();
  if (*lost <= 1) return absl::OkStatus();  // the one that was being written when the power went
  const std::string aside = FreeName(path_) + "-wal";
  std::error_code error;
  fs::copy_file(log, aside, fs::copy_options::overwrite_existing, error);
  Log(LogLevel::kError,
      "the end of the journal's log is damaged, or was not on the disk when the power went; events of its commits "
      "are lost",
      {{"file", log}, {"commits", absl::StrCat(*lost)}, {"copied_to", error ? error.message() : aside}});
  return absl::OkStatus();
}

absl::Status JournalFile::Migrate(const std::string& from) {
  int64_t version = NumberOf(from);
  if (version < 0 || version > kVersion) {
    return absl::FailedPreconditionError(absl::StrCat("a newer version wrote it (", from, "; this one knows ", kVersion,
                                                      "); use that one, or another --data_dir"));
  }
  absl::Status status;
  for (; status.ok() && version < kVersion; ++version) {
    status = database_->Run(
        absl::StrCat("BEGIN IMMEDIATE;", kMigrations[version], "PRAGMA user_version = ", version + 1, ";COMMIT"));
  }
  return status;
}

absl::Status JournalFile::CheckUnlessClosedInOrder() {
  std::string closed_in_order, found = "ok";
  absl::Status status =
      Take(database_->Ask("SELECT value FROM state WHERE name = 'closed_in_order'"), &closed_in_order);
  if (closed_in_order != "1" && status.ok()) status = Take(database_->Ask("PRAGMA quick_check(1)"), &found);
  return status.ok() && found != "ok" ? absl::DataLossError(found) : status;
}

// The tables, and what they hold.
absl::Status JournalFile::Load() {
  std::string page_size;
  absl::Status status = Take(SubscriptionTable::Prepare(*database_), &subscriptions_);
  if (status.ok()) status = Take(EventTable::Prepare(*database_), &events_);
  if (status.ok()) status = Take(Statement::Prepare(*database_, "PRAGMA page_count"), &pages_);
  if (status.ok()) status = Take(Statement::Prepare(*database_, "PRAGMA freelist_count"), &free_pages_);
  if (status.ok()) status = Take(database_->Ask("PRAGMA page_size"), &page_size);
  if (status.ok()) status = Take(subscriptions_->Load(), &held.subscriptions);
  if (status.ok()) status = Take(events_->Backlogs(), &held.backlogs);
  if (status.ok()) status = Take(events_->RaisedSince(absl::Now() - kRaisedWindow), &held.raised);
  if (status.ok()) status = Take(events_->LastQueue(), &held.last_queue);
  if (status.ok()) page_size_ = static_cast<uint64_t>(NumberOf(page_size));
  for (const Backlog& backlog : held.backlogs) held.last_sequence = std::max(held.last_sequence, backlog.last);
  return status;
}

uint64_t JournalFile::UsedBytes() {
  uint64_t count[2] = {};
  Statement* const statements[2] = {&*pages_, &*free_pages_};
  for (int i = 0; i < 2; ++i) {
    if (statements[i]->Step().value_or(false)) count[i] = static_cast<uint64_t>(statements[i]->Number(0));
    statements[i]->Reset();
  }
  return (count[0] - std::min(count[0], count[1])) * page_size_;
}

absl::Status JournalFile::CloseInOrder() {
  return database_->Run("UPDATE state SET value = '1' WHERE name = 'closed_in_order'");
}

}  // namespace eventvirtual
