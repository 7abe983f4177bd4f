#include "transports/io/event_loop.h"

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/on_loop.h"

namespace eventvirtual {
namespace {

class SocketPair {
 public:
  SocketPair() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds_), 0); }
  ~SocketPair() {
    close(fds_[0]);
    CloseFar();
  }
  int near() const { return fds_[0]; }
  void WriteFar(const std::string& text) { EXPECT_EQ(write(fds_[1], text.data(), text.size()), ssize_t(text.size())); }
  void CloseFar() {
    if (fds_[1] >= 0) close(std::exchange(fds_[1], -1));
  }

 private:
  int fds_[2];
};

TEST(EventLoopTasks, RunInTheOrderTheyWerePostedAlsoFromTheLoopItself) {
  EventLoop loop("order");
  std::vector<int> seen;  // on the loop
  loop.Post([&] {
    seen.push_back(1);
    loop.Post([&] { seen.push_back(3); });
    seen.push_back(2);
  });
  OnLoop(loop, [] {});
  OnLoop(loop, [&] { EXPECT_EQ(seen, (std::vector<int>{1, 2, 3})); });
}

TEST(EventLoopTasks, NoneOfManyThreadsLosesOneOrSeesItsOwnOutOfOrder) {
  constexpr int kThreads = 4;
  constexpr int kTasks = 20000;
  EventLoop loop("many");
  int next[kThreads] = {};  // on the loop
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kTasks; ++i) {
        loop.Post([&next, t, i] { EXPECT_EQ(next[t]++, i); });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  OnLoop(loop, [&] {
    for (int count : next) EXPECT_EQ(count, kTasks);
  });
}

TEST(EventLoopTasks, WakeALoopThatSleeps) {
  EventLoop loop("sleepy");
  // Between two rounds the loop has nothing to do and goes to sleep: a lost wake-up hangs here.
  for (int i = 0; i < 5000; ++i) OnLoop(loop, [] {});
}

TEST(EventLoopTasks, ThatPostThemselvesForEverStarveNeitherTimersNorWatches) {
  EventLoop loop("busy");
  SocketPair pair;
  std::atomic<bool> stop = false;
  absl::AnyInvocable<void()> again;
  again = [&] {
    if (!stop) loop.Post([&] { again(); });
  };
  Signal timer_fired, watch_fired;
  std::unique_ptr<Loop::Timer> timer;
  std::unique_ptr<Loop::Watch> watch;
  OnLoop(loop, [&] {
    again();
    timer = loop.NewTimer([&] { timer_fired.Set(); });
    timer->Arm(loop.Now() + absl::Milliseconds(2));
    watch = loop.NewWatch(pair.near(), [&](Loop::Readiness) {
      watch_fired.Set();
      watch.reset();
    });
    watch->Want({.readable = true, .writable = false});
  });
  pair.WriteFar("x");
  EXPECT_TRUE(timer_fired.Wait());
  EXPECT_TRUE(watch_fired.Wait());
  stop = true;
  OnLoop(loop, [&] { timer.reset(); });
}

TEST(EventLoopStop, RunsWhatWasPostedBeforeAndDestroysTheRestUnrun) {
  auto loop = std::make_unique<EventLoop>("stop");
  std::atomic<int> ran = 0;
  for (int i = 0; i < 1000; ++i) loop->Post([&] { ++ran; });
  loop->Stop();
  EXPECT_EQ(ran, 1000);

  auto held = std::make_shared<int>(0);
  loop->Post([held, &ran] { ++ran; });
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_EQ(ran, 1000);
  loop->Stop();  // twice is fine
}

// The task is seen before the thread that posted it has woken the loop for it.
TEST(EventLoopStop, TheLoopMayBeDestroyedAsSoonAsATaskWasSeenWhoeverPostedIt) {
  for (int i = 0; i < 500; ++i) {
    auto loop = std::make_unique<EventLoop>("brief");
    std::atomic<bool> seen = false;
    std::thread poster([&seen, posted_to = loop.get()] { posted_to->Post([&seen] { seen = true; }); });
    while (!seen) std::this_thread::yield();
    loop.reset();
    poster.join();
  }
}

