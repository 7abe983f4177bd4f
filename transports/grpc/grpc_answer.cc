#include "transports/grpc/grpc_answer.h"

#include <nghttp2/nghttp2.h>

#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "transports/api/uri.h"
#include "transports/io/printable.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxShown = 200;  // bytes of what a server says
constexpr size_t kMaxKept = 8192;  // of the same, percent-encoded
constexpr absl::string_view kMayHaveArrived = "; the event may have arrived";

// What the code adds to the words of the server: what to do about it, or what is not known.
absl::string_view Hint(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
      return "; it does not take this event";
    case absl::StatusCode::kUnimplemented:
      return "; it has no service eventvirtual.v1.Receiver";
    case absl::StatusCode::kUnauthenticated:
      return "; token=TOKEN, or cert=/path and key=/path, say who we are";
    // By these a handler that broke in the middle, a proxy or a library may be speaking (gRPC, "Status codes").
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDataLoss:
      return kMayHaveArrived;
    default:
      return "";
  }
}

// gRPC, "HTTP to gRPC status code mapping": for answers that are not of a gRPC server.
absl::StatusCode CodeOfHttp(int status) {
  switch (status) {
    case 401:
      return absl::StatusCode::kUnauthenticated;
    case 403:
      return absl::StatusCode::kPermissionDenied;
    case 404:
      return absl::StatusCode::kUnimplemented;
    default:
      return absl::StatusCode::kUnavailable;
  }
}

}  // namespace

void GrpcAnswer::Take(absl::string_view name, absl::string_view value) {
  if (name == ":status") {
    if (!absl::SimpleAtoi(value, &http_status_)) http_status_ = 0;
  } else if (name == "grpc-status") {
    grpc_status_ = std::string(value.substr(0, kMaxShown));
  } else if (name == "grpc-message") {
    grpc_message_ = std::string(value.substr(0, kMaxKept));
  }
}

absl::Status GrpcAnswer::Outcome() const {
  if (grpc_status_.empty()) {
    const absl::StatusCode code = CodeOfHttp(http_status_);
    return absl::Status(code, absl::StrCat("HTTP status ", http_status_,
                                           " without a grpc-status: that is no answer of a gRPC server", Hint(code)));
  }
  int number = 0;
  if (grpc_status_ == "0") return absl::OkStatus();
  // absl's codes are gRPC's. What is none is UNKNOWN (gRPC, "Status codes").
  const bool known = absl::SimpleAtoi(grpc_status_, &number) && number >= 1 && number <= 16;
  const absl::StatusCode code = known ? static_cast<absl::StatusCode>(number) : absl::StatusCode::kUnknown;
  const std::optional<std::string> decoded = PercentDecode(grpc_message_);
  const std::string& message = decoded.has_value() ? *decoded : grpc_message_;
  return absl::Status(
      code, absl::StrCat("the receiver answered ", known ? absl::StatusCodeToString(code) : Printable(grpc_status_),
                         message.empty() ? "" : ": ", Printable(absl::string_view(message).substr(0, kMaxShown)),
                         Hint(code)));
}

// gRPC over HTTP/2, "Errors".
absl::Status ResetOutcome(uint32_t code) {
  const std::string what = absl::StrCat("the receiver broke the call off (", nghttp2_http2_strerror(code), ")");
  switch (code) {
    case NGHTTP2_REFUSED_STREAM:
      return absl::UnavailableError(absl::StrCat(what, " before it looked at it"));
    case NGHTTP2_CANCEL:  // what a server does when the call's time is over
      return absl::DeadlineExceededError(absl::StrCat(what, kMayHaveArrived));
    default:
      return absl::UnavailableError(absl::StrCat(what, kMayHaveArrived));
  }
}

}  // namespace eventvirtual
