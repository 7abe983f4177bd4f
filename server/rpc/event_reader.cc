#include "server/rpc/event_reader.h"

#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace eventvirtual {
namespace {

// How a value is encoded, by the last three bits of its tag.
enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kDelimited = 2, kGroup = 3, kGroupEnd = 4, kFixed32 = 5 };
constexpr uint32_t Varint(uint32_t field) { return field << 3 | kVarint; }
constexpr uint32_t Fixed64(uint32_t field) { return field << 3 | kFixed64; }
constexpr uint32_t Delimited(uint32_t field) { return field << 3 | kDelimited; }
constexpr int kMaxGroups = 100;  // in one another

// The fields of one message (protobuf's encoding: https://protobuf.dev/programming-guides/encoding), with the bounds
// that its generated classes have.
class Fields {
 public:
  explicit Fields(absl::string_view bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}

  // The next tag; 0: at the end, or what comes is none.
  uint32_t Next() {
    if (at_ == end_) return 0;
    uint64_t tag;
    broken_ = !ReadVarint(&tag, 5) || static_cast<uint32_t>(tag) == 0;
    return broken_ ? 0 : static_cast<uint32_t>(tag);
  }
  bool AtEnd() const { return at_ == end_ && !broken_; }

  // What a field holds; false: it is cut, or of no valid kind.
  bool Read(uint64_t* value) { return ReadVarint(value, 10); }
  bool Read(double* value) {
    static_assert(std::endian::native == std::endian::little);
    const char* const bytes = at_;
    if (!Pass(sizeof(*value))) return false;
    std::memcpy(value, bytes, sizeof(*value));
    return true;
  }
  bool Read(absl::string_view* value) {
    uint64_t size;
    if (!ReadVarint(&size, 5)) return false;
    const char* const bytes = at_;
    if (!Pass(size)) return false;
    *value = absl::string_view(bytes, size);
    return true;
  }

  // What is unknown.
  bool Skip(uint32_t tag, int depth = 0) {
    const uint32_t field = tag >> 3;
    uint64_t number;
    absl::string_view bytes;
    if (field == 0) return false;
    switch (tag & 7) {
      case kVarint:
        return Read(&number);
      case kFixed64:
        return Pass(8);
      case kDelimited:
        return Read(&bytes);
      case kFixed32:
        return Pass(4);
      case kGroup:
        for (uint32_t inner = Next(); inner != 0; inner = Next()) {
          if ((inner & 7) == kGroupEnd) return inner >> 3 == field;
          if (depth == kMaxGroups || !Skip(inner, depth + 1)) return false;
        }
        return false;
      default:
        return false;
    }
  }

 private:
  // Of at most so many bytes.
  bool ReadVarint(uint64_t* value, int most) {
    *value = 0;
    for (int i = 0; i < most && at_ != end_; ++i) {
      const auto byte = static_cast<uint8_t>(*at_++);
      *value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
      if (byte < 0x80) return true;
    }
    return false;
  }

  bool Pass(uint64_t size) {
    if (size > static_cast<uint64_t>(end_ - at_)) return false;
    at_ += size;
    return true;
  }

  const char* at_;
  const char* const end_;
  bool broken_ = false;  // the last tag
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
