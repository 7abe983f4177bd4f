// How a test's thread and a loop's thread wait for each other, never longer than ten seconds.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_IO_ON_LOOP_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_IO_ON_LOOP_H_

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "transports/api/loop.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

inline constexpr absl::Duration kPatience = absl::Seconds(10);

// Something happened. Any thread.
class Signal {
 public:
  void Set() {
    MutexLock lock(&mutex_);
    set_ = true;
    changed_.SignalAll();
  }
  // False: it did not happen in time.
  bool Wait() {
    const absl::Time give_up = absl::Now() + kPatience;
    MutexLock lock(&mutex_);
    while (!set_ && absl::Now() < give_up) changed_.WaitFor(&mutex_, give_up - absl::Now());
    return set_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool set_ ABSL_GUARDED_BY(mutex_) = false;
};

// Runs `task` on the loop, behind what was posted before, and waits for its end however long it takes: `task` refers to
// the caller's stack.
inline void OnLoop(Loop& loop, absl::FunctionRef<void()> task) {
  Mutex mutex;
  CondVar changed;
  bool done = false;
  loop.Post([&] {
    task();
    MutexLock lock(&mutex);
    done = true;
    changed.SignalAll();
  });
  MutexLock lock(&mutex);
  while (!done) changed.Wait(&mutex);
}

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_IO_ON_LOOP_H_
