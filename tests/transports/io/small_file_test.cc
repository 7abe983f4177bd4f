// What is read of a file that somebody has named, and what is said of one that cannot be.
#include "transports/io/small_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/transports/io/temporary_folder.h"

namespace eventvirtual {
namespace {

class SmallFileTest : public testing::Test {
 protected:
  void Write(const std::string& text) { std::ofstream(path_, std::ios::binary) << text; }
  std::string ErrorOf(const std::string& path) {
    const absl::StatusOr<std::string> content = ReadSmallFile("--rules", path);
    EXPECT_TRUE(absl::IsUnavailable(content.status())) << content.status();
    return std::string(content.status().message());
  }

  const TemporaryFolder folder_;
  const std::string path_ = folder_ / "file";
};

TEST_F(SmallFileTest, TheWholeIsReadUpToTheLargest) {
  for (const std::string& text : {std::string(), std::string("a\0\r\n", 4), std::string(kMaxSmallFile, 'x')}) {
    Write(text);
    const absl::StatusOr<std::string> content = ReadSmallFile("--rules", path_);
    ASSERT_TRUE(content.ok()) << content.status();
    EXPECT_TRUE(*content == text) << "of " << text.size() << " bytes";
  }
}

TEST_F(SmallFileTest, WhatCannotBeReadIsNamedWithTheWayOut) {
  const std::string way_out = "; name a regular file of at most 1048576 bytes";
  EXPECT_EQ(ErrorOf(path_), absl::StrCat("--rules=", path_, ": No such file or directory"));
  Write(std::string(kMaxSmallFile + 1, 'x'));
  EXPECT_EQ(ErrorOf(path_), absl::StrCat("--rules=", path_, ": has 1048577 bytes", way_out));
  EXPECT_EQ(ErrorOf(folder_ / ""), absl::StrCat("--rules=", folder_ / "", ": is no regular file", way_out));
  EXPECT_EQ(ErrorOf("/dev/zero"), absl::StrCat("--rules=/dev/zero: is no regular file", way_out));
}

TEST_F(SmallFileTest, APipeIsNotWaitedFor) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_NE(ErrorOf(path_).find("is no regular file"), std::string::npos);
}

TEST_F(SmallFileTest, NoDescriptorIsLeftOpenWhateverBecomesOfIt) {
  const int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
  close(before);
  Write("text");
  EXPECT_TRUE(ReadSmallFile("--rules", path_).ok());
  ErrorOf(folder_ / "");
  ErrorOf("/none");
  const int after = open("/dev/null", O_RDONLY | O_CLOEXEC);
  close(after);
  EXPECT_EQ(after, before);
}

TEST_F(SmallFileTest, ADescriptorOfAnotherHasALimitAndANameOfItsOwn) {
  Write("four");
  std::string content;
  EXPECT_TRUE(ReadAndClose(open(path_.c_str(), O_RDONLY | O_CLOEXEC), 4, "the password", &content).ok());
  EXPECT_EQ(content, "four");
  EXPECT_EQ(ReadAndClose(open(path_.c_str(), O_RDONLY | O_CLOEXEC), 3, "the password", &content),
            absl::UnavailableError("the password: has 4 bytes; name a regular file of at most 3 bytes"));
  EXPECT_EQ(ReadAndClose(open("/none", O_RDONLY | O_CLOEXEC), 3, "the password", &content),
            absl::UnavailableError("the password: No such file or directory"));
}

}  // namespace
}  // namespace eventvirtual
