// AdminServer: what operators and their tools look at over HTTP.
#ifndef EVENTVIRTUAL_SERVER_ADMIN_ADMIN_SERVER_H_
#define EVENTVIRTUAL_SERVER_ADMIN_ADMIN_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/http/http_server.h"
#include "transports/api/loop.h"

namespace eventvirtual {

// Serves the routes it is given, and two of its own, as orchestrators ask for them (Kubernetes' liveness and
// readiness):
//   /healthz   200 while the process answers at all
//   /readyz    200 while it serves, and what is wrong nevertheless; else 503
// Nobody is asked who they are, and nothing can be changed: what it serves is to be read by whoever reaches it, and
// holds no password. Its handlers take a while with very many subscriptions: give it a loop on which no event waits.
class AdminServer {
 public:
  struct Readiness {
    bool serving = false;
    // What does not work: no reason to take it out of service, where all else goes on and a restart mends nothing.
    absl::Status trouble;
  };

  // Listens on each of `addresses` ("host:port" with a loopback address; port 0: any that is free), and works on `loop`
  // from then on. UNAVAILABLE or INVALID_ARGUMENT name the address. Not on the loop. `ready` is asked on the loop with
  // each request to /readyz.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Listen(const std::vector<std::string>& addresses, Loop& loop,
                                                             std::function<Readiness()> ready,
                                                             std::vector<HttpRoute> routes);
  ~AdminServer();  // Stop()

  // As given, with the port that was chosen for 0.
  const std::vector<std::string>& addresses() const { return addresses_; }

  // Takes nothing more, answers what was taken, closes everything; waits a second at most for clients that do not read.
  // Not on the loop, which must run.
  void Stop();

 private:
  explicit AdminServer(Loop& loop) : loop_(loop) {}

  Loop& loop_;
  std::vector<std::string> addresses_;
  std::vector<std::unique_ptr<HttpServer>> servers_;  // on the loop
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ADMIN_ADMIN_SERVER_H_
