#include "transports/io/worker.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/transports/io/on_loop.h"

namespace eventvirtual {
namespace {

TEST(Worker, RunsTasksInTheirOrderOffTheCallersThread) {
  std::vector<int> seen;  // on the worker
  Signal done;
  Worker worker("order");
  for (int i = 0; i < 1000; ++i) {
    worker.Run([&seen, i] { seen.push_back(i); });
  }
  std::thread::id thread;
  worker.Run([&] {
    thread = std::this_thread::get_id();
    done.Set();
  });
  ASSERT_TRUE(done.Wait());
  EXPECT_NE(thread, std::this_thread::get_id());
  ASSERT_EQ(seen.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(seen[i], i);
}

TEST(Worker, IsDestroyedWhileATaskHangsAndDropsTheOthersUnrun) {
  struct Shared {
    Signal hangs, released, ended;
    std::atomic<int> ran = 0;
  };
  const auto shared = std::make_shared<Shared>();
  auto worker = std::make_unique<Worker>("hangs");
  worker->Run([shared] {
    shared->hangs.Set();
    shared->released.Wait();
    shared->ended.Set();
  });
  const auto held = std::make_shared<int>(0);
  for (int i = 0; i < 10; ++i) {
    worker->Run([shared, held] { ++shared->ran; });
  }
  ASSERT_TRUE(shared->hangs.Wait());
  worker.reset();  // returns: the test would end in the patience of `released` otherwise
  EXPECT_EQ(held.use_count(), 1);

  shared->released.Set();
  EXPECT_TRUE(shared->ended.Wait());
  EXPECT_EQ(shared->ran, 0);
}

TEST(Worker, MayBeDestroyedByItsOwnTask) {
  Signal done;
  auto worker = std::make_unique<Worker>("own");
  Worker* const same = worker.get();
  same->Run([&, worker = std::move(worker)]() mutable {
    worker.reset();
    done.Set();
  });
  EXPECT_TRUE(done.Wait());
}

TEST(Worker, TasksOfManyThreadsAllRun) {
  std::atomic<int> ran = 0;
  Signal done;
  Worker worker("many");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5000; ++i) {
        worker.Run([&] {
          if (++ran == 20000) done.Set();
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(done.Wait());
}

}  // namespace
}  // namespace eventvirtual
