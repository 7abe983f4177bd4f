// docs/guarantees.md against the program.
#include "transports/all.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "transports/api/catalog.h"

namespace eventvirtual {
namespace {

const char* Words(AckLevel level) {
  switch (level) {
    case AckLevel::kHandedToKernel:
      return "handed to kernel";
    case AckLevel::kWritten:
      return "written";
    case AckLevel::kConfirmed:
      return "confirmed";
    case AckLevel::kDurable:
      return "durable";
  }
  return "";
}

// Below each heading "## scheme, …": `an example` · ack level · attempt timeout.
TEST(GuaranteesTest, TheExamplesAreWhatTheProgramSays) {
  StreamListeners listeners;
  const Catalog catalog(AllTransports(listeners));
  std::set<std::string> examples;
  std::ifstream document("docs/guarantees.md");
  for (std::string line; std::getline(document, line);) {
    const std::vector<std::string> parts = absl::StrSplit(line, " · ");
    if (parts.size() != 3) continue;
    absl::string_view example = parts[0];
    ASSERT_TRUE(absl::ConsumePrefix(&example, "`") && absl::ConsumeSuffix(&example, "`")) << line;
    const absl::StatusOr<Destination> destination = catalog.Resolve(example);
    ASSERT_TRUE(destination.ok()) << line << ": " << destination.status();
    EXPECT_EQ(parts[1], Words(destination->target.ack_level)) << line;
    EXPECT_EQ(parts[2], absl::FormatDuration(destination->target.attempt_timeout)) << line;
    for (absl::string_view scheme : destination->transport->schemes()) examples.emplace(scheme);
  }
  for (const auto& transport : catalog.transports()) {
    for (absl::string_view scheme : transport->schemes()) EXPECT_EQ(examples.count(std::string(scheme)), 1u) << scheme;
  }
}

// What ListTransports shows can be written as it is shown.
TEST(AllTransports, DescribeThemselves) {
  std::set<std::string> schemes;
  StreamListeners listeners;
  for (const auto& transport : AllTransports(listeners)) {
    EXPECT_NE(transport->description(), "");
    for (absl::string_view scheme : transport->schemes()) {
      EXPECT_TRUE(schemes.emplace(scheme).second) << scheme;
    }
    const absl::string_view first = transport->schemes().front();
    EXPECT_EQ(transport->syntax().substr(0, first.size()), first);
  }
}

}  // namespace
}  // namespace eventvirtual
