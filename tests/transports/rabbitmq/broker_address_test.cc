// The texts that users write for a subscriber at an AMQP broker, and what they are told when they are wrong.
#include "transports/rabbitmq/broker_address.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transports/api/uri.h"
#include "transports/rabbitmq/rabbitmq_transport.h"

namespace eventvirtual {
namespace {

using testing::HasSubstr;
using testing::Not;

absl::StatusOr<BrokerAddress> Parse(absl::string_view text) {
  const absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return uri.status();
  return ParseBrokerAddress(*uri);
}

TEST(BrokerAddress, DefaultsAreThoseOfOpensips) {
  const absl::StatusOr<BrokerAddress> address = Parse("rabbitmq:broker/block");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->host.ToString(), "broker:5672");
  EXPECT_EQ(address->user, "guest");
  EXPECT_EQ(address->password.Reveal(), "guest");
  EXPECT_EQ(address->vhost, "/");
  EXPECT_EQ(address->exchange, "");
  EXPECT_EQ(address->routing_key, "block");
  EXPECT_FALSE(address->persistent);
  EXPECT_EQ(address->heartbeat, absl::Seconds(10));
  EXPECT_EQ(address->timeout, absl::Seconds(2));
}

TEST(BrokerAddress, EveryPartIsRead) {
  const absl::StatusOr<BrokerAddress> address = Parse(
      "rabbitmq:al%3Aice:p%40s%2Fs:word@[::1]:5673/"
      "exchange=sip;persistent;vhost=prod/eu;heartbeat=3;header.site=a%3Bb;header.n=?calls.#?timeout=500ms");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->user, "al:ice");
  EXPECT_EQ(address->password.Reveal(), "p@s/s:word");
  EXPECT_EQ(address->host.ToString(), "[::1]:5673");
  EXPECT_EQ(address->exchange, "sip");
  EXPECT_TRUE(address->persistent);
  EXPECT_EQ(address->vhost, "prod/eu");
  EXPECT_EQ(address->heartbeat, absl::Seconds(3));
  EXPECT_EQ(address->headers, (std::map<std::string, std::string>{{"site", "a;b"}, {"n", ""}}));
  EXPECT_EQ(address->routing_key, "calls.#");
  EXPECT_EQ(address->timeout, absl::Milliseconds(500));
}

