#include "server/log/log.h"

#include <unistd.h>

#include <string>

#include "absl/time/clock.h"
#include "server/log/logger.h"

namespace eventvirtual {
namespace {

LogLevel least_level = LogLevel::kInfo;
Logger* logger = nullptr;  // never destroyed: threads log until the process has gone

}  // namespace

void SetLogLevel(LogLevel least) { least_level = least; }

void StartLog(LogFormat format) { logger = new Logger(STDERR_FILENO, format); }

void FlushLog(absl::Duration patience) {
  if (logger != nullptr) logger->Flush(patience);
}

void Log(LogLevel level, absl::string_view message, std::initializer_list<LogField> fields) {
  if (level < least_level) return;
  if (logger != nullptr) return logger->Log(level, message, fields);
  const std::string line =
      EndLine(LogFormat::kText, BeginLine(LogFormat::kText, absl::Now(), level, message, fields), 0);
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace eventvirtual
