// Time, processor time and latencies, for the programs of the benchmark.
#ifndef EVENTVIRTUAL_BENCH_MEASURE_H_
#define EVENTVIRTUAL_BENCH_MEASURE_H_

#include <time.h>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace eventvirtual {

inline double Seconds(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

inline double WallSeconds() { return Seconds(CLOCK_MONOTONIC); }
inline double CpuSeconds() { return Seconds(CLOCK_PROCESS_CPUTIME_ID); }  // of all threads of this process

// Keeps every sample: a run is short, and quantiles are exact.
class Latencies {
 public:
  void Add(double seconds) { samples_.push_back(seconds); }

  // In microseconds; 0 without samples.
  double Quantile(double q) {
    if (samples_.empty()) return 0;
    const size_t index = std::min(samples_.size() - 1, static_cast<size_t>(q * static_cast<double>(samples_.size())));
    std::nth_element(samples_.begin(), samples_.begin() + static_cast<std::ptrdiff_t>(index), samples_.end());
    return samples_[index] * 1e6;
  }

 private:
  std::vector<double> samples_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_BENCH_MEASURE_H_
