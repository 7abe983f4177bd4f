#include "transports/kafka/kafka_address.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "transports/io/printable.h"

namespace eventvirtual {
namespace {

constexpr uint16_t kPort = 9092;
constexpr size_t kMaxBrokers = 32;
constexpr size_t kMaxTopic = 249;  // Apache Kafka: org.apache.kafka.common.internals.Topic

// The properties that pass. None of the others may: some load code (plugin.library.paths), run commands (those of
// Kerberos) or read files (ssl.key.location); some would break what a success means (acks) or bounds (queue sizes).
struct Property {
  absl::string_view name;
  bool hidden = false;              // shown as "***": secrets, and certificates, which are long
  absl::string_view accepted = "";  // values, joined by '|'; empty: what librdkafka takes
};
constexpr Property kProperties[] = {
    {"g.batch.num.messages"},
    {"g.batch.size"},
    {"g.broker.address.family"},
    {"g.client.id"},
    {"g.compression.codec"},
    {"g.enable.ssl.certificate.verification"},
    {"g.linger.ms"},
    {"g.message.max.bytes"},
    {"g.sasl.mechanism", false, "PLAIN|SCRAM-SHA-256|SCRAM-SHA-512"},
    {"g.sasl.password", true},
    {"g.sasl.username"},
    {"g.security.protocol"},
    {"g.ssl.ca.pem", true},
    {"g.ssl.certificate.pem", true},
    {"g.ssl.endpoint.identification.algorithm"},
    {"g.ssl.key.password", true},
    {"g.ssl.key.pem", true},
    {"g.topic.metadata.refresh.interval.ms"},
    {"t.acks", false, "all|-1"},
    {"t.compression.codec"},
    {"t.compression.level"},
    {"t.partitioner"},
    {"t.request.required.acks", false, "all|-1"},
};

const Property& PropertyOf(absl::string_view name) {
  return *std::find_if(std::begin(kProperties), std::end(kProperties),
                       [&](const Property& property) { return property.name == name; });
}

absl::Status CheckTopic(absl::string_view topic) {
  if (topic.empty()) return absl::InvalidArgumentError("the topic behind '/' is empty; write kafka:host:port/topic");
  if (topic.size() > kMaxTopic) {
    return absl::InvalidArgumentError(absl::StrCat("the topic is longer than the ", kMaxTopic, " bytes of Kafka"));
  }
  for (size_t i = 0; i < topic.size(); ++i) {
    if (absl::ascii_isalnum(topic[i]) || topic[i] == '.' || topic[i] == '_' || topic[i] == '-') continue;
    return absl::InvalidArgumentError(absl::StrCat("byte ", i + 1, " of the topic is not one of a-z A-Z 0-9 . _ -"));
  }
  if (topic == "." || topic == "..") return absl::InvalidArgumentError("the topic must not be \".\" or \"..\"");
  return absl::OkStatus();
}

absl::Status Set(absl::string_view name, const std::string& value, rd_kafka_conf_t* conf) {
  char error[512] = "";
  const std::string property(name);
  if (rd_kafka_conf_set(conf, property.c_str(), value.c_str(), error, sizeof(error)) == RD_KAFKA_CONF_OK) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(Printable(error));
}

absl::Status CheckProperties(const KafkaAddress& address) {
  std::string protocol, mechanism;
  for (const auto& [name, secret] : address.properties) {
    const std::string& value = secret.Reveal();
    const absl::string_view accepted = PropertyOf(name).accepted;
    const std::vector<absl::string_view> values = absl::StrSplit(accepted, '|', absl::SkipEmpty());
    if (!values.empty() && std::find(values.begin(), values.end(), value) == values.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("option \"", name, "\" must be one of: ", absl::StrJoin(values, ", ")));
    }
    if (value.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat("option \"", name, "\" must not hold %00"));
    }
    if (name == "g.security.protocol") protocol = absl::AsciiStrToLower(value);
    if (name == "g.sasl.mechanism") mechanism = value;
    double linger = 0;
    if (name == "g.linger.ms" && absl::SimpleAtod(value, &linger) && absl::Milliseconds(linger) >= address.timeout) {
      return absl::InvalidArgumentError(absl::StrCat("option \"g.linger.ms\" must be less than the timeout, which is ",
                                                     absl::FormatDuration(address.timeout)));
    }
  }
  // librdkafka's own default is Kerberos, for which it runs a command.
  if ((protocol == "sasl_plaintext" || protocol == "sasl_ssl") && mechanism.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("option \"g.security.protocol\" asks for a login; name its "
                     "\"g.sasl.mechanism\": PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"));
  }
  return MakeKafkaConf(address).status();
}

}  // namespace

