// The encodings that subscribers may choose.
#include "transports/api/encoding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/transports/api/cloud_event_rules.h"

namespace eventvirtual {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

using Attributes = std::vector<std::pair<absl::string_view, absl::string_view>>;

const absl::Time kNoon = absl::FromUnixMillis(1790000000250);  // 2026-09-21T14:13:20.25Z

MessageRef Make(EventFields fields, std::vector<Param> params, Attributes attributes = {}) {
  fields.params = params;
  fields.attributes = attributes;
  return Message::Make(fields);
}

TEST(Encoding, JsonIsAPlainObject) {
  EXPECT_EQ(Make({.name = "E_ACC", .event_id = "7", .event_time = kNoon, .source = "sbc"},
                 {{"callid", "a\"b"}, {"code", int64_t{200}}}, {{"site", "x"}})
                ->encoded(Encoding::kJson),
            R"({"event":"E_ACC","event_id":"7","event_time":"2026-09-21T14:13:20.25Z","source":"sbc",)"
            R"("attributes":{"eventhops":"1","site":"x"},"params":{"callid":"a\"b","code":200}})");
  EXPECT_EQ(Make({.name = "E", .event_id = "8"}, {})->encoded(Encoding::kJson),
            R"({"event":"E","event_id":"8","event_time":"1970-01-01T00:00:00Z","attributes":{"eventhops":"1"}})");
  EXPECT_EQ(Make({.name = "E", .event_id = "9"}, {{"", int64_t{1}}, {"", "x"}})->encoded(Encoding::kJson),
            R"({"event":"E","event_id":"9","event_time":"1970-01-01T00:00:00Z","attributes":{"eventhops":"1"},)"
            R"("params":[1,"x"]})");
}

TEST(Encoding, EachButOpensipsOwnAndABareBodySaysHowManyHaveDeliveredTheEventThen) {
  const MessageRef message = Make({.name = "E", .event_id = "7", .hops = 7}, {{"a", "b"}});
  EXPECT_THAT(std::string(message->encoded(Encoding::kJson)), HasSubstr(R"("attributes":{"eventhops":"8"})"));
  EXPECT_THAT(std::string(message->encoded(Encoding::kCloudEvents)), HasSubstr(R"("eventhops":"8")"));
  EXPECT_THAT(std::string(message->encoded(Encoding::kProtobuf)), HasSubstr("\n\teventhops\x12\x01"
                                                                            "8"));
  EXPECT_EQ(message->encoded(Encoding::kJsonRpcHops),
            R"({"jsonrpc":"2.0","method":"E","params":{"a":"b"},"eventhops":8})");
  EXPECT_EQ(message->encoded(Encoding::kJsonRpc), R"({"jsonrpc":"2.0","method":"E","params":{"a":"b"}})");
  EXPECT_EQ(message->encoded(Encoding::kCloudEventsBinary), R"({"a":"b"})");
}

TEST(Encoding, StructuredCloudEventsKeepTheRules) {
  const MessageRef message = Make({.name = "E_ACC", .event_id = "7", .event_time = kNoon, .source = "/sbc/1"},
                                  {{"callid", "x"}, {"", true}}, {{"traceparent", "00-ab-cd-01"}, {"Site", "no"}});
  CloudEventAttributes attributes;
  std::string data;
  EXPECT_EQ(BrokenJsonCloudEventRule(std::string(message->encoded(Encoding::kCloudEvents)), &attributes, &data), "");
  EXPECT_THAT(attributes,
              ElementsAre(Pair("datacontenttype", "application/json"), Pair("eventhops", "1"), Pair("id", "7"),
                          Pair("source", "/sbc/1"), Pair("specversion", "1.0"), Pair("time", "2026-09-21T14:13:20.25Z"),
                          Pair("traceparent", "00-ab-cd-01"), Pair("type", "E_ACC")));
  EXPECT_EQ(data, R"({"callid":"x","1":true})");
  EXPECT_EQ(message->encoded(Encoding::kCloudEventsBinary), data);
}