TEST(EventLoopStop, TimersAndWatchesMayBeDestroyedAfterwards) {
  SocketPair pair;
  std::unique_ptr<Loop::Timer> timer;
  std::unique_ptr<Loop::Watch> watch;
  EventLoop loop("late");
  OnLoop(loop, [&] {
    timer = loop.NewTimer([] { ADD_FAILURE(); });
    timer->Arm(loop.Now() + absl::Hours(1));
    watch = loop.NewWatch(pair.near(), [](Loop::Readiness) { ADD_FAILURE(); });
    watch->Want({.readable = true, .writable = false});
  });
  loop.Stop();
  timer.reset();
  watch.reset();
}

TEST(EventLoopThread, HasItsNameBlocksSignalsAndKnowsItself) {
  EventLoop loop("a-name-that-is-too-long");
  EventLoop other("other");
  EXPECT_FALSE(loop.OnLoop());
  OnLoop(loop, [&] {
    EXPECT_TRUE(loop.OnLoop());
    EXPECT_FALSE(other.OnLoop());
    char name[16];
    pthread_getname_np(pthread_self(), name, sizeof(name));
    EXPECT_STREQ(name, "a-name-that-is-");
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    EXPECT_EQ(sigismember(&blocked, SIGTERM), 1);
  });
}

