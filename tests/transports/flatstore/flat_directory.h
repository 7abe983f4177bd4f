// A directory of its own for each test, and what the tests read in it.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_FLATSTORE_FLAT_DIRECTORY_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_FLATSTORE_FLAT_DIRECTORY_H_

#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"

namespace eventvirtual {

class FlatDirectory {
 public:
  FlatDirectory() {
    char name[] = "/tmp/evXXXXXX";
    EXPECT_NE(mkdtemp(name), nullptr) << strerror(errno);
    path_ = name;
  }
  ~FlatDirectory() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::string Path(const std::string& name) const { return path_ + "/" + name; }

  // Turns the directory into a file system of `bytes`, which only this thread and those it starts see.
  void MakeSmallDisk(size_t bytes) {
    ASSERT_EQ(unshare(CLONE_NEWNS), 0) << "a mount namespace needs CAP_SYS_ADMIN: run as root. " << strerror(errno);
    ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0) << strerror(errno);
    const std::string options = "size=" + std::to_string(bytes);
    ASSERT_EQ(mount("tmpfs", path_.c_str(), "tmpfs", 0, options.c_str()), 0) << strerror(errno);
    mounted_ = true;
  }

  std::string Read(const std::string& name) const {
    std::ifstream file(Path(name), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  void Write(const std::string& name, absl::string_view text) const {
    std::ofstream(Path(name), std::ios::binary).write(text.data(), text.size());
  }

  // Whether this process has the file open.
  bool IsOpen(const std::string& name) const {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      if (std::filesystem::read_symlink(entry.path(), gone) == Path(name)) return true;
    }
    return false;
  }

  // The names in it, sorted.
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  // The lines of all files, rotated ones first, in the order of their names. Every file must end with a newline.
  std::vector<std::string> Lines(const std::string& live) const {
    std::vector<std::string> lines;
    std::vector<std::string> names = Names();
    std::stable_partition(names.begin(), names.end(), [&](const std::string& name) { return name != live; });
    for (const std::string& name : names) {
      const std::string text = Read(name);
      if (text.empty()) continue;
      EXPECT_EQ(text.back(), '\n') << name;
      for (absl::string_view line : absl::StrSplit(absl::string_view(text.data(), text.size() - 1), '\n')) {
        lines.emplace_back(line);
      }
    }
    return lines;
  }

 private:
  std::string path_;
  bool mounted_ = false;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_FLATSTORE_FLAT_DIRECTORY_H_
