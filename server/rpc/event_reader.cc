#include "server/rpc/event_reader.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <simdjson.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace eventvirtual {
namespace {

using google::protobuf::internal::WireFormatLite;

constexpr uint32_t Varint(int field) { return WireFormatLite::MakeTag(field, WireFormatLite::WIRETYPE_VARINT); }
constexpr uint32_t Fixed64(int field) { return WireFormatLite::MakeTag(field, WireFormatLite::WIRETYPE_FIXED64); }
constexpr uint32_t Delimited(int field) {
  return WireFormatLite::MakeTag(field, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
}

// The fields of one message (protobuf's encoding: https://protobuf.dev/programming-guides/encoding).
class Fields {
 public:
  explicit Fields(absl::string_view bytes)
      : in_(reinterpret_cast<const uint8_t*>(bytes.data()), static_cast<int>(bytes.size())) {}

  // The next tag; 0: there is none, or none that makes sense; see AtEnd().
  uint32_t Next() { return in_.ReadTag(); }
  bool AtEnd() { return in_.ConsumedEntireMessage(); }

  // What a field holds; false: it is cut, or of no valid kind.
  bool Read(uint64_t* value) { return in_.ReadVarint64(value); }
  bool Read(double* value) {
    uint64_t bits;
    if (!in_.ReadLittleEndian64(&bits)) return false;
    std::memcpy(value, &bits, sizeof(bits));
    return true;
  }
  bool Read(absl::string_view* value) {
    uint32_t size;
    const void* data = nullptr;
    int left = 0;
    if (!in_.ReadVarint32(&size)) return false;
    in_.GetDirectBufferPointerInline(&data, &left);
    if (size > static_cast<uint32_t>(left)) return false;
    *value = absl::string_view(static_cast<const char*>(data), size);
    return in_.Skip(static_cast<int>(size));
  }
  bool Skip(uint32_t tag) { return WireFormatLite::SkipField(&in_, tag); }

 private:
  google::protobuf::io::CodedInputStream in_;
};

bool IsUtf8(absl::string_view text) {
  const char* at = text.data();
  const char* const end = at + text.size();
  uint64_t seen = 0, eight;
  for (; end - at >= 8; at += 8) {
    std::memcpy(&eight, at, 8);
    seen |= eight;
  }
  for (; at < end; ++at) seen |= static_cast<uint8_t>(*at);
  return (seen & 0x8080808080808080) == 0 || simdjson::validate_utf8(text.data(), text.size());
}

// An attribute as a map's entry: a key that is left out is "", and so is a value.
bool ReadEntry(absl::string_view bytes, std::pair<absl::string_view, absl::string_view>* entry) {
  Fields fields(bytes);
  for (uint32_t tag = fields.Next(); tag != 0; tag = fields.Next()) {
    switch (tag) {
      case Delimited(1):
        if (!fields.Read(&entry->first) || !IsUtf8(entry->first)) return false;
        break;
      case Delimited(2):
        if (!fields.Read(&entry->second) || !IsUtf8(entry->second)) return false;
        break;
      default:
        if (!fields.Skip(tag)) return false;
    }
  }
  return fields.AtEnd();
}

bool ReadParam(absl::string_view bytes, Param* param) {
  Fields fields(bytes);
  for (uint32_t tag = fields.Next(); tag != 0; tag = fields.Next()) {
    uint64_t number;
    absl::string_view text;
    switch (tag) {
      case Delimited(1):
        if (!fields.Read(&param->name) || !IsUtf8(param->name)) return false;
        break;
      case Delimited(2):
        if (!fields.Read(&text) || !IsUtf8(text)) return false;
        param->value = text;
        break;
      case Varint(3):
        if (!fields.Read(&number)) return false;
        param->value = static_cast<int64_t>(number);
        break;
      case Fixed64(4): {
        double real;
        if (!fields.Read(&real)) return false;
        param->value = real;
        break;
      }
      case Varint(5):
        if (!fields.Read(&number)) return false;
        param->value = number != 0;
        break;
      case Varint(6):
        if (!fields.Read(&number)) return false;
        param->value = Null{};
        break;
      case Delimited(7):
        if (!fields.Read(&text) || !IsUtf8(text)) return false;
        param->value = Json{text};
        break;
      default:
        if (!fields.Skip(tag)) return false;
    }
  }
  return fields.AtEnd();
}

// One that comes again adds to the one before.
bool ReadTime(absl::string_view bytes, WireEvent* event) {
  Fields fields(bytes);
  event->has_time = true;
  for (uint32_t tag = fields.Next(); tag != 0; tag = fields.Next()) {
    uint64_t number;
    switch (tag) {
      case Varint(1):
        if (!fields.Read(&number)) return false;
        event->seconds = static_cast<int64_t>(number);
        break;
      case Varint(2):
        if (!fields.Read(&number)) return false;
        event->nanos = static_cast<int32_t>(number);
        break;
      default:
        if (!fields.Skip(tag)) return false;
    }
  }
  return fields.AtEnd();
}

// Of several of one name.
void KeepLast(std::vector<std::pair<absl::string_view, absl::string_view>>* attributes) {
  if (attributes->size() < 2) return;
  std::reverse(attributes->begin(), attributes->end());
  std::stable_sort(attributes->begin(), attributes->end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  attributes->erase(std::unique(attributes->begin(), attributes->end(),
                                [](const auto& a, const auto& b) { return a.first == b.first; }),
                    attributes->end());
}

absl::Status Broken(absl::string_view field) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": not as protobuf encodes it, or no UTF-8"));
}

}  // namespace

