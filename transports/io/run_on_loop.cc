#include "transports/io/run_on_loop.h"

#include <utility>

#include "transports/api/mutex.h"

namespace eventvirtual {

void RunOnLoop(Loop& loop, absl::AnyInvocable<void(const std::shared_ptr<void>& hold) &&> task) {
  Mutex mutex;
  CondVar changed;
  bool done = false;
  std::shared_ptr<void> hold(nullptr, [&](void*) {
    MutexLock lock(&mutex);
    done = true;
    changed.SignalAll();
  });
  loop.Post([task = std::move(task), hold = std::move(hold)]() mutable { std::move(task)(hold); });
  MutexLock lock(&mutex);
  while (!done) changed.Wait(&mutex);
}

}  // namespace eventvirtual
