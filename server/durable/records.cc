#include "server/durable/records.h"

#include <zlib.h>

#include <cstring>
#include <optional>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "transports/api/hops.h"

namespace eventvirtual {
namespace {

constexpr char kVersion = 1;
constexpr size_t kHeader = 5;  // version, checksum of what follows

enum ValueType : uint8_t { kNull, kFalse, kTrue, kInteger, kDouble, kText, kJson };

class Writer {
 public:
  void Byte(uint8_t byte) { bytes_.push_back(static_cast<char>(byte)); }
  void Number(uint64_t number) {
    for (int shift = 0; shift < 64; shift += 8) Byte(static_cast<uint8_t>(number >> shift));
  }
  // Seven bits in a byte, the lowest first; the highest bit says that more follow.
  void Length(uint64_t length) {
    for (; length >= 128; length >>= 7) Byte(static_cast<uint8_t>(length | 128));
    Byte(static_cast<uint8_t>(length));
  }
  void Text(absl::string_view text) {
    Length(text.size());
    bytes_.append(text.data(), text.size());
  }
  std::string Done() && {
    const auto sum = static_cast<uint32_t>(
        crc32(0, reinterpret_cast<const Bytef*>(bytes_.data() + kHeader), static_cast<uInt>(bytes_.size() - kHeader)));
    for (int i = 0; i < 4; ++i) bytes_[1 + i] = static_cast<char>(sum >> 8 * i);
    return std::move(bytes_);
  }

 private:
  std::string bytes_ = std::string({kVersion, 0, 0, 0, 0});
};

// After a fault all reads give nothing; ok() says so at the end.
class Reader {
 public:
  explicit Reader(absl::string_view bytes) : bytes_(bytes) {
    if (bytes_.size() < kHeader || bytes_[0] != kVersion) {
      Fail();
      return;
    }
    uint32_t sum = 0;
    for (int i = 0; i < 4; ++i) sum |= uint32_t{static_cast<uint8_t>(bytes_[1 + i])} << 8 * i;
    bytes_.remove_prefix(kHeader);
    if (sum != crc32(0, reinterpret_cast<const Bytef*>(bytes_.data()), static_cast<uInt>(bytes_.size()))) Fail();
  }
  uint8_t Byte() {
    if (bytes_.empty()) {
      Fail();
      return 0;
    }
    const auto byte = static_cast<uint8_t>(bytes_[0]);
    bytes_.remove_prefix(1);
    return byte;
  }
  uint64_t Number() {
    uint64_t number = 0;
    for (int shift = 0; shift < 64; shift += 8) number |= uint64_t{Byte()} << shift;
    return number;
  }
  uint64_t Length() {
    uint64_t length = 0;
    for (int shift = 0; shift < 63; shift += 7) {
      const uint8_t byte = Byte();
      length |= uint64_t{byte & 127u} << shift;
      if (byte < 128) return length;
    }
    Fail();
    return 0;
  }
  absl::string_view Text() {
    const uint64_t length = Length();
    if (length > bytes_.size()) {
      Fail();
      return {};
    }
    const absl::string_view text = bytes_.substr(0, length);
    bytes_.remove_prefix(length);
    return text;
  }
  // Of things that have at least one byte each: no more than there can be.
  size_t Count() {
    const uint64_t count = Length();
    if (count <= bytes_.size()) return count;
    Fail();
    return 0;
  }
  absl::Status Done() const {
    return ok_ && bytes_.empty() ? absl::OkStatus() : absl::DataLossError("the record is damaged");
  }

