#include "server/access/access_list.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <pwd.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace eventvirtual {
namespace {

constexpr std::pair<Role, absl::string_view> kRoles[] = {{Role::kProducer, "producer"},
                                                         {Role::kSubscriber, "subscriber"},
                                                         {Role::kOperator, "operator"},
                                                         {Role::kObserver, "observer"}};
constexpr size_t kShownEvent = 64;  // bytes of one that is refused

absl::string_view NameOf(Role role) {
  const auto is_it = [role](const auto& one) { return one.first == role; };
  return std::find_if(std::begin(kRoles), std::end(kRoles), is_it)->second;
}

std::string RoleNames(std::initializer_list<Role> roles) {
  return absl::StrJoin(roles, " or ", [](std::string* out, Role role) { absl::StrAppend(out, NameOf(role)); });
}

bool Covers(absl::string_view pattern, absl::string_view event) {
  return absl::ConsumeSuffix(&pattern, "*") ? absl::StartsWith(event, pattern) : event == pattern;
}

bool IsPattern(absl::string_view text) {
  absl::ConsumeSuffix(&text, "*");
  return !absl::StrContains(text, '*');
}

// Calls `line` with the words of each line that has some, and puts the line's number before its error.
absl::Status ForEachLine(absl::string_view text,
                         const std::function<absl::Status(const std::vector<std::string>& words)>& line) {
  int number = 0;
  for (absl::string_view one : absl::StrSplit(text, '\n')) {
    ++number;
    one = one.substr(0, one.find('#'));
    const std::vector<std::string> words = absl::StrSplit(one, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty()) continue;
    if (absl::Status status = line(words); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", std::string(status.message())));
    }
  }
  return absl::OkStatus();
}

std::array<uint8_t, 32> HashOf(absl::string_view token) {
  std::array<uint8_t, 32> hash;
  SHA256(reinterpret_cast<const uint8_t*>(token.data()), token.size(), hash.data());
  return hash;
}

std::optional<uid_t> UserOf(const std::string& text) {
  if (uid_t number = 0; absl::SimpleAtoi(text, &number)) return number;
  passwd entry, *found = nullptr;
  char texts[4096];
  if (getpwnam_r(text.c_str(), &entry, texts, sizeof(texts), &found) != 0 || found == nullptr) return std::nullopt;
  return found->pw_uid;
}

std::vector<std::string> IdentitiesOf(const Caller& caller) {
  std::vector<std::string> identities;
  for (const std::string& name : caller.certificate) identities.push_back(absl::StrCat("cert:", name));
  if (!caller.certificate.empty()) identities.push_back("cert:*");
  if (!caller.token.empty()) identities.push_back(absl::StrCat("token:", caller.token));
  if (caller.way == Caller::Way::kLoopback) identities.push_back("loopback");
  if (caller.user.has_value()) identities.push_back(absl::StrCat("user:", *caller.user));
  if (caller.way == Caller::Way::kUnix) identities.push_back("unix");
  return identities;
}

}  // namespace

