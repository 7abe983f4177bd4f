#include "server/log/log.h"

#include <unistd.h>

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kLevels[] = {"debug", "info", "warning", "error"};
LogLevel least_level = LogLevel::kInfo;

void AppendField(absl::string_view key, absl::string_view value, std::string* line) {
  bool plain = !value.empty();
  for (char c : value) plain = plain && absl::ascii_isgraph(c) && c != '"' && c != '\\' && c != '=';
  absl::StrAppend(line, " ", key, "=");
  if (plain) {
    absl::StrAppend(line, value);
  } else {
    absl::StrAppend(line, "\"", absl::Utf8SafeCEscape(value), "\"");
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

void SetLogLevel(LogLevel least) { least_level = least; }

void Log(LogLevel level, absl::string_view message,
         std::initializer_list<std::pair<absl::string_view, absl::string_view>> fields) {
  if (level < least_level) return;
  std::string line = absl::StrCat("time=", absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone()),
                                  " level=", kLevels[static_cast<int>(level)]);
  AppendField("msg", message, &line);
  for (const auto& [key, value] : fields) AppendField(key, value, &line);
  line.push_back('\n');
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace eventvirtual
