// The conformance suite against a real Redis, for each kind of place.
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/transports/redis/redis_server.h"
#include "transports/redis/redis_transport.h"
#include "transports/testing/conformance.h"

namespace eventvirtual {
namespace {

// Its list is what a consumer pops.
class ListPeer final : public ConformancePeer {
 public:
  Transport& transport() override { return *transport_; }
  std::string uri() const override { return server_.Uri("list:events"); }
  std::string uri_with_password() const override { return "redis://alice:s3cr3t@127.0.0.1:1/list:events"; }
  void Stop() override {
    running_ = false;
    server_.process().Kill();
  }
  void Start() override {
    server_.process().Start();
    running_ = true;
  }
  Stalled stalled() const override { return Stalled::kUnanswered; }
  void Stall() override { server_.process().Pause(); }
  void Resume() override { server_.process().Continue(); }
  std::optional<std::string> Receive(absl::Duration patience) override {
    if (!running_) return std::nullopt;
    const absl::Time give_up = absl::Now() + patience;
    std::optional<std::string> event;
    do {
      event = server_.Ask({"RPOP", "events"});
    } while (!event.has_value() && absl::Now() < give_up);
    return event;
  }

 private:
  RedisServer server_;
  bool running_ = true;
  const std::unique_ptr<Transport> transport_ = MakeRedisTransport();
};

class RedisConformance : public testing::TestWithParam<ConformanceCase> {};
TEST_P(RedisConformance, Holds) {
  ListPeer peer;
  GetParam().run(peer);
}
INSTANTIATE_TEST_SUITE_P(Redis, RedisConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

}  // namespace
}  // namespace eventvirtual