// What is written, its canonical form, and what people see.
TEST(BrokerAddress, HasOneCanonicalFormAndHidesThePassword) {
  struct Row {
    absl::string_view text, canonical, masked;
  };
  for (const Row& row : {
           Row{"rabbitmq:Broker/q", "rabbitmq:broker:5672/q", "rabbitmq:broker:5672/q"},
           Row{"rabbitmq:guest:guest@h:5672/q?timeout=2000", "rabbitmq:h:5672/q", "rabbitmq:h:5672/q"},
           Row{"rabbitmq:guest:secret@h/q", "rabbitmq:guest:secret@h:5672/q", "rabbitmq:guest:***@h:5672/q"},
           Row{"rabbitmq:bob@h/q", "rabbitmq:bob:guest@h:5672/q", "rabbitmq:bob:***@h:5672/q"},
           Row{"rabbitmq:bob:@h/q", "rabbitmq:bob:@h:5672/q", "rabbitmq:bob:***@h:5672/q"},
           Row{"rabbitmq:a:b:c@d@h/q", "rabbitmq:a:b%3ac%40d@h:5672/q", "rabbitmq:a:***@h:5672/q"},
           Row{"rabbitmq:h/?q", "rabbitmq:h:5672/q", "rabbitmq:h:5672/q"},
           Row{"rabbitmq:h/persistent=0;exchange=?q", "rabbitmq:h:5672/q", "rabbitmq:h:5672/q"},
           Row{"rabbitmq:h/persistent=1;exchange=x?", "rabbitmq:h:5672/exchange=x;persistent?",
               "rabbitmq:h:5672/exchange=x;persistent?"},
           Row{"rabbitmq:h/exchange=x??timeout=3s", "rabbitmq:h:5672/exchange=x??timeout=3s",
               "rabbitmq:h:5672/exchange=x??timeout=3s"},
           Row{"rabbitmq:h/exchange=x?a?b", "rabbitmq:h:5672/exchange=x?a%3fb", "rabbitmq:h:5672/exchange=x?a%3fb"},
           Row{"rabbitmq:h/exchange=x?a%3Db", "rabbitmq:h:5672/exchange=x?a%3db", "rabbitmq:h:5672/exchange=x?a%3db"},
           Row{"rabbitmq:h/mandatory;exchange=x?q?encoding=jsonrpc", "rabbitmq:h:5672/exchange=x?q",
               "rabbitmq:h:5672/exchange=x?q"},
           Row{"rabbitmq:h/mandatory=0?q?encoding=cloudevents-binary",
               "rabbitmq:h:5672/mandatory=0?q?encoding=cloudevents-binary",
               "rabbitmq:h:5672/mandatory=0?q?encoding=cloudevents-binary"},
           Row{"rabbitmq:h/a=b;c", "rabbitmq:h:5672/a%3db%3bc", "rabbitmq:h:5672/a%3db%3bc"},
           Row{"rabbitmq:h/persistent", "rabbitmq:h:5672/persistent", "rabbitmq:h:5672/persistent"},
           Row{"rabbitmq:h/exchange%3Dx", "rabbitmq:h:5672/exchange%3dx", "rabbitmq:h:5672/exchange%3dx"},
           Row{"rabbitmq:h/heartbeat=10;vhost=/;header.b=2;header.a=1?q", "rabbitmq:h:5672/header.a=1;header.b=2?q",
               "rabbitmq:h:5672/header.a=1;header.b=2?q"},
           Row{"rabbitmq:h/vhost=%E2%82%AC?user@domain/x", "rabbitmq:h:5672/vhost=%e2%82%ac?user%40domain/x",
               "rabbitmq:h:5672/vhost=%e2%82%ac?user%40domain/x"},
       }) {
    const absl::StatusOr<BrokerAddress> address = Parse(row.text);
    ASSERT_TRUE(address.ok()) << row.text << ": " << address.status();
    EXPECT_EQ(address->ToString(false), row.canonical) << row.text;
    EXPECT_EQ(address->ToString(true), row.masked) << row.text;
    const absl::StatusOr<BrokerAddress> again = Parse(row.canonical);
    ASSERT_TRUE(again.ok()) << row.canonical << ": " << again.status();
    EXPECT_EQ(again->ToString(false), row.canonical);
    EXPECT_TRUE(again->password == address->password);
    EXPECT_EQ(again->routing_key, address->routing_key);
  }
}

