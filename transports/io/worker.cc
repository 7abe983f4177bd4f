#include "transports/io/worker.h"

#include <deque>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "transports/api/begin_thread.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

struct Worker::Shared {
  Mutex mutex;
  CondVar changed;
  std::deque<absl::AnyInvocable<void() &&>> tasks ABSL_GUARDED_BY(mutex);
  bool ended ABSL_GUARDED_BY(mutex) = false;

  void Work() {
    while (true) {
      absl::AnyInvocable<void() &&> task;
      {
        MutexLock lock(&mutex);
        while (tasks.empty() && !ended) changed.Wait(&mutex);
        if (ended) return;
        task = std::move(tasks.front());
        tasks.pop_front();
      }
      std::move(task)();
    }
  }
};

Worker::Worker(const std::string& name) : shared_(std::make_shared<Shared>()) {
  std::thread([shared = shared_, name] {
    BeginThread(name);
    shared->Work();
  }).detach();
}

Worker::~Worker() {
  std::deque<absl::AnyInvocable<void() &&>> dropped;  // falls outside the lock
  MutexLock lock(&shared_->mutex);
  shared_->ended = true;
  dropped.swap(shared_->tasks);
  shared_->changed.SignalAll();
}

void Worker::Run(absl::AnyInvocable<void() &&> blocking_task) {
  const std::shared_ptr<Shared> shared = shared_;  // the task may own this worker, and end it at once
  bool asleep;
  {
    MutexLock lock(&shared->mutex);
    asleep = shared->tasks.empty();
    shared->tasks.push_back(std::move(blocking_task));
  }
  // Outside of the lock, which it takes first of all when it wakes.
  if (asleep) shared->changed.SignalAll();
}

}  // namespace eventvirtual
