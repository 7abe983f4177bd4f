#include "server/registry/virtual_socket.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kScheme = "virtual:";
constexpr Policy kPolicies[] = {Policy::kParallel, Policy::kFailover, Policy::kRoundRobin};
constexpr absl::string_view kSyntax =
    "write virtual:POLICY subscriber [subscriber ...] with POLICY one of PARALLEL, FAILOVER, ROUND-ROBIN";

}  // namespace

absl::string_view PolicyName(Policy policy) {
  switch (policy) {
    case Policy::kParallel:
      return "PARALLEL";
    case Policy::kFailover:
      return "FAILOVER";
    default:
      EV_CHECK(policy == Policy::kRoundRobin);
      return "ROUND-ROBIN";
  }
}

absl::StatusOr<VirtualSocket> ParseVirtualSocket(absl::string_view text) {
  const std::vector<absl::string_view> words = absl::StrSplit(text, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  if (words.empty()) return absl::InvalidArgumentError(absl::StrCat("the socket is empty; ", kSyntax));

  VirtualSocket socket;
  absl::string_view head = words[0];
  if (!absl::ConsumePrefix(&head, kScheme)) {
    if (words.size() > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("a plain socket is one subscriber, this text has ", words.size(), "; for several ", kSyntax));
    }
    socket.plain = true;
    socket.subscribers.emplace_back(words[0]);
    return socket;
  }

  bool known = false;
  for (Policy policy : kPolicies) {
    if (head != PolicyName(policy)) continue;
    socket.policy = policy;
    known = true;
  }
  if (!known) {
    // A glued subscriber may hold a password: only what reads like a policy word is repeated.
    const absl::string_view word =
        head.substr(0, head.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"));
    if (word.empty())
      return absl::InvalidArgumentError(absl::StrCat("no policy stands behind \"virtual:\"; ", kSyntax));
    if (word.size() < head.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("text is glued to the policy word behind \"virtual:\"; ", kSyntax));
    }
    return absl::InvalidArgumentError(
        absl::StrCat("\"", word.substr(0, 32), "\" is not a policy; ", kSyntax, " in upper case"));
  }
  if (words.size() == 1) {
    return absl::InvalidArgumentError(absl::StrCat("the virtual socket has no subscriber; ", kSyntax));
  }
  for (size_t i = 1; i < words.size(); ++i) {
    if (absl::StartsWith(words[i], kScheme)) {
      return absl::InvalidArgumentError(absl::StrCat("subscriber ", i, " of ", words.size() - 1,
                                                     " is itself a virtual socket; they cannot be nested"));
    }
    socket.subscribers.emplace_back(words[i]);
  }
  return socket;
}

std::string FormatVirtualSocket(Policy policy, bool plain, absl::Span<const std::string> subscribers) {
  EV_CHECK(!plain || subscribers.size() == 1);
  if (plain) return subscribers[0];
  return absl::StrCat(kScheme, PolicyName(policy), " ", absl::StrJoin(subscribers, " "));
}

}  // namespace eventvirtual
