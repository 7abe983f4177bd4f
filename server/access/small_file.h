// Files of settings.
#ifndef EVENTVIRTUAL_SERVER_ACCESS_SMALL_FILE_H_
#define EVENTVIRTUAL_SERVER_ACCESS_SMALL_FILE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace eventvirtual {

// The whole of a regular file of at most 1 MiB. INVALID_ARGUMENT names `flag`, the path and why.
absl::StatusOr<std::string> ReadSmallFile(absl::string_view flag, const std::string& path);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ACCESS_SMALL_FILE_H_
