#include "server/journal/log_tail.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "transports/io/errno_text.h"

namespace eventvirtual {
namespace {

constexpr size_t kHeader = 32, kFrameHeader = 24;
constexpr uint32_t kMagic = 0x377f0682;  // the last bit: checksums of big-endian words
constexpr size_t kMinPage = 512, kMaxPage = 65536;

uint32_t Word(absl::string_view bytes, size_t index) {
  uint32_t word = 0;
  for (size_t i = 0; i < 4; ++i) word = word << 8 | static_cast<uint8_t>(bytes[4 * index + i]);
  return word;
}

struct Checksum {
  bool big_endian = false;
  uint32_t first = 0, second = 0;
  void Add(absl::string_view bytes) {
    for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
      first += Of(Word(bytes.substr(i), 0)) + second;
      second += Of(Word(bytes.substr(i), 1)) + first;
    }
  }
  uint32_t Of(uint32_t word) const { return big_endian ? word : __builtin_bswap32(word); }
};

}  // namespace

absl::StatusOr<size_t> UnreadableCommits(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) return 0;
    return absl::UnavailableError(ErrnoText(errno));
  }
  size_t commits = 0;
  std::string header(kHeader, '\0'), frame;
  ssize_t count = pread(fd, header.data(), kHeader, 0);
  if (count == static_cast<ssize_t>(kHeader)) {
    Checksum sum{(Word(header, 0) & 1) != 0};
    sum.Add(absl::string_view(header).substr(0, 24));
    bool readable =
        (Word(header, 0) | 1) == (kMagic | 1) && sum.first == Word(header, 6) && sum.second == Word(header, 7);
    size_t page = Word(header, 2);
    if (page < kMinPage || page > kMaxPage || (page & (page - 1)) != 0) page = 4096;  // damaged; ours have this size
    frame.resize(kFrameHeader + page);
    uint32_t salt[2] = {Word(header, 4), Word(header, 5)};
    for (off_t at = kHeader; (count = pread(fd, frame.data(), frame.size(), at)) == static_cast<ssize_t>(frame.size());
         at += count) {
      if (at == kHeader && !readable) {  // those of the frames
        salt[0] = Word(frame, 2);
        salt[1] = Word(frame, 3);
      }
      sum.Add(absl::string_view(frame).substr(0, 8));
      sum.Add(absl::string_view(frame).substr(kFrameHeader));
      const bool of_this_log = Word(frame, 2) == salt[0] && Word(frame, 3) == salt[1];
      readable = readable && of_this_log && sum.first == Word(frame, 4) && sum.second == Word(frame, 5);
      commits += !readable && of_this_log && Word(frame, 1) != 0;
    }
  }
  const int error = count < 0 ? errno : 0;
  close(fd);
  if (error != 0) return absl::UnavailableError(ErrnoText(error));
  return commits;
}

}  // namespace eventvirtual
