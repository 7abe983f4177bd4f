// What is written by hand reads back with the code that protoc made.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/eventvirtual/v1/event.pb.h"
#include "transports/api/encoding.h"

namespace eventvirtual {
namespace {

TEST(ProtobufEncoding, IsWhatTheGeneratedCodeReadsAndWouldWrite) {
  const std::string long_text(100000, 'x');
  const std::vector<Param> params = {{"text", "a\xc3\xa4"},
                                     {"", ""},
                                     {"long", absl::string_view(long_text)},
                                     {"zero", int64_t{0}},
                                     {"min", std::numeric_limits<int64_t>::min()},
                                     {"real", -1.5},
                                     {"true", true},
                                     {"false", false},
                                     {"null", Null{}},
                                     {"json", Json{"[1]"}}};
  const std::vector<std::pair<absl::string_view, absl::string_view>> attributes = {{"traceparent", "00-1"}};
  for (const absl::Time time :
       {absl::UnixEpoch(), absl::FromUnixNanos(1790000000123456789), absl::FromUnixMillis(-1)}) {
    EventFields fields{.name = "E_ACC", .event_id = "7", .event_time = time, .source = "sbc"};
    fields.params = params;
    fields.attributes = attributes;
    const MessageRef message = Message::Make(fields);
    const absl::string_view bytes = message->encoded(Encoding::kProtobuf);

    v1::Event event;
    ASSERT_TRUE(event.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
    EXPECT_EQ(event.name(), "E_ACC");
    EXPECT_EQ(event.event_id(), "7");
    EXPECT_EQ(event.source(), "sbc");
    EXPECT_EQ(event.attributes().at("traceparent"), "00-1");
    EXPECT_EQ(event.attributes().at("eventhops"), "1");
    EXPECT_EQ(absl::FromUnixSeconds(event.event_time().seconds()) + absl::Nanoseconds(event.event_time().nanos()),
              time);
    EXPECT_GE(event.event_time().nanos(), 0);
    ASSERT_EQ(event.params_size(), static_cast<int>(params.size()));
    for (size_t i = 0; i < params.size(); ++i) EXPECT_EQ(event.params(i).name(), std::string(params[i].name));
    EXPECT_EQ(event.params(0).string_value(), "a\xc3\xa4");
    EXPECT_EQ(event.params(1).value_case(), v1::Param::kStringValue);
    EXPECT_EQ(event.params(2).string_value(), long_text);
    EXPECT_EQ(event.params(3).value_case(), v1::Param::kIntValue);
    EXPECT_EQ(event.params(4).int_value(), std::numeric_limits<int64_t>::min());
    EXPECT_EQ(event.params(5).double_value(), -1.5);
    EXPECT_TRUE(event.params(6).bool_value());
    EXPECT_EQ(event.params(7).value_case(), v1::Param::kBoolValue);
    EXPECT_EQ(event.params(8).value_case(), v1::Param::kNullValue);
    EXPECT_EQ(event.params(9).json_value(), "[1]");
    EXPECT_EQ(event.ByteSizeLong(), bytes.size()) << "nothing twice, nothing unknown; a map has no order";
  }
}

}  // namespace
}  // namespace eventvirtual
