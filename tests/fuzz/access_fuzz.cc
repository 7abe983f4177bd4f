// A file of --access that is understood grants what a reference grants that goes letter by letter, in whatever order
// its lines stand; one that is refused says at which line. A file of --tokens gives each token its name, and what is
// wrong in it is not repeated: it may be a token.
#include <openssl/sha.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/access/access_list.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxError = 256;  // and what it repeats of the input
constexpr size_t kMaxLines = 64;
constexpr absl::string_view kTokenFault =
    ": write NAME and the SHA-256 of the token, 64 hexadecimal digits: printf %s TOKEN | sha256sum";

using Words = std::vector<std::string>;

std::vector<Words> WordsOf(const std::string& text) {
  std::vector<Words> lines(1);
  bool in_word = false, in_comment = false;
  for (char c : text) {
    if (c == '\n') {
      lines.emplace_back();
      in_word = in_comment = false;
    } else if (c == '#') {
      in_comment = true;
    } else if (in_comment) {
    } else if (c == ' ' || c == '\t' || c == '\r') {
      in_word = false;
    } else {
      if (!in_word) lines.back().emplace_back();
      in_word = true;
      lines.back().back().push_back(c);
    }
  }
  return lines;
}

bool IsWho(const std::string& who, const Caller& caller) {
  if (who == "loopback") return caller.way == Caller::Way::kLoopback;
  if (who == "unix") return caller.way == Caller::Way::kUnix;
  if (who.compare(0, 6, "token:") == 0) return !caller.token.empty() && who.substr(6) == caller.token;
  for (const std::string& name : caller.certificate) {
    if (who == "cert:*" || who.substr(5) == name) return true;
  }
  return false;
}

bool Covers(const std::string& pattern, const std::string& event) {
  if (pattern.back() != '*') return pattern == event;
  for (size_t i = 0; i + 1 < pattern.size(); ++i) {
    if (i >= event.size() || event[i] != pattern[i]) return false;
  }
  return true;
}

bool Grants(const std::vector<Words>& lines, const Caller& caller, const std::string& role, const std::string& event) {
  for (const Words& words : lines) {
    if (words.size() < 2 || !IsWho(words[0], caller)) continue;
    if (words[1] != role) continue;
    if (words.size() == 2) return true;
    for (size_t i = 2; i < words.size(); ++i) {
      if (Covers(words[i], event)) return true;
    }
  }
  return false;
}

void CheckError(const absl::Status& status, absl::string_view text) {
  EV_CHECK(absl::IsInvalidArgument(status));
  absl::string_view message = status.message();
  EV_CHECK(message.size() <= text.size() + kMaxError);
  EV_CHECK(absl::ConsumePrefix(&message, "line "));
  size_t line = 0;
  EV_CHECK(absl::SimpleAtoi(message.substr(0, message.find(':')), &line));
  EV_CHECK(line >= 1 && line <= 1 + static_cast<size_t>(std::count(text.begin(), text.end(), '\n')));
}

void CheckTokens(const std::string& text) {
  const absl::StatusOr<TokenList> tokens = TokenList::Parse(text);
  if (!tokens.ok()) {
    CheckError(tokens.status(), text);
    EV_CHECK(absl::EndsWith(tokens.status().message(), kTokenFault));
    EV_CHECK(tokens.status().message().size() <= kTokenFault.size() + 16);
    return;
  }
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash);
  const std::string hex = absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(hash), sizeof(hash)));
  const absl::StatusOr<TokenList> more =
      TokenList::Parse(absl::StrCat("first ", hex, " # a comment\n", text, "\r\n\tlast ", absl::AsciiStrToUpper(hex)));
  EV_CHECK(more.ok());
  EV_CHECK(more->NameOf(text) == "last");
  for (const std::string& other : {absl::StrCat(text, "x"), std::string()}) {
    EV_CHECK(text == other || more->NameOf(other) == tokens->NameOf(other));
  }
}

// The file; behind a zero byte who calls, a line each: a letter, a certificate's name, a token's, an event.
void CheckAccess(const std::string& text, const std::vector<std::string>& asked) {
  const absl::StatusOr<AccessList> list = AccessList::Parse(text);
  if (!list.ok()) return CheckError(list.status(), text);
  const std::vector<Words> lines = WordsOf(text);
  std::vector<std::string> turned = absl::StrSplit(text, '\n');
  std::reverse(turned.begin(), turned.end());
  const absl::StatusOr<AccessList> backwards = AccessList::Parse(absl::StrJoin(turned, "\n"));
  EV_CHECK(backwards.ok());

  const auto word = [&asked](size_t i) { return i < asked.size() ? asked[i] : std::string(); };
  Caller caller;
  caller.way = word(0) == "u" ? Caller::Way::kUnix : word(0) == "t" ? Caller::Way::kTls : Caller::Way::kLoopback;
  if (!word(1).empty()) caller.certificate = {word(1)};
  caller.token = word(2);
  const std::string event = word(3);
  const std::pair<Role, const char*> roles[] = {{Role::kProducer, "producer"},
                                                {Role::kSubscriber, "subscriber"},
                                                {Role::kOperator, "operator"},
                                                {Role::kObserver, "observer"}};
  bool any = false;
  for (const auto& [role, name] : roles) {
    const absl::Status allowed = list->Allow(caller, "Raise", {role}, &event);
    EV_CHECK(allowed.ok() == Grants(lines, caller, name, event));
    EV_CHECK(allowed.ok() || absl::IsPermissionDenied(allowed) ||
             (absl::IsUnauthenticated(allowed) && AccessList::Describe(caller) == "nobody"));
    EV_CHECK(backwards->Allow(caller, "Raise", {role}, &event).ok() == allowed.ok());
    // Who may do it to an event may do it at all.
    EV_CHECK(!allowed.ok() || list->Allow(caller, "Raise", {role}, nullptr).ok());
    any = any || allowed.ok();
  }
  const bool one_of_all =
      list->Allow(caller, "Raise", {Role::kProducer, Role::kSubscriber, Role::kOperator, Role::kObserver}, &event).ok();
  EV_CHECK(one_of_all == any);
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace eventvirtual;  // NOLINT: this is the property
  const std::string input(reinterpret_cast<const char*>(data), size);
  const size_t middle = std::min(input.find('\0'), size);
  const std::string text = input.substr(0, middle);
  if (static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) > kMaxLines) return 0;
  CheckTokens(text);
  CheckAccess(text, absl::StrSplit(middle == size ? "" : input.substr(middle + 1), '\n'));
  return 0;
}
