#include "transports/io/mailbox.h"

#include <atomic>
#include <memory>
#include <thread>

#include "gtest/gtest.h"
#include "tests/transports/io/on_loop.h"
#include "transports/io/event_loop.h"
#include "transports/testing/simulated_loop.h"

namespace eventvirtual {
namespace {

TEST(Mailbox, RunsTasksOnTheLoopUntilTheLinkLeaves) {
  SimulatedLoop loop;
  const auto box = std::make_shared<Mailbox>(loop);
  int ran = 0;
  box->Post([&ran] { ++ran; });
  EXPECT_EQ(ran, 0);
  loop.RunUntilIdle();
  EXPECT_EQ(ran, 1);

  box->Post([&ran] { ++ran; });  // on its way when the link leaves
  EXPECT_FALSE(box->left());
  box->Leave();
  EXPECT_TRUE(box->left());
  box->Post([&ran] { ++ran; });
  loop.RunUntilIdle();
  EXPECT_EQ(ran, 1);
}

TEST(Mailbox, ATaskMayMakeTheLinkLeave) {
  SimulatedLoop loop;
  const auto box = std::make_shared<Mailbox>(loop);
  bool ran = false;
  box->Post([box] { box->Leave(); });
  box->Post([&ran] { ran = true; });
  loop.RunUntilIdle();
  EXPECT_FALSE(ran);
}

// Under ThreadSanitizer and AddressSanitizer: the loop goes as soon as the link has left, whoever posts meanwhile.
TEST(Mailbox, ItsLoopMayGoWhileAThreadGoesOnPosting) {
  for (int round = 0; round < 100; ++round) {
    auto loop = std::make_unique<EventLoop>("mailbox");
    const auto box = std::make_shared<Mailbox>(*loop);
    std::atomic<bool> enough = false;
    Signal first;
    std::thread poster([&first, &enough, box] {
      while (!enough) box->Post([&first] { first.Set(); });
    });
    ASSERT_TRUE(first.Wait());
    OnLoop(*loop, [&box] { box->Leave(); });
    loop.reset();
    enough = true;
    poster.join();
  }
}

}  // namespace
}  // namespace eventvirtual
