#include "server/reports/loop_log.h"

#include "server/log/log.h"

namespace eventvirtual {

void LogLoop(const Message& message, absl::string_view found_by) {
  Log(LogLevel::kWarning, "event goes round in a loop; refused",
      {{"event", message.name()},
       {"event_id", message.event_id()},
       {"source", message.source()},
       {"found_by", found_by},
       {"hops", message.hops()}});
}

}  // namespace eventvirtual
