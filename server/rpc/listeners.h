// Listeners: where gRPC is served. They accept; gRPC gets each connection as a descriptor.
#ifndef EVENTVIRTUAL_SERVER_RPC_LISTENERS_H_
#define EVENTVIRTUAL_SERVER_RPC_LISTENERS_H_

#include <grpcpp/server_builder.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/access/certificates.h"
#include "server/metrics/connection_counts.h"
#include "transports/api/loop.h"
#include "transports/io/acceptor.h"
#include "transports/io/bound_socket.h"
#include "transports/io/connection_caps.h"

namespace eventvirtual {

struct ListenOptions {
  // "host:port", a loopback address; "tls:host:port", any; "unix:/path". Numeric hosts, or localhost.
  std::vector<std::string> addresses;
  std::shared_ptr<const Certificates> certificates;  // null: "tls:" is refused
  bool client_certificate_required = true;           // see TlsCredentials()
  std::optional<gid_t> socket_group;                 // see BoundSocket::Unix()
  bool tells_users = false;                          // see UserCredentials(); costs each call over a unix socket a bit
  size_t max_connections = 10000;
  size_t max_connections_per_peer = 5000;  // see ConnectionCaps
};

// Who connects over a unix socket is known by user, of the first kMaxUsers of them; the calls of others are those of
// nobody in particular.
//
// gRPC's own listener of this version is deaf for ever after one EMFILE, and has no caps (docs/decisions/0021).
class Listeners {
 public:
  static constexpr size_t kMaxUsers = 64;

  // Binds every address, and prepares `builder` for what will come in. INVALID_ARGUMENT and UNAVAILABLE name the
  // address and the way out.
  static absl::StatusOr<std::unique_ptr<Listeners>> Bind(const ListenOptions& options, grpc::ServerBuilder* builder);
  ~Listeners();  // Stop()

  // As given, with the port that was chosen for 0.
  const std::vector<std::string>& addresses() const { return addresses_; }

  // Accepts from now on, on `loop`, which outlives this. Once, when the server has been built. Not on the loop.
  void Start(Loop& loop);

  // Accepts nothing more, and unbinds. Not on the loop, which must run. The server is still there.
  void Stop();

  const ConnectionCounts& counts() const { return counts_; }  // since the start

 private:
  using Entrance = grpc::experimental::ExternalConnectionAcceptor;
  struct Listener {
    std::optional<BoundSocket> bound;  // until Start()
    bool unix = false;
    std::unique_ptr<Entrance> entrance;
    std::unique_ptr<Acceptor> acceptor;  // on the loop
  };

  // Of one user. It is never another's: calls of connections that have ended may still be on their way.
  struct UserEntrance {
    const std::shared_ptr<std::atomic<uid_t>> user = std::make_shared<std::atomic<uid_t>>(0);
    std::unique_ptr<Entrance> entrance;
  };

  explicit Listeners(const ListenOptions& options)
      : options_(options), caps_(options.max_connections, options.max_connections_per_peer) {}
  absl::Status Open(const std::string& address, grpc::ServerBuilder* builder);
  void Take(Listener* listener, int fd);
  Entrance& EntranceOf(const Listener& listener, int fd);

  const ListenOptions options_;
  std::vector<std::string> addresses_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::vector<UserEntrance> user_entrances_;  // empty unless users are told
  std::map<uid_t, Entrance*> of_user_;        // on the loop
  Loop* loop_ = nullptr;                      // null: not started, or stopped
  ConnectionCaps caps_;                       // on the loop
  ConnectionCounts counts_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_LISTENERS_H_
