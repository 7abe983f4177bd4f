#include "transports/all.h"

#include <utility>

#include "transports/flatstore/flatstore_transport.h"
#include "transports/grpc/grpc_transport.h"
#include "transports/http/http_transport.h"
#include "transports/io/with_secrets.h"
#include "transports/kafka/kafka_transport.h"
#include "transports/mqtt/mqtt_transport.h"
#include "transports/nats/nats_transport.h"
#include "transports/rabbitmq/rabbitmq_transport.h"
#include "transports/redis/redis_transport.h"
#include "transports/sqs/sqs_transport.h"
#include "transports/stream/stream_transport.h"
#include "transports/tcp/tcp_transport.h"
#include "transports/udp/udp_transport.h"
#include "transports/unix/unix_transport.h"
#include "transports/xmlrpc/xmlrpc_transport.h"

namespace eventvirtual {

std::vector<std::unique_ptr<Transport>> AllTransports(StreamListeners& listeners) {
  std::vector<std::unique_ptr<Transport>> all;
  all.push_back(MakeFlatstoreTransport());
  all.push_back(MakeGrpcTransport());
  all.push_back(MakeHttpTransport());
  all.push_back(MakeKafkaTransport());
  all.push_back(MakeMqttTransport());
  all.push_back(MakeNatsTransport());
  all.push_back(MakeRabbitmqTransport());
  all.push_back(MakeRedisTransport());
  all.push_back(MakeSqsTransport());
  all.push_back(MakeStreamTransport(listeners));
  all.push_back(MakeTcpTransport());
  all.push_back(MakeUdpTransport());
  all.push_back(MakeUnixTransport());
  all.push_back(MakeXmlrpcTransport());
  for (std::unique_ptr<Transport>& one : all) one = WithSecrets(std::move(one));
  return all;
}

}  // namespace eventvirtual
