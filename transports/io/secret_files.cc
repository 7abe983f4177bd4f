#include "transports/io/secret_files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "transports/api/mutex.h"
#include "transports/api/secret.h"
#include "transports/io/destination_gate.h"
#include "transports/io/errno_text.h"

namespace eventvirtual {
namespace {

constexpr off_t kMaxFile = 64 << 10;

Mutex mutex;
std::string* directory ABSL_GUARDED_BY(mutex) = nullptr;

std::string Directory() {
  MutexLock lock(&mutex);
  return directory == nullptr ? "" : *directory;
}

// A descriptor, or -1 and errno.
int Open(const std::string& folder, const std::string& name) {
  const int at = open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (at < 0) return -1;
  open_how how = {};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  const int fd = static_cast<int>(syscall(SYS_openat2, at, name.c_str(), &how, sizeof(how)));
  const int error = errno;
  close(at);
  errno = error;
  return fd;
}

// What is wrong with an open file; "": `content` is what it holds.
std::string Read(int fd, std::string* content) {
  struct stat info = {};
  if (fstat(fd, &info) != 0) return ErrnoText(errno);
  if (!S_ISREG(info.st_mode)) return "is no regular file";
  if (info.st_size > kMaxFile) return absl::StrCat("has more than ", kMaxFile, " bytes");
  content->resize(static_cast<size_t>(info.st_size));
  size_t size = 0;
  while (size < content->size()) {
    const ssize_t got = read(fd, content->data() + size, content->size() - size);
    if (got < 0) return ErrnoText(errno);
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  content->resize(size);
  if (absl::EndsWith(*content, "\n")) content->pop_back();
  if (absl::EndsWith(*content, "\r")) content->pop_back();
  return content->empty() ? "is empty" : "";
}

}  // namespace

void SetSecretDirectory(const std::string& path) {
  MutexLock lock(&mutex);
  if (directory == nullptr) directory = new std::string;
  *directory = path;
}

absl::Status ReadSecrets(Target* target) {
  if (target->secrets.empty()) return absl::OkStatus();
  const std::string folder = Directory();
  for (auto& [name, content] : target->secrets) {
    if (absl::Status status = CheckSecret(name, *target); !status.ok()) return status;
    if (folder.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat(SecretReference(name), ": there is no directory of secrets; name one with --secrets"));
    }
    std::string text;
    const int fd = Open(folder, name);
    const std::string fault = fd < 0 ? ErrnoText(errno) : Read(fd, &text);
    if (fd >= 0) close(fd);
    content = Secret(std::move(text));
    if (fault.empty()) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(SecretReference(name), ": the file \"", name, "\" of --secrets=", folder, ": ", fault));
  }
  return absl::OkStatus();
}

}  // namespace eventvirtual
