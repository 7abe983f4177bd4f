// The tcp transport against peers of the test's own: what is on the wire, and every way in which a peer fails.
#include "transports/tcp/tcp_transport.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/link_under_test.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

// A peer that does what the test tells it, on the test's thread; the kernel accepts connections for it.
class Peer {
 public:
  explicit Peer(int family = AF_INET) : family_(family) { Start(); }
  ~Peer() { Stop(); }

  void Start() {
    listener_ = socket(family_, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    sockaddr_storage address = {};
    socklen_t length = sizeof(sockaddr_in);
    if (family_ == AF_INET6) {
      *reinterpret_cast<sockaddr_in6*>(&address) = {
          .sin6_family = AF_INET6, .sin6_port = htons(port_), .sin6_addr = in6addr_loopback};
      length = sizeof(sockaddr_in6);
    } else {
      *reinterpret_cast<sockaddr_in*>(&address) = {
          .sin_family = AF_INET, .sin_port = htons(port_), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    }
    ASSERT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), length), 0) << strerror(errno);
    ASSERT_EQ(listen(listener_, 16), 0);
    ASSERT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(family_ == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                                      : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
  }
  void Stop() {
    Close();
    if (listener_ >= 0) close(std::exchange(listener_, -1));
  }

  std::string uri(absl::string_view rest = "") const {
    return absl::StrCat("tcp:", family_ == AF_INET6 ? "[::1]" : "127.0.0.1", ":", port_, rest);
  }
  std::string reliable() const { return uri("?reliable=1"); }

  void Accept() {
    pollfd ready = {listener_, POLLIN, 0};
    ASSERT_EQ(poll(&ready, 1, 10000), 1) << "nobody connects";
    fd_ = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    ASSERT_GE(fd_, 0);
  }
  // The next `size` bytes; fewer if the connection ends or nothing comes.
  std::string Read(size_t size) {
    std::string bytes(size, '\0');
    size_t have = 0;
    while (have < size) {
      pollfd ready = {fd_, POLLIN, 0};
      if (poll(&ready, 1, 10000) != 1) break;
      const ssize_t got = recv(fd_, bytes.data() + have, size - have, 0);
      if (got <= 0) break;
      have += got;
    }
    bytes.resize(have);
    return bytes;
  }
  void Answer(absl::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;  // the link has had enough
      bytes.remove_prefix(sent);
    }
  }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  void Reset() {
    const linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    Close();
  }

 private:
  const int family_;
  uint16_t port_ = 0;
  int listener_ = -1;
  int fd_ = -1;
};

// A link that is ready, and which the peer has accepted.
std::unique_ptr<LinkUnderTest> Connect(Peer& peer, const std::string& uri) {
  static const std::unique_ptr<Transport> transport = MakeTcpTransport();
  auto link = std::make_unique<LinkUnderTest>(*transport, uri);
  EXPECT_GT(link->WaitReady(), 0);
  peer.Accept();
  return link;
}

std::string Request(int id, const Message& message) {
  return absl::StrCat("{\"id\":", id, ",", std::string(message.jsonrpc().substr(1)));
}
std::string Ok(absl::string_view id) { return absl::StrCat(R"({"jsonrpc":"2.0","result":"OK","id":)", id, "}"); }

// --- addresses

absl::StatusOr<Target> Canonicalize(absl::string_view text) {
  absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return uri.status();
  return MakeTcpTransport()->Canonicalize(*uri);
}

