#include "server/access/small_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxFile = 1 << 20;

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(absl::string_view flag, const std::string& path) {
  std::string content;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat info = {};
  int error = fd < 0 || fstat(fd, &info) != 0 ? errno : 0;
  if (error == 0 && (!S_ISREG(info.st_mode) || info.st_size > static_cast<off_t>(kMaxFile))) error = EFBIG;
  if (error == 0) {
    content.resize(static_cast<size_t>(info.st_size));
    const ssize_t got = read(fd, content.data(), content.size());
    error = got < 0 ? errno : 0;
    content.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  }
  if (fd >= 0) close(fd);
  if (error == 0) return content;
  return absl::InvalidArgumentError(
      absl::StrCat(flag, ": \"", path,
                   "\": ", error == EFBIG ? absl::StrCat("no file of at most ", kMaxFile, " bytes") : strerror(error)));
}

}  // namespace eventvirtual
