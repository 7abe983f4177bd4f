#include "transports/io/event_loop.h"

#include <event2/event.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "transports/api/begin_thread.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

// Whose turn this thread has, and whether it is not that loop's own.
thread_local const EventLoop* current_loop = nullptr;
thread_local bool borrowing = false;

// A loop that had something to do a shorter time ago lends nothing: there will be more at once, for which two threads
// are better than one. No longer than it takes to wake a thread, or one call after the other would have to wait for
// that.
constexpr int64_t kRestNanos = 25'000;

// The steady clock and what must be added to it to read like wall time: one anchor for all loops of the process.
timespec Steady() {
  timespec steady;
  clock_gettime(CLOCK_MONOTONIC, &steady);
  return steady;
}

absl::Time SteadyNow() { return absl::TimeFromTimespec(Steady()); }

int64_t SteadyNanos() {
  const timespec steady = Steady();
  return int64_t{steady.tv_sec} * 1'000'000'000 + steady.tv_nsec;
}

absl::Duration Anchor() {
  static const absl::Duration anchor = absl::Now() - SteadyNow();
  return anchor;
}

}  // namespace

// libevent frees an event at once, also while its own callback runs: whoever calls back holds the registration.
class EventLoop::Registration : public std::enable_shared_from_this<Registration> {
 public:
  explicit Registration(EventLoop& loop) : loop_(loop) {}
  virtual ~Registration() { event_free(event_); }  // on the loop's thread, or after its end

  virtual void Apply() = 0;  // tells libevent what is wanted; likewise

  EventLoop& loop_;
  event* event_ = nullptr;
  bool noted_ = false;  // in changes_
};

class EventLoop::EventTimer final : public Loop::Timer {
 public:
  EventTimer(EventLoop& loop, absl::AnyInvocable<void()> on_time)
      : alarm_(std::make_shared<Alarm>(loop, std::move(on_time))) {}
  ~EventTimer() override {
    if (!alarm_->calling_) alarm_->on_time_ = nullptr;
    Arm(absl::InfiniteFuture());
  }

  void Arm(absl::Time when) override {
    alarm_->when_ = when;
    alarm_->loop_.Update(alarm_);
  }
  void Cancel() override { Arm(absl::InfiniteFuture()); }

 private:
  struct Alarm final : Registration {
    Alarm(EventLoop& loop, absl::AnyInvocable<void()> on_time) : Registration(loop), on_time_(std::move(on_time)) {
      event_ = evtimer_new(
          loop.base_, [](evutil_socket_t, short, void* self) { static_cast<Alarm*>(self)->OnEvent(); }, this);
      EV_CHECK(event_ != nullptr);
    }

    void Apply() override {
      if (when_ == absl::InfiniteFuture()) {
        event_del(event_);
        return;
      }
      // libevent caches the time of a turn and counts in microseconds: round up, and look again when it fires.
      const absl::Duration wait = std::max(when_ - loop_.Now(), absl::ZeroDuration());
      const timeval delay = absl::ToTimeval(std::min(absl::Ceil(wait, absl::Microseconds(1)), absl::Hours(24)));
      event_add(event_, &delay);
    }

    void OnEvent() {
      const std::shared_ptr<Registration> held = shared_from_this();
      loop_.TakeTurn();
      if (loop_.Now() < when_) return Apply();  // also if a borrower has armed or cancelled it meanwhile
      when_ = absl::InfiniteFuture();
      calling_ = true;
      on_time_();
      calling_ = false;
    }

    absl::AnyInvocable<void()> on_time_;
    absl::Time when_ = absl::InfiniteFuture();
    bool calling_ = false;
  };

  const std::shared_ptr<Alarm> alarm_;
};

class EventLoop::EventWatch final : public Loop::Watch {
 public:
  EventWatch(EventLoop& loop, int fd, absl::AnyInvocable<void(Readiness)> on_ready)
      : lookout_(std::make_shared<Lookout>(loop, fd, std::move(on_ready))) {}
  ~EventWatch() override {
    if (!lookout_->calling_) lookout_->on_ready_ = nullptr;
    lookout_->wanted_ = 0;
    lookout_->loop_.Update(lookout_);
  }

  void Want(Readiness interest) override {
    const short wanted = (interest.readable ? EV_READ : 0) | (interest.writable ? EV_WRITE : 0);
    if (wanted == lookout_->wanted_) return;
    lookout_->wanted_ = wanted;
    lookout_->loop_.Update(lookout_);
  }

 private:
  struct Lookout final : Registration {
    Lookout(EventLoop& loop, int fd, absl::AnyInvocable<void(Readiness)> on_ready)
        : Registration(loop), fd_(fd), on_ready_(std::move(on_ready)) {
      event_ = event_new(loop.base_, fd, EV_PERSIST, &Lookout::OnEvent, this);
      EV_CHECK(event_ != nullptr);
    }

    void Apply() override {
      event_del(event_);
      if (wanted_ == 0) return;
      event_assign(event_, loop_.base_, fd_, wanted_ | EV_PERSIST, &Lookout::OnEvent, this);
      event_add(event_, nullptr);
    }