TEST(TcpUri, HasOneCanonicalForm) {
  const struct {
    const char* text;
    const char* canonical;
    AckLevel ack_level;
  } kCases[] = {
      {"tcp:127.0.0.1:8080", "tcp:127.0.0.1:8080", AckLevel::kWritten},
      {"tcp:Host.Example:08080/", "tcp:host.example:8080", AckLevel::kWritten},
      {"tcp:[::1]:1/block", "tcp:[::1]:1/block", AckLevel::kWritten},
      {"tcp:h:1?reliable=0&timeout=1s", "tcp:h:1", AckLevel::kWritten},
      {"tcp:h:1?timeout=250&reliable=yes", "tcp:h:1?reliable=1&timeout=250ms", AckLevel::kConfirmed},
      {"tcp:h:1/m?event_param=event", "tcp:h:1/m?event_param=event", AckLevel::kWritten},
  };
  for (const auto& test : kCases) {
    const absl::StatusOr<Target> target = Canonicalize(test.text);
    ASSERT_TRUE(target.ok()) << test.text << ": " << target.status();
    EXPECT_EQ(target->canonical, test.canonical);
    EXPECT_EQ(target->masked, test.canonical);
    EXPECT_EQ(target->ack_level, test.ack_level) << test.text;
  }
}

TEST(TcpUri, RefusalsNameThePart) {
  const struct {
    const char* text;
    const char* why;
  } kCases[] = {
      {"tcp:", "host is empty"},          {"tcp:h", "no port"},
      {"tcp:h:0", "from 1 to 65535"},     {"tcp:h:1/a/b", "another '/'"},
      {"tcp:h:1?reliable=2", "reliable"}, {"tcp:h:1?timeout=0", "timeout"},
      {"tcp:h:1?colour=red", "colour"},
  };
  for (const auto& test : kCases) {
    const absl::Status status = Canonicalize(test.text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << test.text;
    EXPECT_THAT(Text(status), HasSubstr(test.why)) << test.text;
  }
}

// --- the wire

TEST(TcpWire, NotificationsStandBackToBack) {
  for (const int family : {AF_INET, AF_INET6}) {
    Peer peer(family);
    const auto link = Connect(peer, peer.uri());
    const size_t first = link->Send({MakeMessage("E_A"), MakeMessage("E_B", "x")});
    const std::string expected = R"({"jsonrpc":"2.0","method":"E_A"}{"jsonrpc":"2.0","method":"E_B","params":["x"]})";
    EXPECT_EQ(peer.Read(expected.size()), expected);
    EXPECT_TRUE(link->Outcome(first).ok());
    EXPECT_TRUE(link->Outcome(first + 1).ok());
  }
}

TEST(TcpWire, TheMethodMayBeFixedAndTheEventAParameter) {
  Peer peer;
  const auto link = Connect(peer, peer.uri("/block?event_param=event"));
  EXPECT_TRUE(link->SendAndWait(MakeMessage("E_A", "x")).ok());
  const std::string expected = R"({"jsonrpc":"2.0","method":"block","params":{"event":"E_A","0":"x"}})";
  EXPECT_EQ(peer.Read(expected.size()), expected);
}

TEST(TcpWire, RequestsAreNumberedAndAnsweredInAnyOrder) {
  Peer peer;
  const auto link = Connect(peer, peer.reliable());
  const std::vector<MessageRef> batch = {MakeMessage("E_A"), MakeMessage("E_B"), MakeMessage("E_C")};
  const size_t first = link->Send(batch);
  const std::string expected = Request(1, *batch[0]) + Request(2, *batch[1]) + Request(3, *batch[2]);
  EXPECT_EQ(peer.Read(expected.size()), expected);
  peer.Answer(Ok("3"));
  EXPECT_TRUE(link->Outcome(first + 2).ok());
  EXPECT_EQ(link->Reported(), 1u);
  peer.Answer(Ok("1") + Ok("2"));
  EXPECT_TRUE(link->Outcome(first).ok());
  EXPECT_TRUE(link->Outcome(first + 1).ok());
}

// --- answers, as they may come

TEST(TcpReplies, AreReadHoweverTheyAreCutOrPadded) {
  Peer peer;
  const auto link = Connect(peer, peer.reliable());
  const size_t first = link->Send({MakeMessage("E"), MakeMessage("E"), MakeMessage("E")});
  for (const char byte : Ok("1")) peer.Answer(absl::string_view(&byte, 1));
  EXPECT_TRUE(link->Outcome(first).ok());
  peer.Answer(absl::StrCat(R"({"jsonrpc":"2.0","result":"OK","id":2)", std::string(4096, ' '), "}\r\n \t"));
  EXPECT_TRUE(link->Outcome(first + 1).ok());
  peer.Answer(R"({"id":3,"result":{"a":["}{",{"b":"\"}"}]}})");
  EXPECT_TRUE(link->Outcome(first + 2).ok());
}

