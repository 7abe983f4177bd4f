#include "transports/io/json_framer.h"

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace eventvirtual {
namespace {

using testing::HasSubstr;
using Objects = std::vector<std::string>;

// Takes every whole object that is there; the status is OK when only more bytes are missing.
absl::Status TakeAll(JsonFramer& framer, Objects* objects) {
  while (true) {
    const absl::StatusOr<std::optional<absl::string_view>> next = framer.Next();
    if (!next.ok()) return next.status();
    if (!next->has_value()) return absl::OkStatus();
    objects->emplace_back(**next);
  }
}

constexpr size_t kMost = 1000;

struct Stream {
  std::string text;
  Objects objects;
};

// An object of some hundred bytes with one text here and there in its strings.
std::string Long(absl::string_view text) {
  std::string object = "{\"a\":{\"b\":{}";
  for (size_t size = 0; size < 40; size += 3) {
    absl::StrAppend(&object, ",\"", std::string(size, '.'), text, "\":\"", text, "\"");
  }
  return object + "}}";
}

std::vector<Stream> Streams() {
  return {
      {"", {}},
      {" \t\r\n", {}},
      {"{}", {"{}"}},
      {"{}{}{}", {"{}", "{}", "{}"}},
      {" {} \r\n\t{\"a\":1}\n", {"{}", "{\"a\":1}"}},
      {R"({"id":1,"result":"OK"}{"id":2,"error":{"code":-1}})",
       {R"({"id":1,"result":"OK"})", R"({"id":2,"error":{"code":-1}})"}},
      {R"({"a":{"b":{"c":{}}}}{})", {R"({"a":{"b":{"c":{}}}})", "{}"}},
      {R"({"a":"}"}{"b":"{"})", {R"({"a":"}"})", R"({"b":"{"})"}},
      {R"({"a":"\"}"}{"b":"\\"}{"c":"\\\"}{"})", {R"({"a":"\"}"})", R"({"b":"\\"})", R"({"c":"\\\"}{"})"}},
      {R"({"}":"\u007d"}{"\\":1})", {R"({"}":"\u007d"})", R"({"\\":1})"}},
      {R"({"a":[1,{"b":"]"},[]]}{})", {R"({"a":[1,{"b":"]"},[]]})", "{}"}},
      {"{\"a\":\"\xc3\xa9\xff\"}{}", {"{\"a\":\"\xc3\xa9\xff\"}", "{}"}},
      {std::string("{\"a\":\"\0\"}", 9), {std::string("{\"a\":\"\0\"}", 9)}},
      {"{not json}{]}", {"{not json}", "{]}"}},  // a parser's matter
      {"{}" + std::string(300, ' ') + "{}", {"{}", "{}"}},
      {"{}{\"a\":", {"{}"}},
      // Long enough for blocks of 64 bytes, with what means something at each place of one.
      {Long("x") + Long("}{") + "{}" + Long("\\\"}") + Long("{\\\\") + "{}",
       {Long("x"), Long("}{"), "{}", Long("\\\"}"), Long("{\\\\"), "{}"}},
  };
}

TEST(JsonFramer, FindsEachObjectWhereverTheStreamIsCut) {
  for (const Stream& stream : Streams()) {
    for (size_t cut = 0; cut <= stream.text.size(); ++cut) {
      JsonFramer framer(kMost);
      Objects objects;
      framer.Append(absl::string_view(stream.text).substr(0, cut));
      EXPECT_TRUE(TakeAll(framer, &objects).ok());
      framer.Append(absl::string_view(stream.text).substr(cut));
      EXPECT_TRUE(TakeAll(framer, &objects).ok());
      EXPECT_EQ(objects, stream.objects) << stream.text << " cut at " << cut;
    }
  }
}

TEST(JsonFramer, FindsEachObjectByteByByteAndWhenNobodyAsksInBetween) {
  for (const Stream& stream : Streams()) {
    JsonFramer eager(kMost);
    JsonFramer late(kMost);
    Objects one_by_one;
    Objects at_the_end;
    for (const char& byte : stream.text) {
      eager.Append(absl::string_view(&byte, 1));
      EXPECT_TRUE(TakeAll(eager, &one_by_one).ok());
      late.Append(absl::string_view(&byte, 1));
    }
    EXPECT_TRUE(TakeAll(late, &at_the_end).ok());
    EXPECT_EQ(one_by_one, stream.objects) << stream.text;
    EXPECT_EQ(at_the_end, stream.objects) << stream.text;
  }
}

