// DestinationFile: keeps the policy of destinations as the file of --destinations says.
#ifndef EVENTVIRTUAL_SERVER_DESTINATIONS_DESTINATION_FILE_H_
#define EVENTVIRTUAL_SERVER_DESTINATIONS_DESTINATION_FILE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace eventvirtual {

// One thread. What it reads holds for the whole process (transports/io/destination_gate.h) until it is destroyed.
class DestinationFile {
 public:
  // Puts the policy of the file `path` in force; "": that without a file. `directories` and `data_dir`, unless that is
  // empty, are allowed besides. Blocks. INVALID_ARGUMENT names the line and its fault, or the directory; UNAVAILABLE:
  // the file cannot be read.
  static absl::StatusOr<std::unique_ptr<DestinationFile>> Load(const std::string& path,
                                                               const std::vector<std::string>& directories,
                                                               const std::string& data_dir);
  ~DestinationFile();

  // The directories that Load() would allow; of what it would refuse, as far as it can be read. Blocks.
  static std::vector<std::string> DirectoriesOf(const std::string& path, const std::vector<std::string>& directories);

  // Reads the file again and puts it in force if it says something else: at once, or unless `at_once` when it has been
  // the same twice in a row, so that one who is still writing it is left to finish. A file that cannot be read or
  // understood changes nothing. Either is logged, once. Blocks.
  void Refresh(bool at_once);

 private:
  DestinationFile(std::string path, std::vector<std::string> directories, std::string data_dir);
  absl::StatusOr<std::string> Read() const;
  absl::Status Apply(const std::string& text);

  const std::string path_;
  const std::vector<std::string> directories_;
  const std::string data_dir_;
  std::string seen_;     // what the last look has found: the text, or the fault
  std::string decided_;  // what was last put in force, or refused
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_DESTINATIONS_DESTINATION_FILE_H_
