#include "server/destinations/destinations.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace eventvirtual {

absl::StatusOr<std::shared_ptr<Destinations>> LoadDestinations(const std::string& path,
                                                               const std::vector<std::string>& directories,
                                                               const std::string& data_dir) {
  const auto parse = [path, directories,
                      data_dir](const std::vector<std::string>& contents) -> absl::StatusOr<DestinationPolicy> {
    const auto at = [](absl::string_view where, const absl::Status& status) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": ", status.message()));
    };
    absl::StatusOr<DestinationPolicy> policy =
        path.empty() ? DestinationPolicy::Default() : DestinationPolicy::Parse(contents[0]);
    if (!policy.ok()) return at(absl::StrCat("--destinations=", path), policy.status());
    for (const std::string& directory : directories) {
      if (absl::Status status = policy->AllowDirectory(directory); !status.ok()) return at("--allow_directory", status);
    }
    if (absl::StartsWith(data_dir, "/")) {
      if (absl::Status status = policy->AllowDirectory(data_dir); !status.ok()) return at("--data_dir", status);
    }
    return policy;
  };
  return Destinations::Load("destinations", {{"--destinations", path}}, parse);
}

}  // namespace eventvirtual
