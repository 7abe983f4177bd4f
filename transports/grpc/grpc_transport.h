// grpc://host:port, grpcs://host:port: each event a call of eventvirtual.v1.Receiver/Deliver.
#ifndef EVENTVIRTUAL_TRANSPORTS_GRPC_GRPC_TRANSPORT_H_
#define EVENTVIRTUAL_TRANSPORTS_GRPC_GRPC_TRANSPORT_H_

#include <memory>

#include "transports/api/transport.h"

namespace eventvirtual {

// See README.md beside this file for syntax, options and what a success means.
std::unique_ptr<Transport> MakeGrpcTransport();

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_GRPC_GRPC_TRANSPORT_H_
