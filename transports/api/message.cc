#include "transports/api/message.h"

#include <algorithm>
#include <bit>
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

// Ids that no other process and no other thread gives: 16 random hex digits of the process, '-', a number in hex, of
// which each thread takes a block at a time.
class Ids {
 public:
  // The next; until the one after it.
  absl::string_view Next() {
    if (left_ == 0) {
      Begin();
    } else {
      --left_;
      Increment();
    }
    return absl::string_view(text_, size_);
  }

 private:
  static constexpr int kBlockDigits = 3;
  static constexpr uint64_t kBlock = 1 << (4 * kBlockDigits);

  void Begin() {
    static const uint64_t process = [] {
      std::random_device device;
      return uint64_t{device()} << 32 | device();
    }();
    static std::atomic<uint64_t> blocks{0};
    const uint64_t number = blocks.fetch_add(1, std::memory_order_relaxed) * kBlock;
    size_ = 0;
    Append(process, 16);
    text_[size_++] = '-';
    Append(number, std::max(static_cast<int>(std::bit_width(number) + 3) / 4, kBlockDigits));
    left_ = kBlock - 1;
  }
  void Append(uint64_t number, int digits) {
    while (digits-- > 0) text_[size_++] = "0123456789abcdef"[number >> (4 * digits) & 15];
  }
  // Within a block only its last digits change.
  void Increment() {
    char* digit = text_ + size_ - 1;
    for (; *digit == 'f'; --digit) *digit = '0';
    *digit = *digit == '9' ? 'a' : static_cast<char>(*digit + 1);
  }

  char text_[2 * 16 + 1];
  size_t size_ = 0;
  uint64_t left_ = 0;
};

}  // namespace

MessageRef Message::Make(const EventFields& fields) {
  thread_local Ids ids;
  const absl::string_view event_id = fields.event_id.empty() ? ids.Next() : fields.event_id;

  size_t text = fields.name.size() + event_id.size() + fields.source.size() + fields.jsonrpc.size();
  for (const Param& param : fields.params) text += param.name.size() + TextOf(param.value).size();
  for (const Attribute& attribute : fields.attributes) text += attribute.first.size() + attribute.second.size();

  // One block: the message, parameters, attributes, the size of its JSON-RPC text, then all text, that one first.
  const size_t params_bytes = fields.params.size() * sizeof(Param);
  const size_t attributes_bytes = fields.attributes.size() * sizeof(Attribute);
  static_assert(alignof(Attribute) <= alignof(Param) && sizeof(Param) % alignof(Attribute) == 0);
  static_assert(alignof(Text) <= alignof(Attribute) && sizeof(Attribute) % alignof(Text) == 0);
  static_assert(alignof(Param) <= alignof(Message) && sizeof(Message) % alignof(Param) == 0);
  const size_t size = sizeof(Message) + params_bytes + attributes_bytes + sizeof(Text) + text;
  auto* const message = new (::operator new(size)) Message;
  char* const block = reinterpret_cast<char*>(message + 1);
  char* end = block + params_bytes + attributes_bytes + sizeof(Text);
  const auto copy = [&end](absl::string_view source) {
    char* const start = end;
    if (!source.empty()) std::memcpy(start, source.data(), source.size());
    end += source.size();
    return absl::string_view(start, source.size());
  };

  if (!fields.jsonrpc.empty()) {
    message->encoded_[static_cast<int>(Encoding::kJsonRpc)].store(
        new (block + params_bytes + attributes_bytes) Text{fields.jsonrpc.size()}, std::memory_order_relaxed);
    copy(fields.jsonrpc);
    message->came_as_jsonrpc_ = true;
  }
  message->name_ = copy(fields.name);
  message->event_id_ = copy(event_id);
  message->source_ = copy(fields.source);
  message->event_time_ = fields.event_time;
  message->is_report_ = fields.is_report;
  message->id_was_given_ = !fields.event_id.empty();
  message->hops_ = static_cast<uint8_t>(fields.hops);

  auto* const params = reinterpret_cast<Param*>(block);
  for (size_t i = 0; i < fields.params.size(); ++i) {
    const Param& from = fields.params[i];
    Param* const to = new (params + i) Param{copy(from.name), from.value};
    if (auto* const value = std::get_if<absl::string_view>(&to->value)) {
      *value = copy(*value);
    } else if (auto* const json = std::get_if<Json>(&to->value)) {
      json->text = copy(json->text);
    }
  }
  message->params_ = absl::MakeConstSpan(params, fields.params.size());

  auto* const attributes = reinterpret_cast<Attribute*>(block + params_bytes);
  for (size_t i = 0; i < fields.attributes.size(); ++i) {
    const absl::string_view name = copy(fields.attributes[i].first);
    new (attributes + i) Attribute(name, copy(fields.attributes[i].second));
  }
  message->attributes_ = absl::MakeConstSpan(attributes, fields.attributes.size());
  message->size_ = size;
  return AdoptRef<const Message>(message);
}

void Message::OnLastRef() {
  this->~Message();
  ::operator delete(this);
}

Message::~Message() {
  for (int encoding = came_as_jsonrpc_ ? 1 : 0; encoding < kEncodings; ++encoding) {
    const Text* const text = encoded_[encoding].load(std::memory_order_relaxed);
    if (text != nullptr) ::operator delete(const_cast<Text*>(text));
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
