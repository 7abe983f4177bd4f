// Connections that are counted, also those that are given away.
#include "transports/io/connection_caps.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

namespace eventvirtual {
namespace {

using Verdict = ConnectionCaps::Verdict;

// Both ends of it; the peer is this test's user.
class Pair {
 public:
  Pair() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends_), 0); }
  Pair(const Pair&) = delete;
  ~Pair() {
    Close();
    close(ends_[1]);
  }
  int fd() const { return ends_[0]; }
  // As who got it does, without a word.
  void Close() {
    if (ends_[0] >= 0) close(ends_[0]);
    ends_[0] = -1;
  }

 private:
  int ends_[2] = {-1, -1};
};

TEST(ConnectionCapsTest, TheCapIsReachedAndWhoHasGoneMakesRoom) {
  ConnectionCaps caps(2, 10);
  Pair one, two, three;
  EXPECT_EQ(caps.Admit(one.fd()), Verdict::kAdmitted);
  EXPECT_EQ(caps.Admit(two.fd()), Verdict::kAdmitted);
  EXPECT_EQ(caps.Admit(three.fd()), Verdict::kTooMany);
  caps.ForgetClosed();  // none is
  EXPECT_EQ(caps.Admit(three.fd()), Verdict::kTooMany);
  one.Close();
  caps.ForgetClosed();
  EXPECT_EQ(caps.Admit(three.fd()), Verdict::kAdmitted);
  EXPECT_EQ(caps.open(), 2u);
}

TEST(ConnectionCapsTest, WhoIsSaidToHaveGoneMakesRoomOnce) {
  ConnectionCaps caps(2, 2);
  Pair one, two, three, four;
  EXPECT_EQ(caps.Admit(one.fd()), Verdict::kAdmitted);
  EXPECT_EQ(caps.Admit(two.fd()), Verdict::kAdmitted);
  caps.Closed(two.fd());
  caps.Closed(two.fd());
  EXPECT_EQ(caps.open(), 1u);
  EXPECT_EQ(caps.Admit(three.fd()), Verdict::kAdmitted);
  EXPECT_EQ(caps.Admit(four.fd()), Verdict::kTooMany);
}

TEST(ConnectionCapsTest, ItKnowsWhoIsOfWhosePeer) {
  ConnectionCaps caps(2, 2);
  Pair one, two;
  EXPECT_EQ(caps.Admit(one.fd()), Verdict::kAdmitted);
  EXPECT_TRUE(caps.IsOfPeerOf(two.fd(), one.fd()));
  EXPECT_FALSE(caps.IsOfPeerOf(one.fd(), two.fd()));  // which is not counted
}

TEST(ConnectionCapsTest, OnePeerDoesNotTakeAll) {
  ConnectionCaps caps(10, 2);
  Pair one, two, three;
  EXPECT_EQ(caps.Admit(one.fd()), Verdict::kAdmitted);
  EXPECT_EQ(caps.Admit(two.fd()), Verdict::kAdmitted);
  EXPECT_EQ(caps.Admit(three.fd()), Verdict::kTooManyOfPeer);
  two.Close();
  caps.ForgetClosed();
  EXPECT_EQ(caps.Admit(three.fd()), Verdict::kAdmitted);
}

TEST(ConnectionCapsTest, ANumberThatIsUsedAgainIsCountedOnce) {
  ConnectionCaps caps(1, 1);
  std::vector<int> numbers;
  for (int i = 0; i < 100; ++i) {
    Pair next;
    numbers.push_back(next.fd());
    EXPECT_EQ(caps.Admit(next.fd()), Verdict::kAdmitted);
    EXPECT_EQ(caps.open(), 1u);
  }
  EXPECT_EQ(numbers.front(), numbers.back());
}

TEST(ConnectionCapsTest, ADescriptorThatIsNowSomethingElseHasGone) {
  ConnectionCaps caps(1, 1);
  Pair one, two;
  EXPECT_EQ(caps.Admit(one.fd()), Verdict::kAdmitted);
  // Its number goes to another socket, behind our back.
  ASSERT_EQ(dup2(two.fd(), one.fd()), one.fd());
  Pair three;
  caps.ForgetClosed();
  EXPECT_EQ(caps.Admit(three.fd()), Verdict::kAdmitted);
}

}  // namespace
}  // namespace eventvirtual
