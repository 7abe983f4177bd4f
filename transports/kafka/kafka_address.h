// KafkaAddress: the text of a kafka subscriber, understood.
#ifndef EVENTVIRTUAL_TRANSPORTS_KAFKA_KAFKA_ADDRESS_H_
#define EVENTVIRTUAL_TRANSPORTS_KAFKA_KAFKA_ADDRESS_H_

#include <librdkafka/rdkafka.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "transports/api/encoding.h"
#include "transports/api/secret.h"
#include "transports/api/uri.h"

namespace eventvirtual {

// Messages that one producer holds at most, and so what a link announces as its window.
inline constexpr int kKafkaWindow = 256;

// `host[:port][,host[:port]…]/topic[?g.NAME=VALUE&t.NAME=VALUE&key=PARAM&timeout=5s&encoding=jsonrpc]`, OpenSIPS'
// syntax; the README has the properties.
struct KafkaAddress {
  std::vector<HostPort> brokers;
  std::string topic;
  std::string key;  // the parameter whose value is the key of a message; empty: no key
  absl::Duration timeout = absl::Seconds(5);
  Encoding encoding = Encoding::kJsonRpc;
  // librdkafka's, by the names they have here ("g.linger.ms"); each is one that we know, with a value it takes.
  // Some are passwords and keys, so all are kept as such.
  std::vector<std::pair<std::string, Secret>> properties;

  std::vector<const Secret*> Secrets() const;

  // The canonical text, or with `masked` the same with "***" for each password, key and certificate.
  std::string ToString(bool masked) const;
};

// INVALID_ARGUMENT names the faulty part and what would be accepted, never a secret.
absl::StatusOr<KafkaAddress> ParseKafkaAddress(const Uri& uri);

struct KafkaConfDeleter {
  void operator()(rd_kafka_conf_t* conf) const { rd_kafka_conf_destroy(conf); }
};
using KafkaConf = std::unique_ptr<rd_kafka_conf_t, KafkaConfDeleter>;

// What librdkafka is told for this address, without callbacks: what our guarantees rest on (idempotence, every replica
// in sync, no message older than the timeout), then the subscriber's properties. Touches no file and no network.
// INVALID_ARGUMENT: a value that librdkafka does not take.
absl::StatusOr<KafkaConf> MakeKafkaConf(const KafkaAddress& address);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_KAFKA_KAFKA_ADDRESS_H_
