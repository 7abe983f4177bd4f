// The core without gRPC, in one process: what a raise costs from Dispatcher::Raise() to the outcome, and what the
// registry costs. Prints one JSON object.
//
//   core raise [--policy=PARALLEL] [--same=1] [--others=0] [--seconds=1] [--vary] [--make] URI…
//              --same subscriptions to the event, each over all the URIs, beside --others to other events.
//              Every raise is of one message that was made before, unless --make or --vary.
//   core registry [--others=0] [--count=10000]
//              Subscribe, refresh and Unsubscribe --count times beside --others
//
// A URI `instant:NAME` is an endpoint that delivers at once, so that nothing but the core is measured.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "bench/bench_event.h"
#include "bench/bench_message.h"
#include "bench/instant_transport.h"
#include "bench/measure.h"
#include "server/dispatch/dispatcher.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/registry/registry.h"
#include "transports/all.h"
#include "transports/api/catalog.h"
#include "transports/api/check.h"
#include "transports/io/event_loop.h"

ABSL_FLAG(std::string, policy, "PARALLEL", "raise: PARALLEL, FAILOVER or ROUND-ROBIN");
ABSL_FLAG(int, same, 1, "raise: subscriptions to the event that is raised");
ABSL_FLAG(int, others, 0, "subscriptions to other events");
ABSL_FLAG(double, seconds, 1, "raise: how long");
ABSL_FLAG(bool, vary, false, "raise: events of 16 lengths instead of one");
ABSL_FLAG(bool, make, false, "raise: a new message each time, encoded by whoever sends it");
ABSL_FLAG(int, count, 10000, "registry: how many");

