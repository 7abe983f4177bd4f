// All OpenSIPS together, on a real loop, over fakes that may park.
#include "server/enroll/enroller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/server/enroll/fake_opensips.h"
#include "tests/transports/io/on_loop.h"
#include "transports/api/catalog.h"
#include "transports/io/event_loop.h"
#include "transports/testing/fake_transport.h"

namespace eventvirtual {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr char kIngest[] = "tcp:127.0.0.1:9060";

// An OpenSIPS whose MI hangs until it is let go.
struct Hanging {
  Signal called, let_go;
};
class HangingMi final : public MiClient {
 public:
  explicit HangingMi(std::shared_ptr<Hanging> hanging) : hanging_(std::move(hanging)) {}
  absl::StatusOr<std::string> Call(absl::string_view, absl::string_view) override {
    hanging_->called.Set();
    hanging_->let_go.Wait();
    return absl::UnavailableError("hung");
  }
  const std::string& name() const override { return name_; }

 private:
  const std::shared_ptr<Hanging> hanging_;
  const std::string name_ = "http://hanging/mi";
};

bool Eventually(const std::function<bool()>& condition) {
  const absl::Time give_up = absl::Now() + kPatience;
  EventLoop waiting("waiting");
  while (!condition()) {
    if (absl::Now() > give_up) return false;
    Signal tick;
    std::unique_ptr<Loop::Timer> timer;
    OnLoop(waiting, [&] {
      timer = waiting.NewTimer([&tick] { tick.Set(); });
      timer->Arm(waiting.Now() + absl::Milliseconds(2));
    });
    tick.Wait();
    OnLoop(waiting, [&] { timer.reset(); });
  }
  return true;
}

struct World {
  World() { opensips.SetNow(absl::Now()); }
  ~World() {
    enroller.Stop();
    registry.Stop();
    pool.AwaitEmpty();
    loop.Stop();
  }

  void Start(EnrollOptions options = {}, std::unique_ptr<MiClient> other = nullptr) {
    options.ingest = kIngest;
    std::vector<std::unique_ptr<MiClient>> clients;
    clients.push_back(opensips.Client());
    if (other != nullptr) clients.push_back(std::move(other));
    enroller.Start(options, std::move(clients));
  }

  std::string Subscribe(const std::string& event) {
    SubscriptionSpec spec;
    spec.event = event;
    spec.subscribers.push_back({"fake:a"});
    return registry.Subscribe(spec)->info.name;
  }

  bool Comes(const std::string& event) {
    return Eventually([&] {
      const std::vector<std::string> receivers = opensips.Receivers(event);
      return std::count(receivers.begin(), receivers.end(), kIngest) == 1;
    });
  }
  bool ComesNoMore(const std::string& event) {
    return Eventually([&] { return opensips.Receivers(event).empty(); });
  }

  static std::vector<std::unique_ptr<Transport>> Transports() {
    std::vector<std::unique_ptr<Transport>> transports;
    transports.push_back(std::make_unique<FakeTransport>());
    return transports;
  }

  FakeOpensips opensips{{"E_A", "E_B", "E_UL_INSERT", "E_EVI_SUBSCRIBER_DOWN"}};
  EventLoop loop{"loop"};
  Catalog catalog{Transports()};
  EndpointPool pool{{&loop}, {}, [](const HealthChange&) {}};
  Registry registry{catalog, pool, loop, {}};
  Enroller enroller{registry, loop};
};

TEST(Enroller, WithoutOpensipsDoesNothing) {
  World world;
  world.enroller.Start({}, {});
  world.Subscribe("E_A");
  EXPECT_THAT(world.enroller.List(), IsEmpty());
  world.enroller.Notify(*Message::Make({.name = "E_EVI_SUBSCRIBER_DOWN"}));
}

TEST(Enroller, FollowsOurSubscriptionsAtOnce) {
  World world;
  const std::string before = world.Subscribe("E_A");
  world.Start();
  EXPECT_TRUE(world.Comes("E_A"));
  const std::string second = world.Subscribe("E_A");
  const std::string other = world.Subscribe("E_B");
  const std::string pattern = world.Subscribe("E_UL_*");
  EXPECT_TRUE(world.Comes("E_B"));
  EXPECT_TRUE(world.Comes("E_UL_INSERT"));
  ASSERT_TRUE(world.registry.Unsubscribe(other).ok());
  ASSERT_TRUE(world.registry.Unsubscribe(pattern).ok());
  EXPECT_TRUE(world.ComesNoMore("E_B"));
  EXPECT_TRUE(world.ComesNoMore("E_UL_INSERT"));
  EXPECT_TRUE(world.Comes("E_A"));
}

TEST(Enroller, AHangingOpensipsHoldsUpNoOther) {
  const auto hanging = std::make_shared<Hanging>();
  World world;
  world.Start({}, std::make_unique<HangingMi>(hanging));
  for (const char* event : {"E_A", "E_B"}) {
    world.Subscribe(event);
    EXPECT_TRUE(world.Comes(event));
  }
  const std::vector<EnrollmentStatus> list = world.enroller.List();
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].opensips, "http://fake/mi");
  EXPECT_EQ(list[1].opensips, "http://hanging/mi");
  EXPECT_EQ(list[1].state, EnrollmentStatus::State::kWaiting);
  world.enroller.Stop();  // waits for it no longer than a few seconds
  EXPECT_TRUE(world.ComesNoMore("E_A"));
  hanging->let_go.Set();
}

