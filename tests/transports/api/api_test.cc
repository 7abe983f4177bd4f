// The texts that users write and receivers read: JSON-RPC bytes, URIs, options.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "transports/api/catalog.h"
#include "transports/api/jsonrpc.h"
#include "transports/api/message.h"
#include "transports/api/transport.h"
#include "transports/api/uri.h"

namespace eventvirtual {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

MessageRef Make(absl::string_view name, std::vector<Param> params) {
  EventFields fields;
  fields.name = name;
  fields.params = params;
  return Message::Make(fields);
}

TEST(JsonRpc, IsByteForByteWhatOpensipsSends) {
  const std::string head = R"({"jsonrpc":"2.0","method":"E_TEST")";
  EXPECT_EQ(Make("E_TEST", {})->jsonrpc(), head + "}");
  EXPECT_EQ(Make("E_TEST", {{"ip", "192.168.2.11"}, {"count", int64_t{-42}}})->jsonrpc(),
            head + R"(,"params":{"ip":"192.168.2.11","count":-42}})");
  EXPECT_EQ(Make("E_TEST", {{"", int64_t{1}}, {"", "second"}})->jsonrpc(), head + R"(,"params":[1,"second"]})");
  EXPECT_EQ(Make("E_TEST", {{"", "x"}, {"n", "y"}, {"", "z"}})->jsonrpc(),
            head + R"(,"params":{"0":"x","n":"y","2":"z"}})");
  EXPECT_EQ(Make("E_TEST", {{"a", "1"}, {"a", "2"}})->jsonrpc(), head + R"(,"params":{"a":"1","a":"2"}})");
}

TEST(JsonRpc, EscapesWhatMustBeEscapedAndNothingElse) {
  const auto text = [](absl::string_view value) {
    std::string out;
    AppendJsonString(value, &out);
    return out;
  };
  EXPECT_EQ(text("a\"b\\c/d"), R"("a\"b\\c/d")");
  EXPECT_EQ(text("\b\f\n\r\t"), R"("\b\f\n\r\t")");
  EXPECT_EQ(text(absl::string_view("\0\x1f\x7f", 3)), "\"\\u0000\\u001f\x7f\"");
  EXPECT_EQ(text("\xc3\xa4"), "\"\xc3\xa4\"");
}

TEST(JsonRpc, WritesEveryKindOfValue) {
  EXPECT_EQ(
      Make("E", {{"", Null{}},
                 {"", true},
                 {"", 1.5},
                 {"", 12345678901234567168.0},
                 {"", std::numeric_limits<double>::quiet_NaN()},
                 {"", std::numeric_limits<int64_t>::min()},
                 {"", Json{R"({"x":[1]})"}},
                 {"", "007"}})
          ->jsonrpc(),
      R"({"jsonrpc":"2.0","method":"E","params":[null,true,1.5,1.2345678901234567e+19,null,-9223372036854775808,{"x":[1]},"007"]})");
}

TEST(JsonRpc, ARequestBeginsWithItsId) {
  const MessageRef message = Make("E", {{"a", "1"}});
  std::string text = "before";
  AppendJsonRpc(*message, {.id = "7", .method = "", .event_param = ""}, &text);
  AppendJsonRpc(*message, {.id = "", .method = "block", .event_param = "event"}, &text);
  EXPECT_EQ(text, R"(before{"id":7,"jsonrpc":"2.0","method":"E","params":{"a":"1"}})"
                  R"({"jsonrpc":"2.0","method":"block","params":{"event":"E","a":"1"}})");
}

// Strings are searched eight bytes at a time: each byte is escaped, or not, wherever it stands.
TEST(JsonRpc, EveryByteIsEscapedAtEveryPlace) {
  for (int byte = 0; byte < 256; ++byte) {
    for (size_t at = 0; at < 20; ++at) {
      std::string text(20, 'x');
      text[at] = static_cast<char>(byte);
      std::string escaped(1, static_cast<char>(byte));
      if (byte == '"' || byte == '\\') escaped.insert(0, "\\");
      if (byte < 0x20) {
        const size_t known = std::string("\b\f\n\r\t").find(static_cast<char>(byte));
        escaped = known != std::string::npos ? absl::StrCat("\\", std::string(1, "bfnrt"[known]))
                                             : absl::StrCat("\\u00", absl::Hex(byte, absl::kZeroPad2));
      }
      std::string json;
      AppendJsonString(text, &json);
      EXPECT_EQ(json, absl::StrCat("\"", std::string(at, 'x'), escaped, std::string(19 - at, 'x'), "\""));
    }
  }
}

TEST(Message, KeepsItsOwnCopyAndGetsAnId) {
  std::string name = "E_GONE", value = "gone";
  const MessageRef message = Make(name, {{"k", value}});
  name = value = "xxxx";
  EXPECT_EQ(message->name(), "E_GONE");
  EXPECT_EQ(message->jsonrpc(), R"({"jsonrpc":"2.0","method":"E_GONE","params":{"k":"gone"}})");
  EXPECT_NE(message->event_id(), Make("E", {})->event_id());
}

TEST(Message, NoTwoHaveOneIdWhicheverThreadsMakeThem) {
  constexpr int kThreads = 3, kEach = 70000;  // far more than a thread numbers at a time
  std::vector<std::vector<std::string>> ids(kThreads);
  std::vector<std::thread> threads;
  for (std::vector<std::string>& mine : ids) {
    threads.emplace_back([&mine] {
      for (int i = 0; i < kEach; ++i) mine.emplace_back(Make("E", {})->event_id());
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<std::string> all;
  for (const std::vector<std::string>& some : ids) all.insert(some.begin(), some.end());
  EXPECT_EQ(all.size(), size_t{kThreads} * kEach);
  const std::string process = all.begin()->substr(0, 17);
  for (const std::string& id : all) {
    ASSERT_EQ(id.substr(0, 17), process);
    ASSERT_EQ(id.find_first_not_of("0123456789abcdef", 17), std::string::npos) << id;
  }
}

TEST(LentMessage, TakesAReferenceWhereItIsKeptAndNoneBefore) {
  const MessageRef message = Make("E", {});
  {
    Parcel lent(*message, {});
    EXPECT_EQ(message->references(), 1u);
    EXPECT_EQ(lent.message->name(), "E");
    Parcel kept = std::move(lent);
    EXPECT_EQ(message->references(), 2u);
    std::vector<Parcel> waiting;
    waiting.push_back(std::move(kept));
    EXPECT_EQ(message->references(), 2u) << "it is moved, like any reference";
    const MessageRef alone = std::move(waiting[0].message);
    waiting.clear();
    EXPECT_EQ(alone.get(), message.get());
    EXPECT_EQ(message->references(), 2u);
    Parcel other(*message, {});
    EXPECT_EQ(other.message.Share().get(), message.get());
    other = Parcel(MessageRef(message), {});
    EXPECT_EQ(message->references(), 3u);
  }
  EXPECT_EQ(message->references(), 1u);
}

TEST(Uri, IsCutIntoSchemeBodyAndQuery) {
  struct Case {
    const char* text;
    const char* scheme;
    const char* body;
    std::vector<std::pair<std::string, std::string>> query;
  };
  const Case cases[] = {
      {"udp:127.0.0.1:8081", "udp", "127.0.0.1:8081", {}},
      {"/run/x.sock", "unix", "/run/x.sock", {}},
      {"tcp:h:1/block?reliable=1&timeout=500ms", "tcp", "h:1/block", {{"reliable", "1"}, {"timeout", "500ms"}}},
      {"flatstore:/x.log?delimiter=;", "flatstore", "/x.log", {{"delimiter", ";"}}},
      {"flatstore:/x.log?delimiter=%26%3D", "flatstore", "/x.log", {{"delimiter", "&="}}},
      {"rabbitmq:guest:guest@h:5672/exchange=X;persistent?key",
       "rabbitmq",
       "guest:guest@h:5672/exchange=X;persistent?key",
       {}},
      {"rabbitmq:h/?pike", "rabbitmq", "h/?pike", {}},
      {"rabbitmq:h/pike?timeout=2s", "rabbitmq", "h/pike", {{"timeout", "2s"}}},
      {"amqp://h/v?header.Site-1=b&exchange=x", "amqp", "//h/v", {{"header.Site-1", "b"}, {"exchange", "x"}}},
      {"kafka:h:1,h2:2/topic?g.a=b&t.c=d", "kafka", "h:1,h2:2/topic", {{"g.a", "b"}, {"t.c", "d"}}},
  };
  for (const Case& expected : cases) {
    const absl::StatusOr<Uri> uri = ParseUri(expected.text);
    ASSERT_TRUE(uri.ok()) << expected.text << ": " << uri.status();
    EXPECT_EQ(uri->scheme, expected.scheme);
    EXPECT_EQ(uri->body, expected.body);
    EXPECT_EQ(uri->query, expected.query) << expected.text;
  }
}

// "tcp:h:1/x?reliable=1", which would be left once the default is dropped, means something else.
TEST(Uri, RefusesOptionsBehindASecondQuestionMark) {
  for (const char* text : {"tcp:h:1/x?reliable=1?timeout=1s", "unix:/x?a=b?timeout=100ms", "tcp:h:1?a=b?c=d?e=f"}) {
    const absl::StatusOr<Uri> uri = ParseUri(text);
    EXPECT_EQ(uri.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(uri.status().message()), HasSubstr("join its options with '&'"));
  }
  EXPECT_EQ(ParseUri("rabbitmq:h/exchange=X;persistent?key?timeout=2s")->body, "h/exchange=X;persistent?key");
}

TEST(Uri, RefusesWithoutRepeatingWhatMayBeAPassword) {
  for (const char* text : {"", "secret", ":secret", "Udp:secret", "udp:sec ret", "udp:secret\n", "x:secret?a=%zz",
                           "x:a?secret=%zz", "x:a?secret=1?b=2", "9x:secret"}) {
    const absl::StatusOr<Uri> uri = ParseUri(text);
    EXPECT_EQ(uri.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(uri.status().message()), Not(HasSubstr("secret"))) << text;
  }
}

TEST(Catalog, RefusesGiantSubscribersWithoutRepeatingThem) {
  const Catalog catalog({});
  const absl::Status status = catalog.Resolve("udp:" + std::string(100000, 'x')).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(status.message()), "the subscriber has 100004 bytes; at most 8192 are taken (--max_uri)");
}

TEST(HostPort, TakesNamesAndAddresses) {
  EXPECT_EQ(ParseHostPort("Example.ORG:5060")->ToString(), "example.org:5060");
  EXPECT_EQ(ParseHostPort("[::1]:80")->ToString(), "[::1]:80");
  EXPECT_EQ(ParseHostPort("h", 5672)->ToString(), "h:5672");
  for (const char* text : {"", "h", ":1", "h:", "h:0", "h:65536", "h:99999", "h:1x", "::1:80", "[::1", "[::1]x",
                           "[h]:1", "h/x:1", "a b:1"}) {
    EXPECT_FALSE(ParseHostPort(text).ok()) << text;
  }
}

TEST(Query, UnknownRepeatedAndOutOfBoundsOptionsAreNamed) {
  const auto fault = [](const char* text) {
    const absl::StatusOr<Uri> uri = ParseUri(text);
    QueryReader query(*uri);
    query.TakeBool("reliable", false);
    query.TakeDuration("timeout", absl::Seconds(1), absl::Milliseconds(1), absl::Minutes(1));
    return std::string(query.Done().message());
  };
  EXPECT_EQ(fault("tcp:h:1?reliable=yes&timeout=250"), "");
  EXPECT_THAT(fault("tcp:h:1?relaible=1"), HasSubstr("known: reliable, timeout"));
  EXPECT_THAT(fault("tcp:h:1?reliable=1&reliable=0"), HasSubstr("twice"));
  EXPECT_THAT(fault("tcp:h:1?timeout=2h"), HasSubstr("1ms to 1m"));
  EXPECT_THAT(fault("tcp:h:1?reliable=maybe"), HasSubstr("neither 1 nor 0"));
}

TEST(Query, WhatIsWrittenReadsBackTheSame) {
  std::string every;
  for (int byte = 1; byte < 256; ++byte) every.push_back(static_cast<char>(byte));
  QueryWriter writer;
  writer.Add("a", every);
  writer.Add("b", "");
  const absl::StatusOr<Uri> uri = ParseUri("x:body" + writer.text());
  ASSERT_TRUE(uri.ok()) << uri.status();
  EXPECT_EQ(uri->body, "body");
  EXPECT_EQ(uri->query[0].second, every);
  EXPECT_EQ(uri->query[1].second, "");
}

}  // namespace
}  // namespace eventvirtual
