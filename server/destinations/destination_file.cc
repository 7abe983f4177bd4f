#include "server/destinations/destination_file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "server/log/log.h"
#include "transports/io/destination_gate.h"
#include "transports/io/destination_policy.h"
#include "transports/io/errno_text.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxFile = 1 << 20;

}  // namespace

DestinationFile::DestinationFile(std::string path, std::vector<std::string> directories, std::string data_dir)
    : path_(std::move(path)), directories_(std::move(directories)), data_dir_(std::move(data_dir)) {}

DestinationFile::~DestinationFile() { SetDestinationPolicy(nullptr); }

absl::StatusOr<std::unique_ptr<DestinationFile>> DestinationFile::Load(const std::string& path,
                                                                       const std::vector<std::string>& directories,
                                                                       const std::string& data_dir) {
  auto file = absl::WrapUnique(new DestinationFile(path, directories, data_dir));
  absl::StatusOr<std::string> text = file->Read();
  if (!text.ok()) return text.status();
  if (absl::Status status = file->Apply(*text); !status.ok()) return status;
  file->seen_ = file->decided_ = *std::move(text);
  return file;
}

std::vector<std::string> DestinationFile::DirectoriesOf(const std::string& path,
                                                        const std::vector<std::string>& directories) {
  std::vector<std::string> all = directories;
  const absl::StatusOr<std::string> text = DestinationFile(path, {}, "").Read();
  const auto policy = DestinationPolicy::Parse(text.ok() ? *text : "");
  if (policy.ok()) all.insert(all.end(), policy->directories().begin(), policy->directories().end());
  return all;
}

absl::StatusOr<std::string> DestinationFile::Read() const {
  if (path_.empty()) return "";
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return absl::UnavailableError(absl::StrCat(path_, ": ", ErrnoText(errno)));
  std::string text(kMaxFile + 1, '\0');
  size_t size = 0;
  ssize_t got = 1;
  while (got > 0 && size < text.size()) {
    got = read(fd, &text[size], text.size() - size);
    if (got > 0) size += static_cast<size_t>(got);
  }
  const int error = errno;
  close(fd);
  if (got < 0) return absl::UnavailableError(absl::StrCat(path_, ": ", ErrnoText(error)));
  if (size > kMaxFile) return absl::InvalidArgumentError(absl::StrCat(path_, ": more than ", kMaxFile, " bytes"));
  text.resize(size);
  return text;
}

absl::Status DestinationFile::Apply(const std::string& text) {
  absl::StatusOr<DestinationPolicy> policy =
      path_.empty() ? DestinationPolicy::Default() : DestinationPolicy::Parse(text);
  if (!policy.ok()) return absl::InvalidArgumentError(absl::StrCat(path_, ": ", policy.status().message()));
  for (const std::string& directory : directories_) {
    if (absl::Status status = policy->AllowDirectory(directory); !status.ok()) return status;
  }
  // One that is relative is for the journal alone.
  if (!data_dir_.empty() && data_dir_[0] == '/') {
    if (absl::Status status = policy->AllowDirectory(data_dir_); !status.ok()) return status;
  }
  SetDestinationPolicy(std::make_shared<const DestinationPolicy>(*std::move(policy)), data_dir_);
  return absl::OkStatus();
}

void DestinationFile::Refresh(bool at_once) {
  if (path_.empty()) return;
  const absl::StatusOr<std::string> text = Read();
  std::string found = text.ok() ? *text : std::string(text.status().message());
  const bool same = found == seen_;
  seen_ = std::move(found);
  if (seen_ == decided_ || !(same || at_once)) return;
  decided_ = seen_;
  const absl::Status applied = text.ok() ? Apply(*text) : text.status();
  if (applied.ok()) {
    Log(LogLevel::kInfo, "destinations reloaded", {{"file", path_}});
  } else {
    Log(LogLevel::kError, "destinations cannot be reloaded: those of before stay", {{"error", applied.message()}});
  }
}

}  // namespace eventvirtual
