// NameLookup: host name → addresses, without blocking the loop.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_NAME_LOOKUP_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_NAME_LOOKUP_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "transports/api/loop.h"
#include "transports/api/uri.h"
#include "transports/io/socket_address.h"

namespace eventvirtual {

// One question, answered by c-ares on the loop: /etc/hosts first, then the name servers of /etc/resolv.conf. Each
// lookup has its own channel, so a dead name server delays nobody else. Created and destroyed on the loop.
class NameLookup {
 public:
  // `on_found` is called once, on the loop, not before the constructor has returned, with at least one address; or with
  // UNAVAILABLE naming the host. Numeric addresses are not looked up. `name_servers` ("127.0.0.1:5353,…") replaces
  // those of the system, for tests.
  NameLookup(Loop& loop, const HostPort& host,
             absl::AnyInvocable<void(absl::StatusOr<std::vector<SocketAddress>>) &&> on_found,
             const std::string& name_servers = "");
  ~NameLookup();  // cancels
  NameLookup(const NameLookup&) = delete;
  NameLookup& operator=(const NameLookup&) = delete;

 private:
  class Query;
  std::shared_ptr<Query> query_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_NAME_LOOKUP_H_
