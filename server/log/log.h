// Log: few, structured lines on stderr: changes of state, not events.
#ifndef EVENTVIRTUAL_SERVER_LOG_LOG_H_
#define EVENTVIRTUAL_SERVER_LOG_LOG_H_

#include <initializer_list>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/log/line.h"

namespace eventvirtual {

void SetLogLevel(LogLevel least);  // before threads start; info unless set

// From here on lines are written by a thread, and nobody waits for whoever reads stderr (Logger). Before, and where it
// is never called, as in tests, Log() writes text itself. Once, before other threads log; with SIGPIPE ignored.
void StartLog(LogFormat format);

// Waits until all lines are written, for `patience` at most; before the process ends.
void FlushLog(absl::Duration patience);

// One line (line.h), unless there have been too many of the same message and first field (LineLimiter). So the first
// field says what it is about: a destination, a file. Any thread; never blocks. Never pass a password.
void Log(LogLevel level, absl::string_view message, std::initializer_list<LogField> fields = {});

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_LOG_LOG_H_
