// The transport `redis://`: appends to a stream, pushes to a list, publishes to a channel.
#ifndef EVENTVIRTUAL_TRANSPORTS_REDIS_REDIS_TRANSPORT_H_
#define EVENTVIRTUAL_TRANSPORTS_REDIS_REDIS_TRANSPORT_H_

#include <memory>

#include "transports/api/transport.h"

namespace eventvirtual {

std::unique_ptr<Transport> MakeRedisTransport();

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_REDIS_REDIS_TRANSPORT_H_
