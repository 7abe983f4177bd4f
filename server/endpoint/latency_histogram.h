// LatencyHistogram: where the quantiles of an endpoint's attempts come from.
#ifndef EVENTVIRTUAL_SERVER_ENDPOINT_LATENCY_HISTOGRAM_H_
#define EVENTVIRTUAL_SERVER_ENDPOINT_LATENCY_HISTOGRAM_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"
#include "server/endpoint/tally.h"

namespace eventvirtual {

// Counts durations in buckets a quarter of a power of two wide, from 1 µs to about 12 days: a quantile is at most 25 %
// too high. One thread adds, any may read. Fixed size (656 bytes), since every endpoint has one.
class LatencyHistogram {
 public:
  void Add(absl::Duration duration, size_t count) {
    const int64_t micros = absl::ToInt64Microseconds(duration);
    total_.Add(count);
    counts_[BucketOf(micros < 1 ? 1 : static_cast<uint64_t>(micros))].Add(static_cast<uint32_t>(count));
  }

  // The upper edge of the bucket in which the quantile lies; zero when nothing was added. 0 < fraction <= 1.
  absl::Duration Quantile(double fraction) const {
    const auto wanted = static_cast<uint64_t>(fraction * static_cast<double>(total_.Read()) + 0.999999);
    uint64_t seen = 0;
    for (size_t bucket = 0; bucket < counts_.size(); ++bucket) {
      seen += counts_[bucket].Read();
      if (seen >= wanted && seen > 0) return absl::Microseconds(static_cast<int64_t>(UpperEdge(bucket)));
    }
    return absl::ZeroDuration();
  }

 private:
  static constexpr size_t kBuckets = 162;

  static size_t BucketOf(uint64_t micros) {
    if (micros < 4) return micros;
    const int exponent = std::bit_width(micros) - 1;
    const size_t bucket = static_cast<size_t>(exponent) * 4 + ((micros >> (exponent - 2)) & 3) - 4;
    return bucket < kBuckets ? bucket : kBuckets - 1;
  }
  static uint64_t UpperEdge(size_t bucket) {
    if (bucket < 4) return bucket;
    const int exponent = static_cast<int>((bucket + 4) / 4);
    return (uint64_t{4} + (bucket & 3) + 1) << (exponent - 2);
  }

  std::array<Tally<uint32_t>, kBuckets> counts_;
  Tally<uint64_t> total_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ENDPOINT_LATENCY_HISTOGRAM_H_
