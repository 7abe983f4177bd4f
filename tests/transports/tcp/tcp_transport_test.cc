#include "transports/tcp/tcp_transport.h"

#include <dirent.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/io/on_loop.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int kPatienceMs = 10000;
constexpr size_t kWindow = 1024;
constexpr size_t kReliableWindow = 256;
constexpr size_t kTooMany = 256;  // large events, for the buffers of a connection whose peer does not read
constexpr absl::string_view kClosedByPeer = "the peer closed the connection";

std::string Text(const absl::Status& status) { return std::string(status.message()); }

// The peer's end of one connection. All it does, it does on the calling thread; all waits are bounded.
class Connection {
 public:
  explicit Connection(int fd) : fd_(fd) {}
  Connection(Connection&& other) : fd_(std::exchange(other.fd_, -1)) {}
  ~Connection() { Close(); }

  // Exactly `size` bytes; less if the stream ends. One that neither goes on nor ends fails the test.
  std::string Read(size_t size) {
    std::string text(size, '\0');
    size_t taken = 0;
    while (taken < size) {
      pollfd ready = {fd_, POLLIN, 0};
      const bool in_time = poll(&ready, 1, kPatienceMs) == 1;
      EXPECT_TRUE(in_time) << taken << " of " << size << " bytes, and no end";
      const ssize_t got = in_time ? recv(fd_, text.data() + taken, size - taken, 0) : 0;
      if (got <= 0) break;
      taken += got;
    }
    text.resize(taken);
    return text;
  }
  std::string ReadToEnd() {
    std::string text;
    for (std::string more = Read(1 << 16); !more.empty(); more = Read(1 << 16)) text += more;
    return text;
  }
  // False: the other end has gone, or takes nothing more for too long.
  bool Write(absl::string_view text) {
    while (!text.empty()) {
      pollfd ready = {fd_, POLLOUT, 0};
      const ssize_t sent =
          poll(&ready, 1, kPatienceMs) == 1 ? send(fd_, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT) : -1;
      if (sent < 0) return false;
      text.remove_prefix(sent);
    }
    return true;
  }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  void Reset() {
    const linger at_once = {.l_onoff = 1, .l_linger = 0};
    EXPECT_EQ(setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
    Close();
  }
  // Ends the connection, and returns when the other kernel knows it.
  void End() {
    EXPECT_EQ(shutdown(fd_, SHUT_RDWR), 0);
    const absl::Time give_up = absl::Now() + kPatience;
    while (State() != TCP_FIN_WAIT2 && absl::Now() < give_up) std::this_thread::yield();
    EXPECT_EQ(State(), TCP_FIN_WAIT2);
  }
  // From now on as if the cable were cut: no segment that arrives is seen or acknowledged.
  void Deafen() {
    sock_filter drop = {BPF_RET | BPF_K, 0, 0, 0};
    const sock_fprog program = {1, &drop};
    EXPECT_EQ(setsockopt(fd_, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0);
  }
  void SendSegmentsAtOnce() {
    const int on = 1;
    EXPECT_EQ(setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
  }

 private:
  int State() {
    tcp_info info = {};
    socklen_t length = sizeof(info);
    EXPECT_EQ(getsockopt(fd_, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
    return info.tcpi_state;
  }

  int fd_;
};

// A subscriber's application: a listening socket on a loopback address, to be stopped and started on the same port.
class Peer {
 public:
  explicit Peer(int family = AF_INET) : family_(family) { Start(); }
  ~Peer() { Stop(); }

  void Start() {
    fd_ = socket(family_, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    ASSERT_EQ(setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    sockaddr_storage address = {};
    socklen_t length = sizeof(address);
    if (family_ == AF_INET6) {
      auto* const v6 = reinterpret_cast<sockaddr_in6*>(&address);
      *v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port_), .sin6_addr = in6addr_loopback};
      length = sizeof(*v6);
    } else {
      auto* const v4 = reinterpret_cast<sockaddr_in*>(&address);
      *v4 = {.sin_family = AF_INET, .sin_port = htons(port_), .sin_addr = {htonl(INADDR_LOOPBACK)}};
      length = sizeof(*v4);
    }
    ASSERT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), length), 0);
    ASSERT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(family_ == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                                      : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
    ASSERT_EQ(listen(fd_, 16), 0);
  }
  void Stop() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  Connection Accept() {
    pollfd ready = {fd_, POLLIN, 0};
    EXPECT_EQ(poll(&ready, 1, kPatienceMs), 1) << "nobody connects";
    return Connection(accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC));
  }

  std::string address() const { return absl::StrCat(family_ == AF_INET6 ? "[::1]" : "127.0.0.1", ":", port_); }
  std::string uri() const { return "tcp:" + address(); }
  std::string reliable() const { return uri() + "?reliable=1"; }
  uint16_t port() const { return port_; }

 private:
  const int family_;
  uint16_t port_ = 0;
  int fd_ = -1;
};

// A link that is ready, and its peer's end.
class TcpTest : public testing::Test {
 protected:
  Connection Connect(const std::string& uri) {
    link_ = std::make_unique<LinkUnderTest>(*transport_, uri);
    EXPECT_EQ(link_->WaitReady(), static_cast<int>(absl::StrContains(uri, "reliable=1") ? kReliableWindow : kWindow));
    return peer_.Accept();
  }

  // Sends `count` events in reliable mode and takes their requests, whose ids count from 1 on a new connection.
  size_t SendRequests(Connection& connection, int count, int first_id = 1) {
    std::vector<MessageRef> events;
    std::string requests;
    for (int i = 0; i < count; ++i) {
      events.push_back(MakeMessage("E_TEST", absl::StrCat(i)));
      absl::StrAppend(&requests, R"({"id":)", first_id + i, R"(,"jsonrpc":"2.0","method":"E_TEST","params":[")", i,
                      R"("]})");
    }
    const size_t first = link_->Send(events);
    EXPECT_EQ(connection.Read(requests.size()), requests);
    return first;
  }

  const std::unique_ptr<Transport> transport_ = MakeTcpTransport();
  Peer peer_;
  std::unique_ptr<LinkUnderTest> link_;
};

