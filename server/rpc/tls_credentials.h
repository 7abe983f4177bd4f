// TlsCredentials: how gRPC shows who it is, and asks who is there, from files that may change.
#ifndef EVENTVIRTUAL_SERVER_RPC_TLS_CREDENTIALS_H_
#define EVENTVIRTUAL_SERVER_RPC_TLS_CREDENTIALS_H_

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "server/access/certificates.h"

namespace eventvirtual {

// For one listener: each needs its own, since each is told of a change once. TLS 1.2 and later with what `certificates`
// holds at each handshake; connections that are there stay as they are. With a client CA a client is asked for a
// certificate, and one that the CA has not signed ends the handshake; without any it does so too if `required`.
std::shared_ptr<grpc::ServerCredentials> TlsCredentials(std::shared_ptr<const Certificates> certificates,
                                                        bool required);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_TLS_CREDENTIALS_H_
