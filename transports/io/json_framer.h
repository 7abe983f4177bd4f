// JsonFramer: finds whole JSON objects in a stream of bytes that is cut anywhere.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_JSON_FRAMER_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_JSON_FRAMER_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace eventvirtual {

// OpenSIPS writes JSON-RPC objects back to back with nothing between them. This finds where each ends, by its braces; a
// JSON parser must still say whether it is an object. Each byte is looked at once. Not thread-safe.
class JsonFramer {
 public:
  // An object of more than `max_bytes` ends the framing: memory stays bounded by that plus one Append().
  explicit JsonFramer(size_t max_bytes) : max_bytes_(max_bytes) {}

  void Append(absl::string_view bytes);

  // The next whole object, valid until the next Append(); nothing when more bytes are needed.
  // INVALID_ARGUMENT, for ever after: something else than '{' or white space between objects, or an object too large.
  absl::StatusOr<std::optional<absl::string_view>> Next();

  // Whether a part of an object has come.
  bool begun() const { return depth_ > 0; }

 private:
  absl::Status Break(absl::string_view why);  // INVALID_ARGUMENT from now on
  // Scans on from `*at` as long as it goes quickly, and gives the size of the object that ended there, or 0.
  size_t TakeBlocks(size_t* at, size_t end);

  const size_t max_bytes_;
  std::string buffer_;
  size_t start_ = 0;  // of the object that is being read
  size_t scan_ = 0;   // bytes before it have been looked at
  size_t depth_ = 0;  // of braces
  bool in_string_ = false;
  bool escaped_ = false;
  absl::Status broken_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_JSON_FRAMER_H_
