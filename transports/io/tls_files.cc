#include "transports/io/tls_files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "transports/io/errno_text.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxFile = 1 << 20;

absl::Status ReadFile(absl::string_view option, const std::string& path, std::string* content) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat info = {};
  int error = fd < 0 || fstat(fd, &info) != 0 ? errno : 0;
  if (error == 0 && (!S_ISREG(info.st_mode) || info.st_size > static_cast<off_t>(kMaxFile))) error = EFBIG;
  if (error == 0) {
    content->resize(kMaxFile);
    const ssize_t got = read(fd, content->data(), content->size());
    error = got < 0 ? errno : 0;
    content->resize(std::max<ssize_t>(got, 0));
  }
  if (fd >= 0) close(fd);
  if (error == 0) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat(option, "=", path, ": ",
                   error == EFBIG ? absl::StrCat("no file of at most ", kMaxFile, " bytes") : ErrnoText(error)));
}

}  // namespace

absl::StatusOr<TlsFiles> ReadTlsFiles(const std::string& ca, const std::string& cert, const std::string& key) {
  TlsFiles files;
  absl::Status status;
  if (!ca.empty()) status.Update(ReadFile("ca", ca, &files.ca));
  if (!cert.empty()) status.Update(ReadFile("cert", cert, &files.cert));
  if (!key.empty()) status.Update(ReadFile("key", key, &files.key));
  if (!status.ok()) return status;
  return files;
}

}  // namespace eventvirtual