TEST(EventLoopClock, ReadsLikeWallTimeAndNeverRunsBackwardsOnAnyLoop) {
  EventLoop a("clock-a");
  EventLoop b("clock-b");
  EXPECT_LT(absl::AbsDuration(a.Now() - absl::Now()), absl::Minutes(1));
  absl::Time last = a.Now();
  for (int i = 0; i < 10000; ++i) {
    const absl::Time now = i % 2 == 0 ? b.Now() : a.Now();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(EventLoopTimer, NeverFiresEarly) {
  EventLoop loop("timers");
  std::vector<std::unique_ptr<Loop::Timer>> timers;
  int fired = 0;  // on the loop
  Signal all;
  OnLoop(loop, [&] {
    for (int i = 0; i < 500; ++i) {
      // Odd nanoseconds, finer than the library counts.
      const absl::Time when = loop.Now() + absl::Nanoseconds(1 + i * 99991);
      timers.push_back(loop.NewTimer([&, when] {
        EXPECT_GE(loop.Now(), when);
        if (++fired == 500) all.Set();
      }));
      timers.back()->Arm(when);
    }
  });
  EXPECT_TRUE(all.Wait());
  OnLoop(loop, [&] { timers.clear(); });
}

TEST(EventLoopTimer, DoesNotFireEarlyWhenArmedAtTheEndOfALongCallback) {
  EventLoop loop("long");
  std::unique_ptr<Loop::Timer> first, second;
  absl::Time when;
  Signal fired;
  OnLoop(loop, [&] {
    second = loop.NewTimer([&] {
      EXPECT_GE(loop.Now(), when);
      fired.Set();
    });
    // The library reads the clock once per turn: by its reckoning 20 ms from then are over soon.
    first = loop.NewTimer([&] {
      const absl::Time begin = loop.Now();
      while (loop.Now() < begin + absl::Milliseconds(20)) {
      }
      when = loop.Now() + absl::Milliseconds(20);
      second->Arm(when);
    });
    first->Arm(loop.Now());
  });
  EXPECT_TRUE(fired.Wait());
  OnLoop(loop, [&] {
    first.reset();
    second.reset();
  });
}

TEST(EventLoopTimer, FiresOnceAtItsLastArming) {
  EventLoop loop("rearm");
  std::unique_ptr<Loop::Timer> timer, past, cancelled, never;
  int fired = 0;  // on the loop
  absl::Time second;
  Signal done, past_fired;
  OnLoop(loop, [&] {
    timer = loop.NewTimer([&] {
      ++fired;
      EXPECT_GE(loop.Now(), second);
      done.Set();
    });
    timer->Arm(loop.Now() + absl::Milliseconds(1));
    second = loop.Now() + absl::Milliseconds(30);
    timer->Arm(second);
    past = loop.NewTimer([&] { past_fired.Set(); });
    past->Arm(absl::InfinitePast());
    cancelled = loop.NewTimer([] { ADD_FAILURE(); });
    cancelled->Arm(loop.Now() + absl::Milliseconds(1));
    cancelled->Cancel();
    never = loop.NewTimer([] { ADD_FAILURE(); });
    never->Arm(loop.Now());
    never->Arm(absl::InfiniteFuture());
  });
  EXPECT_TRUE(past_fired.Wait());
  EXPECT_TRUE(done.Wait());
  OnLoop(loop, [&] {
    EXPECT_EQ(fired, 1);
    timer.reset();
    past.reset();
    cancelled.reset();
    never.reset();
  });
}

TEST(EventLoopTimer, MayBeDestroyedOrArmedInsideItsOwnCallback) {
  EventLoop loop("own");
  std::unique_ptr<Loop::Timer> dies, repeats;
  int left = 5;  // on the loop
  Signal died, repeated;
  OnLoop(loop, [&] {
    const auto held = std::make_shared<std::string>("alive");
    dies = loop.NewTimer([&, held] {
      dies.reset();
      EXPECT_EQ(*held, "alive");
      died.Set();
    });
    dies->Arm(loop.Now());
    repeats = loop.NewTimer([&] {
      if (--left > 0) return repeats->Arm(loop.Now() + absl::Microseconds(10));
      repeats.reset();
      repeated.Set();
    });
    repeats->Arm(loop.Now());
  });
  EXPECT_TRUE(died.Wait());
  EXPECT_TRUE(repeated.Wait());
}

TEST(EventLoopTimer, DestroyedByAnotherThatIsDueInTheSameTurnStaysSilent) {
  EventLoop loop("pair");
  std::unique_ptr<Loop::Timer> a, b;
  int fired = 0;  // on the loop
  Signal done;
  OnLoop(loop, [&] {
    const absl::Time when = loop.Now() + absl::Milliseconds(1);
    a = loop.NewTimer([&] {
      ++fired;
      b.reset();
      done.Set();
    });
    b = loop.NewTimer([&] {
      ++fired;
      a.reset();
      done.Set();
    });
    a->Arm(when);
    b->Arm(when);
    // Both are due before the loop looks at timers again.
    while (loop.Now() < when) {
    }
  });
  EXPECT_TRUE(done.Wait());
  OnLoop(loop, [&] {
    EXPECT_EQ(fired, 1);
    a.reset();
    b.reset();
  });
}

TEST(EventLoopWatch, TellsOfWhatIsWantedAsLongAsItIsSo) {
  EventLoop loop("watch");
  SocketPair pair;
  std::unique_ptr<Loop::Watch> watch;
  Signal writable, readable_twice;
  int readable = 0;  // on the loop
  OnLoop(loop, [&] {
    watch = loop.NewWatch(pair.near(), [&](Loop::Readiness ready) {
      if (ready.writable) {
        EXPECT_FALSE(ready.readable);
        watch->Want({.readable = true, .writable = false});
        writable.Set();
      }
      if (ready.readable && ++readable == 2) {  // level-triggered: nobody has read after the first
        watch->Want({false, false});
        readable_twice.Set();
      }
    });
    watch->Want({.readable = true, .writable = true});
  });
  EXPECT_TRUE(writable.Wait());
  pair.WriteFar("x");
  EXPECT_TRUE(readable_twice.Wait());
  OnLoop(loop, [] {});
  OnLoop(loop, [&] {
    EXPECT_EQ(readable, 2);
    watch.reset();
  });
}

TEST(EventLoopWatch, HangUpMakesReadyWhateverIsWanted) {
  for (const Loop::Readiness interest : {Loop::Readiness{true, false}, Loop::Readiness{false, true}}) {
    EventLoop loop("hangup");
    SocketPair pair;
    // A full buffer: nothing but the hang-up makes it writable.
    while (write(pair.near(), "0123456789", 10) > 0) {
    }
    std::unique_ptr<Loop::Watch> watch;
    Signal told;
    OnLoop(loop, [&] {
      watch = loop.NewWatch(pair.near(), [&](Loop::Readiness ready) {
        EXPECT_EQ(ready.readable, interest.readable);
        EXPECT_EQ(ready.writable, interest.writable);
        watch.reset();  // inside its own callback
        told.Set();
      });
      watch->Want(interest);
    });
    pair.CloseFar();
    EXPECT_TRUE(told.Wait());
  }
}

TEST(EventLoopWatch, DestroyedByAnotherThatIsReadyInTheSameTurnStaysSilent) {
  EventLoop loop("watches");
  SocketPair one, two;
  std::unique_ptr<Loop::Watch> a, b;
  int told = 0;  // on the loop
  Signal done;
  OnLoop(loop, [&] {
    a = loop.NewWatch(one.near(), [&](Loop::Readiness) {
      ++told;
      b.reset();
      a.reset();
      done.Set();
    });
    b = loop.NewWatch(two.near(), [&](Loop::Readiness) {
      ++told;
      a.reset();
      b.reset();
      done.Set();
    });
    a->Want({.readable = true, .writable = false});
    b->Want({.readable = true, .writable = false});
    one.WriteFar("x");
    two.WriteFar("x");
  });
  EXPECT_TRUE(done.Wait());
  OnLoop(loop, [] {});
  OnLoop(loop, [&] { EXPECT_EQ(told, 1); });
}

// Runs `task` on this thread, under the loop's turn, as soon as the loop lends it.
void Borrow(EventLoop& loop, absl::FunctionRef<void()> task) {
  while (!loop.TryRun(task)) std::this_thread::yield();
}

TEST(EventLoopTurn, IsLentWhileTheLoopSleepsAndMeansToBeOnTheLoop) {
  EventLoop loop("lender");
  Borrow(loop, [&] { EXPECT_TRUE(loop.OnLoop()); });
  EXPECT_FALSE(loop.OnLoop());
}

TEST(EventLoopTurn, IsNotLentByALoopThatWorks) {
  EventLoop loop("worker");
  Signal working, go;
  loop.Post([&] {
    working.Set();
    EXPECT_TRUE(go.Wait());
  });
  ASSERT_TRUE(working.Wait());
  EXPECT_FALSE(loop.TryRun([] { ADD_FAILURE(); }));
  go.Set();
  OnLoop(loop, [] {});
}

TEST(EventLoopTurn, IsNotLentBeforeWhatIsQueued) {
  EventLoop loop("queue");
  // A loop that has been woken takes some microseconds: what is queued meanwhile comes first.
  for (int i = 0; i < 2000; ++i) {
    const absl::Time rested = loop.Now() + absl::Microseconds(20);
    while (loop.Now() < rested) std::this_thread::yield();
    bool first = false;  // under the turn
    loop.Post([&] { first = true; });
    loop.TryRun([&] { EXPECT_TRUE(first); });
    OnLoop(loop, [] {});
  }
}

TEST(EventLoopTurn, IsNotLentToWhoHasOneAlready) {
  EventLoop one("one"), other("other");
  Borrow(one, [&] {
    EXPECT_FALSE(one.TryRun([] { ADD_FAILURE(); }));
    const absl::Time rested = one.Now() + absl::Milliseconds(1);
    while (one.Now() < rested) std::this_thread::yield();
    EXPECT_FALSE(other.TryRun([] { ADD_FAILURE(); }));
  });
  Borrow(other, [] {});
}

TEST(EventLoopTurn, BelongsToOneThreadAtATimeAndNobodysTasksChangeTheirOrder) {
  constexpr int kThreads = 4;
  constexpr int kTasks = 20000;
  EventLoop loop("turns");
  // Under the turn; ThreadSanitizer sees who touches them without it.
  int next[kThreads] = {};
  int lent = 0;
  bool inside = false;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const std::thread::id self = std::this_thread::get_id();
      std::atomic<int> done{0};
      for (int i = 0; i < kTasks; ++i) {
        const auto task = [&, t, i] {
          EXPECT_FALSE(std::exchange(inside, true));
          EXPECT_EQ(next[t]++, i);
          lent += std::this_thread::get_id() == self ? 1 : 0;
          inside = false;
          done.store(i + 1);
        };
        if (i % 3 == 0 || !loop.TryRun(task)) loop.Post(task);
        while (i % 7 == 0 && done.load() <= i) std::this_thread::yield();  // so that it sleeps now and then
      }
      while (done.load() < kTasks) std::this_thread::yield();
    });
  }
  for (std::thread& thread : threads) thread.join();
  OnLoop(loop, [&] {
    for (int count : next) EXPECT_EQ(count, kTasks);
    EXPECT_GT(lent, 0);
  });
}

