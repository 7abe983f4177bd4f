// The transport `stream:NAME`: to whoever listens to NAME.
#ifndef EVENTVIRTUAL_TRANSPORTS_STREAM_STREAM_TRANSPORT_H_
#define EVENTVIRTUAL_TRANSPORTS_STREAM_STREAM_TRANSPORT_H_

#include <memory>

#include "transports/api/transport.h"
#include "transports/stream/listeners.h"

namespace eventvirtual {

// `listeners` outlives the transport and its links.
std::unique_ptr<Transport> MakeStreamTransport(StreamListeners& listeners);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_STREAM_STREAM_TRANSPORT_H_