TEST(JsonFramer, AnObjectIsWholeWithItsLastBraceAndNotBefore) {
  const std::string text = R"({"id":1,"error":{"message":"}\""}})";
  JsonFramer framer(100);
  for (size_t i = 0; i < text.size(); ++i) {
    EXPECT_FALSE(framer.Next()->has_value()) << "before byte " << i;
    framer.Append(absl::string_view(text).substr(i, 1));
  }
  EXPECT_EQ(framer.Next()->value_or(""), text);
}

TEST(JsonFramer, GarbageBetweenObjectsEndsItForEver) {
  for (const char* garbage :
       {"x", "}", "]", "[1]", "\"{}\"", "1", "null", "HTTP/1.1 400 Bad Request", ",", "\x01", "\xff", "\xef\xbb\xbf"}) {
    for (const char* before : {"", "{}", "{} "}) {
      JsonFramer framer(100);
      Objects objects;
      framer.Append(absl::StrCat(before, garbage, "{}"));
      const absl::Status status = TakeAll(framer, &objects);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << before << garbage;
      EXPECT_THAT(std::string(status.message()), HasSubstr("must begin with '{'"));
      EXPECT_EQ(objects.size(), *before == '\0' ? 0u : 1u);
      framer.Append("{}");
      EXPECT_EQ(framer.Next().status(), status);
    }
  }
  JsonFramer framer(100);
  framer.Append(std::string(1, '\0'));
  EXPECT_FALSE(framer.Next().ok());
}

TEST(JsonFramer, TheLimitIsTheSizeOfTheLargestObject) {
  for (const size_t limit : {size_t{8}, size_t{9}, size_t{64}, size_t{4096}, size_t{65536}}) {
    for (const char* before : {"", "  ", "{}", "{\"a\":1} \n"}) {
      if (absl::string_view(before).size() > limit) continue;
      for (const size_t size : {limit - 1, limit, limit + 1, limit + 2, 2 * limit}) {
        const std::string object = "{\"\":\"" + std::string(size - 7, 'x') + "\"}";
        ASSERT_EQ(object.size(), size);
        // All at once, and with the last brace apart.
        for (const size_t apart : {0, 1}) {
          JsonFramer framer(limit);
          Objects objects;
          framer.Append(absl::StrCat(before, object.substr(0, size - apart)));
          absl::Status status = TakeAll(framer, &objects);
          framer.Append(object.substr(size - apart));
          if (status.ok()) status = TakeAll(framer, &objects);
          if (size <= limit) {
            EXPECT_TRUE(status.ok()) << size << " of " << limit << ": " << status;
            ASSERT_FALSE(objects.empty());
            EXPECT_EQ(objects.back(), object);
          } else {
            EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << size << " of " << limit;
            EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("more than ", limit, " bytes")));
            framer.Append("{}");
            EXPECT_EQ(framer.Next().status(), status);
          }
        }
      }
    }
  }
}

TEST(JsonFramer, AnObjectThatNeverEndsIsRefusedOneByteBehindItsLimit) {
  for (const char* endless : {"{", "{\"", "{\"\\", "{\"a\":["}) {
    JsonFramer framer(100);
    size_t taken = 0;
    framer.Append(endless);
    for (; framer.Next().ok() && taken < 1000; ++taken) framer.Append("{");
    EXPECT_EQ(taken + absl::string_view(endless).size(), 101u) << endless;
  }
}

TEST(JsonFramer, WhiteSpaceDoesNotCountForAnyObject) {
  JsonFramer framer(4);
  Objects objects;
  for (int i = 0; i < 100; ++i) {
    framer.Append(std::string(1000, i % 2 == 0 ? ' ' : '\n'));
    EXPECT_TRUE(TakeAll(framer, &objects).ok());
  }
  framer.Append("{  }");
  EXPECT_TRUE(TakeAll(framer, &objects).ok());
  EXPECT_EQ(objects, Objects({"{  }"}));
}

}  // namespace
}  // namespace eventvirtual
