// EventReader: the events of a RaiseStreamRequest, read where they stand.
#ifndef EVENTVIRTUAL_SERVER_RPC_EVENT_READER_H_
#define EVENTVIRTUAL_SERVER_RPC_EVENT_READER_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "transports/api/message.h"

namespace eventvirtual {

// An event as it stands in a request. Nothing is checked but that it is well-formed and that its text is UTF-8.
struct WireEvent {
  absl::string_view name, event_id, source;
  absl::Span<const Param> params;
  absl::Span<const std::pair<absl::string_view, absl::string_view>> attributes;  // no name twice
  bool has_time = false;
  int64_t seconds = 0;  // of event_time
  int32_t nanos = 0;
};

// A RaiseStreamRequest whose events are still to be read.
struct WireBatch {
  uint64_t sequence = 0;
  int wait = 0;                           // v1::Wait, or a number that is none
  std::vector<absl::string_view> events;  // each a v1::Event, encoded
};

// Why this is not left to protobuf's own classes: they allocate and copy each event, its parameters and their text,
// only for a Message to copy them again, a third of what RaiseStream took (docs/decisions/0031-event-reader.md). Both
// take the same bytes, which tests/server/rpc holds against each other: fields in any order, unknown ones, a field that
// comes twice.

// INVALID_ARGUMENT: the request itself is broken. *batch points into `bytes`; its memory is used again.
absl::Status ReadBatch(absl::string_view bytes, WireBatch* batch);

class EventReader {
 public:
  // INVALID_ARGUMENT names the field. *event points into `bytes`, and to this until the next Read().
  absl::Status Read(absl::string_view bytes, WireEvent* event);

 private:
  std::vector<Param> params_;
  std::vector<std::pair<absl::string_view, absl::string_view>> attributes_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_EVENT_READER_H_
