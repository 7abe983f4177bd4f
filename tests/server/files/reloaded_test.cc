// Files that change while they are in force. Time stands still: each Look() is a tick of the one period, or a SIGHUP.
#include "server/files/reloaded.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/access/access.h"
#include "server/access/certificates.h"
#include "server/destinations/destinations.h"
#include "tests/transports/io/server_process.h"
#include "tests/transports/io/temporary_folder.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ReloadedTest : public testing::Test {
 protected:
  void Write(const std::string& name, const std::string& text) { std::ofstream(folder_ / name) << text; }
  void Copy(const std::string& from, const std::string& to) {
    std::filesystem::copy_file(folder_ / from, folder_ / to, std::filesystem::copy_options::overwrite_existing);
  }
  // Whether something else is in force afterwards.
  static bool Look(ReloadedFiles& files, bool at_once) {
    const uint64_t before = files.changes();
    files.Look(at_once);
    return files.changes() != before;
  }
  static bool Tick(ReloadedFiles& files) { return Look(files, false); }
  static bool Hangup(ReloadedFiles& files) { return Look(files, true); }
  // A change is there, and the time passes until it counts.
  static bool Settle(ReloadedFiles& files) {
    EXPECT_FALSE(Tick(files)) << "at first sight";
    return Tick(files);
  }

  // Two files that belong together: "1" and "1", never "1" and "2".
  using Pair = Reloaded<std::string>;
  absl::StatusOr<std::shared_ptr<Pair>> LoadPair() {
    return Pair::Load("pair", {{"--left", folder_ / "left"}, {"--right", folder_ / "right"}, {"--none", ""}},
                      [](const std::vector<std::string>& contents) -> absl::StatusOr<std::string> {
                        if (contents[0] == contents[1] && contents[2].empty()) return contents[0];
                        return absl::InvalidArgumentError("they do not belong together");
                      });
  }
  std::shared_ptr<Pair> PairOfOnes() {
    Write("left", "1");
    Write("right", "1");
    auto pair = LoadPair();
    EXPECT_TRUE(pair.ok()) << pair.status();
    return *std::move(pair);
  }

  TemporaryFolder folder_;
};

TEST_F(ReloadedTest, APairThatDoesNotBelongTogetherNeverReplacesOneThatDoes) {
  const auto pair = PairOfOnes();
  EXPECT_EQ(*pair->Current(), "1");
  EXPECT_EQ(pair->changes(), 1u);

  Write("left", "2");
  EXPECT_FALSE(Settle(*pair));
  EXPECT_EQ(*pair->Current(), "1");
  EXPECT_TRUE(pair->failing());
  EXPECT_EQ(pair->changes(), 1u);

  Write("right", "2");
  EXPECT_TRUE(Settle(*pair));
  EXPECT_EQ(*pair->Current(), "2");
  EXPECT_FALSE(pair->failing());
  EXPECT_EQ(pair->changes(), 2u);
}

TEST_F(ReloadedTest, OneWhoIsStillWritingIsLeftToFinishAndIsNotToldOff) {
  const auto pair = PairOfOnes();
  testing::internal::CaptureStderr();
  Write("left", "");
  EXPECT_FALSE(Tick(*pair));
  Write("left", "2");
  EXPECT_FALSE(Tick(*pair));
  Write("right", "2");
  EXPECT_FALSE(Tick(*pair));
  EXPECT_FALSE(pair->failing());
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_TRUE(Tick(*pair));
  EXPECT_EQ(*pair->Current(), "2");
}

TEST_F(ReloadedTest, WhoSendsSighupDoesNotWait) {
  const auto pair = PairOfOnes();
  Write("left", "2");
  Write("right", "2");
  EXPECT_TRUE(Hangup(*pair));
  EXPECT_EQ(*pair->Current(), "2");
  Write("right", "3");
  EXPECT_FALSE(Hangup(*pair));
  EXPECT_TRUE(pair->failing());
  EXPECT_EQ(*pair->Current(), "2");
}

