#include "transports/io/json_framer.h"

#include "absl/strings/str_cat.h"

namespace eventvirtual {

void JsonFramer::Append(absl::string_view bytes) {
  if (!broken_.ok()) return;
  buffer_.erase(0, start_);
  scan_ -= start_;
  start_ = 0;
  buffer_.append(bytes.data(), bytes.size());
}

absl::StatusOr<std::optional<absl::string_view>> JsonFramer::Next() {
  if (!broken_.ok()) return broken_;
  for (; scan_ < buffer_.size(); ++scan_) {
    const char c = buffer_[scan_];
    if (depth_ == 0) {
      if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
        start_ = scan_ + 1;
        continue;
      }
      if (c != '{') {
        broken_ = absl::InvalidArgumentError("a JSON object must begin with '{'; the stream cannot be read any further");
        return broken_;
      }
      start_ = scan_;
      depth_ = 1;
    } else if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '{') {
      ++depth_;
    } else if (c == '}' && --depth_ == 0) {
      const size_t start = start_;
      start_ = ++scan_;
      return absl::string_view(buffer_).substr(start, start_ - start);
    }
    if (scan_ + 1 - start_ >= max_bytes_) {  // one more would be needed at least
      broken_ = absl::InvalidArgumentError(absl::StrCat("a JSON object of more than ", max_bytes_, " bytes"));
      buffer_.clear();
      return broken_;
    }
  }
  return std::optional<absl::string_view>();
}

}  // namespace eventvirtual
