// Completion of evctl's command line by a shell, made of the same texts as its help.
#ifndef EVENTVIRTUAL_CLIENT_COMPLETION_H_
#define EVENTVIRTUAL_CLIENT_COMPLETION_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace eventvirtual {

// The flags that a help text explains, one per line: "--ttl=" of "  --ttl=1h   time to live", "--canary" of "  --canary
// …".
std::vector<std::string> FlagsIn(absl::string_view help);

// A script for bash. `commands`: the name of each, and its flags; `common`: those of all.
std::string BashCompletion(const std::vector<std::pair<std::string, std::vector<std::string>>>& commands,
                           const std::vector<std::string>& common);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_CLIENT_COMPLETION_H_
