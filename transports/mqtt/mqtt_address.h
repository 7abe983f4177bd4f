// MqttAddress: the text of an mqtt subscriber, understood.
#ifndef EVENTVIRTUAL_TRANSPORTS_MQTT_MQTT_ADDRESS_H_
#define EVENTVIRTUAL_TRANSPORTS_MQTT_MQTT_ADDRESS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "transports/api/encoding.h"
#include "transports/api/secret.h"
#include "transports/api/uri.h"
#include "transports/io/tls_options.h"

namespace eventvirtual {

// `mqtt://[user:password@]host[:port]/topic` or `mqtts://…`, and options; see the README.
struct MqttAddress : TlsOptions {
  bool tls = false;
  HostPort host;
  std::string user;   // empty: no login
  Secret password;    // empty: none
  std::string topic;  // UTF-8
  int qos = 1;
  bool retain = false;
  bool require_subscribers = false;
  std::string client_id;  // a prefix; the rest is made for each link
  absl::Duration timeout = absl::Seconds(2);
  Encoding encoding = Encoding::kJsonRpc;

  // All that is not to be shown.
  std::vector<const Secret*> Secrets() const { return {&password}; }

  // The canonical text, or with `masked` the same with "***" for the password.
  std::string ToString(bool masked) const;
};

// INVALID_ARGUMENT names the faulty part and what would be accepted, never the password.
absl::StatusOr<MqttAddress> ParseMqttAddress(const Uri& uri);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_MQTT_MQTT_ADDRESS_H_
