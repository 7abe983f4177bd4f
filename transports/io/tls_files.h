// TlsFiles: what a subscriber's ca, cert and key options name.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_TLS_FILES_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_TLS_FILES_H_

#include <string>

#include "absl/status/statusor.h"

namespace eventvirtual {

// The contents of PEM files; "" of those that are not named.
struct TlsFiles {
  std::string ca, cert, key;
};

// Reads the files at these paths; an empty path names none. At each connect, so that nothing of them is kept and a
// changed one needs no new subscription. Blocks: for a Worker. UNAVAILABLE names the option, the path and why
// (ReadSmallFile()).
absl::StatusOr<TlsFiles> ReadTlsFiles(const std::string& ca, const std::string& cert, const std::string& key);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_TLS_FILES_H_
