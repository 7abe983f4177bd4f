#include "transports/io/event_loop.h"

#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

thread_local const EventLoop* current_loop = nullptr;

// The steady clock and what must be added to it to read like wall time: one anchor for all loops of the process.
absl::Time SteadyNow() {
  timespec steady;
  clock_gettime(CLOCK_MONOTONIC, &steady);
  return absl::TimeFromTimespec(steady);
}

absl::Duration Anchor() {
  static const absl::Duration anchor = absl::Now() - SteadyNow();
  return anchor;
}

// libevent frees an event at once, also while its own callback runs; only our function object must outlive its call.
class EventTimer final : public Loop::Timer {
 public:
  EventTimer(event_base* base, const Loop& loop, absl::AnyInvocable<void()> on_time)
      : loop_(loop), on_time_(std::make_shared<absl::AnyInvocable<void()>>(std::move(on_time))) {
    event_ = evtimer_new(
        base, [](evutil_socket_t, short, void* self) { static_cast<EventTimer*>(self)->OnEvent(); }, this);
    EV_CHECK(event_ != nullptr);
  }
  ~EventTimer() override { event_free(event_); }

  void Arm(absl::Time when) override {
    when_ = when;
    if (when == absl::InfiniteFuture()) return Cancel();
    // libevent caches the time of a turn and counts in microseconds: round up, and look again when it fires.
    const absl::Duration wait = std::max(when - loop_.Now(), absl::ZeroDuration());
    const timeval delay = absl::ToTimeval(std::min(absl::Ceil(wait, absl::Microseconds(1)), absl::Hours(24)));
    event_add(event_, &delay);
  }
  void Cancel() override { event_del(event_); }

 private:
  void OnEvent() {
    if (loop_.Now() < when_) return Arm(when_);
    const std::shared_ptr<absl::AnyInvocable<void()>> on_time = on_time_;
    (*on_time)();
  }

  const Loop& loop_;
  const std::shared_ptr<absl::AnyInvocable<void()>> on_time_;
  event* event_;
  absl::Time when_;
};

class EventWatch final : public Loop::Watch {
 public:
  EventWatch(event_base* base, int fd, absl::AnyInvocable<void(Loop::Readiness)> on_ready)
      : base_(base),
        fd_(fd),
        on_ready_(std::make_shared<absl::AnyInvocable<void(Loop::Readiness)>>(std::move(on_ready))),
        event_(event_new(base, fd, EV_PERSIST, &EventWatch::OnEvent, this)) {
    EV_CHECK(event_ != nullptr);
  }
  ~EventWatch() override { event_free(event_); }

  void Want(Loop::Readiness interest) override {
    const short wanted = (interest.readable ? EV_READ : 0) | (interest.writable ? EV_WRITE : 0);
    if (wanted == wanted_) return;
    wanted_ = wanted;
    event_del(event_);
    if (wanted == 0) return;
    event_assign(event_, base_, fd_, wanted | EV_PERSIST, &EventWatch::OnEvent, this);
    event_add(event_, nullptr);
  }

 private:
  static void OnEvent(evutil_socket_t, short what, void* self) {
    const auto on_ready = static_cast<EventWatch*>(self)->on_ready_;
    (*on_ready)({(what & EV_READ) != 0, (what & EV_WRITE) != 0});
  }

  event_base* const base_;
  const int fd_;
  const std::shared_ptr<absl::AnyInvocable<void(Loop::Readiness)>> on_ready_;
  event* const event_;
  short wanted_ = 0;
};

}  // namespace

EventLoop::EventLoop(const std::string& name) : wake_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  EV_CHECK(wake_fd_ >= 0);
  Anchor();
  event_config* const config = event_config_new();
  event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
  event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
  base_ = event_base_new_with_config(config);
  event_config_free(config);
  EV_CHECK(base_ != nullptr);
  thread_ = std::thread([this, name] { Run(name); });
}

EventLoop::~EventLoop() {
  Stop();
  while (wakers_.load(std::memory_order_acquire) > 0) std::this_thread::yield();
  event_base_free(base_);
  close(wake_fd_);
}

void EventLoop::Stop() {
  if (!thread_.joinable()) return;
  EV_CHECK(!OnLoop());
  Post([this] {
    MutexLock lock(&mutex_);
    stopping_ = true;
  });
  thread_.join();
}

absl::Time EventLoop::Now() const { return SteadyNow() + Anchor(); }

bool EventLoop::OnLoop() const { return current_loop == this; }

void EventLoop::Post(absl::AnyInvocable<void() &&> task) {
  absl::AnyInvocable<void() &&> refused;  // destroyed outside the lock
  {
    MutexLock lock(&mutex_);
    if (stopping_) {
      refused = std::move(task);
      return;
    }
    tasks_.push_back(std::move(task));
    // What this loop posts to itself is seen before it sleeps.
    if (std::exchange(awake_, true) || OnLoop()) return;
    wakers_.fetch_add(1, std::memory_order_relaxed);
  }
  // Outside the lock, which the loop takes first of all when it wakes: under it, both threads went to sleep once more.
  // The task may have been seen already, but whoever destroys this loop waits for us.
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof(one));
  wakers_.fetch_sub(1, std::memory_order_release);
}

std::unique_ptr<Loop::Timer> EventLoop::NewTimer(absl::AnyInvocable<void()> on_time) {
  return std::make_unique<EventTimer>(base_, *this, std::move(on_time));
}

std::unique_ptr<Loop::Watch> EventLoop::NewWatch(int fd, absl::AnyInvocable<void(Readiness)> on_ready) {
  return std::make_unique<EventWatch>(base_, fd, std::move(on_ready));
}

void EventLoop::RunTasks() {
  {
    MutexLock lock(&mutex_);
    running_.swap(tasks_);
  }
  for (absl::AnyInvocable<void() &&>& task : running_) {
    std::move(task)();
    task = nullptr;  // what it holds falls before the next one runs
  }
  running_.clear();
}

void EventLoop::Run(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  current_loop = this;

  // Edge-triggered: each write wakes once, and the counter, which 2^64 wake-ups would fill, need not be read.
  event* const wake = event_new(
      base_, wake_fd_, EV_READ | EV_PERSIST | EV_ET, [](evutil_socket_t, short, void*) {}, nullptr);
  EV_CHECK(wake != nullptr);
  event_add(wake, nullptr);

  // A turn: the tasks posted so far, then what is due or ready. It sleeps only if no task has come meanwhile.
  for (bool stop = false; !stop;) {
    RunTasks();
    bool sleep = false;
    {
      MutexLock lock(&mutex_);
      sleep = tasks_.empty() && !stopping_;
      stop = tasks_.empty() && stopping_;
      awake_ = !sleep;
    }
    if (stop) break;
    event_base_loop(base_, sleep ? EVLOOP_ONCE : EVLOOP_ONCE | EVLOOP_NONBLOCK);
    MutexLock lock(&mutex_);
    awake_ = true;
  }
  event_free(wake);
  current_loop = nullptr;
}

}  // namespace eventvirtual
