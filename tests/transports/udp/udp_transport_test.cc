#include "transports/udp/udp_transport.h"

#include <sys/socket.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/udp/udp_receiver.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

absl::StatusOr<Target> Canonicalize(absl::string_view text) {
  absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return uri.status();
  return MakeUdpTransport()->Canonicalize(*uri);
}

TEST(UdpUri, HasOneCanonicalForm) {
  const struct {
    const char* text;
    const char* canonical;
  } kCases[] = {
      {"udp:127.0.0.1:8081", "udp:127.0.0.1:8081"},
      {"udp:Host.Example:08081", "udp:host.example:8081"},
      {"udp:[::1]:65535", "udp:[::1]:65535"},
      {"udp:h:1?timeout=50ms", "udp:h:1"},
      {"udp:h:1?timeout=50", "udp:h:1"},
      {"udp:h:1?timeout=1500", "udp:h:1?timeout=1.5s"},
  };
  for (const auto& test : kCases) {
    const absl::StatusOr<Target> target = Canonicalize(test.text);
    ASSERT_TRUE(target.ok()) << test.text << ": " << target.status();
    EXPECT_EQ(target->canonical, test.canonical);
    EXPECT_EQ(target->masked, test.canonical);
    EXPECT_EQ(target->ack_level, AckLevel::kHandedToKernel);
    const absl::StatusOr<Target> again = Canonicalize(target->canonical);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->canonical, target->canonical);
    EXPECT_EQ(again->attempt_timeout, target->attempt_timeout);
  }
  EXPECT_EQ(Canonicalize("udp:h:1")->attempt_timeout, absl::Milliseconds(50));
  EXPECT_EQ(Canonicalize("udp:h:1?timeout=2s")->attempt_timeout, absl::Seconds(2));
}