absl::StatusOr<TokenList> TokenList::Parse(absl::string_view text) {
  TokenList list;
  const absl::Status status = ForEachLine(text, [&list](const std::vector<std::string>& words) {
    // What is wrong may be a token that was written where its hash belongs: it is not shown.
    const bool is_hash =
        words.size() == 2 && words[1].size() == 64 &&
        std::all_of(words[1].begin(), words[1].end(), [](unsigned char c) { return absl::ascii_isxdigit(c); });
    if (!is_hash) {
      return absl::InvalidArgumentError(
          "write NAME and the SHA-256 of the token, 64 hexadecimal digits: printf %s TOKEN | sha256sum");
    }
    Token token{words[0], {}};
    const std::string bytes = absl::HexStringToBytes(words[1]);
    std::copy(bytes.begin(), bytes.end(), token.hash.begin());
    list.tokens_.push_back(std::move(token));
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return list;
}

std::string TokenList::NameOf(absl::string_view token) const {
  const std::array<uint8_t, 32> hash = HashOf(token);
  const Token* found = nullptr;
  for (const Token& one : tokens_) {
    if (CRYPTO_memcmp(one.hash.data(), hash.data(), hash.size()) == 0) found = &one;
  }
  return found == nullptr ? "" : found->name;
}

absl::StatusOr<AccessList> AccessList::Parse(absl::string_view text) {
  AccessList list;
  const absl::Status status = ForEachLine(text, [&list](const std::vector<std::string>& words) {
    absl::string_view name = words[0];
    const bool is_user = absl::ConsumePrefix(&name, "user:");
    const bool named = is_user || absl::ConsumePrefix(&name, "cert:") || absl::ConsumePrefix(&name, "token:");
    if (named ? name.empty() : words[0] != "loopback" && words[0] != "unix") {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", words[0], "\" is nobody; write cert:NAME, token:NAME, user:NAME, loopback or unix"));
    }
    std::string who = words[0];
    if (is_user) {
      const std::optional<uid_t> user = UserOf(std::string(name));
      if (!user.has_value()) {
        return absl::InvalidArgumentError(absl::StrCat("there is no user \"", name, "\"; see /etc/passwd"));
      }
      who = absl::StrCat("user:", *user);
    }
    const absl::string_view role = words.size() > 1 ? words[1] : absl::string_view();
    const auto is_it = [role](const auto& one) { return one.second == role; };
    const auto* const found = std::find_if(std::begin(kRoles), std::end(kRoles), is_it);
    if (found == std::end(kRoles)) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", role, "\" is no role; write producer, subscriber, operator or observer"));
    }
    Grant grant{std::move(who), found->first, {words.begin() + 2, words.end()}};
    const bool has_patterns = grant.role == Role::kProducer || grant.role == Role::kSubscriber;
    for (const std::string& pattern : grant.patterns) {
      if (!has_patterns) {
        return absl::InvalidArgumentError(
            absl::StrCat("\"", pattern, "\": only producer and subscriber are limited to events"));
      }
      if (!IsPattern(pattern)) {
        return absl::InvalidArgumentError(absl::StrCat("\"", pattern, "\": a * may only stand at the end"));
      }
    }
    list.grants_.push_back(std::move(grant));
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return list;
}

AccessList AccessList::Default() {
  AccessList list;
  for (const char* const who : {"loopback", "unix", "cert:*"}) list.grants_.push_back({who, Role::kOperator, {}});
  return list;
}

absl::Status AccessList::Allow(const Caller& caller, absl::string_view what, std::initializer_list<Role> roles,
                               const std::string* event) const {
  const std::vector<std::string> identities = IdentitiesOf(caller);
  bool has_role = false;
  for (const Grant& grant : grants_) {
    if (std::find(identities.begin(), identities.end(), grant.who) == identities.end()) continue;
    if (std::find(roles.begin(), roles.end(), grant.role) == roles.end()) continue;
    has_role = true;
    const auto covers = [event](const std::string& pattern) { return Covers(pattern, *event); };
    if (event == nullptr || grant.patterns.empty() ||
        std::any_of(grant.patterns.begin(), grant.patterns.end(), covers)) {
      return absl::OkStatus();
    }
  }
  if (identities.empty()) {
    return absl::UnauthenticatedError(absl::StrCat(
        what,
        ": it is not known who calls; show a client certificate, or a token (metadata \"authorization: Bearer …\")"));
  }
  if (!has_role) {
    return absl::PermissionDeniedError(absl::StrCat(what, " needs the role ", RoleNames(roles), ", which ",
                                                    Describe(caller),
                                                    " has not; roles are given in the file of --access"));
  }
  return absl::PermissionDeniedError(
      absl::StrCat(what, ": ", Describe(caller), " may not do that to ",
                   *event == "*" || event->empty()
                       ? "all events, which this could be about"
                       : absl::StrCat("the event \"", absl::CHexEscape(event->substr(0, kShownEvent)), "\""),
                   "; events are given by patterns in the file of --access"));
}

std::string AccessList::Describe(const Caller& caller) {
  const std::vector<std::string> identities = IdentitiesOf(caller);
  return identities.empty() ? "nobody" : absl::CHexEscape(identities.front());
}

}  // namespace eventvirtual
