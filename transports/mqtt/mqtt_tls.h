// What libmosquitto needs to speak TLS to a broker whose name we have looked up ourselves.
#ifndef EVENTVIRTUAL_TRANSPORTS_MQTT_MQTT_TLS_H_
#define EVENTVIRTUAL_TRANSPORTS_MQTT_MQTT_TLS_H_

#include <openssl/ssl.h>

#include <memory>

#include "absl/status/statusor.h"
#include "transports/mqtt/mqtt_address.h"

namespace eventvirtual {

struct SslContextDeleter {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using SslContext = std::unique_ptr<SSL_CTX, SslContextDeleter>;

// A context for connections to `address`: TLS 1.2 or newer, its ca or the system's authorities, its certificate; the
// broker's certificate must be for the name that `address` has (or number), which is also sent to it (SNI), though
// libmosquitto is given a number. Blocks while it reads the files. UNAVAILABLE names the option, the path and OpenSSL's
// reason.
absl::StatusOr<SslContext> MakeSslContext(const MqttAddress& address);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_MQTT_MQTT_TLS_H_
