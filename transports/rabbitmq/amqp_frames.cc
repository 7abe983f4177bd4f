#include "transports/rabbitmq/amqp_frames.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "transports/api/check.h"
#include "transports/api/context_headers.h"
#include "transports/api/encoding.h"

namespace eventvirtual {
namespace {

// Section 4.2.3: type (1 byte), channel (2), size (4), payload, end mark (1).
constexpr size_t kFrameHead = 7;
constexpr size_t kFrameExtra = kFrameHead + 1;
constexpr char kFrameEnd = static_cast<char>(AMQP_FRAME_END);
constexpr uint8_t kTlsAlert = 21;  // RFC 8446 section 5.1: how a TLS server answers to what is no TLS
// Section 4.2.6.1: class (2 bytes), weight (2), size of the body (8), properties.
constexpr size_t kHeaderHead = 12;
constexpr size_t kMaxEncoded = 16 << 10;  // of one method or one set of properties: twice what 16 headers may have
constexpr absl::string_view kTagHeader = "x-eventvirtual-tag";  // "x-": headers exchanges do not match on it

void AppendNumber(uint64_t number, int bytes, std::string* out) {
  while (bytes-- > 0) out->push_back(static_cast<char>(number >> (8 * bytes)));
}

uint64_t ReadNumber(absl::string_view bytes) {
  uint64_t number = 0;
  for (char c : bytes) number = number << 8 | static_cast<unsigned char>(c);
  return number;
}

void AppendFrame(uint8_t type, uint16_t channel, absl::string_view payload, std::string* out) {
  AppendNumber(type, 1, out);
  AppendNumber(channel, 2, out);
  AppendNumber(payload.size(), 4, out);
  out->append(payload.data(), payload.size());
  out->push_back(kFrameEnd);
}

amqp_table_t Table(std::vector<amqp_table_entry_t>& entries) {
  return {static_cast<int>(entries.size()), entries.data()};
}

amqp_table_entry_t Entry(absl::string_view name, uint8_t kind) { return {AmqpBytes(name), {kind, {}}}; }
amqp_table_entry_t TextEntry(absl::string_view name, absl::string_view text) {
  amqp_table_entry_t entry = Entry(name, AMQP_FIELD_KIND_UTF8);
  entry.value.value.bytes = AmqpBytes(text);
  return entry;
}

}  // namespace

AmqpFrameReader::AmqpFrameReader() { init_amqp_pool(&pool_, kMinAmqpFrame); }
AmqpFrameReader::~AmqpFrameReader() { empty_amqp_pool(&pool_); }

void AmqpFrameReader::Append(absl::string_view bytes) {
  bytes_.erase(0, std::exchange(start_, 0));
  bytes_.append(bytes.data(), bytes.size());
}

absl::StatusOr<std::optional<AmqpFrame>> AmqpFrameReader::Next() {
  recycle_amqp_pool(&pool_);
  const absl::string_view rest = absl::string_view(bytes_).substr(start_);
  if (rest.empty()) return std::nullopt;
  const auto type = static_cast<uint8_t>(rest[0]);
  if (type != AMQP_FRAME_METHOD && type != AMQP_FRAME_HEADER && type != AMQP_FRAME_BODY &&
      type != AMQP_FRAME_HEARTBEAT) {
    return absl::InvalidArgumentError(type == kTlsAlert ? "it speaks TLS there; write amqps://host/vhost?…"
                                                        : "it does not speak AMQP 0-9-1");
  }
  if (rest.size() < kFrameHead) return std::nullopt;
  const uint64_t size = ReadNumber(rest.substr(3, 4));
  if (size > kMaxAmqpFrame - kFrameExtra) return absl::InvalidArgumentError("a frame is larger than was agreed");
  if (rest.size() < size + kFrameExtra) return std::nullopt;
  if (rest[kFrameHead + size] != kFrameEnd) return absl::InvalidArgumentError("a frame has no end mark");
  const absl::string_view payload = rest.substr(kFrameHead, size);
  start_ += size + kFrameExtra;

  AmqpFrame frame;
  if (type == AMQP_FRAME_METHOD) {
    frame.kind = AmqpFrame::Kind::kMethod;
    if (size < 4) return absl::InvalidArgumentError("a method has no number");
    frame.method = static_cast<amqp_method_number_t>(ReadNumber(payload.substr(0, 4)));
    if (amqp_decode_method(frame.method, &pool_, AmqpBytes(payload.substr(4)), &frame.decoded) < 0) {
      return absl::InvalidArgumentError("a method is unknown or malformed");
    }
  } else if (type == AMQP_FRAME_HEADER) {
    frame.kind = AmqpFrame::Kind::kHeader;
    void* decoded = nullptr;
    if (size < kHeaderHead || ReadNumber(payload.substr(0, 2)) != AMQP_BASIC_CLASS ||
        amqp_decode_properties(AMQP_BASIC_CLASS, &pool_, AmqpBytes(payload.substr(kHeaderHead)), &decoded) < 0) {
      return absl::InvalidArgumentError("the properties of a message are malformed");
    }
    frame.properties = static_cast<const amqp_basic_properties_t*>(decoded);
  }
  return frame;
}

void AppendHeartbeat(std::string* out) { AppendFrame(AMQP_FRAME_HEARTBEAT, kAmqpConnection, "", out); }

void AppendAmqpMethod(uint16_t channel, amqp_method_number_t id, void* method, std::string* out) {
  char encoded[kMaxEncoded];
  const int size = amqp_encode_method(id, method, {sizeof(encoded), encoded});
  EV_CHECK(size >= 0);
  std::string payload;
  AppendNumber(id, 4, &payload);
  payload.append(encoded, size);
  AppendFrame(AMQP_FRAME_METHOD, channel, payload, out);
}

void AppendLogin(const BrokerAddress& address, std::string* out) {
  // Without these the broker would not say why it refuses a login, nor that it blocks us.
  std::vector<amqp_table_entry_t> capabilities;
  for (absl::string_view name :
       {"authentication_failure_close", "basic.nack", "connection.blocked", "publisher_confirms"}) {
    capabilities.push_back(Entry(name, AMQP_FIELD_KIND_BOOLEAN));
    capabilities.back().value.value.boolean = 1;
  }
  std::vector<amqp_table_entry_t> client = {TextEntry("product", "eventvirtual"),
                                            Entry("capabilities", AMQP_FIELD_KIND_TABLE)};
  client.back().value.value.table = Table(capabilities);
  std::string login;  // PLAIN, RFC 4616
  login.append(1, '\0').append(address.user).append(1, '\0').append(address.password.Reveal());
  AppendAmqpMethod<amqp_connection_start_ok_t>(kAmqpConnection, AMQP_CONNECTION_START_OK_METHOD,
                                               {.client_properties = Table(client),
                                                .mechanism = AmqpBytes("PLAIN"),
                                                .response = AmqpBytes(login),
                                                .locale = AmqpBytes("en_US")},
                                               out);
}

absl::Status AppendPublish(const BrokerAddress& address, const Message& message, uint64_t tag, uint32_t frame_max,
                           std::string* out) {
  std::vector<amqp_table_entry_t> headers;
  for (const auto& [name, value] : address.headers) headers.push_back(TextEntry(name, value));
  ForEachContextHeader(message, [&headers](absl::string_view name, absl::string_view value) {
    headers.push_back(TextEntry(name, value));
  });
  // CloudEvents' binding for AMQP, section 3.1.3.1; of its two prefixes the one that JMS clients can take.
  std::vector<std::pair<std::string, std::string>> attributes;
  if (address.encoding == Encoding::kCloudEventsBinary) {
    ForEachCloudEventAttribute(message, [&attributes](absl::string_view name, absl::string_view value) {
      attributes.emplace_back(absl::StrCat("cloudEvents_", name), std::string(value));
    });
  }
  for (const auto& [name, value] : attributes) headers.push_back(TextEntry(name, value));
  headers.push_back(Entry(kTagHeader, AMQP_FIELD_KIND_I64));
  headers.back().value.value.i64 = static_cast<int64_t>(tag);
  amqp_basic_properties_t properties = {
      ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                AMQP_BASIC_MESSAGE_ID_FLAG,
      .content_type = AmqpBytes(ContentType(address.encoding)),
      .headers = Table(headers),
      .delivery_mode =
          static_cast<uint8_t>(address.persistent ? AMQP_DELIVERY_PERSISTENT : AMQP_DELIVERY_NONPERSISTENT),
      .message_id = AmqpBytes(message.event_id()),
  };
  if (const int64_t seconds = absl::ToUnixSeconds(message.event_time()); seconds > 0) {
    properties._flags |= AMQP_BASIC_TIMESTAMP_FLAG;
    properties.timestamp = seconds;
  }
  char encoded[kMaxEncoded];
  const int size = amqp_encode_properties(AMQP_BASIC_CLASS, &properties, {sizeof(encoded), encoded});
  if (size < 0 || kFrameExtra + kHeaderHead + size > frame_max) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the properties do not fit: an event id may have 255 bytes (this one has ", message.event_id().size(),
        "), and with all headers a little less than ", std::min<size_t>(frame_max, kMaxEncoded)));
  }
  const absl::string_view body = message.encoded(address.encoding);
  // Without `mandatory` the broker drops what no queue takes, and confirms it.
  AppendAmqpMethod<amqp_basic_publish_t>(kAmqpChannel, AMQP_BASIC_PUBLISH_METHOD,
                                         {.exchange = AmqpBytes(address.exchange),
                                          .routing_key = AmqpBytes(address.routing_key),
                                          .mandatory = address.mandatory},
                                         out);
  std::string header;
  AppendNumber(AMQP_BASIC_CLASS, 2, &header);
  AppendNumber(0, 2, &header);
  AppendNumber(body.size(), 8, &header);
  header.append(encoded, size);
  AppendFrame(AMQP_FRAME_HEADER, kAmqpChannel, header, out);
  const size_t chunk = frame_max - kFrameExtra;
  for (size_t at = 0; at < body.size(); at += chunk)
    AppendFrame(AMQP_FRAME_BODY, kAmqpChannel, body.substr(at, chunk), out);
  return absl::OkStatus();
}

std::optional<uint64_t> TagOf(const amqp_basic_properties_t& properties) {
  // librabbitmq leaves what was not sent as the memory was.
  if ((properties._flags & AMQP_BASIC_HEADERS_FLAG) == 0) return std::nullopt;
  for (int i = 0; i < properties.headers.num_entries; ++i) {
    const amqp_table_entry_t& entry = properties.headers.entries[i];
    if (ViewOf(entry.key) != kTagHeader || entry.value.kind != AMQP_FIELD_KIND_I64) continue;
    return static_cast<uint64_t>(entry.value.value.i64);
  }
  return std::nullopt;
}

}  // namespace eventvirtual
