#include "tests/server/journal/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kSector = 512;

std::atomic<Disk*> here = nullptr;

std::string FolderOf(const std::string& path) { return path.substr(0, path.rfind('/')); }

}  // namespace

Disk::Disk(std::string folder, uint32_t seed) : folder_(std::move(folder)), random_(seed) {
  const auto root = std::make_shared<File>();
  root->folder = true;
  names_[folder_] = root;
  for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
    const auto file = std::make_shared<File>();
    file->folder = entry.is_directory();
    if (!file->folder) {
      std::ifstream stream(entry.path(), std::ios::binary);
      file->on_disk.assign(std::istreambuf_iterator<char>(stream), {});
    }
    names_[entry.path()] = file;
  }
  names_on_disk_ = names_;
  EV_CHECK(here.exchange(this) == nullptr);
}

Disk::~Disk() { here = nullptr; }

void Disk::Plant(const Fault& fault) {
  std::lock_guard lock(mutex_);
  fault_ = fault;
  struck_ = false;
}

void Disk::Heal() {
  std::lock_guard lock(mutex_);
  fault_.reset();
}

void Disk::CutBefore(uint64_t nth, std::function<void()> at_cut) {
  std::lock_guard lock(mutex_);
  cut_before_ = counts_.changes + nth;
  at_cut_ = std::move(at_cut);
}

void Disk::CutNow() {
  std::lock_guard lock(mutex_);
  if (!cut_) TakeImage();
}

Disk::Counts Disk::counts() const {
  std::lock_guard lock(mutex_);
  return counts_;
}

bool Disk::Holds(const std::string& path) const {
  return path == folder_ || (absl::StartsWith(path, folder_) && path[folder_.size()] == '/');
}

void Disk::BeforeChange(const char* call, const std::string& path) {
  if (++counts_.changes != cut_before_ || cut_) return;
  cut_at_ = absl::StrCat(call, " ", path.substr(path.rfind('/') + 1));
  TakeImage();
}

bool Disk::Fails(Call call, int* error) {
  if (!fault_.has_value() || fault_->call != call) return false;
  if (fault_->nth > 1) {
    --fault_->nth;
    return false;
  }
  *error = fault_->error;
  struck_ = true;
  if (!fault_->stays) fault_.reset();
  return true;
}

void Disk::Name(const std::string& path, FileRef file) {
  renamings_.push_back({FolderOf(path), {{path, file}}});
  if (file == nullptr) {
    names_.erase(path);
  } else {
    names_[path] = std::move(file);
  }
}

// Of each sector the writes up to some are there: it is written as it is at one moment.
void Disk::Apply(const std::vector<Write>& writes, double share, std::string* to) {
  std::string& bytes = *to;
  std::bernoulli_distribution survives(share);
  std::set<uint64_t> done;  // sectors
  for (const Write& write : writes) {
    if (write.truncate) {
      if (survives(random_)) bytes.resize(write.offset);
      continue;
    }
    for (uint64_t at = 0; at < write.bytes.size();) {
      const uint64_t sector = (write.offset + at) / kSector;
      const uint64_t size = std::min((sector + 1) * kSector - (write.offset + at), write.bytes.size() - at);
      if (!done.contains(sector) && survives(random_)) {
        if (bytes.size() < write.offset + at + size) bytes.resize(write.offset + at + size);
        bytes.replace(write.offset + at, size, write.bytes, at, size);
      } else {
        done.insert(sector);
        counts_.unsynced_bytes_lost += size;
      }
      at += size;
    }
  }
}

void Disk::Sync(const std::string& path, File& file, bool fails) {
  ++counts_.syncs;
  if (!file.folder) {
    Apply(file.since, fails ? 0.5 : 1, &file.on_disk);
    file.since.clear();
    return;
  }
  if (fails) return;
  std::vector<Renaming> others;
  for (Renaming& renaming : renamings_) {
    if (renaming.folder != path) {
      others.push_back(std::move(renaming));
      continue;
    }
    for (auto& [name, named] : renaming.names) {
      if (named == nullptr) {
        names_on_disk_.erase(name);
      } else {
        names_on_disk_[name] = std::move(named);
      }
    }
  }
  renamings_ = std::move(others);
}

