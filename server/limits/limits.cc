#include "server/limits/limits.h"

#include <algorithm>
#include <atomic>
#include <variant>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kNames[kLimits] = {
    "ingest_max_bytes", "mi_max_bytes", "max_event_name",  "max_params",        "max_param_bytes",
    "max_depth",        "max_uri",      "max_subscribers", "max_subscriptions", "max_subscriptions_per_principal",
    "raise_rate",       "change_rate",  "ingest_rate",
};

std::atomic<uint64_t> counts[kLimits];

}  // namespace

absl::string_view NameOf(Limit limit) { return kNames[static_cast<size_t>(limit)]; }

void CountExceeded(Limit limit) { counts[static_cast<size_t>(limit)].fetch_add(1, std::memory_order_relaxed); }

uint64_t ExceededCount(Limit limit) { return counts[static_cast<size_t>(limit)].load(std::memory_order_relaxed); }

absl::Status Exceeded(Limit limit, absl::string_view place, uint64_t size, absl::string_view unit, uint64_t most) {
  CountExceeded(limit);
  return absl::InvalidArgumentError(
      absl::StrCat(place, ": ", size, " ", unit, "; at most ", most, " are taken (--", NameOf(limit), ")"));
}

absl::Status CheckParams(absl::Span<const Param> params, const EventLimits& limits, absl::string_view place) {
  if (params.size() > limits.params) {
    return Exceeded(Limit::kParams, place, params.size(), "parameters", limits.params);
  }
  for (const Param& param : params) {
    size_t size = param.name.size();
    if (const auto* const text = std::get_if<absl::string_view>(&param.value)) size = std::max(size, text->size());
    if (const auto* const json = std::get_if<Json>(&param.value)) size = std::max(size, json->text.size());
    if (size <= limits.param_bytes) continue;
    const bool is_name = param.name.size() > limits.param_bytes;
    return Exceeded(
        Limit::kParamBytes,
        absl::StrCat(place, "[", &param - params.data(), "]",
                     is_name ? ".name" : absl::StrCat(" \"", absl::CHexEscape(param.name.substr(0, 64)), "\"")),
        size, "bytes", limits.param_bytes);
  }
  return absl::OkStatus();
}

absl::Status TooDeep(absl::string_view place, size_t most) {
  CountExceeded(Limit::kDepth);
  return absl::InvalidArgumentError(absl::StrCat(
      place, ": more than ", most, " arrays and objects are in each other (--", NameOf(Limit::kDepth), ")"));
}

}  // namespace eventvirtual
