// Reloaded: what files say, as long as it makes sense.
#ifndef EVENTVIRTUAL_SERVER_ACCESS_RELOADED_H_
#define EVENTVIRTUAL_SERVER_ACCESS_RELOADED_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/access/small_file.h"
#include "server/log/log.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// Files that are read together, and what `parse` makes of their contents (in their order; "" of an empty path). What
// does not parse never replaces what did: files that belong together change one after the other.
template <typename Value>
class Reloaded {
 public:
  using Parse = std::function<absl::StatusOr<Value>(const std::vector<std::string>& contents)>;
  struct File {
    std::string flag, path;  // "--tls_cert"
  };

  // Reads them. INVALID_ARGUMENT names the flag, the file and the place in it.
  static absl::StatusOr<std::shared_ptr<Reloaded>> Load(std::vector<File> files, Parse parse) {
    std::shared_ptr<Reloaded> reloaded(new Reloaded(std::move(files), std::move(parse)));
    if (absl::Status status = reloaded->Read(); !status.ok()) return status;
    return reloaded;
  }

  std::shared_ptr<const Value> Current() const {  // any thread
    MutexLock lock(&mutex_);
    return value_;
  }

  // Reads them again, and says in the log what became of a change. One thread; reads files of a few KiB.
  void Look() {
    const uint64_t before = changes_.load(std::memory_order_relaxed);
    const absl::Status status = Read();
    failing_.store(!status.ok(), std::memory_order_relaxed);
    const std::string& file = files_.front().path;
    if (!status.ok() && status.message() != told_) {
      Log(LogLevel::kWarning, "what was read before stays in force", {{"file", file}, {"error", status.message()}});
    } else if (changes_.load(std::memory_order_relaxed) != before) {
      Log(LogLevel::kInfo, "read again", {{"file", file}});
    }
    told_ = status.ok() ? "" : std::string(status.message());
  }

  // Any thread.
  bool failing() const { return failing_.load(std::memory_order_relaxed); }      // what is there now is not in force
  uint64_t changes() const { return changes_.load(std::memory_order_relaxed); }  // that were taken, the first included

 private:
  Reloaded(std::vector<File> files, Parse parse) : files_(std::move(files)), parse_(std::move(parse)) {}

  absl::Status Read() {
    std::vector<std::string> contents;
    for (const File& file : files_) {
      absl::StatusOr<std::string> content = file.path.empty() ? std::string() : ReadSmallFile(file.flag, file.path);
      if (!content.ok()) return content.status();
      contents.push_back(*std::move(content));
    }
    if (contents == contents_) return absl::OkStatus();
    absl::StatusOr<Value> value = parse_(contents);
    if (!value.ok()) return value.status();
    contents_ = std::move(contents);
    changes_.fetch_add(1, std::memory_order_relaxed);
    auto shared = std::make_shared<const Value>(*std::move(value));
    MutexLock lock(&mutex_);
    value_ = std::move(shared);
    return absl::OkStatus();
  }

  const std::vector<File> files_;
  const Parse parse_;
  std::vector<std::string> contents_;  // those in force
  std::string told_;                   // the error that the log has
  std::atomic<bool> failing_{false};
  std::atomic<uint64_t> changes_{0};
  mutable Mutex mutex_;
  std::shared_ptr<const Value> value_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ACCESS_RELOADED_H_
