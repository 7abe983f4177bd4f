// Which events a filter takes, and how a faulty one is refused.
#include "server/registry/filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace eventvirtual {
namespace {

using ::testing::HasSubstr;

bool Matches(const std::string& pattern, absl::string_view text) {
  const absl::StatusOr<ShellPattern> parsed = ShellPattern::Parse(pattern);
  EXPECT_TRUE(parsed.ok()) << pattern << ": " << parsed.status();
  return parsed.ok() && parsed->Matches(text);
}

TEST(ShellPattern, DescribesAllOfAText) {
  const struct {
    const char* pattern;
    std::vector<const char*> yes, no;
  } kCases[] = {
      {"", {""}, {"a"}},
      {"alice", {"alice"}, {"", "alic", "alicee", "Alice"}},
      {"*", {"", "a", "a\nb"}, {}},
      {"*@example.org", {"@example.org", "a@example.org"}, {"a@example.orgs", "example.org", "a@example-org"}},
      {"sip:*@example.org", {"sip:@example.org", "sip:a@b@example.org"}, {"sip:example.org", "sips:a@example.org"}},
      {"a*a", {"aa", "aba", "aaa"}, {"a", "ab", ""}},
      {"*a*b*", {"ab", "xaxbx", "aab"}, {"ba", "a", "b"}},
      {"a*bc*bcd", {"abcbcd", "axbcybcd", "abcbcbcd"}, {"abcd", "abc", "abcbc"}},
      {"?", {"a", "ä", "€", "😀", "\xff"}, {"", "ab", "äb"}},
      {"??", {"äb", "aä"}, {"ä", "a"}},
      {"*?", {"a", "ab", "ä"}, {""}},
      {"[abc]x", {"ax", "cx"}, {"dx", "x", "aax"}},
      {"[a-cx-z]", {"a", "b", "c", "y"}, {"d", "-", "w"}},
      {"[!a-c]", {"d", "ä"}, {"a", "b", ""}},
      {"[-a]", {"-", "a"}, {"b"}},
      {"[a-]", {"-", "a"}, {"b"}},
      {"[\\]\\[]", {"]", "["}, {"\\"}},
      {"[a]*[b]", {"ab", "axb"}, {"a", "b", "ba"}},
      {"\\*\\?\\[\\\\", {"*?[\\"}, {"x?[\\"}},
      {"1\\*2*", {"1*2", "1*23"}, {"112"}},
      {"+49*", {"+49", "+4930"}, {"49", "+48"}},
      {"[a-\\z]", {"m", "z"}, {"-", "\\"}},
      {"?\\*", {"a*"}, {"ab"}},
      {"?x", {"\xc3x"}, {"\xc3"}},  // the beginning of a character that has no end
  };
  for (const auto& test : kCases) {
    for (const char* text : test.yes) EXPECT_TRUE(Matches(test.pattern, text)) << test.pattern << " and " << text;
    for (const char* text : test.no) EXPECT_FALSE(Matches(test.pattern, text)) << test.pattern << " and " << text;
  }
}

TEST(ShellPattern, ManyStarsOverALongTextAreNoTrouble) {
  std::string pattern;
  for (int i = 0; i < 100; ++i) pattern += "*a";
  EXPECT_FALSE(Matches(pattern + "b", std::string(100000, 'a'))) << "backtracking over every star would never end";
}

TEST(Filter, LooksAtParametersByName) {
  const Param params[] = {{"aor", "alice@example.org"},
                          {"count", int64_t{42}},
                          {"load", 1.5},
                          {"local", true},
                          {"none", Null{}},
                          {"tags", Json{"[1,2]"}},
                          {"number", "0049"},
                          {"score", "7.5"},
                          {"aor", "bob@example.net"},
                          {"", "first without a name"},
                          {"3", "a name that is a number"},
                          {"big", int64_t{9007199254740993}}};
  EventFields fields;
  fields.name = "E_UL";
  fields.params = params;
  const MessageRef message = Message::Make(fields);
  const struct {
    const char* filter;
    bool takes;
  } kCases[] = {
      {"aor=*@example.org", true},
      {"aor=*@example.net", true},  // one of that name is enough
      {"aor!=*@example.net", false},
      {"aor!=*@example.com", true},
      {"missing=*", false},
      {"missing!=*", true},  // none is there that matches
      {"count=42", true},
      {"count=42.0", true},
      {"count=4?", true},
      {"count=43", false},
      {"count!=43", true},
      {"count>41", true},
      {"count>42", false},
      {"count>=42", true},
      {"count<42.5", true},
      {"count<=41", false},
      {"load>1", true},
      {"load=1.5", true},
      {"load=1.*", true},
      {"load<1.5", false},
      {"local=true", true},
      {"local=1", false},
      {"none=null", true},
      {"tags=\\[1,2\\]", true},
      {"number=49", false},  // a text stays one
      {"number=0049", true},
      {"number>48", true},
      {"score>=7.5", true},
      {"aor>1", false},  // no number
      {"aor<1", false},
      {"9=first*", true},  // the tenth parameter, which has no name
      {"0=alice*", false},
      {"3=*number", true},
      {"big=9007199254740993", true},
      {"big=9007199254740992", false},
      {"big>9007199254740992", true},
      {" aor = *@example.org && count > 41 ", true},
      {"aor=*@example.org && count>42", false},
      {"count>42 && aor=*@example.org", false},
      {"aor=*&&*", false},  // not joined: no blanks
      {"count>-5", true},
      {"count<1e+2", true},
      {"count<1E1", false},
      {"2nd=*", false},  // a name, no position
  };
  for (const auto& test : kCases) {
    const absl::StatusOr<Filter> filter = Filter::Parse(test.filter);
    ASSERT_TRUE(filter.ok()) << test.filter << ": " << filter.status();
    EXPECT_EQ(filter->Matches(*message), test.takes) << test.filter;
    const absl::StatusOr<Filter> again = Filter::Parse(filter->text());
    ASSERT_TRUE(again.ok()) << filter->text();
    EXPECT_EQ(again->text(), filter->text());
    EXPECT_EQ(again->Matches(*message), test.takes) << filter->text();
  }
}

TEST(Filter, HasOneWayToBeWritten) {
  EXPECT_EQ(Filter::Parse("  a  =  b c  &&\td>=1 ")->text(), "a=b c && d>=1");
  EXPECT_EQ(Filter::Parse("a=b\\ ")->text(), "a=b\\ ");
  EXPECT_EQ(Filter::Parse("a=x \\&& y")->text(), "a=x \\&& y");
  EXPECT_EQ(Filter::Parse("a=")->text(), "a=");
  EXPECT_EQ(Filter::Parse("a\\  =b")->text(), "a\\ =b");
  EXPECT_EQ(Filter::Parse("a=x\\\\  && b=1")->text(), "a=x\\\\ && b=1");
}

TEST(Filter, ARefusalNamesThePositionAndWhatIsTaken) {
  std::string many = "a=1";
  for (size_t i = 0; i < Filter::kMaxConditions; ++i) many += " && a=1";
  const struct {
    std::string filter, why;
  } kCases[] = {
      {"", "position 1: a condition is missing"},
      {"   ", "position 4: a condition is missing"},
      {"a=1 && ", "position 8: a condition is missing"},
      {"a=1 &&", "position 7: a condition is missing"},
      {"&& a=1", "position 1: a condition is missing"},
      {"a=1 && && b=1", "position 8: a condition is missing"},
      {"aor", "position 4: no operator"},
      {"aor!", "position 4: no operator"},
      {"aor!x", "position 4: '!' without '='"},
      {"=x", "position 1: no parameter name"},
      {"\\ ", "position 3: no operator"},
      {"aor\\", "position 4: '\\' with nothing behind it"},
      {"a=1 && =x", "position 8: no parameter name"},
      {"count>many", "position 7: no number behind >"},
      {"a=1 && count <= ", "position 16: no number behind <="},
      {"count<inf", "position 7: no number"},
      {"count<0x10", "position 7: no number"},
      {"count<1e", "position 7: no number"},
      {"count<1e999", "position 7: no number"},
      {"count<" + std::string(65, '1'), "position 7: no number"},
      {"a=[x", "position 3: '[' without its ']'"},
      {"a=[", "position 3: '[' without its ']'"},
      {"a=[!", "position 3: '[' without its ']'"},
      {"a=[\\", "position 3: '[' without its ']'"},
      {"a=[a-\\", "position 3: '[' without its ']'"},
      {"a=1 && b=x[!]", "position 13: an empty set"},
      {"a=[z-a]", "position 4: a range that runs backwards"},
      {"a=[\xc3\xa4]", "position 4: a set takes ASCII"},
      {"a=[a-\xc3\xa4]", "position 4: a set takes ASCII"},
      {"a=x\\", "position 4: '\\' with nothing behind it"},
      {"a=" + std::string(256, 'x'), "position 258: the pattern has 256 bytes"},
      {"a=" + std::string(1024, 'x'), "the filter has 1026 bytes"},
      {many, "more than 16 conditions"},
  };
  for (const auto& test : kCases) {
    const absl::StatusOr<Filter> filter = Filter::Parse(test.filter);
    EXPECT_EQ(filter.status().code(), absl::StatusCode::kInvalidArgument) << test.filter;
    EXPECT_THAT(std::string(filter.status().message()), HasSubstr(test.why)) << test.filter;
  }
}

TEST(Filter, NamesTheConditionThatDoesNotHoldAndWhatIsThereInstead) {
  const Param params[] = {{"aor", absl::string_view("alice@example.org")},
                          {"attempts", int64_t{1}},
                          {"", true},
                          {"x", Json{"[1,2]"}},
                          {"aor", absl::string_view("bob")}};
  EventFields fields;
  fields.name = "E";
  fields.params = params;
  const MessageRef message = Message::Make(fields);
  const auto refusal = [&message](absl::string_view text) { return Filter::Parse(text)->Refusal(*message); };

  EXPECT_EQ(refusal("aor=alice@* && attempts<3"), "");
  EXPECT_EQ(refusal("aor=*@example.org  && attempts >3 && x=1"),
            "condition 2 of 3, \"attempts>3\", does not hold: attempts is 1");
  EXPECT_EQ(refusal("aor!=alice*"), R"(condition 1 of 1, "aor!=alice*", does not hold: aor is "alice@example.org")");
  EXPECT_EQ(refusal("aor!=b*"), R"(condition 1 of 1, "aor!=b*", does not hold: aor is "bob")") << "not the first";
  EXPECT_EQ(refusal("2=false"), R"(condition 1 of 1, "2=false", does not hold: parameter 2 is true)");
  EXPECT_EQ(refusal("x=1"), R"(condition 1 of 1, "x=1", does not hold: x is [1,2])");
  EXPECT_EQ(refusal("source_ip=10.*"), R"(condition 1 of 1, "source_ip=10.*", does not hold: there is no source_ip)");
  EXPECT_EQ(refusal("9=1"), R"(condition 1 of 1, "9=1", does not hold: there is no parameter 9)");
}

TEST(Filter, OfALongValueItShowsTheBeginning) {
  std::string value;
  for (int i = 0; i < 200; ++i) value += "ä";
  const Param param{"a", absl::string_view(value)};
  EventFields fields;
  fields.name = "E";
  fields.params = absl::MakeConstSpan(&param, 1);
  const std::string refusal = Filter::Parse("a=b")->Refusal(*Message::Make(fields));
  EXPECT_THAT(refusal, ::testing::EndsWith("ä…"));
  EXPECT_LT(refusal.size(), 200u);
}

}  // namespace
}  // namespace eventvirtual
