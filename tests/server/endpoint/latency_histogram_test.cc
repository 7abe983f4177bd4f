#include "server/endpoint/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace eventvirtual {
namespace {

using Histogram = LatencyHistogram;

TEST(LatencyHistogram, EachDurationIsBelowTheEdgeOfItsBucketAndNotBelowTheOneBefore) {
  for (int64_t micros = 1; micros < int64_t{1} << 29; micros += std::max<int64_t>(1, micros / 7)) {
    Histogram histogram;
    histogram.Add(absl::Microseconds(micros), 1);
    const Histogram::Counts counts = histogram.Read();
    const auto found = std::find(counts.by_bucket.begin(), counts.by_bucket.end(), 1u);
    const auto bucket = static_cast<size_t>(found - counts.by_bucket.begin());
    ASSERT_LT(bucket, Histogram::kBuckets);
    EXPECT_LT(absl::Microseconds(micros), Histogram::UpperEdge(bucket));
    if (bucket > 1) {
      EXPECT_GE(absl::Microseconds(micros), Histogram::UpperEdge(bucket - 1));
    }
    EXPECT_EQ(counts.sum, absl::Microseconds(micros));
  }
}

TEST(LatencyHistogram, PowersOfTwoAreEdges) {
  for (int exponent = 6; exponent <= 26; ++exponent) {
    bool found = false;
    for (size_t bucket = 0; bucket < Histogram::kBuckets; ++bucket) {
      found = found || Histogram::UpperEdge(bucket) == absl::Microseconds(int64_t{1} << exponent);
    }
    EXPECT_TRUE(found) << exponent;
  }
}

TEST(LatencyHistogram, QuantilesAreAQuarterTooHighAtMostAlsoOverSeveral) {
  Histogram fast, slow, silent;
  fast.Add(absl::Milliseconds(1), 98);
  slow.Add(absl::Seconds(1), 2);
  Histogram::Counts both = fast.Read();
  both += slow.Read();
  EXPECT_EQ(both.total, 100u);
  EXPECT_GE(both.Quantile(0.5), absl::Milliseconds(1));
  EXPECT_LE(both.Quantile(0.5), 1.25 * absl::Milliseconds(1));
  EXPECT_GE(both.Quantile(0.99), absl::Seconds(1));
  EXPECT_LE(both.Quantile(0.99), 1.25 * absl::Seconds(1));
  EXPECT_EQ(silent.Read().Quantile(0.99), absl::ZeroDuration());
}

TEST(LatencyHistogram, WhatIsLongerThanAllItsBucketsIsInTheLast) {
  Histogram histogram;
  histogram.Add(absl::Hours(24), 3);
  EXPECT_EQ(histogram.Read().by_bucket.back(), 3u);
  EXPECT_EQ(histogram.Read().sum, absl::Hours(72));
}

}  // namespace
}  // namespace eventvirtual
