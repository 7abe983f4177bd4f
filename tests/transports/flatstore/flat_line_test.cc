#include "transports/flatstore/flat_line.h"

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transports/api/message.h"

namespace eventvirtual {
namespace {

std::string Line(absl::string_view event, const std::vector<Value>& values, const LineFormat& format = {}) {
  std::vector<Param> params;
  for (const Value& value : values) params.push_back({"name", value});
  EXPECT_TRUE(CheckLineFormat(format).ok()) << CheckLineFormat(format);
  std::string line;
  AppendLine(*Message::Make({.name = event, .params = params}), format, &line);
  return line;
}

Value Text(absl::string_view text) { return text; }
Value Int(int64_t number) { return number; }

TEST(FlatLine, IsWhatOpenSipsWrites) {
  EXPECT_EQ(Line("E_TEST", {Text("alice"), Int(42)}), "E_TEST,alice,42\n");
  EXPECT_EQ(Line("E_TEST", {}), "E_TEST\n");
  EXPECT_EQ(Line("E_TEST", {Text(""), Text("x"), Text("")}), "E_TEST,,x,\n");
  EXPECT_EQ(Line("E_TEST", {Text("alice"), Int(42)}, {.suppress_event_name = true}), "alice,42\n");
  EXPECT_EQ(Line("E_TEST", {Text("a,b"), Int(1)}), "E_TEST,a b,1\n");
  EXPECT_EQ(Line("E_TEST", {Text("a;b,c"), Int(1)}, {.delimiter = ";"}), "E_TEST;a b,c;1\n");
}

TEST(FlatLine, KeepsAnEmptyFirstColumnWithoutTheEventName) {
  EXPECT_EQ(Line("E_TEST", {Text(""), Text("x")}, {.suppress_event_name = true}), ",x\n");
  EXPECT_EQ(Line("E_TEST", {}, {.suppress_event_name = true}), "\n");
}

TEST(FlatLine, WritesEveryTypeOfValue) {
  EXPECT_EQ(Line("E", {Int(-42), Int(std::numeric_limits<int64_t>::min())}), "E,-42,-9223372036854775808\n");
  EXPECT_EQ(Line("E", {Value(true), Value(false), Value(Null{})}), "E,true,false,\n");
  EXPECT_EQ(Line("E", {Value(0.1), Value(1e300), Value(-2.5), Value(3.0)}), "E,0.1,1e+300,-2.5,3\n");
  EXPECT_EQ(
      Line("E", {Value(std::numeric_limits<double>::infinity()), Value(std::numeric_limits<double>::quiet_NaN())}),
      "E,,\n");
  EXPECT_EQ(Line("E", {Value(Json{R"({"a":[1,2]})"})}, {.delimiter = "|"}), "E|{\"a\":[1,2]}\n");
  EXPECT_EQ(Line("E", {Value(Json{"{\"a\":1,\n\"b\":2}"})}), "E,{\"a\":1  \"b\":2}\n");
}

TEST(FlatLine, StaysOneLineWhateverTheTextHolds) {
  EXPECT_EQ(Line("E", {Text("a\r\nb\nc")}), "E,a  b c\n");
  EXPECT_EQ(Line("E\nX", {}), "E X\n");
  EXPECT_EQ(Line("E", {Text(absl::string_view("a\0b", 3))}), std::string("E,a\0b\n", 6));
  EXPECT_EQ(Line("E", {Text("\xc3\xbc\xff\t\"\\")}), "E,\xc3\xbc\xff\t\"\\\n");
}

TEST(FlatLine, ReplacesADelimiterOfSeveralCharacters) {
  EXPECT_EQ(Line("E", {Text("a::b:c")}, {.delimiter = "::"}), "E::a  b:c\n");
  EXPECT_EQ(Line("E", {Text("a,b")}, {.delimiter = ",", .escape_delimiter = "|"}), "E,a|b\n");
  EXPECT_EQ(Line("E", {Text("a::::b")}, {.delimiter = "::", .escape_delimiter = "%%"}), "E::a%%%%b\n");
}

TEST(FlatLine, AReplacementNeverLeavesADelimiterBehind) {
  EXPECT_EQ(Line("E", {Text(",,, x")}, {.delimiter = ", "}), "E,     x\n");
  EXPECT_EQ(Line("E", {Text("a,\nb")}, {.delimiter = ", "}), "E, a  b\n");
  EXPECT_EQ(Line("E", {Text("a b")}, {.delimiter = " ", .escape_delimiter = "_"}), "E a_b\n");
  EXPECT_EQ(Line("E", {Text("a\nb")}, {.delimiter = " ", .escape_delimiter = "_"}), "E a_b\n");
}

TEST(FlatLine, ReplacesManyDelimitersQuickly) {
  const std::string commas(1 << 20, ',');
  EXPECT_EQ(Line("E", {Text(commas + " ")}, {.delimiter = ", "}), "E, " + std::string(commas.size() + 1, ' ') + "\n");
}

TEST(FlatLine, RefusesAFormatThatCannotBeCutIntoColumns) {
  const struct {
    LineFormat format;
    const char* why;
  } kCases[] = {
      {{.delimiter = ""}, "delimiter has 0 bytes; it takes 1 to 16"},
      {{.delimiter = std::string(17, ',')}, "delimiter has 17 bytes; it takes 1 to 16"},
      {{.delimiter = "\n"}, "must not hold CR, LF or NUL"},
      {{.delimiter = ",", .escape_delimiter = "\r"}, "must not hold CR, LF or NUL"},
      {{.delimiter = "  "}, "needs an escape_delimiter"},
      {{.delimiter = ",", .escape_delimiter = "||"}, "they must have the same length"},
      {{.delimiter = "ab", .escape_delimiter = "xb"}, "both hold 'b'"},
      {{.delimiter = ",", .escape_delimiter = ","}, "both hold ','"},
  };
  for (const auto& test : kCases) {
    const absl::Status status = CheckLineFormat(test.format);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(test.why));
  }
}

}  // namespace
}  // namespace eventvirtual
