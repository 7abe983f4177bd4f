#include "transports/flatstore/flat_file.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/flatstore/flat_directory.h"
#include "tests/transports/flatstore/system_call_faults.h"
#include "transports/api/message.h"

namespace eventvirtual {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const absl::Time kNoon = absl::FromUnixSeconds(1800000000);  // a multiple of an hour

std::string Text(const absl::Status& status) { return std::string(status.message()); }

MessageRef Event(absl::string_view value) {
  const Param param{"value", value};
  return Message::Make({.name = "E", .params = absl::MakeConstSpan(&param, 1)});
}

std::vector<MessageRef> Events(int from, int to, absl::string_view padding = "") {
  std::vector<MessageRef> events;
  for (int i = from; i < to; ++i) events.push_back(Event(absl::StrCat(i, padding)));
  return events;
}

// The numbers from..to as lines "E,n", in order, whole.
void ExpectNumbers(const std::vector<std::string>& lines, int from, int to) {
  ASSERT_EQ(lines.size(), static_cast<size_t>(to - from));
  for (int i = from; i < to; ++i) ASSERT_EQ(lines[i - from], absl::StrCat("E,", i));
}

struct FileSizeLimit {
  explicit FileSizeLimit(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    const rlimit limit{bytes, before.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before); }
  rlimit before;
};

// What `append` gives while the system call `number` fails with `error`.
template <typename F>
FlatFile::Appended WhileFailing(int number, int error, F append) {
  FlatFile::Appended appended;
  std::thread([&] {
    FailSystemCall(number, error);
    appended = append();
  }).join();
  return appended;
}

class FlatFileTest : public testing::Test {
 protected:
  FlatFileOptions Options() { return {.path = directory_.Path("f")}; }

  void Append(FlatFile& file, const std::vector<MessageRef>& events, absl::Time now = kNoon) {
    const FlatFile::Appended appended = file.Append(events, now);
    EXPECT_TRUE(appended.why.ok()) << appended.why;
    EXPECT_EQ(appended.lines, events.size());
  }