void Disk::TakeImage() {
  constexpr double kShares[] = {0, 0.1, 0.5, 0.9, 1};
  const double share = kShares[random_() % std::size(kShares)];
  std::bernoulli_distribution survives(share);
  std::map<std::string, FileRef> names = names_on_disk_;
  for (const Renaming& renaming : renamings_) {
    if (!survives(random_)) continue;
    for (const auto& [name, file] : renaming.names) {
      if (file == nullptr) {
        names.erase(name);
      } else {
        names[name] = file;
      }
    }
  }
  for (const auto& [name, file] : names) {
    if (name == folder_) continue;
    const std::string folder = FolderOf(name).substr(std::min(folder_.size() + 1, FolderOf(name).size()));
    if (!folder.empty() && !image_.contains(folder)) continue;  // its folder is not there; those come first
    std::optional<std::string>& left = image_[name.substr(folder_.size() + 1)];
    if (file->folder) continue;
    left = file->on_disk;
    Apply(file->since, share, &*left);
  }
  cut_ = true;
  if (at_cut_) at_cut_();
}

void Disk::WriteImage(const std::string& folder) const {
  EV_CHECK(cut_);
  fs::remove_all(folder);
  fs::create_directories(folder);
  for (const auto& [name, bytes] : image_) {
    const std::string path = absl::StrCat(folder, "/", name);
    if (!bytes.has_value()) {
      fs::create_directories(path);
    } else {
      std::ofstream(path, std::ios::binary) << *bytes;
    }
  }
}

// Each gives what the call of this name gives.
struct Disk::Calls {
  static int Fail(int error) {
    errno = error;
    return -1;
  }

  static int Open(const char* path, int flags, mode_t mode) {
    Disk* const disk = here;
    const auto real = [&] { return static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, mode)); };
    if (disk == nullptr || !disk->Holds(path)) return real();
    std::lock_guard lock(disk->mutex_);
    int error = 0;
    if (disk->Fails(Call::kOpen, &error)) return Fail(error);
    const bool is_new = (flags & O_CREAT) != 0 && !disk->names_.contains(path);
    if (is_new || (flags & O_TRUNC) != 0) disk->BeforeChange("open", path);
    const int fd = real();
    if (fd < 0) return fd;
    if (is_new) disk->Name(path, std::make_shared<File>());
    const auto found = disk->names_.find(path);
    EV_CHECK(found != disk->names_.end());
    if ((flags & O_TRUNC) != 0) found->second->since.push_back({0, "", true});
    disk->open_[fd] = {path, found->second};
    return fd;
  }

  static int Close(int fd) {
    Disk* const disk = here;
    if (disk != nullptr) {
      std::lock_guard lock(disk->mutex_);
      disk->open_.erase(fd);
    }
    return static_cast<int>(syscall(SYS_close, fd));
  }

  static ssize_t Read(int fd, void* to, size_t size, std::optional<off_t> offset) {
    const auto real = [&](size_t bytes) {
      return offset.has_value() ? syscall(SYS_pread64, fd, to, bytes, *offset) : syscall(SYS_read, fd, to, bytes);
    };
    Disk* const disk = here;
    if (disk == nullptr) return real(size);
    {
      std::lock_guard lock(disk->mutex_);
      int error = 0;
      if (disk->open_.contains(fd) && disk->Fails(Call::kRead, &error)) {
        if (error != 0) return Fail(error);
        size = (size + 1) / 2;
      }
    }
    return real(size);
  }

  static ssize_t Write(int fd, const void* from, size_t size, std::optional<off_t> offset) {
    const auto real = [&](size_t bytes) {
      return offset.has_value() ? syscall(SYS_pwrite64, fd, from, bytes, *offset) : syscall(SYS_write, fd, from, bytes);
    };
    Disk* const disk = here;
    if (disk == nullptr) return real(size);
    std::unique_lock lock(disk->mutex_);
    const auto found = disk->open_.find(fd);
    if (found == disk->open_.end()) {
      lock.unlock();
      return real(size);
    }
    const auto& [path, file] = found->second;
    int error = 0;
    if (disk->Fails(Call::kWrite, &error)) {
      if (error != 0) return Fail(error);
      size = (size + 1) / 2;
    }
    disk->BeforeChange("write", path);
    const off_t at = offset.has_value() ? *offset : syscall(SYS_lseek, fd, 0, SEEK_CUR);
    const ssize_t written = real(size);
    if (written > 0) {
      file->since.push_back(
          {static_cast<uint64_t>(at), std::string(static_cast<const char*>(from), static_cast<size_t>(written))});
    }
    return written;
  }

  static int Truncate(int fd, off_t size) {
    const auto real = [&] { return static_cast<int>(syscall(SYS_ftruncate, fd, size)); };
    Disk* const disk = here;
    if (disk == nullptr) return real();
    std::lock_guard lock(disk->mutex_);
    const auto found = disk->open_.find(fd);
    if (found == disk->open_.end()) return real();
    const auto& [path, file] = found->second;
    int error = 0;
    if (disk->Fails(Call::kTruncate, &error)) return Fail(error);
    disk->BeforeChange("truncate", path);
    file->since.push_back({static_cast<uint64_t>(size), "", true});
    return real();
  }

  static int Sync(int fd, int number) {
    const auto real = [&] { return static_cast<int>(syscall(number, fd)); };
    Disk* const disk = here;
    if (disk == nullptr) return real();
    std::lock_guard lock(disk->mutex_);
    const auto found = disk->open_.find(fd);
    if (found == disk->open_.end()) return real();
    const auto& [path, file] = found->second;
    disk->BeforeChange("sync", path);
    int error = 0;
    const bool fails = disk->Fails(Call::kSync, &error);
    disk->Sync(path, *file, fails);
    return fails ? Fail(error) : 0;
  }

  static int Unlink(const char* path) {
    const auto real = [&] { return static_cast<int>(syscall(SYS_unlink, path)); };
    Disk* const disk = here;
    if (disk == nullptr || !disk->Holds(path)) return real();
    std::lock_guard lock(disk->mutex_);
    if (!disk->names_.contains(path)) return real();
    disk->BeforeChange("unlink", path);
    disk->Name(path, nullptr);
    return real();
  }

  static int Rename(const char* from, const char* to) {
    const auto real = [&] { return static_cast<int>(syscall(SYS_rename, from, to)); };
    Disk* const disk = here;
    if (disk == nullptr || !disk->Holds(from)) return real();
    std::lock_guard lock(disk->mutex_);
    const auto found = disk->names_.find(from);
    if (found == disk->names_.end()) return real();
    EV_CHECK(!found->second->folder && FolderOf(from) == FolderOf(to));
    disk->BeforeChange("rename", from);
    const FileRef file = found->second;
    disk->renamings_.push_back({FolderOf(from), {{from, nullptr}, {to, file}}});
    disk->names_.erase(found);
    disk->names_[to] = file;
    return real();
  }

  static int MakeFolder(const char* path, mode_t mode) {
    const auto real = [&] { return static_cast<int>(syscall(SYS_mkdir, path, mode)); };
    Disk* const disk = here;
    if (disk == nullptr || !disk->Holds(path)) return real();
    std::lock_guard lock(disk->mutex_);
    if (disk->names_.contains(path)) return real();
    disk->BeforeChange("mkdir", path);
    auto file = std::make_shared<File>();
    file->folder = true;
    disk->Name(path, std::move(file));
    return real();
  }
};

}  // namespace eventvirtual

