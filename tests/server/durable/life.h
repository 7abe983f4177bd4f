// Life: one life of a service with a journal, over a fake transport and simulated time; the folder outlives it.
#ifndef EVENTVIRTUAL_TESTS_SERVER_DURABLE_LIFE_H_
#define EVENTVIRTUAL_TESTS_SERVER_DURABLE_LIFE_H_

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/durable/durable_delivery.h"
#include "server/journal/journal.h"
#include "server/journal/subscription_store.h"
#include "tests/server/dispatch/world.h"
#include "transports/api/loop.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// A simulated loop to which other threads may post: what they post runs when the test says so.
class OpenLoop final : public Loop {
 public:
  explicit OpenLoop(SimulatedLoop& loop) : loop_(loop) {}
  absl::Time Now() const override { return loop_.Now(); }
  bool OnLoop() const override { return true; }
  void Post(absl::AnyInvocable<void() &&> task) override {
    MutexLock lock(&mutex_);
    tasks_.push_back(std::move(task));
  }
  std::unique_ptr<Timer> NewTimer(absl::AnyInvocable<void()> on_time) override {
    return loop_.NewTimer(std::move(on_time));
  }
  std::unique_ptr<Watch> NewWatch(int fd, absl::AnyInvocable<void(Readiness)> on_ready) override {
    return loop_.NewWatch(fd, std::move(on_ready));
  }
  // Whether there was anything.
  bool Run() {
    std::deque<absl::AnyInvocable<void() &&>> tasks;
    {
      MutexLock lock(&mutex_);
      tasks.swap(tasks_);
    }
    for (auto& task : tasks) std::move(task)();
    loop_.RunUntilIdle();
    return !tasks.empty();
  }

 private:
  SimulatedLoop& loop_;
  Mutex mutex_;
  std::deque<absl::AnyInvocable<void() &&>> tasks_ ABSL_GUARDED_BY(mutex_);
};

struct Life {
  explicit Life(const std::string& folder, DurableLimits limits = {}, uint64_t max_bytes = uint64_t{1} << 30,
                Journal::Sync sync = Journal::Sync::kNormal)
      : journal(*Journal::Open(folder, sync, max_bytes)), loop(world.loop) {
    durable = std::make_unique<DurableDelivery>(*journal, world.registry, world.dispatcher, loop, limits);
    store = std::make_unique<SubscriptionStore>(*journal, world.registry);
    durable->Resume(store->left_alone());
    Settle();
  }
  // As after kill -9, as far as the journal's file goes: what was not committed is gone.
  ~Life() {
    store.reset();
    durable.reset();
    journal->Close(absl::Seconds(20));
  }

  // Until nothing is left to do: neither here nor at the journal.
  void Settle() {
    do {
      world.loop.RunUntilIdle();
      AwaitJournal();
    } while (loop.Run());
  }
  void AwaitJournal() {
    Mutex mutex;
    CondVar signal;
    bool done = false;
    journal->Look([&](EventTable&) {
      MutexLock lock(&mutex);
      done = true;
      signal.SignalAll();
    });
    MutexLock lock(&mutex);
    while (!done) EV_CHECK(signal.WaitFor(&mutex, absl::Seconds(20)) || done);
  }

  std::string Subscribe(const std::string& event, const std::string& socket,
                        const DeliveryOptions& options = DeliveryOptions()) {
    SubscriptionSpec spec = world.Spec(event, socket);
    spec.delivery = options;
    spec.delivery.durable = true;
    const absl::StatusOr<Registry::Subscribed> subscribed = world.registry.Subscribe(spec);
    EV_CHECK(subscribed.ok());
    return subscribed->info.name;
  }

  // Raises, and does not wait for anything.
  struct Raised {
    RaiseReceipt receipt;
    std::shared_ptr<std::optional<absl::Status>> committed = std::make_shared<std::optional<absl::Status>>();
    std::shared_ptr<std::vector<DeliveryResult>> results = std::make_shared<std::vector<DeliveryResult>>();
  };
  Raised Raise(const std::string& event, int64_t number, bool wait = false) {
    const std::string id = absl::StrCat("id-", number);
    const Param param{"n", number};
    EventFields fields;
    fields.name = event;
    fields.event_id = id;
    fields.event_time = world.loop.Now();
    fields.params = absl::MakeConstSpan(&param, 1);
    Raised raised;
    RaiseDone done;
    if (wait) {
      done = [results = raised.results](absl::Span<DeliveryResult> deliveries) {
        results->assign(deliveries.begin(), deliveries.end());
      };
    }
    raised.receipt = world.dispatcher.Raise(Message::Make(fields), std::move(done));
    if (raised.receipt.commit) {
      raised.receipt.commit->Then([committed = raised.committed](absl::Status status) { *committed = status; });
    }
    return raised;
  }

  // Ends the oldest parcel at `site`, and lets all go on; its event id.
  std::string End(const std::string& site, absl::Status status = absl::OkStatus()) {
    EV_CHECK(world.fake->at(site).has_parcel());
    std::string id(world.fake->at(site).parked.front().message->event_id());
    world.fake->at(site).End(std::move(status));
    Settle();
    return id;
  }
  bool Has(const std::string& site) { return world.fake->at(site).has_parcel(); }
  // Lets `duration` pass in small steps, so that what the journal has to say comes in its time.
  void Advance(absl::Duration duration) {
    for (absl::Duration step = absl::Milliseconds(50); duration > absl::ZeroDuration(); duration -= step) {
      world.loop.Advance(std::min(step, duration));
      Settle();
    }
  }
  std::vector<SavedDeadLetter> DeadLetters() {
    std::vector<SavedDeadLetter> letters;
    journal->Look([&letters](EventTable& table) { letters = *table.ListDeadLetters("", 0, 1000, 1 << 20); });
    AwaitJournal();
    return letters;
  }
  SubscriptionInfo Info(const std::string& name) { return *world.registry.Get(name); }

  std::unique_ptr<Journal> journal;
  World world;
  OpenLoop loop;
  std::unique_ptr<DurableDelivery> durable;
  std::unique_ptr<SubscriptionStore> store;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_SERVER_DURABLE_LIFE_H_