std::string Ok(int id) { return absl::StrCat(R"({"jsonrpc":"2.0","result":"OK","id":)", id, "}"); }

// As a reader that takes fixed blocks wants it: padded by spaces inside the object.
std::string Padded(std::string reply, size_t size) {
  reply.insert(reply.size() - 1, size - reply.size(), ' ');
  return reply;
}

absl::StatusOr<Target> Canonicalize(absl::string_view text) {
  absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return uri.status();
  return MakeTcpTransport()->Canonicalize(*uri);
}

TEST(TcpUri, HasOneCanonicalForm) {
  const struct {
    const char* text;
    const char* canonical;
    AckLevel ack_level = AckLevel::kWritten;
    absl::Duration timeout = absl::Seconds(1);
  } kCases[] = {
      {"tcp:127.0.0.1:8081", "tcp:127.0.0.1:8081"},
      {"tcp:Host.Example:08081", "tcp:host.example:8081"},
      {"tcp:[::1]:65535", "tcp:[::1]:65535"},
      {"tcp:[2001:DB8::A]:1/m", "tcp:[2001:db8::a]:1/m"},
      {"tcp:h:1/", "tcp:h:1"},
      {"tcp:h:1/Block_It", "tcp:h:1/Block_It"},
      {"tcp:h:1/a:b@c=d", "tcp:h:1/a:b@c=d"},
      {"tcp:h:1/what?", "tcp:h:1/what?"},
      {"tcp:h:1?reliable=0&timeout=1s&event_param=", "tcp:h:1"},
      {"tcp:h:1?reliable=1", "tcp:h:1?reliable=1", AckLevel::kConfirmed},
      {"tcp:h:1?reliable=true", "tcp:h:1?reliable=1", AckLevel::kConfirmed},
      {"tcp:h:1?timeout=1000", "tcp:h:1"},
      {"tcp:h:1?timeout=1", "tcp:h:1?timeout=1ms", AckLevel::kWritten, absl::Milliseconds(1)},
      {"tcp:h:1?timeout=300s", "tcp:h:1?timeout=5m", AckLevel::kWritten, absl::Minutes(5)},
      {"tcp:h:1?event_param=event", "tcp:h:1?event_param=event"},
      {"tcp:h:1?event_param=a%26b%3Dc%3F%20%25", "tcp:h:1?event_param=a%26b%3dc%3f%20%25"},
      {"tcp:h:1/m?event_param=e&timeout=1500&reliable=yes", "tcp:h:1/m?reliable=1&timeout=1.5s&event_param=e",
       AckLevel::kConfirmed, absl::Milliseconds(1500)},
  };
  for (const auto& test : kCases) {
    const absl::StatusOr<Target> target = Canonicalize(test.text);
    ASSERT_TRUE(target.ok()) << test.text << ": " << target.status();
    EXPECT_EQ(target->canonical, test.canonical);
    EXPECT_EQ(target->masked, test.canonical);
    EXPECT_EQ(target->ack_level, test.ack_level) << test.text;
    EXPECT_EQ(target->attempt_timeout, test.timeout) << test.text;
    const absl::StatusOr<Target> again = Canonicalize(target->canonical);
    ASSERT_TRUE(again.ok()) << test.text << ": " << again.status();
    EXPECT_EQ(again->canonical, target->canonical);
    EXPECT_EQ(again->ack_level, target->ack_level);
    EXPECT_EQ(again->attempt_timeout, target->attempt_timeout);
  }
}

