// 100,000 subscriptions expire at the same moment while events are delivered on the same loop.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/dispatch/dispatcher.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/registry/registry.h"
#include "transports/api/catalog.h"
#include "transports/api/mutex.h"
#include "transports/io/event_loop.h"

namespace eventvirtual {
namespace {

constexpr int kSubscriptions = 100000;

// Every event is delivered at once.
class InstantTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override {
    static constexpr absl::string_view kSchemes[] = {"instant"};
    return kSchemes;
  }
  absl::string_view syntax() const override { return "instant:NAME"; }
  absl::string_view description() const override { return "Is always there."; }
  AckLevel ack_level() const override { return AckLevel::kConfirmed; }
  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const std::string text = absl::StrCat("instant:", uri.body);
    return Target{text, text, AckLevel::kConfirmed, absl::Seconds(10)};
  }
  std::unique_ptr<Link> Connect(const Target&, Loop& loop, Link::Host& host) override {
    return std::make_unique<InstantLink>(loop, host);
  }

 private:
  struct InstantLink final : public Link {
    InstantLink(Loop& loop, Host& host) {
      loop.Post([alive = std::weak_ptr<bool>(alive), &host] {
        if (!alive.expired()) host.OnReady(64);
      });
    }
    void Send(absl::Span<Parcel> parcels) override {
      for (Parcel& parcel : parcels) std::move(parcel.done).Finish(absl::OkStatus());
    }
    const std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  };
};

class ExpiryCounter final : public Registry::Observer {
 public:
  explicit ExpiryCounter(const Clock& clock) : clock_(clock) {}
  void OnChange(Registry::Change change, const Subscription& subscription,
                absl::FunctionRef<SubscriptionInfo()>) override {
    if (change != Registry::Change::kExpired) return;
    MutexLock lock(&mutex_);
    const absl::Time now = clock_.Now();
    early_ += now < subscription.expires.Load();
    last_ = now;
    expired_.insert(subscription.name());
    ++count_;
  }
  int count() {
    MutexLock lock(&mutex_);
    return count_;
  }
  int early() {
    MutexLock lock(&mutex_);
    return early_;
  }
  size_t names() {
    MutexLock lock(&mutex_);
    return expired_.size();
  }
  absl::Time last() {
    MutexLock lock(&mutex_);
    return last_;
  }

 private:
  const Clock& clock_;
  Mutex mutex_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
  int early_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time last_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> expired_ ABSL_GUARDED_BY(mutex_);
};

TEST(ExpiryStorm, EachEndsOnceAndNotBeforeItsTimeAndEventsGoOnMeanwhile) {
  std::vector<std::unique_ptr<Transport>> transports;
  transports.push_back(std::make_unique<InstantTransport>());
  Catalog catalog(std::move(transports));
  EventLoop loop("storm");
  EndpointPool pool({&loop}, {});
  Registry registry(catalog, pool, loop, {});
  Dispatcher dispatcher(registry);
  ExpiryCounter expiries(registry.clock());

  SubscriptionSpec live;
  live.event = "E_LIVE";
  live.subscribers.push_back({"instant:live"});
  ASSERT_TRUE(registry.Subscribe(live).ok());
  std::vector<SubscriptionSpec> specs(kSubscriptions);
  const absl::Time begin = registry.clock().Now();
  for (int i = 0; i < kSubscriptions; ++i) {
    specs[i].event = absl::StrCat("E_", i);
    specs[i].subscribers.push_back({absl::StrCat("instant:", i % 100)});
    ASSERT_TRUE(registry.Subscribe(specs[i]).ok());
  }
  // A refresh each, so that all have the same expiry however long it took to make them.
  const absl::Duration needed = registry.clock().Now() - begin;
  const absl::Time expiry = registry.clock().Now() + 2 * needed + absl::Seconds(1);
  for (SubscriptionSpec& spec : specs) {
    spec.expires = expiry;
    ASSERT_TRUE(registry.Subscribe(spec).ok());
  }
  registry.Watch(&expiries);

  // One event at a time; how long each took tells how long the storm ever kept the loop.
  absl::Duration longest_calm, longest_storm;
  int during = 0;
  const absl::Time give_up = expiry + absl::Seconds(60);
  while (expiries.count() < kSubscriptions && registry.clock().Now() < give_up) {
    Mutex mutex;
    CondVar changed;
    bool done = false;
    EventFields fields;
    fields.name = "E_LIVE";
    const int before = expiries.count();
    const absl::Time raised = registry.clock().Now();
    const RaiseReceipt receipt = dispatcher.Raise(Message::Make(fields), [&](absl::Span<const DeliveryResult> result) {
      EXPECT_EQ(result[0].outcome, DeliveryResult::Outcome::kDelivered);
      MutexLock lock(&mutex);
      done = true;
      changed.SignalAll();
    });
    ASSERT_EQ(receipt.matched, 1u);
    MutexLock lock(&mutex);
    while (!done) changed.Wait(&mutex);
    const absl::Duration took = registry.clock().Now() - raised;
    const int after = expiries.count();
    if (after > 0 && before < kSubscriptions) {
      during += after < kSubscriptions;
      longest_storm = std::max(longest_storm, took);
    } else {
      longest_calm = std::max(longest_calm, took);
    }
  }
  EXPECT_EQ(expiries.count(), kSubscriptions);
  EXPECT_EQ(expiries.names(), static_cast<size_t>(kSubscriptions));
  EXPECT_EQ(expiries.early(), 0);
  EXPECT_GT(during, 10) << "the storm was one piece";
  EXPECT_EQ(registry.size(), 1u);
  EventFields expired;
  expired.name = "E_7";
  EXPECT_EQ(dispatcher.Raise(Message::Make(expired), nullptr).matched, 0u);
  // Not judged here: how fast depends on the machine.
  std::printf(
      "%d expiries: the last removed %s after its time; %d events delivered meanwhile, the slowest in %s (before: "
      "%s)\n",
      kSubscriptions, absl::FormatDuration(expiries.last() - expiry).c_str(), during,
      absl::FormatDuration(longest_storm).c_str(), absl::FormatDuration(longest_calm).c_str());
  registry.Unwatch(&expiries);
  ASSERT_TRUE(dispatcher.AwaitIdle(absl::Minutes(1)));
  registry.Stop();
  pool.AwaitEmpty();
}

}  // namespace
}  // namespace eventvirtual
