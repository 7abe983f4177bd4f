// EventLoop: the production Loop, a thread on libevent, and whoever does its work in its place while it sleeps.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_EVENT_LOOP_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_EVENT_LOOP_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "transports/api/loop.h"
#include "transports/api/mutex.h"

struct event_base;

namespace eventvirtual {

// All that runs on it runs under its turn, which one thread has at a time: its own, but while that sleeps; then whoever
// comes with TryRun() may borrow it. The event base is touched by the loop's own thread alone: what a borrower wants
// of it is noted, and the thread is woken to do it. Other threads reach the loop by Post(), which writes to an eventfd
// only if the loop may be asleep: under load a hand-over costs a lock and no system call.
class EventLoop final : public Loop {
 public:
  // Starts the thread, named `name` (at most 15 characters), with all signals blocked.
  explicit EventLoop(const std::string& name);
  ~EventLoop() override;  // Stop()

  // Runs what was posted so far, waits for who has borrowed the turn, and joins the thread. What is posted later is
  // destroyed unrun. Not on the loop. Timers and watches may be destroyed afterwards, until the loop itself
  // is.
  void Stop();

  absl::Time Now() const override;
  void Post(absl::AnyInvocable<void() &&> task) override;
  bool TryRun(absl::FunctionRef<void()> task) override;
  std::unique_ptr<Timer> NewTimer(absl::AnyInvocable<void()> on_time) override;
  std::unique_ptr<Watch> NewWatch(int fd, absl::AnyInvocable<void(Readiness)> on_ready) override;
  bool OnLoop() const override;

 private:
  // Who runs the loop's work, and looks at tasks_ before it gives the turn up.
  enum class Turn { kThread, kNobody, kBorrowed };

  // An event of libevent behind a timer or a watch. It outlives that until the loop's thread has let go of it.
  class Registration;
  class EventTimer;
  class EventWatch;

  void Run(const std::string& name);
  void RunTasks();
  void TakeTurn();  // on the thread, before anything of the loop's runs; waits for a borrower
  bool Borrow();    // false: it is not to be had
  void GiveBack();
  void GiveUp() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MustWake() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Wake();  // after MustWake(), outside the lock
  void Update(std::shared_ptr<Registration> changed);

  event_base* base_;
  const int wake_fd_;

  Mutex mutex_;
  CondVar given_back_;
  std::vector<absl::AnyInvocable<void() &&>> tasks_ ABSL_GUARDED_BY(mutex_);
  Turn turn_ ABSL_GUARDED_BY(mutex_) = Turn::kThread;
  int64_t idle_since_ ABSL_GUARDED_BY(mutex_) = 0;  // the turn was given up then: steady nanoseconds
  bool waking_ ABSL_GUARDED_BY(mutex_) = false;     // the thread has been woken, and has not taken its turn yet
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;    // the thread waits for the turn that somebody has borrowed
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<int> wakers_{0};  // threads between the lock and their write to wake_fd_
  std::atomic<bool> stopped_{false};

  std::vector<std::shared_ptr<Registration>> changes_;  // under the turn: what borrowers want of the event base

  // The loop's own thread.
  bool has_turn_ = true;
  std::vector<absl::AnyInvocable<void() &&>> running_;  // scratch of RunTasks()
  std::thread thread_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_EVENT_LOOP_H_