TEST(TcpUri, RefusalsNameThePart) {
  const struct {
    const char* text;
    const char* why;
  } kCases[] = {
      {"tcp:", "host is empty"},
      {"tcp:/method", "host is empty"},
      {"tcp:host", "no port after host \"host\""},
      {"tcp:host/method", "no port after host \"host\""},
      {"tcp:host:0", "from 1 to 65535"},
      {"tcp:host:65536", "from 1 to 65535"},
      {"tcp:host:", "from 1 to 65535"},
      {"tcp:host:-1", "from 1 to 65535"},
      {"tcp://host:80", "host is empty"},
      {"tcp:::1:80", "[address]:port"},
      {"tcp:[::1:80", "']'"},
      {"tcp:[::1]", "no port"},
      {"tcp:[host]:80", "not an IPv6 address"},
      {"tcp:user@host:80", "no host name"},
      {"tcp:h:1/a/b", "another '/'"},
      {"tcp:h:1?colour=red", "colour"},
      {"tcp:h:1?Reliable=1", "\"Reliable\" is unknown"},
      {"tcp:h:1?reliable=maybe", "reliable"},
      {"tcp:h:1?reliable=1&reliable=1", "twice"},
      {"tcp:h:1?event_param=%ff", "not UTF-8"},
      {"tcp:h:1?timeout=soon", "timeout"},
      {"tcp:h:1?timeout=0", "timeout"},
      {"tcp:h:1?timeout=-1s", "timeout"},
      {"tcp:h:1?timeout=999us", "timeout"},
      {"tcp:h:1?timeout=300001", "timeout"},
      {"tcp:h:1?timeout=inf", "timeout"},
      {"tcp:h:1/m?reliable=1?timeout=1s", "two '?'"},
  };
  for (const auto& test : kCases) {
    const absl::Status status = Canonicalize(test.text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << test.text;
    EXPECT_THAT(Text(status), HasSubstr(test.why)) << test.text;
  }
}

TEST(TcpWire, IsByteForByteTheJsonRpcOfOpenSips) {
  const Param named[] = {{"ip", "192.168.2.11"}, {"count", int64_t{-42}}};
  EventFields fields;
  fields.name = "E_NAMED";
  fields.params = named;
  const std::vector<MessageRef> events = {MakeMessage("E_TEST"), MakeMessage("E_TEST", "second"),
                                          Message::Make(fields)};
  const struct {
    const char* options;
    const char* wire;
  } kCases[] = {
      {"", R"({"jsonrpc":"2.0","method":"E_TEST"})"
           R"({"jsonrpc":"2.0","method":"E_TEST","params":["second"]})"
           R"({"jsonrpc":"2.0","method":"E_NAMED","params":{"ip":"192.168.2.11","count":-42}})"},
      {"/block", R"({"jsonrpc":"2.0","method":"block"})"
                 R"({"jsonrpc":"2.0","method":"block","params":["second"]})"
                 R"({"jsonrpc":"2.0","method":"block","params":{"ip":"192.168.2.11","count":-42}})"},
      {"?event_param=event",
       R"({"jsonrpc":"2.0","method":"E_TEST"})"
       R"({"jsonrpc":"2.0","method":"E_TEST","params":{"event":"E_TEST","0":"second"}})"
       R"({"jsonrpc":"2.0","method":"E_NAMED","params":{"event":"E_NAMED","ip":"192.168.2.11","count":-42}})"},
      {"/say\"it\\?event_param=the%20%22event%22",
       R"({"jsonrpc":"2.0","method":"say\"it\\"})"
       R"({"jsonrpc":"2.0","method":"say\"it\\","params":{"the \"event\"":"E_TEST","0":"second"}})"
       R"({"jsonrpc":"2.0","method":"say\"it\\","params":{"the \"event\"":"E_NAMED","ip":"192.168.2.11","count":-42}})"},
      {"?reliable=1", R"({"id":1,"jsonrpc":"2.0","method":"E_TEST"})"
                      R"({"id":2,"jsonrpc":"2.0","method":"E_TEST","params":["second"]})"
                      R"({"id":3,"jsonrpc":"2.0","method":"E_NAMED","params":{"ip":"192.168.2.11","count":-42}})"},
      {"/block?reliable=1&event_param=event",
       R"({"id":1,"jsonrpc":"2.0","method":"block"})"
       R"({"id":2,"jsonrpc":"2.0","method":"block","params":{"event":"E_TEST","0":"second"}})"
       R"({"id":3,"jsonrpc":"2.0","method":"block","params":{"event":"E_NAMED","ip":"192.168.2.11","count":-42}})"},
  };
  const auto transport = MakeTcpTransport();
  for (const int family : {AF_INET, AF_INET6}) {
    Peer peer(family);
    for (const auto& test : kCases) {
      for (const bool one_batch : {true, false}) {
        LinkUnderTest link(*transport, peer.uri() + test.options);
        ASSERT_GT(link.WaitReady(), 0);
        Connection connection = peer.Accept();
        if (one_batch) {
          link.Send(events);
        } else {
          for (const MessageRef& event : events) link.Send({event});
        }
        const absl::string_view wire = test.wire;
        EXPECT_EQ(connection.Read(wire.size()), wire) << test.options;
        link.Destroy();
        EXPECT_EQ(connection.ReadToEnd(), "") << test.options;
        ASSERT_FALSE(HasFailure());
      }
    }
  }
}

