#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/transports/http/http_server.h"
#include "transports/testing/conformance.h"
#include "transports/xmlrpc/xmlrpc_text.h"
#include "transports/xmlrpc/xmlrpc_transport.h"

namespace eventvirtual {
namespace {

class XmlrpcConformancePeer final : public ConformancePeer {
 public:
  Transport& transport() override { return *transport_; }
  std::string uri() const override { return absl::StrCat("xmlrpc:127.0.0.1:", server_.port(), ":receive"); }
  std::string uri_with_password() const override { return "xmlrpc:127.0.0.1:1:receive?header.authorization=s3cr3t"; }
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
  std::string TextOf(const Message& message) const override { return EncodeXmlRpc(message, "receive", true); }

 private:
  const std::unique_ptr<Transport> transport_ = MakeXmlrpcTransport();
  HttpServer server_{Answer("200 OK",
                            "<?xml version='1.0'?><methodResponse><params><param><value><boolean>1</boolean></value>"
                            "</param></params></methodResponse>")};
};

class XmlrpcConformance : public testing::TestWithParam<ConformanceCase> {};

TEST_P(XmlrpcConformance, Holds) {
  XmlrpcConformancePeer peer;
  GetParam().run(peer);
}

INSTANTIATE_TEST_SUITE_P(Xmlrpc, XmlrpcConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

}  // namespace
}  // namespace eventvirtual
