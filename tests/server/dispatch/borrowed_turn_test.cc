// Who sends: the thread that raises, in the turn of the endpoint's loop, or the loop's own.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/dispatch/dispatcher.h"
#include "server/endpoint/endpoint.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/registry/registry.h"
#include "tests/transports/io/on_loop.h"
#include "transports/api/catalog.h"
#include "transports/api/transport.h"
#include "transports/io/event_loop.h"

namespace eventvirtual {
namespace {

// `good:NAME` delivers at once, `bad:NAME` fails at once. Counts what the thread of the test has done itself.
class WhoseTransport final : public Transport {
 public:
  std::atomic<int> connected_here{0}, sent_here{0}, sent{0};

  absl::Span<const absl::string_view> schemes() const override {
    static constexpr absl::string_view kSchemes[] = {"good", "bad"};
    return kSchemes;
  }
  absl::string_view syntax() const override { return "good:NAME, bad:NAME"; }
  absl::string_view description() const override { return "Tells who has called it."; }
  AckLevel ack_level() const override { return AckLevel::kConfirmed; }
  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const std::string text = absl::StrCat(uri.scheme, ":", uri.body);
    return Target{text, text, AckLevel::kConfirmed, absl::Seconds(10)};
  }
  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    if (here()) ++connected_here;
    return std::make_unique<WhoseLink>(*this, target.canonical[0] == 'b', loop, host);
  }

 private:
  class WhoseLink final : public Link {
   public:
    WhoseLink(WhoseTransport& transport, bool bad, Loop& loop, Host& host)
        : transport_(transport), loop_(loop), outcome_(bad ? absl::UnavailableError("it fails") : absl::OkStatus()) {
      loop.Post([alive = std::weak_ptr<bool>(alive_), &host] {
        if (!alive.expired()) host.OnReady(256);
      });
    }
    void Send(absl::Span<Parcel> parcels) override {
      EXPECT_TRUE(loop_.OnLoop());
      ++transport_.sent;
      if (transport_.here()) ++transport_.sent_here;
      for (Parcel& parcel : parcels) std::move(parcel.done).Finish(Fresh(outcome_));
    }

   private:
    WhoseTransport& transport_;
    Loop& loop_;
    const absl::Status outcome_;
    const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  };

  bool here() const { return std::this_thread::get_id() == test_; }

  const std::thread::id test_ = std::this_thread::get_id();
};

class BorrowedTurn : public testing::Test {
 protected:
  BorrowedTurn()
      : catalog_(Transports()),
        pool_({&first_, &second_}, {}),
        registry_(catalog_, pool_, first_, {}),
        dispatcher_(registry_) {}
  ~BorrowedTurn() override {
    EXPECT_TRUE(dispatcher_.AwaitIdle(kPatience));
    registry_.Stop();
    pool_.CloseAll();
    pool_.AwaitEmpty();
  }

  void Subscribe(Policy policy, std::vector<std::string> uris) {
    SubscriptionSpec spec;
    spec.event = "E";
    spec.policy = policy;
    for (std::string& uri : uris) spec.subscribers.push_back({std::move(uri)});
    spec.delivery.failover_timeout = absl::ZeroDuration();  // each event tries all
    ASSERT_TRUE(registry_.Subscribe(spec).ok());
  }

  void Raise(RaiseDone done) { dispatcher_.Raise(Message::Make({.name = "E"}), std::move(done)); }

  // Until the loops have had time to go to sleep: before, they lend nothing.
  void Rest() {
    const absl::Time rested = first_.Now() + absl::Microseconds(100);
    while (first_.Now() < rested) std::this_thread::yield();
  }

  // Whether the event ended on this thread before Raise() returned. Waits for its end, and rests before.
  bool EndsHere() {
    Rest();
    const auto ended = std::make_shared<Signal>();
    std::atomic<bool> here{false};
    const std::thread::id self = std::this_thread::get_id();
    Raise([&](absl::Span<DeliveryResult>) {
      here = std::this_thread::get_id() == self;
      ended->Set();
    });
    EXPECT_TRUE(ended->Wait());
    return here;
  }
  // Rests, raises as often under one cork, and waits for the last to end.
  void RaiseTogether(int count) {
    Rest();
    std::atomic<int> left{count};
    Signal ended;
    {
      const Cork cork(Cork::For::kFewRaises);
      for (int i = 0; i < count; ++i) {
        Raise([&](absl::Span<DeliveryResult>) {
          if (--left == 0) ended.Set();
        });
      }
    }
    ASSERT_TRUE(ended.Wait());
  }
  // A loop that has just worked goes to sleep soon.
  void AwaitEndHere() {
    const absl::Time give_up = absl::Now() + kPatience;
    while (!EndsHere()) ASSERT_LT(absl::Now(), give_up);
  }

