// What a redis subscriber may be written like.
#include "transports/redis/redis_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace eventvirtual {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

absl::StatusOr<RedisAddress> Parse(const std::string& text) {
  const absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return uri.status();
  return ParseRedisAddress(*uri);
}

TEST(RedisAddress, HasOneCanonicalFormAndHidesThePassword) {
  struct Case {
    const char* text;
    const char* canonical;
    const char* masked;
  };
  for (const Case& expected : {
           Case{"redis://H/stream:k", "redis://h:6379/stream:k", "redis://h:6379/stream:k"},
           Case{"redis://h:1/list:a%20b?timeout=1s&db=0", "redis://h:1/list:a%20b", "redis://h:1/list:a%20b"},
           Case{"redis://:s3%63ret@h/channel:c/d?min_receivers=0", "redis://:s3cret@h:6379/channel:c/d?min_receivers=0",
                "redis://:***@h:6379/channel:c/d?min_receivers=0"},
           Case{"redis://bob:p%40w@[::1]:7/stream:k?encoding=json&max_length=9&db=3",
                "redis://bob:p%40w@[::1]:7/stream:k?db=3&max_length=9&encoding=json",
                "redis://bob:***@[::1]:7/stream:k?db=3&max_length=9&encoding=json"},
       }) {
    const absl::StatusOr<RedisAddress> address = Parse(expected.text);
    ASSERT_TRUE(address.ok()) << expected.text << ": " << address.status();
    EXPECT_EQ(address->ToString(false), expected.canonical);
    EXPECT_EQ(address->ToString(true), expected.masked);
    EXPECT_EQ(Parse(expected.canonical)->ToString(false), expected.canonical);
  }
}

TEST(RedisAddress, WhatIsWrongIsNamedWithTheWayOut) {
  for (const auto& [text, words] : {
           std::pair{"redis:h/stream:k", "redis://host/stream:KEY"},
           {"redis://h", "no '/' behind the host"},
           {"redis://h/k", "/stream:KEY, /list:KEY and /channel:NAME"},
           {"redis://h/stream:", "nothing stands behind"},
           {"redis://h/list:%zz", "%25"},
           {"redis://s3cret@h/list:k", ":password@"},
           {"redis://u:@h/list:k", "password before '@' is empty"},
           {"redis://u:s3cret/x@h/list:k", "/stream:KEY"},
           {"redis://h:0/list:k", "port"},
           {"redis://h/list:k?max_length=5", "max_length"},
           {"redis://h/stream:k?min_receivers=1", "min_receivers"},
           {"redis://h/stream:k?encoding=cloudevents-binary", "encoding"},
           {"redis://h/stream:k?db=-1", "db"},
           {"rediss://:s3cret@h/stream:k", "stunnel"},
       }) {
    const absl::Status status = Parse(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words)) << text;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("s3cret"))) << text;
  }
}

}  // namespace
}  // namespace eventvirtual