TEST(TcpWire, AHostNameIsLookedUp) {
  Peer peer;
  const auto transport = MakeTcpTransport();
  // Where localhost has an IPv6 address as well, nobody listens at it: the next one is tried.
  LinkUnderTest link(*transport, absl::StrCat("tcp:localhost:", peer.port()));
  ASSERT_GT(link.WaitReady(), 0);
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_TEST")).ok());
  EXPECT_EQ(peer.Accept().Read(4), "{\"js");
}

TEST_F(TcpTest, TenThousandEventsReachAReadingPeerInOrder) {
  Connection connection = Connect(peer_.uri());
  std::string expected;
  std::vector<MessageRef> events;
  for (int i = 0; i < 10000; ++i) {
    events.push_back(MakeMessage("E_BURST", absl::StrCat("#", i, std::string(i % 500, 'x'))));
    absl::StrAppend(&expected, std::string(events.back()->jsonrpc()));
  }
  std::string received;
  std::thread reader([&] { received = connection.Read(expected.size()); });
  for (size_t sent = 0; sent < events.size() && !HasFailure();) {
    const size_t batch = std::min(kWindow, events.size() - sent);
    const size_t first = link_->Send({events.begin() + sent, events.begin() + sent + batch});
    for (size_t i = 0; i < batch && !HasFailure(); ++i) EXPECT_TRUE(link_->Outcome(first + i).ok());
    sent += batch;
  }
  reader.join();
  EXPECT_TRUE(received == expected) << received.size() << " bytes of " << expected.size();
}

TEST_F(TcpTest, AnEventCountsWhenAllItsBytesAreInTheSocketAndNotBefore) {
  Connection connection = Connect(peer_.uri());
  const MessageRef large = MessageOfSize(200000);
  const size_t first = link_->Send(std::vector<MessageRef>(kTooMany, large));
  OnLoop(link_->loop(), [] {});  // the loop waits for nobody
  link_->Send({large});
  EXPECT_LT(link_->Reported(), kTooMany) << "the kernel cannot have taken all this";
  EXPECT_FALSE(link_->closed());

  link_->Destroy();
  size_t written = 0;
  while (written < kTooMany && link_->Outcome(first + written).ok()) ++written;
  for (size_t i = written; i <= kTooMany; ++i) {
    ASSERT_EQ(link_->Outcome(first + i).code(), absl::StatusCode::kUnavailable) << i;
  }
  // What the socket held still arrives: every event that was reported, and of the one behind at most a piece.
  const std::string received = connection.ReadToEnd();
  EXPECT_EQ(received.size() / 200000, written);
}

TEST_F(TcpTest, AStalledPeerThatReadsAgainGetsEverythingInOrder) {
  Connection connection = Connect(peer_.uri());
  std::vector<MessageRef> events;
  std::string expected;
  for (size_t i = 0; i < kTooMany; ++i) {
    events.push_back(MakeMessage("E_LARGE", absl::StrCat(i, std::string(100000, 'x'))));
    absl::StrAppend(&expected, std::string(events.back()->jsonrpc()));
  }
  const size_t first = link_->Send(events);
  EXPECT_LT(link_->Reported(), kTooMany);
  std::string received;
  while (received.size() < expected.size() && !HasFailure()) {
    const std::string piece = connection.Read(std::min(expected.size() - received.size(), size_t{1 << 20}));
    EXPECT_FALSE(piece.empty());
    received += piece;
    OnLoop(link_->loop(), [] {});  // the link fills what has become free
  }
  EXPECT_TRUE(received == expected) << received.size() << " bytes of " << expected.size();
  for (size_t i = 0; i < kTooMany; ++i) ASSERT_TRUE(link_->Outcome(first + i).ok());
}

TEST_F(TcpTest, WhatThePeerOfAPlainLinkSaysIsDropped) {
  Connection connection = Connect(peer_.uri());
  for (const char* text : {"thanks", "}{\"", R"({"id":1,"error":{"code":-1}})"}) {
    EXPECT_TRUE(connection.Write(text));
    EXPECT_TRUE(link_->SendAndWait(MakeMessage("E_TEST")).ok());
  }
  EXPECT_TRUE(connection.Write(std::string(10 << 20, '{')));
  EXPECT_TRUE(link_->SendAndWait(MakeMessage("E_TEST")).ok());
  EXPECT_FALSE(link_->closed());
}

