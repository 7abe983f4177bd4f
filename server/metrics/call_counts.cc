#include "server/metrics/call_counts.h"

#include <algorithm>

#include "absl/strings/strip.h"

namespace eventvirtual {

void CallCounts::Method::End(size_t code, absl::Duration duration) {
  size_t bucket = 0;
  while (bucket + 1 < kBuckets && duration > UpperEdge(bucket)) ++bucket;
  durations[bucket].fetch_add(1, std::memory_order_relaxed);
  micros.fetch_add(static_cast<uint64_t>(absl::ToInt64Microseconds(duration)), std::memory_order_relaxed);
  ended[std::min(code, kCodes - 1)].fetch_add(1, std::memory_order_relaxed);
}

void CallCounts::Add(absl::string_view service, absl::string_view name, bool streams) {
  auto method = std::make_unique<Method>();
  method->service = std::string(service);
  method->name = std::string(name);
  method->streams = streams;
  methods_.push_back(std::move(method));
}

CallCounts::Method* CallCounts::Find(absl::string_view path) const {
  if (!absl::ConsumePrefix(&path, "/")) return nullptr;
  const size_t slash = path.find('/');
  if (slash == absl::string_view::npos) return nullptr;
  const absl::string_view service = path.substr(0, slash), name = path.substr(slash + 1);
  for (const std::unique_ptr<Method>& method : methods_) {
    if (method->name == name && method->service == service) return method.get();
  }
  return nullptr;
}

}  // namespace eventvirtual
