// What the transports' own tests cannot bring about on one machine: an error that comes after the events were reported.
#include "transports/io/datagram_link.h"

#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/link_under_test.h"

namespace eventvirtual {
namespace {

using testing::HasSubstr;

// One end of a pair that keeps the bounds of messages and gets a pending ECONNRESET when the other end is closed with
// something unread: to our side that looks like a late ICMP error.
class PairLink final : public DatagramLink {
 public:
  PairLink(int fd, Loop& loop, Host& host) : DatagramLink("pair:test", Encoding::kJsonRpc, 1000, loop, host) {
    loop.Post([this, fd, alive = std::weak_ptr<int>(alive_)] {
      if (!alive.expired()) Ready(fd);
    });
  }

 private:
  const std::shared_ptr<int> alive_ = std::make_shared<int>();
};

class PairTransport final : public Transport {
 public:
  PairTransport() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds_), 0); }
  ~PairTransport() override { CloseFar(); }
  absl::Span<const absl::string_view> schemes() const override { return {}; }
  absl::string_view syntax() const override { return ""; }
  absl::string_view description() const override { return ""; }
  AckLevel ack_level() const override { return AckLevel::kHandedToKernel; }
  absl::StatusOr<Target> Canonicalize(const Uri&) const override { return Target(); }
  std::unique_ptr<Link> Connect(const Target&, Loop& loop, Link::Host& host) override {
    return std::make_unique<PairLink>(fds_[0], loop, host);
  }
  void CloseFar() {
    if (fds_[1] >= 0) close(std::exchange(fds_[1], -1));
  }
  void Write(const std::string& text) { EXPECT_EQ(send(fds_[1], text.data(), text.size(), 0), ssize_t(text.size())); }

 private:
  int fds_[2];
};

TEST(DatagramLink, AnErrorThatComesAfterASuccessClosesTheLinkAsDataLossWithoutAnotherSend) {
  PairTransport transport;
  LinkUnderTest link(transport, "pair:test");
  ASSERT_GT(link.WaitReady(), 0);
  ASSERT_TRUE(link.SendAndWait(MakeMessage("E_LOST")).ok());
  transport.CloseFar();  // E_LOST is unread
  const absl::Status why = link.WaitClosed();
  EXPECT_EQ(why.code(), absl::StatusCode::kDataLoss) << why;
  EXPECT_THAT(std::string(why.message()), HasSubstr("pair:test: Connection reset by peer"));
}

TEST(DatagramLink, AnErrorThatIsThereBeforeASendIsNotBlamedOnThatSend) {
  PairTransport transport;
  LinkUnderTest link(transport, "pair:test");
  ASSERT_GT(link.WaitReady(), 0);
  ASSERT_TRUE(link.SendAndWait(MakeMessage("E_LOST")).ok());
  size_t next = 0;
  OnLoop(link.loop(), [&] {  // one task: the link's watch has no turn in between
    transport.CloseFar();
    next = link.SendNow({MakeMessage("E_NEXT")});
  });
  EXPECT_EQ(link.Outcome(next).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(link.WaitClosed().code(), absl::StatusCode::kDataLoss);
}

TEST(DatagramLink, NoiseFromThePeerDoesNotHarm) {
  PairTransport transport;
  LinkUnderTest link(transport, "pair:test");
  ASSERT_GT(link.WaitReady(), 0);
  for (int i = 0; i < 100; ++i) transport.Write("noise");
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_TEST")).ok());
  EXPECT_EQ(link.SendAndWait(MessageOfSize(1001)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(link.closed());
}

}  // namespace
}  // namespace eventvirtual
