#include "transports/rabbitmq/rabbitmq_transport.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "transports/api/check.h"
#include "transports/io/errno_text.h"
#include "transports/io/stream_connector.h"
#include "transports/rabbitmq/amqp_frames.h"
#include "transports/rabbitmq/broker_address.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kSchemes[] = {"rabbitmq"};
constexpr absl::Duration kConnectTimeout = absl::Seconds(1);
constexpr absl::Duration kLoginPatience = absl::Seconds(10);
constexpr int kWindow = 256;
constexpr size_t kReadSize = 64 << 10;

// A copy that shares nothing: a status that is moved to another thread must not.
absl::Status Fresh(const absl::Status& status) { return absl::Status(status.code(), status.message()); }

// What a broker sends may be anything; what we report goes into logs and protobuf strings.
std::string Printable(absl::string_view text) {
  std::string printable(text);
  for (char& c : printable) {
    if (!absl::ascii_isprint(c)) c = '?';
  }
  return printable;
}

// Everything runs on the loop: librabbitmq encodes and decodes, but its connections block and are not used.
class RabbitmqLink final : public Link {
 public:
  RabbitmqLink(BrokerAddress address, Loop& loop, Host& host)
      : address_(std::move(address)), name_(address_.ToString(/*masked=*/true)), loop_(loop), host_(host) {
    connector_ = std::make_unique<StreamConnector>(loop, address_.host, kConnectTimeout,
                                                   [this](absl::StatusOr<int> fd) { OnConnected(std::move(fd)); });
  }

