// The management interface over real sockets.
#include "server/mi/mi_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/journal/journal.h"
#include "server/journal/subscription_store.h"
#include "tests/server/http/http_client.h"
#include "tests/server/ingest/world.h"
#include "tests/transports/io/on_loop.h"
#include "tests/transports/io/peer.h"
#include "tests/transports/io/temporary_folder.h"
#include "transports/io/event_loop.h"

namespace eventvirtual {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Request(absl::string_view method, absl::string_view params = "{}", absl::string_view id = "1") {
  return absl::StrCat(R"({"jsonrpc":"2.0",)", id.empty() ? "" : absl::StrCat("\"id\":", id, ","), R"("method":")",
                      method, R"(","params":)", params, "}");
}
std::string Result(absl::string_view result, absl::string_view id = "1") {
  return absl::StrCat(R"({"jsonrpc":"2.0","result":)", result, ",\"id\":", id, "}");
}
const char* const kVersionResult = "{\"Server\":\"eventvirtual (0.1.0)\"}";

class MiWorld {
 public:
  ~MiWorld() { mi.reset(); }

  // Gives the address of the first listener, with its port.
  std::string Listen(std::vector<std::string> addresses) {
    auto listening = MiServer::Listen({std::move(addresses), {}}, loop, world.registry, world.dispatcher, nullptr);
    EXPECT_TRUE(listening.ok()) << std::string(listening.status().message());
    if (!listening.ok()) return "";
    mi = *std::move(listening);
    return mi->addresses()[0];
  }

  World world{World::Roomy(), {}, /*subscribed=*/false};
  EventLoop loop{"mi"};
  std::unique_ptr<MiServer> mi;
};

// Keeps a loop busy while it lives.
class Busy {
 public:
  explicit Busy(Loop& loop) {
    loop.Post([this] {
      begun_.Set();
      over_.Wait();
      ended_.Set();
    });
    EXPECT_TRUE(begun_.Wait());
  }
  ~Busy() {
    over_.Set();
    EXPECT_TRUE(ended_.Wait());
  }

 private:
  Signal begun_, over_, ended_;
};

bool HasSomethingToRead(const Peer& peer) {
  char byte;
  return recv(peer.fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

// A client of datagrams as OpenSIPS' tools are: an answer can reach it, and it is connected to nobody.
class DatagramClient : public DatagramPeer {
 public:
  explicit DatagramClient(absl::string_view address, bool connected = false) : DatagramPeer(address) {
    if (absl::StartsWith(address, "unix:")) {
      sockaddr_un any = {};
      any.sun_family = AF_UNIX;
      EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&any), sizeof(sa_family_t)), 0);
    }
    length_ = sizeof(server_);
    EXPECT_EQ(getpeername(fd_, reinterpret_cast<sockaddr*>(&server_), &length_), 0);
    if (connected) return;
    const sockaddr nobody = {AF_UNSPEC, {}};
    EXPECT_EQ(connect(fd_, &nobody, sizeof(nobody)), 0) << strerror(errno);
  }
  bool SendOne(absl::string_view datagram) {
    return sendto(fd_, datagram.data(), datagram.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&server_),
                  length_) == static_cast<ssize_t>(datagram.size());
  }
  std::string Read() {
    std::string answer(1 << 20, '\0');
    const ssize_t got = recv(fd_, answer.data(), answer.size(), 0);
    EXPECT_GE(got, 0) << strerror(errno);
    answer.resize(std::max<ssize_t>(got, 0));
    return answer;
  }
  std::string Ask(absl::string_view request) {
    EXPECT_TRUE(SendOne(request)) << strerror(errno);
    return Read();
  }

 private:
  sockaddr_storage server_;
  socklen_t length_;
};

// Both kinds of socket must behave alike.
class MiDatagram : public testing::TestWithParam<const char*> {
 protected:
  MiDatagram() { EXPECT_NE(mkdtemp(dir_.data()), nullptr); }
  ~MiDatagram() override {
    mi_.mi.reset();
    EXPECT_EQ(rmdir(dir_.c_str()), 0) << "the socket's file is still there";
  }
  bool over_unix() const { return std::string(GetParam()) == "unix"; }
  std::string Listen() {
    return mi_.Listen({over_unix() ? absl::StrCat("unix:", dir_, "/s") : std::string("udp:127.0.0.1:0")});
  }

