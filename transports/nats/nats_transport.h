// nats://host:port/subject: events published to a NATS server, or into a stream of its JetStream.
#ifndef EVENTVIRTUAL_TRANSPORTS_NATS_NATS_TRANSPORT_H_
#define EVENTVIRTUAL_TRANSPORTS_NATS_NATS_TRANSPORT_H_

#include <memory>

#include "transports/api/transport.h"

namespace eventvirtual {

// See README.md beside this file for syntax, options and what a success means.
std::unique_ptr<Transport> MakeNatsTransport();

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_NATS_NATS_TRANSPORT_H_
