// Where there is no log, or none that has begun, nothing is lost; one that cannot be read says so. What is counted in
// one that is damaged: tests/fuzz/log_tail_fuzz.cc.
#include "server/journal/log_tail.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/transports/io/temporary_folder.h"

namespace eventvirtual {
namespace {

TEST(LogTail, WhereThereIsNoLogNothingIsLost) {
  const TemporaryFolder folder;
  EXPECT_EQ(*UnreadableCommits(folder / "log"), 0u);
  std::ofstream(folder / "log") << "begun";
  EXPECT_EQ(*UnreadableCommits(folder / "log"), 0u);
}

TEST(LogTail, OneThatCannotBeReadSaysSo) {
  const TemporaryFolder folder;
  std::filesystem::create_symlink("elsewhere", folder / "link");
  EXPECT_EQ(UnreadableCommits(folder / "link").status().code(), absl::StatusCode::kUnavailable)
      << "never through links";
  EXPECT_EQ(UnreadableCommits(folder / "").status().code(), absl::StatusCode::kUnavailable) << "a folder";
}

}  // namespace
}  // namespace eventvirtual
