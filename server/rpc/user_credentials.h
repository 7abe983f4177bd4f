// UserCredentials: how gRPC is told which user of this host a connection over a unix socket comes from.
#ifndef EVENTVIRTUAL_SERVER_RPC_USER_CREDENTIALS_H_
#define EVENTVIRTUAL_SERVER_RPC_USER_CREDENTIALS_H_

#include <grpcpp/security/server_credentials.h>
#include <sys/types.h>

#include <atomic>
#include <memory>

namespace eventvirtual {

// The property of a connection's grpc::AuthContext that has the user's number, in decimal digits.
inline constexpr char kUserProperty[] = "eventvirtual_user";

// For one way in, which only connections of one user take: gRPC of this version hands a connection's descriptor to
// nobody, so the way in has to say whose it is. `user` is set before the first connection comes, and then stays.
std::shared_ptr<grpc::ServerCredentials> UserCredentials(std::shared_ptr<const std::atomic<uid_t>> user);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_USER_CREDENTIALS_H_
