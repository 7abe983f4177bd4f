// What a grpc subscriber may be written like.
#include "transports/grpc/grpc_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace eventvirtual {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

absl::StatusOr<GrpcAddress> Parse(const std::string& text) {
  const absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return uri.status();
  return ParseGrpcAddress(*uri);
}

TEST(GrpcAddress, HasOneCanonicalFormAndHidesTheToken) {
  struct Case {
    const char *text, *canonical, *masked;
  };
  for (const Case& expected : {
           Case{"grpc://127.0.0.1:9100", "grpc://127.0.0.1:9100", "grpc://127.0.0.1:9100"},
           Case{"grpc://Billing.Example:9100/?window=1&timeout=2000&max_message=4194304", "grpc://billing.example:9100",
                "grpc://billing.example:9100"},
           Case{"grpc://[::1]:1?timeout=1500ms&window=64&max_message=1000",
                "grpc://[::1]:1?window=64&max_message=1000&timeout=1.5s",
                "grpc://[::1]:1?window=64&max_message=1000&timeout=1.5s"},
           Case{"grpc://h:1?token=s3cr3t%3D", "grpc://h:1?token=s3cr3t%3d", "grpc://h:1?token=***"},
           Case{"grpcs://h:443?key=/k&cert=/c&ca=/a&token=T", "grpcs://h:443?token=T&ca=/a&cert=/c&key=/k",
                "grpcs://h:443?token=***&ca=/a&cert=/c&key=/k"},
           Case{"grpcs://h:443?verify=0", "grpcs://h:443?verify=0", "grpcs://h:443?verify=0"},
       }) {
    const absl::StatusOr<GrpcAddress> address = Parse(expected.text);
    ASSERT_TRUE(address.ok()) << expected.text << ": " << address.status();
    EXPECT_EQ(address->ToString(/*masked=*/false), expected.canonical);
    EXPECT_EQ(address->ToString(/*masked=*/true), expected.masked);
    EXPECT_EQ(Parse(expected.canonical)->ToString(/*masked=*/false), expected.canonical);
  }
}

TEST(GrpcAddress, WhatIsWrongIsNamedWithTheWayOut) {
  for (const auto& [text, words] : {
           std::pair{"grpc:h:1", "grpc://host:port"},
           {"grpc://h", "port"},
           {"grpc://h:0", "port"},
           {"grpc://:1", "host"},
           {"grpc://s3cr3t:s3cr3t@h:1", "?token=TOKEN"},
           {"grpc://s3cr3t@h:1", "?token=TOKEN"},
           {"grpc://h:1/my.Service/Call", "eventvirtual.v1.Receiver/Deliver"},
           {"grpc://h:1?token=s3cr3t%20s3cr3t", "visible ASCII"},
           {"grpc://h:1?token=s3cr3t%c3%a4", "visible ASCII"},
           {"grpc://h:1?window=0", "window"},
           {"grpc://h:1?window=257", "window"},
           {"grpc://h:1?max_message=0", "max_message"},
           {"grpc://h:1?timeout=0", "timeout"},
           {"grpc://h:1?encoding=json", "encoding"},
           {"grpc://h:1?ca=/a", "\"ca\""},
           {"grpcs://h:1?ca=a", "absolute path"},
           {"grpcs://h:1?cert=/c", "go together"},
           {"grpcs://h:1?ca=/a&verify=0", "no effect with verify=0"},
       }) {
    const absl::Status status = Parse(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words)) << text;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("s3cr3t"))) << text;
  }
}

TEST(GrpcAddress, ATokenHasALimit) {
  EXPECT_TRUE(Parse("grpc://h:1?token=" + std::string(4096, 'x')).ok());
  EXPECT_FALSE(Parse("grpc://h:1?token=" + std::string(4097, 'x')).ok());
}

}  // namespace
}  // namespace eventvirtual
