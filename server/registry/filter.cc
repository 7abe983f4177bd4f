#include "server/registry/filter.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "transports/api/jsonrpc.h"

namespace eventvirtual {
namespace {

absl::Status At(size_t offset, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("position ", offset + 1, ": ", what));
}

bool IsBlank(char c) { return c == ' ' || c == '\t'; }

// Whether a '\' takes the character at `at` as it is.
bool IsEscaped(absl::string_view text, size_t at) {
  bool escaped = false;
  while (at > 0 && text[--at] == '\\') escaped = !escaped;
  return escaped;
}

// Bytes of the UTF-8 character that begins at `at`; 1 where it is none.
size_t CharacterSize(absl::string_view text, size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const size_t size = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  for (size_t i = 1; i < size; ++i) {
    if (at + i >= text.size() || (static_cast<unsigned char>(text[at + i]) & 0xc0) != 0x80) return 1;
  }
  return size;
}

// So much of a value is shown.
constexpr size_t kMostShown = 100;

std::string Shortened(std::string text) {
  if (text.size() <= kMostShown) return text;
  size_t end = kMostShown;
  while ((static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // not inside a character
  return absl::StrCat(text.substr(0, end), "…");
}

// The offset behind the set that begins with the `[` at `at` of a pattern. `in`: whether `c` is in it.
size_t ReadSet(absl::string_view pattern, size_t at, unsigned char c, bool* in) {
  ++at;
  const bool inverted = pattern[at] == '!';
  if (inverted) ++at;
  bool found = false;
  do {
    if (pattern[at] == '\\') ++at;
    const auto first = static_cast<unsigned char>(pattern[at++]);
    unsigned char last = first;
    if (pattern[at] == '-' && pattern[at + 1] != ']') {
      if (pattern[++at] == '\\') ++at;
      last = static_cast<unsigned char>(pattern[at++]);
    }
    found = found || (first <= c && c <= last);
  } while (pattern[at] != ']');
  *in = found != inverted;
  return at + 1;
}

// The end of the set that begins at `at`, checked. Positions of errors are moved on by `offset`.
absl::StatusOr<size_t> CheckSet(absl::string_view pattern, size_t at, size_t offset) {
  const size_t begin = at++;
  if (at < pattern.size() && pattern[at] == '!') ++at;
  if (at < pattern.size() && pattern[at] == ']') return At(offset + at, "an empty set; write \\] for the character");
  const auto member = [&pattern](size_t* at) -> int {
    if (pattern[*at] == '\\') ++*at;
    return *at < pattern.size() ? static_cast<unsigned char>(pattern[(*at)++]) : -1;
  };
  while (at < pattern.size() && pattern[at] != ']') {
    const size_t here = at;
    const int first = member(&at);
    int last = first;
    if (at + 1 < pattern.size() && pattern[at] == '-' && pattern[at + 1] != ']') {
      ++at;
      last = member(&at);
    }
    if (first >= 0x80 || last >= 0x80) return At(offset + here, "a set takes ASCII characters alone");
    if (last >= 0 && last < first) return At(offset + here, "a range that runs backwards");
  }
  if (at >= pattern.size()) return At(offset + begin, "'[' without its ']'; write \\[ for the character");
  return at + 1;
}

}  // namespace

absl::StatusOr<ShellPattern> ShellPattern::Parse(absl::string_view text, size_t offset) {
  if (text.size() > kMaxSize) {
    return At(offset + kMaxSize,
              absl::StrCat("the pattern has ", text.size(), " bytes; at most ", kMaxSize, " are taken"));
  }
  ShellPattern pattern;
  pattern.text_ = std::string(text);
  int stars = 0;
  bool others = false;  // wildcards but stars
  for (size_t at = 0; at < text.size();) {
    if (text[at] == '*') {
      ++stars;
      ++at;
    } else if (text[at] == '?') {
      others = true;
      ++at;
    } else if (text[at] == '[') {
      others = true;
      const absl::StatusOr<size_t> end = CheckSet(text, at, offset);
      if (!end.ok()) return end.status();
      at = *end;
    } else {
      if (text[at] == '\\' && ++at == text.size())
        return At(offset + at - 1, "'\\' with nothing behind it; write \\\\");
      if (!others) (stars == 0 ? pattern.prefix_ : pattern.suffix_).push_back(text[at]);
      ++at;
      continue;
    }
    pattern.suffix_.clear();
  }
  if (others) pattern.suffix_.clear();
  pattern.literal_ = stars == 0 && !others;
  pattern.simple_ = stars == 1 && !others;
  return pattern;
}

bool ShellPattern::Matches(absl::string_view text) const {
  if (literal_) return text == prefix_;
  if (text.size() < prefix_.size() + suffix_.size()) return false;
  if (!absl::StartsWith(text, prefix_) || !absl::EndsWith(text, suffix_)) return false;
  if (simple_) return true;
  const absl::string_view pattern = text_;
  size_t at = 0, in = 0;
  size_t star = absl::string_view::npos, tried = 0;  // behind the last star, and where it was tried to end
  while (in < text.size()) {
    if (at < pattern.size() && pattern[at] == '*') {
      star = ++at;
      tried = in;
      continue;
    }
    size_t next = at, size = 1;
    bool same = false;
    if (at < pattern.size()) {
      if (pattern[at] == '?') {
        size = CharacterSize(text, in);
        next = at + 1;
        same = true;
      } else if (pattern[at] == '[') {
        size = CharacterSize(text, in);
        next = ReadSet(pattern, at, static_cast<unsigned char>(text[in]), &same);
      } else {
        if (pattern[at] == '\\') ++next;
        same = pattern[next++] == text[in];
      }
    }
    if (same) {
      at = next;
      in += size;
    } else if (star == absl::string_view::npos) {
      return false;
    } else {
      tried += CharacterSize(text, tried);
      at = star;
      in = tried;
    }
  }
  while (at < pattern.size() && pattern[at] == '*') ++at;
  return at == pattern.size();
}

std::optional<Filter::Number> Filter::NumberOf(absl::string_view text) {
  // As JSON writes numbers: SimpleAtod() also takes "inf", "nan" and blanks.
  if (text.empty() || text.size() > 64 || (!absl::ascii_isdigit(text[0]) && text[0] != '-')) return std::nullopt;
  if (!std::all_of(text.begin(), text.end(), [](char c) {
        return absl::ascii_isdigit(c) || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
      })) {
    return std::nullopt;
  }
  Number number;
  int64_t integer = 0;
  if (absl::SimpleAtoi(text, &integer)) number.integer = integer;
  if (!absl::SimpleAtod(text, &number.real) || !std::isfinite(number.real)) return std::nullopt;
  return number;
}

std::optional<Filter::Number> Filter::NumberOf(const Value& value) {
  if (const auto* integer = std::get_if<int64_t>(&value)) return Number{static_cast<double>(*integer), *integer};
  if (const auto* real = std::get_if<double>(&value)) return Number{*real, std::nullopt};
  if (const auto* text = std::get_if<absl::string_view>(&value)) return NumberOf(*text);
  if (const auto* json = std::get_if<Json>(&value)) return NumberOf(json->text);
  return std::nullopt;
}

absl::StatusOr<Filter::Condition> Filter::ParseCondition(absl::string_view text, size_t offset,
                                                         std::string* canonical) {
  Condition condition;
  size_t at = 0, end = 0, size = 0;  // the end of the name without the blanks behind it, in the text and as it is
  for (; at < text.size() && !absl::StrContains("=!<>", text.substr(at, 1)); ++at) {
    const bool is_taken_as_it_is = text[at] == '\\';
    if (is_taken_as_it_is && ++at == text.size()) return At(offset + at - 1, "'\\' with nothing behind it");
    condition.name.push_back(text[at]);
    if (!is_taken_as_it_is && IsBlank(text[at])) continue;
    end = at + 1;
    size = condition.name.size();
  }
  const absl::string_view name = text.substr(0, end);
  const bool escaped = absl::StrContains(name, '\\');
  condition.name.resize(size);
  if (condition.name.empty()) return At(offset, "no parameter name; write NAME=PATTERN");
  if (at == text.size() || text.substr(at) == "!") {
    return At(offset + at, absl::StrCat("no operator behind the parameter name; write = != < <= > or >="));
  }
  uint32_t position = 0;
  if (!escaped && absl::ascii_isdigit(condition.name[0]) && absl::SimpleAtoi(condition.name, &position)) {
    condition.position = position;
  }
  static constexpr std::pair<absl::string_view, Operator> kOperators[] = {
      {"!=", Operator::kNotEqual}, {"<=", Operator::kLessOrEqual}, {">=", Operator::kGreaterOrEqual},
      {"=", Operator::kEqual},     {"<", Operator::kLess},         {">", Operator::kGreater}};
  const auto* const found = std::find_if(std::begin(kOperators), std::end(kOperators),
                                         [&](const auto& one) { return absl::StartsWith(text.substr(at), one.first); });
  if (found == std::end(kOperators)) return At(offset + at, "'!' without '='; write = != < <= > or >=");
  condition.op = found->second;
  at += found->first.size();
  while (at < text.size() && IsBlank(text[at])) ++at;
  absl::string_view value = text.substr(at);
  condition.number = NumberOf(value);
  if (condition.op == Operator::kEqual || condition.op == Operator::kNotEqual) {
    absl::StatusOr<ShellPattern> pattern = ShellPattern::Parse(value, offset + at);
    if (!pattern.ok()) return pattern.status();
    condition.pattern = *std::move(pattern);
  } else if (!condition.number.has_value()) {
    return At(offset + at, absl::StrCat("no number behind ", found->first, "; = and != compare texts"));
  }
  if (!canonical->empty()) canonical->append(" && ");
  condition.begin = canonical->size();
  absl::StrAppend(canonical, name, found->first, value);
  condition.end = canonical->size();
  return condition;
}

absl::StatusOr<Filter> Filter::Parse(absl::string_view text) {
  if (text.size() > kMaxSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("the filter has ", text.size(), " bytes; at most ", kMaxSize, " are taken"));
  }
  Filter filter;
  for (size_t begin = 0;;) {
    // Up to an && between blanks, or to the end. A '\' keeps it, and one blank in a value's end.
    size_t end = begin;
    for (; end < text.size(); ++end) {
      if (text[end] == '\\') {
        ++end;
      } else if (absl::StartsWith(text.substr(end), "&&") && (end == begin || IsBlank(text[end - 1])) &&
                 (end + 2 == text.size() || IsBlank(text[end + 2]))) {
        break;
      }
    }
    end = std::min(end, text.size());
    absl::string_view part = text.substr(begin, end - begin);
    while (!part.empty() && IsBlank(part.front())) {
      part.remove_prefix(1);
      ++begin;
    }
    while (!part.empty() && IsBlank(part.back()) && !IsEscaped(part, part.size() - 1)) part.remove_suffix(1);
    if (part.empty()) return At(begin, "a condition is missing; write NAME=PATTERN, several joined by \" && \"");
    if (filter.conditions_.size() == kMaxConditions) {
      return At(begin, absl::StrCat("more than ", kMaxConditions, " conditions"));
    }
    absl::StatusOr<Condition> condition = ParseCondition(part, begin, &filter.text_);
    if (!condition.ok()) return condition.status();
    filter.conditions_.push_back(*std::move(condition));
    if (end == text.size()) return filter;
    begin = end + 2;
  }
}

bool Filter::Matches(const Message& message) const {
  return std::all_of(conditions_.begin(), conditions_.end(),
                     [&message](const Condition& condition) { return Holds(condition, message); });
}

std::string Filter::Refusal(const Message& message) const {
  const auto failed = std::find_if(conditions_.begin(), conditions_.end(),
                                   [&message](const Condition& condition) { return !Holds(condition, message); });
  if (failed == conditions_.end()) return "";
  std::string is;  // what it is instead: of != the one that is equal
  size_t position = 0;
  for (const Param& param : message.params()) {
    if (IsMeant(*failed, param, position++) && (failed->op != Operator::kNotEqual || Holds(*failed, param.value))) {
      AppendJsonValue(param.value, &is);
      break;
    }
  }
  const std::string name = failed->position.has_value() ? absl::StrCat("parameter ", failed->name) : failed->name;
  return absl::StrCat("condition ", failed - conditions_.begin() + 1, " of ", conditions_.size(), ", \"",
                      absl::string_view(text_).substr(failed->begin, failed->end - failed->begin),
                      "\", does not hold: ", is.empty() ? "there is no " : "", name, is.empty() ? "" : " is ",
                      Shortened(is));
}

bool Filter::IsMeant(const Condition& condition, const Param& param, size_t position) {
  return param.name.empty() ? condition.position == position : param.name == condition.name;
}

bool Filter::Holds(const Condition& condition, const Message& message) {
  bool some = false;
  size_t position = 0;
  for (const Param& param : message.params()) {
    some = IsMeant(condition, param, position++) && Holds(condition, param.value);
    if (some) break;
  }
  return some != (condition.op == Operator::kNotEqual);
}

bool Filter::Holds(const Condition& condition, const Value& value) {
  const bool equality = condition.op == Operator::kEqual || condition.op == Operator::kNotEqual;
  const auto* const text = std::get_if<absl::string_view>(&value);
  // A text is compared as one where both can be: "0049" is not 49.
  const bool numeric = condition.number.has_value() && !(equality && text != nullptr);
  if (const std::optional<Number> number = numeric ? NumberOf(value) : std::nullopt; number.has_value()) {
    const Number& limit = *condition.number;
    // Integers beyond 2^53 are told apart as integers only.
    const bool exact = number->integer.has_value() && limit.integer.has_value();
    const auto compare = [&](auto less_or_greater) {
      return exact ? less_or_greater(*number->integer, *limit.integer) : less_or_greater(number->real, limit.real);
    };
    switch (condition.op) {
      case Operator::kEqual:
      case Operator::kNotEqual:
        return compare([](auto a, auto b) { return a == b; });
      case Operator::kLess:
        return compare([](auto a, auto b) { return a < b; });
      case Operator::kLessOrEqual:
        return compare([](auto a, auto b) { return a <= b; });
      case Operator::kGreater:
        return compare([](auto a, auto b) { return a > b; });
      default:  // kGreaterOrEqual
        return compare([](auto a, auto b) { return a >= b; });
    }
  }
  if (!equality) return false;
  if (text != nullptr) return condition.pattern.Matches(*text);
  if (const auto* json = std::get_if<Json>(&value)) return condition.pattern.Matches(json->text);
  if (const auto* integer = std::get_if<int64_t>(&value)) {
    return condition.pattern.Matches(absl::AlphaNum(*integer).Piece());
  }
  std::string other;
  AppendJsonValue(value, &other);
  return condition.pattern.Matches(other);
}

}  // namespace eventvirtual
