#include "transports/grpc/grpc_connection.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "transports/api/check.h"
#include "transports/api/context_headers.h"
#include "transports/api/encoding.h"
#include "transports/io/printable.h"

namespace eventvirtual {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(1);
constexpr size_t kWriteAhead = 64 << 10;
constexpr size_t kMaxShown = 200;  // bytes of what a server says
constexpr char kTlsAlert = 21;     // RFC 8446 section 5.1: how a TLS server answers to what is no TLS
constexpr absl::string_view kPath = "/eventvirtual.v1.Receiver/Deliver";

constexpr size_t kFrameHead = 5;        // of gRPC: not compressed (1 byte), size of the message (4)
constexpr char kEventTag = 1 << 3 | 2;  // DeliverRequest.event: field 1, with a length

// What stands before an event in the body of a call.
std::string HeadOf(size_t event_size) {
  std::string head(kFrameHead, '\0');
  head.push_back(kEventTag);
  for (uint64_t rest = event_size; true; rest >>= 7) {
    if (rest < 0x80) {
      head.push_back(static_cast<char>(rest));
      break;
    }
    head.push_back(static_cast<char>(rest | 0x80));
  }
  const size_t message_size = head.size() - kFrameHead + event_size;
  for (int i = 0; i < 4; ++i) head[1 + i] = static_cast<char>(message_size >> (24 - 8 * i));
  return head;
}

absl::string_view EventOf(const Message& message) { return message.encoded(Encoding::kProtobuf); }

nghttp2_nv Header(absl::string_view name, absl::string_view value, uint8_t flags = NGHTTP2_NV_FLAG_NONE) {
  const auto bytes = [](absl::string_view text) {
    return const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(text.data()));  // nghttp2 copies, and changes nothing
  };
  return {bytes(name), bytes(value), name.size(), value.size(), flags};
}

absl::string_view View(const uint8_t* bytes, size_t size) { return {reinterpret_cast<const char*>(bytes), size}; }

}  // namespace

GrpcConnection::GrpcConnection(const GrpcAddress& address, absl::string_view name, SSL_CTX* tls, Loop& loop,
                               Reports reports)
    : address_(address),
      name_(name),
      authority_(address.host.ToString()),
      timeout_(absl::StrCat(absl::ToInt64Milliseconds(absl::Ceil(address.timeout, absl::Milliseconds(1))), "m")),
      authorization_(address.token.empty() ? "" : absl::StrCat("Bearer ", address.token.Reveal())),
      tls_(tls),
      loop_(loop),
      reports_(std::move(reports)) {
  connector_ = std::make_unique<StreamConnector>(loop, address.host, kConnectTimeout,
                                                 [this](absl::StatusOr<int> fd) { OnConnected(std::move(fd)); });
}

GrpcConnection::~GrpcConnection() { nghttp2_session_del(session_); }

GrpcConnection::State GrpcConnection::state() const {
  if (ended_) return State::kEnded;
  if (!open_) return State::kConnecting;
  return nghttp2_session_check_request_allowed(session_) != 0 ? State::kOpen : State::kLeaving;
}

uint32_t GrpcConnection::max_calls() const {
  return nghttp2_session_get_remote_settings(session_, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

void GrpcConnection::OnConnected(absl::StatusOr<int> fd) {
  if (!fd.ok()) return End(fd.status());
  stream_ = tls_ == nullptr ? std::make_unique<ByteStream>(*fd)
                            : std::make_unique<ByteStream>(*fd, *tls_, address_.NameOf(address_.host.host));
  watch_ = loop_.NewWatch(*fd, [this](Loop::Readiness ready) {
    if (ready.readable) Look();
    if (ready.writable && !ended_) Write();
  });
  static nghttp2_session_callbacks* const callbacks = MakeCallbacks();
  const nghttp2_settings_entry no_push = {NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
  EV_CHECK(nghttp2_session_client_new(&session_, callbacks, this) == 0);
  EV_CHECK(nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, &no_push, 1) == 0);
  Write();
}

// --- calls

void GrpcConnection::Call(Parcel parcel) {
  const Message& message = *parcel.message;
  Outgoing call{.parcel = std::move(parcel), .head = HeadOf(EventOf(message).size())};
  const size_t size = SizeOf(call) - kFrameHead;
  if (size > static_cast<size_t>(address_.max_message)) {
    const std::string why = absl::StrCat("the event has ", size, " bytes as a DeliverRequest; the receiver takes ",
                                         address_.max_message, " (max_message)");
    return std::move(call.parcel.done).Finish(Named(absl::InvalidArgumentError(why)));
  }
  absl::InlinedVector<nghttp2_nv, 12> headers = {
      Header(":method", "POST"),
      Header(":scheme", address_.tls ? "https" : "http"),
      Header(":path", kPath),
      Header(":authority", authority_),
      Header("grpc-timeout", timeout_),
      Header("te", "trailers"),
      Header("content-type", "application/grpc"),
      Header("user-agent", "eventvirtual"),
  };
  if (!authorization_.empty()) headers.push_back(Header("authorization", authorization_.Reveal()));
  ForEachContextHeader(message, [&headers](absl::string_view name, absl::string_view value) {
    headers.push_back(Header(name, value, NGHTTP2_NV_FLAG_NO_INDEX));  // the next event has another
  });
  nghttp2_data_provider body = {.source = {}, .read_callback = &ReadMessage};
  const int32_t id = nghttp2_submit_request(session_, nullptr, headers.data(), headers.size(), &body, nullptr);
  EV_CHECK(id > 0);
  calls_.emplace_hint(calls_.end(), id, std::move(call));
  if (state() == State::kOpen) return;
  // The numbers of streams are used up (RFC 9113 section 5.1.1): after 30 hours at ten thousand events a second.
  OnGoaway(NGHTTP2_NO_ERROR, "");
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, nullptr, 0);
  Flush();
}

void GrpcConnection::Flush() {
  if (stream_ != nullptr && !ended_) Write();
}

size_t GrpcConnection::SizeOf(const Outgoing& call) { return call.head.size() + EventOf(*call.parcel.message).size(); }

void GrpcConnection::Finish(int32_t id, absl::Status outcome) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return;
  proved_itself_ = proved_itself_ || outcome.ok();
  std::move(found->second.parcel.done).Finish(outcome.ok() ? std::move(outcome) : Named(outcome));
  calls_.erase(found);
}

