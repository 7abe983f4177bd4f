#include "transports/rabbitmq/rabbitmq_transport.h"

#include <utility>

#include "transports/rabbitmq/broker_address.h"
#include "transports/rabbitmq/rabbitmq_link.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kSchemes[] = {"rabbitmq", "amqp", "amqps"};

class RabbitmqTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override {
    return "rabbitmq:[user[:password]@]host[:port]/[exchange=X;persistent;mandatory=0;vhost=V;heartbeat=10;"
           "header.NAME=VALUE?]routing_key[?timeout=2s&encoding=jsonrpc], or "
           "amqps://[user[:password]@]host[:port][/vhost]?routing_key=K[&exchange=X&persistent=1&mandatory=0"
           "&heartbeat=10&header.NAME=VALUE&timeout=2s&encoding=jsonrpc&ca=/path&cert=/path&key=/"
           "path&server_name=NAME&verify=0]";
  }
  absl::string_view description() const override {
    return "Publishes to an AMQP 0-9-1 broker, over TLS with amqps. Success: the broker confirmed the message and a "
           "queue took it.";
  }
  AckLevel ack_level() const override { return AckLevel::kConfirmed; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const absl::StatusOr<BrokerAddress> address = ParseBrokerAddress(uri);
    if (!address.ok()) return address.status();
    return TargetOf(*address, AckLevel::kConfirmed, {address->host});
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    return std::make_unique<RabbitmqLink>(AddressOf(target, &ParseBrokerAddress), loop, host);
  }
};

}  // namespace

std::unique_ptr<Transport> MakeRabbitmqTransport() { return std::make_unique<RabbitmqTransport>(); }

}  // namespace eventvirtual
