// flatstore:/path — one line per event, appended to a file. See README.md.
#ifndef EVENTVIRTUAL_TRANSPORTS_FLATSTORE_FLATSTORE_TRANSPORT_H_
#define EVENTVIRTUAL_TRANSPORTS_FLATSTORE_FLATSTORE_TRANSPORT_H_

#include <memory>

#include "transports/api/transport.h"

namespace eventvirtual {

// All file work is done on a thread of the link's own: a disk that hangs delays nobody but its own endpoint.
std::unique_ptr<Transport> MakeFlatstoreTransport();

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_FLATSTORE_FLATSTORE_TRANSPORT_H_
