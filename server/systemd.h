// What systemd is told of this process: the protocol of sd_notify(3).
#ifndef EVENTVIRTUAL_SERVER_SYSTEMD_H_
#define EVENTVIRTUAL_SERVER_SYSTEMD_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace eventvirtual {

// Sends `state`, "READY=1" or "STOPPING=1", to the socket that $NOTIFY_SOCKET names. OK also where there is none:
// nobody asked. UNAVAILABLE: it could not be sent; a unit of Type=notify will not count as started then.
absl::Status NotifySystemd(absl::string_view state);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_SYSTEMD_H_
