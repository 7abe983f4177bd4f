// Which texts are a trace context, by W3C Trace Context.
#include "transports/api/trace_context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace eventvirtual {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

constexpr absl::string_view kParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(Traceparent, IsVersionTraceParentAndFlags) {
  EXPECT_TRUE(IsTraceparent(kParent));
  EXPECT_TRUE(IsTraceparent("00-00000000000000000000000000000001-0000000000000001-00"));
  EXPECT_TRUE(IsTraceparent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")) << "of a later version";
  EXPECT_TRUE(IsTraceparent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-brings"));
  for (const absl::string_view bad : {
           "",
           "00-1",
           "00",
           "00-00000000000000000000000000000000-00f067aa0ba902b7-01",    // no trace
           "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",    // no parent
           "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",    // forbidden
           "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",    // capital letters
           "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",    // no hex digit
           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",     // too short
           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",   // too long
           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",  // version 00 has no more
           "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.x",
           "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-\r\nX-Evil: 1",
           "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
           " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
       }) {
    EXPECT_FALSE(IsTraceparent(bad)) << bad;
  }
  EXPECT_FALSE(IsTraceparent(absl::StrCat("cc", kParent.substr(2), "-", std::string(1000, 'x')))) << "bounded";
}

TEST(Tracestate, IsAListOfKeysAndValues) {
  for (const absl::string_view good : {"rojo=00f067aa0ba902b7", "rojo=1,congo=t61rcWkgMzE", "a=1 , b=2", "a=1,,b=2",
                                       "fw529a3039@dt=FfAB;x:y", "0tenant@v=1", "a=b c"}) {
    EXPECT_TRUE(IsTracestate(good)) << good;
  }
  for (const absl::string_view bad :
       {"", ",", "a", "=1", "a=", "A=1", "a=1=2", "a b=1", "a=1\r\nX-Evil: 1", "a=\xc3\xa4", "a=1,b"}) {
    EXPECT_FALSE(IsTracestate(bad)) << bad;
  }
  std::string members = "k=1";
  for (int i = 1; i < 32; ++i) absl::StrAppend(&members, ",k", i, "=1");
  EXPECT_TRUE(IsTracestate(members));
  EXPECT_FALSE(IsTracestate(members + ",more=1"));
  EXPECT_FALSE(IsTracestate("a=" + std::string(257, 'x')));
  EXPECT_FALSE(
      IsTracestate("a=1,b=" + std::string(200, 'x') + ",c=" + std::string(200, 'x') + ",d=" + std::string(200, 'x')));
}

TEST(Traceparent, OfAnEventIsItsAttribute) {
  const std::pair<absl::string_view, absl::string_view> attributes[] = {{"site", "x"}, {"traceparent", kParent}};
  EventFields fields{.name = "E"};
  fields.attributes = attributes;
  EXPECT_EQ(TraceparentOf(*Message::Make(fields)), kParent);
  EXPECT_EQ(TraceparentOf(*Message::Make({.name = "E"})), "");
}

}  // namespace
}  // namespace eventvirtual