// Whatever an event says of itself, a strict receiver takes it.
TEST(Encoding, CloudEventsKeepTheRulesForEveryText) {
  for (const absl::string_view source :
       {"", "udp:127.0.0.1:5060", "127.0.0.1:5060", "[::1]:5060", "a b", "50%", "50%25", "x#y#z", "\x01", ":", "a:b",
        "\xc3\xa4", "//host/path?q=[1]", "1:/x"}) {
    for (const absl::string_view id : {"1", "a\nb", "\x7f", "\xc2\x85", "\xc3\xa4"}) {
      const MessageRef message = Make(
          {.name = "E_\tX", .event_id = id, .source = source}, {},
          {{"id", "mine"}, {"data", "mine"}, {"x", "1"}, {"x", "2"}, {"toolongforanextension", "x"}, {"y", "\x02"}});
      CloudEventAttributes attributes;
      std::string data;
      EXPECT_EQ(BrokenJsonCloudEventRule(std::string(message->encoded(Encoding::kCloudEvents)), &attributes, &data), "")
          << message->encoded(Encoding::kCloudEvents);
      EXPECT_EQ(attributes.size(), 8u);
      EXPECT_EQ(attributes["x"], "1");
      EXPECT_EQ(attributes["y"], "%02");
      EXPECT_EQ(data, "");
    }
  }
}

TEST(Encoding, TheRulesFindWhatIsBroken) {
  const CloudEventAttributes good = {{"id", "1"}, {"source", "x"}, {"specversion", "1.0"}, {"type", "E"}};
  EXPECT_EQ(BrokenCloudEventRule(good), "");
  for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{{"id", ""},
                                                                                    {"source", "a b"},
                                                                                    {"source", "127.0.0.1:1"},
                                                                                    {"specversion", "1"},
                                                                                    {"time", "noon"},
                                                                                    {"type", "\x01"},
                                                                                    {"type", "\xc2\x85"},
                                                                                    {"X", "1"}}) {
    CloudEventAttributes bad = good;
    bad[name] = value;
    EXPECT_NE(BrokenCloudEventRule(bad), "") << name << "=" << value;
  }
}

TEST(Encoding, HeaderValuesAreEscapedAsTheBindingsSay) {
  EXPECT_EQ(CloudEventHeaderValue("Euro \xe2\x82\xac \"100%\""), "Euro%20%E2%82%AC%20%22100%25%22");
}

TEST(Encoding, IsMadeOnceForAll) {
  const MessageRef message = Make({.name = "E"}, {{"a", "b"}});
  for (const Encoding encoding : {Encoding::kJsonRpc, Encoding::kJson, Encoding::kCloudEvents,
                                  Encoding::kCloudEventsBinary, Encoding::kProtobuf, Encoding::kJsonRpcHops}) {
    EXPECT_EQ(message->encoded(encoding).data(), message->encoded(encoding).data());
  }
}

TEST(Encoding, TheOptionIsReadAndWrittenBack) {
  for (const bool has_headers : {false, true}) {
    for (const char* word :
         {"jsonrpc", "jsonrpc-hops", "json", "cloudevents", "protobuf", "cloudevents-binary", "xml", ""}) {
      const absl::StatusOr<Uri> uri = ParseUri(absl::StrCat("x:y?encoding=", word));
      QueryReader query(*uri);
      const Encoding encoding = TakeEncoding(query, has_headers);
      const absl::Status status = query.Done();
      const bool known = *word != '\0' && std::string(word) != "xml";
      if (!known || (std::string(word) == "cloudevents-binary" && !has_headers)) {
        EXPECT_THAT(std::string(status.message()),
                    HasSubstr("none of: jsonrpc, jsonrpc-hops, json, cloudevents, protobuf"))
            << word;
        continue;
      }
      EXPECT_TRUE(status.ok()) << status;
      QueryWriter writer;
      AddEncoding(encoding, &writer);
      EXPECT_EQ(writer.text(), std::string(word) == "jsonrpc" ? "" : absl::StrCat("?encoding=", word));
    }
  }
}

}  // namespace
}  // namespace eventvirtual
