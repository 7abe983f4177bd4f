// Destinations: where subscribers may be, as --destinations, --allow_directory and --data_dir say.
#ifndef EVENTVIRTUAL_SERVER_DESTINATIONS_DESTINATIONS_H_
#define EVENTVIRTUAL_SERVER_DESTINATIONS_DESTINATIONS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/files/reloaded.h"
#include "transports/io/destination_policy.h"

namespace eventvirtual {

using Destinations = Reloaded<DestinationPolicy>;

// The policy of the file `path`; "": that without a file. `directories` and `data_dir`, if that is absolute, are
// allowed besides: one that is relative is for the journal alone. Errors name the option, and of the file the line.
absl::StatusOr<std::shared_ptr<Destinations>> LoadDestinations(const std::string& path,
                                                               const std::vector<std::string>& directories,
                                                               const std::string& data_dir);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_DESTINATIONS_DESTINATIONS_H_
