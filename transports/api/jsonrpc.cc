#include "transports/api/jsonrpc.h"

#include <charconv>
#include <cmath>
#include <cstring>

#include "transports/api/hops.h"

namespace eventvirtual {
namespace {

// For each byte: 0 passes unchanged, 'u' becomes \u00xx, any other letter stands behind a backslash.
struct EscapeTable {
  char of[256] = {};
  constexpr EscapeTable() {
    for (int byte = 0; byte < 0x20; ++byte) of[byte] = 'u';
    of['\b'] = 'b';
    of['\f'] = 'f';
    of['\n'] = 'n';
    of['\r'] = 'r';
    of['\t'] = 't';
    of['"'] = '"';
    of['\\'] = '\\';
  }
};
constexpr EscapeTable kEscape;

// Appends to a string in place: std::string looks at its size, its capacity and its end with each byte. An event of 121
// bytes takes 1,260 instructions so; it took 1,520.
class Writer {
 public:
  // What is expected to be written, so that it grows once; more may be.
  Writer(std::string* out, size_t expected) : out_(out) {
    const size_t size = out->size();
    out->resize(size + expected);
    at_ = out->data() + size;
    end_ = out->data() + out->size();
  }
  ~Writer() { out_->resize(static_cast<size_t>(at_ - out_->data())); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void Char(char c) {
    Need(1);
    *at_++ = c;
  }
  void Text(absl::string_view text) {
    Need(text.size());
    at_ += text.copy(at_, text.size());
  }
  void Quoted(absl::string_view text) {
    Need(text.size() + 2);
    *at_++ = '"';
    at_ = CopyPlain(&text, at_);
    while (!text.empty()) {
      Escaped(static_cast<unsigned char>(text.front()));
      text.remove_prefix(1);
      Need(text.size() + 1);
      at_ = CopyPlain(&text, at_);
    }
    *at_++ = '"';
  }
  template <typename Number>
  void Digits(Number number) {
    Need(kMaxDigits);
    at_ = std::to_chars(at_, at_ + kMaxDigits, number).ptr;
  }
  void Real(double real) {
    constexpr double kIntegerEnd = 9223372036854775808.0;  // 2^63
    if (!std::isfinite(real)) {
      Text("null");
    } else if (std::abs(real) < kIntegerEnd) {
      Digits(real);
    } else {  // In plain digits it would be an integer beyond 64 bits, which readers refuse.
      Need(kMaxDigits);
      at_ = std::to_chars(at_, at_ + kMaxDigits, real, std::chars_format::scientific).ptr;
    }
  }

 private:
  static constexpr size_t kMaxDigits = 32;

  // Makes room for `size` bytes more.
  void Need(size_t size) {
    if (static_cast<size_t>(end_ - at_) < size) [[unlikely]]
      Grow(size);
  }
  void Grow(size_t size) {
    const auto used = static_cast<size_t>(at_ - out_->data());
    out_->resize(2 * used + size);
    at_ = out_->data() + used;
    end_ = out_->data() + out_->size();
  }

  // Moves what passes unchanged from the front of `text` to `to`, and gives the end. Eight bytes at a time: the classic
  // test of a word for a byte that is below 0x20, a quote or a backslash (0x80 is left in each byte that is one; bytes
  // above 0x7f are masked out).
  static char* CopyPlain(absl::string_view* text, char* to) {
    constexpr uint64_t kOnes = 0x0101010101010101;
    const char* from = text->data();
    const char* const end = from + text->size();
    for (; end - from >= 8; from += 8, to += 8) {
      uint64_t word;
      std::memcpy(&word, from, sizeof(word));
      const uint64_t quote = word ^ (kOnes * '"');
      const uint64_t slash = word ^ (kOnes * '\\');
      const uint64_t special = ((word - kOnes * 0x20) | (quote - kOnes) | (slash - kOnes)) & ~word & (kOnes * 0x80);
      if (special != 0) break;
      std::memcpy(to, &word, sizeof(word));
    }
    while (from < end && kEscape.of[static_cast<unsigned char>(*from)] == 0) *to++ = *from++;
    *text = absl::string_view(from, static_cast<size_t>(end - from));
    return to;
  }

  void Escaped(unsigned char byte) {
    constexpr char kHex[] = "0123456789abcdef";
    const char escape = kEscape.of[byte];
    Char('\\');
    Char(escape);
    if (escape != 'u') return;
    Text("00");
    Char(kHex[byte >> 4]);
    Char(kHex[byte & 15]);
  }

  std::string* const out_;
  char* at_;
  char* end_;
};

void WriteValue(const Value& value, Writer* out) {
  if (const auto* text = std::get_if<absl::string_view>(&value)) {
    out->Quoted(*text);
  } else if (const auto* number = std::get_if<int64_t>(&value)) {
    out->Digits(*number);
  } else if (const auto* real = std::get_if<double>(&value)) {
    out->Real(*real);
  } else if (const auto* truth = std::get_if<bool>(&value)) {
    out->Text(*truth ? "true" : "false");
  } else if (const auto* json = std::get_if<Json>(&value)) {
    out->Text(json->text);
  } else {
    out->Text("null");
  }
}

void WriteParams(const Message& message, absl::string_view event_param, Writer* out) {
  const absl::Span<const Param> params = message.params();
  bool named = !event_param.empty();
  for (const Param& param : params) named = named || !param.name.empty();
  out->Char(named ? '{' : '[');
  bool first = true;
  if (!event_param.empty()) {
    out->Quoted(event_param);
    out->Char(':');
    out->Quoted(message.name());
    first = false;
  }
  for (size_t i = 0; i < params.size(); ++i) {
    if (!first) out->Char(',');
    first = false;
    if (named) {
      if (params[i].name.empty()) {
        out->Char('"');
        out->Digits(i);
        out->Char('"');
      } else {
        out->Quoted(params[i].name);
      }
      out->Char(':');
    }
    WriteValue(params[i].value, out);
  }
  out->Char(named ? '}' : ']');
}

}  // namespace

void AppendJsonString(absl::string_view text, std::string* out) { Writer(out, text.size() + 2).Quoted(text); }

void AppendJsonValue(const Value& value, std::string* out) {
  Writer writer(out, 64);
  WriteValue(value, &writer);
}

void AppendParams(const Message& message, absl::string_view event_param, std::string* out) {
  Writer writer(out, message.size());
  WriteParams(message, event_param, &writer);
}

void AppendJsonRpc(const Message& message, const JsonRpcOptions& options, std::string* out) {
  // The message's size counts more than its text, so that this holds all that needs no escape.
  Writer writer(out, message.size() + options.id.size() + options.method.size() + options.event_param.size());
  writer.Char('{');
  if (!options.id.empty()) {
    writer.Text("\"id\":");
    writer.Text(options.id);
    writer.Char(',');
  }
  writer.Text("\"jsonrpc\":\"2.0\",\"method\":");
  writer.Quoted(options.method.empty() ? message.name() : options.method);
  if (!message.params().empty()) {
    writer.Text(",\"params\":");
    WriteParams(message, options.event_param, &writer);
  }
  if (options.hops) {
    writer.Char(',');
    writer.Quoted(kEventHops);
    writer.Char(':');
    writer.Text(NextHopsText(message.hops()));
  }
  writer.Char('}');
}

}  // namespace eventvirtual