using eventvirtual::Disk;

// What programs call. The linker takes these before the C library's, for shared libraries, too.
extern "C" {

int open(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0;
  va_end(more);
  return Disk::Calls::Open(path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0;
  va_end(more);
  return Disk::Calls::Open(path, flags, mode);
}
int close(int fd) { return Disk::Calls::Close(fd); }
ssize_t read(int fd, void* to, size_t size) { return Disk::Calls::Read(fd, to, size, std::nullopt); }
ssize_t pread(int fd, void* to, size_t size, off_t at) { return Disk::Calls::Read(fd, to, size, at); }
ssize_t pread64(int fd, void* to, size_t size, off64_t at) { return Disk::Calls::Read(fd, to, size, at); }
ssize_t write(int fd, const void* from, size_t size) { return Disk::Calls::Write(fd, from, size, std::nullopt); }
ssize_t pwrite(int fd, const void* from, size_t size, off_t at) { return Disk::Calls::Write(fd, from, size, at); }
ssize_t pwrite64(int fd, const void* from, size_t size, off64_t at) { return Disk::Calls::Write(fd, from, size, at); }
int ftruncate(int fd, off_t size) noexcept { return Disk::Calls::Truncate(fd, size); }
int ftruncate64(int fd, off64_t size) noexcept { return Disk::Calls::Truncate(fd, size); }
int fsync(int fd) { return Disk::Calls::Sync(fd, SYS_fsync); }
int fdatasync(int fd) { return Disk::Calls::Sync(fd, SYS_fdatasync); }
int unlink(const char* path) noexcept { return Disk::Calls::Unlink(path); }
int rename(const char* from, const char* to) noexcept { return Disk::Calls::Rename(from, to); }
int mkdir(const char* path, mode_t mode) noexcept { return Disk::Calls::MakeFolder(path, mode); }

}  // extern "C"
