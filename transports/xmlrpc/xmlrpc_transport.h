// xmlrpc:host:port:method: events as XML-RPC calls, each confirmed by a response without a fault.
#ifndef EVENTVIRTUAL_TRANSPORTS_XMLRPC_XMLRPC_TRANSPORT_H_
#define EVENTVIRTUAL_TRANSPORTS_XMLRPC_XMLRPC_TRANSPORT_H_

#include <memory>

#include "transports/api/transport.h"

namespace eventvirtual {

// See README.md beside this file for syntax, options and what a success means.
std::unique_ptr<Transport> MakeXmlrpcTransport();

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_XMLRPC_XMLRPC_TRANSPORT_H_
