#include "server/access/access.h"

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/log/log.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kBearer = "Bearer ";

}  // namespace

absl::StatusOr<std::unique_ptr<Access>> Access::Load(const std::string& list, const std::string& tokens) {
  const auto parse = [list, tokens](const std::vector<std::string>& contents) -> absl::StatusOr<Files> {
    const auto at = [](absl::string_view option, const std::string& path, const absl::Status& status) {
      return absl::InvalidArgumentError(absl::StrCat(option, "=", path, ": ", status.message()));
    };
    absl::StatusOr<AccessList> grants = list.empty() ? AccessList::Default() : AccessList::Parse(contents[0]);
    if (!grants.ok()) return at("--access", list, grants.status());
    absl::StatusOr<TokenList> known = TokenList::Parse(contents[1]);
    if (!known.ok()) return at("--tokens", tokens, known.status());
    return Files{*std::move(grants), *std::move(known)};
  };
  auto files = Reloaded<Files>::Load("access", {{"--access", list}, {"--tokens", tokens}}, parse);
  if (!files.ok()) return files.status();
  return std::unique_ptr<Access>(new Access(*std::move(files)));
}

Caller Access::Identify(const TokenList& tokens, Caller caller, absl::string_view authorization) {
  if (absl::StartsWithIgnoreCase(authorization, kBearer)) {
    caller.token = tokens.NameOf(authorization.substr(kBearer.size()));
  }
  return caller;
}

Caller Access::Identify(Caller caller, absl::string_view authorization) const {
  return Identify(files_->Current()->tokens, std::move(caller), authorization);
}

absl::Status Access::Ask(Caller caller, absl::string_view authorization, absl::string_view peer, absl::string_view what,
                         std::initializer_list<Role> roles, const std::string* event) const {
  const std::shared_ptr<const Files> files = files_->Current();  // one, so that its token and its line belong together
  caller = Identify(files->tokens, std::move(caller), authorization);
  absl::Status allowed = files->list.Allow(caller, what, roles, event);
  if (allowed.ok()) {
    counts_.allowed.fetch_add(1, std::memory_order_relaxed);
    return allowed;
  }
  (absl::IsUnauthenticated(allowed) ? counts_.unauthenticated : counts_.denied).fetch_add(1, std::memory_order_relaxed);
  Log(LogLevel::kWarning, "access denied",
      {{"who", AccessList::Describe(caller)}, {"peer", peer}, {"error", allowed.message()}});
  return allowed;
}

}  // namespace eventvirtual
