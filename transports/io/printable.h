// Printable: what a peer or a library says, fit to be shown.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_PRINTABLE_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_PRINTABLE_H_

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"

namespace eventvirtual {

// `text` with a '?' for each byte that is not printable ASCII. Brokers, certificates and libraries may say anything,
// and it ends in logs and protobuf strings.
inline std::string Printable(absl::string_view text) {
  std::string printable(text);
  for (char& c : printable) {
    if (!absl::ascii_isprint(c)) c = '?';
  }
  return printable;
}

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_PRINTABLE_H_
