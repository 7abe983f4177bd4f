// kafka:host:port/topic: events produced to a topic of Apache Kafka, each confirmed by all replicas in sync.
#ifndef EVENTVIRTUAL_TRANSPORTS_KAFKA_KAFKA_TRANSPORT_H_
#define EVENTVIRTUAL_TRANSPORTS_KAFKA_KAFKA_TRANSPORT_H_

#include <memory>

#include "transports/api/transport.h"

namespace eventvirtual {

// See README.md beside this file for syntax, options and what a success means.
std::unique_ptr<Transport> MakeKafkaTransport();

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_KAFKA_KAFKA_TRANSPORT_H_
