#include "transports/grpc/grpc_transport.h"

#include <utility>

#include "transports/grpc/grpc_address.h"
#include "transports/grpc/grpc_link.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kSchemes[] = {"grpc", "grpcs"};

class GrpcTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override {
    return "grpc://host:port[?token=TOKEN&window=1&max_message=4194304&timeout=2s]; "
           "grpcs:// with TLS: [&ca=/path&cert=/path&key=/path&server_name=NAME&verify=0]";
  }
  absl::string_view description() const override {
    return "Calls Deliver of eventvirtual.v1.Receiver, over TLS with grpcs. Success: the receiver answered OK.";
  }
  AckLevel ack_level() const override { return AckLevel::kConfirmed; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const absl::StatusOr<GrpcAddress> address = ParseGrpcAddress(uri);
    if (!address.ok()) return address.status();
    return TargetOf(*address, AckLevel::kConfirmed, {address->host});
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    return std::make_unique<GrpcLink>(AddressOf(target, &ParseGrpcAddress), loop, host);
  }
};

}  // namespace

std::unique_ptr<Transport> MakeGrpcTransport() { return std::make_unique<GrpcTransport>(); }

}  // namespace eventvirtual
