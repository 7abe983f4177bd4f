// Listeners: where gRPC is served. They accept; gRPC gets each connection as a descriptor.
#ifndef EVENTVIRTUAL_SERVER_RPC_LISTENERS_H_
#define EVENTVIRTUAL_SERVER_RPC_LISTENERS_H_

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/metrics/connection_counts.h"
#include "transports/api/loop.h"
#include "transports/io/acceptor.h"
#include "transports/io/bound_socket.h"
#include "transports/io/connection_caps.h"

namespace eventvirtual {

struct ListenOptions {
  // "host:port", a loopback address; "tls:host:port", any; "unix:/path". Numeric hosts, or localhost.
  std::vector<std::string> addresses;
  std::shared_ptr<grpc::ServerCredentials> tls;  // null: "tls:" is refused
  std::optional<gid_t> socket_group;             // see BoundSocket::Unix()
  size_t max_connections = 10000;
  size_t max_connections_per_peer = 5000;  // see ConnectionCaps
};

// gRPC's own listener of this version is deaf for ever after one EMFILE, and has no caps (docs/decisions/0021).
class Listeners {
 public:
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

  explicit Listeners(const ListenOptions& options)
      : options_(options), caps_(options.max_connections, options.max_connections_per_peer) {}
  absl::Status Open(const std::string& address, grpc::ServerBuilder* builder);
  void Take(Listener* listener, int fd);

  const ListenOptions options_;
  std::vector<std::string> addresses_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  Loop* loop_ = nullptr;  // null: not started, or stopped
  ConnectionCaps caps_;   // on the loop
  ConnectionCounts counts_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_LISTENERS_H_
