// Of a write-ahead log that is cut or has a bit that is not as it was written, just the commits are counted that SQLite
// cannot read any more: those in the first damaged frame and behind it. Of whatever else stands in such a file, no more
// than it has frames.
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/journal/log_tail.h"
#include "tests/fuzz/choices.h"
#include "tests/transports/io/temporary_folder.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

constexpr size_t kHeader = 32, kFrameHeader = 24;
constexpr size_t kPage = 512;  // the least
constexpr size_t kMaxFrames = 10;

void Append(uint32_t number, std::string* out) {
  for (int shift = 24; shift >= 0; shift -= 8) out->push_back(static_cast<char>(number >> shift));
}

// As https://www.sqlite.org/fileformat2.html#checksum_algorithm has it.
struct Sum {
  bool big_endian;
  uint32_t s0 = 0, s1 = 0;
  void Add(absl::string_view bytes) {
    for (size_t i = 0; i < bytes.size(); i += 8) {
      uint32_t word[2] = {};
      for (size_t k = 0; k < 8; ++k) {
        const size_t place = big_endian ? 3 - k % 4 : k % 4;
        word[k / 4] |= uint32_t{static_cast<unsigned char>(bytes[i + k])} << 8 * place;
      }
      s0 += word[0] + s1;
      s1 += word[1] + s0;
    }
  }
};

struct Log {
  std::string bytes;
  std::vector<bool> commits;  // of each frame
};

Log WriteLog(Choices& choices) {
  Log log;
  Sum sum{choices.Byte() % 2 != 0};
  Append(sum.big_endian ? 0x377f0683 : 0x377f0682, &log.bytes);
  Append(3007000, &log.bytes);
  Append(kPage, &log.bytes);
  Append(0, &log.bytes);
  const uint32_t salt = choices.Byte();
  Append(salt, &log.bytes);
  Append(~salt, &log.bytes);
  sum.Add(log.bytes);
  Append(sum.s0, &log.bytes);
  Append(sum.s1, &log.bytes);
  const size_t frames = choices.Below(kMaxFrames + 1);
  for (size_t i = 0; i < frames; ++i) {
    const uint8_t choice = choices.Byte();
    log.commits.push_back(choice % 2 != 0);
    std::string head;
    Append(choice, &head);
    Append(log.commits.back() ? 1 + choice : 0, &head);
    const std::string page(kPage, static_cast<char>(choices.Byte()));
    sum.Add(head);
    sum.Add(page);
    Append(salt, &head);
    Append(~salt, &head);
    Append(sum.s0, &head);
    Append(sum.s1, &head);
    log.bytes += head + page;
  }
  return log;
}

size_t CountedIn(const std::string& bytes) {
  static const TemporaryFolder folder;
  const std::string path = folder / "log";
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  const absl::StatusOr<size_t> counted = UnreadableCommits(path);
  EV_CHECK(counted.ok());
  return *counted;
}

void CheckDamage(Choices choices) {
  const Log log = WriteLog(choices);
  EV_CHECK(CountedIn(log.bytes) == 0);
  std::string damaged = log.bytes;
  // One bit alone: of several, the sums may be right again.
  const size_t bit = choices.Below(8 * damaged.size());
  damaged[bit / 8] ^= static_cast<char>(1 << bit % 8);
  // One that is cut is read up to its last whole frame, and tells of no loss that nobody was told of.
  const size_t size = damaged.size() - (choices.Byte() % 4 == 0 ? choices.Below(damaged.size()) : 0);
  damaged.resize(size);
  const size_t frames = size < kHeader ? 0 : (size - kHeader) / (kFrameHeader + kPage);
  if (bit / 8 >= 8 && bit / 8 < 12) {  // the size of the pages: no frame is where it was
    EV_CHECK(CountedIn(damaged) <= log.commits.size());
    return;
  }
  const size_t first = bit / 8 < kHeader ? 0 : (bit / 8 - kHeader) / (kFrameHeader + kPage);
  size_t expected = 0;
  for (size_t i = first; i < frames; ++i) expected += log.commits[i];
  if (bit / 8 >= kHeader && first < frames) {
    const size_t at = (bit / 8 - kHeader) % (kFrameHeader + kPage);
    if (at >= 4 && at < 8) {  // whether it is a commit
      const std::string word = damaged.substr(kHeader + first * (kFrameHeader + kPage) + 4, 4);
      expected += (word != std::string(4, '\0')) - log.commits[first];
    } else if (at >= 8 && at < 16) {  // of another log, as it seems
      expected -= log.commits[first];
    }
  }
  EV_CHECK(CountedIn(damaged) == expected);
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace eventvirtual;  // NOLINT: this is the property
  CheckDamage(Choices(data, size));
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  EV_CHECK(CountedIn(bytes) <= size / (kFrameHeader + kPage));
  return 0;
}
