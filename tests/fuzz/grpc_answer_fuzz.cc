// Whatever headers a server sends, an answer is a success exactly if its grpc-status is 0, and what is shown of it is
// printable and short.
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "transports/api/check.h"
#include "transports/grpc/grpc_answer.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxError = 1000;

// Lines of "name: value".
void CheckAnswer(absl::string_view text) {
  GrpcAnswer answer;
  std::string status;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::pair<absl::string_view, absl::string_view> header = absl::StrSplit(line, absl::MaxSplits(": ", 1));
    answer.Take(header.first, header.second);
    if (header.first == "grpc-status") status = std::string(header.second);
  }
  const absl::Status outcome = answer.Outcome();
  EV_CHECK(outcome.ok() == (status == "0"));
  EV_CHECK(outcome.message().size() <= kMaxError);
  for (char c : outcome.message()) EV_CHECK(absl::ascii_isprint(c));
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  eventvirtual::CheckAnswer(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
