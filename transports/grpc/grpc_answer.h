// GrpcAnswer: what a gRPC server says to one call, and what it means to the event.
#ifndef EVENTVIRTUAL_TRANSPORTS_GRPC_GRPC_ANSWER_H_
#define EVENTVIRTUAL_TRANSPORTS_GRPC_GRPC_ANSWER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace eventvirtual {

// Collects the headers and trailers of one answer (gRPC over HTTP/2, "Responses"). The message is not looked at: a
// DeliverResponse is empty. Holds a few kilobytes, whatever comes.
class GrpcAnswer {
 public:
  void Take(absl::string_view name, absl::string_view value);

  // What the whole answer says. OK: grpc-status is 0. INVALID_ARGUMENT: the receiver will never take this event. Any
  // other code of gRPC means a failed attempt, and so does an answer without one, of a proxy or a web server.
  absl::Status Outcome() const;

 private:
  int http_status_ = 0;
  std::string grpc_status_;   // empty: none came
  std::string grpc_message_;  // as it came, percent-encoded
};

// What it means that the server ended a call before its answer was whole, with `code` of HTTP/2 (RFC 9113 section 7).
absl::Status ResetOutcome(uint32_t code);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_GRPC_GRPC_ANSWER_H_
