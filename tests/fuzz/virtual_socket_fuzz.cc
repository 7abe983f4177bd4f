// A virtual socket that is understood prints as what was understood; one that is refused says why, in few words.
#include <simdjson.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_replace.h"
#include "server/registry/virtual_socket.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxError = 256;

bool IsUtf8(absl::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

std::string WithoutBlanks(absl::string_view text) { return absl::StrReplaceAll(text, {{" ", ""}, {"\t", ""}}); }

void CheckSocket(absl::string_view text) {
  const absl::StatusOr<VirtualSocket> socket = ParseVirtualSocket(text);
  if (!socket.ok()) {
    const absl::string_view error = socket.status().message();
    EV_CHECK(absl::IsInvalidArgument(socket.status()));
    EV_CHECK(!error.empty() && error.size() <= kMaxError);
    EV_CHECK(IsUtf8(error) || !IsUtf8(text));
    return;
  }
  EV_CHECK(!socket->subscribers.empty());
  EV_CHECK(!socket->plain || (socket->subscribers.size() == 1 && socket->policy == Policy::kParallel));

  const std::string printed = FormatVirtualSocket(socket->policy, socket->plain, socket->subscribers);
  EV_CHECK(WithoutBlanks(printed) == WithoutBlanks(text));
  const absl::StatusOr<VirtualSocket> again = ParseVirtualSocket(printed);
  EV_CHECK(again.ok());
  EV_CHECK(again->policy == socket->policy);
  EV_CHECK(again->plain == socket->plain);
  EV_CHECK(again->subscribers == socket->subscribers);
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  eventvirtual::CheckSocket(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
