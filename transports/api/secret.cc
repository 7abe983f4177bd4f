#include "transports/api/secret.h"

#include <string.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxName = 255;  // of a file

// All that the string has, also what stands behind its end or is left of a text that was moved away.
void WipeText(std::string* text) {
  text->resize(text->capacity());
  explicit_bzero(text->data(), text->size());
  text->clear();
}

}  // namespace

Secret::Secret(std::string&& text) : text_(std::move(text)) { WipeText(&text); }

Secret::Secret(std::vector<std::string> pieces, Secret text) : pieces_(std::move(pieces)) {
  EV_CHECK(pieces_.size() % 2 == 1);
  text_ = std::move(text.text_);
}

// A short string is copied where it seems to be moved, and would be left behind.
Secret::Secret(Secret&& other) noexcept : text_(std::move(other.text_)), pieces_(std::move(other.pieces_)) {
  WipeText(&other.text_);
}

Secret& Secret::operator=(Secret other) noexcept {
  Wipe();
  text_ = std::move(other.text_);
  pieces_ = std::move(other.pieces_);
  return *this;
}

void Secret::Wipe() {
  WipeText(&text_);
  for (std::string& piece : pieces_) WipeText(&piece);
}

std::vector<absl::string_view> Secret::names() const {
  std::vector<absl::string_view> names;
  for (size_t i = 1; i < pieces_.size(); i += 2) names.push_back(pieces_[i]);
  return names;
}

std::string Secret::Written(bool masked, absl::FunctionRef<std::string(absl::string_view)> encode) const {
  if (pieces_.empty()) return masked ? "***" : encode(text_);
  std::string written;
  for (size_t i = 0; i < pieces_.size(); ++i) {
    if (i % 2 == 1) {
      written += SecretReference(pieces_[i]);
    } else if (!pieces_[i].empty()) {
      written += masked ? "***" : encode(pieces_[i]);
    }
  }
  return written;
}

bool operator==(const Secret& one, const Secret& other) {
  if (one.text_.size() != other.text_.size() || one.pieces_ != other.pieces_) return false;
  volatile unsigned char difference = 0;  // volatile: no compiler may stop at the first
  for (size_t i = 0; i < one.text_.size(); ++i) {
    difference = difference | static_cast<unsigned char>(one.text_[i] ^ other.text_[i]);
  }
  return difference == 0;
}

bool IsSecretName(absl::string_view name) {
  const auto is_good = [](unsigned char c) { return absl::ascii_isalnum(c) || c == '_' || c == '.' || c == '-'; };
  return !name.empty() && name.size() <= kMaxName && name != "." && !absl::StrContains(name, "..") &&
         std::all_of(name.begin(), name.end(), is_good);
}

std::string SecretReference(absl::string_view name) { return absl::StrCat(kSecretBegin, name, "}"); }

}  // namespace eventvirtual
