// The texts that users write for a nats subscriber, and what they are told when they are wrong.
#include "transports/nats/nats_address.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transports/api/uri.h"
#include "transports/nats/nats_transport.h"

namespace eventvirtual {
namespace {

using testing::HasSubstr;
using testing::Not;

absl::StatusOr<NatsAddress> Parse(absl::string_view text) {
  const absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return uri.status();
  return ParseNatsAddress(*uri);
}

TEST(NatsAddress, EveryPartIsRead) {
  const absl::StatusOr<NatsAddress> address = Parse(
      "natss://al%40ice:p%3Aw%2F@Server.Example:4443/"
      "calls.block.1?jetstream=1&encoding=cloudevents-binary&timeout=500ms"
      "&ca=/ca.pem&cert=/c.pem&key=/k.pem");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_TRUE(address->tls);
  EXPECT_EQ(address->user, "al@ice");
  EXPECT_EQ(address->password.Reveal(), "p:w/");
  EXPECT_EQ(address->host.ToString(), "server.example:4443");
  EXPECT_EQ(address->subject, "calls.block.1");
  EXPECT_TRUE(address->jetstream);
  EXPECT_EQ(address->encoding, Encoding::kCloudEventsBinary);
  EXPECT_EQ(address->timeout, absl::Milliseconds(500));
  EXPECT_EQ(address->ca, "/ca.pem");
  EXPECT_EQ(address->cert, "/c.pem");
  EXPECT_EQ(address->key, "/k.pem");
  EXPECT_TRUE(address->verify);
}

// What is written, its canonical form, and what people see.
TEST(NatsAddress, HasOneCanonicalFormAndHidesPasswordAndToken) {
  struct Row {
    absl::string_view text, canonical, masked;
  };
  for (const Row& row : {
           Row{"nats://H/a", "nats://h:4222/a", "nats://h:4222/a"},
           Row{"nats://[::1]:1/a.b?timeout=2000&jetstream=no&encoding=jsonrpc", "nats://[::1]:1/a.b",
               "nats://[::1]:1/a.b"},
           Row{"nats://bob:s3cr3t@h/a?jetstream=yes", "nats://bob:s3cr3t@h:4222/a?jetstream=1",
               "nats://bob:***@h:4222/a?jetstream=1"},
           Row{"nats://bob:@h/a", "nats://bob:@h:4222/a", "nats://bob:***@h:4222/a"},
           Row{"nats://s3cr3t@h/a", "nats://s3cr3t@h:4222/a", "nats://***@h:4222/a"},
           Row{"natss://h/a?verify=0", "natss://h:4222/a?verify=0", "natss://h:4222/a?verify=0"},
       }) {
    const absl::StatusOr<NatsAddress> address = Parse(row.text);
    ASSERT_TRUE(address.ok()) << row.text << ": " << address.status();
    EXPECT_EQ(address->ToString(/*masked=*/false), std::string(row.canonical));
    EXPECT_EQ(address->ToString(/*masked=*/true), std::string(row.masked));
    const absl::StatusOr<NatsAddress> again = Parse(address->ToString(/*masked=*/false));
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->ToString(/*masked=*/false), std::string(row.canonical));
  }
}

TEST(NatsAddress, FaultsAreNamedWithTheirPlace) {
  struct Row {
    std::string text, said;
  };
  for (const Row& row : {
           Row{"nats:h/a", "no // behind the scheme; write nats://host/subject"},
           Row{"nats://h", "no '/' behind the host"},
           Row{"nats://h/", "the subject is empty"},
           Row{"nats://h/a.*", "character 3 of the subject is the wildcard '*'"},
           Row{"nats://h/a.>", "character 3 of the subject is the wildcard '>'"},
           Row{"nats://h/a?jetstream", "must read as options: jetstream=1"},
           Row{"nats://h/a..b", "the token at character 3 of the subject is empty"},
           Row{"nats://h/.a", "the token at character 1 of the subject is empty"},
           Row{"nats://h/a.", "the last token of the subject is empty"},
           Row{"nats://h/$JS.API.STREAM.PURGE.S", "begins with '$'"},
           Row{"nats://h/caf\xc3\xa9", "character 4 of the subject is not printable ASCII"},
           Row{absl::StrCat("nats://h/", std::string(1025, 'a')), "longer than 1024 bytes"},
           Row{"nats://h:0/a", "port"},
           Row{"nats:///a", "host"},
           Row{"nats://@h/a", "the login before '@' is empty"},
           Row{"nats://:s3cr3t@h/a", "the login before '@' is empty"},
           Row{"nats://bob:s3cr3t%@h/a", "the password: a '%'"},
           Row{"nats://bob:s3cr3t%22@h/a", "character 7 of the password is a quote"},
           Row{"nats://s3cr3t%0a@h/a", "character 7 of the token"},
           Row{"nats://bob:s3cr3t/x@h/a", "write a '/' of a password as %2F"},
           Row{"nats://h/a?ca=/ca.pem", "ca"},
           Row{"natss://h/a?ca=ca.pem", "option \"ca\" is not the absolute path"},
           Row{"natss://h/a?cert=/c", "go together"},
           Row{"natss://h/a?verify=0&ca=/c", "no effect"},
           Row{"nats://h/a?encoding=xml", "encoding"},
           Row{"nats://h/a?jetstream=maybe", "jetstream"},
           Row{"nats://h/a?timeout=6m", "timeout"},
       }) {
    const absl::Status status = Parse(row.text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << row.text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(row.said)) << row.text;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("s3cr3t"))) << row.text;
  }
}

TEST(NatsAddress, JetStreamIsDurableAndTheRestIsWritten) {
  const auto transport = MakeNatsTransport();
  EXPECT_EQ(transport->Canonicalize(*ParseUri("nats://h/a"))->ack_level, AckLevel::kWritten);
  EXPECT_EQ(transport->Canonicalize(*ParseUri("nats://h/a?jetstream=1"))->ack_level, AckLevel::kDurable);
  EXPECT_EQ(transport->Canonicalize(*ParseUri("nats://h/a"))->attempt_timeout, absl::Seconds(2));
}

}  // namespace
}  // namespace eventvirtual