TEST(BrokerAddress, ErrorsNameThePartAndTheWayOut) {
  struct Row {
    std::string text, error;
  };
  for (const Row& row : {
           Row{"rabbitmq:host", "write rabbitmq:host/routing_key"},
           Row{"rabbitmq:/q", "the host is empty"},
           Row{"rabbitmq:user:secret@h:0/q", "the port after host \"h\""},
           Row{"rabbitmq:user:secret/x@h/q", "write a '/' of a password as %2F, and an '@' of the routing key as %40"},
           Row{"rabbitmq:@h/q", "the user before '@' is empty"},
           Row{"rabbitmq::secret@h/q", "the user before '@' is empty"},
           Row{"rabbitmq:user:secret%@h/q", "the password: a '%' must be followed by two"},
           Row{"rabbitmq:user:secret%00@h/q", "the password must not hold %00"},
           Row{"rabbitmq:user:secret@h/",
               "the routing key is empty; without exchange=NAME it is the name of the queue"},
           Row{"rabbitmq:h/persistent?", "the routing key is empty"},
           Row{"rabbitmq:h/exchange=x?timeout=1s", "\"exchange=…\" stands where the routing key does"},
           Row{"rabbitmq:h/header.x=y", "\"header.x=…\" stands where the routing key does"},
           Row{"rabbitmq:h/tls_domain=d?q", "for TLS write amqps://"},
           Row{"rabbitmq:h/mandatory=no?q", "\"mandatory\" is neither 1 nor 0"},
           Row{"rabbitmq:h/header.cloudEvents_id=1?q", "headers whose names begin with cloudEvents_ are written by us"},
           Row{"rabbitmq:h/q?encoding=xml", "\"encoding\" is none of: jsonrpc, jsonrpc-hops, json, cloudevents"},
           Row{"rabbitmq:h/exchnage=x?q", "parameter \"exchnage\" before '?' is unknown; known: exchange=NAME"},
           Row{"rabbitmq:h/exchange=x;exchange=y?q", "parameter \"exchange\" is given twice"},
           Row{"rabbitmq:h/exchange?q", "parameter \"exchange\" has no value"},
           Row{"rabbitmq:h/vhost=?q", "parameter \"vhost\" is empty"},
           Row{"rabbitmq:h/persistent=yes?q", "\"persistent\" is neither 1 nor 0"},
           Row{"rabbitmq:h/heartbeat=-1?q", "\"heartbeat\" is not a number of seconds from 0 (none) to 3600"},
           Row{"rabbitmq:h/heartbeat=10s?q", "\"heartbeat\" is not a number of seconds"},
           Row{"rabbitmq:h/header.=x?q", "a header has no name"},
           Row{"rabbitmq:h/header.a=1;header.%61=2?q", "parameter \"header.%61\" is given twice"},
           Row{"rabbitmq:h/q?timeout=0", "option \"timeout\" is not a time"},
           Row{"rabbitmq:h/q?persistent=1", "option \"persistent\" is unknown; known: timeout, encoding"},
           Row{"rabbitmq:h/" + std::string(256, 'k'), "the routing key is longer than the 255 bytes"},
           Row{"rabbitmq:h/exchange=" + std::string(256, 'x') + "?q", "exchange is longer than the 255 bytes"},
       }) {
    const absl::Status error = Parse(row.text).status();
    EXPECT_EQ(error.code(), absl::StatusCode::kInvalidArgument) << row.text;
    EXPECT_THAT(std::string(error.message()), HasSubstr(row.error)) << row.text;
    EXPECT_THAT(std::string(error.message()), Not(HasSubstr("secret"))) << row.text;
  }
  std::string headers;
  for (int i = 0; i < 17; ++i) headers += "header.h" + std::to_string(i) + "=v;";
  EXPECT_THAT(std::string(Parse("rabbitmq:h/" + headers + "?q").status().message()), HasSubstr("more than 16 headers"));
}

// --- AMQP URIs

// The examples of RabbitMQ's URI specification, as far as they name a host. It knows no routing key: an option of ours.
TEST(AmqpUri, IsReadAsItsSpecificationSays) {
  struct Row {
    absl::string_view uri, user, password, host, vhost;
  };
  for (const Row& row : {
           Row{"amqp://user:pass@host:10000/vhost", "user", "pass", "host:10000", "vhost"},
           Row{"amqp://user%61:%61pass@host:10000/v%2fhost", "usera", "apass", "host:10000", "v/host"},
           Row{"amqp://host", "guest", "guest", "host:5672", "/"},
           Row{"amqp://user@host", "user", "guest", "host:5672", "/"},
           Row{"amqp://user:@host", "user", "", "host:5672", "/"},
           Row{"amqp://host:10000", "guest", "guest", "host:10000", "/"},
           Row{"amqp://host/vhost", "guest", "guest", "host:5672", "vhost"},
           Row{"amqp://host/", "guest", "guest", "host:5672", "/"},  // ours: see the README
           Row{"amqp://host/%2f", "guest", "guest", "host:5672", "/"},
           Row{"amqp://[::1]", "guest", "guest", "[::1]:5672", "/"},
           Row{"amqps://host/vhost", "guest", "guest", "host:5671", "vhost"},
           Row{"amqps://host:5672", "guest", "guest", "host:5672", "/"},
       }) {
    const absl::StatusOr<BrokerAddress> address = Parse(absl::StrCat(row.uri, "?routing_key=q"));
    ASSERT_TRUE(address.ok()) << row.uri << ": " << address.status();
    EXPECT_EQ(address->user, row.user) << row.uri;
    EXPECT_EQ(address->password.Reveal(), row.password) << row.uri;
    EXPECT_EQ(address->host.ToString(), row.host) << row.uri;
    EXPECT_EQ(address->vhost, row.vhost) << row.uri;
    EXPECT_EQ(address->routing_key, "q");
    EXPECT_EQ(address->tls(), row.uri[4] == 's') << row.uri;
  }
}

