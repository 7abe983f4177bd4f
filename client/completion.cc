#include "client/completion.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace eventvirtual {
namespace {

// %1: the names of all commands; %2: a case for each with its flags; %3: the common flags.
constexpr absl::string_view kBash = R"(# bash completion of evctl; to try it: source <(evctl completion bash)
_evctl() {
  local current="${COMP_WORDS[COMP_CWORD]}" command="" word words
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case " %1 help " in
      *" $word "*) command="$word" && break ;;
    esac
  done
  case "$command" in
    "") words="%1 help" ;;
    help) words="%1" ;;
    completion) words="bash" ;;
%2    *) words="" ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words %3" -- "$current")
  [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
  return 0
}
complete -F _evctl evctl
)";

}  // namespace

std::vector<std::string> FlagsIn(absl::string_view help) {
  std::vector<std::string> flags;
  for (absl::string_view line : absl::StrSplit(help, '\n')) {
    if (!absl::ConsumePrefix(&line, "  -")) continue;
    const absl::string_view flag = line.substr(0, line.find_first_of("= "));
    std::string text = absl::StrCat("-", flag, absl::StartsWith(line.substr(flag.size()), "=") ? "=" : "");
    if (flags.empty() || flags.back() != text) flags.push_back(std::move(text));
  }
  return flags;
}

std::string BashCompletion(const std::vector<std::pair<std::string, std::vector<std::string>>>& commands,
                           const std::vector<std::string>& common) {
  std::vector<std::string> names;
  std::string cases;
  for (const auto& [name, flags] : commands) {
    names.push_back(name);
    if (!flags.empty()) absl::StrAppend(&cases, "    ", name, ") words=\"", absl::StrJoin(flags, " "), "\" ;;\n");
  }
  return absl::StrReplaceAll(kBash,
                             {{"%1", absl::StrJoin(names, " ")}, {"%2", cases}, {"%3", absl::StrJoin(common, " ")}});
}

}  // namespace eventvirtual
