// The text of a kafka subscriber: what is taken, what it becomes, what is refused and with which words.
#include "transports/kafka/kafka_address.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transports/api/transport.h"
#include "transports/kafka/kafka_transport.h"

namespace eventvirtual {
namespace {

using testing::HasSubstr;
using testing::Not;

absl::StatusOr<Target> Canonicalize(absl::string_view text) {
  const absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return uri.status();
  return MakeKafkaTransport()->Canonicalize(*uri);
}

TEST(KafkaAddressTest, EachDestinationHasOneText) {
  const struct {
    const char *text, *canonical;
  } cases[] = {
      {"kafka:h:9092/calls", "kafka:h:9092/calls"},
      {"kafka:H/calls", "kafka:h:9092/calls"},
      {"kafka:a:1,b:2,[::1]:3/sip.calls-1_X", "kafka:a:1,b:2,[::1]:3/sip.calls-1_X"},
      {"kafka:h:1/t?timeout=5000", "kafka:h:1/t"},
      {"kafka:h:1/t?timeout=2s&key=callid", "kafka:h:1/t?key=callid&timeout=2s"},
      {"kafka:h:1/t?t.partitioner=murmur2&g.linger.ms=10&g.client.id=a%26b",
       "kafka:h:1/t?g.client.id=a%26b&g.linger.ms=10&t.partitioner=murmur2"},
      {"kafka:h:1/t?g.linger.ms=100&t.acks=all", "kafka:h:1/t?g.linger.ms=100"},
      {"kafka:h:1/t?t.request.required.acks=-1", "kafka:h:1/t"},
  };
  for (const auto& [text, canonical] : cases) {
    const absl::StatusOr<Target> target = Canonicalize(text);
    ASSERT_TRUE(target.ok()) << text << " " << target.status();
    EXPECT_EQ(target->canonical, canonical);
    EXPECT_EQ(target->masked, canonical);
    EXPECT_EQ(target->ack_level, AckLevel::kDurable);
    EXPECT_EQ(Canonicalize(target->canonical)->canonical, canonical);
  }
}

TEST(KafkaAddressTest, SecretsAreMaskedAndNeverRepeated) {
  const std::string login =
      "kafka:h:1/t?g.security.protocol=sasl_ssl&g.sasl.mechanism=PLAIN&g.sasl.username=alice&g.sasl.password=s3cr3t"
      "&g.ssl.key.pem=s3cr3t&g.ssl.key.password=s3cr3t";
  const absl::StatusOr<Target> target = Canonicalize(login);
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ(target->masked,
            "kafka:h:1/t?g.sasl.mechanism=PLAIN&g.sasl.password=***&g.sasl.username=alice&"
            "g.security.protocol=sasl_ssl&g.ssl.key.password=***&g.ssl.key.pem=***");
  EXPECT_THAT(target->canonical, HasSubstr("g.sasl.password=s3cr3t"));
  for (const char* tail : {"&g.sasl.password=s3cr3t", "&x=1", "&g.linger.ms=s", "%00", "&timeout=0", "%zz"}) {
    const absl::Status status = Canonicalize(absl::StrCat(login, tail)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << tail;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("s3cr3t"))) << tail;
  }
}

TEST(KafkaAddressTest, WhatIsWrongIsNamedWithWhatWouldBeTaken) {
  const struct {
    const char *text, *words;
  } cases[] = {
      {"kafka:h:9092", "no '/' behind the brokers"},
      {"kafka:/t", "broker 1: "},
      {"kafka:a:1,,b:2/t", "broker 2: "},
      {"kafka:a:1,b:99999/t", "broker 2: "},
      {"kafka:h:1/", "topic behind '/' is empty"},
      {"kafka:h:1/a/b", "byte 2 of the topic"},
      {"kafka:h:1/..", "must not be"},
      {"kafka:h:1/t?linger.ms=5", "\"linger.ms\" is unknown; known: key, timeout, encoding, g.batch"},
      {"kafka:h:1/t?g.plugin.library.paths=/tmp/x.so", "\"g.plugin.library.paths\" is unknown"},
      {"kafka:h:1/t?g.ssl.key.location=/etc/shadow", "\"g.ssl.key.location\" is unknown"},
      {"kafka:h:1/t?g.sasl.kerberos.kinit.cmd=reboot", "is unknown"},
      {"kafka:h:1/t?g.queue.buffering.max.messages=1000000", "is unknown"},
      {"kafka:h:1/t?t.message.timeout.ms=0", "is unknown"},
      {"kafka:h:1/t?g.partitioner=random", "\"g.partitioner\" is unknown"},
      {"kafka:h:1/t?t.acks=1", "option \"t.acks\" must be one of: all, -1"},
      {"kafka:h:1/t?g.sasl.mechanism=GSSAPI", "must be one of: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"},
      {"kafka:h:1/t?g.security.protocol=sasl_ssl", "\"g.sasl.mechanism\": PLAIN"},
      {"kafka:h:1/t?g.compression.codec=rar", "option \"g.compression.codec\": "},
      {"kafka:h:1/t?g.batch.size=-1", "option \"g.batch.size\": "},
      {"kafka:h:1/t?g.linger.ms=5000", "less than the timeout, which is 5s"},
      {"kafka:h:1/t?g.linger.ms=1&g.linger.ms=2", "given twice"},
      {"kafka:h:1/t?g.client.id=a%00b", "must not hold %00"},
      {"kafka:h:1/t?g.compression.codec=%ff%fe", "option \"g.compression.codec\": "},
  };
  for (const auto& [text, words] : cases) {
    const absl::Status status = Canonicalize(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words)) << text;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("\xff"))) << text;
  }
}

}  // namespace
}  // namespace eventvirtual
