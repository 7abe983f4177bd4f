// AllTransports: the one list of what this binary speaks.
#ifndef EVENTVIRTUAL_TRANSPORTS_ALL_H_
#define EVENTVIRTUAL_TRANSPORTS_ALL_H_

#include <memory>
#include <vector>

#include "transports/api/transport.h"
#include "transports/stream/listeners.h"

namespace eventvirtual {

// `listeners` outlives the transports.
std::vector<std::unique_ptr<Transport>> AllTransports(StreamListeners& listeners);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_ALL_H_
