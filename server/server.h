// Server: everything put together. The composition root, and the only place that names concrete types of all layers.
#ifndef EVENTVIRTUAL_SERVER_SERVER_H_
#define EVENTVIRTUAL_SERVER_SERVER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/destinations/destinations.h"
#include "server/options.h"

namespace eventvirtual {

class Server {
 public:
  // Builds it with all transports and begins to serve on every address of `options`; `destinations` are those of these
  // options. INVALID_ARGUMENT and UNAVAILABLE name the address or the option that does not work; nothing is left
  // running then.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Options& options,
                                                       std::shared_ptr<Destinations> destinations);
  ~Server();  // Drain() without patience, unless it was called

  // Where gRPC, ingest, the management interface and what operators look at are served, with the ports that were chosen
  // for 0: "127.0.0.1:41234", "unix:/path".
  const std::vector<std::string>& listening() const;
  const std::vector<std::string>& ingesting() const;
  const std::vector<std::string>& managing() const;
  const std::vector<std::string>& showing() const;

  // Reads the files that options name and that may change while it serves: the one period and the one signal of all of
  // them (ReloadedFiles::Look()). `asked`: somebody wants what is there taken at once. Blocks as a disk does. One
  // thread.
  void Reload(bool asked);

  // Health turns to NOT_SERVING, nothing new is taken, what is on its way gets options.drain_timeout; then all ends.
  // No RPC that has begun fails. Blocks; once.
  void Drain();

 private:
  struct Parts;
  explicit Server(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_SERVER_H_
