// Filter: which events of its name a subscription wants, by their parameters.
#ifndef EVENTVIRTUAL_SERVER_REGISTRY_FILTER_H_
#define EVENTVIRTUAL_SERVER_REGISTRY_FILTER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transports/api/message.h"

namespace eventvirtual {

// A shell pattern (POSIX.1, section 2.13 of the shell, without classes): `*` any text, also none; `?` one character;
// `[abc]`, `[a-z]`, `[!abc]` one of ASCII or any but those; `\` takes the next character as it is.
class ShellPattern {
 public:
  static constexpr size_t kMaxSize = 255;

  // INVALID_ARGUMENT names the position, from 1, counted from `offset` bytes before `text`: a `[` without its `]`, an
  // empty set, a range that runs backwards, a character beyond ASCII in a set, a `\` at the end, more than kMaxSize
  // bytes.
  static absl::StatusOr<ShellPattern> Parse(absl::string_view text, size_t offset = 0);

  // Whether all of `text` is what the pattern describes. At most size of the pattern times size of the text steps.
  bool Matches(absl::string_view text) const;

  absl::string_view text() const { return text_; }

 private:
  std::string text_;
  // What a text must begin and end with; most texts differ there.
  std::string prefix_, suffix_;
  bool literal_ = false;  // without wildcards: prefix_ is all
  bool simple_ = false;   // prefix_*suffix_
};

// OpenSIPS' event routing filters, with comparisons: `NAME=PATTERN`, `NAME!=PATTERN`, `NAME<NUMBER` and `<=`, `>`,
// `>=`; several joined by ` && ` hold only together. Blanks around the names, operators and values do not count.
//
// NAME is a parameter's, or the position of one without a name, from 0. `=` holds when a parameter of that name
// matches, `!=` when none does, also when there is none. A number is compared as one: `count=42` takes 42 and 42.0, but
// of texts "42" alone. A parameter that is neither is compared as its JSON text: true, null, [1,2]. The other operators
// hold for numbers, and for texts that read as one.
class Filter {
 public:
  static constexpr size_t kMaxSize = 1024;
  static constexpr size_t kMaxConditions = 16;

  // INVALID_ARGUMENT names the position, from 1, and what would be taken.
  static absl::StatusOr<Filter> Parse(absl::string_view text);

  // Any thread. Allocates only for a parameter of another type than text and integer.
  bool Matches(const Message& message) const;

  // Why it does not match: `condition 2 of 3, "attempts>3", does not hold: attempts is 1`; "" if it does. Any thread.
  std::string Refusal(const Message& message) const;

  // The one way to write it: without blanks but those around `&&`.
  const std::string& text() const { return text_; }

 private:
  enum class Operator { kEqual, kNotEqual, kLess, kLessOrEqual, kGreater, kGreaterOrEqual };
  struct Number {
    double real = 0;
    std::optional<int64_t> integer;  // when it is one
  };
  struct Condition {
    std::string name;
    std::optional<size_t> position;  // the name is a number
    Operator op = Operator::kEqual;
    ShellPattern pattern;          // of = and !=
    std::optional<Number> number;  // of the others; of = and != if the value is one
    size_t begin = 0, end = 0;     // where it stands in the filter's text
  };

  static absl::StatusOr<Condition> ParseCondition(absl::string_view text, size_t offset, std::string* canonical);
  static std::optional<Number> NumberOf(absl::string_view text);
  static std::optional<Number> NumberOf(const Value& value);
  static bool IsMeant(const Condition& condition, const Param& param, size_t position);
  static bool Holds(const Condition& condition, const Message& message);
  static bool Holds(const Condition& condition, const Value& value);

  std::string text_;
  std::vector<Condition> conditions_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_REGISTRY_FILTER_H_
