// What OpenSIPS sends is understood to the last value, and what it does not send is refused with the reason.
#include "server/ingest/opensips_event.h"

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace eventvirtual {
namespace {

constexpr absl::Time kReceived = absl::UnixEpoch();

OpensipsEvent Parse(absl::string_view text, std::string event_param = "") {
  OpensipsEventParser parser(std::move(event_param));
  return parser.Parse(text, kReceived);
}

std::string Request(absl::string_view params) {
  return absl::StrCat(R"({"jsonrpc":"2.0","method":"E","params":)", params, "}");
}

TEST(OpensipsEvent, EachKindOfValueKeepsItsType) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max(), kMin = std::numeric_limits<int64_t>::min();
  const std::pair<std::string, Value> cases[] = {
      {R"("plain")", absl::string_view("plain")},
      {R"("")", absl::string_view("")},
      {R"("12")", absl::string_view("12")},  // what looks like a number stays a string
      {R"("\"\\\/\b\f\n\r\t")", absl::string_view("\"\\/\b\f\n\r\t")},
      {R"("a\u0000b")", absl::string_view("a\0b", 3)},
      {R"("\u00e9\u20AC")", absl::string_view("\xc3\xa9\xe2\x82\xac")},
      {R"("\ud83d\ude00")", absl::string_view("\xf0\x9f\x98\x80")},  // a surrogate pair is one character
      {"\"\xf0\x9f\x98\x80\x7f\"", absl::string_view("\xf0\x9f\x98\x80\x7f")},
      {"0", int64_t{0}},
      {"-42", int64_t{-42}},
      {"9223372036854775807", kMax},
      {"-9223372036854775808", kMin},
      {"9223372036854775808", Json{"9223372036854775808"}},
      {"18446744073709551615", Json{"18446744073709551615"}},
      {"1.5", 1.5},
      {"-2.5e-3", -0.0025},
      {"1e3", 1000.0},
      {"null", Null{}},
      {"true", true},
      {"false", false},
      {R"({})", Json{"{}"}},
      {R"([])", Json{"[]"}},
      {R"({ "a" : [ 1 , "x\"" ] , "a" : null })", Json{R"({"a":[1,"x\""],"a":null})"}},
      {R"([[-1.5,true],{}])", Json{R"([[-1.5,true],{}])"}},
  };
  for (const auto& [json, expected] : cases) {
    const OpensipsEvent event = Parse(Request(absl::StrCat(R"({"v":)", json, "}")));
    ASSERT_TRUE(event.message) << json << ": " << event.error;
    ASSERT_EQ(event.message->params().size(), 1u) << json;
    EXPECT_EQ(event.message->params()[0].name, "v") << json;
    EXPECT_TRUE(event.message->params()[0].value == expected)
        << json << " is kind " << event.message->params()[0].value.index();
  }
}

TEST(OpensipsEvent, NamedParametersKeepTheirOrderAndTheirDoubles) {
  const OpensipsEvent event = Parse(Request(R"({"z":1,"a":"x","z":2,"":3})"));
  ASSERT_TRUE(event.message) << event.error;
  EXPECT_EQ(event.message->jsonrpc(), R"({"jsonrpc":"2.0","method":"E","params":{"z":1,"a":"x","z":2,"3":3}})");
  ASSERT_EQ(event.message->params().size(), 4u);
  EXPECT_EQ(event.message->params()[2].name, "z");
  EXPECT_EQ(std::get<int64_t>(event.message->params()[2].value), 2);
}

TEST(OpensipsEvent, PositionalParametersHaveNoNames) {
  const OpensipsEvent event = Parse(Request(R"([1,"second",null,[2]])"));
  ASSERT_TRUE(event.message) << event.error;
  ASSERT_EQ(event.message->params().size(), 4u);
  for (const Param& param : event.message->params()) EXPECT_EQ(param.name, "");
  EXPECT_EQ(event.message->jsonrpc(), Request(R"([1,"second",null,[2]])"));
}

TEST(OpensipsEvent, NoParametersAreNoneInEveryForm) {
  for (const char* text : {R"({"jsonrpc":"2.0","method":"E"})", R"({"jsonrpc":"2.0","method":"E","params":{}})",
                           R"({"jsonrpc":"2.0","method":"E","params":[]})"}) {
    const OpensipsEvent event = Parse(text);
    ASSERT_TRUE(event.message) << text << ": " << event.error;
    EXPECT_EQ(event.message->name(), "E");
    EXPECT_TRUE(event.message->params().empty()) << text;
    EXPECT_EQ(event.id, "");
    EXPECT_EQ(event.message->source(), "opensips");
  }
}

