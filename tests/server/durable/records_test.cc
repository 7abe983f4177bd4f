// What stands in the journal reads back as it was, and damage is noticed.
#include "server/durable/records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "tests/server/dispatch/world.h"

namespace eventvirtual {
namespace {

using ::testing::ElementsAre;

MessageRef Rich(absl::string_view jsonrpc = "", int hops = 0) {
  static constexpr char kBytes[] = "a\0b\xff\n";
  const Param params[] = {{"text", absl::string_view("ä \"quoted\"")},
                          {"", absl::string_view(kBytes, sizeof(kBytes) - 1)},
                          {"", absl::string_view("")},
                          {"least", std::numeric_limits<int64_t>::min()},
                          {"ratio", 0.1},
                          {"yes", true},
                          {"no", false},
                          {"nothing", Null{}},
                          {"tree", Json{R"({"a":[1,2.50]})"}},
                          {"text", absl::string_view("the same name again")}};
  const std::pair<absl::string_view, absl::string_view> attributes[] = {{"traceparent", "00-1"}, {"", ""}};
  EventFields fields;
  fields.name = "E_CDR";
  fields.params = params;
  fields.event_id = "their-own-id";
  fields.event_time = absl::FromUnixNanos(1790000000123456789);
  fields.source = "sip:proxy";
  fields.attributes = attributes;
  fields.jsonrpc = jsonrpc;
  fields.hops = hops;
  return Message::Make(fields);
}

TEST(EventRecord, GivesBackAllThatAnEventIs) {
  const absl::Time accepted = absl::FromUnixNanos(1790000001000000001);
  const MessageRef before = Rich();
  const absl::StatusOr<KeptEvent> kept = DecodeEvent(EncodeEvent(*before, accepted));
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ(kept->accepted, accepted);
  const Message& after = *kept->message;
  EXPECT_EQ(after.name(), before->name());
  EXPECT_EQ(after.event_id(), "their-own-id");
  EXPECT_EQ(after.event_time(), before->event_time());
  EXPECT_EQ(after.source(), before->source());
  ASSERT_EQ(after.params().size(), before->params().size());
  for (size_t i = 0; i < after.params().size(); ++i) {
    EXPECT_EQ(after.params()[i].name, before->params()[i].name) << i;
    EXPECT_EQ(after.params()[i].value, before->params()[i].value) << i;
  }
  EXPECT_THAT(after.attributes(), ElementsAre(std::pair("traceparent", "00-1"), std::pair("", "")));
  EXPECT_EQ(after.jsonrpc(), before->jsonrpc());
  EXPECT_TRUE(after.original_jsonrpc().empty());
}

TEST(EventRecord, KeepsWhatTheEventHasBehindIt) {
  for (const int hops : {0, 1, 7, 255}) {
    const absl::StatusOr<KeptEvent> kept = DecodeEvent(EncodeEvent(*Rich("", hops), absl::UnixEpoch()));
    ASSERT_TRUE(kept.ok()) << kept.status();
    EXPECT_EQ(kept->message->hops(), hops);
    EXPECT_THAT(kept->message->attributes(), ElementsAre(std::pair("traceparent", "00-1"), std::pair("", "")));
  }
}

TEST(EventRecord, WhatCameAsJsonRpcIsPassedOnAsItCame) {
  constexpr absl::string_view kText = R"({ "jsonrpc": "2.0", "method":"E_CDR","params":{} })";
  const absl::StatusOr<KeptEvent> kept = DecodeEvent(EncodeEvent(*Rich(kText), absl::UnixEpoch()));
  ASSERT_TRUE(kept.ok());
  EXPECT_EQ(kept->message->jsonrpc(), kText);
}

TEST(EventRecord, NoticesEachFlippedBitAndEachCut) {
  const std::string whole = EncodeEvent(*Rich(), absl::FromUnixSeconds(1));
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] ^= static_cast<char>(1 << bit % 8);
    EXPECT_FALSE(DecodeEvent(damaged).ok()) << bit;
  }
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_FALSE(DecodeEvent(whole.substr(0, size)).ok()) << size;
  EXPECT_FALSE(DecodeEvent(whole + "x").ok());
}

TEST(ProgressRecord, GivesBackWhoHasIt) {
  Progress progress;
  progress.attempts = 300;
  for (size_t position : {0, 63, 64, 126}) progress.delivered.set(position);
  const absl::StatusOr<Progress> read = DecodeProgress(EncodeProgress(progress));
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->attempts, 300u);
  EXPECT_EQ(read->delivered, progress.delivered);
  EXPECT_TRUE(DecodeProgress("").ok()) << "none was saved";
}

TEST(AttemptsRecord, OutlivesTheSubscriptionAndHoldsNoPassword) {
  World world;
  world.Subscribe("E", "virtual:FAILOVER fake:me:s3cr3t@a fake:b");
  std::string record;
  world.registry.Read("E", world.loop.Now(), [&record](const Subscription& subscription) {
    record = EncodeAttempts(subscription,
                            {{0, AttemptRecord::Result::kFailed, absl::UnavailableError("gone"), absl::Milliseconds(7)},
                             {1, AttemptRecord::Result::kOk, absl::OkStatus(), absl::ZeroDuration()}});
  });
  EXPECT_EQ(record.find("s3cr3t"), std::string::npos);
  const absl::StatusOr<std::vector<KeptAttempt>> attempts = DecodeAttempts(record);
  ASSERT_TRUE(attempts.ok());
  ASSERT_EQ(attempts->size(), 2u);
  EXPECT_EQ((*attempts)[0].uri, "fake:me:***@a");
  EXPECT_EQ((*attempts)[0].status, absl::UnavailableError("gone"));
  EXPECT_EQ((*attempts)[0].duration, absl::Milliseconds(7));
  EXPECT_EQ((*attempts)[1].result, AttemptRecord::Result::kOk);
}

}  // namespace
}  // namespace eventvirtual