  FlatDirectory directory_;
};

TEST_F(FlatFileTest, AppendsToWhatIsThere) {
  directory_.Write("f", "old\n");
  FlatFile file(Options());
  ASSERT_TRUE(file.Open(kNoon).ok());
  Append(file, {Event("a"), Event("b")});
  Append(file, {Event("c")});
  EXPECT_EQ(directory_.Read("f"), "old\nE,a\nE,b\nE,c\n");
  EXPECT_TRUE(directory_.IsOpen("f"));
}

TEST_F(FlatFileTest, CreatesTheFileWithItsPermissions) {
  const mode_t umask_before = umask(0);
  FlatFileOptions options = Options();
  options.permissions = 0640;
  FlatFile file(options);
  ASSERT_TRUE(file.Open(kNoon).ok());
  umask(umask_before);
  struct stat st;
  ASSERT_EQ(stat(options.path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0640u);
}

TEST_F(FlatFileTest, SaysWhyItCannotBeOpened) {
  ASSERT_EQ(mkfifo(directory_.Path("fifo").c_str(), 0600), 0);
  directory_.Write("file", "x\n");
  ASSERT_EQ(symlink(directory_.Path("file").c_str(), directory_.Path("link").c_str()), 0);
  ASSERT_EQ(symlink(directory_.Path("nowhere").c_str(), directory_.Path("dangling").c_str()), 0);
  const struct {
    std::string path;
    absl::StatusCode code;
    const char* why;
  } kCases[] = {
      {directory_.Path("missing/f"), absl::StatusCode::kNotFound, "create its directory"},
      {directory_.Path(""), absl::StatusCode::kFailedPrecondition, "name a file in it"},
      {directory_.Path("fifo"), absl::StatusCode::kFailedPrecondition, "name a regular file"},
      {"/dev/null", absl::StatusCode::kFailedPrecondition, "name a regular file"},
      {directory_.Path("link"), absl::StatusCode::kFailedPrecondition, "name the file it points to"},
      {directory_.Path("dangling"), absl::StatusCode::kFailedPrecondition, "name the file it points to"},
      {directory_.Path("file/f"), absl::StatusCode::kFailedPrecondition, "is not a directory"},
      {directory_.Path(std::string(300, 'n')), absl::StatusCode::kFailedPrecondition, "ame too long"},
  };
  for (const auto& test : kCases) {
    FlatFile file({.path = test.path});
    const absl::Status status = file.Open(kNoon);
    EXPECT_EQ(status.code(), test.code) << test.path << ": " << status;
    EXPECT_THAT(Text(status), HasSubstr(test.path));
    EXPECT_THAT(Text(status), HasSubstr(test.why));
  }
}

TEST_F(FlatFileTest, SaysThatPermissionIsDenied) {
  directory_.Write("f", "x\n");
  ASSERT_EQ(chmod(directory_.Path("f").c_str(), 0), 0);
  ASSERT_EQ(mkdir(directory_.Path("d").c_str(), 0500), 0);
  absl::Status existing, created;
  std::thread([&] {  // without root's capability to pass over permissions, which stays with the thread
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    const __user_cap_data_struct none[2] = {};
    ASSERT_EQ(syscall(SYS_capset, &header, none), 0);
    existing = FlatFile(Options()).Open(kNoon);
    created = FlatFile({.path = directory_.Path("d/f")}).Open(kNoon);
  })
      .join();
  EXPECT_EQ(existing.code(), absl::StatusCode::kPermissionDenied) << existing;
  EXPECT_THAT(Text(existing), HasSubstr(directory_.Path("f")));
  EXPECT_EQ(created.code(), absl::StatusCode::kPermissionDenied) << created;
}

TEST_F(FlatFileTest, EndsALineThatACrashHasTorn) {
  directory_.Write("f", "E,whole\nE,to");
  FlatFile file(Options());
  Append(file, {Event("a")});
  Append(file, {Event("b")});
  EXPECT_EQ(directory_.Read("f"), "E,whole\nE,to\nE,a\nE,b\n");
}

TEST_F(FlatFileTest, FollowsAnOperatorsRename) {
  FlatFile file(Options());
  Append(file, {Event("a")});
  ASSERT_EQ(rename(directory_.Path("f").c_str(), directory_.Path("f.1").c_str()), 0);
  Append(file, {Event("b")});
  EXPECT_EQ(directory_.Read("f.1"), "E,a\n");
  EXPECT_EQ(directory_.Read("f"), "E,b\n");
}

TEST_F(FlatFileTest, FollowsAnOperatorsDelete) {
  FlatFile file(Options());
  Append(file, {Event("a")});
  ASSERT_EQ(unlink(directory_.Path("f").c_str()), 0);
  Append(file, {Event("b")});
  EXPECT_EQ(directory_.Read("f"), "E,b\n");
}

TEST_F(FlatFileTest, WritesAgainWhatHitAFileThatIsDeletedAtThatMoment) {
  FlatFileOptions options = Options();
  options.sync = true;
  FlatFile file(options);
  Append(file, Events(0, 1));
  std::promise<std::unique_ptr<HeldSystemCall>> holding;
  std::future<FlatFile::Appended> appended = std::async(std::launch::async, [&] {
    holding.set_value(std::make_unique<HeldSystemCall>(SYS_fdatasync));
    return file.Append(Events(1, 3), kNoon);
  });
  const std::unique_ptr<HeldSystemCall> sync = holding.get_future().get();
  sync->Await();  // the lines are written
  EXPECT_EQ(unlink(directory_.Path("f").c_str()), 0);
  sync->Continue();
  sync->Await();  // once more, to the new file
  sync->Continue();
  EXPECT_EQ(appended.get().lines, 2u);
  EXPECT_EQ(directory_.Read("f"), "E,1\nE,2\n");
}

TEST_F(FlatFileTest, FollowsAnOperatorsTruncate) {  // logrotate's copytruncate
  FlatFile file(Options());
  Append(file, {Event("a")});
  ASSERT_EQ(truncate(directory_.Path("f").c_str(), 0), 0);
  Append(file, {Event("b")});
  EXPECT_EQ(directory_.Read("f"), "E,b\n");
}

TEST_F(FlatFileTest, SaysThatItsDirectoryHasGoneAndGoesOnWhenItIsBack) {
  ASSERT_EQ(mkdir(directory_.Path("d").c_str(), 0755), 0);
  FlatFile file({.path = directory_.Path("d/f")});
  Append(file, {Event("a")});
  std::filesystem::remove_all(directory_.Path("d"));
  const FlatFile::Appended lost = file.Append({Event("b")}, kNoon);
  EXPECT_EQ(lost.lines, 0u);
  EXPECT_TRUE(lost.unopenable);
  EXPECT_EQ(lost.why.code(), absl::StatusCode::kNotFound);
  ASSERT_EQ(mkdir(directory_.Path("d").c_str(), 0755), 0);
  Append(file, {Event("c")});
  EXPECT_EQ(directory_.Read("d/f"), "E,c\n");
}

TEST_F(FlatFileTest, DoesNotFollowASymbolicLinkThatTakesItsPlace) {
  FlatFile file(Options());
  Append(file, {Event("a")});
  directory_.Write("secret", "x\n");
  ASSERT_EQ(unlink(directory_.Path("f").c_str()), 0);
  ASSERT_EQ(symlink(directory_.Path("secret").c_str(), directory_.Path("f").c_str()), 0);
  const FlatFile::Appended lost = file.Append({Event("b")}, kNoon);
  EXPECT_TRUE(lost.unopenable);
  EXPECT_EQ(lost.why.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(directory_.Read("secret"), "x\n");
}

TEST_F(FlatFileTest, RotatesOnceTheFileHasItsSize) {
  FlatFileOptions options = Options();
  options.rotate_size = 8;  // two lines
  {
    FlatFile file(options);
    Append(file, Events(0, 3));
  }
  FlatFile file(options);  // what is in the file counts after a restart too
  Append(file, Events(3, 5), kNoon + absl::Seconds(1));
  EXPECT_THAT(directory_.Names(), ElementsAre("f", "f.20270115T080000.000000Z", "f.20270115T080001.000000Z"));
  EXPECT_EQ(directory_.Read("f.20270115T080000.000000Z"), "E,0\nE,1\n");
  EXPECT_EQ(directory_.Read("f.20270115T080001.000000Z"), "E,2\nE,3\n");
  EXPECT_EQ(directory_.Read("f"), "E,4\n");
}

TEST_F(FlatFileTest, RotatesAfterItsNumberOfLines) {
  FlatFileOptions options = Options();
  options.rotate_count = 3;
  FlatFile file(options);
  Append(file, Events(0, 10));
  EXPECT_EQ(directory_.Names().size(), 4u);  // 3 + 3 + 3 + 1, though all in the same microsecond
  EXPECT_EQ(directory_.Read("f"), "E,9\n");
  ExpectNumbers(directory_.Lines("f"), 0, 10);
}

TEST_F(FlatFileTest, RotatesWhenTheClockPassesAMultipleOfThePeriod) {
  FlatFileOptions options = Options();
  options.rotate_period = absl::Hours(1);
  FlatFile file(options);
  Append(file, {Event("a")}, kNoon - absl::Seconds(1));
  Append(file, {Event("b")}, kNoon);
  Append(file, {Event("c")}, kNoon + absl::Minutes(59));
  Append(file, {Event("d")}, kNoon + absl::Hours(5));
  EXPECT_THAT(directory_.Lines("f"), ElementsAre("E,a", "E,b", "E,c", "E,d"));
  EXPECT_EQ(directory_.Read("f.20270115T080000.000000Z"), "E,a\n");
  EXPECT_EQ(directory_.Read("f.20270115T130000.000000Z"), "E,b\nE,c\n");
  EXPECT_EQ(directory_.Read("f"), "E,d\n");
}

TEST_F(FlatFileTest, RotatesAFileThatARestartFindsFromAnEarlierPeriod) {
  directory_.Write("f", "E,a\n");
  const struct timespec times[2] = {absl::ToTimespec(kNoon - absl::Hours(2)), absl::ToTimespec(kNoon - absl::Hours(2))};
  ASSERT_EQ(utimensat(AT_FDCWD, directory_.Path("f").c_str(), times, 0), 0);
  FlatFileOptions options = Options();
  options.rotate_period = absl::Hours(1);
  FlatFile file(options);
  ASSERT_TRUE(file.Open(kNoon).ok());
  Append(file, {Event("b")});
  EXPECT_EQ(directory_.Read("f"), "E,b\n");
  EXPECT_THAT(directory_.Lines("f"), ElementsAre("E,a", "E,b"));
}

TEST_F(FlatFileTest, ASuffixThatChangesNamesTheNextFile) {
  setenv("TZ", "UTC", 1);
  FlatFileOptions options = Options();
  options.suffix = ".$time(%Y-%m-%d_%H)h.log";
  options.rotate_period = absl::Hours(1);
  FlatFile file(options);
  Append(file, {Event("a")}, kNoon);
  Append(file, {Event("b")}, kNoon + absl::Hours(1));
  const std::string first = absl::StrCat("f", ExpandSuffix(options.suffix, kNoon));
  const std::string second = absl::StrCat("f", ExpandSuffix(options.suffix, kNoon + absl::Hours(1)));
  EXPECT_THAT(directory_.Names(), ElementsAre(first, second));
  EXPECT_EQ(directory_.Read(first), "E,a\n");
  EXPECT_EQ(directory_.Read(second), "E,b\n");
  EXPECT_THAT(first, testing::MatchesRegex("f\\.2027-01-15_[0-9][0-9]h\\.log"));
}

TEST(FlatSuffix, RefusesWhatItCannotReplace) {
  for (const char* good : {"", ".log", ".$time(%Y)", "-$time(%F-%H%M%S)-$time(%s).csv", "$time(%%)"}) {
    EXPECT_TRUE(CheckSuffix(good).ok()) << good;
  }
  const struct {
    const char* suffix;
    const char* why;
  } kCases[] = {
      {"$var(x)", "only $time(FORMAT) is replaced"},  {".$time(%Y", "only $time(FORMAT) is replaced"},
      {"$", "only $time(FORMAT) is replaced"},        {"/x", "must not hold '/'"},
      {"$time(%Y/%m)", "must not hold '/'"},          {"$time(%D)", "\"%D\" in $time() is not one of"},
      {"$time(%)", "\"%\" in $time() is not one of"},
  };
  for (const auto& test : kCases) {
    const absl::Status status = CheckSuffix(test.suffix);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << test.suffix;
    EXPECT_THAT(Text(status), HasSubstr(test.why));
  }
}

TEST_F(FlatFileTest, OnAFullDiskKeepsWholeLinesAndGoesOnWhenThereIsSpace) {
  ASSERT_NO_FATAL_FAILURE(directory_.MakeSmallDisk(64 << 10));
  directory_.Write("ballast", std::string(16 << 10, 'x'));
  FlatFile file(Options());
  // Lines of 105 bytes: no multiple of them fills the disk, so the last write is torn.
  const std::string padding(100, '.');
  int written = 0;
  FlatFile::Appended appended;
  for (int round = 0; round < 20 && appended.why.ok(); ++round) {
    appended = file.Append(Events(written, written + 50, padding), kNoon);
    written += static_cast<int>(appended.lines);
  }
  EXPECT_EQ(appended.why.code(), absl::StatusCode::kResourceExhausted) << appended.why;
  EXPECT_FALSE(appended.unopenable);
  EXPECT_THAT(Text(appended.why), HasSubstr(directory_.Path("f")));
  EXPECT_GT(written, 400);
  EXPECT_EQ(file.Append(Events(written, written + 1, padding), kNoon).lines, 0u);  // still full

  const auto expect_all = [&] {
    const std::string text = directory_.Read("f");
    const std::vector<std::string> lines = absl::StrSplit(text, '\n');
    ASSERT_EQ(lines.size(), static_cast<size_t>(written) + 1);
    EXPECT_EQ(lines.back(), "");
    for (int i = 0; i < written; ++i) ASSERT_EQ(lines[i], absl::StrCat("E,", i, padding));
  };
  expect_all();

  ASSERT_EQ(unlink(directory_.Path("ballast").c_str()), 0);
  Append(file, Events(written, written + 20, padding));
  written += 20;
  expect_all();
}

TEST_F(FlatFileTest, AtAFileSizeLimitKeepsWholeLines) {
  FlatFile file(Options());
  ASSERT_TRUE(file.Open(kNoon).ok());
  {
    FileSizeLimit limit(10);  // two lines of four bytes, and half of the third
    const FlatFile::Appended appended = file.Append(Events(0, 5), kNoon);
    EXPECT_EQ(appended.lines, 2u);
    EXPECT_EQ(appended.why.code(), absl::StatusCode::kResourceExhausted) << appended.why;
    EXPECT_EQ(directory_.Read("f"), "E,0\nE,1\n");
  }
  Append(file, Events(2, 5));
  EXPECT_EQ(directory_.Read("f"), "E,0\nE,1\nE,2\nE,3\nE,4\n");
}

TEST_F(FlatFileTest, EndsATornLineThatItCannotCutOff) {
  FlatFile file(Options());
  ASSERT_TRUE(file.Open(kNoon).ok());
  {
    FileSizeLimit limit(10);
    const FlatFile::Appended appended =
        WhileFailing(SYS_ftruncate, EPERM, [&] { return file.Append(Events(0, 5), kNoon); });
    EXPECT_EQ(appended.lines, 2u);
    EXPECT_EQ(directory_.Read("f"), "E,0\nE,1\nE,");
  }
  Append(file, Events(2, 4));
  EXPECT_EQ(directory_.Read("f"), "E,0\nE,1\nE,\nE,2\nE,3\n");
}

TEST_F(FlatFileTest, AWriteThatFailsIsReportedAndTheNextOneReopensTheFile) {
  FlatFile file(Options());
  Append(file, Events(0, 1));
  const FlatFile::Appended appended = WhileFailing(SYS_write, EIO, [&] { return file.Append(Events(1, 3), kNoon); });
  EXPECT_EQ(appended.lines, 0u);
  EXPECT_FALSE(appended.unopenable);
  EXPECT_EQ(appended.why.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Text(appended.why), HasSubstr(directory_.Path("f")));
  EXPECT_THAT(Text(appended.why), HasSubstr("nput/output error"));
  EXPECT_FALSE(directory_.IsOpen("f"));
  Append(file, Events(3, 4));
  EXPECT_EQ(directory_.Read("f"), "E,0\nE,3\n");
}

TEST_F(FlatFileTest, ALineThatWasNotSyncedDoesNotCount) {
  FlatFileOptions options = Options();
  options.sync = true;
  FlatFile file(options);
  Append(file, Events(0, 1));
  const FlatFile::Appended appended =
      WhileFailing(SYS_fdatasync, EIO, [&] { return file.Append(Events(1, 3), kNoon); });
  EXPECT_EQ(appended.lines, 0u);
  EXPECT_EQ(appended.why.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Text(appended.why), HasSubstr("cannot sync"));
  EXPECT_FALSE(directory_.IsOpen("f"));
  Append(file, Events(3, 4));
}

TEST_F(FlatFileTest, AFileThatCannotBeRenamedGrowsOn) {
  FlatFileOptions options = Options();
  options.rotate_count = 1;
  FlatFile file(options);
  const FlatFile::Appended appended =
      WhileFailing(SYS_renameat2, EACCES, [&] { return file.Append(Events(0, 3), kNoon); });
  EXPECT_EQ(appended.lines, 3u);
  EXPECT_EQ(directory_.Read("f"), "E,0\nE,1\nE,2\n");
}

TEST_F(FlatFileTest, RotatesOnAFileSystemWithoutRenameNoReplace) {
  FlatFileOptions options = Options();
  options.rotate_count = 1;
  FlatFile file(options);
  const FlatFile::Appended appended =
      WhileFailing(SYS_renameat2, EINVAL, [&] { return file.Append(Events(0, 3), kNoon); });
  EXPECT_EQ(appended.lines, 3u);
  EXPECT_EQ(directory_.Names().size(), 3u);
  ExpectNumbers(directory_.Lines("f"), 0, 3);
}

TEST_F(FlatFileTest, SyncedLinesAreWrittenToo) {
  FlatFileOptions options = Options();
  options.sync = true;
  options.rotate_count = 2;
  FlatFile file(options);
  Append(file, Events(0, 5));
  ExpectNumbers(directory_.Lines("f"), 0, 5);
  EXPECT_EQ(directory_.Names().size(), 3u);
}

TEST_F(FlatFileTest, KeepsAHundredThousandLinesInOrderAcrossTwentyRotations) {
  FlatFileOptions options = Options();
  options.rotate_count = 10007;  // ten rotations of its own
  FlatFile file(options);
  constexpr int kLines = 100000, kBatch = 250;
  int by_operator = 0;
  for (int i = 0; i < kLines; i += kBatch) {
    if (i % 10000 == 5000) {
      // Ten by an operator, named so that they sort between the others.
      const std::string stamp =
          absl::FormatTime("f.%Y%m%dT%H%M%E6SZ", kNoon + absl::Milliseconds(i), absl::UTCTimeZone());
      ASSERT_EQ(rename(directory_.Path("f").c_str(), directory_.Path(stamp).c_str()), 0);
      ++by_operator;
    }
    Append(file, Events(i, i + kBatch), kNoon + absl::Milliseconds(i));
  }
  EXPECT_EQ(by_operator, 10);
  EXPECT_GE(directory_.Names().size(), 11u);
  ExpectNumbers(directory_.Lines("f"), 0, kLines);
}

TEST_F(FlatFileTest, TwoWritersNeverMixTheirLines) {
  constexpr int kLines = 20000;
  FlatFileOptions options = Options();
  options.rotate_size = 200000;
  pid_t children[2];
  for (int writer = 0; writer < 2; ++writer) {
    children[writer] = fork();
    ASSERT_GE(children[writer], 0);
    if (children[writer] == 0) {
      FlatFile file(options);
      const std::string tag = absl::StrCat(",", std::string(writer == 0 ? 3 : 30, writer == 0 ? 'a' : 'b'));
      for (int i = 0; i < kLines; i += 100) {
        if (file.Append(Events(i, i + 100, tag), absl::Now()).lines != 100) _exit(1);
      }
      _exit(0);
    }
  }
  for (pid_t child : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  // Both rotate, so files may overlap in time: count, and look at each line.
  int counts[2] = {0, 0};
  for (const std::string& line : directory_.Lines("f")) {
    const bool first = absl::EndsWith(line, " aaa"), second = absl::EndsWith(line, " " + std::string(30, 'b'));
    ASSERT_TRUE(first || second) << line;
    ++counts[second];
  }
  EXPECT_EQ(counts[0], kLines);
  EXPECT_EQ(counts[1], kLines);
}

TEST_F(FlatFileTest, AfterAKillInTheMiddleOfABurstNoLineIsTornInTheMiddle) {
  int acked_before = 0;
  for (int round = 0; round < 5; ++round) {
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      FlatFile file(Options());
      for (int i = 0;; i += 100) {
        if (file.Append(Events(i, i + 100), kNoon).lines != 100) _exit(1);
        if (write(pipe_ends[1], "x", 1) != 1) _exit(1);  // acknowledged
      }
    }
    close(pipe_ends[1]);
    char acked[64];
    int acks = 0;
    while (acks < 50) {
      const ssize_t got = read(pipe_ends[0], acked, sizeof(acked));
      ASSERT_GT(got, 0);
      acks += static_cast<int>(got);
    }
    kill(child, SIGKILL);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    for (ssize_t got; (got = read(pipe_ends[0], acked, sizeof(acked))) > 0;) acks += static_cast<int>(got);
    close(pipe_ends[0]);
    acked_before += acks * 100;
  }
  FlatFile file(Options());
  Append(file, {Event("end")});
  const std::vector<std::string> lines = directory_.Lines("f");
  EXPECT_GE(static_cast<int>(lines.size()), acked_before + 1);
  int expected = 0;
  for (size_t i = 0; i + 1 < lines.size(); ++i) {
    if (lines[i] == "E,0") expected = 0;  // the next round
    // A write() that was killed half-way leaves a torn line at most where its round ends.
    if (lines[i] != absl::StrCat("E,", expected)) {
      ASSERT_EQ(lines[i + 1], "E,0") << lines[i];
      continue;
    }
    ++expected;
  }
  EXPECT_EQ(lines.back(), "E,end");
}

}  // namespace
}  // namespace eventvirtual
