#include "transports/io/secret_files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "transports/api/mutex.h"
#include "transports/api/secret.h"
#include "transports/io/destination_gate.h"
#include "transports/io/small_file.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxFile = 64 << 10;

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
    const std::string place = absl::StrCat(SecretReference(name), ": the file \"", name, "\" of --secrets=", folder);
    std::string text;
    const absl::Status status = ReadAndClose(Open(folder, name), kMaxFile, place, &text);
    if (absl::EndsWith(text, "\n")) text.pop_back();
    if (absl::EndsWith(text, "\r")) text.pop_back();
    content = Secret(std::move(text));
    if (!status.ok()) return absl::FailedPreconditionError(status.message());
    if (content.empty()) return absl::FailedPreconditionError(absl::StrCat(place, ": is empty"));
  }
  return absl::OkStatus();
}

}  // namespace eventvirtual
