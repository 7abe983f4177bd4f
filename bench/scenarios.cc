// One fixed piece of the core's work for an instruction counter: bench/instructions.py runs it under callgrind.
//
//   scenarios POLICY [BATCH]
//       10,000 raises of a fresh event to one subscription over three subscribers that answer at once. With FAILOVER
//       the first of them fails every time, and the second delivers. BATCH: so many are raised under one cork.
//
// Single-threaded and on simulated time, so that two runs execute the same instructions. All work
// is inside RaiseAll(): message, plan, offers, drains, outcomes; the sending itself is nothing.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/bench_message.h"
#include "bench/instant_transport.h"
#include "server/dispatch/dispatcher.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/registry/registry.h"
#include "transports/api/catalog.h"
#include "transports/api/check.h"
#include "transports/testing/simulated_loop.h"

namespace eventvirtual {

constexpr uint64_t kWarmUp = 100;
constexpr uint64_t kRaises = 10000;

struct Core {
  Core() : catalog(Transports()), pool({&loop}, {}), registry(catalog, pool, loop, {}), dispatcher(registry) {}
  ~Core() {
    registry.Stop();
    loop.RunUntilIdle();
    pool.AwaitEmpty();
  }
  static std::vector<std::unique_ptr<Transport>> Transports() {
    std::vector<std::unique_ptr<Transport>> transports;
    transports.push_back(std::make_unique<InstantTransport>());
    return transports;
  }
  SimulatedLoop loop;
  Catalog catalog;
  EndpointPool pool;
  Registry registry;
  Dispatcher dispatcher;
};

void Raise(Core& core, uint64_t count, uint64_t batch) {
  for (uint64_t i = 0; i < count;) {
    {
      std::optional<RaiseBatch> together;
      if (batch > 1) together.emplace();
      for (const uint64_t end = std::min(count, i + batch); i < end; ++i) {
        core.dispatcher.Raise(MakeMessage(i), nullptr);
      }
    }
    core.loop.RunUntilIdle();
  }
}

// The counter is on while this function runs; it is found by its name.
[[gnu::noinline]] void RaiseAll(Core& core, uint64_t batch) { Raise(core, kRaises, batch); }

int Run(const std::string& policy, uint64_t batch) {
  const bool failover = policy == "FAILOVER";
  const std::string first = failover ? "failing:a" : "instant:a";
  const absl::StatusOr<VirtualSocket> socket =
      ParseVirtualSocket(absl::StrCat("virtual:", policy, " ", first, " instant:b instant:c"));
  if (!socket.ok()) {
    std::fprintf(stderr, "%s\n", std::string(socket.status().message()).c_str());
    return 2;
  }
  Core core;
  SubscriptionSpec spec;
  spec.event = kEvent;
  spec.policy = socket->policy;
  spec.delivery.failover_timeout = absl::ZeroDuration();  // it is tried again with every event
  for (const std::string& uri : socket->subscribers) spec.subscribers.push_back({uri});
  EV_CHECK(core.registry.Subscribe(spec).ok());

  Raise(core, kWarmUp, batch);
  RaiseAll(core, batch);

  // That the work was what it says.
  uint64_t ok = 0, failed = 0;
  for (const EndpointPool::Listed& listed : core.pool.List(0, 10)) {
    ok += listed.stats.ok;
    failed += listed.stats.failed;
  }
  EV_CHECK(ok == (kWarmUp + kRaises) * (policy == "PARALLEL" ? 3 : 1));
  EV_CHECK(failed == (failover ? kWarmUp + kRaises : 0));
  EV_CHECK(core.dispatcher.pending() == 0);
  std::printf("{\"raises\":%llu}\n", static_cast<unsigned long long>(kRaises));
  return 0;
}

}  // namespace eventvirtual

int main(int argc, char** argv) {
  const int batch = argc == 3 ? std::atoi(argv[2]) : 1;
  if (argc >= 2 && argc <= 3 && batch > 0) return eventvirtual::Run(argv[1], static_cast<uint64_t>(batch));
  std::fprintf(stderr, "usage: scenarios PARALLEL|FAILOVER|ROUND-ROBIN [BATCH]\n");
  return 2;
}
