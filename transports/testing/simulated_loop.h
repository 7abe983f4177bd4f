// SimulatedLoop: virtual time and one thread, for stories without sleeps.
#ifndef EVENTVIRTUAL_TRANSPORTS_TESTING_SIMULATED_LOOP_H_
#define EVENTVIRTUAL_TRANSPORTS_TESTING_SIMULATED_LOOP_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "transports/api/check.h"
#include "transports/api/loop.h"

namespace eventvirtual {

// Runs on the thread of the test, which is always "on the loop". Time begins at the wall clock's and moves only in
// Advance(); tasks run only in RunUntilIdle() and Advance(). Watches are a CHECK: what needs descriptors needs
// EventLoop.
class SimulatedLoop final : public Loop {
 public:
  absl::Time Now() const override { return now_; }
  bool OnLoop() const override { return true; }
  void Post(absl::AnyInvocable<void() &&> task) override { tasks_.push_back(std::move(task)); }

  std::unique_ptr<Timer> NewTimer(absl::AnyInvocable<void()> on_time) override {
    return std::make_unique<SimulatedTimer>(*this, std::move(on_time));
  }
  std::unique_ptr<Watch> NewWatch(int, absl::AnyInvocable<void(Readiness)>) override {
    EV_CHECK(false && "SimulatedLoop has no watches");
    return nullptr;
  }

  // Runs the posted tasks and those that they post, and the timers that are due.
  void RunUntilIdle() {
    while (true) {
      if (!tasks_.empty()) {
        absl::AnyInvocable<void()&&> task = std::move(tasks_.front());
        tasks_.pop_front();
        std::move(task)();
      } else if (!timers_.empty() && timers_.begin()->first.first <= now_) {
        SimulatedTimer* const timer = timers_.begin()->second;
        timers_.erase(timers_.begin());
        timer->armed_ = false;
        const auto on_time = timer->on_time_;  // the timer may be destroyed inside
        (*on_time)();
      } else {
        return;
      }
    }
  }

  // Lets `duration` pass; every timer fires at exactly its time.
  void Advance(absl::Duration duration) {
    const absl::Time end = now_ + duration;
    RunUntilIdle();
    while (!timers_.empty() && timers_.begin()->first.first <= end) {
      now_ = timers_.begin()->first.first;
      RunUntilIdle();
    }
    now_ = end;
    RunUntilIdle();
  }

 private:
  class SimulatedTimer final : public Timer {
   public:
    SimulatedTimer(SimulatedLoop& loop, absl::AnyInvocable<void()> on_time)
        : loop_(loop), on_time_(std::make_shared<absl::AnyInvocable<void()>>(std::move(on_time))) {}
    ~SimulatedTimer() override { Cancel(); }
    void Arm(absl::Time when) override {
      Cancel();
      if (when == absl::InfiniteFuture()) return;
      key_ = {when, ++loop_.last_timer_};
      loop_.timers_[key_] = this;
      armed_ = true;
    }
    void Cancel() override {
      if (armed_) loop_.timers_.erase(key_);
      armed_ = false;
    }

   private:
    friend class SimulatedLoop;
    SimulatedLoop& loop_;
    const std::shared_ptr<absl::AnyInvocable<void()>> on_time_;
    std::pair<absl::Time, uint64_t> key_;
    bool armed_ = false;
  };

  absl::Time now_ = absl::Now();
  std::deque<absl::AnyInvocable<void() &&>> tasks_;
  std::map<std::pair<absl::Time, uint64_t>, SimulatedTimer*> timers_;
  uint64_t last_timer_ = 0;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_TESTING_SIMULATED_LOOP_H_
