// World: registry, dispatcher and endpoints over a fake transport and simulated time, for stories.
#ifndef EVENTVIRTUAL_TESTS_SERVER_DISPATCH_WORLD_H_
#define EVENTVIRTUAL_TESTS_SERVER_DISPATCH_WORLD_H_

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/dispatch/dispatcher.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/registry/registry.h"
#include "transports/api/catalog.h"
#include "transports/testing/fake_transport.h"
#include "transports/testing/simulated_loop.h"

namespace eventvirtual {

// An expired subscription matches nothing any more; the registry removes it this much later at most.
inline constexpr absl::Duration kSweepSlack = absl::Milliseconds(1);

class World {
 public:
  explicit World(EndpointLimits endpoint_limits = {}, RegistryLimits registry_limits = {})
      : catalog(Transports()),
        pool(
            {&loop}, endpoint_limits,
            [this](const HealthChange& change) {
              health.push_back(absl::StrCat(change.uri, change.why.ok() ? " works" : " fails: ", change.why.message()));
              if (on_health) on_health(change);
            }),
        registry(catalog, pool, loop, std::move(registry_limits)),
        dispatcher(registry) {}

  ~World() {
    registry.Stop();
    // What is still out ends by its deadline; then the endpoints go.
    loop.Advance(absl::Hours(2));
    pool.CloseAll();  // the drained are kept until now
    loop.RunUntilIdle();
    pool.AwaitEmpty();
    EXPECT_EQ(Imbalance(), 0u) << "the books of what has gone are wrong";
  }

  SubscriptionSpec Spec(const std::string& event, const std::string& socket) const {
    SubscriptionSpec spec;
    spec.event = event;
    EV_CHECK(SetSocket(socket, absl::ZeroDuration(), &spec).ok());
    return spec;
  }

  std::string Subscribe(const std::string& event, const std::string& socket,
                        absl::Duration ttl = absl::InfiniteDuration()) {
    SubscriptionSpec spec = Spec(event, socket);
    if (ttl != absl::InfiniteDuration()) spec.expires = loop.Now() + ttl;
    const absl::StatusOr<Registry::Subscribed> subscribed = registry.Subscribe(spec);
    EV_CHECK(subscribed.ok());
    return subscribed->info.name;
  }

  // Raises and lets the loop run; `results` is filled when the last delivery has ended.
  struct Raised {
    RaiseReceipt receipt;
    std::shared_ptr<std::optional<std::vector<DeliveryResult>>> results =
        std::make_shared<std::optional<std::vector<DeliveryResult>>>();
    bool ended() const { return results->has_value(); }
    DeliveryResult::Outcome outcome() const {
      EV_CHECK(ended() && (*results)->size() == 1);
      return (**results)[0].outcome;
    }
    const std::vector<AttemptRecord>& attempts() const { return (**results)[0].attempts; }
  };
  Raised Raise(const std::string& event, const std::string& value = "") {
    const Param param{"n", absl::string_view(value)};
    EventFields fields;
    fields.name = event;
    fields.event_time = absl::Now();
    if (!value.empty()) fields.params = absl::MakeConstSpan(&param, 1);
    Raised raised;
    raised.receipt = dispatcher.Raise(Message::Make(fields), [results = raised.results](auto deliveries) {
      results->emplace(deliveries.begin(), deliveries.end());
    });
    loop.RunUntilIdle();
    return raised;
  }

  // Ends the oldest parcel at `site` and lets the loop run.
  std::string End(const std::string& site, absl::Status status = absl::OkStatus()) {
    std::string text = fake->at(site).End(std::move(status));
    loop.RunUntilIdle();
    return text;
  }

  EndpointStats StatsOf(const std::string& uri) {
    for (const EndpointPool::Listed& listed : pool.List(0, 1000)) {
      if (listed.stats.uri == uri) return listed.stats;
    }
    return {};
  }

  // By how much the books of all subscriptions and endpoints that ever were are wrong: zero. Lets the loop run.
  uint64_t Imbalance() {
    uint64_t imbalance = 0;
    for (const DeliveryLedger::Row& row : registry.TakeAudit().deliveries) imbalance += row.counts.imbalance;
    bool told = false;
    pool.TakeAudit(0, [&](const EndpointPool::Audit& audit) {
      imbalance += audit.imbalance;
      told = true;
    });
    loop.RunUntilIdle();
    EV_CHECK(told);
    return imbalance;
  }

  FakeTransport* fake = nullptr;
  std::vector<std::string> health;  // what the endpoints told, in order
  OnHealthChange on_health;         // is told, too
  SimulatedLoop loop;
  Catalog catalog;
  EndpointPool pool;
  Registry registry;
  Dispatcher dispatcher;

 private:
  std::vector<std::unique_ptr<Transport>> Transports() {
    std::vector<std::unique_ptr<Transport>> transports;
    auto transport = std::make_unique<FakeTransport>();
    fake = transport.get();
    transports.push_back(std::move(transport));
    return transports;
  }
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_SERVER_DISPATCH_WORLD_H_
