// Runs a fuzz target over its committed corpus, one test case per file: corpus_test FOLDER. An input that breaks a
// property ends the process, so the last case that was begun names it. A corpus without files is a failure.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

class Input : public ::testing::Test {
 public:
  explicit Input(std::filesystem::path path) : path_(std::move(path)) {}

  void TestBody() override {
    std::ifstream file(path_, std::ios::binary);
    ASSERT_TRUE(file.is_open()) << path_;
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};  // never null, not even when empty
    ASSERT_FALSE(file.bad()) << path_;
    EXPECT_EQ(LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()), 0);
  }

 private:
  const std::filesystem::path path_;
};

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
    return 2;
  }
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(argv[1], error), end; !error && entry != end; entry.increment(error)) {
    if (entry->is_regular_file()) paths.push_back(entry->path());
  }
  if (error || paths.empty()) {
    std::fprintf(stderr, "%s: no corpus: %s\n", argv[1], error ? error.message().c_str() : "the folder has no files");
    return 1;
  }
  std::sort(paths.begin(), paths.end());
  for (const std::filesystem::path& path : paths) {
    const std::string name = path.filename().string();
    ::testing::RegisterTest("Corpus", name.c_str(), nullptr, nullptr, path.c_str(), 1,
                            [path]() -> Input* { return new Input(path); });
  }
  return RUN_ALL_TESTS();
}
