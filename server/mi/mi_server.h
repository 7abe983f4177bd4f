// MiServer: OpenSIPS' management interface over HTTP and datagrams.
#ifndef EVENTVIRTUAL_SERVER_MI_MI_SERVER_H_
#define EVENTVIRTUAL_SERVER_MI_MI_SERVER_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/access/access.h"
#include "server/http/http_server.h"
#include "server/journal/journal.h"
#include "server/mi/mi_commands.h"
#include "transports/api/loop.h"
#include "transports/io/bound_socket.h"
#include "transports/io/datagram_socket.h"
#include "transports/io/mailbox.h"

namespace eventvirtual {

struct MiOptions {
  // "http:host:port[/path]" (without a path: /mi), "udp:host:port", "unix:/path" (datagram). Loopback addresses only:
  // nobody is asked who they are.
  std::vector<std::string> addresses;
  MiDefaults defaults;
  std::optional<gid_t> socket_group = std::nullopt;  // see BoundSocket::Unix()
  size_t max_bytes = 64 << 10;                       // of a request
  MiCommandLimits limits = {};
  const Access* access = nullptr;  // who asks must be operator; null: whoever is on this host may ask
};

// HTTP: one request by POST, answered with status 200, also when the answer is an error; 204 to a notification.
// Datagrams: one request, one answer to its sender, who gets "400 Parse_error" when it was no JSON or too long.
// A list of very many subscriptions takes a while: give it a loop on which no event waits.
class MiServer {
 public:
  // Listens, and works on `loop` from then on. UNAVAILABLE or INVALID_ARGUMENT name the address. Not on the loop.
  // A change is acknowledged when nothing contrary is sent any more and `journal` has it (null: nothing is kept).
  static absl::StatusOr<std::unique_ptr<MiServer>> Listen(const MiOptions& options, Loop& loop, Registry& registry,
                                                          Dispatcher& dispatcher, Journal* journal);
  ~MiServer();  // Stop()

  // As given, with the port that was chosen for 0.
  const std::vector<std::string>& addresses() const { return addresses_; }

  std::vector<MiCommands::Count> counts() const { return commands_.counts(); }  // any thread

  // Takes nothing more, answers what was taken, closes everything; waits a second at most for clients that do not read
  // and a disk that hangs. Not on the loop, which must run, and so must those of the endpoints.
  void Stop();

 private:
  MiServer(const MiOptions& options, Loop& loop, Registry& registry, Dispatcher& dispatcher, Journal* journal)
      : loop_(loop),
        registry_(registry),
        journal_(journal),
        socket_group_(options.socket_group),
        max_bytes_(options.max_bytes),
        access_(options.access),
        commands_(registry, dispatcher, options.defaults, options.limits) {}

  absl::Status Open(const std::string& address);
  void ReadDatagrams(DatagramSocket* socket, Caller::Way way);
  // Whether they may ask.
  absl::Status Allow(const Caller& caller, absl::string_view authorization) const;
  std::string PrincipalOf(const Caller& caller, absl::string_view authorization) const;
  using Send = absl::AnyInvocable<void(std::string text) &&>;
  // Calls `send` with the answer's text when it may leave.
  void Answer(MiAnswer answer, Send send);
  void OnSettled(uint64_t id, const absl::Status& written);

  Loop& loop_;
  Registry& registry_;
  Journal* const journal_;
  const std::optional<gid_t> socket_group_;
  const size_t max_bytes_;
  const Access* const access_;
  std::vector<std::string> addresses_;

  // On the loop, all that follows.
  MiCommands commands_;
  std::vector<std::unique_ptr<HttpServer>> http_;
  std::vector<std::unique_ptr<DatagramSocket>> datagrams_;
  struct Unsent {
    MiAnswer answer;
    Send send;
  };
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>(loop_);
  std::map<uint64_t, Unsent> unsent_;  // answers that may not leave yet
  uint64_t last_unsent_ = 0;
  std::shared_ptr<void> hold_;  // Stop() waits for them
  std::unique_ptr<Loop::Timer> linger_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_MI_MI_SERVER_H_