TEST(AmqpUri, EveryOptionIsRead) {
  const absl::StatusOr<BrokerAddress> address = Parse(
      "amqps://mq/v?exchange=a%26b&routing_key=sip.%23&persistent=1&mandatory=0&heartbeat=3&header.Site=K%C3%B6ln"
      "&header.n=1&timeout=500ms&encoding=cloudevents-binary&ca=/a.pem&cert=/c.pem&key=/k.pem");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->exchange, "a&b");
  EXPECT_EQ(address->routing_key, "sip.#");
  EXPECT_TRUE(address->persistent);
  EXPECT_FALSE(address->mandatory);
  EXPECT_EQ(address->heartbeat, absl::Seconds(3));
  EXPECT_EQ(address->headers, (std::map<std::string, std::string>{{"Site", "Köln"}, {"n", "1"}}));
  EXPECT_EQ(address->timeout, absl::Milliseconds(500));
  EXPECT_EQ(address->encoding, Encoding::kCloudEventsBinary);
  EXPECT_TRUE(address->verify);
  EXPECT_EQ(address->ca, "/a.pem");
  EXPECT_EQ(address->cert, "/c.pem");
  EXPECT_EQ(address->key, "/k.pem");
}

TEST(AmqpUri, HasOneCanonicalFormAndHidesThePassword) {
  struct Row {
    absl::string_view text, canonical, masked;
  };
  for (const Row& row : {
           Row{"amqp://Broker/%2F?routing_key=q", "amqp://broker:5672?routing_key=q",
               "amqp://broker:5672?routing_key=q"},
           Row{"amqps://guest:guest@h/?routing_key=q&verify=1&encoding=jsonrpc&mandatory=1&persistent=0&heartbeat=10",
               "amqps://h:5671?routing_key=q", "amqps://h:5671?routing_key=q"},
           Row{"amqps://bob:p%40ss@h:1/v%2fw?verify=0&timeout=3s&header.b=2&header.a=1&exchange=x",
               "amqps://bob:p%40ss@h:1/v%2fw?exchange=x&header.a=1&header.b=2&timeout=3s&verify=0",
               "amqps://bob:***@h:1/v%2fw?exchange=x&header.a=1&header.b=2&timeout=3s&verify=0"},
           Row{"amqp://bob@h?routing_key=a%3Fb%3Dc", "amqp://bob:guest@h:5672?routing_key=a%3fb%3dc",
               "amqp://bob:***@h:5672?routing_key=a%3fb%3dc"},
           Row{"amqps://h/v?key=/k.pem&cert=/c.pem&ca=/a%20b.pem&routing_key=q",
               "amqps://h:5671/v?routing_key=q&ca=/a%20b.pem&cert=/c.pem&key=/k.pem",
               "amqps://h:5671/v?routing_key=q&ca=/a%20b.pem&cert=/c.pem&key=/k.pem"},
       }) {
    const absl::StatusOr<BrokerAddress> address = Parse(row.text);
    ASSERT_TRUE(address.ok()) << row.text << ": " << address.status();
    EXPECT_EQ(address->ToString(false), row.canonical) << row.text;
    EXPECT_EQ(address->ToString(true), row.masked) << row.text;
    const absl::StatusOr<BrokerAddress> again = Parse(row.canonical);
    ASSERT_TRUE(again.ok()) << row.canonical << ": " << again.status();
    EXPECT_EQ(again->ToString(false), row.canonical);
    EXPECT_TRUE(again->password == address->password);
    EXPECT_EQ(again->vhost, address->vhost);
  }
}

