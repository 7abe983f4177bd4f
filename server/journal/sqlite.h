// Database and Statement: SQLite with Status. https://www.sqlite.org/c3ref/intro.html
#ifndef EVENTVIRTUAL_SERVER_JOURNAL_SQLITE_H_
#define EVENTVIRTUAL_SERVER_JOURNAL_SQLITE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct sqlite3;
struct sqlite3_stmt;

namespace eventvirtual {

// One connection; one thread at a time. Errors:
//   RESOURCE_EXHAUSTED    the disk or the database is full
//   FAILED_PRECONDITION   another process holds the database
//   DATA_LOSS             it is damaged, or no database
//   UNAVAILABLE           everything else: it cannot be written, the disk fails
class Database {
 public:
  // Opens or creates the file `path`, readable by its owner alone.
  static absl::StatusOr<std::unique_ptr<Database>> Open(const std::string& path);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  absl::Status Run(const std::string& sql);                 // statements without parameters and results
  absl::StatusOr<std::string> Ask(const std::string& sql);  // the first column of the first row as text
  int64_t changes() const;                                  // rows that the last INSERT, UPDATE or DELETE has changed

 private:
  friend class Statement;
  explicit Database(sqlite3* handle) : handle_(handle) {}
  absl::Status Error(int code) const;

  sqlite3* const handle_;
};

// A statement that is used again and again. Lives no longer than its database.
class Statement {
 public:
  static absl::StatusOr<Statement> Prepare(Database& database, absl::string_view sql);

  // The parameters, from the first on. Texts and blobs must live until Reset().
  Statement& Bind(absl::string_view text);
  Statement& Bind(int64_t number);
  Statement& Bind(std::optional<int64_t> number);
  Statement& BindBlob(absl::string_view bytes);

  absl::StatusOr<bool> Step();  // to the next row; false: there is none
  absl::Status Run();           // a statement without results, then ready for the next parameters
  void Reset();

  // Of the row, from column 0 on.
  std::string Text(int column) const;
  std::string Blob(int column) const;
  int64_t Number(int column) const;
  std::optional<int64_t> OptionalNumber(int column) const;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  Statement(Database& database, sqlite3_stmt* statement) : database_(&database), statement_(statement) {}

  Database* database_;
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  int bound_ = 0;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_JOURNAL_SQLITE_H_
