#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/transports/http/http_server.h"
#include "tests/transports/sqs/sqs_peers.h"
#include "transports/sqs/sqs_transport.h"
#include "transports/testing/conformance.h"

namespace eventvirtual {
namespace {

class SqsConformancePeer final : public ConformancePeer {
 public:
  SqsConformancePeer() {
    SetCredentials(kKeyId, kSecret);
    while (IdSize() < kIdSize) {  // ids grow with their count: from here on by less than a suite makes
    }
    EXPECT_EQ(IdSize(), kIdSize);
  }

  Transport& transport() override { return *transport_; }
  std::string uri() const override { return absl::StrCat("sqs:", server_.Url("/1/calls"), "?region=eu-central-1"); }
  void Start() override { server_.Start(); }
  void Stop() override { server_.Stop(); }
  Stalled stalled() const override { return Stalled::kUnanswered; }
  void Stall() override { server_.SetStalled(true); }
  void Resume() override { server_.SetStalled(false); }
  std::optional<std::string> Receive(absl::Duration patience) override {
    const std::optional<HttpRequest> request = server_.Receive(patience);
    if (!request.has_value()) return std::nullopt;
    return MessageBodyOf(*request);
  }
  // SQS counts the attributes with the event's id and its hops.
  size_t largest() const override { return (1 << 20) - std::string("event-idStringeventhopsString1").size() - kIdSize; }

 private:
  static constexpr size_t kIdSize = 21;  // of 0x1000 to 0xffff ids
  static size_t IdSize() { return Message::Make({})->event_id().size(); }

  const std::unique_ptr<Transport> transport_ = MakeSqsTransport();
  HttpServer server_{&StoredAnswer};
};

class SqsConformance : public testing::TestWithParam<ConformanceCase> {};

TEST_P(SqsConformance, Holds) {
  SqsConformancePeer peer;
  GetParam().run(peer);
}

INSTANTIATE_TEST_SUITE_P(Sqs, SqsConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

}  // namespace
}  // namespace eventvirtual
