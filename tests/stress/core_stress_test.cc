// Many threads raise through the whole core while links fail, hang, report late and subscriptions come and go; every
// raise must end exactly once and every book must balance. Meant for ThreadSanitizer.
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/dispatch/dispatcher.h"
#include "server/dispatch/explain.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/registry/registry.h"
#include "transports/api/catalog.h"
#include "transports/api/mutex.h"
#include "transports/io/event_loop.h"

namespace eventvirtual {
namespace {

// Ends completions on a thread of its own, some of them late, with faults chosen by a seeded generator.
class FlakyTransport final : public Transport {
 public:
  FlakyTransport() : reporter_([this] { Report(); }) {}
  ~FlakyTransport() override {
    {
      MutexLock lock(&mutex_);
      ended_ = true;
      changed_.SignalAll();
    }
    reporter_.join();
  }

  absl::Span<const absl::string_view> schemes() const override {
    static constexpr absl::string_view kSchemes[] = {"flaky"};
    return kSchemes;
  }
  absl::string_view syntax() const override { return "flaky:NAME"; }
  absl::string_view description() const override { return "Fails in every way."; }
  AckLevel ack_level() const override { return AckLevel::kConfirmed; }
  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    return Target{absl::StrCat("flaky:", uri.body), absl::StrCat("flaky:", uri.body), AckLevel::kConfirmed,
                  absl::Milliseconds(100)};
  }
  std::unique_ptr<Link> Connect(const Target&, Loop& loop, Link::Host& host) override {
    return std::make_unique<FlakyLink>(*this, loop, host);
  }

 private:
  class FlakyLink final : public Link {
   public:
    FlakyLink(FlakyTransport& transport, Loop& loop, Host& host)
        : transport_(transport), loop_(loop), host_(host), random_(++transport.seed_) {
      Post([this] {
        if (Chance(10)) {
          host_.OnClosed(absl::UnavailableError("refused"));
        } else {
          host_.OnReady(16);
        }
      });
    }
    ~FlakyLink() override { *alive_ = false; }

    void Send(absl::Span<Parcel> parcels) override {
      for (Parcel& parcel : parcels) {
        if (Chance(5)) {
          Completion dropped = std::move(parcel.done);  // reports itself
        } else if (Chance(10)) {
          std::move(parcel.done).Finish(absl::UnavailableError("nack"));
        } else if (Chance(30)) {
          std::move(parcel.done).Finish(absl::OkStatus());
        } else {
          MutexLock lock(&transport_.mutex_);
          transport_.late_.push_back(std::move(parcel.done));
          transport_.changed_.SignalAll();
        }
      }
      if (!closed_ && Chance(3)) {
        closed_ = true;
        Post([this] { host_.OnClosed(absl::UnavailableError("closed")); });
      }
    }

   private:
    bool Chance(int percent) { return std::uniform_int_distribution<>(1, 100)(random_) <= percent; }
    template <typename F>
    void Post(F task) {
      loop_.Post([alive = alive_, task] {
        if (*alive) task();
      });
    }
    FlakyTransport& transport_;
    Loop& loop_;
    Host& host_;
    std::minstd_rand random_;
    bool closed_ = false;
    const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  };

  void Report() {
    while (true) {
      std::deque<Completion> late;
      {
        MutexLock lock(&mutex_);
        while (late_.empty() && !ended_) changed_.Wait(&mutex_);
        if (late_.empty()) return;
        late.swap(late_);
      }
      for (Completion& completion : late) std::move(completion).Finish(absl::OkStatus());
    }
  }

  std::atomic<unsigned> seed_{0};
  Mutex mutex_;
  CondVar changed_;
  std::deque<Completion> late_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread reporter_;
};

SubscriptionSpec Spec(const std::string& event, Policy policy, std::vector<std::string> uris) {
  SubscriptionSpec spec;
  spec.event = event;
  spec.policy = policy;
  for (std::string& uri : uris) spec.subscribers.push_back({std::move(uri)});
  spec.delivery.failover_timeout = absl::Milliseconds(5);
  return spec;
}

struct Sums {
  uint64_t matched = 0, ended = 0, offered = 0, attempted = 0, imbalance = 0;
};

// Not on a loop.
Sums Audit(Registry& registry, EndpointPool& pool) {
  Sums sums;
  for (const DeliveryLedger::Row& row : registry.TakeAudit().deliveries) {
    sums.matched += row.counts.matched;
    sums.ended += row.counts.matched - row.counts.pending;
    sums.imbalance += row.counts.imbalance;
  }
  Mutex mutex;
  CondVar told;
  bool done = false;
  pool.TakeAudit(10, [&](const EndpointPool::Audit& audit) {
    MutexLock lock(&mutex);
    sums.imbalance += audit.imbalance;
    for (const auto& [scheme, totals] : audit.transports) {
      sums.offered += totals.books.offered;
      sums.attempted += totals.books.ok + totals.books.failed + totals.books.timed_out + totals.books.unwanted;
    }
    done = true;
    told.SignalAll();
  });
  MutexLock lock(&mutex);
  while (!done) told.Wait(&mutex);
  return sums;
}

// Its memory is gone when it has stopped watching: whoever still told it would be seen by the sanitizers.
class Watcher final : public DeliveryObserver {
 public:
  void OnDelivery(const Message&, const DeliveryResult& delivery) override { attempts_ += delivery.attempts.size(); }