// --- the connection

void GrpcConnection::Write() {
  while (true) {
    while (out_.size() - out_start_ < kWriteAhead) {
      const uint8_t* bytes = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session_, &bytes);
      EV_CHECK(size >= 0);  // or there is no memory
      if (size == 0) break;
      out_.append(reinterpret_cast<const char*>(bytes), size);
    }
    if (out_start_ == out_.size() && !stream_->wants_write()) break;
    const absl::StatusOr<size_t> taken = stream_->Send(absl::string_view(out_).substr(out_start_));
    if (!taken.ok()) return Lost(taken.status());
    if (*taken == 0) break;
    out_start_ += *taken;
    if (out_start_ > out_.size() / 2) out_.erase(0, std::exchange(out_start_, 0));
  }
  HandBackUntouched();
  if (ended_) return;
  if (nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0) return End(Confused());
  watch_->Want({.readable = true, .writable = stream_->wants_write()});
}

void GrpcConnection::Look() {
  if (stream_ == nullptr || ended_) return;
  std::string bytes;
  const absl::Status state = stream_->Receive(&bytes);
  TakeIn(bytes);
  if (ended_) return;
  if (!state.ok()) return Lost(state);
  Write();
}

void GrpcConnection::TakeIn(absl::string_view bytes) {
  if (bytes.empty()) return;
  const bool was_open = open_;
  speaks_tls_ = speaks_tls_ || (!open_ && bytes.front() == kTlsAlert);
  if (speaks_tls_) return End(Confused());
  const ssize_t taken =
      nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  if (taken < 0) {
    if (fault_.empty()) fault_ = nghttp2_strerror(static_cast<int>(taken));
    return End(Confused());
  }
  if (state() == State::kLeaving && why_.ok()) why_ = Named(Confused());
  HandBackUntouched();
  if (open_ && !was_open) reports_.on_open();
}

void GrpcConnection::HandBackUntouched() {
  std::vector<Parcel> untouched;
  untouched.swap(untouched_);
  for (Parcel& parcel : untouched) {
    if (state() == State::kOpen) {
      std::move(parcel.done).Finish(Named(ResetOutcome(NGHTTP2_REFUSED_STREAM)));
    } else {
      reports_.on_untouched(std::move(parcel));
    }
  }
}

// The connection is gone. A server that has hung up has often said why before, and we have not read it yet.
void GrpcConnection::Lost(const absl::Status& how) {
  std::string last_words;
  const absl::Status state = stream_->Receive(&last_words);
  TakeIn(last_words);
  if (ended_) return;
  if (!open_ && !fault_.empty()) return End(Confused());
  const absl::Status& why = absl::IsUnauthenticated(state) ? state : how;
  const absl::string_view hint = tls_ == nullptr
                                     ? "it speaks TLS there: write grpcs://"
                                     : "it does not take our certificate, or wants one: cert=/path, key=/path";
  End(absl::Status(why.code(), absl::StrCat(why.message(), open_ ? "" : " before it said a word of HTTP/2; perhaps ",
                                            open_ ? "" : hint)));
}

void GrpcConnection::End(const absl::Status& why) {
  if (std::exchange(ended_, true)) return;
  if (why_.ok()) why_ = Named(why);
  watch_.reset();
  stream_.reset();  // a server that leaves waits for it
  std::vector<int32_t> ids;
  for (const auto& [id, call] : calls_) ids.push_back(id);
  for (int32_t id : ids) {
    const Outgoing& call = calls_[id];
    const bool whole = call.sent == SizeOf(call);
    Finish(id, absl::Status(why.code(), absl::StrCat(why.message(), whole ? "; the event may have arrived" : "")));
  }
  reports_.on_ended(*this);
}

