// The replies of a stream are the same however it arrives in pieces, and those that a reference finds that goes byte by
// byte; what no command of ours is answered by ends it, with a printable text.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "transports/api/check.h"
#include "transports/redis/redis_replies.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxText = 200;
constexpr size_t kMaxError = 300;
constexpr size_t kMaxPieces = 4096;

struct Reply {
  int type;
  std::string text;
  long long number;
  friend bool operator==(const Reply& a, const Reply& b) {
    return a.type == b.type && a.text == b.text && a.number == b.number;
  }
};

bool IsPrintable(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) { return absl::ascii_isprint(c); });
}

// Of `bytes` that come so many at a time. True: the stream ended in an error.
bool ReadAll(absl::string_view bytes, size_t piece, std::vector<Reply>* replies) {
  RedisReplies stream;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    stream.Append(bytes.substr(at, piece));
    while (true) {
      const absl::StatusOr<std::unique_ptr<RedisReply>> reply = stream.Next();
      if (!reply.ok()) {
        EV_CHECK(absl::IsUnavailable(reply.status()) && reply.status().message().size() <= kMaxError);
        EV_CHECK(IsPrintable(reply.status().message()));
        return true;
      }
      if (*reply == nullptr) break;
      EV_CHECK((*reply)->text.size() <= kMaxText);
      EV_CHECK((*reply)->is_error() == ((*reply)->type == REDIS_REPLY_ERROR));
      if ((*reply)->is_error()) {
        const absl::Status status = (*reply)->status();
        EV_CHECK(!status.ok() && !absl::IsInvalidArgument(status));  // never the fault of one event
        EV_CHECK(IsPrintable(status.message()) && status.message().size() == (*reply)->text.size());
      }
      replies->push_back({(*reply)->type, (*reply)->text, (*reply)->number});
    }
  }
  return false;
}

// Takes one reply off the front as the protocol has it (RESP2, https://redis.io/docs/reference/protocol-spec/). False:
// there is none, or it is written in a way that only hiredis takes or refuses.
bool TakeOne(absl::string_view* bytes, Reply* reply) {
  const size_t end = bytes->find("\r\n");
  if (end == absl::string_view::npos || end == 0) return false;
  const absl::string_view line = bytes->substr(1, end - 1);
  const char kind = (*bytes)[0];
  absl::string_view rest = bytes->substr(end + 2);
  int64_t number = 0;
  const bool plain = absl::SimpleAtoi(line, &number) && absl::StrCat(number) == line;
  if (kind == '+' || kind == '-') {
    *reply = {kind == '+' ? REDIS_REPLY_STATUS : REDIS_REPLY_ERROR, std::string(line.substr(0, kMaxText)), 0};
  } else if (kind == ':' && plain) {
    *reply = {REDIS_REPLY_INTEGER, "", number};
  } else if (kind == '$' && plain && number == -1) {
    *reply = {REDIS_REPLY_NIL, "", 0};
  } else if (kind == '$' && plain && number >= 0 && static_cast<size_t>(number) + 2 <= rest.size()) {
    *reply = {REDIS_REPLY_STRING, std::string(rest.substr(0, std::min<size_t>(number, kMaxText))), 0};
    rest.remove_prefix(number + 2);
  } else {
    return false;
  }
  *bytes = rest;
  return true;
}

void CheckReplies(absl::string_view bytes) {
  std::vector<Reply> whole;
  const bool broken = ReadAll(bytes, std::max<size_t>(bytes.size(), 1), &whole);
  for (size_t piece : {1, 2, 7}) {
    if (bytes.size() / piece > kMaxPieces) continue;  // hiredis looks at all that has come with each
    std::vector<Reply> pieces;
    EV_CHECK(ReadAll(bytes, piece, &pieces) == broken && pieces == whole);
  }
  std::vector<Reply> expected;
  absl::string_view rest = bytes;
  for (Reply reply; TakeOne(&rest, &reply);) expected.push_back(reply);
  EV_CHECK(whole.size() >= expected.size());
  EV_CHECK(std::equal(expected.begin(), expected.end(), whole.begin()));
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  eventvirtual::CheckReplies(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
