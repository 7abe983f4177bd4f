// The conformance suite once more, with a server that ThreadSanitizer sees through.
#include "gtest/gtest.h"
#include "tests/transports/grpc/grpc_peer.h"
#include "tests/transports/grpc/http2_server.h"

namespace eventvirtual {
namespace {

class Http2Conformance : public testing::TestWithParam<ConformanceCase> {};

TEST_P(Http2Conformance, Holds) {
  Http2Server server([](const Http2Call&) { return GrpcStatus("0"); });
  GrpcPeer peer(server);
  GetParam().run(peer);
}

INSTANTIATE_TEST_SUITE_P(Http2, Http2Conformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

}  // namespace
}  // namespace eventvirtual
