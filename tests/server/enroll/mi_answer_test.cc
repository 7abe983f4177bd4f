// Answers of MI, as the transcripts of OpenSIPS have them, and as they should not be.
#include "server/enroll/mi_answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/match.h"

namespace eventvirtual {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

absl::Status ErrorOf(absl::string_view text) {
  const auto read = ReadMiAnswer(text, 7);
  EXPECT_TRUE(read.has_value()) << text;
  return read.has_value() ? read->status() : absl::OkStatus();
}

std::vector<std::string> Texts(const absl::StatusOr<std::vector<ListedSubscriber>>& listed) {
  EXPECT_TRUE(listed.ok()) << listed.status();
  std::vector<std::string> texts;
  if (!listed.ok()) return texts;
  for (const ListedSubscriber& one : *listed) {
    texts.push_back(absl::StrCat(one.event, " ", one.socket, " ", absl::FormatDuration(one.ttl)));
  }
  return texts;
}

TEST(MiCallText, IsOneObject) {
  EXPECT_EQ(MiCallText(7, "events_list", "{}"), R"({"jsonrpc":"2.0","id":7,"method":"events_list","params":{}})");
}

TEST(MiAnswer, GivesItsResult) {
  const auto read = ReadMiAnswer(R"( {"jsonrpc":"2.0", "result": "OK", "id":7} )", 7);
  ASSERT_TRUE(read.has_value());
  ASSERT_TRUE(read->ok());
  EXPECT_EQ(**read, "\"OK\"");
  EXPECT_EQ(**ReadMiAnswer(R"({"jsonrpc":"2.0","result":{"Events":[ ]},"id":7})", 7), R"({"Events":[]})");
}

TEST(MiAnswer, ToAnotherRequestIsNone) {
  EXPECT_FALSE(ReadMiAnswer(R"({"jsonrpc":"2.0","result":"OK","id":8})", 7).has_value());
  EXPECT_FALSE(ReadMiAnswer(R"({"jsonrpc":"2.0","result":"OK","id":"7"})", 7).has_value());
  EXPECT_FALSE(ReadMiAnswer(R"({"jsonrpc":"2.0","error":{"code":404,"message":"x"},"id":8})", 7).has_value());
  EXPECT_FALSE(ReadMiAnswer(R"({"jsonrpc":"2.0","result":"OK"})", 7).has_value());
}

TEST(MiAnswer, TellsWhatOpensipsRefuses) {
  EXPECT_EQ(ErrorOf(R"({"jsonrpc":"2.0","error":{"code":404,"message":"Event not published"},"id":7})"),
            absl::NotFoundError("404 Event not published"));
  EXPECT_EQ(ErrorOf(R"({"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":7})"),
            absl::UnimplementedError("-32601 Method not found"));
  EXPECT_EQ(
      ErrorOf(
          R"({"jsonrpc":"2.0","error":{"code":-32602,"message":"Invalid params","data":"Negative expire value"},"id":7})"),
      absl::FailedPreconditionError("-32602 Invalid params (Negative expire value)"));
  // A request that could not be read has no id to be repeated.
  EXPECT_EQ(ErrorOf(R"({"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"},"id":null})"),
            absl::FailedPreconditionError("-32700 Parse error"));
  EXPECT_EQ(ErrorOf(R"({"jsonrpc":"2.0","error":{},"id":7})").code(), absl::StatusCode::kFailedPrecondition);
}

TEST(MiAnswer, ShowsAnErrorOnlyAsFarAsItCanBeShown) {
  const absl::Status long_one =
      ErrorOf(absl::StrCat(R"({"error":{"code":1,"message":")", std::string(5000, 'x'), "\"},\"id\":7}"));
  EXPECT_EQ(long_one.message().size(), 200u);
  EXPECT_EQ(ErrorOf("{\"error\":{\"code\":1,\"message\":\"a\\nlevel=info \xc3\xa9\"},\"id\":7}").message(),
            "1 a?level=info ??");
}

