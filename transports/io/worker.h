// Worker: one thread for what may block: files, and libraries that know no loop.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_WORKER_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_WORKER_H_

#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"

namespace eventvirtual {

// Runs tasks in their order on a thread of its own. Destroying it drops the tasks that have not begun and returns at
// once, even while one hangs in the kernel: that one ends whenever it ends, on a thread nobody waits for. So a task
// must own what it touches.
class Worker {
 public:
  explicit Worker(const std::string& name);  // of the thread; at most 15 characters are kept
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void Run(absl::AnyInvocable<void() &&> blocking_task);  // any thread; never blocks

 private:
  struct Shared;
  const std::shared_ptr<Shared> shared_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_WORKER_H_