    static void OnEvent(evutil_socket_t, short what, void* self) {
      const auto lookout = std::static_pointer_cast<Lookout>(static_cast<Lookout*>(self)->shared_from_this());
      lookout->loop_.TakeTurn();
      what &= lookout->wanted_;  // of which a borrower may have thought better
      if (what == 0) return;
      lookout->calling_ = true;
      lookout->on_ready_({(what & EV_READ) != 0, (what & EV_WRITE) != 0});
      lookout->calling_ = false;
    }

    const int fd_;
    absl::AnyInvocable<void(Readiness)> on_ready_;
    short wanted_ = 0;
    bool calling_ = false;
  };

  const std::shared_ptr<Lookout> lookout_;
};

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
  stopped_.store(true, std::memory_order_release);
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
    if (!MustWake()) return;
  }
  Wake();
}

bool EventLoop::TryRun(absl::FunctionRef<void()> task) {
  if (!Borrow()) return false;
  task();
  GiveBack();
  return true;
}

// Who has one turn borrows no other: what follows from what would have no end.
bool EventLoop::Borrow() {
  if (current_loop != nullptr) return false;
  MutexLock lock(&mutex_);
  if (turn_ != Turn::kNobody || waking_ || stopping_ || !tasks_.empty()) return false;
  if (SteadyNanos() - idle_since_ < kRestNanos) return false;
  turn_ = Turn::kBorrowed;
  current_loop = this;
  borrowing = true;
  return true;
}

void EventLoop::GiveBack() {
  current_loop = nullptr;
  borrowing = false;
  {
    MutexLock lock(&mutex_);
    GiveUp();
    if (waiting_) return given_back_.SignalAll();  // the thread has woken for something else, and will see all
    if ((tasks_.empty() && changes_.empty()) || !MustWake()) return;
  }
  Wake();
}

void EventLoop::GiveUp() {
  turn_ = Turn::kNobody;
  idle_since_ = SteadyNanos();
}

// Whoever has the turn looks at tasks_ before it gives it up.
bool EventLoop::MustWake() {
  if (turn_ != Turn::kNobody || std::exchange(waking_, true)) return false;
  wakers_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

// Outside the lock, which the loop takes first of all when it wakes: under it, both threads went to sleep once more.
// The task may have been seen already, but whoever destroys this loop waits for us.
void EventLoop::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof(one));
  wakers_.fetch_sub(1, std::memory_order_release);
}

std::unique_ptr<Loop::Timer> EventLoop::NewTimer(absl::AnyInvocable<void()> on_time) {
  EV_CHECK(OnLoop());
  return std::make_unique<EventTimer>(*this, std::move(on_time));
}

std::unique_ptr<Loop::Watch> EventLoop::NewWatch(int fd, absl::AnyInvocable<void(Readiness)> on_ready) {
  EV_CHECK(OnLoop());
  return std::make_unique<EventWatch>(*this, fd, std::move(on_ready));
}

void EventLoop::Update(std::shared_ptr<Registration> changed) {
  EV_CHECK(OnLoop() || stopped_.load(std::memory_order_acquire));
  if (!borrowing || !OnLoop()) return changed->Apply();
  if (!std::exchange(changed->noted_, true)) changes_.push_back(std::move(changed));
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

void EventLoop::TakeTurn() {
  if (has_turn_) return;
  {
    MutexLock lock(&mutex_);
    waiting_ = true;
    while (turn_ == Turn::kBorrowed) given_back_.Wait(&mutex_);
    waiting_ = false;
    waking_ = false;
    turn_ = Turn::kThread;
  }
  has_turn_ = true;
  // First of all: a descriptor that a borrower has closed may have been opened anew.
  for (std::shared_ptr<Registration>& changed : changes_) {
    changed->noted_ = false;
    changed->Apply();
    changed = nullptr;
  }
  changes_.clear();
}

void EventLoop::Run(const std::string& name) {
  BeginThread(name);
  current_loop = this;

  // Edge-triggered: each write wakes once, and the counter, which 2^64 wake-ups would fill, need not be read.
  event* const wake = event_new(
      base_, wake_fd_, EV_READ | EV_PERSIST | EV_ET, [](evutil_socket_t, short, void*) {}, nullptr);
  EV_CHECK(wake != nullptr);
  event_add(wake, nullptr);

  // The tasks posted so far, then what is due or ready. It sleeps only if no task has come meanwhile.
  while (true) {
    RunTasks();
    {
      MutexLock lock(&mutex_);
      if (tasks_.empty()) {
        if (stopping_) break;
        GiveUp();
        has_turn_ = false;
      }
    }
    event_base_loop(base_, has_turn_ ? EVLOOP_ONCE | EVLOOP_NONBLOCK : EVLOOP_ONCE);
    TakeTurn();
  }
  event_free(wake);
  current_loop = nullptr;
}

}  // namespace eventvirtual
