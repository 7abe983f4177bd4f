#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/transports/grpc/grpc_peer.h"
#include "tests/transports/grpc/grpc_receiver.h"
#include "tests/transports/io/server_process.h"

namespace eventvirtual {
namespace {

class GrpcConformance : public testing::TestWithParam<ConformanceCase> {
 protected:
  static void SetUpTestSuite() { server_ = new GrpcReceiver; }
  static void TearDownTestSuite() { delete std::exchange(server_, nullptr); }
  static inline GrpcReceiver* server_ = nullptr;
};

TEST_P(GrpcConformance, Holds) {
  GrpcPeer peer(*server_);
  GetParam().run(peer);
}

// With a server that wants a client's certificate.
class GrpcsConformance : public testing::TestWithParam<ConformanceCase> {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    MakeCertificates(*folder_);
    server_ = new GrpcReceiver({.credentials = ServerTls(*folder_)});
  }
  static void TearDownTestSuite() {
    delete std::exchange(server_, nullptr);
    delete std::exchange(folder_, nullptr);
  }
  static inline TemporaryFolder* folder_ = nullptr;
  static inline GrpcReceiver* server_ = nullptr;
};

TEST_P(GrpcsConformance, Holds) {
  GrpcPeer peer(*server_, ClientTls(*folder_));
  GetParam().run(peer);
}

INSTANTIATE_TEST_SUITE_P(Grpc, GrpcConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);
INSTANTIATE_TEST_SUITE_P(Grpcs, GrpcsConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

}  // namespace
}  // namespace eventvirtual
