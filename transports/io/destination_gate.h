// The gate of destinations: every connect and every open of a transport passes here.
//
// It is one for the process, and not handed from transport to transport, so that no transport, and no callback of a
// library that has no room for an argument, can be without it (docs/decisions/0020-destinations.md). Until a policy is
// set, as in tests of a single transport, everything passes. Any thread.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_DESTINATION_GATE_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_DESTINATION_GATE_H_

#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "transports/api/transport.h"
#include "transports/io/destination_policy.h"

namespace eventvirtual {

// What is refused here is PERMISSION_DENIED, with the value, the rule and the way out in its message. All of this holds
// from the next call on; connections that stand are left alone.

// Null: everything passes. `data_dir`, unless empty, is where the journal's files are, which no subscriber may be.
void SetDestinationPolicy(std::shared_ptr<const DestinationPolicy> policy, const std::string& data_dir = "");

// Where this process listens: "127.0.0.1:7060", "unix:/path", "udp:0.0.0.0:9061", "http:127.0.0.1:7064/mi". An event
// that is sent there comes back for ever, so they are never allowed, whatever the policy says; where the host is every
// address, all of this machine's are meant. Names are looked up now. Blocks.
void SetOwnListeners(const std::vector<std::string>& addresses);

// Before a subscription is taken: the scheme, numeric hosts and the path of `target`.
absl::Status CheckTarget(const Target& target);

// Before ${secret:`name`} is read: whether it may be shown to the hosts of `target`.
absl::Status CheckSecret(absl::string_view name, const Target& target);

// Before each connect: `peer` has been looked up. `type`: SOCK_STREAM or SOCK_DGRAM.
absl::Status CheckPeer(const sockaddr& peer, int type);

// Opens the directory of the file `path` (O_PATH), beneath the allowed directory that holds it, and without following a
// link on the way there from that one (openat2(2)). A descriptor, or -1: then `why` says that it was the policy, or is
// OK and errno says what the kernel has against it (ELOOP: there is a link). Blocks as a disk does.
int OpenDirectoryOf(const std::string& path, absl::Status* why);

// Connects `fd`, a unix datagram socket, to the one at `path` under the same rules. 0, or -1 as above.
int ConnectUnix(int fd, const std::string& path, absl::Status* why);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_DESTINATION_GATE_H_
