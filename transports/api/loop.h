// Time and threads, as everything below the gRPC services sees them. Two implementations: EventLoop (transports/io), a
// thread on an event library, and SimulatedLoop (transports/testing), one thread and virtual time.
#ifndef EVENTVIRTUAL_TRANSPORTS_API_LOOP_H_
#define EVENTVIRTUAL_TRANSPORTS_API_LOOP_H_

#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/time/time.h"

namespace eventvirtual {

// Time that never runs backwards. It is the steady clock, shifted once at start to read like wall time; a later step of
// the wall clock does not move it. Compare and add; print only for people.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;  // any thread
};

// Runs tasks, timers and descriptor watches, one after the other. Who runs them has the loop's turn: mostly the loop's
// own thread, or one that borrows the turn while that sleeps (TryRun). So what belongs to a loop needs no lock, but
// must not keep anything in a thread from one call to the next. Nothing that runs on it may block.
class Loop : public Clock {
 public:
  // A one-shot alarm. Created, used and destroyed on the loop (destroyed also after the loop has stopped); destroying
  // it cancels, also from inside its own callback.
  class Timer {
   public:
    virtual ~Timer() = default;
    // Fires once at `when` or soon after, never before; replaces an earlier Arm().
    virtual void Arm(absl::Time when) = 0;
    virtual void Cancel() = 0;
  };

  struct Readiness {
    bool readable = false;
    bool writable = false;
  };

  // Readiness of one file descriptor, level-triggered. Created, used and destroyed on the loop, before the descriptor
  // is closed. Errors and hang-ups (EPOLLERR, EPOLLHUP) make ready whatever is wanted.
  class Watch {
   public:
    virtual ~Watch() = default;
    virtual void Want(Readiness interest) = 0;  // starts as {false, false}
  };

  // Runs `task` on the loop, after the tasks posted before it. Any thread, also the loop's own; never blocks.
  // A loop that is being stopped runs what was posted before the stop and destroys the rest unrun.
  virtual void Post(absl::AnyInvocable<void() &&> task) = 0;

  // Runs `task` on this thread under the loop's turn, if the loop has had nothing to do for some microseconds: nobody
  // is woken then, and what the task works on stays in this core's cache. False: it has not run; post it. For what is
  // short. The caller holds no lock that the task takes, or what it calls: it may end other raises than the caller's.
  // Any thread; one that has a loop's turn gets no other.
  virtual bool TryRun(absl::FunctionRef<void()> task) {
    (void)task;
    return false;
  }

  virtual std::unique_ptr<Timer> NewTimer(absl::AnyInvocable<void()> on_time) = 0;                    // on the loop
  virtual std::unique_ptr<Watch> NewWatch(int fd, absl::AnyInvocable<void(Readiness)> on_ready) = 0;  // on the loop

  // Whether the calling thread has this loop's turn.
  virtual bool OnLoop() const = 0;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_API_LOOP_H_
