// ErrnoText: what the system calls an error, safely from any thread.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_ERRNO_TEXT_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_ERRNO_TEXT_H_

#include <string>
#include <system_error>

namespace eventvirtual {

// ECONNREFUSED → "Connection refused".
inline std::string ErrnoText(int error) { return std::generic_category().message(error); }

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_ERRNO_TEXT_H_