TEST(OpensipsEvent, TheNameMayComeInAParameterWhichIsThenTakenOut) {
  const std::string text = R"({"jsonrpc":"2.0","method":"block","params":{"event":"E_PIKE","ip":"1.2.3.4"}})";
  const OpensipsEvent event = Parse(text, "event");
  ASSERT_TRUE(event.message) << event.error;
  EXPECT_EQ(event.message->name(), "E_PIKE");
  ASSERT_EQ(event.message->params().size(), 1u);
  EXPECT_EQ(event.message->params()[0].name, "ip");

  const OpensipsEvent by_method = Parse(text);
  EXPECT_EQ(by_method.message->name(), "block");
  EXPECT_EQ(by_method.message->params().size(), 2u);

  // OpenSIPS leaves the parameter out when the event has none: then the method is the name.
  for (const char* params : {R"({"ip":"1.2.3.4"})", R"(["E_PIKE"])", R"({"event":7})"}) {
    const OpensipsEvent without = Parse(Request(params), "event");
    ASSERT_TRUE(without.message) << params << ": " << without.error;
    EXPECT_EQ(without.message->name(), "E") << params;
    EXPECT_EQ(without.message->params().size(), 1u) << params;
  }
}

TEST(OpensipsEvent, AnIdIsGivenBackAsItCame) {
  const std::pair<const char*, const char*> cases[] = {
      {"915243442", "915243442"},
      {"0", "0"},
      {"-7", "-7"},
      {"18446744073709551615", "18446744073709551615"},
      {"1.5", "1.5"},
      {R"("a")", R"("a")"},
      {R"("")", R"("")"},
      {R"("q\"\\\n\u00e9")", "\"q\\\"\\\\\\n\xc3\xa9\""},
      {"null", ""},  // a notification
  };
  for (const auto& [id, expected] : cases) {
    const OpensipsEvent event = Parse(absl::StrCat(R"({"jsonrpc":"2.0","id":)", id, R"(,"method":"E"})"));
    ASSERT_TRUE(event.message) << id << ": " << event.error;
    EXPECT_EQ(event.id, expected);
  }
}

struct Refusal {
  std::string text;
  int code;
  const char* words;  // in the error
  const char* id;
};

void ExpectRefused(const Refusal& expected) {
  const OpensipsEvent event = Parse(expected.text);
  const std::string shown = expected.text.substr(0, 80);
  EXPECT_FALSE(event.message) << shown;
  EXPECT_EQ(event.error_code, expected.code) << shown;
  EXPECT_NE(event.error.find(expected.words), std::string::npos) << shown << ": " << event.error;
  EXPECT_EQ(event.id, expected.id) << shown;
}

TEST(OpensipsEvent, ItsHopsAreReadAndNotPassedOnAsTheyCame) {
  EXPECT_EQ(Parse(R"({"jsonrpc":"2.0","method":"E","params":[1]})").message->hops(), 0);
  for (const char* hops : {"3", "\"3\""}) {
    const OpensipsEvent event =
        Parse(absl::StrCat(R"({"jsonrpc":"2.0","method":"E","params":[1],"eventhops":)", hops, "}"));
    ASSERT_TRUE(event.message) << event.error;
    EXPECT_EQ(event.message->hops(), 3);
    EXPECT_EQ(event.message->jsonrpc(), R"({"jsonrpc":"2.0","method":"E","params":[1]})");
    EXPECT_EQ(event.message->encoded(Encoding::kJsonRpcHops),
              R"({"jsonrpc":"2.0","method":"E","params":[1],"eventhops":4})");
  }
  EXPECT_EQ(Parse(Request(R"({"eventhops":200})")).message->hops(), 0) << "a parameter is none of ours";
}

