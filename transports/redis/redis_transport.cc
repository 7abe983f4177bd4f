#include "transports/redis/redis_transport.h"

#include <hiredis/hiredis.h>

#include <algorithm>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "transports/api/check.h"
#include "transports/api/context_headers.h"
#include "transports/io/byte_stream.h"
#include "transports/io/printable.h"
#include "transports/io/stream_connector.h"
#include "transports/redis/redis_address.h"
#include "transports/redis/redis_replies.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kSchemes[] = {"redis", "rediss"};
constexpr absl::Duration kConnectTimeout = absl::Seconds(1);
constexpr int kWindow = 256;
constexpr size_t kMaxWords = 18;  // of a command: an entry of a stream has them, with max_length and a trace context

// hiredis forms the commands and reads the replies; the socket is ours. Replies come in the order of the commands.
class RedisLink final : public Link {
 public:
  RedisLink(RedisAddress address, Loop& loop, Host& host)
      : address_(std::move(address)), name_(address_.ToString(/*masked=*/true)), loop_(loop), host_(host) {
    connector_ = std::make_unique<StreamConnector>(loop, address_.host, kConnectTimeout,
                                                   [this](absl::StatusOr<int> fd) { OnConnected(std::move(fd)); });
  }

  ~RedisLink() override {
    *alive_ = false;
    connector_.reset();
    watch_.reset();
  }

  void Send(absl::Span<Parcel> parcels) override {
    // One that has gone is noticed before the events go into its grave.
    if (closed_.ok()) Read();
    for (Parcel& parcel : parcels) {
      if (!closed_.ok()) {
        std::move(parcel.done).Finish(Fresh(closed_));
        continue;
      }
      AppendEvent(*parcel.message);
      unanswered_.push_back(std::move(parcel.done));
    }
    if (closed_.ok()) Write();
  }

 private:
  void OnConnected(absl::StatusOr<int> fd) {
    if (!fd.ok()) return Close(Named(fd.status()));
    stream_ = std::make_unique<ByteStream>(*fd);
    watch_ = loop_.NewWatch(*fd, [this](Loop::Readiness ready) {
      if (ready.readable) Read();
      if (ready.writable && closed_.ok()) Write();
    });
    if (!address_.password.empty()) {
      if (address_.user.empty()) {
        Append({"AUTH", address_.password.Reveal()});
      } else {
        Append({"AUTH", address_.user, address_.password.Reveal()});
      }
      ++greetings_;
    }
    if (address_.database != 0) {
      Append({"SELECT", absl::StrCat(address_.database)});
      ++greetings_;
    }
    Append({"PING"});  // a server that loads its data, or wants a password, says so now
    ++greetings_;
    Write();
  }

  void AppendEvent(const Message& message) {
    const absl::string_view body = message.encoded(address_.encoding);
    switch (address_.kind) {
      case RedisAddress::Kind::kStream:
        return AppendEntry(message, body);
      case RedisAddress::Kind::kList:
        return Append({"LPUSH", address_.key, body});
      case RedisAddress::Kind::kChannel:
        return Append({"PUBLISH", address_.key, body});
    }
  }

  void AppendEntry(const Message& message, absl::string_view body) {
    const std::string max_length = absl::StrCat(address_.max_length);
    absl::InlinedVector<absl::string_view, kMaxWords> words = {"XADD", address_.key};
    if (address_.max_length > 0) words.insert(words.end(), {"MAXLEN", "~", max_length});
    words.insert(words.end(), {"*", "event", message.name(), "event_id", message.event_id()});
    ForEachContextHeader(message, [&words](absl::string_view name, absl::string_view value) {
      if (words.size() + 4 <= kMaxWords) words.insert(words.end(), {name, value});
    });
    words.insert(words.end(), {"body", body});
    Append(words);
  }

  void Append(absl::Span<const absl::string_view> words) {
    const char* texts[kMaxWords];
    size_t sizes[kMaxWords];
    size_t count = 0;
    EV_CHECK(words.size() <= std::size(texts));
    for (absl::string_view word : words) {
      texts[count] = word.data();
      sizes[count++] = word.size();
    }
    char* command = nullptr;
    const int size = redisFormatCommandArgv(&command, static_cast<int>(count), texts, sizes);
    EV_CHECK(size > 0);
    out_.append(command, size);
    redisFreeCommand(command);
  }