absl::Status GrpcConnection::Confused() const {
  if (in_order_) return absl::UnavailableError("it has ended");
  if (open_) return absl::UnavailableError(absl::StrCat("the receiver breaks the rules of HTTP/2: ", fault_));
  if (speaks_tls_) return absl::UnavailableError("it speaks TLS there; write grpcs://host:port");
  return absl::UnavailableError(absl::StrCat("it does not speak HTTP/2: ", fault_));
}

absl::Status GrpcConnection::Named(const absl::Status& status) const {
  return absl::Status(status.code(), absl::StrCat(name_, ": ", status.message()));
}

void GrpcConnection::OnGoaway(uint32_t code, absl::string_view text) {
  in_order_ = code == NGHTTP2_NO_ERROR;
  why_ =
      Named(absl::UnavailableError(absl::StrCat("the receiver ends the connection (", nghttp2_http2_strerror(code),
                                                text.empty() ? "" : ": ", Printable(text.substr(0, kMaxShown)), ")")));
}

// --- what nghttp2 calls

nghttp2_session_callbacks* GrpcConnection::MakeCallbacks() {
  nghttp2_session_callbacks* made = nullptr;
  EV_CHECK(nghttp2_session_callbacks_new(&made) == 0);
  nghttp2_session_callbacks_set_on_frame_recv_callback(made, &OnFrame);
  nghttp2_session_callbacks_set_on_header_callback(made, &OnHeader);
  nghttp2_session_callbacks_set_on_stream_close_callback(made, &OnStreamClose);
  nghttp2_session_callbacks_set_on_frame_not_send_callback(made, &OnNotSent);
  nghttp2_session_callbacks_set_error_callback2(made, &OnFault);
  return made;
}

int GrpcConnection::OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* self) {
  GrpcConnection& connection = Of(self);
  const int32_t id = frame->hd.stream_id;
  switch (frame->hd.type) {
    case NGHTTP2_SETTINGS:
      connection.open_ = true;
      return 0;
    case NGHTTP2_GOAWAY:
      connection.OnGoaway(frame->goaway.error_code, View(frame->goaway.opaque_data, frame->goaway.opaque_data_len));
      return 0;
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA: {
      const auto found = connection.calls_.find(id);
      if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0 || found == connection.calls_.end()) return 0;
      absl::Status outcome = found->second.answer.Outcome();
      if (found->second.sent < SizeOf(found->second)) {
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_NO_ERROR);  // "Early Server Closure"
        if (outcome.ok()) outcome = absl::UnavailableError("the receiver answered OK before it had the event");
      }
      connection.Finish(id, std::move(outcome));
      return 0;
    }
    default:
      return 0;
  }
}

int GrpcConnection::OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                             const uint8_t* value, size_t value_size, uint8_t, void* self) {
  const auto found = Of(self).calls_.find(frame->hd.stream_id);
  if (found != Of(self).calls_.end()) found->second.answer.Take(View(name, name_size), View(value, value_size));
  return 0;
}

int GrpcConnection::OnStreamClose(nghttp2_session*, int32_t id, uint32_t code, void* self) {
  GrpcConnection& connection = Of(self);
  const auto found = connection.calls_.find(id);
  if (found == connection.calls_.end()) return 0;
  if (code != NGHTTP2_REFUSED_STREAM) {
    connection.Finish(id, ResetOutcome(code));
  } else {
    connection.untouched_.push_back(std::move(found->second.parcel));
    connection.calls_.erase(found);
  }
  return 0;
}

int GrpcConnection::OnNotSent(nghttp2_session*, const nghttp2_frame* frame, int error, void* self) {
  GrpcConnection& connection = Of(self);
  if (frame->hd.type != NGHTTP2_HEADERS) return 0;
  if (error == NGHTTP2_ERR_START_STREAM_NOT_ALLOWED) {  // since a GOAWAY has come
    return OnStreamClose(nullptr, frame->hd.stream_id, NGHTTP2_REFUSED_STREAM, self);
  }
  connection.Finish(frame->hd.stream_id, absl::UnavailableError(nghttp2_strerror(error)));
  return 0;
}

int GrpcConnection::OnFault(nghttp2_session*, int, const char* text, size_t size, void* self) {
  Of(self).fault_ = Printable(absl::string_view(text, std::min(size, kMaxShown)));
  return 0;
}

ssize_t GrpcConnection::ReadMessage(nghttp2_session*, int32_t id, uint8_t* buffer, size_t size, uint32_t* flags,
                                    nghttp2_data_source*, void* self) {
  const auto found = Of(self).calls_.find(id);
  if (found == Of(self).calls_.end()) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;  // it is over
  Outgoing& call = found->second;
  const absl::string_view event = EventOf(*call.parcel.message);
  const size_t whole = SizeOf(call);
  size_t copied = 0;
  while (copied < size && call.sent < whole) {
    const absl::string_view rest = call.sent < call.head.size() ? absl::string_view(call.head).substr(call.sent)
                                                                : event.substr(call.sent - call.head.size());
    const size_t part = std::min(rest.size(), size - copied);
    std::memcpy(buffer + copied, rest.data(), part);
    copied += part;
    call.sent += part;
  }
  if (call.sent == whole) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(copied);
}

}  // namespace eventvirtual