TEST(TcpReplies, AnErrorIsAFailureWithItsCodeAndWords) {
  Peer peer;
  const auto link = Connect(peer, peer.reliable());
  const size_t first = link->Send(std::vector<MessageRef>(4, MakeMessage("E")));
  peer.Answer(R"({"jsonrpc":"2.0","error":{"code":-32601,"message":"no such method"},"id":1})");
  peer.Answer(R"({"error":"busy","id":2})");
  peer.Answer(R"({"error":{},"id":3})");
  peer.Answer(R"({"result":1,"error":null,"id":4})");
  EXPECT_EQ(Text(link->Outcome(first)), peer.reliable() + ": the receiver answered with error -32601: no such method");
  EXPECT_THAT(Text(link->Outcome(first + 1)), HasSubstr("busy"));
  EXPECT_FALSE(link->Outcome(first + 2).ok());
  EXPECT_TRUE(link->Outcome(first + 3).ok());
  EXPECT_FALSE(link->closed()) << "the connection is sound";
}

TEST(TcpReplies, ThoseToNobodyAreDropped) {
  Peer peer;
  const auto link = Connect(peer, peer.reliable());
  const size_t first = link->Send({MakeMessage("E"), MakeMessage("E")});
  for (const char* id : {"99", "0", "-1", "null", "\"1\"", "1.5", "{}", "18446744073709551615"}) peer.Answer(Ok(id));
  peer.Answer("{}{\"jsonrpc\":\"2.0\"}");
  peer.Answer(Ok("2") + Ok("2"));
  EXPECT_TRUE(link->Outcome(first + 1).ok());
  EXPECT_EQ(link->Reported(), 1u);
  peer.Answer(Ok("1"));
  EXPECT_TRUE(link->Outcome(first).ok());
}

TEST(TcpReplies, OneThatNeverComesIsEndedWithTheLink) {
  Peer peer;
  const auto link = Connect(peer, peer.reliable());
  const MessageRef message = MakeMessage("E");
  const size_t first = link->Send({message});
  EXPECT_EQ(peer.Read(Request(1, *message).size()), Request(1, *message));
  EXPECT_EQ(link->Reported(), 0u);
  link->Destroy();
  EXPECT_EQ(link->Outcome(first).code(), absl::StatusCode::kUnavailable);
}