  void Write() {
    while (out_start_ < out_.size()) {
      const absl::StatusOr<size_t> taken = stream_->Send(absl::string_view(out_).substr(out_start_));
      if (!taken.ok()) return Close(Named(taken.status()));
      if (*taken == 0) break;
      out_start_ += *taken;
    }
    if (out_start_ > out_.size() / 2) out_.erase(0, std::exchange(out_start_, 0));
    watch_->Want({.readable = true, .writable = stream_->wants_write()});
  }

  void Read() {
    std::string bytes;
    const absl::Status state = stream_->Receive(&bytes);
    replies_.Append(bytes);
    TakeReplies();
    if (!state.ok()) Close(Named(state));
  }

  void TakeReplies() {
    while (closed_.ok()) {
      const absl::StatusOr<std::unique_ptr<RedisReply>> reply = replies_.Next();
      if (!reply.ok()) return Close(Named(reply.status()));
      if (*reply == nullptr) return;
      if (greetings_ > 0) {
        OnGreeting(**reply);
      } else if (unanswered_.empty()) {
        return Close(absl::UnavailableError(absl::StrCat(name_, ": a reply that nothing asked for")));
      } else {
        OnReply(**reply);
      }
    }
  }

  void OnGreeting(const RedisReply& reply) {
    if (reply.is_error()) return Close(Named(reply.status()));
    if (reply.type != REDIS_REPLY_STATUS) return Close(Strange());
    if (--greetings_ == 0) host_.OnReady(kWindow);
  }

  void OnReply(const RedisReply& reply) {
    Completion done = std::move(unanswered_.front());
    unanswered_.pop_front();
    if (reply.is_error()) {
      // A server that has become a replica stays one: its name may lead elsewhere by now.
      if (absl::StartsWith(reply.text, "READONLY")) Close(Named(reply.status()));
      return std::move(done).Finish(Named(reply.status()));
    }
    if (reply.type != (address_.kind == RedisAddress::Kind::kStream ? REDIS_REPLY_STRING : REDIS_REPLY_INTEGER)) {
      std::move(done).Finish(Strange());
      return Close(Strange());
    }
    if (address_.kind == RedisAddress::Kind::kChannel && reply.number < address_.min_receivers) {
      return std::move(done).Finish(absl::UnavailableError(
          absl::StrCat(name_, ": ", reply.number, " received it; min_receivers is ", address_.min_receivers)));
    }
    std::move(done).Finish(absl::OkStatus());
  }

  absl::Status Named(const absl::Status& status) const {
    return absl::Status(status.code(), absl::StrCat(name_, ": ", status.message()));
  }
  absl::Status Strange() const {
    return absl::UnavailableError(absl::StrCat(name_, ": what came is no reply of Redis to our commands"));
  }
  void Close(absl::Status why) {
    if (!closed_.ok()) return;
    closed_ = why;
    watch_.reset();
    std::deque<Completion> unanswered;
    unanswered.swap(unanswered_);
    for (Completion& done : unanswered) {
      std::move(done).Finish(absl::Status(why.code(), absl::StrCat(why.message(), "; the event may have arrived")));
    }
    loop_.Post([this, alive = alive_, why] {
      if (*alive) host_.OnClosed(why);
    });
  }

  const RedisAddress address_;
  const std::string name_;  // masked
  Loop& loop_;
  Host& host_;
  RedisReplies replies_;
  std::unique_ptr<StreamConnector> connector_;
  std::unique_ptr<ByteStream> stream_;
  std::unique_ptr<Loop::Watch> watch_;
  absl::Status closed_;
  int greetings_ = 0;  // replies to come before the first to an event

  std::string out_;  // what stands before out_start_ has been written
  size_t out_start_ = 0;
  std::deque<Completion> unanswered_;                                 // bounded by the window
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // posted tasks look at it first
};

class RedisTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override {
    return "redis://[user:password@]host[:port]/stream:KEY (or list:KEY, channel:NAME)[?db=0&max_length=N&"
           "min_receivers=1&timeout=1s&encoding=jsonrpc]";
  }
  absl::string_view description() const override {
    return "Appends to a Redis stream, pushes to a list, or publishes to a channel. Success: Redis has said so, and on "
           "a "
           "channel that somebody received it.";
  }
  AckLevel ack_level() const override { return AckLevel::kConfirmed; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const absl::StatusOr<RedisAddress> address = ParseRedisAddress(uri);
    if (!address.ok()) return address.status();
    return TargetOf(*address, AckLevel::kConfirmed, {address->host});
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    return std::make_unique<RedisLink>(AddressOf(target, &ParseRedisAddress), loop, host);
  }
};

}  // namespace

std::unique_ptr<Transport> MakeRedisTransport() { return std::make_unique<RedisTransport>(); }

}  // namespace eventvirtual
