// BrokerAddress: the text of a subscriber at an AMQP broker, understood.
#ifndef EVENTVIRTUAL_TRANSPORTS_RABBITMQ_BROKER_ADDRESS_H_
#define EVENTVIRTUAL_TRANSPORTS_RABBITMQ_BROKER_ADDRESS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "transports/api/message.h"
#include "transports/api/secret.h"
#include "transports/api/uri.h"
#include "transports/io/tls_options.h"

namespace eventvirtual {

// Written in one of two ways, of which the README has the grammar:
//   rabbitmq:[user[:password]@]host[:port]/[params?]routing_key[?options]      OpenSIPS' own
//   amqp[s]://[user[:password]@]host[:port][/vhost]?options                    RabbitMQ's URI specification
// Every text but the paths is decoded and at most 255 bytes long, what AMQP's short strings hold (AMQP 0-9-1 section
// 4.2.5.3).
struct BrokerAddress : TlsOptions {
  std::string scheme = "rabbitmq";  // rabbitmq, amqp or amqps
  HostPort host;
  std::string user = "guest";
  Secret password = Secret("guest");
  std::string vhost = "/";
  std::string exchange;
  std::string routing_key;
  bool persistent = false;
  bool mandatory = true;                         // what no queue takes comes back, and has failed
  absl::Duration heartbeat = absl::Seconds(10);  // whole seconds; zero: none
  std::map<std::string, std::string> headers;
  absl::Duration timeout = absl::Seconds(2);
  Encoding encoding = Encoding::kJsonRpc;

  // All that is not to be shown.
  std::vector<const Secret*> Secrets() const { return {&password}; }

  bool tls() const { return scheme == "amqps"; }

  // The canonical text, or with `masked` the same with "***" for the password.
  std::string ToString(bool masked) const;
};

// INVALID_ARGUMENT names the faulty part and what would be accepted, never the password.
absl::StatusOr<BrokerAddress> ParseBrokerAddress(const Uri& uri);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_RABBITMQ_BROKER_ADDRESS_H_
