// Load: whether more is asked of the process than it can do, and what it refuses meanwhile.
#ifndef EVENTVIRTUAL_SERVER_LOAD_LOAD_H_
#define EVENTVIRTUAL_SERVER_LOAD_LOAD_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "transports/api/loop.h"

namespace eventvirtual {

// The signal is how long a task waits for its turn on the busiest event loop, while many events are on their way.
// Bursts make tasks wait, too, and end by themselves; so what counts is the shortest wait of the last half second, as
// in CoDel (RFC 8289). The longer it is, the more is refused; it is let in again step by step.
//
// At rest it does not look: whoever brings the event that makes kBusy tells it (OnBusy()), and it looks at once, and
// then every kLook until five looks in a row have found less, and what it had to refuse is long over.
class Load {
 public:
  // In the order in which it is refused.
  enum class Work {
    kWatching,   // rows for who watches deliveries; further watches
    kAccepted,   // events whose delivery nobody waits for (WAIT_ACCEPTED), OpenSIPS' among them
    kDelivered,  // all other events
  };
  static constexpr size_t kWorks = 3;

  static constexpr absl::Duration kLook = absl::Milliseconds(100);  // from one look to the next
  static constexpr absl::Duration kPaceMemory = absl::Seconds(10);  // see Paces()
  static constexpr uint64_t kBusy = 100;  // events on their way; with fewer, no task is sent, and soon nobody looks
  // The wait from which on each kind of work is refused.
  static constexpr absl::Duration kLimits[kWorks] = {absl::Milliseconds(50), absl::Milliseconds(100),
                                                     absl::Milliseconds(500)};

  // Of `loops`, where `pending` events are on their way (any thread).
  Load(std::vector<Loop*> loops, std::function<uint64_t()> pending);

  // From now on looks when there is reason to, on `loop`, whose clock counts. All loops outlive this, or at least
  // whoever calls OnBusy(). Before, and after Stop(), nothing is refused. Both on that loop.
  void Start(Loop& loop);
  void Stop();

  // kBusy events or more are on their way. From each raise that finds it so, and any thread: while this looks anyway,
  // it is one look at the memory.
  void OnBusy() {
    if (resting_.load(std::memory_order_relaxed)) Wake();
  }

  // Any thread; one look at the memory.
  bool Refuses(Work work) const { return refused_works_.load(std::memory_order_relaxed) > static_cast<size_t>(work); }

  // RESOURCE_EXHAUSTED: what to tell whose work is refused. Counts it. Any thread.
  absl::Status Refuse(Work work) const;

  // Whether who can let a client wait is to do so, instead of taking what will be refused, and to take more of it
  // AfterRound(). From the first refusal on until ten seconds after the last: a client that has so much more to say
  // than can be done would otherwise bring the next refusal at once. Any thread; one look at the memory.
  bool Paces() const { return paces_.load(std::memory_order_relaxed); }

  // Calls `then` once each loop has done what it has been given so far, on one of them. Any thread.
  void AfterRound(std::function<void()> then) const;

  struct Figures {
    size_t refused_works = 0;  // so many kinds of work are refused, from the first on
    absl::Duration wait;       // as it counts
    std::array<uint64_t, kWorks> refused = {};
  };
  Figures figures() const;  // any thread

 private:
  static constexpr size_t kWaits = 5;  // looks that a wait must last, and those with less than kBusy before it rests

  // A task that is sent around a loop.
  struct Probe {
    std::atomic<bool> out{false};
    absl::Time sent;  // of who looks
    std::atomic<int64_t> nanos{0};
  };

  void Wake();
  void Look();
  absl::Duration LongestWait();

  const std::vector<Loop*> loops_;
  const std::function<uint64_t()> pending_;
  std::atomic<bool> resting_{false};  // its timer is not armed; who makes it false has it armed again
  std::atomic<size_t> refused_works_{0};
  std::atomic<bool> paces_{false};
  std::atomic<int64_t> wait_nanos_{0};
  mutable std::array<std::atomic<uint64_t>, kWorks> refused_ = {};

  // On the loop that looks.
  Loop* loop_ = nullptr;
  std::unique_ptr<Loop::Timer> timer_;
  std::vector<std::shared_ptr<Probe>> probes_;
  std::array<absl::Duration, kWaits> waits_ = {};
  size_t looks_ = 0;
  size_t idle_looks_ = 0;  // the last ones, with less than kBusy; since it was woken
  absl::Time paces_until_ = absl::InfinitePast();
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_LOAD_LOAD_H_
