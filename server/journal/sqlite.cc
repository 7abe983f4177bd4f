#include "server/journal/sqlite.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "transports/api/check.h"
#include "transports/io/errno_text.h"

namespace eventvirtual {
namespace {

absl::StatusCode CodeOf(int code) {
  switch (code & 0xff) {
    case SQLITE_FULL:
      return absl::StatusCode::kResourceExhausted;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::StatusCode::kFailedPrecondition;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR:  // a statement of ours that its schema does not take: that is not the one we wrote
      return absl::StatusCode::kDataLoss;
    default:
      return absl::StatusCode::kUnavailable;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const std::string& path) {
  // What it holds is for nobody else: subscribers have passwords. SQLite gives its other files the rights of this one.
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return absl::UnavailableError(ErrnoText(errno));
  close(fd);
  sqlite3* handle = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &handle,
                                   SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, nullptr);
  EV_CHECK(handle != nullptr);
  std::unique_ptr<Database> database(new Database(handle));
  if (code != SQLITE_OK) return database->Error(code);
  sqlite3_extended_result_codes(handle, 1);
  return database;
}

Database::~Database() { sqlite3_close_v2(handle_); }

absl::Status Database::Error(int code) const {
  std::string text = absl::StrCat(sqlite3_errmsg(handle_), " (SQLite ", code, ")");
  const bool of_system = (code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN;
  if (const int error = sqlite3_system_errno(handle_); of_system && error != 0) {
    absl::StrAppend(&text, ": ", ErrnoText(error));
  }
  return absl::Status(CodeOf(code), text);
}

absl::Status Database::Run(const std::string& sql) {
  const int code = sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code);
}

absl::StatusOr<std::string> Database::Ask(const std::string& sql) {
  absl::StatusOr<Statement> statement = Statement::Prepare(*this, sql);
  if (!statement.ok()) return statement.status();
  const absl::StatusOr<bool> row = statement->Step();
  if (!row.ok()) return row.status();
  return *row ? statement->Text(0) : "";
}

int64_t Database::changes() const { return sqlite3_changes64(handle_); }

void Statement::Finalize::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

absl::StatusOr<Statement> Statement::Prepare(Database& database, absl::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v2(database.handle_, sql.data(), static_cast<int>(sql.size()), &statement, nullptr);
  if (code != SQLITE_OK) return database.Error(code);
  return Statement(database, statement);
}

Statement& Statement::Bind(absl::string_view text) {
  const int code = sqlite3_bind_text(statement_.get(), ++bound_, text.data() == nullptr ? "" : text.data(),
                                     static_cast<int>(text.size()), SQLITE_STATIC);
  EV_CHECK(code == SQLITE_OK);
  return *this;
}

Statement& Statement::Bind(int64_t number) {
  EV_CHECK(sqlite3_bind_int64(statement_.get(), ++bound_, number) == SQLITE_OK);
  return *this;
}

Statement& Statement::Bind(std::optional<int64_t> number) {
  if (number.has_value()) return Bind(*number);
  EV_CHECK(sqlite3_bind_null(statement_.get(), ++bound_) == SQLITE_OK);
  return *this;
}

Statement& Statement::BindBlob(absl::string_view bytes) {
  const int code = sqlite3_bind_blob(statement_.get(), ++bound_, bytes.data() == nullptr ? "" : bytes.data(),
                                     static_cast<int>(bytes.size()), SQLITE_STATIC);
  EV_CHECK(code == SQLITE_OK);
  return *this;
}

absl::StatusOr<bool> Statement::Step() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  const absl::Status error = database_->Error(code);
  Reset();
  return error;
}

absl::Status Statement::Run() {
  const absl::StatusOr<bool> row = Step();
  Reset();
  return row.status();
}

void Statement::Reset() {
  sqlite3_reset(statement_.get());
  sqlite3_clear_bindings(statement_.get());
  bound_ = 0;
}

std::string Statement::Text(int column) const {
  const auto* const text = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  return text == nullptr ? "" : std::string(text, sqlite3_column_bytes(statement_.get(), column));
}

std::string Statement::Blob(int column) const {
  const auto* const bytes = static_cast<const char*>(sqlite3_column_blob(statement_.get(), column));
  return bytes == nullptr ? "" : std::string(bytes, sqlite3_column_bytes(statement_.get(), column));
}

int64_t Statement::Number(int column) const { return sqlite3_column_int64(statement_.get(), column); }

std::optional<int64_t> Statement::OptionalNumber(int column) const {
  if (sqlite3_column_type(statement_.get(), column) == SQLITE_NULL) return std::nullopt;
  return Number(column);
}

}  // namespace eventvirtual
