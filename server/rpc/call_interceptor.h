// Counts the RPCs of a gRPC server, as its interceptors see them.
#ifndef EVENTVIRTUAL_SERVER_RPC_CALL_INTERCEPTOR_H_
#define EVENTVIRTUAL_SERVER_RPC_CALL_INTERCEPTOR_H_

#include <grpcpp/server_builder.h>

#include <initializer_list>
#include <string>

#include "server/metrics/call_counts.h"
#include "transports/api/loop.h"

namespace eventvirtual {

// From now on each RPC of `services` (full names) is counted in `counts`, which has no methods yet; it outlives the
// server, and so does the clock. A unary RPC costs one allocation and two looks at the clock more.
void CountCalls(std::initializer_list<std::string> services, const Clock& clock, CallCounts* counts,
                grpc::ServerBuilder* builder);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_CALL_INTERCEPTOR_H_