  std::string dir_ = "/tmp/evXXXXXX";
  MiWorld mi_;
};

TEST_P(MiDatagram, OneRequestHasOneAnswerWhichGoesToItsSender) {
  const std::string address = Listen();
  DatagramClient one(address), two(address);
  ASSERT_TRUE(one.SendOne(Request("version", "{}", "\"a\"")));
  ASSERT_TRUE(two.SendOne(Request("version", "{}", "\"b\"")));
  EXPECT_EQ(two.Read(), Result(kVersionResult, "\"b\""));
  EXPECT_EQ(one.Read(), Result(kVersionResult, "\"a\""));
  EXPECT_EQ(one.Ask(Request("event_subscribe", R"(["E","record:x"])")), Result("\"OK\""));
  EXPECT_EQ(one.Ask(Request("raise_event", R"(["E",["1"]])")), Result("\"OK\""));
  EXPECT_EQ(mi_.world.transport->Received(1),
            std::vector<std::string>{R"({"jsonrpc":"2.0","method":"E","params":["1"]})"});
}

TEST_P(MiDatagram, AClientThatIsConnectedIsAnsweredToo) {
  DatagramClient client(Listen(), /*connected=*/true);
  EXPECT_EQ(client.Ask(Request("version")), Result(kVersionResult));
}

TEST_P(MiDatagram, WhatIsNoJsonIsToldSoInOpensipsOwnWords) {
  DatagramClient client(Listen());
  for (const std::string& garbage : {std::string("which"), std::string("{"), std::string(100, '\0'),
                                     Request("version").substr(0, 20), std::string("\xff\xfe")}) {
    EXPECT_EQ(client.Ask(garbage), "400 Parse_error");
  }
  EXPECT_THAT(client.Ask("[]"), HasSubstr("-32600"));
  EXPECT_EQ(client.Ask(Request("version")), Result(kVersionResult));
}

TEST_P(MiDatagram, ALargerRequestThanIsTakenIsRefused) {
  DatagramClient client(Listen());
  const std::string fits = Request("nothing", absl::StrCat("[\"", std::string(65000, 'x'), "\"]"));
  EXPECT_THAT(client.Ask(fits), HasSubstr("Method not found"));
  if (over_unix()) {  // udp ends at 65507 bytes by itself
    EXPECT_EQ(client.Ask(Request("version", absl::StrCat("[\"", std::string(70000, 'x'), "\"]"))), "400 Parse_error");
  }
  EXPECT_EQ(client.Ask(Request("version")), Result(kVersionResult));
}

TEST_P(MiDatagram, ANotificationIsDoneWithoutAnAnswer) {
  DatagramClient client(Listen());
  ASSERT_TRUE(client.SendOne(Request("event_subscribe", R"(["E","record:x"])", "")));
  EXPECT_EQ(client.Ask(Request("events_list")), Result(R"({"Events":[{"name":"E","id":0}]})"));
}

TEST_P(MiDatagram, AnAnswerThatNoDatagramHoldsIsAnErrorThatSaysSo) {
  DatagramClient client(Listen());
  for (int i = 0; i < 700; ++i) mi_.world.Subscribe(absl::StrCat("E_", i, std::string(100, 'x')));
  EXPECT_THAT(client.Ask(Request("subscribers_list")), HasSubstr("more than 65507 bytes: ask for less, or over HTTP"));
}

TEST_P(MiDatagram, WhoDoesNotReadItsAnswersHoldsUpNobody) {
  const std::string address = Listen();
  DatagramClient deaf(address), client(address);
  // Few of these fill what the kernel lets one socket have out.
  for (int i = 0; i < 200; ++i) mi_.world.Subscribe(absl::StrCat("E_", i, std::string(200, 'x')));
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(deaf.SendOne(Request("subscribers_list")));
  EXPECT_EQ(client.Ask(Request("version")), Result(kVersionResult));
}

