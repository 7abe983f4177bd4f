#include "transports/flatstore/flat_line.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxDelimiter = 16;

bool IsLineBreakOrNul(char c) { return c == '\n' || c == '\r' || c == '\0'; }

// Replaces the delimiters in out[begin, end). One replacement may complete a delimiter with what stands before it (", "
// in ",, "), so the search steps back; it ends, because each replacement leaves fewer characters of the delimiter that
// the replacement does not have.
void ReplaceDelimiters(size_t begin, const LineFormat& format, std::string* out) {
  const std::string& delimiter = format.delimiter;
  size_t at = begin;
  while ((at = out->find(delimiter, at)) != std::string::npos) {
    if (format.escape_delimiter.empty()) {
      std::fill_n(out->begin() + at, delimiter.size(), ' ');
    } else {
      std::copy(format.escape_delimiter.begin(), format.escape_delimiter.end(), out->begin() + at);
    }
    at = std::max(begin, at - std::min(at, delimiter.size() - 1));
  }
}

void AppendText(absl::string_view text, const LineFormat& format, std::string* out) {
  const size_t begin = out->size();
  out->append(text.data(), text.size());
  for (size_t i = begin; i < out->size(); ++i) {
    if (char& c = (*out)[i]; c == '\n' || c == '\r') c = ' ';
  }
  ReplaceDelimiters(begin, format, out);
}

template <typename Number>
void AppendNumber(Number number, std::string* out) {
  char digits[32];
  const std::to_chars_result result = std::to_chars(digits, digits + sizeof(digits), number);
  out->append(digits, result.ptr);
}

void AppendValue(const Value& value, const LineFormat& format, std::string* out) {
  if (const auto* text = std::get_if<absl::string_view>(&value)) {
    AppendText(*text, format, out);
  } else if (const auto* integer = std::get_if<int64_t>(&value)) {
    AppendNumber(*integer, out);
  } else if (const auto* real = std::get_if<double>(&value)) {
    if (std::isfinite(*real)) AppendNumber(*real, out);
  } else if (const auto* truth = std::get_if<bool>(&value)) {
    out->append(*truth ? "true" : "false");
  } else if (const auto* json = std::get_if<Json>(&value)) {
    AppendText(json->text, format, out);
  }
}

}  // namespace

absl::Status CheckLineFormat(const LineFormat& format) {
  const std::string& delimiter = format.delimiter;
  const std::string& escape = format.escape_delimiter;
  if (delimiter.empty() || delimiter.size() > kMaxDelimiter) {
    return absl::InvalidArgumentError(
        absl::StrCat("delimiter has ", delimiter.size(), " bytes; it takes 1 to ", kMaxDelimiter));
  }
  if (std::any_of(delimiter.begin(), delimiter.end(), IsLineBreakOrNul) ||
      std::any_of(escape.begin(), escape.end(), IsLineBreakOrNul)) {
    return absl::InvalidArgumentError(
        "delimiter and escape_delimiter must not hold CR, LF or NUL: they would end the line of an event");
  }
  if (escape.empty()) {
    if (delimiter.find_first_not_of(' ') == std::string::npos) {
      return absl::InvalidArgumentError(
          "a delimiter of spaces needs an escape_delimiter of the same length, because without one the delimiter "
          "inside a "
          "value is replaced by spaces");
    }
    return absl::OkStatus();
  }
  if (escape.size() != delimiter.size()) {
    return absl::InvalidArgumentError(absl::StrCat("escape_delimiter has ", escape.size(), " bytes and delimiter has ",
                                                   delimiter.size(), "; they must have the same length"));
  }
  if (const size_t shared = escape.find_first_of(delimiter); shared != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("escape_delimiter and delimiter both hold '",
                                                   escape.substr(shared, 1), "'; they must not share a character"));
  }
  return absl::OkStatus();
}

void AppendLine(const Message& message, const LineFormat& format, std::string* out) {
  bool first = format.suppress_event_name;
  if (!format.suppress_event_name) AppendText(message.name(), format, out);
  for (const Param& param : message.params()) {
    if (!first) out->append(format.delimiter);
    first = false;
    AppendValue(param.value, format, out);
  }
  out->push_back('\n');
}

}  // namespace eventvirtual