TEST_F(TcpTest, APeerThatNeverStopsTalkingLeavesTheLoopItsTime) {
  std::string talk;
  for (int i = 0; i < 100000; ++i) talk += "{}";  // takes longer to read than to write
  Connection connection = Connect(peer_.reliable());
  std::atomic<bool> stop = false;
  std::thread talker([&] {
    while (!stop && connection.Write(talk)) {
    }
  });
  for (int i = 0; i < 20 && !HasFailure(); ++i) {
    Signal turn;
    link_->loop().Post([&] { turn.Set(); });
    EXPECT_TRUE(turn.Wait()) << "the loop is busy with one peer";
    if (HasFailure()) {
      stop = true;  // `turn` must outlive its task
      OnLoop(link_->loop(), [] {});
    }
  }
  stop = true;
  talker.join();
  EXPECT_FALSE(link_->closed());
}

TEST_F(TcpTest, AReplyDecidesItsEvent) {
  const struct {
    std::string reply;
    const char* outcome;  // of event 1: "" OK, nullptr none yet, else what its error says
  } kCases[] = {
      {R"({"jsonrpc":"2.0","result":"OK","id":1})", ""},
      {R"({"id":1,"jsonrpc":"2.0","result":{"a":[1,2,{"error":1}]}})", ""},
      {R"({"id":1})", ""},
      {R"({"id":1,"error":null})", ""},
      {R"({"id":1,"result":"\"}{\\"})", ""},
      {"{\"id\":1,\"result\":\"\xc3\xa9\"}", ""},
      {R"( { "id" : 1 , "result" : { "error" : "no" } } )", ""},
      {R"({"id":1,"error":{"code":-32601,"message":"Method not found"}})",
       "the receiver answered with error -32601: Method not found"},
      {R"({"error":{"message":"no code"},"id":1})", "the receiver answered with error no code"},
      {R"({"id":1,"error":{"code":7}})", R"(the receiver answered with error {"code":7})"},
      {R"({"id":1,"error":{"code":"x","message":5}})", R"(the receiver answered with error {"code":"x","message":5})"},
      {R"({"id":1,"error":"queue full"})", "the receiver answered with error queue full"},
      {R"({"id":1,"result":"OK","error":{"code":1,"message":"both"}})", "the receiver answered with error 1: both"},
      {R"({"id":1,"error":{}})", "the receiver answered with error {}"},
      {R"({"id":1,"error":[]})", "the receiver answered with error []"},
      {R"({"id":1,"error":false})", "the receiver answered with error false"},
      {R"({"id":0,"result":"OK"})", nullptr},
      {R"({"id":3,"result":"OK"})", nullptr},
      {R"({"id":18446744073709551615,"result":"OK"})", nullptr},
      {R"({"id":18446744073709551617,"result":"OK"})", nullptr},
      {R"({"id":-1,"error":{"code":1}})", nullptr},
      {R"({"id":1.0,"result":"OK"})", nullptr},
      {R"({"id":"1","result":"OK"})", nullptr},
      {R"({"id":[1],"result":"OK"})", nullptr},
      {R"({"id":null,"error":{"code":-32700,"message":"Parse error"}})", nullptr},
      {R"({"result":"OK"})", nullptr},
      {R"({"result":{"id":1}})", nullptr},
      {R"({"ID":1,"result":"OK"})", nullptr},
      {R"({})", nullptr},
      {R"({id:1})", nullptr},
      {R"({"id":1,})", nullptr},
      {"{\"id\":1,\"result\":\"\xff\"}", nullptr},
      {R"({"id":1,"deep":)" + std::string(10000, '[') + std::string(10000, ']') + "}", nullptr},
      {R"({"id":1,"deep":)" + absl::StrCat(std::string(2000, '['), "{}", std::string(2000, ']')) + "}", nullptr},
      {std::string(20000, '{') + std::string(20000, '}'), nullptr},
  };
  for (const auto& test : kCases) {
    const std::string shown = test.reply.substr(0, 100);
    Connection connection = Connect(peer_.reliable());
    const size_t first = SendRequests(connection, 2);
    // The second reply shows that the first has been read.
    EXPECT_TRUE(connection.Write(absl::StrCat(test.reply, Ok(2))));
    ASSERT_TRUE(link_->Outcome(first + 1).ok()) << shown;
    EXPECT_FALSE(link_->closed()) << shown;
    if (test.outcome == nullptr) {
      EXPECT_EQ(link_->Reported(), 1u) << shown;
      link_->Destroy();
      const absl::Status status = link_->Outcome(first);
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << shown;
      EXPECT_THAT(Text(status), HasSubstr("the link ended"));
    } else if (*test.outcome == '\0') {
      EXPECT_TRUE(link_->Outcome(first).ok()) << shown << ": " << link_->Outcome(first);
    } else {
      const absl::Status status = link_->Outcome(first);
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << shown;
      EXPECT_EQ(Text(status), absl::StrCat(peer_.reliable(), ": ", test.outcome)) << shown;
    }
  }
}

