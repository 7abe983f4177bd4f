// CallCounts: the RPCs that were served, by method and status code, and how long they took.
#ifndef EVENTVIRTUAL_SERVER_METRICS_CALL_COUNTS_H_
#define EVENTVIRTUAL_SERVER_METRICS_CALL_COUNTS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace eventvirtual {

// Any thread; an RPC costs three additions of its own. The methods are known from the start, so that clients cannot
// make more of them.
class CallCounts {
 public:
  static constexpr size_t kCodes = 17;    // of gRPC, from OK to UNAUTHENTICATED
  static constexpr size_t kBuckets = 22;  // of durations; the last has no upper edge

  struct Method {
    std::string service, name;
    bool streams = false;  // it lasts as long as its client likes
    std::atomic<uint64_t> started{0};
    std::array<std::atomic<uint64_t>, kCodes> ended{};
    std::array<std::atomic<uint64_t>, kBuckets> durations{};
    std::atomic<uint64_t> micros{0};  // of all that have ended

    void End(size_t code, absl::Duration duration);
  };

  // 64 µs, 128 µs, … about 67 s.
  static absl::Duration UpperEdge(size_t bucket) { return absl::Microseconds(int64_t{64} << bucket); }

  void Add(absl::string_view service, absl::string_view name, bool streams);  // before anything is served
  // `path` is "/SERVICE/NAME"; null: it is not known.
  Method* Find(absl::string_view path) const;
  const std::vector<std::unique_ptr<Method>>& methods() const { return methods_; }

 private:
  std::vector<std::unique_ptr<Method>> methods_;  // a few dozen
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_METRICS_CALL_COUNTS_H_
