#include <memory>
#include <optional>
#include <string>

#include "gtest/gtest.h"
#include "tests/transports/http/http_server.h"
#include "transports/http/http_transport.h"
#include "transports/testing/conformance.h"

namespace eventvirtual {
namespace {

class HttpConformancePeer final : public ConformancePeer {
 public:
  Transport& transport() override { return *transport_; }
  std::string uri() const override { return server_.Url("/events"); }
  std::string uri_with_password() const override { return "http://alice:s3cr3t@127.0.0.1:1/events"; }
  void Start() override { server_.Start(); }
  void Stop() override { server_.Stop(); }
  Stalled stalled() const override { return Stalled::kUnanswered; }
  void Stall() override { server_.SetStalled(true); }
  void Resume() override { server_.SetStalled(false); }
  std::optional<std::string> Receive(absl::Duration patience) override {
    std::optional<HttpRequest> request = server_.Receive(patience);
    if (!request.has_value()) return std::nullopt;
    return std::move(request->body);
  }

 private:
  const std::unique_ptr<Transport> transport_ = MakeHttpTransport();
  HttpServer server_{Answer("204 No Content")};
};

class HttpConformance : public testing::TestWithParam<ConformanceCase> {};

TEST_P(HttpConformance, Holds) {
  HttpConformancePeer peer;
  GetParam().run(peer);
}

INSTANTIATE_TEST_SUITE_P(Http, HttpConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

}  // namespace
}  // namespace eventvirtual
