#include "transports/api/jsonrpc.h"

#include <charconv>
#include <cmath>
#include <cstring>

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

template <typename Number>
void AppendNumber(Number number, std::string* out) {
  char digits[32];
  const auto result = std::to_chars(digits, digits + sizeof(digits), number);
  out->append(digits, result.ptr - digits);
}

void AppendReal(double real, std::string* out) {
  constexpr double kIntegerEnd = 9223372036854775808.0;  // 2^63
  if (!std::isfinite(real)) {
    out->append("null");
  } else if (std::abs(real) < kIntegerEnd) {
    AppendNumber(real, out);
  } else {  // In plain digits it would be an integer beyond 64 bits, which readers refuse.
    char digits[32];
    const auto result = std::to_chars(digits, digits + sizeof(digits), real, std::chars_format::scientific);
    out->append(digits, result.ptr - digits);
  }
}

void AppendText(absl::string_view text, std::string* out) { out->append(text.data(), text.size()); }

// How many bytes at the front pass unchanged. Eight at a time: the classic test of a word for a byte that is below
// 0x20, a quote or a backslash (0x80 is left in each byte that is one; bytes above 0x7f are masked out).
size_t PlainRun(absl::string_view text) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, sizeof(word));
    const uint64_t quote = word ^ (kOnes * '"');
    const uint64_t slash = word ^ (kOnes * '\\');
    const uint64_t special = ((word - kOnes * 0x20) | (quote - kOnes) | (slash - kOnes)) & ~word & (kOnes * 0x80);
    if (special != 0) break;
  }
  while (i < text.size() && kEscape.of[static_cast<unsigned char>(text[i])] == 0) ++i;
  return i;
}

}  // namespace

void AppendJsonString(absl::string_view text, std::string* out) {
  size_t run = PlainRun(text);
  if (run == text.size()) [[likely]] {
    const size_t at = out->size();
    out->resize(at + run + 2);
    char* const quoted = out->data() + at;
    quoted[0] = quoted[run + 1] = '"';
    text.copy(quoted + 1, run);
    return;
  }
  out->push_back('"');
  for (;; run = PlainRun(text)) {
    out->append(text.data(), run);
    if (run == text.size()) break;
    const auto byte = static_cast<unsigned char>(text[run]);
    text.remove_prefix(run + 1);
    const char escape = kEscape.of[byte];
    out->push_back('\\');
    out->push_back(escape);
    if (escape == 'u') {
      constexpr char kHex[] = "0123456789abcdef";
      out->append("00");
      out->push_back(kHex[byte >> 4]);
      out->push_back(kHex[byte & 15]);
    }
  }
  out->push_back('"');
}

void AppendJsonValue(const Value& value, std::string* out) {
  if (const auto* text = std::get_if<absl::string_view>(&value)) {
    AppendJsonString(*text, out);
  } else if (const auto* number = std::get_if<int64_t>(&value)) {
    AppendNumber(*number, out);
  } else if (const auto* real = std::get_if<double>(&value)) {
    AppendReal(*real, out);
  } else if (const auto* truth = std::get_if<bool>(&value)) {
    out->append(*truth ? "true" : "false");
  } else if (const auto* json = std::get_if<Json>(&value)) {
    AppendText(json->text, out);
  } else {
    out->append("null");
  }
}

void AppendParams(const Message& message, absl::string_view event_param, std::string* out) {
  const absl::Span<const Param> params = message.params();
  bool named = !event_param.empty();
  for (const Param& param : params) named = named || !param.name.empty();
  out->push_back(named ? '{' : '[');
  bool first = true;
  if (!event_param.empty()) {
    AppendJsonString(event_param, out);
    out->push_back(':');
    AppendJsonString(message.name(), out);
    first = false;
  }
  for (size_t i = 0; i < params.size(); ++i) {
    if (!first) out->push_back(',');
    first = false;
    if (named) {
      if (params[i].name.empty()) {
        out->push_back('"');
        AppendNumber(i, out);
        out->push_back('"');
      } else {
        AppendJsonString(params[i].name, out);
      }
      out->push_back(':');
    }
    AppendJsonValue(params[i].value, out);
  }
  out->push_back(named ? '}' : ']');
}

void AppendJsonRpc(const Message& message, const JsonRpcOptions& options, std::string* out) {
  out->reserve(out->size() + message.size() + 64 + options.id.size() + options.method.size() +
               options.event_param.size());
  out->push_back('{');
  if (!options.id.empty()) {
    out->append("\"id\":");
    AppendText(options.id, out);
    out->push_back(',');
  }
  out->append("\"jsonrpc\":\"2.0\",\"method\":");
  AppendJsonString(options.method.empty() ? message.name() : options.method, out);
  if (!message.params().empty()) {
    out->append(",\"params\":");
    AppendParams(message, options.event_param, out);
  }
  out->push_back('}');
}

}  // namespace eventvirtual