TEST(OpensipsEvent, WhatIsNotAnEventIsRefusedWithTheReason) {
  const Refusal cases[] = {
      {R"({"jsonrpc":"2.0","id":1})", -32600, "\"method\"", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":7})", -32600, "\"method\"", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":null})", -32600, "\"method\"", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":""})", -32600, "one or more visible ASCII", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"E E"})", -32600, "one or more visible ASCII", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"\u00e9"})", -32600, "visible ASCII", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"E\u0000"})", -32600, "visible ASCII", "1"},
      {absl::StrCat(R"({"jsonrpc":"2.0","id":1,"method":")", std::string(257, 'E'), "\"}"), -32600, "256", "1"},
      {R"({"id":1,"method":"E"})", -32600, "\"jsonrpc\"", "1"},
      {R"({"jsonrpc":2.0,"id":1,"method":"E"})", -32600, "\"jsonrpc\"", "1"},
      {R"({"jsonrpc":"1.0","id":1,"method":"E"})", -32600, "\"jsonrpc\"", "1"},
      {R"({"jsonrpc":"2.0","id":{},"method":"E"})", -32600, "\"id\"", "null"},
      {R"({"jsonrpc":"2.0","id":[1],"method":"E"})", -32600, "\"id\"", "null"},
      {R"({"jsonrpc":"2.0","id":true,"method":"E"})", -32600, "\"id\"", "null"},
      {R"({"jsonrpc":"2.0","id":"x","method":"E","params":"p"})", -32602, "neither an object nor an array", "\"x\""},
      {R"({"jsonrpc":"2.0","id":1,"method":"E","params":5})", -32602, "params", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"E","params":null})", -32602, "params", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"E","params":true})", -32602, "params", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"E","eventhops":-1})", -32600, "\"-1\" is not a number of hops", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"E","eventhops":256})", -32600, "0 to 255", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"E","eventhops":18446744073709551615})", -32600, "eventhops", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"E","eventhops":1.5})", -32600, "eventhops", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"E","eventhops":null})", -32600, "eventhops", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"E","eventhops":[[1]]})", -32600, "eventhops", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"E","eventhops":"x"})", -32600, "eventhops", "1"},
      {R"({"jsonrpc":"2.0"})", -32600, "\"method\"", ""},  // a notification, still without an answer
  };
  for (const Refusal& refusal : cases) ExpectRefused(refusal);
}

TEST(OpensipsEvent, ALongestNameAndTheMostParametersPass) {
  const std::string name(256, 'E');
  const OpensipsEvent event = Parse(absl::StrCat(R"({"jsonrpc":"2.0","method":")", name, "\"}"));
  ASSERT_TRUE(event.message) << event.error;
  EXPECT_EQ(event.message->name(), name);

  std::string params = "[0";
  for (int i = 1; i < 1024; ++i) absl::StrAppend(&params, ",", i);
  const OpensipsEvent most = Parse(Request(params + "]"));
  ASSERT_TRUE(most.message) << most.error;
  EXPECT_EQ(most.message->params().size(), 1024u);
  ExpectRefused({Request(params + ",1024]"), -32602, "1025", ""});
}

TEST(OpensipsEvent, WhatIsNoJsonIsAParseErrorThatKeepsALeadingId) {
  const std::string head = R"({"id":915243442,"jsonrpc":"2.0","method":"E","params":)";
  const Refusal cases[] = {
      {"", -32700, "Parse error", "null"},
      {"not json", -32700, "Parse error", "null"},
      {"{", -32700, "Parse error", "null"},
      {"[]", -32700, "Parse error", "null"},
      {"7", -32700, "Parse error", "null"},
      {R"({"jsonrpc":"2.0","method":"E"} x)", -32700, "Parse error", "null"},
      {R"({"jsonrpc":"2.0" "method":"E"})", -32700, "Parse error", "null"},
      {Request(R"(["\x"])"), -32700, "Parse error", "null"},
      {Request(R"(["\ud83d"])"), -32700, "Parse error", "null"},      // half a surrogate pair
      {Request("[\"a\nb\"]"), -32700, "Parse error", "null"},         // a raw control character
      {Request("[18446744073709551616]"), -32700, "number", "null"},  // 2^64
      {Request("[-9223372036854775809]"), -32700, "number", "null"},  // -2^63 - 1
      {head + "[1e999]}", -32700, "number", "915243442"},
      {head + "[\"\xff\xfe\"]}", -32700, "UTF-8", "915243442"},
      {head + "[\"caf\xe9\"]}", -32700, "UTF-8", "915243442"},  // Latin-1, as old phones send it
      {head + "[broken}", -32700, "Parse error", "915243442"},
      {head + std::string(10000, '[') + std::string(10000, ']') + "}", -32700,
       "more than 64 arrays and objects are in each other (--max_depth)", "915243442"},
      {R"({"id":12x,"method":)", -32700, "Parse error", "null"},
      {R"({"id":,"method":)", -32700, "Parse error", "null"},
      {R"({"id":7)", -32700, "Parse error", "null"},              // perhaps only its beginning
      {R"({"id":007,"method":)", -32700, "Parse error", "null"},  // the answer would be no JSON
      {R"({"id":18446744073709551615,"method":)", -32700, "Parse error", "18446744073709551615"},
      {R"({"id":18446744073709551616,"method":)", -32700, "Parse error", "null"},
      {absl::StrCat(R"({"id":)", std::string(21, '9'), R"(,"method":)"), -32700, "Parse error", "null"},
  };
  for (const Refusal& refusal : cases) ExpectRefused(refusal);
}