TEST_F(ReloadedTest, EachChangeIsToldOnceHoweverOftenItIsLookedAt) {
  const auto pair = PairOfOnes();
  const auto told = [&] {
    testing::internal::CaptureStderr();
    for (int i = 0; i < 5; ++i) Tick(*pair);
    Hangup(*pair);
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_LE(std::count(log.begin(), log.end(), '\n'), 1) << log;
    return log;
  };
  EXPECT_EQ(told(), "");
  Write("left", "2");
  EXPECT_THAT(told(), AllOf(HasSubstr("what was read before stays in force"), HasSubstr("files=pair"),
                            HasSubstr("they do not belong together")));
  Write("left", "3");
  EXPECT_THAT(told(), HasSubstr("they do not belong together")) << "wrong again, in another way";
  Write("left", "1");
  EXPECT_THAT(told(), AllOf(HasSubstr("read again"), HasSubstr("files=pair"))) << "all is well again";
}

TEST_F(ReloadedTest, AFileThatIsGoneChangesNothing) {
  const auto pair = PairOfOnes();
  std::filesystem::remove(folder_ / "left");
  EXPECT_FALSE(Settle(*pair));
  EXPECT_TRUE(pair->failing());
  EXPECT_EQ(*pair->Current(), "1");
  Write("left", "1");
  EXPECT_TRUE(Settle(*pair));
  EXPECT_FALSE(pair->failing());
}

TEST_F(ReloadedTest, AFileBehindALinkIsSeenWhenTheLinkIsTurnedElsewhere) {
  Write("old", "1");
  Write("new", "2");
  Write("right", "1");
  std::filesystem::create_symlink("old", folder_ / "left");
  const auto pair = LoadPair();
  ASSERT_TRUE(pair.ok()) << pair.status();
  std::filesystem::create_symlink("new", folder_ / "next");
  std::filesystem::rename(folder_ / "next", folder_ / "left");
  Write("right", "2");
  EXPECT_TRUE(Settle(**pair));
  EXPECT_EQ(*(*pair)->Current(), "2");
}

TEST_F(ReloadedTest, WhoCannotAskEachTimeIsGivenWhatIsInForceAndNothingElse) {
  const auto pair = PairOfOnes();
  std::vector<std::string> given;
  pair->PutInto([&given](std::shared_ptr<const std::string> value) { given.push_back(*value); });
  EXPECT_THAT(given, testing::ElementsAre("1"));
  Write("left", "2");
  Hangup(*pair);
  EXPECT_THAT(given, testing::ElementsAre("1"));
  Write("right", "2");
  Hangup(*pair);
  EXPECT_THAT(given, testing::ElementsAre("1", "2"));
}

TEST_F(ReloadedTest, AStartWithWhatCannotBeReadOrTakenFailsAndNamesIt) {
  Write("left", "1");
  EXPECT_THAT(std::string(LoadPair().status().message()),
              HasSubstr(absl::StrCat("--right=", folder_ / "right", ": No such file")));
  Write("right", "2");
  EXPECT_EQ(LoadPair().status(), absl::InvalidArgumentError("they do not belong together"));
}

// The kinds of files. What is in them is for their own tests.

TEST_F(ReloadedTest, HalfOfAnAccessListGivesNobodyMore) {
  Write("access", "loopback producer E_PIKE_*\n");
  const auto access = Access::Load(folder_ / "access", "");
  ASSERT_TRUE(access.ok()) << access.status();
  const std::string event = "E_CDR";
  const auto may_raise = [&] { return (*access)->Ask({}, "", "test", "Raise", {Role::kProducer}, &event).ok(); };
  EXPECT_FALSE(may_raise());
  Write("access", "loopback producer");  // one is writing
  Tick((*access)->files());
  EXPECT_FALSE(may_raise());
  Write("access", "loopback producer E_UL_*\n");
  EXPECT_TRUE(Settle((*access)->files()));
  EXPECT_FALSE(may_raise());
  Write("access", "loopback king\n");
  EXPECT_FALSE(Settle((*access)->files()));
  EXPECT_TRUE((*access)->files().failing());
  Write("access", "loopback producer E_*\n");
  EXPECT_TRUE(Settle((*access)->files()));
  EXPECT_TRUE(may_raise());
}

