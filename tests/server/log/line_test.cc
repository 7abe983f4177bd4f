#include "server/log/line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <string>

#include "absl/strings/match.h"

namespace eventvirtual {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kTime = absl::FromUnixMillis(1764100000123);

std::string Line(LogFormat format, absl::string_view message, std::initializer_list<LogField> fields,
                 uint64_t left_out = 0) {
  return EndLine(format, BeginLine(format, kTime, LogLevel::kWarning, message, fields), left_out);
}

TEST(Line, TextIsLogfmtAndQuotesWhatIsNoPlainWord) {
  EXPECT_EQ(Line(LogFormat::kText, "subscriber fails", {{"uri", "tcp:h:1"}, {"error", "no \"route\""}, {"n", 3}}),
            "time=2025-11-25T19:46:40.123Z level=warning msg=\"subscriber fails\" uri=tcp:h:1 "
            "error=\"no \\\"route\\\"\" n=3\n");
  EXPECT_EQ(Line(LogFormat::kText, "x", {{"empty", ""}}, 7),
            "time=2025-11-25T19:46:40.123Z level=warning msg=x empty=\"\" left_out=7\n");
}

TEST(Line, JsonHasTheSameMembersAndNumbersAreNumbers) {
  EXPECT_EQ(Line(LogFormat::kJson, "subscriber fails", {{"error", "no \"route\""}, {"n", -3}}, 7),
            R"({"time":"2025-11-25T19:46:40.123Z","level":"warning","msg":"subscriber fails",)"
            R"("error":"no \"route\"","n":-3,"left_out":7})"
            "\n");
}

TEST(Line, WhatAPeerSaysBeginsNoLineAndForgesNoField) {
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
    const std::string line = Line(format, "m", {{"error", "x\nlevel=error msg=forged\x1b[2J\r\n"}});
    EXPECT_EQ(line.find('\n'), line.size() - 1);
    EXPECT_THAT(line, Not(HasSubstr("\x1b")));
    EXPECT_THAT(line, Not(HasSubstr("\r")));
  }
}

TEST(Line, IsValidUtf8WhateverComes) {
  for (const absl::string_view text : {"\xff\xfe", "a\xc3", "\xed\xa0\x80", "\xc0\x80", "gr\xc3\xbc\xc3\x9f \x80"}) {
    for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
      const std::string line = Line(format, "m", {{"error", text}});
      EXPECT_TRUE(simdjson::validate_utf8(line.data(), line.size())) << line;
    }
  }
  EXPECT_THAT(Line(LogFormat::kText, "m", {{"error", "a\xff"}}), HasSubstr("error=\"a\xEF\xBF\xBD\""));
  EXPECT_THAT(Line(LogFormat::kJson, "m", {{"error", "größer"}}), HasSubstr("\"größer\""));
}

TEST(Line, ALongTextIsCutBetweenTwoCharacters) {
  std::string text(kMaxLogText - 1, 'a');
  text += "üüü";
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
    const std::string line = Line(format, "m", {{"error", text}});
    EXPECT_THAT(line, HasSubstr("aaa…\""));
    EXPECT_LT(line.size(), kMaxLogText + 200);
  }
  EXPECT_THAT(Line(LogFormat::kText, "m", {{"error", std::string(kMaxLogText, 'a')}}), HasSubstr("aaa\n"));
}

TEST(Line, LevelsAndFormatsAreReadByTheirNamesAlone) {
  LogLevel level = LogLevel::kInfo;
  EXPECT_TRUE(ParseLogLevel("error", &level));
  EXPECT_EQ(level, LogLevel::kError);
  EXPECT_FALSE(ParseLogLevel("Error", &level));
  LogFormat format = LogFormat::kText;
  EXPECT_TRUE(ParseLogFormat("json", &format));
  EXPECT_EQ(format, LogFormat::kJson);
  EXPECT_FALSE(ParseLogFormat("", &format));
  EXPECT_EQ(format, LogFormat::kJson);
}

}  // namespace
}  // namespace eventvirtual
