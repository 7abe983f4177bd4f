#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/tcp_proxy.h"
#include "tests/transports/nats/nats_server.h"
#include "transports/nats/nats_transport.h"
#include "transports/testing/conformance.h"

namespace eventvirtual {
namespace {

// A real server, and before it a proxy that is stopped and stalled: nats_transport_test does that to the server.
class ServerPeer : public ConformancePeer {
 public:
  ServerPeer(const NatsServer& server, std::string rest) : rest_(std::move(rest)), proxy_(server.port()) {}

  Transport& transport() override { return *transport_; }
  std::string uri() const override { return absl::StrCat("nats://127.0.0.1:", proxy_.port(), "/", rest_); }
  std::string uri_with_password() const override { return "nats://alice:s3cr3t@127.0.0.1:1/calls"; }
  void Start() override { proxy_.Start(); }
  void Stop() override { proxy_.Stop(); }
  Stalled stalled() const override { return Stalled::kUnanswered; }
  void Stall() override { proxy_.Stall(); }
  void Resume() override { proxy_.Resume(); }

 private:
  const std::unique_ptr<Transport> transport_ = MakeNatsTransport();
  const std::string rest_;
  TcpProxy proxy_;
};

class CorePeer final : public ServerPeer {
 public:
  explicit CorePeer(const NatsServer& server) : ServerPeer(server, "core"), client_(server) {
    client_.Subscribe("core");
  }
  std::optional<std::string> Receive(absl::Duration patience) override {
    std::optional<NatsClient::Event> event = client_.Next(patience);
    if (!event.has_value()) return std::nullopt;
    return std::move(event->body);
  }

 private:
  NatsClient client_;
};

class JetStreamPeer final : public ServerPeer {
 public:
  explicit JetStreamPeer(const NatsServer& server) : ServerPeer(server, "stored?jetstream=1"), client_(server) {
    client_.AddStream("stored");
  }
  ~JetStreamPeer() override { client_.DeleteStream("stored"); }
  std::optional<std::string> Receive(absl::Duration patience) override {
    const absl::Time give_up = absl::Now() + patience;
    do {
      if (std::optional<NatsClient::Event> event = client_.Stored("stored", next_)) {
        ++next_;
        return std::move(event->body);
      }
    } while (absl::Now() < give_up);
    return std::nullopt;
  }

 private:
  NatsClient client_;
  uint64_t next_ = 1;
};

class NatsConformance : public testing::TestWithParam<ConformanceCase> {
 protected:
  static void SetUpTestSuite() { server_ = new NatsServer("max_payload: 4MB"); }
  static void TearDownTestSuite() {
    delete std::exchange(server_, nullptr);
    WaitForNatsThreads();
  }
  static inline NatsServer* server_ = nullptr;
};

TEST_P(NatsConformance, CoreHolds) {
  CorePeer peer(*server_);
  GetParam().run(peer);
}

TEST_P(NatsConformance, JetStreamHolds) {
  JetStreamPeer peer(*server_);
  GetParam().run(peer);
}

INSTANTIATE_TEST_SUITE_P(Nats, NatsConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

}  // namespace
}  // namespace eventvirtual
