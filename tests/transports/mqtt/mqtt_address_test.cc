// What an mqtt subscriber may be written like.
#include "transports/mqtt/mqtt_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace eventvirtual {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

absl::StatusOr<MqttAddress> Parse(const std::string& text) {
  const absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return uri.status();
  return ParseMqttAddress(*uri);
}

TEST(MqttAddress, HasOneCanonicalFormAndHidesThePassword) {
  struct Case {
    const char* text;
    const char* canonical;
    const char* masked;
  };
  for (const Case& expected : {
           Case{"mqtt://H/a/b?qos=1&timeout=2s", "mqtt://h:1883/a/b", "mqtt://h:1883/a/b"},
           Case{"mqtt://bob:p%40w@h:1/t?qos=2&retain=1", "mqtt://bob:p%40w@h:1/t?qos=2&retain=1",
                "mqtt://bob:***@h:1/t?qos=2&retain=1"},
           Case{"mqtt://bob@h/t", "mqtt://bob@h:1883/t", "mqtt://bob@h:1883/t"},
           Case{"mqtts://[::1]/%C3%A4?ca=/x.pem&encoding=cloudevents-binary",
                "mqtts://[::1]:8883/%c3%a4?ca=/x.pem&encoding=cloudevents-binary",
                "mqtts://[::1]:8883/%c3%a4?ca=/x.pem&encoding=cloudevents-binary"},
           Case{"mqtts://h/t?verify=0", "mqtts://h:8883/t?verify=0", "mqtts://h:8883/t?verify=0"},
       }) {
    const absl::StatusOr<MqttAddress> address = Parse(expected.text);
    ASSERT_TRUE(address.ok()) << expected.text << ": " << address.status();
    EXPECT_EQ(address->ToString(false), expected.canonical);
    EXPECT_EQ(address->ToString(true), expected.masked);
    EXPECT_EQ(Parse(expected.canonical)->ToString(false), expected.canonical);
  }
}

TEST(MqttAddress, WhatIsWrongIsNamedWithTheWayOut) {
  for (const auto& [text, words] : {
           std::pair{"mqtt:h/t", "mqtt://host/topic"},
           {"mqtt://h", "no '/' behind the host"},
           {"mqtt://h/", "topic behind the host is empty"},
           {"mqtt://h/a/+/b", "byte 3 of the topic is a wildcard"},
           {"mqtt://h/$SYS/x", "'$'"},
           {"mqtt://h/%ff", "UTF-8"},
           {"mqtt://h/a%00b", "control characters"},
           {"mqtt://:s3cret@h/t", "user before '@' is empty"},
           {"mqtt://u:s3cret/x@h/t", "%2F"},
           {"mqtt://h:0/t", "port"},
           {"mqtt://h/t?qos=3", "qos"},
           {"mqtt://h/t?qos=0&require_subscribers=1", "require_subscribers"},
           {"mqtt://h/t?client_id=a%20b", "client_id"},
           {"mqtt://h/t?ca=/x", "ca"},
           {"mqtts://h/t?ca=x", "absolute path"},
           {"mqtts://h/t?ca=/x&verify=0", "no effect with verify=0"},
           {"mqtts://h/t?cert=/x", "go together"},
       }) {
    const absl::Status status = Parse(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words)) << text;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("s3cret"))) << text;
  }
}

}  // namespace
}  // namespace eventvirtual