TEST(EventLoopTurn, WhatIsPostedMeanwhileRunsWhenItEnds) {
  EventLoop loop("meanwhile");
  for (int i = 0; i < 200; ++i) {
    Signal own, other;
    Borrow(loop, [&] {
      loop.Post([&] { own.Set(); });
      std::thread([&] { loop.Post([&] { other.Set(); }); }).join();
    });
    ASSERT_TRUE(own.Wait());
    ASSERT_TRUE(other.Wait());
  }
}

TEST(EventLoopTurn, ATimerOfABorrowerFiresOnTheLoopThatSleeps) {
  EventLoop loop("timer");
  const std::thread::id self = std::this_thread::get_id();
  std::unique_ptr<Loop::Timer> timer, cancelled;
  Signal fired;
  absl::Time when;
  Borrow(loop, [&] {
    timer = loop.NewTimer([&] {
      EXPECT_GE(loop.Now(), when);
      EXPECT_NE(std::this_thread::get_id(), self);
      fired.Set();
    });
    timer->Arm(loop.Now() + absl::Hours(1));
    cancelled = loop.NewTimer([] { ADD_FAILURE(); });
    cancelled->Arm(loop.Now() + absl::Hours(1));
  });
  Borrow(loop, [&] {
    when = loop.Now() + absl::Milliseconds(3);
    timer->Arm(when);
    cancelled->Arm(loop.Now() + absl::Milliseconds(1));
    cancelled->Cancel();
  });
  EXPECT_TRUE(fired.Wait());
  Borrow(loop, [&] {
    timer.reset();
    cancelled.reset();
  });
}