TEST_F(TcpTest, ALongErrorIsCutBetweenCharacters) {
  Connection connection = Connect(peer_.reliable());
  const size_t first = SendRequests(connection, 3);
  std::string accents;
  std::string faces;
  for (int i = 0; i < 99; ++i) accents += "\xc3\xa9";
  for (int i = 0; i < 49; ++i) faces += "\xf0\x9f\x98\x80";
  EXPECT_TRUE(connection.Write(absl::StrCat(R"({"id":1,"error":")", std::string(250, 'x'), R"("}{"id":2,"error":"x)",
                                            accents, "\xc3\xa9\xc3\xa9", R"("}{"id":3,"error":"xyz)", faces,
                                            "\xf0\x9f\x98\x80", R"("})")));
  const std::string before = peer_.reliable() + ": the receiver answered with error ";
  EXPECT_EQ(Text(link_->Outcome(first)), before + std::string(200, 'x'));
  EXPECT_EQ(Text(link_->Outcome(first + 1)), before + "x" + accents);
  EXPECT_EQ(Text(link_->Outcome(first + 2)), before + "xyz" + faces);
}

TEST_F(TcpTest, RepliesMayComeInAnyOrderAndShape) {
  const struct {
    const char* name;
    std::string (*shape)(int id);
    size_t piece;  // bytes of one segment
  } kCases[] = {
      {"several in one segment", &Ok, 1 << 20},
      {"byte by byte", &Ok, 1},
      {"cut in odd places", &Ok, 7},
      {"padded to 4096", [](int id) { return Padded(Ok(id), 4096); }, 4096},
      {"padded and cut", [](int id) { return Padded(Ok(id), 4096); }, 4095},
      {"of the largest size", [](int id) { return Padded(Ok(id), 65536); }, 1 << 20},
      {"with lines between", [](int id) { return absl::StrCat("\r\n", Ok(id), "\n"); }, 100},
      {"with megabytes of space between", [](int id) { return std::string(1 << 20, ' ') + Ok(id); }, 1 << 20},
      {"twice", [](int id) { return Ok(id) + Ok(id) + absl::StrCat(R"({"id":)", id, R"(,"error":"again"})"); },
       1 << 20},
  };
  for (const auto& test : kCases) {
    for (const bool backwards : {false, true}) {
      Connection connection = Connect(peer_.reliable());
      connection.SendSegmentsAtOnce();
      const size_t first = SendRequests(connection, 10);
      std::string replies;
      for (int i = 1; i <= 10; ++i) {
        const int id = backwards ? 11 - i : i;
        replies += id == 4 ? R"({"id":4,"error":"four"})" : test.shape(id);
      }
      for (size_t at = 0; at < replies.size(); at += test.piece) {
        EXPECT_TRUE(connection.Write(absl::string_view(replies).substr(at, test.piece)));
      }
      for (int i = 0; i < 10; ++i) {
        ASSERT_EQ(link_->Outcome(first + i).ok(), i != 3) << test.name << ", event " << i;
      }
      EXPECT_FALSE(link_->closed()) << test.name;
    }
  }
}

TEST_F(TcpTest, EachReplyEndsItsOwnEventAlone) {
  Connection connection = Connect(peer_.reliable());
  const size_t first = SendRequests(connection, 4);
  size_t reported = 0;
  for (const int id : {3, 1, 4, 2}) {
    EXPECT_TRUE(connection.Write(absl::StrCat(R"({"id":)", id, R"(,"error":{"code":)", id, R"(,"message":"m"}})")));
    ASSERT_THAT(Text(link_->Outcome(first + id - 1)), HasSubstr(absl::StrCat("error ", id, ": m")));
    EXPECT_EQ(link_->Reported(), ++reported);
  }
}

TEST_F(TcpTest, TenThousandRequestsAreConfirmedWhateverTheOrderOfTheirReplies) {
  Connection connection = Connect(peer_.reliable());
  int next = 1;
  while (next <= 10000) {
    const size_t first = SendRequests(connection, 250, next);
    ASSERT_EQ(link_->Reported(), first) << "confirmed before the reply";
    std::string replies;
    for (int i = 249; i >= 0; --i) replies += Ok(next + i);
    EXPECT_TRUE(connection.Write(replies));
    for (int i = 0; i < 250; ++i) ASSERT_TRUE(link_->Outcome(first + i).ok());
    next += 250;
  }
}

TEST_F(TcpTest, ARequestWithoutReplyHoldsUpNoOther) {
  Connection connection = Connect(peer_.reliable());
  const size_t first = SendRequests(connection, 2);
  const size_t second = SendRequests(connection, 2, 3);
  EXPECT_TRUE(connection.Write(Ok(4)));
  EXPECT_TRUE(link_->Outcome(second + 1).ok());
  EXPECT_EQ(link_->Reported(), 1u);
  EXPECT_FALSE(link_->closed());
  link_->Destroy();
  for (const size_t silent : {first, first + 1, second}) {
    EXPECT_EQ(link_->Outcome(silent).code(), absl::StatusCode::kUnavailable);
  }
  EXPECT_EQ(connection.ReadToEnd(), "");
}

