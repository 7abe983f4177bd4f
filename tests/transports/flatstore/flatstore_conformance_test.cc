#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/transports/flatstore/flat_directory.h"
#include "transports/flatstore/flat_line.h"
#include "transports/flatstore/flatstore_transport.h"
#include "transports/testing/conformance.h"

namespace eventvirtual {
namespace {

// A folder that is there or not, and whoever reads the file in it. A disk that hangs is flatstore_transport_test's.
class FilePeer final : public ConformancePeer {
 public:
  explicit FilePeer(const std::string& options) : options_(options) { Start(); }

  Transport& transport() override { return *transport_; }
  std::string uri() const override { return "flatstore:" + directory_.Path("folder/file") + options_; }
  void Start() override { std::filesystem::create_directory(directory_.Path("folder")); }
  void Stop() override {
    std::error_code error;
    do {  // until a write that is under way has not made its file anew
      std::filesystem::remove_all(directory_.Path("folder"), error);
    } while (std::filesystem::exists(directory_.Path("folder")));
    read_ = 0;
  }
  Stalled stalled() const override { return Stalled::kNever; }
  std::optional<std::string> Receive(absl::Duration patience) override {
    const absl::Time give_up = absl::Now() + patience;
    do {
      std::ifstream file(directory_.Path("folder/file"), std::ios::binary);
      file.seekg(read_);
      std::string line;
      if (!std::getline(file, line) || file.eof()) continue;  // without its newline it is not finished
      read_ += line.size() + 1;
      return line + "\n";
    } while (absl::Now() < give_up);
    return std::nullopt;
  }
  std::string TextOf(const Message& message) const override {
    std::string line;
    AppendLine(message, {}, &line);
    return line;
  }

 private:
  const std::string options_;
  const FlatDirectory directory_;
  const std::unique_ptr<Transport> transport_ = MakeFlatstoreTransport();
  std::streamoff read_ = 0;
};

class FlatstoreConformance : public testing::TestWithParam<ConformanceCase> {};

TEST_P(FlatstoreConformance, Holds) {
  FilePeer peer("?timeout=2s");
  GetParam().run(peer);
}

TEST_P(FlatstoreConformance, HoldsWithSync) {
  FilePeer peer("?sync=1");
  GetParam().run(peer);
}

INSTANTIATE_TEST_SUITE_P(Flatstore, FlatstoreConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

}  // namespace
}  // namespace eventvirtual
