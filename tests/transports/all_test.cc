// docs/guarantees.md against the program.
#include "transports/all.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "transports/api/catalog.h"

namespace eventvirtual {
namespace {

const char* Words(AckLevel level) {
  switch (level) {
    case AckLevel::kHandedToKernel:
      return "handed to kernel";
    case AckLevel::kWritten:
      return "written";
    case AckLevel::kConfirmed:
      return "confirmed";
    case AckLevel::kDurable:
      return "durable";
  }
  return "";
}

// Below each heading "## scheme, …": `an example` · ack level · attempt timeout.
TEST(GuaranteesTest, TheExamplesAreWhatTheProgramSays) {
  StreamListeners listeners;
  const Catalog catalog(AllTransports(listeners));
  std::set<std::string> examples;
  std::ifstream document("docs/guarantees.md");
  for (std::string line; std::getline(document, line);) {
    const std::vector<std::string> parts = absl::StrSplit(line, " · ");
    if (parts.size() != 3) continue;
    absl::string_view example = parts[0];
    ASSERT_TRUE(absl::ConsumePrefix(&example, "`") && absl::ConsumeSuffix(&example, "`")) << line;
    const absl::StatusOr<Destination> destination = catalog.Resolve(example);
    ASSERT_TRUE(destination.ok()) << line << ": " << destination.status();
    EXPECT_EQ(parts[1], Words(destination->target.ack_level)) << line;
    EXPECT_EQ(parts[2], absl::FormatDuration(destination->target.attempt_timeout)) << line;
    for (absl::string_view scheme : destination->transport->schemes()) examples.emplace(scheme);
  }
  for (const auto& transport : catalog.transports()) {
    for (absl::string_view scheme : transport->schemes()) EXPECT_EQ(examples.count(std::string(scheme)), 1u) << scheme;
  }
}

// What ListTransports shows can be written as it is shown.
TEST(AllTransports, DescribeThemselves) {
  std::set<std::string> schemes;
  StreamListeners listeners;
  for (const auto& transport : AllTransports(listeners)) {
    EXPECT_NE(transport->description(), "");
    for (absl::string_view scheme : transport->schemes()) {
      EXPECT_TRUE(schemes.emplace(scheme).second) << scheme;
    }
    const absl::string_view first = transport->schemes().front();
    EXPECT_EQ(transport->syntax().substr(0, first.size()), first);
  }
}

// Every place of a password, token or key, with a %s for it.
constexpr absl::string_view kPlaces[] = {
    "rabbitmq:alice:%s@h:5672/queue",
    "amqp://alice:%s@h:5672/v?routing_key=queue",
    "amqp://alice:%s@h:5672?routing_key=queue",
    "amqps://alice:%s@h:5671/v?routing_key=queue",
    "kafka:h:9092/topic?g.sasl.mechanism=PLAIN&g.sasl.password=%s&g.sasl.username=alice",
    "kafka:h:9092/topic?g.ssl.ca.pem=%s",
    "kafka:h:9092/topic?g.ssl.certificate.pem=%s",
    "kafka:h:9092/topic?g.ssl.key.password=%s",
    "kafka:h:9092/topic?g.ssl.key.pem=%s",
    "mqtt://alice:%s@h:1883/topic",
    "mqtts://alice:%s@h:8883/topic",
    "nats://alice:%s@h:4222/subject",
    "nats://%s@h:4222/subject",
    "natss://%s@h:4222/subject",
    "redis://alice:%s@h:6379/list:events",
    "redis://:%s@h:6379/stream:events",
    "http://alice:%s@h:8080/events",
    "https://alice:%s@h:8080/events",
    "http://h:8080/events?query=%s",
    "http://h:8080/events?header.authorization=Bearer%20%s",
    "http://h:8080/events?header.x-token=%s",
    "xmlrpc:h:8080:receive?header.authorization=%s",
    "grpc://h:9000?token=%s",
    "grpcs://h:9000?token=%s",
};

std::string With(absl::string_view place, absl::string_view secret) {
  return absl::StrReplaceAll(place, {{"%s", secret}});
}

TEST(SecretsInSubscribers, ANameStandsWhereverAPasswordDoes) {
  StreamListeners listeners;
  const Catalog catalog(AllTransports(listeners));
  for (absl::string_view place : kPlaces) {
    const std::string text = With(place, "${secret:a_B-1.x}");
    const absl::StatusOr<Destination> destination = catalog.Resolve(text);
    ASSERT_TRUE(destination.ok()) << text << destination.status();
    const Target& target = destination->target;
    EXPECT_EQ(target.canonical, text);
    EXPECT_TRUE(absl::StrContains(target.masked, "${secret:a_B-1.x}")) << target.masked;
    ASSERT_EQ(target.secrets.size(), 1u) << text;
    EXPECT_EQ(target.secrets.begin()->first, "a_B-1.x");
    const absl::StatusOr<Destination> again = catalog.Resolve(target.canonical, /*canonical=*/true);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->target.canonical, target.canonical) << "the same text, the same endpoint";
  }
}

// Text around a name is as secret as a text alone.
TEST(SecretsInSubscribers, TextAroundANameIsMasked) {
  StreamListeners listeners;
  const Catalog catalog(AllTransports(listeners));
  for (absl::string_view place : kPlaces) {
    const absl::StatusOr<Destination> destination = catalog.Resolve(With(place, "c4n4ry${secret:a}c4n4ry"));
    ASSERT_TRUE(destination.ok()) << place << destination.status();
    EXPECT_TRUE(absl::StrContains(destination->target.masked, "***${secret:a}***")) << destination->target.masked;
    EXPECT_FALSE(absl::StrContains(destination->target.masked, "c4n4ry"));
  }
}

// Passwords as they are written by who does not know that they must be encoded: some of what follows is no password any
// more to who reads it.
constexpr absl::string_view kCareless[] = {
    "c4n4ry/c4n4ry",
    "1/c4n4ry",
    "c4n4ry?c4n4ry",
    "1?c4n4ry=c4n4ry",
    "c4n4ry?c4n4ry=c4n4ry",
    "1?c4n4ry=1&x=1",
    "c4n4ry@c4n4ry",
    "c4n4ry#c4n4ry",
    "c4n4ry%",
    "c4n4ry%c4n4ry",
    "c4n4ry:c4n4ry",
    "c4n4ry c4n4ry",
    "c4n4ry\tc4n4ry",
    "c4n4ry[c4n4ry]",
    "[c4n4ry",
    "c4n4ry&c4n4ry",
    "c4n4ry&c4n4ry=1",
    "c4n4ry=c4n4ry",
    "c4n4ry;c4n4ry",
    "c4n4ry,c4n4ry",
    "c4n4ry\\c4n4ry",
    "c4n4ry\"c4n4ry",
    "c4n4ry/c4n4ry?x=1",
    "c4n4ry@c4n4ry/",
    "1:c4n4ry/c4n4ry",
    "c4n4ry%00",
    "c4n4ry\xff",
    "${secret:c4n4ry",
    "${secret:c4n4ry/}",
    "c4n4ry${secret:}",
    "/c4n4ry@",
    "?c4n4ry",
    "1?c4n4ry=%zz",
    "@c4n4ry/c4n4ry",
    "c4n4ry/?c4n4ry=1",
    "1/c4n4ry=1?x",
    "1/c4n4ry;c4n4ry=1?q",
    "c4n4ry/header.c4n4ry=1?q",
    "c4n4ry&c4n4ry",
    "1&c4n4ry=2",
};

TEST(SecretsInSubscribers, CarelessPasswordsAreNotShownEither) {
  StreamListeners listeners;
  const Catalog catalog(AllTransports(listeners));
  for (absl::string_view place : kPlaces) {
    for (absl::string_view password : kCareless) {
      // Where there is one, NATS takes it for a user and a password.
      if (absl::StrContains(place, "://%s@") && absl::StrContains(password, ':')) continue;
      const std::string text = With(place, password);
      const absl::StatusOr<Destination> destination = catalog.Resolve(text);
      const std::string shown(destination.ok() ? destination->target.masked : destination.status().message());
      EXPECT_FALSE(absl::StrContains(shown, "c4n4ry")) << text << "\nis shown as: " << shown;
    }
  }
}

TEST(SecretsInSubscribers, ElsewhereANameIsRefused) {
  StreamListeners listeners;
  const Catalog catalog(AllTransports(listeners));
  for (absl::string_view text : {"rabbitmq:${secret:a}:p@h/queue",
                                 "rabbitmq:u:p@h/${secret:a}",
                                 "rabbitmq:u:p@${secret:a}/q",
                                 "rabbitmq:u:${secret:b}@h/${secret:a}",
                                 "amqp://u:p@h/v?routing_key=${secret:a}",
                                 "kafka:h/topic?g.client.id=${secret:a}",
                                 "kafka:h/topic?key=${secret:a}",
                                 "mqtt://u:p@h/${secret:a}",
                                 "mqtt://u:p@h/t?client_id=${secret:a}",
                                 "nats://h/a.${secret:a}",
                                 "redis://h/list:${secret:a}",
                                 "redis://${secret:a}:p@h/list:k",
                                 "http://h/${secret:a}",
                                 "https://h/e?ca=/${secret:a}",
                                 "http://h/e?timeout=${secret:a}",
                                 "udp:${secret:a}:80",
                                 "unix:/${secret:a}",
                                 "flatstore:/${secret:a}",
                                 "tcp:h:80/${secret:a}",
                                 "xmlrpc:h:80:${secret:a}",
                                 "stream:${secret:a}",
                                 "grpcs://h:80?key=/${secret:a}",
                                 "sqs:https://sqs.eu-central-1.amazonaws.com/1/q?group=${secret:a}",
                                 "http://h/e?nothing=${secret:a}",
                                 "mqtt://u:p@h/a${secret:"}) {
    const absl::Status status = catalog.Resolve(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
  }
  EXPECT_TRUE(absl::StrContains(catalog.Resolve("redis://h/list:${secret:a}").status().message(),
                                "stands where redis has no password, token or key"));
}

}  // namespace
}  // namespace eventvirtual
