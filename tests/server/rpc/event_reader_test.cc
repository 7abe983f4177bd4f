// What is read where it stands is what protobuf's own classes read. Any bytes at all: tests/fuzz/wire_fuzz.cc.
#include "server/rpc/event_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "eventvirtual/v1/event.pb.h"

namespace eventvirtual {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;
using ::testing::StartsWith;

v1::Event FullEvent() {
  v1::Event event;
  event.set_name("E_CALL");
  event.set_event_id("id-1");
  event.set_source("sip:proxy");
  event.mutable_event_time()->set_seconds(-5);
  event.mutable_event_time()->set_nanos(7);
  const auto add = [&event](const std::string& name) {
    event.add_params()->set_name(name);
    return event.mutable_params(event.params_size() - 1);
  };
  add("text")->set_string_value("grün");
  add("number")->set_int_value(-1);
  add("real")->set_double_value(1.5);
  add("true")->set_bool_value(true);
  add("null")->set_null_value(true);
  add("json")->set_json_value("{\"a\":1}");
  add("");
  (*event.mutable_attributes())["traceparent"] = "00-1";
  return event;
}

void ExpectFull(const WireEvent& event) {
  EXPECT_EQ(event.name, "E_CALL");
  EXPECT_EQ(event.event_id, "id-1");
  EXPECT_EQ(event.source, "sip:proxy");
  EXPECT_TRUE(event.has_time);
  EXPECT_EQ(event.seconds, -5);
  EXPECT_EQ(event.nanos, 7);
  const std::vector<Value> values = {absl::string_view("grün"), int64_t{-1}, 1.5, true, Null{},
                                     Json{"{\"a\":1}"},         Null{}};
  ASSERT_EQ(event.params.size(), values.size());
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(event.params[i].value, values[i]) << i;
  EXPECT_EQ(event.params[0].name, "text");
  EXPECT_EQ(event.params[6].name, "");
  EXPECT_THAT(event.attributes, ElementsAre(Pair("traceparent", "00-1")));
}

TEST(EventReader, EverythingAnEventMaySayIsRead) {
  EventReader reader;
  WireEvent event;
  const std::string bytes = FullEvent().SerializeAsString();
  ASSERT_TRUE(reader.Read(bytes, &event).ok());
  ExpectFull(event);

  // Nothing stays for the next one.
  ASSERT_TRUE(reader.Read("", &event).ok());
  EXPECT_EQ(event.name, "");
  EXPECT_FALSE(event.has_time);
  EXPECT_TRUE(event.params.empty() && event.attributes.empty());
}

TEST(EventReader, AFieldThatComesTwiceAndOneThatIsUnknownCountAsForProtobuf) {
  v1::Event other;
  other.set_name("E_OTHER");
  other.mutable_event_time()->set_seconds(9);
  (*other.mutable_attributes())["traceparent"] = "old";
  const std::string unknown("\xfa\x07\x02hi\xf8\x07\x05", 8);  // fields 127
  const std::string twice = other.SerializeAsString() + unknown + FullEvent().SerializeAsString();
  EventReader reader;
  WireEvent event;
  ASSERT_TRUE(reader.Read(twice, &event).ok());
  ExpectFull(event);
}

TEST(EventReader, OfAnAttributeOfOneNameTheLastCountsHoweverManyThereAre) {
  std::string bytes;
  for (int i = 0; i < 200000; ++i) {
    v1::Event one;
    (*one.mutable_attributes())[absl::StrCat("a", i % 3)] = absl::StrCat(i);
    bytes += one.SerializeAsString();
  }
  EventReader reader;
  WireEvent event;
  ASSERT_TRUE(reader.Read(bytes, &event).ok());
  EXPECT_THAT(event.attributes, ElementsAre(Pair("a0", "199998"), Pair("a1", "199999"), Pair("a2", "199997")));
}

TEST(EventReader, WhatIsCutOrNoUtf8IsNamed) {
  EventReader reader;
  WireEvent event;
  const auto why = [&](const std::string& bytes) { return std::string(reader.Read(bytes, &event).message()); };
  EXPECT_THAT(why("\x0a\x05"
                  "E"),
              StartsWith("event.name: "));
  EXPECT_THAT(why("\x0a\x02\xc3\x28"), StartsWith("event.name: "));
  EXPECT_THAT(why(std::string("\x12\x00\x12\x03\x12\x05h", 7)), StartsWith("event.params[1]: "));
  EXPECT_THAT(why("\x1a\x01\xff"), StartsWith("event.event_id: "));
  EXPECT_THAT(why("\x22\x01\x08"), StartsWith("event.event_time: "));
  EXPECT_THAT(why("\x2a\x01\xff"), StartsWith("event.source: "));
  EXPECT_THAT(why("\x32\x03\x0a\x01\xff"), StartsWith("event.attributes: "));
  EXPECT_THAT(why("\x0b"), StartsWith("event: ")) << "a group without an end";
  EXPECT_THAT(why("\x80"), StartsWith("event: ")) << "half a tag";
}

TEST(EventReader, ABatchIsReadEventByEvent) {
  v1::RaiseStreamRequest request;
  request.set_sequence(1ull << 40);
  request.set_wait(v1::WAIT_DELIVERED);
  *request.add_events() = FullEvent();
  request.add_events();
  const std::string bytes = request.SerializeAsString();
  WireBatch batch;
  batch.events.resize(7);
  ASSERT_TRUE(ReadBatch(bytes, &batch).ok());
  EXPECT_EQ(batch.sequence, 1ull << 40);
  EXPECT_EQ(batch.wait, v1::WAIT_DELIVERED);
  ASSERT_EQ(batch.events.size(), 2u);
  EXPECT_EQ(batch.events[1], "");
  EventReader reader;
  WireEvent event;
  ASSERT_TRUE(reader.Read(batch.events[0], &event).ok());
  ExpectFull(event);

  const absl::Status cut = ReadBatch(absl::string_view(bytes).substr(0, 20), &batch);
  EXPECT_TRUE(absl::IsInvalidArgument(cut));
  EXPECT_THAT(std::string(cut.message()), StartsWith("events[0]: "));
  EXPECT_FALSE(ReadBatch(std::string("\x00", 1), &batch).ok()) << "no field has the number 0";
  EXPECT_FALSE(ReadBatch("\x0c", &batch).ok()) << "the end of a group that never began";
}

}  // namespace
}  // namespace eventvirtual