namespace eventvirtual {
namespace {

// Deliveries under way: far below the bound of a queue, so that none is refused.
constexpr uint64_t kMostPending = 4096;
constexpr int kRun = 64;  // events between two looks at the clock

RegistryLimits Limits() {
  RegistryLimits limits;
  limits.max_subscriptions = 10000000;
  return limits;
}

struct Core {
  Core()
      : catalog(Transports()),
        loop("bench"),
        pool({&loop}, {}),
        registry(catalog, pool, loop, Limits()),
        dispatcher(registry) {}
  ~Core() {
    dispatcher.AwaitIdle(absl::InfiniteDuration());
    registry.Stop();
    pool.AwaitEmpty();
  }
  static std::vector<std::unique_ptr<Transport>> Transports() {
    std::vector<std::unique_ptr<Transport>> all = AllTransports();
    all.push_back(std::make_unique<InstantTransport>());
    return all;
  }
  Catalog catalog;
  EventLoop loop;
  EndpointPool pool;
  Registry registry;
  Dispatcher dispatcher;
};

// Each on an event of its own, over two of a thousand shared endpoints.
SubscriptionSpec Other(int number, absl::Time expires) {
  SubscriptionSpec spec;
  spec.event = absl::StrCat("E_OTHER_", number);
  spec.subscribers = {{absl::StrCat("instant:", number % 1000)}, {absl::StrCat("instant:", (number + 1) % 1000)}};
  spec.expires = expires + absl::Milliseconds(number % 100000);
  return spec;
}

void Populate(Core& core) {
  const absl::Time expires = core.registry.clock().Now() + absl::Hours(1);
  for (int i = 0; i < absl::GetFlag(FLAGS_others); ++i) EV_CHECK(core.registry.Subscribe(Other(i, expires)).ok());
}

int Raise(const std::vector<std::string>& uris) {
  Core core;
  Populate(core);
  const auto same = static_cast<uint64_t>(absl::GetFlag(FLAGS_same));
  for (uint64_t i = 0; i < same; ++i) {
    SubscriptionSpec spec;
    const absl::StatusOr<VirtualSocket> socket =
        ParseVirtualSocket(absl::StrCat("virtual:", absl::GetFlag(FLAGS_policy), " -"));
    EV_CHECK(socket.ok());
    spec.policy = socket->policy;
    spec.event = kEvent;
    // Subscriptions to one event over the same subscribers would be one.
    for (const std::string& uri : uris) spec.subscribers.push_back({same == 1 ? uri : absl::StrCat(uri, i)});
    EV_CHECK(core.registry.Subscribe(spec).ok());
  }

  const bool vary = absl::GetFlag(FLAGS_vary);
  const bool make = absl::GetFlag(FLAGS_make) || vary;
  const MessageRef message = MakeMessage(0, false);
  const uint64_t most_pending = std::max<uint64_t>(1, kMostPending / same);
  uint64_t raised = 0;
  const auto run = [&](double seconds) {
    const double end = WallSeconds() + seconds;
    do {
      for (int i = 0; i < kRun; ++i) {
        const RaiseReceipt receipt = core.dispatcher.Raise(make ? MakeMessage(raised, vary) : message, nullptr);
        EV_CHECK(receipt.accepted == same);
        ++raised;
        if (core.dispatcher.pending() < most_pending) continue;
        // Asleep, not yielding: waiting must not look like work.
        while (core.dispatcher.pending() > most_pending / 2) std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    } while (WallSeconds() < end);
  };
  const auto ok = [&] {
    uint64_t sum = 0;
    for (const EndpointPool::Listed& listed : core.pool.List(0, 10000000)) sum += listed.stats.ok;
    return sum;
  };
  run(0.05);  // connects
  EV_CHECK(core.dispatcher.AwaitIdle(absl::Minutes(1)));
  const uint64_t raised_before = raised;
  const uint64_t ok_before = ok();
  const double cpu = CpuSeconds();
  const double begin = WallSeconds();
  run(absl::GetFlag(FLAGS_seconds));
  EV_CHECK(core.dispatcher.AwaitIdle(absl::Minutes(1)));
  const double seconds = WallSeconds() - begin;
  const double used = CpuSeconds() - cpu;
  std::printf("{\"events\":%llu,\"all_events\":%llu,\"deliveries\":%llu,\"seconds\":%.6f,\"cpu\":%.6f}\n",
              static_cast<unsigned long long>(raised - raised_before), static_cast<unsigned long long>(raised),
              static_cast<unsigned long long>(ok() - ok_before), seconds, used);
  return 0;
}

// Resident memory of this process, in bytes: the second number of /proc/self/statm (proc(5)), in pages.
double ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  double size = 0, resident = 0;
  file >> size >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

int Churn() {
  const int others = absl::GetFlag(FLAGS_others);
  const int count = absl::GetFlag(FLAGS_count);
  Core core;
  const double empty = ResidentBytes();
  Populate(core);
  const double populated = ResidentBytes();
  const absl::Time expires = core.registry.clock().Now() + absl::Hours(1);
  std::vector<SubscriptionSpec> specs;
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) specs.push_back(Other(others + i, expires));
  const auto timed = [count](auto step) {
    const double begin = WallSeconds();
    for (int i = 0; i < count; ++i) step(i);
    return WallSeconds() - begin;
  };
  const double subscribe = timed([&](int i) { names.push_back(core.registry.Subscribe(specs[i])->info.name); });
  for (SubscriptionSpec& spec : specs) spec.expires += absl::Hours(1);
  const double refresh = timed([&](int i) { EV_CHECK(!core.registry.Subscribe(specs[i])->created); });
  const double unsubscribe = timed([&](int i) { EV_CHECK(core.registry.Unsubscribe(names[i]).ok()); });
  std::printf("{\"count\":%d,\"subscribe\":%.6f,\"refresh\":%.6f,\"unsubscribe\":%.6f,\"bytes_each\":%.1f}\n", count,
              subscribe, refresh, unsubscribe, others == 0 ? 0 : (populated - empty) / others);
  return 0;
}

}  // namespace
}  // namespace eventvirtual

int main(int argc, char** argv) {
  const std::vector<char*> words = absl::ParseCommandLine(argc, argv);
  const std::string mode = words.size() > 1 ? words[1] : "";
  if (mode == "raise" && words.size() > 2) return eventvirtual::Raise({words.begin() + 2, words.end()});
  if (mode == "registry" && words.size() == 2) return eventvirtual::Churn();
  std::fprintf(stderr, "usage: core raise [--FLAG…] URI… | core registry [--FLAG…]; see --help\n");
  return 2;
}
