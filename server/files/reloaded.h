// Reloaded: what files say, read again whenever they change, and in force as long as it makes sense.
#ifndef EVENTVIRTUAL_SERVER_FILES_RELOADED_H_
#define EVENTVIRTUAL_SERVER_FILES_RELOADED_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// Files that belong together: a certificate and its key. What they hold is in force until something else of theirs is
// found to be good; what cannot be read or makes no sense never replaces it (docs/decisions/0028-files.md).
//
// Why a file that has changed is not taken at first sight: whoever writes it may not have finished, and half of a list
// of rules is a list of rules. It counts when two looks in a row have found the same.
class ReloadedFiles {
 public:
  struct File {
    std::string option;  // "--tls_cert"
    std::string path;    // "": its content is always empty
  };

  virtual ~ReloadedFiles() = default;
  ReloadedFiles(const ReloadedFiles&) = delete;
  ReloadedFiles& operator=(const ReloadedFiles&) = delete;

  // Reads them, and takes what is new: if the last look has found the same, or `at_once`. A change is told in the log,
  // once, whether it was taken or not. Blocks as a disk does. One thread.
  void Look(bool at_once);

  // Any thread.
  const std::string& name() const { return name_; }                              // for people: "tls"
  bool failing() const { return failing_.load(std::memory_order_relaxed); }      // what is there is not in force
  uint64_t changes() const { return changes_.load(std::memory_order_relaxed); }  // that were taken, and the first

 protected:
  ReloadedFiles(std::string name, std::vector<File> files);

  // At start. UNAVAILABLE: one cannot be read; or as Take() says.
  absl::Status ReadFirst();

 private:
  // Puts `contents`, in the order of the files, in force; an error names the option and the place, and changes nothing.
  virtual absl::Status Take(const std::vector<std::string>& contents) = 0;

  // What a look finds.
  struct Found {
    std::vector<std::string> contents;
    absl::Status fault;
    friend bool operator==(const Found& a, const Found& b) { return a.contents == b.contents && a.fault == b.fault; }
  };
  Found Read() const;
  absl::Status Decide();

  const std::string name_;
  const std::vector<File> files_;
  Found seen_;     // by the last look
  Found decided_;  // last taken, or refused
  std::atomic<bool> failing_{false};
  std::atomic<uint64_t> changes_{0};
};

// The same as a value, which `parse` makes of the contents.
template <typename Value>
class Reloaded final : public ReloadedFiles {
 public:
  using Parse = std::function<absl::StatusOr<Value>(const std::vector<std::string>& contents)>;

  // Reads them for the first time. UNAVAILABLE names the option and the path; or what `parse` says.
  static absl::StatusOr<std::shared_ptr<Reloaded>> Load(std::string name, std::vector<File> files, Parse parse) {
    std::shared_ptr<Reloaded> reloaded(new Reloaded(std::move(name), std::move(files), std::move(parse)));
    if (absl::Status status = reloaded->ReadFirst(); !status.ok()) return status;
    return reloaded;
  }

  std::shared_ptr<const Value> Current() const {  // any thread
    MutexLock lock(&mutex_);
    return value_;
  }

  // For what cannot ask each time: `put` gets what is in force, now and whenever that changes, before the log says so.
  // On the thread of Look().
  void PutInto(std::function<void(std::shared_ptr<const Value>)> put) {
    put_ = std::move(put);
    put_(Current());
  }

 private:
  Reloaded(std::string name, std::vector<File> files, Parse parse)
      : ReloadedFiles(std::move(name), std::move(files)), parse_(std::move(parse)) {}

  absl::Status Take(const std::vector<std::string>& contents) override {
    absl::StatusOr<Value> value = parse_(contents);
    if (!value.ok()) return value.status();
    const auto shared = std::make_shared<const Value>(*std::move(value));
    {
      MutexLock lock(&mutex_);
      value_ = shared;
    }
    if (put_ != nullptr) put_(shared);
    return absl::OkStatus();
  }

  const Parse parse_;
  std::function<void(std::shared_ptr<const Value>)> put_;
  mutable Mutex mutex_;
  std::shared_ptr<const Value> value_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_FILES_RELOADED_H_
