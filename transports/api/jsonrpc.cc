#include "transports/api/jsonrpc.h"

#include <charconv>
#include <cmath>

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

void AppendValue(const Value& value, std::string* out) {
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

}  // namespace

void AppendJsonString(absl::string_view text, std::string* out) {
  out->push_back('"');
  size_t run = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const char escape = kEscape.of[byte];
    if (escape == 0) [[likely]]
      continue;
    out->append(text.data() + run, i - run);
    run = i + 1;
    out->push_back('\\');
    out->push_back(escape);
    if (escape == 'u') {
      constexpr char kHex[] = "0123456789abcdef";
      out->append("00");
      out->push_back(kHex[byte >> 4]);
      out->push_back(kHex[byte & 15]);
    }
  }
  out->append(text.data() + run, text.size() - run);
  out->push_back('"');
}

std::string EncodeJsonRpc(const Message& message, const JsonRpcOptions& options) {
  const absl::Span<const Param> params = message.params();
  std::string out;
  out.reserve(message.size() + 64 + options.id.size() + options.method.size() + options.event_param.size());
  out.push_back('{');
  if (!options.id.empty()) {
    out.append("\"id\":");
    AppendText(options.id, &out);
    out.push_back(',');
  }
  out.append("\"jsonrpc\":\"2.0\",\"method\":");
  AppendJsonString(options.method.empty() ? message.name() : options.method, &out);
  if (params.empty()) {
    out.push_back('}');
    return out;
  }

  bool named = !options.event_param.empty();
  for (const Param& param : params) named = named || !param.name.empty();
  out.append(named ? ",\"params\":{" : ",\"params\":[");
  bool first = true;
  if (!options.event_param.empty()) {
    AppendJsonString(options.event_param, &out);
    out.push_back(':');
    AppendJsonString(message.name(), &out);
    first = false;
  }
  for (size_t i = 0; i < params.size(); ++i) {
    if (!first) out.push_back(',');
    first = false;
    if (named) {
      if (params[i].name.empty()) {
        out.push_back('"');
        AppendNumber(i, &out);
        out.push_back('"');
      } else {
        AppendJsonString(params[i].name, &out);
      }
      out.push_back(':');
    }
    AppendValue(params[i].value, &out);
  }
  out.append(named ? "}}" : "]}");
  return out;
}

}  // namespace eventvirtual
