// Log: few, structured lines on stderr: changes of state, not events.
#ifndef EVENTVIRTUAL_SERVER_LOG_LOG_H_
#define EVENTVIRTUAL_SERVER_LOG_LOG_H_

#include <initializer_list>
#include <utility>

#include "absl/strings/string_view.h"

namespace eventvirtual {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// "debug", "info", "warning" or "error"; false for anything else.
bool ParseLogLevel(absl::string_view text, LogLevel* level);

void SetLogLevel(LogLevel least);  // before threads start; info unless set

// Writes `time=… level=info msg="…" key=value …` (logfmt) in one write(2): lines of several threads do not mix. Values
// are quoted where they need it, so that nothing a peer says can begin a line. Any thread. Never pass a password.
void Log(LogLevel level, absl::string_view message,
         std::initializer_list<std::pair<absl::string_view, absl::string_view>> fields = {});

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_LOG_LOG_H_
