// The version of this program, as --version and the management interface tell it.
#ifndef EVENTVIRTUAL_SERVER_VERSION_H_
#define EVENTVIRTUAL_SERVER_VERSION_H_

namespace eventvirtual {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_VERSION_H_
