// Which sockets of OpenSIPS lead to our ingest, and what it is told to send to.
#include "server/enroll/own_sockets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace eventvirtual {
namespace {

using ::testing::HasSubstr;

TEST(OwnSockets, LeadHereHoweverTheyAreWritten) {
  const OwnSockets own({"tcp:127.0.0.1:9060", "unix:/run/ev.sock", "udp:127.0.0.1:9061", "tcp:[::1]:9060"});
  for (const char* socket :
       {"tcp:127.0.0.1:9060", "tcp:127.0.0.1:9060/method", "tcp:127.0.0.1:9060?reliable=1", "tcp:localhost:9060",
        "tcp:LOCALHOST:9060", "unix:/run/ev.sock", "/run/ev.sock", "udp:127.0.0.1:9061", "tcp:[::1]:9060"}) {
    EXPECT_TRUE(own.Has(socket)) << socket;
  }
  for (const char* socket :
       {"tcp:127.0.0.1:9061", "udp:127.0.0.1:9060", "tcp:10.0.0.1:9060", "tcp:127.0.0.1:90600", "unix:/run/ev.sock2",
        "flatstore:/run/ev.sock", "tcp:", "", "rabbitmq:guest:guest@127.0.0.1:9060/q", "tcp:127.0.0.1"}) {
    EXPECT_FALSE(own.Has(socket)) << socket;
  }
}

TEST(OwnSockets, OnAllAddressesAreReachedByEach) {
  const OwnSockets own({"tcp:0.0.0.0:9060"});
  EXPECT_TRUE(own.Has("tcp:10.0.0.1:9060"));
  EXPECT_TRUE(own.Has("tcp:sidecar.example:9060"));
  EXPECT_FALSE(own.Has("tcp:10.0.0.1:9061"));
}

TEST(OwnSockets, AreFoundWithinAVirtualSocket) {
  const OwnSockets own({"tcp:127.0.0.1:9060"});
  EXPECT_TRUE(own.IsWithin("virtual:FAILOVER tcp:127.0.0.1:9060 flatstore:lost.log"));
  EXPECT_TRUE(own.IsWithin("virtual:PARALLEL \t udp:127.0.0.1:7   tcp:127.0.0.1:9060/m "));
  EXPECT_FALSE(own.IsWithin("virtual:PARALLEL udp:127.0.0.1:7"));
  EXPECT_FALSE(own.IsWithin("virtual:SOMETIMES tcp:127.0.0.1:9060"));
}

TEST(IngestForOpensips, IsTheFirstTcpElseTheFirstUnixUnlessItIsSaid) {
  EXPECT_EQ(*IngestForOpensips("", {"udp:127.0.0.1:1", "unix:/a", "tcp:127.0.0.1:2", "tcp:127.0.0.1:3"}),
            "tcp:127.0.0.1:2");
  EXPECT_EQ(*IngestForOpensips("", {"udp:127.0.0.1:1", "unix:/a", "unix:/b"}), "unix:/a");
  EXPECT_EQ(*IngestForOpensips("tcp:sidecar.example:9060", {"tcp:0.0.0.0:9060"}), "tcp:sidecar.example:9060");
  EXPECT_EQ(*IngestForOpensips("unix:/b", {"tcp:127.0.0.1:2"}), "unix:/b");
}

std::string Refusal(const std::string& wanted, const std::vector<std::string>& ingest) {
  const absl::StatusOr<std::string> chosen = IngestForOpensips(wanted, ingest);
  EXPECT_FALSE(chosen.ok()) << *chosen;
  return std::string(chosen.status().message());
}

TEST(IngestForOpensips, WhereThereIsNoneTheWayOutIsTold) {
  EXPECT_THAT(Refusal("", {}), HasSubstr("add --ingest=tcp:127.0.0.1:9060"));
  EXPECT_THAT(Refusal("tcp:127.0.0.1:9060", {}), HasSubstr("add --ingest=")) << "nobody listens there";
  EXPECT_THAT(Refusal("", {"udp:127.0.0.1:1"}), HasSubstr("add --ingest=tcp:127.0.0.1:9060"));
  EXPECT_THAT(Refusal("", {"tcp:0.0.0.0:9060"}), HasSubstr("--enroll_ingest=tcp:HOST:9060"));
  EXPECT_THAT(Refusal("", {"tcp:[::]:9060"}), HasSubstr("--enroll_ingest=tcp:HOST:9060"));
  EXPECT_THAT(Refusal("tcp:0.0.0.0:9060", {"tcp:127.0.0.1:9060"}), HasSubstr("every address"));
  for (const char* wanted : {"udp:127.0.0.1:1", "http://x/", "tcp:127.0.0.1", "/run/x", "unix:x", "unix:"}) {
    EXPECT_THAT(Refusal(wanted, {"tcp:127.0.0.1:9060"}), HasSubstr("is not tcp:host:port or unix:/path")) << wanted;
  }
}

}  // namespace
}  // namespace eventvirtual
