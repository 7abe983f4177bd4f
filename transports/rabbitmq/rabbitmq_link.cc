#include "transports/rabbitmq/rabbitmq_link.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/io/printable.h"
#include "transports/io/tls_options.h"

namespace eventvirtual {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(1);
constexpr absl::Duration kLoginPatience = absl::Seconds(10);
constexpr int kWindow = 256;

}  // namespace

RabbitmqLink::RabbitmqLink(BrokerAddress address, Loop& loop, Host& host)
    : address_(std::move(address)), name_(address_.ToString(/*masked=*/true)), loop_(loop), host_(host) {
  if (address_.tls()) {
    PrepareTls();
  } else {
    Connect();
  }
}

RabbitmqLink::~RabbitmqLink() {
  box_->Leave();
  connector_.reset();
  watch_.reset();
  if (ready_ && closed_.ok() && out_.empty()) {  // a farewell spares the broker a warning in its log
    AppendAmqpMethod<amqp_connection_close_t>(kAmqpConnection, AMQP_CONNECTION_CLOSE_METHOD,
                                              {.reply_code = AMQP_REPLY_SUCCESS}, &out_);
    stream_->Send(out_).IgnoreError();
  }
}

void RabbitmqLink::Send(absl::Span<Parcel> parcels) {
  for (Parcel& parcel : parcels) {
    if (!closed_.ok()) {
      std::move(parcel.done).Finish(Fresh(closed_));
    } else if (!alarm_.empty()) {
      // Waiting would only use up the time that a failover needs.
      std::move(parcel.done).Finish(absl::UnavailableError(alarm_));
    } else if (absl::Status status = AppendPublish(address_, *parcel.message, last_tag_ + 1, frame_max_, &out_);
               !status.ok()) {
      std::move(parcel.done).Finish(Named(status));
    } else {
      unconfirmed_.emplace_hint(unconfirmed_.end(), ++last_tag_, std::move(parcel.done));
    }
  }
  if (closed_.ok()) Write();
}

// --- the connection

void RabbitmqLink::PrepareTls() {
  reader_ = std::make_unique<Worker>("amqp-files");
  reader_->Run([this, box = box_, options = TlsOptions(address_)] {
    absl::StatusOr<TlsContext> context = MakeTlsContext(options);
    box->Post([this, context = std::move(context)]() mutable {
      if (!context.ok()) return Close(Named(context.status()));
      tls_ = *std::move(context);
      Connect();
    });
  });
}

void RabbitmqLink::Connect() {
  connector_ = std::make_unique<StreamConnector>(loop_, address_.host, kConnectTimeout,
                                                 [this](absl::StatusOr<int> fd) { OnConnected(std::move(fd)); });
}

void RabbitmqLink::OnConnected(absl::StatusOr<int> fd) {
  if (!fd.ok()) return Close(Named(fd.status()));
  stream_ = tls_ == nullptr ? std::make_unique<ByteStream>(*fd)
                            : std::make_unique<ByteStream>(*fd, *tls_, address_.NameOf(address_.host.host));
  heard_ = loop_.Now();
  tick_ = loop_.NewTimer([this] { OnTick(); });
  tick_->Arm(heard_ + kLoginPatience);
  watch_ = loop_.NewWatch(*fd, [this](Loop::Readiness ready) {
    if (ready.readable) Read();
    if (ready.writable && closed_.ok()) Write();
  });
  out_.append("AMQP\0\0\x09\x01", 8);  // protocol header, section 4.2.2
  Write();
}

// Half a heartbeat has passed (during login: the patience). Section 4.2.7: silence of two heartbeats is a dead peer.
void RabbitmqLink::OnTick() {
  const absl::Duration silence = loop_.Now() - heard_;
  if (!ready_) return Close(absl::UnavailableError(absl::StrCat(name_, ": the login takes too long")));
  if (silence > 2 * address_.heartbeat) {
    return Close(absl::UnavailableError(absl::StrCat(name_, ": no sign of life for ", absl::FormatDuration(silence))));
  }
  if (out_.empty()) AppendHeartbeat(&out_);
  Write();
  if (closed_.ok()) tick_->Arm(loop_.Now() + address_.heartbeat / 2);
}

void RabbitmqLink::Close(absl::Status why) {
  if (!closed_.ok()) return;
  closed_ = why;
  watch_.reset();
  if (tick_ != nullptr) tick_->Cancel();
  EndUpTo(last_tag_, why);
  box_->Post([this, why] { host_.OnClosed(why); });
}

// While the broker blocks publishers it reads nothing: what it had not read before waits here, and what a link that
// is given up still holds is not published later by surprise.
void RabbitmqLink::Write() {
  while (alarm_.empty() && (out_start_ < out_.size() || stream_->wants_write())) {
    const absl::StatusOr<size_t> taken = stream_->Send(absl::string_view(out_).substr(out_start_));
    if (!taken.ok()) return Lost(taken.status());
    if (*taken == 0) break;
    out_start_ += *taken;
  }
  if (out_start_ > out_.size() / 2) out_.erase(0, std::exchange(out_start_, 0));
  watch_->Want({.readable = true, .writable = alarm_.empty() && stream_->wants_write()});
}

