// Microbenchmarks of the steps of an event, one at a time and hot: to see which step a change has made cheaper. What
// the steps cost together, with threads and system calls between them, only the cases of bench/cases.py show.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/bench_event.h"
#include "bench/bench_message.h"
#include "bench/instant_transport.h"
#include "server/dispatch/policy.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/ingest/opensips_event.h"
#include "server/registry/filter.h"
#include "server/registry/registry.h"
#include "transports/api/catalog.h"
#include "transports/api/check.h"
#include "transports/api/jsonrpc.h"
#include "transports/flatstore/flat_line.h"
#include "transports/io/json_framer.h"
#include "transports/testing/simulated_loop.h"

namespace eventvirtual {
namespace {

std::vector<std::unique_ptr<Transport>> Transports() {
  std::vector<std::unique_ptr<Transport>> transports;
  transports.push_back(std::make_unique<InstantTransport>());
  return transports;
}

// A registry of so many events with one subscription each, read in no order.
class ManyEvents {
 public:
  static constexpr size_t kEvents = 100000;

  ManyEvents() : catalog_(Transports()), pool_({&loop_}, {}), registry_(catalog_, pool_, loop_, {}) {
    for (size_t i = 0; i < kEvents; ++i) {
      SubscriptionSpec spec;
      spec.event = names_.emplace_back(absl::StrCat("E_", i));
      spec.subscribers = {{"instant:a"}};
      EV_CHECK(registry_.Subscribe(spec).ok());
    }
    std::shuffle(names_.begin(), names_.end(), std::minstd_rand(1));
  }
  Registry& registry() { return registry_; }
  const std::string& NextName() {
    next_ = next_ + 1 == kEvents ? 0 : next_ + 1;
    return names_[next_];
  }
  absl::Time now() const { return loop_.Now(); }

