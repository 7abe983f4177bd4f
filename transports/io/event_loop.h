// EventLoop: the production Loop, one thread on libevent.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_EVENT_LOOP_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_EVENT_LOOP_H_

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "transports/api/loop.h"
#include "transports/api/mutex.h"

struct event_base;

namespace eventvirtual {

// The event base is touched by this loop's thread alone; other threads reach it by Post(), which writes to an eventfd
// only if the loop may be asleep: under load a hand-over costs a lock and no system call.
class EventLoop final : public Loop {
 public:
  // Starts the thread, named `name` (at most 15 characters), with all signals blocked.
  explicit EventLoop(const std::string& name);
  ~EventLoop() override;  // Stop()

  // Runs what was posted so far and joins the thread. What is posted later is destroyed unrun. Not on the loop.
  // Timers and watches may be destroyed afterwards, until the loop itself is.
  void Stop();

  absl::Time Now() const override;
  void Post(absl::AnyInvocable<void() &&> task) override;
  std::unique_ptr<Timer> NewTimer(absl::AnyInvocable<void()> on_time) override;
  std::unique_ptr<Watch> NewWatch(int fd, absl::AnyInvocable<void(Readiness)> on_ready) override;
  bool OnLoop() const override;

 private:
  void Run(const std::string& name);
  void RunTasks();

  event_base* base_;
  const int wake_fd_;

  Mutex mutex_;
  std::vector<absl::AnyInvocable<void() &&>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool awake_ ABSL_GUARDED_BY(mutex_) = false;  // the thread will look at tasks_ before it sleeps
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<int> wakers_{0};  // threads between the lock and their write to wake_fd_

  std::vector<absl::AnyInvocable<void() &&>> running_;  // loop thread: scratch of RunTasks()
  std::thread thread_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_EVENT_LOOP_H_