TEST(OpensipsEvent, NestingUpToTheBoundIsPassedOn) {
  const std::string nested = std::string(64, '[') + "7" + std::string(64, ']');
  for (const auto& [before, after] : {std::pair("[", "]"), std::pair("{\"p\":", "}")}) {
    const OpensipsEvent event = Parse(Request(before + nested + after));
    ASSERT_TRUE(event.message) << event.error;
    EXPECT_TRUE(event.message->params()[0].value == Value(Json{nested}));
    ExpectRefused({Request(absl::StrCat(before, "[", nested, "]", after)), -32700, "--max_depth", "null"});
  }
}

TEST(OpensipsEvent, OneParserReadsOnAfterWhateverCame) {
  OpensipsEventParser parser("");
  const OpensipsEvent first = parser.Parse(Request(R"({"long":")" + std::string(100000, 'x') + "\"}"), kReceived);
  for (const char* bad : {"", "{", "\xff", R"({"jsonrpc":"2.0"})"}) {
    EXPECT_FALSE(parser.Parse(bad, kReceived).message) << bad;
  }
  const OpensipsEvent last = parser.Parse(Request(R"(["short"])"), kReceived);
  ASSERT_TRUE(first.message && last.message);
  // A message is a copy: what the parser reads later does not change it.
  EXPECT_EQ(std::get<absl::string_view>(first.message->params()[0].value), std::string(100000, 'x'));
  EXPECT_EQ(std::get<absl::string_view>(last.message->params()[0].value), "short");
  EXPECT_NE(first.message->event_id(), last.message->event_id());
}

TEST(OpensipsEvent, ANotificationIsPassedOnAsItCame) {
  for (const char* text : {
           R"({"jsonrpc":"2.0","method":"E","params":{"a":"\/\u00e9","b":1.50,"b":[1, 2]}})",
           R"({"params":[1e2],"method":"E","jsonrpc":"2.0"})",
       }) {
    const OpensipsEvent event = Parse(text);
    ASSERT_TRUE(event.message) << text << ": " << event.error;
    EXPECT_EQ(event.message->jsonrpc(), text);
  }
}

TEST(OpensipsEvent, WhatSaysMoreThanTheEventIsWrittenAnew) {
  constexpr absl::string_view kWritten = R"({"jsonrpc":"2.0","method":"E","params":{"a":1}})";
  for (const char* text : {
           R"({"id":1,"jsonrpc":"2.0","method":"E","params":{"a":1}})",
           R"({"id":null,"jsonrpc":"2.0","method":"E","params":{"a":1}})",
           R"({"jsonrpc":"2.0","method":"E","params":{"a":1},"more":2})",
           R"({"jsonrpc":"2.0","method":"E","method":"F","params":{"a":1}})",
           R"( {"jsonrpc":"2.0","method":"E","params":{"a":1}})",
           "{\"jsonrpc\":\"2.0\",\"method\":\"E\",\"params\":{\"a\":1}}\n",
       }) {
    const OpensipsEvent event = Parse(text);
    ASSERT_TRUE(event.message) << text << ": " << event.error;
    EXPECT_EQ(event.message->jsonrpc(), kWritten) << text;
  }
  const OpensipsEvent renamed = Parse(R"({"jsonrpc":"2.0","method":"raise","params":{"event":"E","a":1}})", "event");
  ASSERT_TRUE(renamed.message) << renamed.error;
  EXPECT_EQ(renamed.message->jsonrpc(), kWritten);
  const OpensipsEvent bare = Parse(R"({"jsonrpc":"2.0","method":"E","params":[]})");
  ASSERT_TRUE(bare.message) << bare.error;
  EXPECT_EQ(bare.message->jsonrpc(), R"({"jsonrpc":"2.0","method":"E"})");
}

}  // namespace
}  // namespace eventvirtual
