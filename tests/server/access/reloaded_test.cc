// Files that change while they are in force.
#include "server/access/reloaded.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/transports/io/temporary_folder.h"

namespace eventvirtual {
namespace {

using testing::HasSubstr;

// Two files that belong together: "1" and "1", never "1" and "2".
class ReloadedTest : public testing::Test {
 protected:
  using Pair = Reloaded<std::string>;

  void Write(const std::string& name, const std::string& text) { std::ofstream(folder_ / name) << text; }
  absl::StatusOr<std::shared_ptr<Pair>> Load() {
    return Pair::Load({{"--left", folder_ / "left"}, {"--right", folder_ / "right"}, {"--none", ""}},
                      [](const std::vector<std::string>& contents) -> absl::StatusOr<std::string> {
                        if (contents[0] == contents[1] && contents[2].empty()) return contents[0];
                        return absl::InvalidArgumentError("they do not belong together");
                      });
  }

  TemporaryFolder folder_;
};

TEST_F(ReloadedTest, APairThatDoesNotBelongTogetherNeverReplacesOneThatDoes) {
  Write("left", "1");
  Write("right", "1");
  const auto pair = Load();
  ASSERT_TRUE(pair.ok()) << pair.status();
  EXPECT_EQ(*(*pair)->Current(), "1");

  Write("left", "2");
  (*pair)->Look();
  EXPECT_EQ(*(*pair)->Current(), "1");
  EXPECT_TRUE((*pair)->failing());
  EXPECT_EQ((*pair)->changes(), 1u);

  Write("right", "2");
  (*pair)->Look();
  EXPECT_EQ(*(*pair)->Current(), "2");
  EXPECT_FALSE((*pair)->failing());
  EXPECT_EQ((*pair)->changes(), 2u);
}

TEST_F(ReloadedTest, AFileThatIsGoneChangesNothingAndOneThatComesBackIsNoChange) {
  Write("left", "1");
  Write("right", "1");
  const auto pair = Load();
  ASSERT_TRUE(pair.ok()) << pair.status();
  std::filesystem::remove(folder_ / "left");
  (*pair)->Look();
  EXPECT_TRUE((*pair)->failing());
  EXPECT_EQ(*(*pair)->Current(), "1");
  Write("left", "1");
  (*pair)->Look();
  EXPECT_FALSE((*pair)->failing());
  EXPECT_EQ((*pair)->changes(), 1u);
}

TEST_F(ReloadedTest, WhatCannotBeReadIsNamed) {
  Write("left", "1");
  EXPECT_THAT(std::string(Load().status().message()),
              HasSubstr(absl::StrCat("--right: \"", folder_ / "right", "\": No such file")));
  std::filesystem::create_directory(folder_ / "right");
  EXPECT_THAT(std::string(Load().status().message()), HasSubstr("no file of at most 1048576 bytes"));
  std::filesystem::remove(folder_ / "right");
  Write("right", std::string((1 << 20) + 1, 'x'));
  EXPECT_THAT(std::string(Load().status().message()), HasSubstr("no file of at most 1048576 bytes"));
}

}  // namespace
}  // namespace eventvirtual
