// Probing a destination without a subscription.
#include "server/endpoint/prober.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "transports/api/catalog.h"
#include "transports/testing/fake_transport.h"
#include "transports/testing/simulated_loop.h"

namespace eventvirtual {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ProberTest : public testing::Test {
 protected:
  ProberTest() : catalog_(MakeTransports(&transport_)) {}
  ~ProberTest() override {
    prober_.Stop();
    loop_.RunUntilIdle();
    EXPECT_EQ(transport_->at("app").open_links, 0);
  }

  // The result goes to `results_`.
  void Probe(const std::string& uri, bool canary) {
    const absl::StatusOr<Destination> destination = catalog_.Resolve(uri);
    ASSERT_TRUE(destination.ok()) << destination.status();
    prober_.Probe(*destination, canary ? Message::Make({.name = "E_CANARY"}) : nullptr,
                  [this](ProbeResult result) { results_.push_back(std::move(result)); });
    loop_.RunUntilIdle();
  }

  FakeTransport* transport_ = nullptr;
  Catalog catalog_;
  SimulatedLoop loop_;
  Prober prober_{loop_, absl::Seconds(1)};
  std::vector<ProbeResult> results_;

 private:
  static std::vector<std::unique_ptr<Transport>> MakeTransports(FakeTransport** fake) {
    std::vector<std::unique_ptr<Transport>> transports;
    auto transport = std::make_unique<FakeTransport>();
    *fake = transport.get();
    transports.push_back(std::move(transport));
    return transports;
  }
};

TEST_F(ProberTest, WithoutACanaryItConnectsAndSendsNothing) {
  Probe("fake:app", false);
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_TRUE(results_[0].reachable);
  EXPECT_TRUE(results_[0].status.ok());
  EXPECT_FALSE(transport_->at("app").has_parcel());
  EXPECT_EQ(transport_->at("app").open_links, 0);
}

TEST_F(ProberTest, TheCanarysOutcomeIsTheProbes) {
  Probe("fake:app", true);
  EXPECT_EQ(results_.size(), 0u);
  loop_.Advance(absl::Milliseconds(300));
  EXPECT_THAT(transport_->at("app").End(absl::OkStatus()), HasSubstr("E_CANARY"));
  loop_.RunUntilIdle();
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_TRUE(results_[0].status.ok());
  EXPECT_EQ(results_[0].latency, absl::Milliseconds(300));

  Probe("fake:app", true);
  transport_->at("app").End(absl::NotFoundError("no such queue"));
  loop_.RunUntilIdle();
  ASSERT_EQ(results_.size(), 2u);
  EXPECT_TRUE(results_[1].reachable);
  EXPECT_EQ(results_[1].status, absl::NotFoundError("no such queue"));
}

TEST_F(ProberTest, ARefusedConnectionSaysWhy) {
  transport_->at("app").connect_error = absl::UnauthenticatedError("wrong password");
  Probe("fake:app", true);
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_FALSE(results_[0].reachable);
  EXPECT_EQ(results_[0].status, absl::UnauthenticatedError("wrong password"));
}

TEST_F(ProberTest, APeerThatHangsEndsInTime) {
  transport_->at("app").hang_connects = true;
  Probe("fake:guest:s3cr3t@app?timeout=3s", true);
  loop_.Advance(absl::Milliseconds(2999));
  EXPECT_EQ(results_.size(), 0u);
  loop_.Advance(absl::Milliseconds(1));
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_FALSE(results_[0].reachable);
  EXPECT_THAT(std::string(results_[0].status.message()), HasSubstr("not ready within 3s"));
  EXPECT_THAT(std::string(results_[0].status.message()), Not(HasSubstr("s3cr3t")));

  transport_->at("app").hang_connects = false;
  Probe("fake:app", true);
  loop_.Advance(absl::Seconds(1));
  ASSERT_EQ(results_.size(), 2u);
  EXPECT_TRUE(results_[1].reachable);
  EXPECT_THAT(std::string(results_[1].status.message()), HasSubstr("no outcome of the canary within 1s"));
}

TEST_F(ProberTest, SoManyAtOnceAndNoMore) {
  transport_->at("app").hang_connects = true;
  for (size_t i = 0; i < Prober::kMaxProbes; ++i) Probe("fake:app", false);
  EXPECT_EQ(results_.size(), 0u);
  Probe("fake:app", false);
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].status.code(), absl::StatusCode::kResourceExhausted);
  loop_.Advance(absl::Seconds(1));
  EXPECT_EQ(results_.size(), 1 + Prober::kMaxProbes);
  transport_->at("app").hang_connects = false;
  Probe("fake:app", false);
  EXPECT_TRUE(results_.back().reachable);
}

TEST_F(ProberTest, StopEndsWhatRunsAndRefusesNewOnes) {
  Probe("fake:app", true);
  prober_.Stop();
  loop_.RunUntilIdle();
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].status, absl::UnavailableError("the server is stopping"));
  Probe("fake:app", false);
  ASSERT_EQ(results_.size(), 2u);
  EXPECT_EQ(results_[1].status, absl::UnavailableError("the server is stopping"));
}

}  // namespace
}  // namespace eventvirtual