TEST_F(TcpTest, AStreamOfRepliesThatCannotBeReadEndsTheLink) {
  const struct {
    std::string bytes;
    const char* why;
  } kCases[] = {
      {"HTTP/1.1 400 Bad Request\r\n\r\n", "bad reply: a JSON object must begin with '{'"},
      {Ok(1) + "]", "bad reply: a JSON object must begin with '{'"},
      {std::string(1, '\0'), "bad reply: a JSON object must begin with '{'"},
      {Padded(Ok(2), 65537), "bad reply: a JSON object of more than 65536 bytes"},
      {"{\"id\":2,\"result\":\"" + std::string(10 << 20, 'x') + "\"}",
       "bad reply: a JSON object of more than 65536 bytes"},
      {std::string(10 << 20, '{'), "bad reply: a JSON object of more than 65536 bytes"},
  };
  for (const auto& test : kCases) {
    Connection connection = Connect(peer_.reliable());
    const size_t first = SendRequests(connection, 3);
    std::thread talker([&] { connection.Write(test.bytes); });  // as much of it as is taken
    const absl::Status why = link_->WaitClosed();
    EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(Text(why), AllOf(HasSubstr(peer_.reliable()), HasSubstr(test.why)));
    EXPECT_EQ(link_->Outcome(first).ok(), absl::StartsWith(test.bytes, Ok(1)));
    EXPECT_EQ(link_->Outcome(first + 1), why);
    EXPECT_EQ(link_->Outcome(first + 2), why);
    link_->Destroy();
    talker.join();
    ASSERT_FALSE(HasFailure());
  }
}

TEST_F(TcpTest, APeerThatClosesEndsWhatItHasNotAnswered) {
  for (const int answered : {0, 5, 10}) {
    for (const char* torn : {"", "{", R"({"jsonrpc":"2.0","res)"}) {
      Connection connection = Connect(peer_.reliable());
      const size_t first = SendRequests(connection, 10);
      std::string replies;
      for (int id = 1; id <= answered; ++id) replies += Ok(id);
      EXPECT_TRUE(connection.Write(replies + torn));
      connection.Close();
      const absl::Status why = link_->WaitClosed();
      EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
      EXPECT_EQ(Text(why), absl::StrCat(peer_.reliable(), ": ", kClosedByPeer));
      for (int i = 0; i < 10; ++i) {
        ASSERT_EQ(link_->Outcome(first + i), i < answered ? absl::OkStatus() : why) << i << " of " << answered;
      }
      const size_t later = link_->Send({MakeMessage("E_LATER")});
      ASSERT_EQ(link_->Outcome(later), why);
    }
  }
}

TEST_F(TcpTest, APeerThatClosesBeforeAnythingClosesTheLink) {
  for (const std::string& uri : {peer_.uri(), peer_.reliable()}) {
    Connect(uri).Close();
    const absl::Status why = link_->WaitClosed();
    EXPECT_EQ(why, absl::UnavailableError(absl::StrCat(uri, ": ", kClosedByPeer)));
    EXPECT_EQ(link_->SendAndWait(MakeMessage("E_LATER")), why);
  }
}

TEST_F(TcpTest, APeerThatDiesInMidMessageEndsEachEventOnce) {
  for (const std::string& uri : {peer_.uri(), peer_.reliable()}) {
    for (const bool reset : {false, true}) {
      Connection connection = Connect(uri);
      const size_t first = link_->Send(std::vector<MessageRef>(kTooMany, MessageOfSize(200000)));
      EXPECT_EQ(connection.Read(1000).size(), 1000u);
      const size_t written = link_->Reported();
      EXPECT_LT(written, kTooMany);
      if (reset) {
        connection.Reset();
      } else {
        connection.Close();  // with bytes unread: a reset as well
      }
      const absl::Status why = link_->WaitClosed();
      EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
      EXPECT_THAT(Text(why), HasSubstr(uri + ": Connection reset by peer"));
      size_t failed = 0;
      for (size_t i = 0; i < kTooMany && !HasFailure(); ++i) failed += link_->Outcome(first + i) == why;
      EXPECT_GT(failed, 0u);
      EXPECT_EQ(link_->Outcome(first + kTooMany - 1), why);
      EXPECT_EQ(link_->Reported(), kTooMany);
    }
  }
}

TEST_F(TcpTest, NothingIsWrittenToAPeerThatHasGone) {
  for (const std::string& uri : {peer_.uri(), peer_.reliable()}) {
    for (const size_t said : {0, 1, 16384, 50000}) {
      Connection connection = Connect(uri);
      size_t first = 0;
      // On the loop, which so cannot have noticed it in another way.
      OnLoop(link_->loop(), [&] {
        EXPECT_TRUE(connection.Write(std::string(said, ' ')));
        connection.End();
        first = link_->SendNow({MakeMessage("E_ONE"), MakeMessage("E_TWO")});
      });
      const absl::Status why = link_->WaitClosed();
      EXPECT_EQ(Text(why), absl::StrCat(uri, ": ", kClosedByPeer));
      ASSERT_EQ(link_->Outcome(first), why) << said << " bytes before the end";
      ASSERT_EQ(link_->Outcome(first + 1), why);
    }
  }
}

