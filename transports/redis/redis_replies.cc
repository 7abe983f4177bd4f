#include "transports/redis/redis_replies.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "transports/api/check.h"
#include "transports/io/printable.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxReply = 64 << 10;  // bytes; those to our commands are short
constexpr size_t kMaxText = 200;

// What hiredis' reader makes of what it reads. An array is "out of memory" to it, which ends the link: a peer cannot
// make us reserve memory for a billion elements.
redisReplyObjectFunctions kReplyFunctions = {
    .createString = [](const redisReadTask* task, char* text, size_t size) -> void* {
      return new RedisReply{task->type, std::string(text, std::min(size, kMaxText)), 0};
    },
    .createArray = [](const redisReadTask*, int) -> void* { return nullptr; },
    .createInteger = [](const redisReadTask*, long long number) -> void* {
      return new RedisReply{REDIS_REPLY_INTEGER, "", number};
    },
    .createNil = [](const redisReadTask*) -> void* {
      return new RedisReply{REDIS_REPLY_NIL, "", 0};
    },
    .freeObject = [](void* reply) { delete static_cast<RedisReply*>(reply); },
};

// What an error of Redis means. Its first word names the kind.
absl::StatusCode CodeOf(absl::string_view error) {
  const absl::string_view kind = error.substr(0, error.find(' '));
  if (kind == "NOAUTH" || kind == "WRONGPASS") return absl::StatusCode::kUnauthenticated;
  if (absl::StartsWith(error, "ERR invalid password") || absl::StartsWith(error, "ERR AUTH ") ||
      absl::StartsWith(error, "ERR Client sent AUTH")) {
    return absl::StatusCode::kUnauthenticated;
  }
  if (kind == "NOPERM") return absl::StatusCode::kPermissionDenied;
  if (kind == "OOM") return absl::StatusCode::kResourceExhausted;
  if (kind == "WRONGTYPE") return absl::StatusCode::kFailedPrecondition;
  return absl::StatusCode::kUnavailable;  // LOADING, READONLY, MOVED, CLUSTERDOWN, MISCONF, NOREPLICAS, …
}

}  // namespace

absl::Status RedisReply::status() const { return absl::Status(CodeOf(text), Printable(text)); }

RedisReplies::RedisReplies() : reader_(redisReaderCreateWithFunctions(&kReplyFunctions)) {
  EV_CHECK(reader_ != nullptr);
}

void RedisReplies::Append(absl::string_view bytes) {
  redisReaderFeed(reader_.get(), bytes.data(), bytes.size());
  unread_ += bytes.size();
}

absl::StatusOr<std::unique_ptr<RedisReply>> RedisReplies::Next() {
  void* object = nullptr;
  if (redisReaderGetReply(reader_.get(), &object) != REDIS_OK) {
    return absl::UnavailableError(
        absl::StrCat("what came is no reply of Redis to our commands (", Printable(reader_->errstr), ")"));
  }
  if (object != nullptr) {
    unread_ = 0;
    return std::unique_ptr<RedisReply>(static_cast<RedisReply*>(object));
  }
  if (unread_ <= kMaxReply) return nullptr;
  return absl::UnavailableError(
      absl::StrCat("a reply of more than ", kMaxReply, " bytes, which is none to our commands"));
}

}  // namespace eventvirtual