  ~RabbitmqLink() override {
    *alive_ = false;
    connector_.reset();
    watch_.reset();
    if (ready_ && closed_.ok() && out_.empty()) {  // a farewell spares the broker a warning in its log
      AppendAmqpMethod<amqp_connection_close_t>(kAmqpConnection, AMQP_CONNECTION_CLOSE_METHOD,
                                                {.reply_code = AMQP_REPLY_SUCCESS}, &out_);
      send(fd_, out_.data(), out_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    if (fd_ >= 0) close(fd_);
  }

  void Send(absl::Span<Parcel> parcels) override {
    for (Parcel& parcel : parcels) {
      if (!closed_.ok()) {
        std::move(parcel.done).Finish(Fresh(closed_));
      } else if (!alarm_.empty()) {
        // Waiting would only use up the time that a failover needs.
        std::move(parcel.done).Finish(absl::UnavailableError(alarm_));
      } else if (absl::Status status = AppendPublish(address_, *parcel.message, last_tag_ + 1, frame_max_, &out_);
                 !status.ok()) {
        std::move(parcel.done).Finish(absl::Status(status.code(), absl::StrCat(name_, ": ", status.message())));
      } else {
        unconfirmed_.emplace_hint(unconfirmed_.end(), ++last_tag_, std::move(parcel.done));
      }
    }
    if (closed_.ok()) Write();
  }

 private:
  // --- the connection

  void OnConnected(absl::StatusOr<int> fd) {
    if (!fd.ok()) return Close(fd.status());
    fd_ = *fd;
    heard_ = loop_.Now();
    tick_ = loop_.NewTimer([this] { OnTick(); });
    tick_->Arm(heard_ + kLoginPatience);
    watch_ = loop_.NewWatch(fd_, [this](Loop::Readiness ready) {
      if (ready.readable) Read();
      if (ready.writable && closed_.ok()) Write();
    });
    out_.append("AMQP\0\0\x09\x01", 8);  // protocol header, section 4.2.2
    Write();
  }

  // Half a heartbeat has passed (during login: the patience). Section 4.2.7: silence of two heartbeats is a dead peer.
  void OnTick() {
    const absl::Duration silence = loop_.Now() - heard_;
    if (!ready_) return Close(absl::UnavailableError(absl::StrCat(name_, ": the login takes too long")));
    if (silence > 2 * address_.heartbeat) {
      return Close(
          absl::UnavailableError(absl::StrCat(name_, ": no sign of life for ", absl::FormatDuration(silence))));
    }
    if (out_.empty()) AppendHeartbeat(&out_);
    Write();
    if (closed_.ok()) tick_->Arm(loop_.Now() + address_.heartbeat / 2);
  }

  void Close(absl::Status why) {
    if (!closed_.ok()) return;
    closed_ = why;
    watch_.reset();
    if (tick_ != nullptr) tick_->Cancel();
    EndUpTo(last_tag_, why);
    loop_.Post([this, alive = alive_, why] {
      if (*alive) host_.OnClosed(why);
    });
  }

  // While the broker blocks publishers it reads nothing: what it had not read before waits here, and what a link that
  // is given up still holds is not published later by surprise.
  void Write() {
    while (alarm_.empty() && out_start_ < out_.size()) {
      const ssize_t sent = send(fd_, out_.data() + out_start_, out_.size() - out_start_, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent >= 0) {
        out_start_ += sent;
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        break;
      } else if (errno != EINTR) {
        return Close(absl::UnavailableError(absl::StrCat(name_, ": ", ErrnoText(errno))));
      }
    }
    if (out_start_ > out_.size() / 2) out_.erase(0, std::exchange(out_start_, 0));
    watch_->Want({.readable = true, .writable = alarm_.empty() && !out_.empty()});
  }

  void Read() {
    char bytes[kReadSize];
    const ssize_t got = recv(fd_, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK) return;
      return Close(absl::UnavailableError(absl::StrCat(name_, ": ", ErrnoText(errno))));
    }
    if (got == 0) {
      return Close(absl::UnavailableError(
          absl::StrCat(name_, ": the broker closed the connection", ready_ ? "" : " during the login")));
    }
    heard_ = loop_.Now();
    frames_.Append(absl::string_view(bytes, got));
    while (closed_.ok()) {
      const absl::StatusOr<std::optional<AmqpFrame>> frame = frames_.Next();
      if (!frame.ok()) return Confused(frame.status().message());
      if (!frame->has_value()) return Write();
      if ((*frame)->kind == AmqpFrame::Kind::kMethod) OnMethod((*frame)->method, (*frame)->decoded);
      if ((*frame)->kind == AmqpFrame::Kind::kHeader) OnReturned(*(*frame)->properties);
      // The body of a returned message is of no interest.
    }
  }

  void Confused(absl::string_view what) {
    Close(absl::UnavailableError(absl::StrCat(name_, ": the broker is not understood: ", what)));
  }

  void OnMethod(amqp_method_number_t id, void* decoded) {
    switch (id) {
      case AMQP_CONNECTION_START_METHOD:
        return AppendLogin(address_, &out_);
      case AMQP_CONNECTION_TUNE_METHOD:
        return Tune(*static_cast<amqp_connection_tune_t*>(decoded));
      case AMQP_CONNECTION_OPEN_OK_METHOD:
        return OpenChannel();
      case AMQP_CONFIRM_SELECT_OK_METHOD:
        if (!std::exchange(ready_, true)) {
          tick_->Cancel();
          if (address_.heartbeat > absl::ZeroDuration()) tick_->Arm(loop_.Now() + address_.heartbeat / 2);
          host_.OnReady(kWindow);
        }
        return;
      case AMQP_BASIC_ACK_METHOD: {
        const auto& ack = *static_cast<amqp_basic_ack_t*>(decoded);
        return OnConfirm(ack.delivery_tag, ack.multiple, absl::OkStatus());
      }
      case AMQP_BASIC_NACK_METHOD: {
        const auto& nack = *static_cast<amqp_basic_nack_t*>(decoded);
        return OnConfirm(nack.delivery_tag, nack.multiple,
                         absl::UnavailableError(absl::StrCat(
                             name_, ": the broker refused the message (basic.nack); a queue is full or has failed")));
      }
      case AMQP_BASIC_RETURN_METHOD: {
        const auto& returned = *static_cast<amqp_basic_return_t*>(decoded);
        return_reason_ =
            absl::StrCat(name_, ": returned, ", Printable(ViewOf(returned.reply_text)), " (", returned.reply_code,
                         "): exchange \"", Printable(ViewOf(returned.exchange)), "\" has no queue for routing key \"",
                         Printable(ViewOf(returned.routing_key)), "\"");
        return;
      }
      case AMQP_CONNECTION_BLOCKED_METHOD: {
        const auto& blocked = *static_cast<amqp_connection_blocked_t*>(decoded);
        alarm_ = absl::StrCat(name_, ": the broker takes nothing at present (", Printable(ViewOf(blocked.reason)), ")");
        return;
      }
      case AMQP_CONNECTION_UNBLOCKED_METHOD:
        alarm_.clear();
        return;
      case AMQP_CHANNEL_CLOSE_METHOD: {
        const auto& close = *static_cast<amqp_channel_close_t*>(decoded);
        const absl::Status why = BrokerError(close.reply_code, ViewOf(close.reply_text));
        if (!ready_) return Close(why);
        // A missing exchange, or one we may not write to. The connection is sound: only the channel is opened again.
        EndUpTo(last_tag_, why);
        AppendAmqpMethod<amqp_channel_close_ok_t>(kAmqpChannel, AMQP_CHANNEL_CLOSE_OK_METHOD, {}, &out_);
        return OpenChannel();
      }
      case AMQP_CONNECTION_CLOSE_METHOD: {
        const auto& close = *static_cast<amqp_connection_close_t*>(decoded);
        return Close(BrokerError(close.reply_code, ViewOf(close.reply_text)));
      }
      default:  // nothing else asks for an answer
        return;
    }
  }

  void OnReturned(const amqp_basic_properties_t& properties) {
    const std::string reason = std::exchange(return_reason_, "");
    const std::optional<uint64_t> tag = TagOf(properties);
    if (!tag.has_value()) return Confused("a returned message lacks our header");
    OnConfirm(*tag, /*multiple=*/false, absl::NotFoundError(reason));  // the ack that follows finds nothing
  }

  void OnConfirm(uint64_t tag, bool multiple, const absl::Status& outcome) {
    if (multiple) return EndUpTo(tag == 0 ? last_tag_ : tag, outcome);  // 0: all, section 1.8.3.13
    const auto found = unconfirmed_.find(tag);
    if (found == unconfirmed_.end()) return;
    std::move(found->second).Finish(Fresh(outcome));
    unconfirmed_.erase(found);
  }

  void EndUpTo(uint64_t tag, const absl::Status& outcome) {
    const auto end = unconfirmed_.upper_bound(tag);
    for (auto it = unconfirmed_.begin(); it != end; ++it) std::move(it->second).Finish(Fresh(outcome));
    unconfirmed_.erase(unconfirmed_.begin(), end);
  }

  // What the broker gives as its reason for closing. Reply codes: section 1.2 and RabbitMQ's use of them.
  absl::Status BrokerError(int code, absl::string_view text) const {
    const std::string what = absl::StrCat(name_, ": ", Printable(text), " (", code, ")");
    switch (code) {
      case AMQP_ACCESS_REFUSED:
        return ready_ ? absl::PermissionDeniedError(what) : absl::UnauthenticatedError(what);
      case AMQP_NOT_ALLOWED:  // a vhost that does not exist or is closed to this user
        return absl::PermissionDeniedError(what);
      case AMQP_NOT_FOUND:
        return absl::NotFoundError(what);
      default:
        return absl::UnavailableError(what);
    }
  }

  void Tune(const amqp_connection_tune_t& tune) {
    if (tune.frame_max != 0) frame_max_ = std::min(tune.frame_max, kMaxAmqpFrame);  // 0: no limit
    if (frame_max_ < kMinAmqpFrame) return Confused("it wants frames smaller than AMQP allows");
    AppendAmqpMethod<amqp_connection_tune_ok_t>(
        kAmqpConnection, AMQP_CONNECTION_TUNE_OK_METHOD,
        {.channel_max = 1,
         .frame_max = frame_max_,
         .heartbeat = static_cast<uint16_t>(absl::ToInt64Seconds(address_.heartbeat))},
        &out_);
    AppendAmqpMethod<amqp_connection_open_t>(kAmqpConnection, AMQP_CONNECTION_OPEN_METHOD,
                                             {.virtual_host = AmqpBytes(address_.vhost)}, &out_);
  }

  void OpenChannel() {
    AppendAmqpMethod<amqp_channel_open_t>(kAmqpChannel, AMQP_CHANNEL_OPEN_METHOD, {}, &out_);
    AppendAmqpMethod<amqp_confirm_select_t>(kAmqpChannel, AMQP_CONFIRM_SELECT_METHOD, {}, &out_);
    last_tag_ = 0;  // the broker counts the messages of a channel
  }

  const BrokerAddress address_;
  const std::string name_;  // masked
  Loop& loop_;
  Host& host_;
  std::unique_ptr<StreamConnector> connector_;
  int fd_ = -1;
  std::unique_ptr<Loop::Watch> watch_;
  std::unique_ptr<Loop::Timer> tick_;
  absl::Time heard_;  // when the broker last said something
  absl::Status closed_;
  bool ready_ = false;
  std::string alarm_;  // not empty: the broker blocks publishers, and why
  uint32_t frame_max_ = kMaxAmqpFrame;

  AmqpFrameReader frames_;
  std::string out_;       // at most a window of messages, a heartbeat and a few methods
  size_t out_start_ = 0;  // what stands before it has been written

  uint64_t last_tag_ = 0;  // delivery tag of the last message sent on this channel
  absl::btree_map<uint64_t, Completion> unconfirmed_;
  std::string return_reason_;  // between a basic.return and the properties of its message
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // posted tasks look at it first
};

class RabbitmqTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override {
    return "rabbitmq:[user[:password]@]host[:port]/[exchange=X;persistent;vhost=V;heartbeat=10;header.NAME=VALUE?]"
           "routing_key[?timeout=2s]";
  }
  absl::string_view description() const override {
    return "Publishes to an AMQP 0-9-1 broker. Success: the broker confirmed the message and a queue took it.";
  }
  AckLevel ack_level() const override { return AckLevel::kConfirmed; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const absl::StatusOr<BrokerAddress> address = ParseBrokerAddress(uri);
    if (!address.ok()) return address.status();
    return Target{.canonical = address->ToString(/*masked=*/false),
                  .masked = address->ToString(/*masked=*/true),
                  .ack_level = AckLevel::kConfirmed,
                  .attempt_timeout = address->timeout};
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    const absl::StatusOr<Uri> uri = ParseUri(target.canonical);
    EV_CHECK(uri.ok());
    absl::StatusOr<BrokerAddress> address = ParseBrokerAddress(*uri);
    EV_CHECK(address.ok());
    return std::make_unique<RabbitmqLink>(*std::move(address), loop, host);
  }
};

}  // namespace

std::unique_ptr<Transport> MakeRabbitmqTransport() { return std::make_unique<RabbitmqTransport>(); }

}  // namespace eventvirtual
