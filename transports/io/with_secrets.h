// WithSecrets: a transport whose targets may name secrets in files.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_WITH_SECRETS_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_WITH_SECRETS_H_

#include <memory>

#include "transports/api/transport.h"

namespace eventvirtual {

// Does what `transport` does. For a target with a ${secret:NAME} in it, each Connect() reads the files first, on a
// Worker; what cannot be read, or is no password that the transport takes, closes the link, and so does UNAUTHENTICATED
// for an event: the next one has what the files hold then.
std::unique_ptr<Transport> WithSecrets(std::unique_ptr<Transport> transport);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_WITH_SECRETS_H_