TEST(TcpReplies, GarbageClosesTheLinkAndFailsWhatIsOut) {
  const std::string giant = "{\"id\":1,\"result\":\"" + std::string(10 << 20, 'x') + "\"}";
  for (const std::string& garbage : {std::string("HTTP/1.1 400 Bad Request\r\n"), std::string("[1]"),
                                     std::string("\0\xff", 2), giant, std::string(100000, '{')}) {
    Peer peer;
    const auto link = Connect(peer, peer.reliable());
    const size_t first = link->Send({MakeMessage("E"), MakeMessage("E")});
    std::thread answer([&] { peer.Answer(garbage); });  // it blocks when the link reads no more
    EXPECT_THAT(Text(link->WaitClosed()), AllOf(StartsWith(peer.reliable()), HasSubstr("bad reply")));
    EXPECT_EQ(link->Outcome(first).code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(link->Outcome(first + 1).code(), absl::StatusCode::kUnavailable);
    link->Destroy();
    answer.join();
  }
}

// --- peers that go

TEST(TcpFailure, AClosedConnectionFailsWhatIsOutAndKeepsWhatWasAnswered) {
  for (const bool reset : {false, true}) {
    Peer peer;
    const auto link = Connect(peer, peer.reliable());
    const size_t first = link->Send(std::vector<MessageRef>(100, MakeMessage("E")));
    for (int id = 1; id <= 50; ++id) peer.Answer(Ok(absl::StrCat(id)));
    for (int i = 0; i < 50; ++i) EXPECT_TRUE(link->Outcome(first + i).ok());
    if (reset) {
      peer.Reset();
    } else {
      peer.Close();
    }
    for (int i = 50; i < 100; ++i) EXPECT_EQ(link->Outcome(first + i).code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(Text(link->WaitClosed()), StartsWith(peer.reliable()));
  }
}

TEST(TcpFailure, ThatThePeerHasGoneIsNoticedBeforeBytesAreLostInItsGrave) {
  Peer peer;
  const auto link = Connect(peer, peer.uri());
  // In one turn of the loop: the link has not yet been told by the kernel.
  size_t first = 0;
  OnLoop(link->loop(), [&] {
    peer.Close();
    first = link->SendNow({MakeMessage("E")});
  });
  EXPECT_EQ(link->Outcome(first).code(), absl::StatusCode::kUnavailable) << "written, and lost";
  EXPECT_EQ(link->WaitClosed().code(), absl::StatusCode::kUnavailable);
}

TEST(TcpFailure, APeerThatDoesNotReadHoldsBackWhatDoesNotFit) {
  Peer peer;
  const auto transport = MakeTcpTransport();
  LinkUnderTest link(*transport, peer.uri());
  const int window = link.WaitReady();
  ASSERT_GT(window, 100);
  peer.Accept();
  const MessageRef large = MessageOfSize(100000);
  const size_t first = link.Send(std::vector<MessageRef>(100, large));
  OnLoop(link.loop(), [] {});
  EXPECT_LT(link.Reported(), 100u);
  EXPECT_EQ(peer.Read(100 * large->jsonrpc().size()).size(), 100 * large->jsonrpc().size());
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(link.Outcome(first + i).ok());
}

TEST(TcpFailure, WhatWasHeldBackFailsWhenThePeerGoes) {
  Peer peer;
  const auto link = Connect(peer, peer.uri());
  const size_t first = link->Send(std::vector<MessageRef>(100, MessageOfSize(100000)));
  peer.Reset();
  EXPECT_EQ(link->Outcome(first + 99).code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(link->WaitClosed().ok());
}

TEST(TcpFailure, NobodyListening) {
  Peer peer;
  const std::string uri = peer.uri();
  peer.Stop();
  const auto transport = MakeTcpTransport();
  LinkUnderTest link(*transport, uri);
  const absl::Status why = link.WaitClosed();
  EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Text(why), HasSubstr("refused"));
}

TEST(TcpFailure, ARestartedPeerIsServedByANewLink) {
  Peer peer;
  const auto transport = MakeTcpTransport();
  {
    LinkUnderTest link(*transport, peer.reliable());
    ASSERT_GT(link.WaitReady(), 0);
    peer.Accept();
    peer.Stop();
    EXPECT_FALSE(link.WaitClosed().ok());
  }
  peer.Start();
  LinkUnderTest link(*transport, peer.reliable());
  ASSERT_GT(link.WaitReady(), 0);
  peer.Accept();
  const MessageRef message = MakeMessage("E_NEW");
  const size_t first = link.Send({message});
  EXPECT_EQ(peer.Read(Request(1, *message).size()), Request(1, *message)) << "numbers begin anew";
  peer.Answer(Ok("1"));
  EXPECT_TRUE(link.Outcome(first).ok());
}

}  // namespace
}  // namespace eventvirtual
