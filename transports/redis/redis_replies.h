// RedisReplies: cuts what Redis sends into replies to our commands.
#ifndef EVENTVIRTUAL_TRANSPORTS_REDIS_REDIS_REPLIES_H_
#define EVENTVIRTUAL_TRANSPORTS_REDIS_REDIS_REPLIES_H_

#include <hiredis/hiredis.h>

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace eventvirtual {

// A reply to one of our commands. None of them is answered by an array.
struct RedisReply {
  int type;          // REDIS_REPLY_STATUS, …_ERROR, …_STRING, …_INTEGER or …_NIL
  std::string text;  // the first 200 bytes
  long long number;  // …_INTEGER
  bool is_error() const { return type == REDIS_REPLY_ERROR; }
  absl::Status status() const;  // of an error: its text, printable, as what it means to an event
};

// One thread. Memory: a reply of 64 KiB, which is more than any to our commands has, and what was appended last.
class RedisReplies {
 public:
  RedisReplies();

  void Append(absl::string_view bytes);

  // The next whole reply; null when more bytes are needed. UNAVAILABLE: this is no reply to our commands; the stream is
  // of no more use.
  absl::StatusOr<std::unique_ptr<RedisReply>> Next();

 private:
  struct Free {
    void operator()(redisReader* reader) const { redisReaderFree(reader); }
  };
  const std::unique_ptr<redisReader, Free> reader_;
  size_t unread_ = 0;  // bytes since the last whole reply
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_REDIS_REDIS_REPLIES_H_
