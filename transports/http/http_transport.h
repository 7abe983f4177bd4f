// http://host/path, https://host/path: events as JSON-RPC texts in POST requests, each confirmed by a 2xx answer.
#ifndef EVENTVIRTUAL_TRANSPORTS_HTTP_HTTP_TRANSPORT_H_
#define EVENTVIRTUAL_TRANSPORTS_HTTP_HTTP_TRANSPORT_H_

#include <memory>

#include "transports/api/transport.h"

namespace eventvirtual {

// See README.md beside this file for syntax, options and what a success means.
std::unique_ptr<Transport> MakeHttpTransport();

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_HTTP_HTTP_TRANSPORT_H_
