// ConnectionCounts: the connections that came to the gRPC listeners.
#ifndef EVENTVIRTUAL_SERVER_METRICS_CONNECTION_COUNTS_H_
#define EVENTVIRTUAL_SERVER_METRICS_CONNECTION_COUNTS_H_

#include <atomic>
#include <cstdint>

namespace eventvirtual {

// Any thread.
struct ConnectionCounts {
  std::atomic<uint64_t> taken{0};
  // Closed at once:
  std::atomic<uint64_t> no_descriptor{0};     // the process had none left
  std::atomic<uint64_t> too_many{0};          // --max_connections
  std::atomic<uint64_t> too_many_of_peer{0};  // --max_connections_per_peer
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_METRICS_CONNECTION_COUNTS_H_
