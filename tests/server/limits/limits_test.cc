// How large an event may be, and what is said of one that is larger.
#include "server/limits/limits.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace eventvirtual {
namespace {

std::string FaultOf(const std::vector<Param>& params, const EventLimits& limits) {
  return std::string(CheckParams(params, limits, "event.params").message());
}

TEST(CheckParams, TakesWhatIsAtTheLimitAndNamesTheFirstThatIsBeyond) {
  EventLimits limits;
  limits.params = 3;
  limits.param_bytes = 4;
  const Param fits{"abcd", absl::string_view("1234")};
  EXPECT_EQ(FaultOf({fits, {"n", int64_t{1} << 60}, {"j", Json{"[12]"}}}, limits), "");
  EXPECT_EQ(FaultOf({fits, fits, fits, fits}, limits),
            "event.params: 4 parameters; at most 3 are taken (--max_params)");
  EXPECT_EQ(FaultOf({fits, {"text", absl::string_view("12345")}}, limits),
            "event.params[1] \"text\": 5 bytes; at most 4 are taken (--max_param_bytes)");
  EXPECT_EQ(FaultOf({{"\n", Json{"[1,2]"}}}, limits),
            "event.params[0] \"\\n\": 5 bytes; at most 4 are taken (--max_param_bytes)");
  EXPECT_EQ(FaultOf({{"abcde", Null{}}}, limits),
            "event.params[0].name: 5 bytes; at most 4 are taken (--max_param_bytes)");
}

TEST(Exceeded, CountsByLimit) {
  const uint64_t params = ExceededCount(Limit::kParams), depth = ExceededCount(Limit::kDepth);
  EXPECT_EQ(Exceeded(Limit::kParams, "here", 2, "things", 1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ExceededCount(Limit::kParams), params + 1);
  EXPECT_EQ(ExceededCount(Limit::kDepth), depth);
  EXPECT_EQ(TooDeep("params", 9).message(), "params: more than 9 arrays and objects are in each other (--max_depth)");
  EXPECT_EQ(ExceededCount(Limit::kDepth), depth + 1);
  EXPECT_EQ(NameOf(Limit::kIngestRate), "ingest_rate") << "the names stand in the order of the limits";
}

}  // namespace
}  // namespace eventvirtual
