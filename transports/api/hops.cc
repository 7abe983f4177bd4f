#include "transports/api/hops.h"

#include <cstddef>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

constexpr size_t kDigits = 3;
constexpr size_t kMaxShown = 40;  // bytes of what is no number

// "1" to "256".
struct Texts {
  char digits[kMostHops + 1][kDigits] = {};
  constexpr Texts() {
    for (int i = 0; i <= kMostHops; ++i) {
      int number = i + 1;
      for (size_t digit = SizeOf(number); digit-- > 0; number /= 10) {
        digits[i][digit] = static_cast<char>('0' + number % 10);
      }
    }
  }
  static constexpr size_t SizeOf(int number) { return number < 10 ? 1 : number < 100 ? 2 : 3; }
};
constexpr Texts kTexts;

}  // namespace

absl::StatusOr<int> ParseHops(absl::string_view text) {
  int hops = 0;
  const bool digits = !text.empty() && text.size() <= kDigits && absl::c_all_of(text, absl::ascii_isdigit);
  if (digits && absl::SimpleAtoi(text, &hops) && hops <= kMostHops) return hops;
  return absl::InvalidArgumentError(absl::StrCat(kEventHops, ": \"", absl::CHexEscape(text.substr(0, kMaxShown)),
                                                 "\" is not a number of hops, 0 to ", kMostHops));
}

absl::string_view NextHopsText(int hops) {
  EV_CHECK(hops >= 0 && hops <= kMostHops);
  return {kTexts.digits[hops], Texts::SizeOf(hops + 1)};
}

}  // namespace eventvirtual