TEST(UdpUri, RefusalsNameThePart) {
  const struct {
    const char* text;
    const char* why;
  } kCases[] = {
      {"udp:", "host is empty"},
      {"udp:host", "no port after host \"host\""},
      {"udp:host:0", "from 1 to 65535"},
      {"udp:host:99999", "from 1 to 65535"},
      {"udp:::1:80", "IPv6"},
      {"udp:host:80/x", "from 1 to 65535"},
      {"udp:h:1?colour=red", "colour"},
      {"udp:h:1?timeout=soon", "timeout"},
      {"udp:h:1?timeout=0", "timeout"},
      {"udp:h:1?timeout=1h", "timeout"},
  };
  for (const auto& test : kCases) {
    const absl::Status status = Canonicalize(test.text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << test.text;
    EXPECT_THAT(Text(status), HasSubstr(test.why)) << test.text;
  }
}

TEST(UdpWire, OneDatagramPerEventIsItsJsonRpcText) {
  for (const int family : {AF_INET, AF_INET6}) {
    UdpReceiver receiver(family);
    const auto transport = MakeUdpTransport();
    LinkUnderTest link(*transport, receiver.uri());
    ASSERT_GT(link.WaitReady(), 0);
    EXPECT_TRUE(link.SendAndWait(MakeMessage("E_TEST")).ok());
    EXPECT_TRUE(link.SendAndWait(MakeMessage("E_TEST", "second")).ok());
    EXPECT_EQ(receiver.Receive(), "{\"jsonrpc\":\"2.0\",\"method\":\"E_TEST\"}");
    EXPECT_EQ(receiver.Receive(), "{\"jsonrpc\":\"2.0\",\"method\":\"E_TEST\",\"params\":[\"second\"]}");
  }
}

TEST(UdpWire, AHostNameIsLookedUp) {
  UdpReceiver receiver;
  std::string uri = receiver.uri();
  uri.replace(uri.find("127.0.0.1"), 9, "localhost");
  const auto transport = MakeUdpTransport();
  LinkUnderTest link(*transport, uri);
  ASSERT_GT(link.WaitReady(), 0);
  // Where localhost has an IPv6 address as well, nobody may be listening at it: then the refusal arrives instead.
  if (link.SendAndWait(MakeMessage("E_TEST")).ok()) {
    EXPECT_TRUE(receiver.Receive().has_value());
  }
}

TEST(UdpWire, DatagramsOfOneSizeThatLeaveTogetherArriveOneByOneAndInOrder) {
  for (const int family : {AF_INET, AF_INET6}) {
    UdpReceiver receiver(family);
    const auto transport = MakeUdpTransport();
    LinkUnderTest link(*transport, receiver.uri());
    ASSERT_GT(link.WaitReady(), 0);
    // Runs of every length around what one call takes, others behind them, and some too large to be cut from a run. No
    // batch is more than the receiver's buffer holds.
    std::vector<std::vector<MessageRef>> batches;
    for (const int run : {1, 2, 3, 63, 64, 65}) {
      batches.emplace_back();
      for (int i = 0; i < run; ++i) batches.back().push_back(MakeMessage("E_RUN", absl::StrCat(10000000 + i)));
      for (const char* other : {"shorter", "", "longer than those", "longer than those", "short"}) {
        batches.back().push_back(MakeMessage("E_RUN", other));
      }
    }
    batches.emplace_back();
    for (const size_t size : {1232, 1232, 1233, 1233, 1000, 9000, 9000}) batches.back().push_back(MessageOfSize(size));
    for (const std::vector<MessageRef>& batch : batches) {
      const size_t first = link.Send(batch);
      for (size_t i = 0; i < batch.size(); ++i) {
        EXPECT_TRUE(link.Outcome(first + i).ok());
        const std::optional<std::string> datagram = receiver.Receive();
        ASSERT_TRUE(datagram.has_value()) << i << " of " << batch.size();
        ASSERT_EQ(*datagram, std::string(batch[i]->jsonrpc())) << i << " of " << batch.size();
      }
    }
    EXPECT_FALSE(receiver.Receive(nullptr, 0).has_value());
  }
}

TEST(UdpWire, TenThousandEventsReachAReadingPeerInOrder) {
  UdpReceiver receiver;
  const auto transport = MakeUdpTransport();
  LinkUnderTest link(*transport, receiver.uri());
  ASSERT_GT(link.WaitReady(), 0);
  // What the receiver's buffer surely holds at a time: beyond it the kernel drops, which is udp's own way.
  constexpr int kBatch = 64;
  int sent = 0;
  int received = 0;
  while (sent < 10000) {
    std::vector<MessageRef> batch;
    for (int i = 0; i < kBatch && sent < 10000; ++i) batch.push_back(MakeMessage("E_BURST", absl::StrCat("#", sent++)));
    const size_t first = link.Send(batch);
    for (size_t i = 0; i < batch.size(); ++i) ASSERT_TRUE(link.Outcome(first + i).ok());
    for (; received < sent; ++received) {
      const std::optional<std::string> datagram = receiver.Receive();
      ASSERT_TRUE(datagram.has_value());
      ASSERT_THAT(*datagram, HasSubstr(absl::StrCat("[\"#", received, "\"]")));
    }
  }
}

TEST(UdpWire, WhatThePeerSendsBackIsDropped) {
  UdpReceiver receiver;
  const auto transport = MakeUdpTransport();
  LinkUnderTest link(*transport, receiver.uri());
  ASSERT_GT(link.WaitReady(), 0);
  sockaddr_storage from = {};
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_TEST")).ok());
  ASSERT_TRUE(receiver.Receive(&from).has_value());
  for (int i = 0; i < 100; ++i) receiver.SendBack(from, i % 2 == 0 ? "thanks" : "");
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_TEST")).ok());
  EXPECT_TRUE(receiver.Receive().has_value());
  EXPECT_FALSE(link.closed());
}

TEST(UdpSize, TheLargestPayloadIsThatOfOpenSips) {
  for (const int family : {AF_INET, AF_INET6}) {
    UdpReceiver receiver(family);
    const auto transport = MakeUdpTransport();
    LinkUnderTest link(*transport, receiver.uri());
    ASSERT_GT(link.WaitReady(), 0);
    const size_t first = link.Send({MakeMessage("E_BEFORE"), MessageOfSize(65457), MessageOfSize(65458),
                                    MessageOfSize(1 << 20), MakeMessage("E_BEHIND")});
    EXPECT_TRUE(link.Outcome(first).ok());
    EXPECT_TRUE(link.Outcome(first + 1).ok()) << link.Outcome(first + 1);
    for (const size_t too_large : {first + 2, first + 3}) {
      const absl::Status status = link.Outcome(too_large);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
      EXPECT_THAT(Text(status), HasSubstr("at most 65457"));
    }
    EXPECT_THAT(Text(link.Outcome(first + 2)), HasSubstr("65458 bytes"));
    EXPECT_TRUE(link.Outcome(first + 4).ok());
    EXPECT_TRUE(receiver.Receive().has_value());
    EXPECT_EQ(receiver.Receive()->size(), 65457u);
    EXPECT_THAT(*receiver.Receive(), HasSubstr("E_BEHIND"));
    EXPECT_FALSE(link.closed());
  }
}

TEST(UdpDeadPort, FailsTheFirstEventAndClosesTheLink) {
  for (const int family : {AF_INET, AF_INET6}) {
    UdpReceiver receiver(family);
    receiver.Stop();
    const auto transport = MakeUdpTransport();
    LinkUnderTest link(*transport, receiver.uri());
    ASSERT_GT(link.WaitReady(), 0);  // a UDP socket connects to anything
    const absl::Status status = link.SendAndWait(MakeMessage("E_TEST"));
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_EQ(Text(status), receiver.uri() + ": Connection refused");
    EXPECT_EQ(link.WaitClosed(), status);
  }
}

TEST(UdpDeadPort, FailsTheWholeBatchAndWhatComesAfterIt) {
  UdpReceiver receiver;
  receiver.Stop();
  const auto transport = MakeUdpTransport();
  LinkUnderTest link(*transport, receiver.uri());
  ASSERT_GT(link.WaitReady(), 0);
  std::vector<MessageRef> batch;
  for (int i = 0; i < 200; ++i) batch.push_back(MakeMessage("E_TEST", std::string(1 + i % 7, 'x')));
  const size_t first = link.Send(batch);
  const size_t later = link.Send({MakeMessage("E_LATER")});
  for (size_t i = 0; i < batch.size(); ++i) {
    EXPECT_EQ(link.Outcome(first + i).code(), absl::StatusCode::kUnavailable);
  }
  EXPECT_EQ(link.Outcome(later).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(link.WaitClosed().code(), absl::StatusCode::kUnavailable);
}

TEST(UdpDeadPort, IsNoticedWhenTheReceiverStopsAndANewLinkServesTheRestartedOne) {
  UdpReceiver receiver;
  const auto transport = MakeUdpTransport();
  {
    LinkUnderTest link(*transport, receiver.uri());
    ASSERT_GT(link.WaitReady(), 0);
    EXPECT_TRUE(link.SendAndWait(MakeMessage("E_ONE")).ok());
    receiver.Stop();
    EXPECT_FALSE(link.SendAndWait(MakeMessage("E_TWO")).ok());
    EXPECT_FALSE(link.WaitClosed().ok());
  }
  receiver.Start();
  LinkUnderTest link(*transport, receiver.uri());
  ASSERT_GT(link.WaitReady(), 0);
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_THREE")).ok());
  EXPECT_EQ(receiver.Receive(), "{\"jsonrpc\":\"2.0\",\"method\":\"E_THREE\"}");
}

TEST(UdpConnect, ANameThatDoesNotExistClosesTheLinkWithItsName) {
  const auto transport = MakeUdpTransport();
  LinkUnderTest link(*transport, "udp:no-such-host.invalid:5060");
  const absl::Status why = link.WaitClosed();
  EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Text(why), AllOf(HasSubstr("udp:no-such-host.invalid:5060"), HasSubstr("cannot look up")));
}

TEST(UdpConnect, BroadcastIsRefused) {
  const auto transport = MakeUdpTransport();
  LinkUnderTest link(*transport, "udp:255.255.255.255:5060");
  EXPECT_FALSE(link.WaitClosed().ok());
}

TEST(UdpDestroy, AtAnyMomentEndsWhatIsHeldAndLeavesNoDescriptor) {
  UdpReceiver receiver;
  const auto transport = MakeUdpTransport();
  const int before = OpenDescriptors();
  for (int i = 0; i < 50; ++i) {
    LinkUnderTest link(*transport, receiver.uri());
    if (i % 3 == 0) link.Destroy();  // perhaps before it was ready
    if (i % 3 == 1) {
      ASSERT_GT(link.WaitReady(), 0);
      const size_t first = link.Send({MakeMessage("E_TEST"), MakeMessage("E_TEST")});
      link.Destroy();
      EXPECT_TRUE(link.Outcome(first).ok());
    }
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

}  // namespace
}  // namespace eventvirtual
