// NatsConnection: libnats, as a thread that may wait sees it.
#ifndef EVENTVIRTUAL_TRANSPORTS_NATS_NATS_CONNECTION_H_
#define EVENTVIRTUAL_TRANSPORTS_NATS_NATS_CONNECTION_H_

#include <nats/nats.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transports/api/message.h"
#include "transports/io/name_lookup.h"
#include "transports/nats/nats_address.h"

namespace eventvirtual {

// What is heard of a connection, on threads of libnats, and perhaps still for a moment when it has been destroyed.
struct NatsReports {
  // TLS begins on this socket, which is libnats' own: during Open(), on its thread. libnats may then wait for ever for
  // a server that has stopped, until somebody shuts the socket down.
  std::function<void(int socket)> on_handshake;
  std::function<void(absl::Status why)> on_closed;                         // never OK
  std::function<void(uint64_t token, absl::Status outcome)> on_published;  // JetStream's answer
};

// One connection, which is never made again by the library. All of it may block, the destructor too: for a
// few seconds or twice the address's timeout, and with TLS as on_handshake says. For a Worker. Statuses lack the name
// of the subscriber.
class NatsConnection {
 public:
  // Tries `addresses`, one after the other. Reads the TLS files.
  static absl::StatusOr<std::unique_ptr<NatsConnection>> Open(const NatsAddress& address,
                                                              const std::vector<SocketAddress>& addresses,
                                                              std::shared_ptr<const NatsReports> reports);
  ~NatsConnection();
  NatsConnection(const NatsConnection&) = delete;
  NatsConnection& operator=(const NatsConnection&) = delete;

  // Puts `message` into the buffer, or writes the buffer when it is full. With JetStream the answer is reported under
  // `token`. INVALID_ARGUMENT: larger than the server takes, and nothing was sent. After any other error the connection
  // is of no more use.
  absl::Status Publish(const Message& message, uint64_t token);

  // Writes the buffer, and waits until the server has processed all that was published before. PERMISSION_DENIED: it
  // refused some or all of it.
  absl::Status Flush();

 private:
  explicit NatsConnection(const NatsAddress& address) : address_(address) {}
  absl::Status Connect(const SocketAddress& to, natsOptions* options,
                       const std::shared_ptr<const NatsReports>& reports);
  absl::Status ListenForAnswers(const std::shared_ptr<const NatsReports>& reports);

  const NatsAddress address_;
  natsConnection* connection_ = nullptr;
  natsSubscription* answers_ = nullptr;
  std::string inbox_;  // where JetStream answers; ends in '.', the token follows
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_NATS_NATS_CONNECTION_H_