TEST(Enroller, AStopEndsAllThatIsEnrolled) {
  World world;
  world.Start();
  for (const char* event : {"E_A", "E_B", "E_UL_*"}) world.Subscribe(event);
  ASSERT_TRUE(world.Comes("E_UL_INSERT"));
  ASSERT_TRUE(world.Comes("E_A"));
  world.enroller.Stop();
  for (const char* event : {"E_A", "E_B", "E_UL_INSERT"}) EXPECT_THAT(world.opensips.Receivers(event), IsEmpty());
  world.opensips.TakeCalls();
  world.Subscribe("E_C");
  world.enroller.Notify(*Message::Make({.name = "E_EVI_SUBSCRIBER_DOWN"}));
  EXPECT_THAT(world.opensips.TakeCalls(), IsEmpty());
  EXPECT_THAT(world.enroller.List(), IsEmpty());
}

TEST(Enroller, TakesOverAndGivesBack) {
  const std::string virtual_socket = "virtual:PARALLEL fake:a fake:b";
  const std::string net = "virtual:FAILOVER tcp:127.0.0.1:9061 fake:lost";  // another address of our ingest
  World world;
  world.opensips.Subscribe("E_A", virtual_socket);
  world.opensips.Subscribe("E_B", net);
  EnrollOptions options;
  options.import = true;
  options.own = {"tcp:127.0.0.1:9060", "tcp:127.0.0.1:9061"};
  world.Start(options);
  EXPECT_TRUE(Eventually([&] { return world.opensips.Receivers("E_A") == std::vector<std::string>{kIngest}; }));
  EXPECT_EQ(world.registry.size(), 1u);
  EXPECT_THAT(world.opensips.Receivers("E_B"), ElementsAre(net));
  world.enroller.Stop();
  EXPECT_THAT(world.opensips.Receivers("E_A"), ElementsAre(virtual_socket));
  EXPECT_THAT(world.opensips.Receivers("E_B"), ElementsAre(net));
}

TEST(Enroller, NotifiesWhereItIsToldTo) {
  for (const bool notify : {false, true}) {
    World world;
    EnrollOptions options;
    options.notify = notify;
    world.Start(options);
    // It is known to answer.
    ASSERT_TRUE(Eventually([&] { return world.enroller.List()[0].state == EnrollmentStatus::State::kEnrolled; }));
    world.enroller.Notify(*Message::Make({.name = "E_EVI_SUBSCRIBER_DOWN"}));
    EXPECT_TRUE(!notify || Eventually([&] { return world.enroller.List()[0].counters.notified == 1; }));
    world.enroller.Stop();
    const std::vector<std::string> calls = world.opensips.TakeCalls();
    EXPECT_EQ(std::count(calls.begin(), calls.end(), "raise_event E_EVI_SUBSCRIBER_DOWN"), notify ? 1 : 0);
  }
}

TEST(Enroller, NotifyNeverWaitsForAHangingOpensips) {
  const auto hanging = std::make_shared<Hanging>();
  World world;
  EnrollOptions options;
  options.notify = true;
  world.Start(options, std::make_unique<HangingMi>(hanging));
  ASSERT_TRUE(hanging->called.Wait());  // before that there is nothing that a notice could wait behind
  constexpr uint64_t kMany = 3 * Enrollment::kMaxNotices;
  for (uint64_t i = 0; i < kMany; ++i) world.enroller.Notify(*Message::Make({.name = "E_EVI_SUBSCRIBER_DOWN"}));
  EXPECT_EQ(world.enroller.List()[1].counters.notify_dropped, kMany - Enrollment::kMaxNotices);
  hanging->let_go.Set();
  EXPECT_TRUE(Eventually([&] { return world.enroller.List()[1].counters.notify_dropped == kMany; }));
}

}  // namespace
}  // namespace eventvirtual
