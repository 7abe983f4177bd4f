#include "server/journal/event_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"

namespace eventvirtual {
namespace {

enum Sql {
  kAppend,
  kErase,
  kSaveProgress,
  kRead,
  kBacklogs,
  kEraseQueue,
  kBury,
  kDropOldest,
  kList,
  kListOf,
  kEraseLetter,
  kPurgeOf,
  kLastLetter,
  kCountOf,
  kListUnsent,
  kKeepUnsent,
  kRemember,
  kForgetRaised,
  kRaisedSince,
};

constexpr const char* kSql[] = {
    "INSERT INTO events VALUES(?, ?, ?, NULL)",
    "DELETE FROM events WHERE queue = ? AND sequence BETWEEN ? AND ?",
    "UPDATE events SET progress = ? WHERE queue = ? AND sequence = ?",
    "SELECT sequence, record, progress FROM events WHERE queue = ? AND sequence > ? ORDER BY sequence LIMIT ?",
    "SELECT queue, max(sequence), count(*), (SELECT subscription FROM queues WHERE number = queue) FROM events "
    "GROUP BY queue",
    "DELETE FROM queues WHERE number = ?",
    "INSERT INTO dead_letters VALUES(NULL, ?, ?, ?, ?, ?, ?, ?, coalesce((SELECT dead_letter_uri FROM queues WHERE "
    "number = ?), ''))",
    "DELETE FROM dead_letters WHERE id = (SELECT min(id) FROM dead_letters)",
    "SELECT * FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?",
    "SELECT * FROM dead_letters WHERE id > ? AND event = ? ORDER BY id LIMIT ?",
    "DELETE FROM dead_letters WHERE id = ?",
    "DELETE FROM dead_letters WHERE event = ?",
    "SELECT max(id) FROM dead_letters",
    "SELECT count(*) FROM dead_letters WHERE event = ?",
    "SELECT * FROM dead_letters WHERE destination != '' AND id > ? ORDER BY id LIMIT ?",
    "UPDATE dead_letters SET destination = '', reason = ? WHERE id = ?",
    "INSERT OR REPLACE INTO raised VALUES(?, ?, ?, ?)",
    "DELETE FROM raised WHERE number = ?",
    "SELECT id, raised, matched FROM raised WHERE raised >= ? ORDER BY number",
};

int64_t Signed(uint64_t number) { return static_cast<int64_t>(number); }

absl::StatusOr<std::vector<SavedDeadLetter>> ReadDeadLetters(Statement& rows, size_t max_bytes) {
  std::vector<SavedDeadLetter> letters;
  size_t bytes = 0;
  absl::StatusOr<bool> row = rows.Step();
  for (; row.ok() && *row; row = rows.Step()) {
    SavedDeadLetter& letter = letters.emplace_back();
    letter.id = static_cast<uint64_t>(rows.Number(0));
    letter.created = absl::FromUnixNanos(rows.Number(1));
    letter.subscription = rows.Text(2);
    letter.event = rows.Text(3);
    letter.reason = rows.Text(4);
    letter.attempts = static_cast<uint32_t>(rows.Number(5));
    letter.last_attempts = rows.Blob(6);
    letter.record = rows.Blob(7);
    letter.destination = rows.Text(8);
    bytes += letter.record.size() + letter.last_attempts.size();
    if (bytes >= max_bytes) break;
  }
  rows.Reset();
  if (!row.ok()) return row.status();
  return letters;
}

}  // namespace

EventTable::EventTable(Database& database, std::vector<Statement> statements)
    : database_(&database), statements_(std::move(statements)) {}

absl::StatusOr<EventTable> EventTable::Prepare(Database& database) {
  std::vector<Statement> statements;
  for (const char* sql : kSql) {
    absl::StatusOr<Statement> prepared = Statement::Prepare(database, sql);
    if (!prepared.ok()) return prepared.status();
    statements.push_back(*std::move(prepared));
  }
  EventTable table(database, std::move(statements));
  if (absl::Status status = table.Recount(); !status.ok()) return status;
  const absl::StatusOr<std::string> last = database.Ask("SELECT coalesce(max(number), 0) FROM raised");
  if (!last.ok()) return last.status();
  if (!absl::SimpleAtoi(*last, &table.next_raised_)) return absl::DataLossError("ids that are not numbered");
  ++table.next_raised_;
  return table;
}

absl::Status EventTable::Recount() {
  const absl::StatusOr<std::string> count = database_->Ask("SELECT count(*) FROM dead_letters");
  if (!count.ok()) return count.status();
  if (!absl::SimpleAtoi(*count, &dead_letters_)) return absl::DataLossError("dead letters that are not counted");
  return absl::OkStatus();
}

absl::Status EventTable::Append(uint32_t queue, uint64_t sequence, absl::string_view record) {
  return statements_[kAppend].Bind(int64_t{queue}).Bind(Signed(sequence)).BindBlob(record).Run();
}

absl::Status EventTable::Erase(uint32_t queue, uint64_t first, uint64_t last) {
  return statements_[kErase].Bind(int64_t{queue}).Bind(Signed(first)).Bind(Signed(last)).Run();
}

absl::Status EventTable::SaveProgress(uint32_t queue, uint64_t sequence, absl::string_view progress) {
  return statements_[kSaveProgress].BindBlob(progress).Bind(int64_t{queue}).Bind(Signed(sequence)).Run();
}

absl::StatusOr<std::vector<QueuedEvent>> EventTable::Read(uint32_t queue, uint64_t after, size_t limit,
                                                          size_t max_bytes) {
  Statement& rows = statements_[kRead].Bind(int64_t{queue}).Bind(Signed(after)).Bind(Signed(limit));
  std::vector<QueuedEvent> events;
  size_t bytes = 0;
  absl::StatusOr<bool> row = rows.Step();
  for (; row.ok() && *row; row = rows.Step()) {
    events.push_back({static_cast<uint64_t>(rows.Number(0)), rows.Blob(1), rows.Blob(2)});
    bytes += events.back().record.size();
    if (bytes >= max_bytes) break;
  }
  rows.Reset();
  if (!row.ok()) return row.status();
  return events;
}

absl::StatusOr<std::vector<Backlog>> EventTable::Backlogs() {
  std::vector<Backlog> backlogs;
  Statement& rows = statements_[kBacklogs];
  absl::StatusOr<bool> row = rows.Step();
  for (; row.ok() && *row; row = rows.Step()) {
    backlogs.push_back({static_cast<uint32_t>(rows.Number(0)), rows.Text(3), static_cast<uint64_t>(rows.Number(1)),
                        static_cast<uint64_t>(rows.Number(2))});
  }
  rows.Reset();
  if (!row.ok()) return row.status();
  return backlogs;
}

absl::StatusOr<uint32_t> EventTable::LastQueue() {
  const absl::StatusOr<std::string> text = database_->Ask(
      "SELECT max((SELECT coalesce(max(number), 0) FROM queues), (SELECT coalesce(max(queue), 0) FROM "
      "subscriptions), (SELECT coalesce(max(queue), 0) FROM events))");
  if (!text.ok()) return text.status();
  uint32_t last = 0;
  if (!absl::SimpleAtoi(*text, &last)) return absl::DataLossError("queues that are not numbered");
  return last;
}

absl::Status EventTable::EraseQueue(uint32_t number) { return statements_[kEraseQueue].Bind(int64_t{number}).Run(); }

absl::Status EventTable::Remember(const RaisedId& id) {
  const uint64_t number = next_raised_++;
  Statement& remember = statements_[kRemember].Bind(Signed(number)).Bind(id.id).Bind(absl::ToUnixNanos(id.raised));
  if (absl::Status status = remember.Bind(int64_t{id.matched}).Run(); !status.ok()) return status;
  if (number < kMaxRaisedIds) return absl::OkStatus();
  return statements_[kForgetRaised].Bind(Signed(number - kMaxRaisedIds)).Run();
}

absl::StatusOr<std::vector<RaisedId>> EventTable::RaisedSince(absl::Time since) {
  Statement& rows = statements_[kRaisedSince].Bind(absl::ToUnixNanos(since));
  std::vector<RaisedId> ids;
  absl::StatusOr<bool> row = rows.Step();
  for (; row.ok() && *row; row = rows.Step()) {
    ids.push_back({rows.Text(0), absl::FromUnixNanos(rows.Number(1)), static_cast<uint32_t>(rows.Number(2))});
  }
  rows.Reset();
  if (!row.ok()) return row.status();
  return ids;
}

absl::Status EventTable::Bury(uint32_t queue, uint64_t sequence, const SavedDeadLetter& letter, uint64_t limit) {
  if (absl::Status status = Erase(queue, sequence, sequence); !status.ok()) return status;
  Statement& bury = statements_[kBury].Bind(absl::ToUnixNanos(letter.created)).Bind(letter.subscription);
  bury.Bind(letter.event).Bind(letter.reason).Bind(int64_t{letter.attempts}).BindBlob(letter.last_attempts);
  if (absl::Status status = bury.BindBlob(letter.record).Bind(int64_t{queue}).Run(); !status.ok()) return status;
  ++dead_letters_;
  while (dead_letters_ > limit) {
    if (absl::Status status = statements_[kDropOldest].Run(); !status.ok()) return status;
    --dead_letters_;
    ++dropped_;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SavedDeadLetter>> EventTable::ListDeadLetters(const std::string& event, uint64_t after,
                                                                         size_t limit, size_t max_bytes) {
  Statement& rows = statements_[event.empty() ? kList : kListOf].Bind(Signed(after));
  if (!event.empty()) rows.Bind(event);
  rows.Bind(Signed(limit));
  return ReadDeadLetters(rows, max_bytes);
}

absl::StatusOr<std::vector<SavedDeadLetter>> EventTable::ListUnsent(uint64_t after, size_t limit, size_t max_bytes) {
  return ReadDeadLetters(statements_[kListUnsent].Bind(Signed(after)).Bind(Signed(limit)), max_bytes);
}

absl::Status EventTable::KeepUnsent(uint64_t id, const std::string& reason) {
  return statements_[kKeepUnsent].Bind(reason).Bind(Signed(id)).Run();
}

uint64_t EventTable::last_dead_letter() {
  Statement& row = statements_[kLastLetter];
  const absl::StatusOr<bool> found = row.Step();
  const uint64_t last = found.ok() && *found ? static_cast<uint64_t>(row.Number(0)) : 0;
  row.Reset();
  return last;
}

absl::StatusOr<uint64_t> EventTable::CountDeadLetters(const std::string& event) {
  if (event.empty()) return dead_letters_;
  Statement& row = statements_[kCountOf].Bind(event);
  const absl::StatusOr<bool> found = row.Step();
  const uint64_t count = found.ok() && *found ? static_cast<uint64_t>(row.Number(0)) : 0;
  row.Reset();
  if (!found.ok()) return found.status();
  return count;
}

absl::Status EventTable::EraseDeadLetter(uint64_t id) {
  if (absl::Status status = statements_[kEraseLetter].Bind(Signed(id)).Run(); !status.ok()) return status;
  dead_letters_ -= std::min(static_cast<uint64_t>(database_->changes()), dead_letters_);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> EventTable::PurgeDeadLetters(const std::string& event) {
  absl::Status status =
      event.empty() ? database_->Run("DELETE FROM dead_letters") : statements_[kPurgeOf].Bind(event).Run();
  if (!status.ok()) return status;
  const auto purged = static_cast<uint64_t>(database_->changes());
  dead_letters_ -= std::min(purged, dead_letters_);
  return purged;
}

}  // namespace eventvirtual
