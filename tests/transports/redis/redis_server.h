// RedisServer: a real Redis of its own for one test, and a client of it as others write it.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_REDIS_REDIS_SERVER_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_REDIS_REDIS_SERVER_H_

#include <hiredis/hiredis.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "tests/transports/io/server_process.h"

namespace eventvirtual {

// Debian's redis-server on a free loopback port. It appends each change to a file and syncs it, and reads that again
// when it is started once more.
class RedisServer {
 public:
  explicit RedisServer(const std::vector<std::string>& flags = {})
      : process_(Command(folder_, port_, flags), {}, folder_ / "output", [this] { return Serves(); }) {}

  // "redis://127.0.0.1:PORT/" and `rest`.
  std::string Uri(absl::string_view rest) const { return absl::StrCat("redis://127.0.0.1:", port_, "/", rest); }
  uint16_t port() const { return port_; }
  ServerProcess& process() { return process_; }

  // The reply to one command, as text: of an array its elements, joined by blanks. Nothing: nil. A connection of its
  // own each time.
  std::optional<std::string> Ask(const std::vector<std::string>& words) const {
    redisContext* const context = redisConnect("127.0.0.1", port_);
    EXPECT_EQ(context->err, 0) << context->errstr;
    std::vector<const char*> texts;
    std::vector<size_t> sizes;
    for (const std::string& word : words) {
      texts.push_back(word.data());
      sizes.push_back(word.size());
    }
    auto* const reply =
        static_cast<redisReply*>(redisCommandArgv(context, static_cast<int>(words.size()), texts.data(), sizes.data()));
    EXPECT_NE(reply, nullptr) << context->errstr;
    std::optional<std::string> text;
    if (reply != nullptr) text = TextOf(*reply);
    if (reply != nullptr) freeReplyObject(reply);
    redisFree(context);
    return text;
  }

 private:
  static std::vector<std::string> Command(const TemporaryFolder& folder, uint16_t port,
                                          const std::vector<std::string>& flags) {
    std::vector<std::string> words = {
        "/usr/bin/redis-server", "--port", absl::StrCat(port), "--bind", "127.0.0.1", "--dir", folder / "",
        "--appendonly",          "yes",    "--appendfsync",    "always", "--save",    ""};
    words.insert(words.end(), flags.begin(), flags.end());
    return words;
  }
  // It accepts a moment before it has read its file, and answers LOADING until then.
  bool Serves() const {
    redisContext* const context = redisConnect("127.0.0.1", port_);
    auto* const reply = context->err == 0 ? static_cast<redisReply*>(redisCommand(context, "PING")) : nullptr;
    // One that wants a password says so, which is an answer, too.
    const bool serves = reply != nullptr && !absl::StartsWith(absl::string_view(reply->str, reply->len), "LOADING");
    if (reply != nullptr) freeReplyObject(reply);
    redisFree(context);
    return serves;
  }
  static std::optional<std::string> TextOf(const redisReply& reply) {
    if (reply.type == REDIS_REPLY_NIL) return std::nullopt;
    if (reply.type == REDIS_REPLY_INTEGER) return absl::StrCat(reply.integer);
    if (reply.type != REDIS_REPLY_ARRAY) return std::string(reply.str, reply.len);
    std::string text;
    for (size_t i = 0; i < reply.elements; ++i) {
      absl::StrAppend(&text, i == 0 ? "" : " ", TextOf(*reply.element[i]).value_or("nil"));
    }
    return text;
  }

  const TemporaryFolder folder_;
  const uint16_t port_ = FreePort();
  ServerProcess process_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_REDIS_REDIS_SERVER_H_
