// What travels beside an event: how often it has been delivered, and its trace.
#include "transports/api/context_headers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "transports/api/hops.h"

namespace eventvirtual {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

using Headers = std::vector<std::pair<std::string, std::string>>;

Headers HeadersOf(const EventFields& fields) {
  Headers headers;
  const MessageRef message = Message::Make(fields);
  ForEachContextHeader(
      *message, [&headers](absl::string_view name, absl::string_view value) { headers.emplace_back(name, value); });
  return headers;
}

TEST(ContextHeaders, AreHopsAndWhatOfTheTraceCanStandInAHeader) {
  const std::string longest(512, 'x'), too_long(513, 'x');
  const std::pair<absl::string_view, absl::string_view> attributes[] = {
      {"traceparent", "00-1"},          {"tracestate", longest},      {"tracestate", too_long}, {"tracestate", ""},
      {"tracestate", "a=1\r\nhost: b"}, {"tracestate", "a=\xc3\xa4"}, {"Traceparent", "00"},    {"site", "x"}};
  EventFields fields{.name = "E"};
  fields.attributes = attributes;
  EXPECT_THAT(HeadersOf(fields),
              ElementsAre(Pair("eventhops", "1"), Pair("traceparent", "00-1"), Pair("tracestate", longest)));
}

TEST(ContextHeaders, HopsAreOneMoreThanTheEventHasBehindIt) {
  for (int hops = 0; hops <= kMostHops; ++hops) {
    EXPECT_THAT(HeadersOf({.name = "E", .hops = hops}), ElementsAre(Pair("eventhops", absl::StrCat(hops + 1))));
  }
}

TEST(Hops, AreADecimalNumberWithinBounds) {
  for (int hops = 0; hops <= kMostHops; ++hops) EXPECT_EQ(ParseHops(absl::StrCat(hops)).value(), hops);
  EXPECT_EQ(ParseHops("007").value(), 7);
  for (const absl::string_view bad :
       {"", "-1", "+1", "256", "999", "0008", "1e2", "1.0", "0x8", " 1", "1 ", "1,1", "null", "18446744073709551617"}) {
    const absl::StatusOr<int> hops = ParseHops(bad);
    ASSERT_TRUE(absl::IsInvalidArgument(hops.status())) << bad;
    EXPECT_EQ(hops.status().message(), absl::StrCat("eventhops: \"", bad, "\" is not a number of hops, 0 to 255"));
  }
  const std::string shown(ParseHops(absl::StrCat("\n\xff", std::string(100000, '9'))).status().message());
  EXPECT_THAT(shown, HasSubstr(R"("\n\xff)"));
  EXPECT_LT(shown.size(), 300u);
}

}  // namespace
}  // namespace eventvirtual
