// A filter that is understood is written as one that means the same; one that is refused says where and why.
#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "server/registry/filter.h"
#include "transports/api/check.h"
#include "transports/api/message.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxError = 256;

// The first half of the input is a filter, the second a parameter's value: of patterns, most of what matters is where
// they meet a text.
void CheckFilter(absl::string_view input) {
  const size_t middle = std::min(input.find('\n'), input.size());
  const absl::string_view value = input.substr(std::min(middle + 1, input.size()));
  const Param params[] = {{"a", value}, {"n", int64_t{42}}, {"", 1.5}, {"j", Json{"[1,2]"}}};
  EventFields fields;
  fields.name = "E";
  fields.params = params;
  const MessageRef message = Message::Make(fields);
  const absl::StatusOr<Filter> filter = Filter::Parse(input.substr(0, middle));
  if (!filter.ok()) {
    const absl::string_view error = filter.status().message();
    EV_CHECK(absl::IsInvalidArgument(filter.status()));
    EV_CHECK(!error.empty() && error.size() <= kMaxError);
    EV_CHECK(absl::StartsWith(error, "position ") || absl::StartsWith(error, "the filter has "));
    return;
  }
  const absl::StatusOr<Filter> again = Filter::Parse(filter->text());
  EV_CHECK(again.ok());
  EV_CHECK(again->text() == filter->text());
  EV_CHECK(again->Matches(*message) == filter->Matches(*message));
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  eventvirtual::CheckFilter(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
