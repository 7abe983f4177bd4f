// The file of a unix socket that is to be bound.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_SOCKET_FILE_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_SOCKET_FILE_H_

#include <string>

#include "absl/status/status.h"

namespace eventvirtual {

// Removes the socket file at `path` if the process that bound it is gone: the kernel leaves the file behind, and bind()
// refuses a path that exists. `type` is SOCK_STREAM or SOCK_DGRAM. Does not block.
// OK: nothing is in the way now, or something that is no socket, which bind() will name. UNAVAILABLE: a living process
// has it.
absl::Status RemoveDeadSocketFile(const std::string& path, int type);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_SOCKET_FILE_H_