absl::Status ReadBatch(absl::string_view bytes, WireBatch* batch) {
  batch->sequence = 0;
  batch->wait = 0;
  batch->events.clear();
  Fields fields(bytes);
  for (uint32_t tag = fields.Next(); tag != 0; tag = fields.Next()) {
    uint64_t number;
    switch (tag) {
      case Varint(1):
        if (!fields.Read(&batch->sequence)) return Broken("sequence");
        break;
      case Delimited(2):
        if (!fields.Read(&batch->events.emplace_back()))
          return Broken(absl::StrCat("events[", batch->events.size() - 1, "]"));
        break;
      case Varint(3):
        if (!fields.Read(&number)) return Broken("wait");
        batch->wait = static_cast<int>(static_cast<uint32_t>(number));
        break;
      default:
        if (!fields.Skip(tag)) return Broken("the request");
    }
  }
  return fields.AtEnd() ? absl::OkStatus() : Broken("the request");
}

absl::Status EventReader::Read(absl::string_view bytes, WireEvent* event) {
  *event = WireEvent();
  params_.clear();
  attributes_.clear();
  Fields fields(bytes);
  for (uint32_t tag = fields.Next(); tag != 0; tag = fields.Next()) {
    absl::string_view inner;
    switch (tag) {
      case Delimited(1):
        if (!fields.Read(&event->name) || !IsUtf8(event->name)) return Broken("event.name");
        break;
      case Delimited(2):
        if (!fields.Read(&inner) || !ReadParam(inner, &params_.emplace_back())) {
          return Broken(absl::StrCat("event.params[", params_.empty() ? 0 : params_.size() - 1, "]"));
        }
        break;
      case Delimited(3):
        if (!fields.Read(&event->event_id) || !IsUtf8(event->event_id)) return Broken("event.event_id");
        break;
      case Delimited(4):
        if (!fields.Read(&inner) || !ReadTime(inner, event)) return Broken("event.event_time");
        break;
      case Delimited(5):
        if (!fields.Read(&event->source) || !IsUtf8(event->source)) return Broken("event.source");
        break;
      case Delimited(6): {
        std::pair<absl::string_view, absl::string_view> entry;
        if (!fields.Read(&inner) || !ReadEntry(inner, &entry)) return Broken("event.attributes");
        attributes_.push_back(entry);
        break;
      }
      default:
        if (!fields.Skip(tag)) return Broken("event");
    }
  }
  if (!fields.AtEnd()) return Broken("event");
  KeepLast(&attributes_);
  event->params = params_;
  event->attributes = attributes_;
  return absl::OkStatus();
}

}  // namespace eventvirtual
