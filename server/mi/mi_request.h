// One request of OpenSIPS' management interface, taken apart: JSON-RPC 2.0 with the leniences of that interface.
#ifndef EVENTVIRTUAL_SERVER_MI_MI_REQUEST_H_
#define EVENTVIRTUAL_SERVER_MI_MI_REQUEST_H_

#include <simdjson.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "server/limits/limits.h"

namespace eventvirtual {

// The member "error" of an answer, with OpenSIPS' codes and words.
struct MiError {
  int code = 0;  // 0: none
  absl::string_view message;
  std::string data;  // "": there is no such member
};

struct MiRequest {
  std::string id;  // as JSON: "7", "\"a\"", "null"; "": a notification, which gets an answer only if it is no request
  MiError error;   // -32700 no JSON; -32600 no request, a batch among them
  absl::string_view method;
  std::optional<simdjson::dom::element> params;  // an array or an object with something in it
  int hops = 0;                                  // of an event that is raised (hops.h): the member "eventhops"
};

// Keeps its buffers from one request to the next: what a request holds lives until the next Parse(). Not thread-safe.
class MiRequestParser {
 public:
  // `depth`: EventLimits::depth, of what raise_event is given.
  explicit MiRequestParser(size_t depth = EventLimits().depth);

  MiRequest Parse(absl::string_view text);

 private:
  const size_t depth_;
  simdjson::dom::parser parser_;
};

// The parameters of a command in their order; the first `required` of them must be given, the others may follow.
struct MiSignature {
  std::array<absl::string_view, 3> names;
  size_t required = 0;
  size_t count = 0;
};

// The values given for a signature, by position.
using MiArguments = std::array<std::optional<simdjson::dom::element>, 3>;

// Positional parameters are told by their number alone, named ones must be exactly those of the first names. -32602.
MiError MatchParams(const MiRequest& request, const MiSignature& signature, MiArguments* arguments);

// -32602: this parameter has no value of its type.
MiError BadType(absl::string_view name);

// A string, or an integer, which does for one. Nothing: another type.
std::optional<std::string> TextOf(simdjson::dom::element value);
// A 32-bit integer, or a string that holds one: opensips-cli sends nothing else. Nothing: another type or a larger one.
std::optional<int32_t> IntegerOf(simdjson::dom::element value);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_MI_MI_REQUEST_H_
