// The one reader of files that somebody names in an option: certificates, keys, passwords, rules.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_SMALL_FILE_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_SMALL_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace eventvirtual {

inline constexpr size_t kMaxSmallFile = 1 << 20;  // bytes; all CAs of Debian's ca-certificates are 220 kB

// The whole of the regular file at `path`, of at most kMaxSmallFile bytes. UNAVAILABLE says "OPTION=PATH: WHY", with
// the way out, and nothing of what the file holds. A pipe is not waited for. Blocks as a disk does. Any thread.
absl::StatusOr<std::string> ReadSmallFile(absl::string_view option, const std::string& path);

// Likewise of the open `fd`, which it closes, of at most `max` bytes; -1: it could not be opened, and errno says why.
// `name` is what the error begins with. `content` has the only copy there is.
absl::Status ReadAndClose(int fd, size_t max, absl::string_view name, std::string* content);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_SMALL_FILE_H_
