// A policy of destinations that is understood allows an address if, and only if, a reference does that goes bit by bit;
// one that is refused says at which line and why. No spelling of a path leaves the directory that it is said to lie in.
#include <netinet/in.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/transports/io/destination_reference.h"
#include "transports/api/check.h"
#include "transports/io/destination_policy.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxError = 512;  // and what it repeats of the input

void CheckPath(const DestinationPolicy& policy, absl::string_view path) {
  const absl::StatusOr<DestinationPolicy::Place> place = policy.PlaceOf(path);
  EV_CHECK(place.ok() || absl::IsPermissionDenied(place.status()));
  if (!place.ok()) return;
  const std::string whole = absl::StrCat(place->directory, "/", place->file);
  EV_CHECK(!place->file.empty() && place->file[0] != '/');
  EV_CHECK(!absl::StrContains(absl::StrCat(whole, "/"), "/../") && !absl::StrContains(whole, "//"));
  const absl::StatusOr<DestinationPolicy::Place> again = policy.PlaceOf(whole);
  EV_CHECK(again.ok() && again->directory == place->directory && again->file == place->file);
}

// The first 19 bytes are a family, an address and a port; then a path up to a zero byte; then the file.
void CheckPolicy(absl::string_view input) {
  if (input.size() < 19) return;
  const absl::string_view rest = input.substr(19);
  const size_t middle = std::min(rest.find('\0'), rest.size());
  const std::string file(rest.substr(std::min(middle + 1, rest.size())));
  const absl::StatusOr<DestinationPolicy> policy = DestinationPolicy::Parse(file);
  if (!policy.ok()) {
    const absl::string_view error = policy.status().message();
    EV_CHECK(absl::IsInvalidArgument(policy.status()) && absl::StartsWith(error, "line "));
    EV_CHECK(error.size() <= file.size() + kMaxError);
    return;
  }
  CheckPath(*policy, rest.substr(0, middle));
  sockaddr_storage address = {};
  if (input[0] % 2 == 0) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(address);
    v4.sin_family = AF_INET;
    std::memcpy(&v4.sin_addr, input.data() + 1, 4);
    std::memcpy(&v4.sin_port, input.data() + 17, 2);
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(address);
    v6.sin6_family = AF_INET6;
    std::memcpy(&v6.sin6_addr, input.data() + 1, 16);
    std::memcpy(&v6.sin6_port, input.data() + 17, 2);
  }
  const auto& peer = reinterpret_cast<const sockaddr&>(address);
  const absl::Status status = policy->CheckAddress(peer);
  EV_CHECK(status.ok() || absl::IsPermissionDenied(status));
  EV_CHECK(status.ok() == DestinationReference(file).Allows(peer));
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  eventvirtual::CheckPolicy(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