 private:
  SimulatedLoop loop_;
  Catalog catalog_;
  EndpointPool pool_;
  Registry registry_;
  std::vector<std::string> names_;
  size_t next_ = 0;
};

void RegistryRead(benchmark::State& state) {
  static ManyEvents* const events = new ManyEvents();  // lives on, since a benchmark is called several times
  uint64_t matched = 0;
  const absl::Time now = events->now();
  for (auto _ : state) events->registry().Read(events->NextName(), now, [&matched](const Subscription&) { ++matched; });
  EV_CHECK(matched == static_cast<uint64_t>(state.iterations()));
}
BENCHMARK(RegistryRead)->Name("Registry::Read, 1 of 100000 events");

// A name that one subscription matches, beside so many patterns that do not.
void ReadBesidePatterns(benchmark::State& state) {
  SimulatedLoop loop;
  const Catalog catalog(Transports());
  EndpointPool pool({&loop}, {});
  Registry registry(catalog, pool, loop, {});
  const auto subscribe = [&registry](std::string event) {
    SubscriptionSpec spec;
    spec.event = std::move(event);
    spec.subscribers = {{"instant:a"}};
    EV_CHECK(registry.Subscribe(spec).ok());
  };
  subscribe("E_CALL_ENDED");
  for (int64_t i = 0; i < state.range(0); ++i)
    subscribe(absl::StrCat("E_", absl::Hex(i * 2654435761 % (1 << 24)), "*"));
  uint64_t matched = 0;
  const absl::Time now = loop.Now();
  for (auto _ : state) registry.Read("E_CALL_ENDED", now, [&matched](const Subscription&) { ++matched; });
  EV_CHECK(matched == static_cast<uint64_t>(state.iterations()));
  registry.Stop();
  loop.RunUntilIdle();
  pool.AwaitEmpty();
}
BENCHMARK(ReadBesidePatterns)->Name("Registry::Read, beside patterns that do not match")->Arg(0)->Arg(10000);

// What a filter costs that does not take the event: another domain, another number, a wildcard in the middle.
void Filtering(benchmark::State& state, const char* text) {
  const Param params[] = {
      {"aor", "alice@example.org"}, {"count", int64_t{42}}, {"contact", "sip:alice@192.0.2.1:5060"}};
  EventFields fields;
  fields.name = "E_UL_CONTACT_INSERT";
  fields.params = params;
  const MessageRef message = Message::Make(fields);
  const absl::StatusOr<Filter> filter = Filter::Parse(text);
  EV_CHECK(filter.ok());
  for (auto _ : state) {
    const bool takes = filter->Matches(*message);
    EV_CHECK(!takes);
    benchmark::DoNotOptimize(takes);
  }
}
BENCHMARK_CAPTURE(Filtering, suffix, "aor=*@example.com")->Name("Filter, aor=*@example.com");
BENCHMARK_CAPTURE(Filtering, number, "count>42")->Name("Filter, count>42");
BENCHMARK_CAPTURE(Filtering, wildcards, "contact=*@*:5061")->Name("Filter, contact=*@*:5061");

void Planning(benchmark::State& state, Policy policy) {
  const Candidate candidates[3];
  uint64_t turn = 0;
  for (auto _ : state) benchmark::DoNotOptimize(MakePlan(policy, candidates, ++turn));
}
BENCHMARK_CAPTURE(Planning, failover, Policy::kFailover)->Name("MakePlan, FAILOVER over 3");
BENCHMARK_CAPTURE(Planning, round_robin, Policy::kRoundRobin)->Name("MakePlan, ROUND-ROBIN over 3");

// One event through an endpoint whose link delivers at once: Offer, its part of a Drain of range(0) events, Settle.
void EndpointCycle(benchmark::State& state) {
  class Counter final : public Endpoint::Client {
   public:
    bool Wanted(absl::Time) const override { return true; }
    void OnOutcome(uint32_t, Outcome outcome) override { delivered += outcome.result == Outcome::Result::kOk; }
    int64_t delivered = 0;
  };
  SimulatedLoop loop;
  const Catalog catalog(Transports());
  EndpointPool pool({&loop}, {});
  Counter counter;
  {
    const EndpointLease endpoint = pool.Lease(*catalog.Resolve("instant:a"));
    const MessageRef message = MakeMessage(0);
    const absl::Time deadline = loop.Now() + absl::Seconds(10);
    int64_t offered = 0;
    for (auto _ : state) {
      EV_CHECK(endpoint->Offer(*message, &counter, 0, loop.Now(), deadline) == Admission::kAccepted);
      if (++offered % state.range(0) == 0) loop.RunUntilIdle();
    }
    loop.RunUntilIdle();
    EV_CHECK(counter.delivered == offered);
  }
  loop.RunUntilIdle();
  pool.AwaitEmpty();
}
BENCHMARK(EndpointCycle)->Name("Endpoint: Offer, Drain, Settle, drained by")->Arg(1)->Arg(64);

void MakingMessage(benchmark::State& state) {
  uint64_t number = 0;
  for (auto _ : state) benchmark::DoNotOptimize(MakeMessage(++number));
}
BENCHMARK(MakingMessage)->Name("Message::Make");

void JsonRpc(benchmark::State& state) {
  const MessageRef message = MakeMessage(1);
  std::string text;
  for (auto _ : state) {
    text.clear();
    AppendJsonRpc(*message, {}, &text);
    benchmark::DoNotOptimize(text);
  }
  EV_CHECK(text == EventText(1, false));
}
BENCHMARK(JsonRpc)->Name("AppendJsonRpc, 121 bytes");

void FlatLine(benchmark::State& state) {
  const MessageRef message = MakeMessage(1);
  const LineFormat format;
  std::string line;
  AppendLine(*message, format, &line);
  EV_CHECK(line == EventLine(1, false));
  for (auto _ : state) {
    line.clear();  // keeps its capacity, as the buffer of a file does
    AppendLine(*message, format, &line);
    benchmark::DoNotOptimize(line.data());
  }
}
BENCHMARK(FlatLine)->Name("flatstore AppendLine, 61 bytes");

void Ingest(benchmark::State& state) {
  const std::string text = EventText(1, false);
  OpensipsEventParser parser("");
  for (auto _ : state) {
    const OpensipsEvent event = parser.Parse(text, absl::UnixEpoch());
    EV_CHECK(event.message);
  }
}
BENCHMARK(Ingest)->Name("OpensipsEventParser::Parse, 121 bytes, with its message");

// One call is 64 KiB; the rate is per byte.
void Framing(benchmark::State& state) {
  constexpr size_t kBytes = 64 << 10;
  std::string stream;
  int64_t objects = 0;
  for (; stream.size() < kBytes; ++objects) stream += EventText(static_cast<uint64_t>(objects), false);
  JsonFramer framer(kBytes);
  for (auto _ : state) {
    framer.Append(stream);
    int64_t found = 0;
    while (framer.Next()->has_value()) ++found;
    EV_CHECK(found == objects);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(stream.size()));
  state.SetItemsProcessed(state.iterations() * objects);
}
BENCHMARK(Framing)->Name("JsonFramer, 64 KiB of notifications");

}  // namespace
}  // namespace eventvirtual

BENCHMARK_MAIN();
