// Files of passwords, tokens and keys: what a subscriber names as ${secret:NAME}.
//
// One directory for the process, as the policy of destinations is one (transports/io/destination_gate.h), and a name
// goes only where that policy says (docs/decisions/0025-secrets.md). They are read at each connect and are none that
// are watched for changes: any period would be late when a server is restarted with its new password. Any thread.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_SECRET_FILES_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_SECRET_FILES_H_

#include <string>

#include "absl/status/status.h"
#include "transports/api/transport.h"

namespace eventvirtual {

// Where the files are: --secrets. "": nowhere.
void SetSecretDirectory(const std::string& path);

// Reads what `target->secrets` name: the file NAME beneath the directory, of 1 byte to 64 KiB, without the line end
// behind it. A link that stays beneath the directory is followed: Kubernetes makes such. Nothing is kept of what was
// read before. Blocks as a disk does. PERMISSION_DENIED: the policy has nothing for that name and those hosts.
// FAILED_PRECONDITION: there is no such file, or it is not one that can be used. Both name NAME and the way out, and
// nothing of what the file holds.
absl::Status ReadSecrets(Target* target);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_SECRET_FILES_H_
