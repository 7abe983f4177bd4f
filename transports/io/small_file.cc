#include "transports/io/small_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "transports/io/errno_text.h"

namespace eventvirtual {

absl::Status ReadAndClose(int fd, size_t max, absl::string_view name, std::string* content) {
  const auto fails = [name](const std::string& why) { return absl::UnavailableError(absl::StrCat(name, ": ", why)); };
  const auto no_such = [&](const std::string& why) {
    return fails(absl::StrCat(why, "; name a regular file of at most ", max, " bytes"));
  };
  if (fd < 0) return fails(ErrnoText(errno));
  const absl::Cleanup close_it = [fd] { close(fd); };
  struct stat info = {};
  if (fstat(fd, &info) != 0) return fails(ErrnoText(errno));
  if (!S_ISREG(info.st_mode)) return no_such("is no regular file");
  if (info.st_size > static_cast<off_t>(max)) return no_such(absl::StrCat("has ", info.st_size, " bytes"));
  // What is added to it meanwhile is for the next time: the content never moves to a larger memory.
  content->resize(static_cast<size_t>(info.st_size));
  size_t size = 0;
  ssize_t got = 1;
  while (got > 0 && size < content->size()) {
    got = read(fd, content->data() + size, content->size() - size);
    if (got < 0) return fails(ErrnoText(errno));
    size += static_cast<size_t>(got);
  }
  content->resize(size);
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadSmallFile(absl::string_view option, const std::string& path) {
  const std::string name = absl::StrCat(option, "=", path);
  std::string content;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  absl::Status status = ReadAndClose(fd, kMaxSmallFile, name, &content);
  if (!status.ok()) return status;
  return content;
}

}  // namespace eventvirtual