absl::StatusOr<KafkaAddress> ParseKafkaAddress(const Uri& uri) {
  KafkaAddress address;
  const absl::string_view body = uri.body;
  const size_t slash = body.find('/');
  if (slash == absl::string_view::npos) {
    return absl::InvalidArgumentError("no '/' behind the brokers; write kafka:host:port/topic");
  }
  for (absl::string_view broker : absl::StrSplit(body.substr(0, slash), ',')) {
    if (address.brokers.size() == kMaxBrokers) {
      return absl::InvalidArgumentError(absl::StrCat("more than ", kMaxBrokers, " brokers; a few find the others"));
    }
    absl::StatusOr<HostPort> host = ParseHostPort(broker, kPort);
    if (!host.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("broker ", address.brokers.size() + 1, ": ", host.status().message()));
    }
    address.brokers.push_back(*std::move(host));
  }
  address.topic = std::string(body.substr(slash + 1));
  if (absl::Status status = CheckTopic(address.topic); !status.ok()) return status;

  QueryReader query(uri);
  address.key = query.TakeString("key", "");
  address.timeout = query.TakeDuration("timeout", address.timeout, absl::Milliseconds(1), absl::Minutes(5));
  address.encoding = TakeEncoding(query, /*has_headers=*/true);
  for (const Property& property : kProperties) {
    Secret value = property.hidden ? query.TakeSecret(property.name) : Secret(query.TakeString(property.name, ""));
    if (!value.empty()) address.properties.emplace_back(property.name, std::move(value));
  }
  if (absl::Status status = query.Done(); !status.ok()) return status;
  if (absl::Status status = CheckProperties(address); !status.ok()) return status;
  // Said to be what it is anyway, as configurations of OpenSIPS do.
  address.properties.erase(
      std::remove_if(address.properties.begin(), address.properties.end(),
                     [](const auto& property) { return PropertyOf(property.first).accepted == "all|-1"; }),
      address.properties.end());
  return address;
}

std::string KafkaAddress::ToString(bool masked) const {
  std::vector<std::string> hosts;
  for (const HostPort& broker : brokers) hosts.push_back(broker.ToString());
  QueryWriter query;
  for (const auto& [name, value] : properties) {
    query.AddSecret(name, value, masked && PropertyOf(name).hidden);
  }
  if (!key.empty()) query.Add("key", key);
  if (timeout != KafkaAddress().timeout) query.Add("timeout", absl::FormatDuration(timeout));
  AddEncoding(encoding, &query);
  return absl::StrCat("kafka:", absl::StrJoin(hosts, ","), "/", topic, query.text());
}

std::vector<const Secret*> KafkaAddress::Secrets() const {
  std::vector<const Secret*> secrets;
  for (const auto& [name, value] : properties) secrets.push_back(&value);
  return secrets;
}

absl::StatusOr<KafkaConf> MakeKafkaConf(const KafkaAddress& address) {
  KafkaConf conf(rd_kafka_conf_new());
  std::vector<std::string> brokers;
  for (const HostPort& broker : address.brokers) brokers.push_back(broker.ToString());
  const std::pair<absl::string_view, std::string> ours[] = {
      {"acks", "all"},
      {"bootstrap.servers", absl::StrJoin(brokers, ",")},
      {"client.id", "eventvirtual"},
      {"enable.idempotence", "true"},
      // The window keeps batches large under load; without load nothing is gained by waiting.
      {"linger.ms", "0"},
      {"log_level", "0"},
      {"message.timeout.ms", absl::StrCat(absl::ToInt64Milliseconds(address.timeout))},
      {"queue.buffering.max.messages", absl::StrCat(kKafkaWindow)},
      // A name may have several addresses, of which some are dead: the next one is tried without a pause.
      {"reconnect.backoff.ms", "10"},
      {"socket.keepalive.enable", "true"},
      {"socket.nagle.disable", "true"},
  };
  for (const auto& [name, value] : ours) {
    if (absl::Status status = Set(name, value, conf.get()); !status.ok()) return status;
  }
  for (const auto& [name, value] : address.properties) {
    if (!value.known()) continue;
    if (absl::Status status = Set(absl::string_view(name).substr(2), value.Reveal(), conf.get()); !status.ok()) {
      // librdkafka may repeat the value.
      return absl::InvalidArgumentError(
          absl::StrCat("option \"", name,
                       "\": ", PropertyOf(name).hidden ? "librdkafka does not take this value" : status.message()));
    }
  }
  return conf;
}

}  // namespace eventvirtual
