#include "transports/api/trace_context.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"

namespace eventvirtual {
namespace {

constexpr size_t kTraceparentSize = 55;  // 00-<32 digits>-<16 digits>-<2 digits>
constexpr size_t kMaxMembers = 32;
constexpr size_t kMaxMemberPart = 256;  // of a key, or of a value

bool IsLowerHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f'); });
}

bool IsZero(absl::string_view digits) { return digits.find_first_not_of('0') == absl::string_view::npos; }

bool IsPrintable(absl::string_view text) { return std::all_of(text.begin(), text.end(), absl::ascii_isprint); }

bool IsMember(absl::string_view member) {
  const size_t equals = member.find('=');
  if (equals == absl::string_view::npos) return false;
  const absl::string_view key = member.substr(0, equals), value = member.substr(equals + 1);
  if (key.empty() || key.size() > kMaxMemberPart || value.empty() || value.size() > kMaxMemberPart) return false;
  const auto in_key = [](char c) {
    return absl::ascii_islower(c) || absl::ascii_isdigit(c) || absl::StrContains("_-*/@", c);
  };
  return absl::ascii_isalnum(key[0]) && std::all_of(key.begin(), key.end(), in_key) && IsPrintable(value) &&
         !absl::StrContains(value, '=');
}

}  // namespace

bool IsTraceparent(absl::string_view text) {
  if (text.size() < kTraceparentSize || text.size() > kMaxTraceHeader) return false;
  if (text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
  const absl::string_view version = text.substr(0, 2), trace = text.substr(3, 32), parent = text.substr(36, 16);
  if (!IsLowerHex(version) || !IsLowerHex(trace) || !IsLowerHex(parent) || !IsLowerHex(text.substr(53, 2)))
    return false;
  if (version == "ff" || IsZero(trace) || IsZero(parent)) return false;
  if (text.size() == kTraceparentSize) return true;
  return version != "00" && text[kTraceparentSize] == '-' && IsPrintable(text);
}

bool IsTracestate(absl::string_view text) {
  if (text.size() > kMaxTraceHeader) return false;
  size_t members = 0;
  for (absl::string_view member : absl::StrSplit(text, ',')) {
    member = absl::StripAsciiWhitespace(member);
    if (member.empty()) continue;  // allowed between two commas
    if (++members > kMaxMembers || !IsMember(member)) return false;
  }
  return members > 0;
}

absl::string_view TraceparentOf(const Message& message) {
  for (const auto& [name, value] : message.attributes()) {
    if (name == kTraceparent) return value;
  }
  return "";
}

}  // namespace eventvirtual
