#include "transports/io/json_framer.h"

#include <algorithm>

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
