#include "server/files/reloaded.h"

#include "server/log/log.h"
#include "transports/io/small_file.h"

namespace eventvirtual {

ReloadedFiles::ReloadedFiles(std::string name, std::vector<File> files)
    : name_(std::move(name)), files_(std::move(files)) {}

ReloadedFiles::Found ReloadedFiles::Read() const {
  Found found;
  for (const File& file : files_) {
    absl::StatusOr<std::string> content = file.path.empty() ? std::string() : ReadSmallFile(file.option, file.path);
    if (!content.ok()) return {{}, content.status()};
    found.contents.push_back(*std::move(content));
  }
  return found;
}

absl::Status ReloadedFiles::Decide() {
  decided_ = seen_;
  absl::Status status = decided_.fault.ok() ? Take(decided_.contents) : decided_.fault;
  failing_.store(!status.ok(), std::memory_order_relaxed);
  if (status.ok()) changes_.fetch_add(1, std::memory_order_relaxed);
  return status;
}

absl::Status ReloadedFiles::ReadFirst() {
  seen_ = Read();
  return Decide();
}

void ReloadedFiles::Look(bool at_once) {
  Found found = Read();
  const bool counts = at_once || found == seen_;
  seen_ = std::move(found);
  if (!counts || seen_ == decided_) return;
  const absl::Status status = Decide();
  if (status.ok()) {
    Log(LogLevel::kInfo, "read again", {{"files", name_}});
  } else {
    Log(LogLevel::kWarning, "what was read before stays in force", {{"files", name_}, {"error", status.message()}});
  }
}

}  // namespace eventvirtual