TEST(MiAnswer, ThatIsNoneIsNoAnswer) {
  for (const char* text : {"", "400 Parse_error", "<html>404</html>", "[]", "7", "{", R"({"jsonrpc":"2.0","id":7})",
                           "{\"id\":7,\"result\":\"\xff\"}"}) {
    EXPECT_EQ(ErrorOf(text).code(), absl::StatusCode::kUnavailable) << text;
  }
  EXPECT_THAT(std::string(ErrorOf("s3cr3t").message()), Not(HasSubstr("s3cr3t")));
}

TEST(EventNames, AreThoseOfEventsList) {
  const auto names =
      ReadEventNames(R"({"Events":[{"name":"E_A","id":9},{"name":"E_B","id":1},{},{"name":7},{"name":"a b"},3]})");
  ASSERT_TRUE(names.ok());
  EXPECT_THAT(*names, ElementsAre("E_A", "E_B"));
  for (const char* text : {"\"OK\"", "{}", "[]", R"({"Events":{}})", "x"}) {
    EXPECT_EQ(ReadEventNames(text).status().code(), absl::StatusCode::kUnavailable) << text;
  }
}

TEST(Subscribers, OfAllEventsOfOneAndOneAlone) {
  EXPECT_THAT(
      Texts(ReadSubscribers(
          R"({"Events":[{"name":"E_A","id":9,"Subscribers":[{"socket":"udp:127.0.0.1:7","expire":60,"ttl":41},)"
          R"({"socket":"virtual:PARALLEL udp:127.0.0.1:7 /run/x","expire":"never"}]},{},{"name":"E_B","id":1,)"
          R"("Subscribers":[{"socket":"unix:/x","expire":60,"ttl":-3}]}]})")),
      ElementsAre("E_A udp:127.0.0.1:7 41s", "E_A virtual:PARALLEL udp:127.0.0.1:7 /run/x inf", "E_B unix:/x -3s"));
  EXPECT_THAT(
      Texts(ReadSubscribers(
          R"({"Event":{"name":"E_A","id":9,"Subscribers":[{"socket":"udp:127.0.0.1:7","expire":60,"ttl":41}]}})")),
      ElementsAre("E_A udp:127.0.0.1:7 41s"));
  EXPECT_THAT(Texts(ReadSubscribers(
                  R"({"Event":{"name":"E_A","id":9,"Subscriber":{"socket":"udp:127.0.0.1:7","expire":60,"ttl":41}}})")),
              ElementsAre("E_A udp:127.0.0.1:7 41s"));
  EXPECT_THAT(Texts(ReadSubscribers(R"({"Event":{}})")), IsEmpty());
}

TEST(Subscribers, OfOlderOnesHaveNoTtl) {
  EXPECT_THAT(
      Texts(ReadSubscribers(
          R"({"Event":{"name":"E","Subscribers":[{"socket":"a:1","expire":60},{"socket":"b:1"},{"socket":"c:1","expire":"soon"}]}})")),
      ElementsAre("E a:1 1m", "E b:1 1h", "E c:1 1h"))
      << "what cannot be read never means for ever";
}

TEST(Subscribers, WhatIsNoneOfThemIsLeftOut) {
  EXPECT_THAT(Texts(ReadSubscribers(
                  R"({"Event":{"name":"E","Subscribers":[7,{},{"socket":8},{"protocol":"udp"},[{"socket":"x:1"}]]}})")),
              IsEmpty());
  EXPECT_THAT(
      Texts(ReadSubscribers(
          R"({"Events":[{"name":"a b","Subscribers":[{"socket":"x:1"}]},{"Subscribers":[{"socket":"x:1"}]}]})")),
      IsEmpty());
  for (const char* text : {"\"OK\"", "{}", "[]", R"({"Events":{}})", ""}) {
    EXPECT_EQ(ReadSubscribers(text).status().code(), absl::StatusCode::kUnavailable) << text;
  }
}

}  // namespace
}  // namespace eventvirtual