TEST_P(MiDatagram, UnsubscribingIsAnsweredWhenNothingIsSentAnyMore) {
  const std::string address = Listen();
  DatagramClient client(address), other(address);
  ASSERT_EQ(client.Ask(Request("event_subscribe", R"(["E","record:x"])")), Result("\"OK\""));
  {
    Busy busy(mi_.world.endpoint_loop);  // it might be sending
    ASSERT_TRUE(client.SendOne(Request("event_unsubscribe", R"(["E","record:x"])")));
    EXPECT_EQ(other.Ask(Request("version")), Result(kVersionResult));
    EXPECT_EQ(mi_.world.registry.size(), 0u);
    EXPECT_FALSE(HasSomethingToRead(client));
  }
  EXPECT_EQ(client.Read(), Result("\"OK\""));
}

INSTANTIATE_TEST_SUITE_P(Sockets, MiDatagram, testing::Values("udp", "unix"),
                         [](const auto& info) { return std::string(info.param); });

TEST(MiUnix, WhoCannotBeAnsweredIsServed) {
  MiWorld mi;
  const TemporaryFolder folder;
  const std::string address = mi.Listen({absl::StrCat("unix:", folder / "mi")});
  DatagramPeer nameless(address);
  ASSERT_TRUE(nameless.SendOne(Request("event_subscribe", R"(["E","record:x"])")));
  DatagramClient client(address);
  EXPECT_EQ(client.Ask(Request("events_list")), Result(R"({"Events":[{"name":"E","id":0}]})"));
}

TEST(MiHttp, ARequestIsPostedToItsPath) {
  MiWorld mi;
  const std::string address = mi.Listen({"http:127.0.0.1:0/mi", "udp:127.0.0.1:0"});
  EXPECT_TRUE(absl::EndsWith(address, "/mi"));
  const std::string host = address.substr(5, address.size() - 8);
  HttpClient client(host);
  const HttpClient::Response version = client.Ask(HttpClient::Post("/mi", Request("version", "{}", "\"7\"")));
  EXPECT_EQ(version.status, 200);
  EXPECT_EQ(version.headers.at("content-type"), "application/json");
  EXPECT_EQ(version.body, Result(kVersionResult, "\"7\""));
  const HttpClient::Response error = client.Ask(HttpClient::Post("/mi", Request("nothing")));
  EXPECT_EQ(error.status, 200);
  EXPECT_EQ(error.headers.at("content-type"), "application/json");
  EXPECT_EQ(error.body, R"({"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":1})");
  for (const std::string& garbage : {std::string(), std::string("which"), Request("version").substr(0, 20)}) {
    EXPECT_EQ(client.Ask(HttpClient::Post("/mi", garbage)).body,
              R"({"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"},"id":null})");
  }
  const HttpClient::Response notification =
      client.Ask(HttpClient::Post("/mi", Request("event_subscribe", R"(["E","record:x"])", "")));
  EXPECT_EQ(notification.status, 204);
  EXPECT_EQ(mi.world.registry.size(), 1u);
  EXPECT_EQ(client.Ask("GET /mi HTTP/1.1\r\nHost: x\r\n\r\n").status, 405);
  EXPECT_EQ(client.Ask(HttpClient::Post("/", Request("version"))).status, 404);
  EXPECT_EQ(client.Ask(HttpClient::Post("/mi", std::string(65536, ' '))).status, 200);
  EXPECT_EQ(client.Ask(HttpClient::Post("/mi", std::string(65537, ' '))).status, 413);
  EXPECT_EQ(client.Ask(HttpClient::Post("/mi", Request("version"))).status, 200);
}

TEST(MiHttp, WithoutAPathItIsMi) {
  MiWorld mi;
  const std::string address = mi.Listen({"http:127.0.0.1:0"});
  ASSERT_TRUE(absl::EndsWith(address, "/mi")) << address;
  HttpClient client(address.substr(5, address.size() - 8));
  EXPECT_EQ(client.Ask(HttpClient::Post("/mi", Request("version"))).status, 200);
}

