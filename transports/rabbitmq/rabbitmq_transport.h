// rabbitmq:host/routing_key: events published to an AMQP 0-9-1 broker, each confirmed by it.
#ifndef EVENTVIRTUAL_TRANSPORTS_RABBITMQ_RABBITMQ_TRANSPORT_H_
#define EVENTVIRTUAL_TRANSPORTS_RABBITMQ_RABBITMQ_TRANSPORT_H_

#include <memory>

#include "transports/api/transport.h"

namespace eventvirtual {

// See README.md beside this file for syntax, options and what a success means.
std::unique_ptr<Transport> MakeRabbitmqTransport();

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_RABBITMQ_RABBITMQ_TRANSPORT_H_
