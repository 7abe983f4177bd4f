#include "transports/api/message.h"

#include <charconv>
#include <cstring>
#include <new>
#include <random>

#include "transports/api/encoding.h"

namespace eventvirtual {
namespace {

// Of the buffer in which a thread encodes.
constexpr size_t kMaxKeptCapacity = 64 << 10;

using Attribute = std::pair<absl::string_view, absl::string_view>;

absl::string_view TextOf(const Value& value) {
  if (const auto* text = std::get_if<absl::string_view>(&value)) return *text;
  if (const auto* json = std::get_if<Json>(&value)) return json->text;
  return {};
}

}  // namespace

// An encoding: its bytes stand behind it.
struct Message::Text {
  size_t size;
};

namespace {

// A process-wide unique id: 16 random hex digits of the process, '-', a counter in hex. Its length.
constexpr size_t kMaxId = 2 * 16 + 1;

size_t WriteNewId(char* id) {
  static const uint64_t process = [] {
    std::random_device device;
    return uint64_t{device()} << 32 | device();
  }();
  static std::atomic<uint64_t> counter{0};
  constexpr char kHex[] = "0123456789abcdef";
  for (int digit = 0; digit < 16; ++digit) id[digit] = kHex[process >> (60 - 4 * digit) & 15];
  id[16] = '-';
  const uint64_t number = counter.fetch_add(1, std::memory_order_relaxed) + 1;
  return static_cast<size_t>(std::to_chars(id + 17, id + kMaxId, number, 16).ptr - id);
}

}  // namespace

MessageRef Message::Make(const EventFields& fields) {
  char made[kMaxId];
  const absl::string_view event_id =
      fields.event_id.empty() ? absl::string_view(made, WriteNewId(made)) : fields.event_id;

  size_t text = fields.name.size() + event_id.size() + fields.source.size();
  for (const Param& param : fields.params) text += param.name.size() + TextOf(param.value).size();
  for (const Attribute& attribute : fields.attributes) text += attribute.first.size() + attribute.second.size();

  // One block: the message, parameters, attributes, then all text.
  const size_t params_bytes = fields.params.size() * sizeof(Param);
  const size_t attributes_bytes = fields.attributes.size() * sizeof(Attribute);
  static_assert(alignof(Attribute) <= alignof(Param) && sizeof(Param) % alignof(Attribute) == 0);
  static_assert(alignof(Param) <= alignof(Message) && sizeof(Message) % alignof(Param) == 0);
  auto* const message = new (::operator new(sizeof(Message) + params_bytes + attributes_bytes + text)) Message;
  char* const block = reinterpret_cast<char*>(message + 1);
  char* end = block + params_bytes + attributes_bytes;
  const auto copy = [&end](absl::string_view source) {
    char* const start = end;
    if (!source.empty()) std::memcpy(start, source.data(), source.size());
    end += source.size();
    return absl::string_view(start, source.size());
  };

  message->name_ = copy(fields.name);
  message->event_id_ = copy(event_id);
  message->source_ = copy(fields.source);
  message->event_time_ = fields.event_time;

  auto* const params = reinterpret_cast<Param*>(block);
  for (size_t i = 0; i < fields.params.size(); ++i) {
    const Param& from = fields.params[i];
    Param* const to = new (params + i) Param{copy(from.name), from.value};
    if (const auto* value = std::get_if<absl::string_view>(&from.value)) to->value = copy(*value);
    if (const auto* value = std::get_if<Json>(&from.value)) to->value = Json{copy(value->text)};
  }
  message->params_ = absl::MakeConstSpan(params, fields.params.size());

  auto* const attributes = reinterpret_cast<Attribute*>(block + params_bytes);
  for (size_t i = 0; i < fields.attributes.size(); ++i) {
    const absl::string_view name = copy(fields.attributes[i].first);
    new (attributes + i) Attribute(name, copy(fields.attributes[i].second));
  }
  message->attributes_ = absl::MakeConstSpan(attributes, fields.attributes.size());
  message->size_ = sizeof(Message) + params_bytes + attributes_bytes + text;
  return AdoptRef<const Message>(message);
}

void Message::OnLastRef() {
  this->~Message();
  ::operator delete(this);
}

Message::~Message() {
  for (const std::atomic<const Text*>& kept : encoded_) {
    if (const Text* const text = kept.load(std::memory_order_relaxed)) ::operator delete(const_cast<Text*>(text));
  }
}

absl::string_view Message::encoded(Encoding encoding) const {
  std::atomic<const Text*>& kept = encoded_[static_cast<int>(encoding)];
  const Text* text = kept.load(std::memory_order_acquire);
  if (text == nullptr) {
    thread_local std::string buffer;
    buffer.clear();
    AppendEncoded(*this, encoding, &buffer);
    auto* const mine = new (::operator new(sizeof(Text) + buffer.size())) Text{buffer.size()};
    std::memcpy(mine + 1, buffer.data(), buffer.size());
    if (buffer.capacity() > kMaxKeptCapacity) std::string().swap(buffer);
    if (kept.compare_exchange_strong(text, mine, std::memory_order_acq_rel, std::memory_order_acquire)) {
      text = mine;
    } else {
      ::operator delete(mine);  // somebody else was first; `text` is theirs
    }
  }
  return {reinterpret_cast<const char*>(text + 1), text->size};
}

}  // namespace eventvirtual