TEST_F(TcpTest, RepliesThatCameBeforeTheEndCountAlsoWhenAnotherEventIsSent) {
  Connection connection = Connect(peer_.reliable());
  const size_t first = SendRequests(connection, 2);
  size_t late = 0;
  OnLoop(link_->loop(), [&] {
    EXPECT_TRUE(connection.Write(Ok(2)));
    connection.End();
    late = link_->SendNow({MakeMessage("E_LATE")});
  });
  EXPECT_EQ(link_->Outcome(first).code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(link_->Outcome(first + 1).ok());
  EXPECT_EQ(link_->Outcome(late).code(), absl::StatusCode::kUnavailable);
}

// A cable that is cut says nothing: only what is not acknowledged tells.
TEST_F(TcpTest, AHalfOpenPeerIsNoticedBySendingToIt) {
  LinkUnderTest plain(*transport_, peer_.uri());
  ASSERT_GT(plain.WaitReady(), 0);
  Connection plain_end = peer_.Accept();
  LinkUnderTest reliable(*transport_, peer_.reliable());
  ASSERT_GT(reliable.WaitReady(), 0);
  Connection reliable_end = peer_.Accept();
  plain_end.Deafen();
  reliable_end.Deafen();
  EXPECT_TRUE(plain.SendAndWait(MakeMessage("E_TEST")).ok());  // written, as README.md says
  const size_t unanswered = reliable.Send({MakeMessage("E_TEST")});
  EXPECT_EQ(plain.WaitClosed(), absl::UnavailableError(peer_.uri() + ": Connection timed out"));
  EXPECT_EQ(reliable.WaitClosed(), absl::UnavailableError(peer_.reliable() + ": Connection timed out"));
  EXPECT_EQ(reliable.Outcome(unanswered), reliable.WaitClosed());
}

TEST_F(TcpTest, ARefusedConnectNamesTheAddress) {
  for (const int family : {AF_INET, AF_INET6}) {
    Peer peer(family);
    peer.Stop();
    for (const std::string& uri : {peer.uri(), peer.reliable()}) {
      LinkUnderTest link(*transport_, uri);
      const absl::Status why = link.WaitClosed();
      EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
      EXPECT_THAT(Text(why), AllOf(HasSubstr("cannot connect to " + peer.address()), HasSubstr("Connection refused")));
    }
  }
}

TEST_F(TcpTest, ANameThatDoesNotExistClosesTheLinkWithItsName) {
  LinkUnderTest link(*transport_, "tcp:no-such-host.invalid:5060");
  const absl::Status why = link.WaitClosed();
  EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Text(why), AllOf(HasSubstr("no-such-host.invalid:5060"), HasSubstr("cannot look up")));
}

TEST_F(TcpTest, ANewLinkServesTheRestartedPeer) {
  for (int i = 0; i < 3; ++i) {
    {
      Connection connection = Connect(peer_.reliable());
      const size_t first = SendRequests(connection, 1);
      EXPECT_TRUE(connection.Write(Ok(1)));
      EXPECT_TRUE(link_->Outcome(first).ok());
      peer_.Stop();
    }
    EXPECT_FALSE(link_->WaitClosed().ok());
    LinkUnderTest refused(*transport_, peer_.reliable());
    EXPECT_FALSE(refused.WaitClosed().ok());
    peer_.Start();
  }
  Connection connection = Connect(peer_.reliable());
  SendRequests(connection, 1);  // its ids begin at 1 again
}

int OpenDescriptors() {
  DIR* const folder = opendir("/proc/self/fd");
  int count = 0;
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

TEST(TcpDestroy, AtAnyMomentEndsWhatIsHeldAndLeavesNoDescriptor) {
  const auto transport = MakeTcpTransport();
  const MessageRef large = MessageOfSize(16 << 20);  // more than a socket holds
  const int before = OpenDescriptors();
  for (int i = 0; i < 60; ++i) {
    Peer peer;
    LinkUnderTest link(*transport, i % 2 == 0 ? peer.uri() : peer.reliable());
    const int moment = i / 2 % 6;
    if (moment == 0) continue;  // perhaps before it was ready
    ASSERT_GT(link.WaitReady(), 0);
    Connection connection = peer.Accept();
    if (moment == 1) continue;
    if (moment == 2) connection.Close();  // perhaps before it was noticed
    const size_t first = link.Send({MakeMessage("E_TEST"), large, MakeMessage("E_TEST")});
    if (moment == 3) connection.Read(1000);
    if (moment == 4) connection.Reset();
    if (moment == 5) connection.Write("{\"id\":");
    link.Destroy();
    ASSERT_EQ(link.Reported(), 3u);
    EXPECT_FALSE(link.Outcome(first + 2).ok());
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

}  // namespace
}  // namespace eventvirtual
