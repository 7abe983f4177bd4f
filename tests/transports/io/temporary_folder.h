// TemporaryFolder: where a test keeps its files.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_IO_TEMPORARY_FOLDER_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_IO_TEMPORARY_FOLDER_H_

#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "gtest/gtest.h"

namespace eventvirtual {

// A folder under /tmp that goes with this object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    char name[] = "/tmp/evXXXXXX";
    EXPECT_NE(mkdtemp(name), nullptr);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_IO_TEMPORARY_FOLDER_H_
