// GrpcPeer: what the conformance suite needs of a server, with a proxy before it that is stopped and stalled.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_GRPC_GRPC_PEER_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_GRPC_GRPC_PEER_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/io/tcp_proxy.h"
#include "transports/grpc/grpc_transport.h"
#include "transports/testing/conformance.h"

namespace eventvirtual {

// `Server` has port() and Receive().
template <typename Server>
class GrpcPeer final : public ConformancePeer {
 public:
  // `tls_options`: "" for grpc://.
  explicit GrpcPeer(Server& server, absl::string_view tls_options = "")
      : server_(server), tls_options_(tls_options), proxy_(server.port()) {
    while (server_.Receive(absl::ZeroDuration()).has_value()) {  // of the test before
    }
  }

  Transport& transport() override { return *transport_; }
  std::string uri() const override {
    if (tls_options_.empty()) return absl::StrCat("grpc://127.0.0.1:", proxy_.port());
    return absl::StrCat("grpcs://localhost:", proxy_.port(), "?", tls_options_);
  }
  std::string uri_with_password() const override { return "grpc://127.0.0.1:1?token=s3cr3t"; }
  void Start() override { proxy_.Start(); }
  void Stop() override { proxy_.Stop(); }
  Stalled stalled() const override { return Stalled::kUnanswered; }
  void Stall() override { proxy_.Stall(); }
  void Resume() override { proxy_.Resume(); }
  std::optional<std::string> Receive(absl::Duration patience) override { return server_.Receive(patience); }
  std::string TextOf(const Message& message) const override {
    return std::string(message.encoded(Encoding::kProtobuf));
  }
  size_t largest() const override {
    const MessageRef sample = MessageOfSize(4 << 20);
    const size_t tag_and_length = 5;
    return (4 << 20) - (TextOf(*sample).size() + tag_and_length - sample->jsonrpc().size());
  }

 private:
  const std::unique_ptr<Transport> transport_ = MakeGrpcTransport();
  Server& server_;
  const std::string tls_options_;
  TcpProxy proxy_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_GRPC_GRPC_PEER_H_
