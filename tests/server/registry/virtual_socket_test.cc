#include "server/registry/virtual_socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace eventvirtual {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(VirtualSocket, TakesOpensipsGrammar) {
  const absl::StatusOr<VirtualSocket> socket = ParseVirtualSocket(" \tvirtual:ROUND-ROBIN  udp:a:1\t \tudp:b:2  ");
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_EQ(socket->policy, Policy::kRoundRobin);
  EXPECT_FALSE(socket->plain);
  EXPECT_THAT(socket->subscribers, ElementsAre("udp:a:1", "udp:b:2"));
}

TEST(VirtualSocket, PrintsWhatItParses) {
  for (const char* text :
       {"virtual:PARALLEL udp:a:1", "virtual:FAILOVER udp:a:1 /x", "virtual:ROUND-ROBIN a:b a:b", "udp:a:1"}) {
    const absl::StatusOr<VirtualSocket> socket = ParseVirtualSocket(text);
    ASSERT_TRUE(socket.ok()) << socket.status();
    EXPECT_EQ(FormatVirtualSocket(socket->policy, socket->plain, socket->subscribers), text);
  }
}

TEST(VirtualSocket, RefusalsSayWhatWouldBeTaken) {
  const auto fault = [](const char* text) { return std::string(ParseVirtualSocket(text).status().message()); };
  EXPECT_THAT(fault(""), HasSubstr("empty"));
  EXPECT_THAT(fault("virtual:"), HasSubstr("no policy"));
  EXPECT_THAT(fault("virtual: PARALLEL udp:a:1"), HasSubstr("no policy"));
  EXPECT_THAT(fault("virtual:PARALLEL  "), HasSubstr("no subscriber"));
  EXPECT_THAT(fault("virtual:parallel udp:a:1"), HasSubstr("PARALLEL, FAILOVER, ROUND-ROBIN"));
  EXPECT_THAT(fault("virtual:RANDOM udp:a:1"), HasSubstr("\"RANDOM\" is not a policy"));
  EXPECT_THAT(fault("virtual:PARALLELudp:secret:1 udp:a:1"), HasSubstr("glued"));
  EXPECT_THAT(fault("virtual:PARALLELudp:secret:1 udp:a:1"), Not(HasSubstr("secret")));
  EXPECT_THAT(fault("virtual:FAILOVER udp:a:1 virtual:PARALLEL"), HasSubstr("subscriber 2 of 2"));
  EXPECT_THAT(fault("udp:a:1 udp:b:1"), HasSubstr("one subscriber"));
}

}  // namespace
}  // namespace eventvirtual
