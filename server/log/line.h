// The text of one line of the log: logfmt or JSON.
#ifndef EVENTVIRTUAL_SERVER_LOG_LINE_H_
#define EVENTVIRTUAL_SERVER_LOG_LINE_H_

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <variant>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace eventvirtual {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

// "debug", "info", "warning" or "error"; false for anything else.
bool ParseLogLevel(absl::string_view text, LogLevel* level);
// "text" or "json"; false for anything else.
bool ParseLogFormat(absl::string_view text, LogFormat* format);

// A name, and a text or a whole number. Lives as long as the call it is made for.
struct LogField {
  LogField(absl::string_view key, absl::string_view text) : key(key), value(text) {}
  template <std::integral T>
  LogField(absl::string_view key, T number) : key(key), value(static_cast<int64_t>(number)) {}

  absl::string_view key;
  std::variant<absl::string_view, int64_t> value;
};

// Of a longer text the beginning is written, with "…" behind it.
inline constexpr size_t kMaxLogText = 2000;  // bytes

// One line without its end: `time=… level=info msg="…" key=value …` (logfmt), or {"time":"…","level":"info","msg":"…",…
// in which numbers are numbers. Whatever a text holds, the line is one line, and valid UTF-8: a text that is not has a
// U+FFFD for each of its bytes beyond ASCII. Keys are ours: letters and '_'.
std::string BeginLine(LogFormat format, absl::Time time, LogLevel level, absl::string_view message,
                      std::initializer_list<LogField> fields);

// The whole line, with its newline. `left_out`, unless 0, is one more field: how many like it were not written.
std::string EndLine(LogFormat format, std::string line, uint64_t left_out);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_LOG_LINE_H_