TEST(AmqpUri, ErrorsNameThePartAndTheWayOut) {
  const std::string longest(255, 'x');
  struct Row {
    std::string text, error;
  };
  for (const Row& row : {
           Row{"amqp:host/v?routing_key=q", "write amqp://host/vhost?routing_key=KEY"},
           Row{"amqp://u:secret@h/v",
               "the routing key is empty; without exchange=NAME it is the name of the queue: amqp:"},
           Row{"amqp://h/a/b?routing_key=q", "write a '/' of the virtual host as %2F"},
           Row{"amqp://h//?routing_key=q", "as in /%2F for \"/\""},
           Row{"amqp://h/v?routing_key", "does not read as options; write name=value"},
           Row{"amqp:///v?routing_key=q", "the host is empty"},
           Row{"amqp://u:secret%@h/v?routing_key=q", "the password: a '%' must be followed by two"},
           Row{"amqp://u:secret@h:0/v?routing_key=q", "the port after host \"h\""},
           Row{"amqp://u:sec/ret@h/v?routing_key=q", "write a '/' of a password as %2F"},
           Row{"amqp://h/v%00?routing_key=q", "the virtual host must not hold %00"},
           Row{"amqp://h/" + longest + "x?routing_key=q", "the virtual host is longer than the 255 bytes"},
           Row{"amqp://h?routing_key=" + longest + "x", "\"routing_key\" is longer than the 255 bytes"},
           Row{"amqp://h?exchange=%00&routing_key=q", "option \"exchange\" must not hold %00"},
           Row{"amqp://h?queue=q", "option \"queue\" is unknown; known: exchange, routing_key"},
           Row{"amqp://h?routing_key=q&ca=/a.pem", "option \"ca\" is unknown"},
           Row{"amqp://h?routing_key=q&heartbeat=4000", "\"heartbeat\""},
           Row{"amqp://h?routing_key=q&header.=x", "a header has no name"},
           Row{"amqp://h?routing_key=q&header.a=" + longest + "x", "header.a is longer than the 255 bytes"},
           Row{"amqp://h?routing_key=q&header.x-eventvirtual-tag=1", "are written by us"},
           Row{"amqps://h?routing_key=q&ca=a.pem", "option \"ca\" is not the absolute path of a PEM file"},
           Row{"amqps://h?routing_key=q&cert=/c.pem", "options \"cert\" and \"key\" go together"},
           Row{"amqps://h?routing_key=q&ca=/a.pem&verify=0", "option \"ca\" has no effect with verify=0"},
       }) {
    const absl::Status error = Parse(row.text).status();
    EXPECT_EQ(error.code(), absl::StatusCode::kInvalidArgument) << row.text;
    EXPECT_THAT(std::string(error.message()), HasSubstr(row.error)) << row.text;
    EXPECT_THAT(std::string(error.message()), Not(HasSubstr("secret"))) << row.text;
  }
}

TEST(RabbitmqTransport, TargetsAreConfirmedAndMasked) {
  const std::unique_ptr<Transport> transport = MakeRabbitmqTransport();
  const absl::StatusOr<Target> target = transport->Canonicalize(*ParseUri("rabbitmq:u:pw@h/q?timeout=1s"));
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ(target->canonical, "rabbitmq:u:pw@h:5672/q?timeout=1s");
  EXPECT_EQ(target->masked, "rabbitmq:u:***@h:5672/q?timeout=1s");
  EXPECT_EQ(target->ack_level, AckLevel::kConfirmed);
  EXPECT_EQ(target->attempt_timeout, absl::Seconds(1));
}

}  // namespace
}  // namespace eventvirtual