TEST_F(ReloadedTest, ATokenThatIsTakenOutIsWorthNothing) {
  // printf %s token | sha256sum
  const std::string line = "idle 3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0\n";
  Write("access", "token:idle observer\n");
  Write("tokens", line);
  const auto access = Access::Load(folder_ / "access", folder_ / "tokens");
  ASSERT_TRUE(access.ok()) << access.status();
  const auto may = [&] { return (*access)->Ask({}, "Bearer token", "test", "ListEvents", {Role::kObserver}).ok(); };
  EXPECT_TRUE(may());
  testing::internal::CaptureStderr();
  Write("tokens", "idle token\n");
  EXPECT_FALSE(Settle((*access)->files()));
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr(absl::StrCat("--tokens=", folder_ / "tokens", ": line 1: ")),
                    testing::Not(HasSubstr("idle token"))));
  EXPECT_TRUE(may());
  Write("tokens", "# nobody\n");
  EXPECT_TRUE(Settle((*access)->files()));
  EXPECT_FALSE(may());
}

TEST_F(ReloadedTest, ACertificateIsTakenWithItsKeyAndNotBefore) {
  MakeCertificates(folder_);
  Copy("server.pem", "cert");
  Copy("server.key", "key");
  const auto tls = LoadCertificates(folder_ / "cert", folder_ / "key", folder_ / "ca.pem");
  ASSERT_TRUE(tls.ok()) << tls.status();
  const std::string before = (*tls)->Current()->cert;
  Copy("client.pem", "cert");
  testing::internal::CaptureStderr();
  EXPECT_FALSE(Settle(**tls));
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr(absl::StrCat("--tls_key=", folder_ / "key", ": is not the key of the first certificate")));
  EXPECT_TRUE((*tls)->failing());
  EXPECT_EQ((*tls)->Current()->cert, before);
  Copy("client.key", "key");
  EXPECT_TRUE(Settle(**tls));
  EXPECT_NE((*tls)->Current()->cert, before);
  Write("ca.pem", "");
  EXPECT_FALSE(Settle(**tls)) << "else everybody would be let in";
  EXPECT_FALSE((*tls)->Current()->client_ca.empty());
}

TEST_F(ReloadedTest, DestinationsComeWithTheDirectoriesOfOptionsEachTime) {
  Write("rules", "directory /var/log/one\n");
  const auto destinations = LoadDestinations(folder_ / "rules", {"/var/spool/ours"}, "/var/lib/data");
  ASSERT_TRUE(destinations.ok()) << destinations.status();
  using testing::ElementsAre;
  EXPECT_THAT((*destinations)->Current()->directories(),
              ElementsAre("/var/log/one", "/var/spool/ours", "/var/lib/data"));
  Write("rules", "network 10.0.0.0/99\n");
  testing::internal::CaptureStderr();
  EXPECT_FALSE(Settle(**destinations));
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr(absl::StrCat("--destinations=", folder_ / "rules", ": line 1: ")));
  EXPECT_THAT((*destinations)->Current()->directories(),
              ElementsAre("/var/log/one", "/var/spool/ours", "/var/lib/data"));
  Write("rules", "");
  EXPECT_TRUE(Settle(**destinations));
  EXPECT_THAT((*destinations)->Current()->directories(), ElementsAre("/var/spool/ours", "/var/lib/data"));
}

TEST_F(ReloadedTest, WithoutAFileOfDestinationsThereIsTheDefaultAndEachOptionIsNamedByItself) {
  const auto destinations = LoadDestinations("", {}, "relative");
  ASSERT_TRUE(destinations.ok()) << destinations.status();
  EXPECT_TRUE((*destinations)->Current()->directories().empty());
  EXPECT_FALSE(Hangup(**destinations));
  EXPECT_THAT(std::string(LoadDestinations("", {"tmp"}, "").status().message()),
              HasSubstr("--allow_directory: \"tmp\""));
  EXPECT_THAT(std::string(LoadDestinations("", {}, "/a/..").status().message()), HasSubstr("--data_dir: \"/a/..\""));
}

}  // namespace
}  // namespace eventvirtual
