// The core without gRPC, in one process: what a raise costs from Dispatcher::Raise() to the outcome, and what the
// registry costs. Prints one JSON object.
//
//   core raise [--policy=PARALLEL] [--same=1] [--others=0] [--batch=1] [--seconds=1] [--vary] [--make] URI…
//              --same subscriptions to the event, each over all the URIs, beside --others to other events.
//              With --batch so many in a RaiseBatch, as RaiseStream and the ingest raise.
//              Every raise is of one message that was made before, unless --make or --vary.
//   core registry [--others=0] [--count=10000]
//              Subscribe, refresh and Unsubscribe --count times beside --others
//   core timers [--count=10000] [--tree] [--cold]
//              --count expiries in the registry's queue (--tree: in a sorted tree), changed in random order
//   core storm [--others=0] [--calm]
//              --others subscriptions end at the same moment (--calm: an hour later) while one event after the other is
//              raised and delivered; how long each of them took
//   core endpoints [--count=10000]
//              so many udp endpoints that have delivered one event each
//
// A URI `instant:NAME` is an endpoint that delivers at once, so that nothing but the core is measured.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
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
#include "server/registry/expiry_queue.h"
#include "server/registry/registry.h"
#include "transports/all.h"
#include "transports/api/catalog.h"
#include "transports/api/check.h"
#include "transports/api/mutex.h"
#include "transports/io/event_loop.h"

ABSL_FLAG(std::string, policy, "PARALLEL", "raise: PARALLEL, FAILOVER or ROUND-ROBIN");
ABSL_FLAG(int, same, 1, "raise: subscriptions to the event that is raised");
ABSL_FLAG(int, others, 0, "subscriptions to other events");
ABSL_FLAG(int, batch, 1, "raise: events that are raised together");
ABSL_FLAG(double, seconds, 1, "raise: how long");
ABSL_FLAG(bool, vary, false, "raise: events of 16 lengths instead of one");
ABSL_FLAG(bool, make, false, "raise: a new message each time, encoded by whoever sends it");
ABSL_FLAG(int, count, 10000, "registry, timers, endpoints: how many");
ABSL_FLAG(bool, tree, false, "timers: in an absl::btree_set of (time, pointer), for comparison");
ABSL_FLAG(bool, cold, false, "timers: nobody has just looked at the timer");
ABSL_FLAG(bool, calm, false, "storm: nothing ends");