  std::vector<std::unique_ptr<Transport>> Transports() {
    std::vector<std::unique_ptr<Transport>> transports;
    auto transport = std::make_unique<WhoseTransport>();
    whose_ = transport.get();
    transports.push_back(std::move(transport));
    return transports;
  }

  WhoseTransport* whose_ = nullptr;
  EventLoop first_{"turn-0"}, second_{"turn-1"};
  Catalog catalog_;
  EndpointPool pool_;
  Registry registry_;
  Dispatcher dispatcher_;
};

TEST_F(BorrowedTurn, AnEventIsSentByWhoRaisesItToAllThatAreConnected) {
  Subscribe(Policy::kParallel, {"good:a", "good:b", "good:c"});
  AwaitEndHere();
  EXPECT_GE(whose_->sent_here, 3);
}

TEST_F(BorrowedTurn, ConnectingIsLeftToTheLoop) {
  Subscribe(Policy::kParallel, {"good:a"});
  EXPECT_FALSE(EndsHere());
  AwaitEndHere();
  EXPECT_EQ(whose_->connected_here, 0);
}

TEST_F(BorrowedTurn, ABatchIsLeftToTheLoops) {
  Subscribe(Policy::kParallel, {"good:a"});
  AwaitEndHere();
  const int sent_here = whose_->sent_here;
  for (int i = 0; i < 100; ++i) {
    Rest();
    Signal ended;
    {
      const RaiseBatch batch;
      Raise([&](absl::Span<DeliveryResult>) { ended.Set(); });
    }
    ASSERT_TRUE(ended.Wait());
  }
  EXPECT_EQ(whose_->sent_here, sent_here);
  AwaitEndHere();
}

TEST_F(BorrowedTurn, SoIsARaiseOfManyOffers) {
  std::vector<std::string> uris;
  for (int i = 0; i < 9; ++i) uris.push_back(absl::StrCat("good:", i));
  Subscribe(Policy::kParallel, uris);
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(EndsHere());
  EXPECT_EQ(whose_->sent_here, 0);
}

TEST_F(BorrowedTurn, WhatFewRaisesOfferTogetherIsSentHereAtOnce) {
  Subscribe(Policy::kParallel, {"good:a", "good:b"});
  AwaitEndHere();
  const absl::Time give_up = absl::Now() + kPatience;
  int sent_here = 0;  // of the last; one of the two loops may not sleep yet
  while (sent_here < 2) {
    ASSERT_LT(absl::Now(), give_up);
    const int before = whose_->sent_here;
    RaiseTogether(16);
    sent_here = whose_->sent_here - before;
  }
  EXPECT_EQ(sent_here, 2);
}

TEST_F(BorrowedTurn, WhatManyRaisesOfferTogetherIsLeftToTheLoops) {
  Subscribe(Policy::kParallel, {"good:a"});
  AwaitEndHere();
  const int sent_here = whose_->sent_here;
  for (int i = 0; i < 100; ++i) RaiseTogether(33);
  EXPECT_EQ(whose_->sent_here, sent_here);
}

TEST_F(BorrowedTurn, AFailureGoesOnWithTheNext) {
  Subscribe(Policy::kFailover, {"bad:a", "good:b"});
  const absl::Time give_up = absl::Now() + kPatience;
  int raised = 0;
  for (; whose_->sent_here == 0; ++raised) {
    ASSERT_LT(absl::Now(), give_up);
    EndsHere();
  }
  EXPECT_EQ(whose_->sent, 2 * raised);
}

TEST_F(BorrowedTurn, WhoHearsOfTheEndMayRaiseAgainAlsoUnderACorkOfItsOwn) {
  Subscribe(Policy::kParallel, {"good:a", "good:b"});
  AwaitEndHere();
  std::atomic<int> left{500};
  Signal last;
  std::function<void()> again = [&] {
    const RaiseBatch batch;
    Raise([&](absl::Span<DeliveryResult>) {
      if (--left == 0) return last.Set();
      again();
    });
  };
  again();
  EXPECT_TRUE(last.Wait());
}

}  // namespace
}  // namespace eventvirtual
