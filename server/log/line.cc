#include "server/log/line.h"

#include <simdjson.h>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "transports/api/jsonrpc.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kLevels[] = {"debug", "info", "warning", "error"};
constexpr absl::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// `text` as valid UTF-8, and not too long.
std::string Clean(absl::string_view text) {
  const bool cut = text.size() > kMaxLogText;
  if (cut) {
    size_t end = kMaxLogText;
    while (end > kMaxLogText - 4 && (text[end] & 0xC0) == 0x80) --end;  // not within a character
    text = text.substr(0, end);
  }
  std::string clean;
  if (simdjson::validate_utf8(text.data(), text.size())) {
    clean = std::string(text);
  } else {
    for (char c : text) {
      if (absl::ascii_isascii(c)) {
        clean.push_back(c);
      } else {
        absl::StrAppend(&clean, kReplacement);
      }
    }
  }
  if (cut) absl::StrAppend(&clean, "…");
  return clean;
}

void AppendText(LogFormat format, absl::string_view text, std::string* line) {
  if (format == LogFormat::kJson) return AppendJsonString(Clean(text), line);
  bool plain = !text.empty() && text.size() <= kMaxLogText;
  for (char c : text) plain = plain && absl::ascii_isgraph(c) && c != '"' && c != '\\' && c != '=';
  if (plain) {
    absl::StrAppend(line, text);
  } else {
    absl::StrAppend(line, "\"", absl::Utf8SafeCEscape(Clean(text)), "\"");
  }
}

void AppendField(LogFormat format, const LogField& field, std::string* line) {
  if (format == LogFormat::kJson) {
    absl::StrAppend(line, line->empty() ? "{\"" : ",\"", field.key, "\":");
  } else {
    absl::StrAppend(line, line->empty() ? "" : " ", field.key, "=");
  }
  if (const int64_t* const number = std::get_if<int64_t>(&field.value)) {
    absl::StrAppend(line, *number);
  } else {
    AppendText(format, std::get<absl::string_view>(field.value), line);
  }
}

}  // namespace

bool ParseLogLevel(absl::string_view text, LogLevel* level) {
  for (int i = 0; i < 4; ++i) {
    if (text != kLevels[i]) continue;
    *level = static_cast<LogLevel>(i);
    return true;
  }
  return false;
}

bool ParseLogFormat(absl::string_view text, LogFormat* format) {
  if (text != "text" && text != "json") return false;
  *format = text == "json" ? LogFormat::kJson : LogFormat::kText;
  return true;
}

std::string BeginLine(LogFormat format, absl::Time time, LogLevel level, absl::string_view message,
                      std::initializer_list<LogField> fields) {
  std::string line;
  AppendField(format, {"time", absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", time, absl::UTCTimeZone())}, &line);
  AppendField(format, {"level", kLevels[static_cast<int>(level)]}, &line);
  AppendField(format, {"msg", message}, &line);
  for (const LogField& field : fields) AppendField(format, field, &line);
  return line;
}

std::string EndLine(LogFormat format, std::string line, uint64_t left_out) {
  if (left_out > 0) AppendField(format, {"left_out", left_out}, &line);
  absl::StrAppend(&line, format == LogFormat::kJson ? "}\n" : "\n");
  return line;
}

}  // namespace eventvirtual
