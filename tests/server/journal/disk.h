// Disk: a folder as a disk that loses its power, and that fails when a test says so.
#ifndef EVENTVIRTUAL_TESTS_SERVER_JOURNAL_DISK_H_
#define EVENTVIRTUAL_TESTS_SERVER_JOURNAL_DISK_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace eventvirtual {

// While one lives, the calls of this process to the files below its folder come here first: disk.cc stands before the C
// library, so SQLite's, the standard library's and our own are all seen. They go on to the real folder, but for syncs,
// which take no time: what they would have brought to the disk is what is remembered.
//
// What POSIX does not promise does not happen when the power goes: of what was written after the last sync of its file
// any sectors may be there, those of one write torn from each other; a name that was made, changed or removed after the
// last sync of its folder may be as before. A sync that fails is the last word on what it should have brought: some of
// it is on the disk and the rest never will be, though it can be read (https://lwn.net/Articles/752063/).
//
// Any thread, but for what is said. One at a time.
class Disk {
 public:
  enum class Call { kOpen, kRead, kWrite, kTruncate, kSync };
  struct Fault {
    Call call = Call::kWrite;
    uint64_t nth = 1;    // from now on
    int error = 0;       // errno; 0: the half of what it was to read or write
    bool stays = false;  // all that follow fail likewise, until Heal()
  };
  struct Counts {
    uint64_t changes = 0, syncs = 0, unsynced_bytes_lost = 0;
  };

  // What is in `folder` now counts as synced. Its path must be without links.
  Disk(std::string folder, uint32_t seed);
  ~Disk();
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  void Plant(const Fault& fault);
  void Heal();
  bool struck() const { return struck_; }  // whether the fault has happened

  // The power goes right before the n-th change (a write, truncation, sync, a new, changed or removed name) from now
  // on. `at_cut` is called by who makes that change, and must not use files. The process goes on, on a disk that is not
  // the one that was cut.
  void CutBefore(uint64_t nth, std::function<void()> at_cut);
  void CutNow();  // unless it was
  bool cut() const { return cut_; }
  // The file whose change came too late ("": CutNow()), and the call.
  const std::string& cut_at() const { return cut_at_; }
  // Makes `folder` what was left.
  void WriteImage(const std::string& folder) const;

  Counts counts() const;

  // The C library's side: whether the call goes on; else what it gives. See disk.cc.
  struct Calls;

 private:
  struct Write {
    uint64_t offset;
    std::string bytes;
    bool truncate = false;  // to `offset`
  };
  struct File {
    bool folder = false;
    std::string on_disk;
    std::vector<Write> since;  // the last sync
  };
  using FileRef = std::shared_ptr<File>;
  struct Renaming {
    std::string folder;
    std::vector<std::pair<std::string, FileRef>> names;  // null: is removed
  };

  bool Holds(const std::string& path) const;
  void BeforeChange(const char* call, const std::string& path);  // with the mutex, like all below
  bool Fails(Call call, int* error);
  void Name(const std::string& path, FileRef file);
  void Sync(const std::string& path, File& file, bool fails);
  // A part of the `writes`.
  void Apply(const std::vector<Write>& writes, double share, std::string* to);
  void TakeImage();

  const std::string folder_;
  mutable std::mutex mutex_;
  std::mt19937 random_;
  std::map<int, std::pair<std::string, FileRef>> open_;
  std::map<std::string, FileRef> names_, names_on_disk_;
  std::vector<Renaming> renamings_;  // since the last sync of their folders
  std::optional<Fault> fault_;
  std::atomic<bool> struck_ = false;
  uint64_t cut_before_ = 0;  // 0: not
  std::function<void()> at_cut_;
  std::atomic<bool> cut_ = false;
  std::string cut_at_;
  std::map<std::string, std::optional<std::string>> image_;  // null: a folder
  Counts counts_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_SERVER_JOURNAL_DISK_H_