TEST(EventLoopTurn, ATimerThatIsDueWaitsForTheBorrower) {
  EventLoop loop("due");
  bool inside = false, in_time = false;  // under the turn
  std::unique_ptr<Loop::Timer> timer, cancelled;
  Signal fired;
  absl::Time when;
  OnLoop(loop, [&] {
    when = loop.Now() + absl::Milliseconds(20);
    timer = loop.NewTimer([&] {
      EXPECT_FALSE(inside);
      fired.Set();
    });
    timer->Arm(when);
    cancelled = loop.NewTimer([&] { EXPECT_FALSE(in_time) << "it was cancelled, though the loop had woken for it"; });
    cancelled->Arm(when);
  });
  Borrow(loop, [&] {
    inside = true;
    in_time = loop.Now() < when;
    while (loop.Now() < when + absl::Milliseconds(20)) {
    }
    cancelled->Cancel();
    inside = false;
  });
  EXPECT_TRUE(fired.Wait());
  OnLoop(loop, [&] {
    timer.reset();
    cancelled.reset();
  });
}

TEST(EventLoopTurn, AWatchOfABorrowerIsNoticedAlsoOnADescriptorThatTookTheNumberOfAnother) {
  EventLoop loop("watch");
  int last = -1, reused = 0;
  for (int i = 0; i < 200; ++i) {
    auto pair = std::make_unique<SocketPair>();
    reused += std::exchange(last, pair->near()) == pair->near() ? 1 : 0;
    std::unique_ptr<Loop::Watch> watch;
    Signal readable;
    Borrow(loop, [&] {
      watch = loop.NewWatch(pair->near(), [&](Loop::Readiness ready) {
        EXPECT_TRUE(ready.readable);
        watch->Want({false, false});
        readable.Set();
      });
      watch->Want({.readable = true, .writable = false});
    });
    pair->WriteFar("x");
    ASSERT_TRUE(readable.Wait());
    Borrow(loop, [&] {
      watch->Want({.readable = true, .writable = true});  // it is both, and the loop wakes at once
      watch.reset();
      pair.reset();
    });
  }
  EXPECT_GT(reused, 0);
}

