// LogLoop: the lines about events that go round in a loop.
#ifndef EVENTVIRTUAL_SERVER_REPORTS_LOOP_LOG_H_
#define EVENTVIRTUAL_SERVER_REPORTS_LOOP_LOG_H_

#include "absl/strings/string_view.h"
#include "transports/api/message.h"

namespace eventvirtual {

// One line, of each event no more than ten a minute. `found_by`: "hops" or "repeats", see LoopGuard. Any thread; never
// blocks.
void LogLoop(const Message& message, absl::string_view found_by);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_REPORTS_LOOP_LOG_H_
