#include "transports/flatstore/flat_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "transports/io/destination_gate.h"

namespace eventvirtual {
namespace {

// Bytes of one write. Bounds the scratch memory, and how long the file stays locked against its other writers.
constexpr size_t kMaxWrite = 1 << 20;

// The conversions of $time(): none of them yields a '/' or a space.
constexpr absl::string_view kTimeConversions = "%FGHMSUVYabdgjmsuwyz";
constexpr absl::string_view kTimeOpen = "$time(";

absl::Status FileError(int error, absl::string_view what, absl::string_view path) {
  absl::StatusCode code = absl::StatusCode::kUnavailable;
  const char* advice = "";
  switch (error) {
    case ENOENT:
      code = absl::StatusCode::kNotFound;
      advice = "; create its directory";
      break;
    case EACCES:
    case EPERM:
      code = absl::StatusCode::kPermissionDenied;
      advice = "; let the user of this process read and write it, and write to its directory";
      break;
    case EROFS:
      code = absl::StatusCode::kFailedPrecondition;
      advice = "; name a file on a writable file system";
      break;
    case ENOTDIR:
      code = absl::StatusCode::kFailedPrecondition;
      advice = "; a part of the path before the last '/' is not a directory";
      break;
    case EISDIR:
      code = absl::StatusCode::kFailedPrecondition;
      advice = "; name a file in it";
      break;
    case ELOOP:
      code = absl::StatusCode::kFailedPrecondition;
      advice = "; it is or lies behind a symbolic link, which is not followed: name the file it points to";
      break;
    case ENXIO:
      code = absl::StatusCode::kFailedPrecondition;
      advice = "; it is a socket or a device: name a regular file";
      break;
    case ENAMETOOLONG:
      code = absl::StatusCode::kFailedPrecondition;
      break;
    case ENOSPC:
    case EDQUOT:
      code = absl::StatusCode::kResourceExhausted;
      advice = "; it goes on when there is space again";
      break;
    case EFBIG:
      code = absl::StatusCode::kResourceExhausted;
      advice = "; raise the file size limit, or set rotate_size below it";
      break;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      code = absl::StatusCode::kResourceExhausted;
      break;
    default:
      break;
  }
  return absl::Status(code,
                      absl::StrCat("cannot ", what, " ", path, ": ", std::generic_category().message(error), advice));
}

// Cuts the next piece off `suffix`: literal text, or the format of a $time(), which `is_time` tells. False: what is
// left is neither.
bool NextPiece(absl::string_view* suffix, absl::string_view* piece, bool* is_time) {
  *is_time = absl::StartsWith(*suffix, kTimeOpen);
  if (*is_time) {
    const size_t end = suffix->find(')');
    if (end == absl::string_view::npos) return false;
    *piece = suffix->substr(kTimeOpen.size(), end - kTimeOpen.size());
    suffix->remove_prefix(end + 1);
    return true;
  }
  const size_t end = std::min(suffix->find('$'), suffix->size());
  *piece = suffix->substr(0, end);
  suffix->remove_prefix(end);
  return end > 0;
}

int64_t PeriodOf(absl::Time time, absl::Duration period) {
  if (period <= absl::ZeroDuration()) return 0;
  absl::Duration rest;
  const int64_t quotient = absl::IDivDuration(time - absl::UnixEpoch(), period, &rest);
  return rest < absl::ZeroDuration() ? quotient - 1 : quotient;
}

// Gives `from` in `directory` the name `to` unless something has that name already: errno, or 0.
int RenameWithoutReplacing(int directory, const std::string& from, const std::string& to) {
  if (renameat2(directory, from.c_str(), directory, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  // A file system that cannot (NFS, FUSE).
  struct stat there;
  if (fstatat(directory, to.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0) return EEXIST;
  return renameat(directory, from.c_str(), directory, to.c_str()) == 0 ? 0 : errno;
}

std::string LastPart(const std::string& path) {
  const std::string last = path.substr(path.rfind('/') + 1);
  return last.empty() ? "." : last;
}

}  // namespace

absl::Status CheckSuffix(absl::string_view suffix) {
  absl::string_view rest = suffix, piece;
  bool is_time = false;
  while (!rest.empty()) {
    if (!NextPiece(&rest, &piece, &is_time)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "suffix: \"", rest, "\" is not understood; only $time(FORMAT) is replaced, as in \".$time(%Y-%m-%d)\""));
    }
    if (piece.find('/') != absl::string_view::npos || piece.find('\0') != absl::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("suffix: \"", piece, "\" must not hold '/' or NUL: it is a part of the file's name"));
    }
    if (!is_time) continue;
    for (size_t i = piece.find('%'); i != absl::string_view::npos; i = piece.find('%', i + 2)) {
      if (i + 1 == piece.size() || kTimeConversions.find(piece[i + 1]) == absl::string_view::npos) {
        return absl::InvalidArgumentError(absl::StrCat(
            "suffix: \"", piece.substr(i, 2), "\" in $time() is not one of %", kTimeConversions.substr(1), " and %%"));
      }
    }
  }
  return absl::OkStatus();
}

std::string ExpandSuffix(absl::string_view suffix, absl::Time now) {
  std::string text;
  absl::string_view piece;
  bool is_time = false;
  while (!suffix.empty() && NextPiece(&suffix, &piece, &is_time)) {
    absl::StrAppend(&text, is_time ? absl::FormatTime(piece, now, absl::LocalTimeZone()) : std::string(piece));
  }
  return text;
}

absl::Status FlatFile::Open(absl::Time now) {
  if (fd_ >= 0) return absl::OkStatus();
  name_ = absl::StrCat(options_.path, ExpandSuffix(options_.suffix, now));
  absl::Status status = OpenName(now);
  if (!status.ok()) Close();
  return status;
}

absl::Status FlatFile::OpenName(absl::Time now) {
  // O_NONBLOCK means nothing to a regular file; it keeps the open of a fifo without a reader from waiting for one.
  constexpr int kFlags = O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  absl::Status refused;
  directory_ = OpenDirectoryOf(name_, &refused);
  if (!refused.ok()) return refused;
  if (directory_ < 0) return FileError(errno, "open", name_);
  // O_CREAT only where it is needed: with it the kernel refuses another user's file in a sticky directory.
  const std::string name = LastPart(name_);
  fd_ = openat(directory_, name.c_str(), kFlags);
  if (fd_ < 0 && errno == ENOENT) fd_ = openat(directory_, name.c_str(), kFlags | O_CREAT, options_.permissions);
  if (fd_ < 0) return FileError(errno, "open", name_);
  struct stat file;
  if (fstat(fd_, &file) != 0) return FileError(errno, "look at", name_);
  if (!S_ISREG(file.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot open ", name_, ": it is not a regular file but a fifo or a device; name a regular file"));
  }
  device_ = file.st_dev;
  inode_ = file.st_ino;
  size_ = file.st_size;
  lines_ = 0;
  period_ = PeriodOf(size_ > 0 ? absl::TimeFromTimespec(file.st_mtim) : now, options_.rotate_period);
  torn_ = size_ > 0;
  return options_.sync ? SyncDirectory() : absl::OkStatus();  // the name as well; also after a sync that failed
}

absl::Status FlatFile::EndTornLine() {
  // While another process is in the middle of its write() its last line looks torn too, and the file grows.
  for (uint64_t seen = 0; torn_ && size_ != seen;) {
    seen = size_;
    char last = '\n';  // of an empty file
    if (size_ > 0 && pread(fd_, &last, 1, static_cast<off_t>(size_ - 1)) < 0) {
      return FileError(errno, "read the end of", name_);
    }
    torn_ = last != '\n';
    if (!torn_) return absl::OkStatus();
    // Even an empty write waits for the one that is under way (XFS: the read above has), so a size that is the same
    // before and after it is nobody's unfinished one.
    [[maybe_unused]] const ssize_t nothing = write(fd_, "", 0);
    struct stat file;
    if (fstat(fd_, &file) != 0) return FileError(errno, "look at", name_);
    size_ = file.st_size;
  }
  if (!torn_) return absl::OkStatus();
  if (write(fd_, "\n", 1) != 1) return FileError(errno, "end the torn last line of", name_);
  ++size_;
  torn_ = false;
  return absl::OkStatus();
}

FlatFile::Appended FlatFile::Append(absl::Span<const MessageRef> messages, absl::Time now) {
  Appended result;
  while (result.why.ok() && result.lines < messages.size()) {
    CloseIfReplaced();
    if (result.why = Open(now); !result.why.ok()) {
      result.unopenable = true;
      break;
    }
    if (result.why = EndTornLine(); !result.why.ok()) break;
    if (Rotate(now)) continue;
    size_t lines = 0;
    result.why = AppendOnce(messages.subspan(result.lines), &lines);
    result.lines += lines;
  }
  return result;
}

// Appends as many lines as one write() and one file may take, and gives their number. None and OK: once more.
absl::Status FlatFile::AppendOnce(absl::Span<const MessageRef> messages, size_t* whole_lines) {
  buffer_.clear();
  line_ends_.clear();
  for (const MessageRef& message : messages) {
    AppendLine(*message, options_.format, &buffer_);
    line_ends_.push_back(buffer_.size());
    if (buffer_.size() >= kMaxWrite || Due(size_ + buffer_.size(), lines_ + line_ends_.size())) break;
  }

  ssize_t written;
  do {
    written = write(fd_, buffer_.data(), buffer_.size());
  } while (written < 0 && errno == EINTR);
  if (written < 0) {
    const int error = errno;
    if (error != ENOSPC && error != EDQUOT && error != EFBIG) Close();
    return FileError(error, "write to", name_);
  }
  const size_t bytes = static_cast<size_t>(written);
  const size_t lines = std::upper_bound(line_ends_.begin(), line_ends_.end(), bytes) - line_ends_.begin();
  const size_t torn_bytes = bytes - (lines == 0 ? 0 : line_ends_[lines - 1]);
  if (torn_bytes > 0) CutTornLine(torn_bytes);
  if (lines > 0 && options_.sync) {
    if (absl::Status status = SyncFile(); !status.ok()) return status;
  }

  struct stat file;
  if (fd_ >= 0 && fstat(fd_, &file) != 0) {
    absl::Status status = FileError(errno, "look at", name_);
    Close();
    return status;
  }
  if (fd_ >= 0) {
    if (file.st_nlink == 0) {  // deleted since we looked: nobody will ever read these lines, so write them again
      Close();
      return absl::OkStatus();
    }
    size_ = file.st_size;
  }
  lines_ += lines;
  *whole_lines = lines;
  if (lines > 0) return absl::OkStatus();
  // No second try: it would write and cut the same few bytes, without ever telling the reason.
  return absl::ResourceExhaustedError(absl::StrCat(
      "cannot write to ", name_, ": only ", bytes, " bytes of a line of ", line_ends_.front(),
      " fitted, as on a full disk or at a quota or file size limit; it goes on when there is space again"));
}

void FlatFile::CloseIfReplaced() {
  struct stat file;
  if (fd_ >= 0 && (lstat(name_.c_str(), &file) != 0 || file.st_dev != device_ || file.st_ino != inode_)) Close();
}

absl::Status FlatFile::SyncFile() {
  if (fdatasync(fd_) == 0) return absl::OkStatus();
  // The kernel may have dropped the pages and would then report success the next time: nothing of this write counts.
  absl::Status status = FileError(errno, "sync", name_);
  Close();
  return status;
}

// Cuts off the last bytes, which are the beginning of a line that did not fit; ends them as a line of its own where
// that is not possible.
void FlatFile::CutTornLine(size_t torn_bytes) {
  // An append leaves the offset behind its last byte. If the file ends elsewhere, another writer came after us, and to
  // cut would take its lines.
  const off_t end = lseek(fd_, 0, SEEK_CUR);
  struct stat file;
  if (end >= 0 && fstat(fd_, &file) == 0 && file.st_size == end &&
      ftruncate(fd_, end - static_cast<off_t>(torn_bytes)) == 0) {
    return;
  }
  torn_ = true;
}

bool FlatFile::Due(uint64_t size, uint64_t lines) const {
  return (options_.rotate_size > 0 && size >= options_.rotate_size) ||
         (options_.rotate_count > 0 && lines >= options_.rotate_count);
}

// Ends the file if that is due; true: it is closed, and the next Open() begins another.
bool FlatFile::Rotate(absl::Time now) {
  const int64_t period = PeriodOf(now, options_.rotate_period);
  if (!Due(size_, lines_) && period == period_) return false;
  if (absl::StrCat(options_.path, ExpandSuffix(options_.suffix, now)) == name_) {
    if (size_ == 0) {
      period_ = period;
      return false;
    }
    // The time makes the names sort in the order of the files. When the file cannot be renamed we go on with it: a file
    // that is too long harms less than events that are lost.
    int error = EEXIST;
    for (absl::Time stamp = now; error == EEXIST; stamp += absl::Microseconds(1)) {
      error = RenameWithoutReplacing(
          directory_, LastPart(name_),
          absl::StrCat(LastPart(name_), ".", absl::FormatTime("%Y%m%dT%H%M%E6SZ", stamp, absl::UTCTimeZone())));
    }
    if (error != 0) return false;
  }
  Close();
  return true;
}

absl::Status FlatFile::SyncDirectory() {
  const std::string directory = name_.substr(0, name_.rfind('/') + 1);
  const int fd = openat(directory_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FileError(errno, "open the directory", directory);
  absl::Status status;
  if (fsync(fd) != 0) status = FileError(errno, "sync the directory", directory);
  close(fd);
  return status;
}

void FlatFile::Close() {
  if (fd_ >= 0) close(fd_);
  if (directory_ >= 0) close(directory_);
  fd_ = directory_ = -1;
}

}  // namespace eventvirtual