 private:
  size_t attempts_ = 0;
};

TEST(CoreStress, EveryRaiseEndsOnceAndTheBooksBalance) {
  constexpr int kThreads = 4;
  constexpr int kRaises = 25000;  // of each thread
  std::vector<std::unique_ptr<Transport>> transports;
  transports.push_back(std::make_unique<FlakyTransport>());
  Catalog catalog(std::move(transports));
  EventLoop first("stress-0"), second("stress-1");
  EndpointLimits limits;
  limits.queue_events = 500;
  EndpointPool pool({&first, &second}, limits);
  Registry registry(catalog, pool, first, {});
  Dispatcher dispatcher(registry);

  const Policy policies[] = {Policy::kParallel, Policy::kFailover, Policy::kRoundRobin};
  for (Policy policy : policies) {
    ASSERT_TRUE(registry.Subscribe(Spec("E", policy, {"flaky:a", "flaky:b", "flaky:c"})).ok());
  }

  std::atomic<int> ended{0};
  std::atomic<uint64_t> matched{0}, filtered{0}, told{0}, open{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kRaises; ++i) {
        EventFields fields;
        const Param number{"number", int64_t{i % 10}};
        fields.name = "E";
        fields.params = absl::MakeConstSpan(&number, 1);
        open.fetch_add(1);
        const RaiseReceipt receipt =
            dispatcher.Raise(Message::Make(fields), [&](absl::Span<const DeliveryResult> deliveries) {
              for (const DeliveryResult& delivery : deliveries) {
                if (delivery.outcome != DeliveryResult::Outcome::kFiltered) told.fetch_add(1);
              }
              ended.fetch_add(1);
              open.fetch_sub(1);
            });
        matched.fetch_add(receipt.matched);
        filtered.fetch_add(receipt.filtered);
        while (open.load() > 2000) std::this_thread::yield();
      }
    });
  }
  std::atomic<bool> stop{false};
  std::thread subscriber([&] {
    const char* const events[] = {"E", "E*", "*", "E", "E", "EVENT*"};
    for (int i = 0; !stop.load(); ++i) {
      SubscriptionSpec spec = Spec(events[i % 6], policies[i % 3], {absl::StrCat("flaky:x", i % 7), "flaky:a"});
      if (i % 5 == 0) spec.filter = "number!=7";
      if (i % 2 == 0) spec.expires = registry.clock().Now() + absl::Milliseconds(3);
      const auto subscribed = registry.Subscribe(spec);
      if (!subscribed.ok()) continue;  // its three milliseconds were over before it began
      if (i % 3 != 2) (void)registry.Unsubscribe(subscribed->info.name);
      registry.List("", 0, 10);
    }
  });
  // While all this goes on: the books balance whenever they are looked at, and no sum goes down.
  std::thread auditor([&] {
    Sums last;
    int audits = 0;
    while (!stop.load()) {
      const Sums sums = Audit(registry, pool);
      ASSERT_EQ(sums.imbalance, 0u);
      ASSERT_GE(sums.matched, last.matched);
      ASSERT_GE(sums.ended, last.ended);
      ASSERT_GE(sums.offered, last.offered);
      ASSERT_GE(sums.attempted, last.attempted);
      last = sums;
      ++audits;
    }
    EXPECT_GT(audits, 0);
  });
  // An operator who takes subscribers out and brings them back, asks where an event would go, and watches now and then.
  std::thread steering([&] {
    const MessageRef event = Message::Make({.name = "E"});
    for (int i = 0; !stop.load(); ++i) {
      const std::string uri = absl::StrCat("flaky:", std::vector<std::string>{"a", "b", "c", "x1"}[i % 4]);
      Watcher watcher;
      dispatcher.Watch(&watcher);
      (void)pool.SetDrained({{.canonical = uri, .masked = uri}}, true);
      for (const Explanation& one : Explain(registry, *event, 100).subscriptions) EXPECT_FALSE(one.reason.empty());
      (void)pool.SetDrained({{.canonical = uri, .masked = uri}}, false);
      dispatcher.Unwatch(&watcher);
    }
  });
  for (std::thread& thread : threads) thread.join();
  stop.store(true);
  subscriber.join();
  steering.join();
  auditor.join();
  ASSERT_TRUE(dispatcher.AwaitIdle(absl::Minutes(1)));

  EXPECT_EQ(ended.load(), kThreads * kRaises);
  EXPECT_EQ(told.load(), matched.load());
  // Those that came and went count, too.
  const Sums sums = Audit(registry, pool);
  EXPECT_EQ(sums.imbalance, 0u);
  EXPECT_EQ(sums.matched, matched.load() + filtered.load());
  EXPECT_EQ(sums.ended, sums.matched);
  for (const EndpointPool::Listed& listed : pool.List(0, 100)) {
    const EndpointStats& stats = listed.stats;
    EXPECT_EQ(stats.offered, stats.accepted + stats.full + stats.down) << stats.uri;
    EXPECT_EQ(stats.accepted, stats.ok + stats.failed + stats.timed_out + stats.unwanted) << stats.uri;
    EXPECT_EQ(stats.queued + stats.in_flight + stats.queue_bytes, 0u) << stats.uri;
  }
  for (const SubscriptionInfo& info : registry.List("", 0, 100).subscriptions) {
    EXPECT_EQ(info.matched, info.delivered + info.partial + info.failed + info.filtered + info.expired) << info.socket;
  }
  registry.Stop();
  pool.AwaitEmpty();
}

}  // namespace
}  // namespace eventvirtual