namespace eventvirtual {
namespace {

// Deliveries under way: far below the bound of a queue, so that none is refused.
constexpr uint64_t kMostPending = 4096;
constexpr int kRun = 64;  // events between two looks at the clock
constexpr size_t kTimersRun = 256;

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
    static StreamListeners listeners;
    std::vector<std::unique_ptr<Transport>> all = AllTransports(listeners);
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
  const int batch = absl::GetFlag(FLAGS_batch);
  uint64_t raised = 0;
  const auto raise_batch = [&] {
    std::optional<RaiseBatch> together;
    if (batch > 1) together.emplace();
    for (int i = 0; i < batch; ++i) {
      const RaiseReceipt receipt = core.dispatcher.Raise(make ? MakeMessage(raised, vary) : message, nullptr);
      EV_CHECK(receipt.accepted == same);
      ++raised;
    }
  };
  const auto run = [&](double seconds) {
    const double end = WallSeconds() + seconds;
    do {
      for (int i = 0; i < kRun; i += batch) {
        raise_batch();
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

// As large as the registry's record of a subscription, of which the entry is a part: so far apart they lie in memory.
struct alignas(64) Timer : ExpiryQueue::Entry {
  volatile char looked_at = 0;
  absl::Time queued;
};

class SortedTree {
 public:
  explicit SortedTree(absl::Time) {}
  void Set(Timer* timer, absl::Time when) {
    Remove(timer);
    timer->queued = when;
    tree_.emplace(when, timer);
  }
  void Remove(Timer* timer) { tree_.erase({timer->queued, timer}); }

 private:
  absl::btree_set<std::pair<absl::Time, Timer*>> tree_;
};

template <typename Queue>
int Timers() {
  const auto count = static_cast<size_t>(absl::GetFlag(FLAGS_count));
  const absl::Time now = absl::Now();
  Queue queue(now);
  std::vector<Timer> timers(count);
  // Random expiries in the next hour, and a random order of the timers.
  std::minstd_rand random(1);
  std::vector<absl::Time> expiries(count);
  for (absl::Time& expiry : expiries) expiry = now + absl::Milliseconds(1 + random() % 3600000);
  std::vector<absl::Time> later = expiries;
  for (absl::Time& expiry : later) expiry += absl::Hours(1);
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  // By default the registry's look-up, which has read the record a moment ago, is played by a look at each of a run of
  // timers that is not counted; what the queue itself has to fetch is as cold as it is there.
  const bool cold = absl::GetFlag(FLAGS_cold);
  const auto nanos_each = [&](const std::vector<absl::Time>& when, auto step) {
    std::shuffle(order.begin(), order.end(), random);
    double seconds = 0;
    for (size_t begin = 0; begin < count; begin += kTimersRun) {
      const size_t end = std::min(count, begin + kTimersRun);
      for (size_t i = begin; i < end && !cold; ++i) (void)timers[order[i]].looked_at;
      const double started = CpuSeconds();
      for (size_t i = begin; i < end; ++i) step(&timers[order[i]], when[i]);
      seconds += CpuSeconds() - started;
    }
    return seconds / static_cast<double>(count) * 1e9;
  };
  const auto set = [&queue](Timer* timer, absl::Time when) { queue.Set(timer, when); };
  const double insert = nanos_each(expiries, set);
  const double refresh = nanos_each(later, set);
  const double sooner = nanos_each(expiries, set);
  const double cancel = nanos_each(expiries, [&queue](Timer* timer, absl::Time) { queue.Remove(timer); });
  std::printf("{\"insert\":%.1f,\"refresh\":%.1f,\"sooner\":%.1f,\"cancel\":%.1f}\n", insert, refresh, sooner, cancel);
  return 0;
}

// Waits until something happens on another thread.
class Signal {
 public:
  void Notify() {
    MutexLock lock(&mutex_);
    notified_ = true;
    changed_.SignalAll();
  }
  void Wait() {
    MutexLock lock(&mutex_);
    while (!notified_) changed_.Wait(&mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool notified_ ABSL_GUARDED_BY(mutex_) = false;
};

// A task that posts itself again: how much processor time the loop spent between two of its turns. Unlike the time that
// events took, it holds nothing of what other processes did on this machine.
struct Turns : std::enable_shared_from_this<Turns> {
  explicit Turns(Loop& loop) : loop(loop) {}
  void Next() {
    const double now = Seconds(CLOCK_THREAD_CPUTIME_ID);
    if (last > 0) longest = std::max(longest, now - last);
    last = now;
    if (ending) return ended.Notify();
    loop.Post([self = shared_from_this()] { self->Next(); });
  }
  // Not on the loop.
  void End() {
    ending = true;
    ended.Wait();
  }
  Loop& loop;
  double last = 0, longest = 0;  // seconds; the loop's until it has ended
  std::atomic<bool> ending = false;
  Signal ended;
};

int Storm() {
  Core core;
  SubscriptionSpec live;
  live.event = kEvent;
  live.subscribers = {{"instant:live"}};
  EV_CHECK(core.registry.Subscribe(live).ok());
  const int others = absl::GetFlag(FLAGS_others);
  const Clock& clock = core.registry.clock();
  std::vector<SubscriptionSpec> specs;
  absl::Time begin = clock.Now();
  for (int i = 0; i < others; ++i) {
    specs.push_back(Other(i, begin + absl::Hours(2)));
    EV_CHECK(core.registry.Subscribe(specs.back()).ok());
  }
  // A refresh each, so that all have the same expiry however long it took to make them.
  const absl::Time expiry = clock.Now() + 2 * (clock.Now() - begin) + absl::Seconds(1);
  for (SubscriptionSpec& spec : specs) {
    spec.expires = expiry + (absl::GetFlag(FLAGS_calm) ? absl::Hours(1) : absl::ZeroDuration());
    EV_CHECK(core.registry.Subscribe(spec).ok());
  }

  // One event at a time: how long it took tells how long anything kept the loop. The storm lasts until the last has
  // gone, the calm for as long as a storm may.
  Latencies latencies;
  double longest = 0;
  uint64_t events = 0;
  while (clock.Now() < expiry) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  begin = clock.Now();
  const auto turns = std::make_shared<Turns>(core.loop);
  core.loop.Post([turns] { turns->Next(); });
  const MessageRef message = MakeMessage(0);
  while (absl::GetFlag(FLAGS_calm) ? clock.Now() < begin + absl::Seconds(1) : core.registry.size() > 1) {
    EV_CHECK(clock.Now() < begin + absl::Minutes(1));
    Signal delivered;
    const double raised = WallSeconds();
    core.dispatcher.Raise(message, [&delivered](absl::Span<const DeliveryResult> results) {
      EV_CHECK(results.size() == 1 && results[0].outcome == DeliveryResult::Outcome::kDelivered);
      delivered.Notify();
    });
    delivered.Wait();
    const double took = WallSeconds() - raised;
    latencies.Add(took);
    longest = std::max(longest, took);
    ++events;
  }
  turns->End();
  std::printf("{\"events\":%llu,\"seconds\":%.6f,\"p50\":%.1f,\"p99\":%.1f,\"longest\":%.1f,\"longest_turn\":%.1f}\n",
              static_cast<unsigned long long>(events), absl::ToDoubleSeconds(clock.Now() - begin),
              latencies.Quantile(0.5), latencies.Quantile(0.99), longest * 1e6, turns->longest * 1e6);
  return 0;
}

// One socket receives from all: each endpoint has its address on the loopback network, the port is the same.
int Endpoints() {
  const int count = absl::GetFlag(FLAGS_count);
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  socklen_t size = sizeof(address);
  EV_CHECK(fd >= 0 && bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
           getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  Core core;
  const auto subscribe = [&](int i) {
    SubscriptionSpec spec;
    spec.event = absl::StrCat("E_", i);
    spec.subscribers = {
        {absl::StrCat("udp:127.", 1 + i / 65536, ".", i / 256 % 256, ".", i % 256, ":", ntohs(address.sin_port))}};
    EV_CHECK(core.registry.Subscribe(spec).ok());
  };
  const auto deliver = [&](int i) {
    Signal ended;
    const std::string name = absl::StrCat("E_", i);
    EventFields fields;
    fields.name = name;
    core.dispatcher.Raise(Message::Make(fields), [&ended](absl::Span<const DeliveryResult> results) {
      EV_CHECK(results.size() == 1 && results[0].outcome == DeliveryResult::Outcome::kDelivered);
      ended.Notify();
    });
    ended.Wait();
    char text[64];
    EV_CHECK(recv(fd, text, sizeof(text), 0) > 0);
  };
  subscribe(0);  // what is made once
  deliver(0);
  const double one = ResidentBytes();
  for (int i = 1; i <= count; ++i) subscribe(i);
  const double subscribed = ResidentBytes();
  for (int i = 1; i <= count; ++i) deliver(i);
  const double delivered = ResidentBytes();
  size_t connected = 0;
  for (const EndpointPool::Listed& listed : core.pool.List(0, static_cast<size_t>(count) + 1)) {
    if (listed.stats.connected && listed.stats.ok == 1) ++connected;
  }
  EV_CHECK(connected == static_cast<size_t>(count) + 1);
  std::printf("{\"idle\":%.1f,\"connected\":%.1f}\n", (subscribed - one) / count, (delivered - one) / count);
  close(fd);
  return 0;
}

}  // namespace
}  // namespace eventvirtual

int main(int argc, char** argv) {
  const std::vector<char*> words = absl::ParseCommandLine(argc, argv);
  const std::string mode = words.size() > 1 ? words[1] : "";
  if (mode == "raise" && words.size() > 2) return eventvirtual::Raise({words.begin() + 2, words.end()});
  if (words.size() == 2) {
    if (mode == "registry") return eventvirtual::Churn();
    if (mode == "timers" && absl::GetFlag(FLAGS_tree)) return eventvirtual::Timers<eventvirtual::SortedTree>();
    if (mode == "timers") return eventvirtual::Timers<eventvirtual::ExpiryQueue>();
    if (mode == "storm") return eventvirtual::Storm();
    if (mode == "endpoints") return eventvirtual::Endpoints();
  }
  std::fprintf(stderr,
               "usage: core raise [--FLAG…] URI… | core registry | timers | storm | endpoints [--FLAG…]; see --help\n");
  return 2;
}
