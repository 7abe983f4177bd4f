// A log whose reader is a test, or nobody.
#include "server/log/logger.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(20);

class Log : public testing::Test {
 protected:
  Log() {
    signal(SIGPIPE, SIG_IGN);
    EV_CHECK(pipe2(pipe_, O_CLOEXEC) == 0);
    fcntl(pipe_[1], F_SETPIPE_SZ, 4096);
    logger_ = std::make_unique<Logger>(pipe_[1], LogFormat::kText);
  }
  ~Log() override {
    logger_.reset();
    close(pipe_[1]);
    if (pipe_[0] >= 0) close(pipe_[0]);
  }

  // Reads until `count` lines are there.
  const std::vector<std::string>& Read(size_t count) {
    while (lines_.size() < count) ReadSome();
    return lines_;
  }
  // Reads until so many lines are there or counted as lost; gives how many are lost.
  size_t ReadAccounts(size_t count) {
    size_t lost = 0;
    for (size_t seen = 0; seen + lost < count + tellings_; ++seen) {
      const std::string& line = Read(seen + 1)[seen];
      const std::vector<std::string> parts = absl::StrSplit(line, " lost=");
      size_t more = 0;
      if (parts.size() != 2 || !absl::SimpleAtoi(parts[1], &more)) continue;
      lost += more;
      ++tellings_;
    }
    return lost;
  }
  // So that nothing is left out.
  static std::string Other(int i) { return absl::StrCat("number ", i); }
  void FillQueue() {
    for (int i = 0; i < 3; ++i) {
      for (int k = 0; k < 400; ++k) {
        logger_->Log(LogLevel::kInfo, Other(k), {{"text", std::string(kMaxLogText, 'x')}});
      }
    }
  }

  void ReadSome() {
    char bytes[4096];
    const ssize_t got = read(pipe_[0], bytes, sizeof(bytes));
    EV_CHECK(got > 0);
    for (const char c : absl::string_view(bytes, static_cast<size_t>(got))) {
      if (c == '\n') {
        lines_.push_back(std::exchange(partial_, ""));
      } else {
        partial_.push_back(c);
      }
    }
  }

  int pipe_[2];
  std::vector<std::string> lines_;
  std::string partial_;
  size_t tellings_ = 0;  // lines that say how many are lost
  std::unique_ptr<Logger> logger_;
};

TEST_F(Log, LinesArriveInTheirOrder) {
  for (int i = 0; i < 100; ++i) logger_->Log(LogLevel::kInfo, Other(i), {});
  const std::vector<std::string> lines = Read(100);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(absl::EndsWith(lines[i], absl::StrCat("msg=\"number ", i, "\"")));
  EXPECT_TRUE(logger_->Flush(kPatience));
}

TEST_F(Log, WhereNobodyReadsNobodyWaitsAndLaterALineSaysHowManyAreLost) {
  FillQueue();
  EXPECT_FALSE(logger_->Flush(absl::Milliseconds(1)));
  const size_t lost = ReadAccounts(1200);
  EXPECT_THAT(lines_, Contains(HasSubstr("level=warning msg=\"lines of the log were lost: nobody took them\" lost=")));
  const size_t held = Logger::kQueueBytes / kMaxLogText;
  EXPECT_GT(1200 - lost, held * 9 / 10);
  EXPECT_LT(1200 - lost, held + 10);
  EXPECT_TRUE(logger_->Flush(kPatience));
  logger_->Log(LogLevel::kInfo, "after", {});
  EXPECT_THAT(Read(lines_.size() + 1).back(), HasSubstr("msg=after"));
}

TEST_F(Log, ManyThreadsLogWhileNobodyReadsAndEachLineIsThereOrCounted) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < 500; ++i) {
        logger_->Log(LogLevel::kInfo, absl::StrCat(t, " ", i / 10), {{"text", std::string(kMaxLogText, 'x')}});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(ReadAccounts(2000), 0u);
}

TEST_F(Log, EndsWhileNobodyReads) {
  FillQueue();
  logger_.reset();  // returns: the test would never end otherwise
}

TEST_F(Log, AReaderThatHasGoneIsOutlivedAndWhatHeMissedIsCounted) {
  close(std::exchange(pipe_[0], -1));
  for (int i = 0; i < 50; ++i) logger_->Log(LogLevel::kInfo, Other(i), {});
  EXPECT_TRUE(logger_->Flush(kPatience));
  // Somebody opens it again, as a log that is a FIFO allows.
  pipe_[0] = open(absl::StrCat("/proc/self/fd/", pipe_[1]).c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(pipe_[0], 0);
  logger_->Log(LogLevel::kInfo, "again", {});
  EXPECT_THAT(Read(2), ElementsAre(HasSubstr(" lost=50"), HasSubstr("msg=again")));
}

TEST_F(Log, OfTheSameMessageAboutTheSameThingTenAreWrittenAndTheLastOfTheOthersAtTheEnd) {
  fcntl(pipe_[1], F_SETPIPE_SZ, 1 << 16);  // all of it
  for (int i = 0; i < 20; ++i) {
    logger_->Log(LogLevel::kInfo, "fails", {{"uri", "tcp:a:1"}, {"i", i}});
    logger_->Log(LogLevel::kInfo, "fails", {{"uri", "tcp:b:1"}, {"i", i}});
  }
  EXPECT_TRUE(logger_->Flush(kPatience));
  const std::vector<std::string> lines = Read(22);
  EXPECT_THAT(lines[19], HasSubstr("uri=tcp:b:1 i=9"));
  EXPECT_THAT(lines[20], HasSubstr("uri=tcp:a:1 i=19 left_out=9"));
  EXPECT_THAT(lines[21], HasSubstr("uri=tcp:b:1 i=19 left_out=9"));
}

TEST_F(Log, ALineLongerThanThePipeArrivesWhole) {
  const std::string text(kMaxLogText, 'x');
  logger_->Log(LogLevel::kInfo, "long", {{"a", text}, {"b", text}, {"c", text}, {"d", text}});
  EXPECT_THAT(Read(1), ElementsAre(HasSubstr(absl::StrCat("a=", text, " b=", text, " c=", text, " d=", text))));
}

}  // namespace
}  // namespace eventvirtual