TEST(MiHttp, StoppingAnswersWhatWasTaken) {
  MiWorld mi;
  const std::string address = mi.Listen({"http:127.0.0.1:0/mi", "udp:127.0.0.1:0"});
  HttpClient http(address.substr(5, address.size() - 8)), other(address.substr(5, address.size() - 8));
  DatagramClient udp(mi.mi->addresses()[1]);
  for (const std::string params : {R"(["E","record:x"])", R"(["E","record:y"])"}) {
    ASSERT_EQ(udp.Ask(Request("event_subscribe", params)), Result("\"OK\""));
  }
  std::thread stopping;
  {
    Busy busy(mi.world.endpoint_loop);
    ASSERT_TRUE(http.Send(HttpClient::Post("/mi", Request("event_unsubscribe", R"(["E","record:x"])"))));
    ASSERT_TRUE(udp.SendOne(Request("event_unsubscribe", R"(["E","record:y"])")));
    // Both have been read once they are gone; each look is a round of the loop.
    while (mi.world.registry.size() > 0) ASSERT_EQ(other.Ask(HttpClient::Post("/mi", Request("version"))).status, 200);
    stopping = std::thread([&mi] { mi.mi->Stop(); });
    EXPECT_TRUE(other.Ended());
    EXPECT_FALSE(HasSomethingToRead(udp));
  }
  stopping.join();
  EXPECT_EQ(http.Read().body, Result("\"OK\""));
  EXPECT_EQ(udp.Read(), Result("\"OK\""));
}

// The disk is full: as far as the journal sees, a write fails.
TEST(MiJournal, AChangeThatIsNotWrittenDownIsNotAcknowledged) {
  signal(SIGXFSZ, SIG_IGN);
  const TemporaryFolder folder;
  MiWorld mi;
  const std::unique_ptr<Journal> journal = *Journal::Open(folder / "journal", Journal::Sync::kNormal);
  SubscriptionStore store(*journal, mi.world.registry);
  auto listening =
      MiServer::Listen({{"udp:127.0.0.1:0"}, {}}, mi.loop, mi.world.registry, mi.world.dispatcher, journal.get());
  ASSERT_TRUE(listening.ok());
  mi.mi = *std::move(listening);
  DatagramClient client(mi.mi->addresses()[0]);
  EXPECT_EQ(client.Ask(Request("event_subscribe", R"(["E","record:a"])")), Result("\"OK\""));
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit full = {1000, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  const std::string refused = client.Ask(Request("event_subscribe", R"(["E","record:b"])"));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_THAT(refused, AllOf(HasSubstr(R"("code":-32000,"message":"Server error","data":"done, but not written down)"),
                             HasSubstr(R"("id":1})")));
  EXPECT_EQ(client.Ask(Request("event_subscribe", R"(["E","record:b"])")), Result("\"OK\""));
  mi.mi.reset();
}

TEST(MiListen, AnAddressThatWillNotDoIsRefusedWithTheWayOut) {
  MiWorld mi;
  const auto refusal = [&mi](const std::string& address) {
    const auto listening =
        MiServer::Listen({{"udp:127.0.0.1:0", address}, {}}, mi.loop, mi.world.registry, mi.world.dispatcher, nullptr);
    EXPECT_EQ(listening.status().code(), absl::StatusCode::kInvalidArgument) << address;
    EXPECT_THAT(std::string(listening.status().message()), HasSubstr(absl::StrCat("\"", address, "\"")));
    return std::string(listening.status().message());
  };
  for (const std::string address :
       {"http:0.0.0.0:0/mi", "udp:192.0.2.1:7065", "http:[::]:0/mi", "udp:[::ffff:192.0.2.1]:0"}) {
    EXPECT_THAT(refusal(address), AllOf(HasSubstr("is not a loopback address"), HasSubstr("put a proxy"))) << address;
  }
  for (const std::string address : {"tcp:127.0.0.1:1", "127.0.0.1:7064", "http//127.0.0.1", ""}) {
    EXPECT_THAT(refusal(address), HasSubstr("write http:host:port/path, udp:host:port or unix:/path"));
  }
  EXPECT_THAT(refusal("http:localhost:0/mi"), HasSubstr("numeric"));
  EXPECT_THAT(refusal("http:127.0.0.1:x/mi"), HasSubstr("port"));
  EXPECT_THAT(refusal("http:127.0.0.1:0/a b"), HasSubstr("the path holds"));
  EXPECT_THAT(refusal("unix:relative"), HasSubstr("absolute"));

  const std::string taken = mi.Listen({"http:127.0.0.1:0/mi"});
  const auto second = MiServer::Listen({{taken}, {}}, mi.loop, mi.world.registry, mi.world.dispatcher, nullptr);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace eventvirtual
