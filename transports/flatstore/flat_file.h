// FlatFile: appends whole lines to a file that others rename, delete, fill up and write to as well.
#ifndef EVENTVIRTUAL_TRANSPORTS_FLATSTORE_FLAT_FILE_H_
#define EVENTVIRTUAL_TRANSPORTS_FLATSTORE_FLAT_FILE_H_

#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "transports/api/message.h"
#include "transports/flatstore/flat_line.h"

namespace eventvirtual {

struct FlatFileOptions {
  std::string path;           // absolute
  std::string suffix;         // appended to the path whenever the file is opened; see ExpandSuffix()
  mode_t permissions = 0644;  // of a file we create; the process' umask still applies
  LineFormat format;

  // A new file is begun once the file has that many bytes, or that many lines since it was opened, or when the clock
  // passes a multiple of the period since the epoch. Zero: never.
  uint64_t rotate_size = 0;
  uint64_t rotate_count = 0;
  absl::Duration rotate_period = absl::ZeroDuration();

  bool sync = false;  // a line counts only when the disk has it
};

// INVALID_ARGUMENT unless `suffix` is literal text with any number of $time(FORMAT), FORMAT being literal text with
// conversions of strftime that never yield a '/'.
absl::Status CheckSuffix(absl::string_view suffix);

// `suffix` at the time `now`, in the local time zone. It must have passed CheckSuffix().
std::string ExpandSuffix(absl::string_view suffix, absl::Time now);

// Blocking; one thread at a time. `now` is the loop's clock, which reads like wall time.
//
// Lines are appended in batches, each by one write() with O_APPEND, so lines of several writers, also in other
// processes, never mix on a local file system.
class FlatFile {
 public:
  explicit FlatFile(FlatFileOptions options) : options_(std::move(options)) {}
  ~FlatFile() { Close(); }
  FlatFile(const FlatFile&) = delete;
  FlatFile& operator=(const FlatFile&) = delete;

  // Opens or creates the file. Does nothing when it is open.
  // NOT_FOUND: no such directory. PERMISSION_DENIED, also by the policy of destinations. FAILED_PRECONDITION: it exists
  // and is no regular file (a symbolic link is not followed). RESOURCE_EXHAUSTED: disk, quota or descriptors.
  // UNAVAILABLE: the disk fails. All name the path.
  absl::Status Open(absl::Time now);

  struct Appended {
    size_t lines = 0;         // this many of the first messages are in the file, whole (and synced, with `sync`)
    absl::Status why;         // why the rest is not
    bool unopenable = false;  // because the file could not be opened again: there is no use in going on
  };
  // Appends one line for each message, in order. Opens the file where necessary, and ends its last line if a crash has
  // torn it. Before each write it looks whether the path still names this file, and begins a new one if it does not. On
  // a full disk the part of a line that was written is cut off again. RESOURCE_EXHAUSTED: full disk, quota or file size
  // limit; UNAVAILABLE: the disk fails. Both may pass: try again.
  Appended Append(absl::Span<const MessageRef> messages, absl::Time now);

  void Close();  // the next Append() opens it again

 private:
  absl::Status OpenName(absl::Time now);
  absl::Status EndTornLine();
  absl::Status AppendOnce(absl::Span<const MessageRef> messages, size_t* whole_lines);
  void CutTornLine(size_t torn_bytes);
  void CloseIfReplaced();
  bool Due(uint64_t size, uint64_t lines) const;
  bool Rotate(absl::Time now);
  absl::Status SyncFile();
  absl::Status SyncDirectory();

  const FlatFileOptions options_;
  std::string name_;    // of the open file: path and expanded suffix
  int directory_ = -1;  // in which the open file is: it is opened and renamed there, whatever its path has become
  int fd_ = -1;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  uint64_t size_ = 0;   // bytes in the file, as of the last look
  uint64_t lines_ = 0;  // appended since it was opened
  int64_t period_ = 0;  // which multiple of rotate_period its lines belong to
  bool torn_ = false;   // its last line may lack the newline

  std::string buffer_;             // scratch: the lines of one write
  std::vector<size_t> line_ends_;  // scratch: their ends in buffer_
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_FLATSTORE_FLAT_FILE_H_
