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

// Counts durations in buckets a quarter of a power of two wide, from 1 µs to about 18 minutes (an attempt has 10 at
// most): a quantile is at most 25 % too high. One thread at a time adds, any may read. Fixed size (944 bytes), since
// every endpoint has one. What it has counted never goes down, nor wraps.
class LatencyHistogram {
 public:
  static constexpr size_t kBuckets = 116;

  // A snapshot, of one or of several together.
  struct Counts {
    std::array<uint64_t, kBuckets> by_bucket{};
    uint64_t total = 0;
    absl::Duration sum;

    Counts& operator+=(const Counts& other) {
      for (size_t bucket = 0; bucket < kBuckets; ++bucket) by_bucket[bucket] += other.by_bucket[bucket];
      total += other.total;
      sum += other.sum;
      return *this;
    }

    // The upper edge of the bucket in which the quantile lies; zero when nothing was added. 0 < fraction <= 1.
    absl::Duration Quantile(double fraction) const {
      const auto wanted = static_cast<uint64_t>(fraction * static_cast<double>(total) + 0.999999);
      uint64_t seen = 0;
      for (size_t bucket = 0; bucket < kBuckets; ++bucket) {
        seen += by_bucket[bucket];
        if (seen >= wanted && seen > 0) return UpperEdge(bucket);
      }
      return absl::ZeroDuration();
    }
  };

  void Add(absl::Duration duration, size_t count) {
    const int64_t micros = absl::ToInt64Microseconds(duration);
    const uint64_t counted = micros < 1 ? 1 : static_cast<uint64_t>(micros);
    counts_[BucketOf(counted)].Add(count);
    micros_.Add(counted * count);
  }

  Counts Read() const {
    Counts counts;
    for (size_t bucket = 0; bucket < kBuckets; ++bucket) {
      counts.by_bucket[bucket] = counts_[bucket].Read();
      counts.total += counts.by_bucket[bucket];
    }
    counts.sum = absl::Microseconds(static_cast<int64_t>(micros_.Read()));
    return counts;
  }

  // What the bucket counts is shorter than this; in the last there is also all that is longer.
  static absl::Duration UpperEdge(size_t bucket) {
    if (bucket < 4) return absl::Microseconds(static_cast<int64_t>(bucket) + 1);
    const int exponent = static_cast<int>((bucket + 4) / 4);
    return absl::Microseconds(static_cast<int64_t>((uint64_t{4} + (bucket & 3) + 1) << (exponent - 2)));
  }

 private:
  static size_t BucketOf(uint64_t micros) {
    if (micros < 4) return micros;
    const int exponent = std::bit_width(micros) - 1;
    const size_t bucket = static_cast<size_t>(exponent) * 4 + ((micros >> (exponent - 2)) & 3) - 4;
    return bucket < kBuckets ? bucket : kBuckets - 1;
  }

  std::array<Tally<uint64_t>, kBuckets> counts_;
  Tally<uint64_t> micros_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ENDPOINT_LATENCY_HISTOGRAM_H_
