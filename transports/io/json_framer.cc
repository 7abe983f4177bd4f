#include "transports/io/json_framer.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace eventvirtual {
namespace {

// The bytes that mean something inside a string and outside of one; runs of others are passed over.
struct Marks {
  bool inside[256] = {};
  bool outside[256] = {};
  constexpr Marks() {
    inside['"'] = inside['\\'] = true;
    outside['"'] = outside['{'] = outside['}'] = true;
  }
};
constexpr Marks kMarks;

#ifdef __SSE2__
// Which of 64 bytes are `byte`: a bit for each.
uint64_t Equal(const __m128i* bytes, char byte) {
  const __m128i wanted = _mm_set1_epi8(byte);
  uint64_t bits = 0;
  for (int i = 0; i < 4; ++i) {
    const int sixteen = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128(bytes + i), wanted));
    bits |= uint64_t{static_cast<uint16_t>(sixteen)} << (16 * i);
  }
  return bits;
}
#endif

bool IsSpace(char byte) { return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n'; }

}  // namespace

void JsonFramer::Append(absl::string_view bytes) {
  if (!broken_.ok()) return;
  buffer_.erase(0, start_);
  scan_ -= start_;
  start_ = 0;
  buffer_.append(bytes.data(), bytes.size());
}

absl::Status JsonFramer::Break(absl::string_view why) {
  broken_ = absl::InvalidArgumentError(why);
  buffer_.clear();
  return broken_;
}

// 64 bytes at a time, as simdjson finds its structure: the strings are where the number of quotes so far is odd, and
// only braces outside of them count. A block with a backslash is left to the loop that looks at each byte. An event of
// 121 bytes takes 600 instructions so; it took 1150.
size_t JsonFramer::TakeBlocks([[maybe_unused]] size_t* at, [[maybe_unused]] size_t end) {
#ifdef __SSE2__
  for (; !escaped_ && end - *at >= 64; *at += 64) {
    const auto* const block = reinterpret_cast<const __m128i*>(buffer_.data() + *at);
    if (Equal(block, '\\') != 0) return 0;
    uint64_t inside = Equal(block, '"');
    for (int shift = 1; shift < 64; shift *= 2) inside ^= inside << shift;
    if (in_string_) inside = ~inside;
    const uint64_t open = Equal(block, '{') & ~inside;
    for (uint64_t braces = open | (Equal(block, '}') & ~inside); braces != 0; braces &= braces - 1) {
      const int bit = std::countr_zero(braces);
      if (open >> bit & 1) {
        ++depth_;
      } else if (--depth_ == 0) {
        in_string_ = false;
        const size_t start = start_;
        start_ = scan_ = *at + static_cast<size_t>(bit) + 1;
        return start_ - start;
      }
    }
    in_string_ = inside >> 63 != 0;
  }
#endif
  return 0;
}

absl::StatusOr<std::optional<absl::string_view>> JsonFramer::Next() {
  if (!broken_.ok()) return broken_;
  if (depth_ == 0) {
    while (scan_ < buffer_.size() && IsSpace(buffer_[scan_])) ++scan_;
    start_ = scan_;
    if (scan_ == buffer_.size()) return std::optional<absl::string_view>();
    if (buffer_[scan_] != '{') {
      return Break("a JSON object must begin with '{'; the stream cannot be read any further");
    }
    ++scan_;
    depth_ = 1;
  }
  // No byte beyond the largest object is looked at: that there is one is enough.
  const size_t end = std::min(buffer_.size(), start_ + max_bytes_);
  const char* const bytes = buffer_.data();
  size_t at = scan_;
  for (; at < end; ++at) {
    if (const size_t size = TakeBlocks(&at, end); size > 0) return absl::string_view(bytes + start_ - size, size);
    if (at == end) break;
    if (escaped_) {
      escaped_ = false;
      continue;
    }
    const bool* const marks = in_string_ ? kMarks.inside : kMarks.outside;
    while (at < end && !marks[static_cast<unsigned char>(bytes[at])]) ++at;
    if (at == end) break;
    if (bytes[at] == '"') {
      in_string_ = !in_string_;
    } else if (bytes[at] == '\\') {
      escaped_ = true;
    } else if (bytes[at] == '{') {
      ++depth_;
    } else if (--depth_ == 0) {
      const size_t start = start_;
      start_ = scan_ = at + 1;
      return absl::string_view(bytes + start, start_ - start);
    }
  }
  scan_ = at;
  if (end < buffer_.size()) return Break(absl::StrCat("a JSON object of more than ", max_bytes_, " bytes"));
  return std::optional<absl::string_view>();
}

}  // namespace eventvirtual
