#include "server/log/line_limiter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace eventvirtual {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Limiter : public testing::Test {
 protected:
  static std::vector<std::string> Texts(const std::vector<LineLimiter::Line>& lines) {
    std::vector<std::string> texts;
    for (const LineLimiter::Line& line : lines) texts.push_back(absl::StrCat(line.text, " +", line.left_out));
    return texts;
  }
  std::vector<std::string> Offer(absl::string_view cause, const std::string& line) {
    return Texts(limiter_.Offer(cause, line, now_));
  }
  std::vector<std::string> DueAfter(absl::Duration duration) {
    now_ += duration;
    return Texts(limiter_.TakeDue(now_));
  }

  absl::Time now_ = absl::FromUnixSeconds(1000);
  LineLimiter limiter_;
};

TEST_F(Limiter, TheFirstPassAndTheLastOfTheOthersComesAtTheEndWithTheirNumber) {
  for (int i = 0; i < LineLimiter::kPerTurn; ++i) EXPECT_THAT(Offer("c", absl::StrCat(i)), SizeIs(1));
  for (int i = 0; i < 5; ++i) EXPECT_THAT(Offer("c", absl::StrCat("late ", i)), IsEmpty());
  EXPECT_EQ(limiter_.next_due(), now_ + LineLimiter::kTurn);
  EXPECT_THAT(DueAfter(LineLimiter::kTurn - absl::Milliseconds(1)), IsEmpty());
  EXPECT_THAT(DueAfter(absl::Milliseconds(1)), ElementsAre("late 4 +4"));
  EXPECT_EQ(limiter_.next_due(), absl::InfiniteFuture());
  EXPECT_THAT(Offer("c", "next turn"), ElementsAre("next turn +0"));
}

TEST_F(Limiter, ALineOfTheNextTurnComesBehindWhatWasKept) {
  for (int i = 0; i < LineLimiter::kPerTurn + 1; ++i) Offer("c", "line");
  now_ += LineLimiter::kTurn;
  EXPECT_THAT(Offer("c", "new"), ElementsAre("line +0", "new +0"));
}

TEST_F(Limiter, OneCauseTakesNothingFromAnother) {
  for (int i = 0; i < 100; ++i) Offer("a", "line");
  EXPECT_THAT(Offer("b", "other"), ElementsAre("other +0"));
}

TEST_F(Limiter, ATurnBeginsWithItsFirstLine) {
  Offer("a", "line");
  now_ += LineLimiter::kTurn * 0.9;
  for (int i = 0; i < 20; ++i) Offer("b", "line");
  EXPECT_THAT(DueAfter(LineLimiter::kTurn * 0.5), IsEmpty());
  EXPECT_THAT(DueAfter(LineLimiter::kTurn * 0.5), ElementsAre("line +9"));
}

TEST_F(Limiter, BeyondSoManyCausesTheOthersAreOne) {
  size_t passed = 0;
  for (size_t i = 0; i < 3 * LineLimiter::kMaxCauses; ++i) passed += Offer(absl::StrCat("cause ", i), "line").size();
  EXPECT_EQ(passed, LineLimiter::kMaxCauses + LineLimiter::kPerTurn);
  EXPECT_THAT(Offer("cause 0", "known"), SizeIs(1));
  EXPECT_THAT(DueAfter(LineLimiter::kTurn),
              ElementsAre(absl::StrCat("line +", 2 * LineLimiter::kMaxCauses - LineLimiter::kPerTurn - 1)));
  EXPECT_THAT(Offer("cause 2999", "line"), SizeIs(1));
}

TEST_F(Limiter, AllThatIsKeptCanBeTakenAtOnce) {
  for (int i = 0; i < 20; ++i) Offer("a", "a"), Offer("b", "b");
  EXPECT_THAT(Texts(limiter_.TakeDue(absl::InfiniteFuture())), ElementsAre("a +9", "b +9"));
}

}  // namespace
}  // namespace eventvirtual
