// WatchCounts: what those who watch over gRPC did not get, because they read too slowly.
#ifndef EVENTVIRTUAL_SERVER_METRICS_WATCH_COUNTS_H_
#define EVENTVIRTUAL_SERVER_METRICS_WATCH_COUNTS_H_

#include <atomic>
#include <cstdint>

namespace eventvirtual {

// Any thread.
struct WatchCounts {
  std::atomic<uint64_t> rows_lost{0};  // of WatchDeliveries; its next row says how many
  std::atomic<uint64_t> ended{0};      // WatchSubscriptions that had fallen too far behind
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_METRICS_WATCH_COUNTS_H_