void RabbitmqLink::Read() {
  std::string bytes;
  const absl::Status state = stream_->Receive(&bytes);
  TakeIn(bytes);
  if (!closed_.ok()) return;
  if (!state.ok()) return Lost(state);
  Write();
}

void RabbitmqLink::TakeIn(absl::string_view bytes) {
  if (!bytes.empty()) heard_ = loop_.Now();
  frames_.Append(bytes);
  while (closed_.ok()) {
    const absl::StatusOr<std::optional<AmqpFrame>> frame = frames_.Next();
    if (!frame.ok()) return Confused(frame.status().message());
    if (!frame->has_value()) return;
    if ((*frame)->kind == AmqpFrame::Kind::kMethod) OnMethod((*frame)->method, (*frame)->decoded);
    if ((*frame)->kind == AmqpFrame::Kind::kHeader) OnReturned(*(*frame)->properties);
    // The body of a returned message is of no interest.
  }
}

// The connection is gone. A broker that has hung up has often said why before, and we have not read it yet.
void RabbitmqLink::Lost(const absl::Status& how) {
  std::string last_words;
  const absl::Status state = stream_->Receive(&last_words);
  TakeIn(last_words);
  const absl::Status& why = absl::IsUnauthenticated(state) ? state : how;
  Close(Named(absl::Status(why.code(), absl::StrCat(why.message(), ready_ ? "" : " during the login"))));
}

absl::Status RabbitmqLink::Named(const absl::Status& status) const {
  return absl::Status(status.code(), absl::StrCat(name_, ": ", status.message()));
}

void RabbitmqLink::Confused(absl::string_view what) {
  Close(absl::UnavailableError(absl::StrCat(name_, ": the broker is not understood: ", what)));
}

void RabbitmqLink::OnMethod(amqp_method_number_t id, void* decoded) {
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
    case AMQP_CONNECTION_BLOCKED_METHOD:
      return OnAlarm(ViewOf(static_cast<amqp_connection_blocked_t*>(decoded)->reason));
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

// What is out waits at the broker for the end of the alarm, which is longer than any attempt.
void RabbitmqLink::OnAlarm(absl::string_view reason) {
  alarm_ = absl::StrCat(name_, ": the broker takes nothing at present (", Printable(reason), ")");
  EndUpTo(last_tag_, absl::UnavailableError(absl::StrCat(alarm_, "; the event may arrive when it does")));
}

void RabbitmqLink::OnReturned(const amqp_basic_properties_t& properties) {
  const std::string reason = std::exchange(return_reason_, "");
  const std::optional<uint64_t> tag = TagOf(properties);
  if (!tag.has_value()) return Confused("a returned message lacks our header");
  OnConfirm(*tag, /*multiple=*/false, absl::NotFoundError(reason));  // the ack that follows finds nothing
}

void RabbitmqLink::OnConfirm(uint64_t tag, bool multiple, const absl::Status& outcome) {
  if (multiple) return EndUpTo(tag == 0 ? last_tag_ : tag, outcome);  // 0: all, section 1.8.3.13
  const auto found = unconfirmed_.find(tag);
  if (found == unconfirmed_.end()) return;
  std::move(found->second).Finish(Fresh(outcome));
  unconfirmed_.erase(found);
}

void RabbitmqLink::EndUpTo(uint64_t tag, const absl::Status& outcome) {
  const auto end = unconfirmed_.upper_bound(tag);
  for (auto it = unconfirmed_.begin(); it != end; ++it) std::move(it->second).Finish(Fresh(outcome));
  unconfirmed_.erase(unconfirmed_.begin(), end);
}

// What the broker gives as its reason for closing. Reply codes: section 1.2 and RabbitMQ's use of them.
absl::Status RabbitmqLink::BrokerError(int code, absl::string_view text) const {
  const std::string what = absl::StrCat(name_, ": ", Printable(text), " (", code, ")");
  switch (code) {
    case AMQP_ACCESS_REFUSED:
      return ready_ ? absl::PermissionDeniedError(what) : absl::UnauthenticatedError(what);
    case AMQP_NOT_ALLOWED:  // a vhost that does not exist or is closed to this user
      return absl::PermissionDeniedError(what);
    case AMQP_NOT_FOUND:
      return absl::NotFoundError(what);
    case AMQP_PRECONDITION_FAILED:  // a message larger than the broker's max_message_size
      return absl::InvalidArgumentError(what);
    default:
      return absl::UnavailableError(what);
  }
}

void RabbitmqLink::Tune(const amqp_connection_tune_t& tune) {
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

void RabbitmqLink::OpenChannel() {
  AppendAmqpMethod<amqp_channel_open_t>(kAmqpChannel, AMQP_CHANNEL_OPEN_METHOD, {}, &out_);
  AppendAmqpMethod<amqp_confirm_select_t>(kAmqpChannel, AMQP_CONFIRM_SELECT_METHOD, {}, &out_);
  last_tag_ = 0;  // the broker counts the messages of a channel
}

}  // namespace eventvirtual
