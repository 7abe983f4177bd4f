// The text of one event in a flat file: its values in one line, as OpenSIPS' event_flatstore writes them.
#ifndef EVENTVIRTUAL_TRANSPORTS_FLATSTORE_FLAT_LINE_H_
#define EVENTVIRTUAL_TRANSPORTS_FLATSTORE_FLAT_LINE_H_

#include <string>

#include "absl/status/status.h"
#include "transports/api/message.h"

namespace eventvirtual {

// How a line is made up.
struct LineFormat {
  std::string delimiter = ",";
  std::string escape_delimiter;  // stands for a delimiter inside a value; empty: as many spaces
  bool suppress_event_name = false;
};

// Whether every line made with `format` can be cut into its columns again.
// INVALID_ARGUMENT names the option and what would be accepted.
absl::Status CheckLineFormat(const LineFormat& format);

// Appends the event name and the values of `message`, joined by the delimiter, and a newline. Names of parameters are
// not written. Always exactly one line: a CR or LF inside a text becomes a space. Always one column per parameter: a
// delimiter inside a text is replaced. `format` must have passed CheckLineFormat().
//
//   string, JSON   as it is, but for the two replacements
//   integer        decimal
//   double         the shortest text that reads back the same; empty when not finite (as JSON-RPC's null)
//   bool           true, false
//   null           empty
void AppendLine(const Message& message, const LineFormat& format, std::string* out);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_FLATSTORE_FLAT_LINE_H_
