// Prober: tries a destination by itself, without a subscription.
#ifndef EVENTVIRTUAL_SERVER_ENDPOINT_PROBER_H_
#define EVENTVIRTUAL_SERVER_ENDPOINT_PROBER_H_

#include <cstddef>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "transports/api/catalog.h"
#include "transports/api/loop.h"
#include "transports/api/message.h"
#include "transports/api/mutex.h"
#include "transports/api/ref.h"

namespace eventvirtual {

struct ProbeResult {
  bool reachable = false;  // connected and let in, whatever became of the canary
  absl::Status status;     // why not, or why the canary failed; masked
  absl::Duration latency;  // until the link was ready; with a canary, until its outcome
};

// Each probe makes a link of its own, past the endpoint that may exist for the destination: no health, no cool-down and
// no counter changes. Any thread; never blocks.
class Prober {
 public:
  static constexpr size_t kMaxProbes = 32;  // at once

  // `loop` outlives the prober and has stopped before it is destroyed. A link gets `connect_timeout` or, where that is
  // longer, the target's attempt timeout to be ready; the canary gets the same again.
  Prober(Loop& loop, absl::Duration connect_timeout) : loop_(loop), connect_timeout_(connect_timeout) {}
  ~Prober();

  // Connects, sends `canary` unless it is null, and calls `done` once, on the loop or, when the prober refuses
  // (RESOURCE_EXHAUSTED: kMaxProbes are running; UNAVAILABLE: stopped), at once. The transport outlives the prober.
  void Probe(const Destination& destination, MessageRef canary, absl::AnyInvocable<void(ProbeResult) &&> done);

  // Ends all that run with UNAVAILABLE, soon, and refuses new ones.
  void Stop();

 private:
  class Run;

  Loop& loop_;
  const absl::Duration connect_timeout_;
  absl::flat_hash_set<Run*> running_;  // on the loop

  Mutex mutex_;
  size_t count_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ENDPOINT_PROBER_H_