 private:
  void Fail() {
    ok_ = false;
    bytes_ = {};
  }
  absl::string_view bytes_;
  bool ok_ = true;
};

uint64_t NanosOf(absl::Time time) { return static_cast<uint64_t>(absl::ToUnixNanos(time)); }
absl::Time TimeOf(uint64_t nanos) { return absl::FromUnixNanos(static_cast<int64_t>(nanos)); }

void Write(const Value& value, Writer* out) {
  if (const auto* boolean = std::get_if<bool>(&value)) {
    out->Byte(*boolean ? kTrue : kFalse);
  } else if (const auto* integer = std::get_if<int64_t>(&value)) {
    out->Byte(kInteger);
    out->Number(static_cast<uint64_t>(*integer));
  } else if (const auto* real = std::get_if<double>(&value)) {
    uint64_t bits;
    std::memcpy(&bits, real, sizeof(bits));
    out->Byte(kDouble);
    out->Number(bits);
  } else if (const auto* text = std::get_if<absl::string_view>(&value)) {
    out->Byte(kText);
    out->Text(*text);
  } else if (const auto* json = std::get_if<Json>(&value)) {
    out->Byte(kJson);
    out->Text(json->text);
  } else {
    out->Byte(kNull);
  }
}

std::optional<Value> ReadValue(Reader& in) {
  switch (in.Byte()) {
    case kNull:
      return Null{};
    case kFalse:
      return false;
    case kTrue:
      return true;
    case kInteger:
      return static_cast<int64_t>(in.Number());
    case kDouble: {
      const uint64_t bits = in.Number();
      double real;
      std::memcpy(&real, &bits, sizeof(real));
      return real;
    }
    case kText:
      return in.Text();
    case kJson:
      return Json{in.Text()};
    default:
      return std::nullopt;
  }
}

}  // namespace

std::string EncodeEvent(const Message& message, absl::Time accepted) {
  Writer out;
  out.Number(NanosOf(accepted));
  out.Number(NanosOf(message.event_time()));
  out.Byte(message.is_report() ? 1 : 0);
  for (absl::string_view text : {message.name(), message.event_id(), message.source(), message.original_jsonrpc()}) {
    out.Text(text);
  }
  out.Length(message.params().size());
  for (const Param& param : message.params()) {
    out.Text(param.name);
    Write(param.value, &out);
  }
  // Hops stand there as an attribute: so versions that knew of none read this record, and we theirs.
  out.Length(message.attributes().size() + (message.hops() > 0 ? 1 : 0));
  if (message.hops() > 0) {
    out.Text(kEventHops);
    out.Text(absl::StrCat(message.hops()));
  }
  for (const auto& [name, value] : message.attributes()) {
    out.Text(name);
    out.Text(value);
  }
  return std::move(out).Done();
}

absl::StatusOr<KeptEvent> DecodeEvent(absl::string_view record) {
  Reader in(record);
  KeptEvent kept;
  kept.accepted = TimeOf(in.Number());
  EventFields fields;
  fields.event_time = TimeOf(in.Number());
  fields.is_report = in.Byte() != 0;
  for (absl::string_view* text : {&fields.name, &fields.event_id, &fields.source, &fields.jsonrpc}) *text = in.Text();
  absl::InlinedVector<Param, 16> params(in.Count());
  for (Param& param : params) {
    param.name = in.Text();
    std::optional<Value> value = ReadValue(in);
    if (!value.has_value()) return absl::DataLossError("the record has a value of an unknown type");
    param.value = *value;
  }
  absl::InlinedVector<std::pair<absl::string_view, absl::string_view>, 4> attributes;
  absl::string_view hops = "0";
  for (size_t left = in.Count(); left > 0; --left) {
    const absl::string_view name = in.Text(), value = in.Text();
    if (name == kEventHops) {
      hops = value;
    } else {
      attributes.emplace_back(name, value);
    }
  }
  if (absl::Status status = in.Done(); !status.ok()) return status;
  fields.params = params;
  fields.attributes = attributes;
  const absl::StatusOr<int> known_hops = ParseHops(hops);
  if (!known_hops.ok()) return absl::DataLossError(absl::StrCat("the record's ", known_hops.status().message()));
  fields.hops = *known_hops;
  kept.message = Message::Make(fields);
  return kept;
}

std::string EncodeProgress(const Progress& progress) {
  Writer out;
  out.Length(progress.attempts);
  const SubscriberSet low(~uint64_t{0});
  out.Number((progress.delivered & low).to_ullong());
  out.Number((progress.delivered >> 64).to_ullong());
  return std::move(out).Done();
}

absl::StatusOr<Progress> DecodeProgress(absl::string_view record) {
  Progress progress;
  if (record.empty()) return progress;
  Reader in(record);
  progress.attempts = static_cast<uint32_t>(in.Length());
  progress.delivered = SubscriberSet(in.Number());
  progress.delivered |= SubscriberSet(in.Number()) << 64;
  if (absl::Status status = in.Done(); !status.ok()) return status;
  return progress;
}

std::string EncodeAttempts(const Subscription& subscription, const std::vector<AttemptRecord>& attempts) {
  Writer out;
  out.Length(attempts.size());
  for (const AttemptRecord& attempt : attempts) {
    const Target& target = subscription.subscribers[attempt.subscriber].endpoint->target();
    out.Text(target.masked);
    out.Byte(static_cast<uint8_t>(attempt.result));
    out.Byte(static_cast<uint8_t>(target.ack_level));
    out.Byte(static_cast<uint8_t>(attempt.status.code()));
    out.Text(attempt.status.message());
    out.Number(static_cast<uint64_t>(absl::ToInt64Nanoseconds(attempt.duration)));
  }
  return std::move(out).Done();
}

absl::StatusOr<std::vector<KeptAttempt>> DecodeAttempts(absl::string_view record) {
  if (record.empty()) return std::vector<KeptAttempt>();
  Reader in(record);
  std::vector<KeptAttempt> attempts(in.Count());
  for (KeptAttempt& attempt : attempts) {
    attempt.uri = std::string(in.Text());
    attempt.result = static_cast<AttemptRecord::Result>(in.Byte());
    attempt.ack_level = static_cast<AckLevel>(in.Byte());
    const auto code = static_cast<absl::StatusCode>(in.Byte());
    attempt.status = absl::Status(code, in.Text());
    attempt.duration = absl::Nanoseconds(static_cast<int64_t>(in.Number()));
  }
  if (absl::Status status = in.Done(); !status.ok()) return status;
  return attempts;
}

}  // namespace eventvirtual