// The loop opens anew what a borrower has closed while the loop was waking.
TEST(EventLoopTurn, WhatABorrowerClosedIsForgottenBeforeTheLoopWatchesTheSameNumber) {
  EventLoop loop("numbers");
  for (int i = 0; i < 100; ++i) {
    auto first = std::make_unique<SocketPair>();
    std::unique_ptr<SocketPair> second;
    std::unique_ptr<Loop::Watch> watch;
    std::unique_ptr<Loop::Timer> timer;
    Signal readable;
    absl::Time when;
    OnLoop(loop, [&] {
      watch = loop.NewWatch(first->near(), [](Loop::Readiness) { ADD_FAILURE(); });
      watch->Want({.readable = true, .writable = false});
      timer = loop.NewTimer([&] {
        second = std::make_unique<SocketPair>();
        watch = loop.NewWatch(second->near(), [&](Loop::Readiness) {
          watch.reset();
          readable.Set();
        });
        watch->Want({.readable = true, .writable = false});
        second->WriteFar("x");
      });
      when = loop.Now() + absl::Milliseconds(1);
      timer->Arm(when);
    });
    bool early = false;
    Borrow(loop, [&] {
      early = second == nullptr;
      if (!early) return;
      while (loop.Now() < when + absl::Microseconds(200)) {
      }
      watch.reset();
      first.reset();
    });
    ASSERT_TRUE(readable.Wait()) << early;
    OnLoop(loop, [&] { timer.reset(); });
  }
}

TEST(EventLoopTurn, WhatABorrowerDestroysStaysSilentThoughTheLoopWakesForIt) {
  EventLoop loop("destroyed");
  for (int i = 0; i < 300; ++i) {
    SocketPair pair;
    // Under the turn: its callbacks must not run once it is gone.
    auto alive = std::make_unique<bool>(true);
    std::unique_ptr<Loop::Timer> timer;
    std::unique_ptr<Loop::Watch> watch;
    const auto held = std::make_shared<int>(0);
    Borrow(loop, [&] {
      timer = loop.NewTimer([&alive, held] { EXPECT_NE(alive, nullptr); });
      watch = loop.NewWatch(pair.near(), [&alive, held](Loop::Readiness) { EXPECT_NE(alive, nullptr); });
      timer->Arm(loop.Now() + absl::Microseconds(i % 50));
      watch->Want({.readable = true, .writable = false});
    });
    pair.WriteFar("x");
    // Not before the loop is about to call.
    Borrow(loop, [&] {
      timer.reset();
      watch.reset();
      alive.reset();
      EXPECT_EQ(held.use_count(), 1) << "what a callback holds goes with it";
    });
    OnLoop(loop, [] {});
  }
}

TEST(EventLoopStop, WaitsForWhoHasBorrowedTheTurn) {
  for (int i = 0; i < 200; ++i) {
    auto loop = std::make_unique<EventLoop>("borrowed");
    Signal inside, go;
    bool ended = false;  // under the turn
    std::thread borrower([&, borrowed = loop.get()] {
      Borrow(*borrowed, [&] {
        inside.Set();
        EXPECT_TRUE(go.Wait());
        ended = true;
      });
    });
    ASSERT_TRUE(inside.Wait());
    std::thread stopper([&] {
      loop->Stop();
      EXPECT_TRUE(ended);
      loop.reset();
    });
    go.Set();
    stopper.join();
    borrower.join();
  }
}

TEST(EventLoopStop, NobodyBorrowsTheTurnAfterwards) {
  EventLoop loop("stopped");
  loop.Stop();
  EXPECT_FALSE(loop.TryRun([] { ADD_FAILURE(); }));
}

TEST(EventLoopTurnDeathTest, WhoHasNotGotItTouchesNothing) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EventLoop loop("foreign");
  std::unique_ptr<Loop::Timer> timer;
  OnLoop(loop, [&] { timer = loop.NewTimer([] {}); });
  EXPECT_DEATH(timer->Arm(absl::InfiniteFuture()), "broken invariant: OnLoop()");
  EXPECT_DEATH(loop.NewTimer([] {}), "broken invariant: OnLoop()");
  OnLoop(loop, [&] { timer.reset(); });
}

}  // namespace
}  // namespace eventvirtual
