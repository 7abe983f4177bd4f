// The ingest on real sockets, with peers as good and as bad as they come.
#include "server/ingest/ingest.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/registry/registry.h"
#include "tests/transports/io/on_loop.h"
#include "transports/api/catalog.h"
#include "transports/api/mutex.h"
#include "transports/io/event_loop.h"

namespace eventvirtual {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// `kept:NAME` remembers what it delivers; `stuck:NAME` never gets connected.
class KeepingTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override {
    static constexpr absl::string_view kSchemes[] = {"kept", "stuck"};
    return kSchemes;
  }
  absl::string_view syntax() const override { return "kept:NAME"; }
  absl::string_view description() const override { return "For these tests."; }
  AckLevel ack_level() const override { return AckLevel::kConfirmed; }
  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const std::string text = absl::StrCat(uri.scheme, ":", uri.body);
    return Target{text, text, AckLevel::kConfirmed, absl::Minutes(1)};
  }
  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    return std::make_unique<KeepingLink>(*this, loop, absl::StartsWith(target.canonical, "stuck") ? nullptr : &host);
  }

  // What was delivered, once there is so much of it.
  std::vector<std::string> Await(size_t count) {
    const absl::Time give_up = absl::Now() + kPatience;
    MutexLock lock(&mutex_);
    while (kept_.size() < count && absl::Now() < give_up) changed_.WaitFor(&mutex_, give_up - absl::Now());
    return kept_;
  }

 private:
  struct KeepingLink final : public Link {
    KeepingLink(KeepingTransport& transport, Loop& loop, Host* host) : transport(transport) {
      loop.Post([alive = std::weak_ptr<bool>(alive), host] {
        if (!alive.expired() && host != nullptr) host->OnReady(256);
      });
    }
    void Send(absl::Span<Parcel> parcels) override {
      for (Parcel& parcel : parcels) {
        {
          MutexLock lock(&transport.mutex_);
          transport.kept_.push_back(std::string(parcel.message->jsonrpc()));
          transport.changed_.SignalAll();
        }
        std::move(parcel.done).Finish(absl::OkStatus());
      }
    }
    KeepingTransport& transport;
    const std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  };

  Mutex mutex_;
  CondVar changed_;
  std::vector<std::string> kept_ ABSL_GUARDED_BY(mutex_);
};

// A client's socket; every wait ends after kPatience.
class Client {
 public:
  Client(absl::string_view address, int type) {
    sockaddr_storage storage = {};
    socklen_t length = 0;
    if (absl::ConsumePrefix(&address, "unix:")) {
      auto* const path = reinterpret_cast<sockaddr_un*>(&storage);
      path->sun_family = AF_UNIX;
      std::memcpy(path->sun_path, address.data(), address.size());
      length = sizeof(*path);
    } else {
      address.remove_prefix(4);
      const std::pair<std::string, std::string> parts = absl::StrSplit(address, ':');
      auto* const v4 = reinterpret_cast<sockaddr_in*>(&storage);
      uint32_t port = 0;
      EXPECT_TRUE(absl::SimpleAtoi(parts.second, &port)) << std::string(address);
      *v4 = {.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(port)), .sin_addr = {}, .sin_zero = {}};
      EXPECT_EQ(inet_pton(AF_INET, parts.first.c_str(), &v4->sin_addr), 1);
      length = sizeof(*v4);
    }
    fd_ = socket(storage.ss_family, type | SOCK_CLOEXEC, 0);
    const int on = 1;
    if (type == SOCK_STREAM) setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    const timeval patience = {.tv_sec = absl::ToInt64Seconds(kPatience), .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&storage), length) == 0;
  }
  ~Client() { close(fd_); }
  Client(const Client&) = delete;

  bool connected() const { return connected_; }
  int fd() const { return fd_; }

  void Send(absl::string_view text) {
    while (!text.empty()) {
      const ssize_t sent = send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      ASSERT_GT(sent, 0) << strerror(errno);
      text.remove_prefix(sent);
    }
  }
  // What one read gives; "" when the peer has closed.
  std::string Read(size_t most = 8192) {
    std::string bytes(most, '\0');
    const ssize_t got = recv(fd_, bytes.data(), most, 0);
    EXPECT_FALSE(got < 0 && errno == EAGAIN) << "nothing came";
    bytes.resize(std::max<ssize_t>(got, 0));
    return bytes;
  }
  // Reads until `end` has come.
  std::string ReadTo(absl::string_view end) {
    std::string text;
    while (!absl::StrContains(text, end)) {
      const std::string more = Read();
      if (more.empty()) break;
      text += more;
    }
    return text;
  }

 private:
  int fd_ = -1;
  bool connected_ = false;
};

class IngestTest : public testing::Test {
 protected:
  IngestTest() {
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    std::vector<std::unique_ptr<Transport>> transports;
    auto transport = std::make_unique<KeepingTransport>();
    transport_ = transport.get();
    transports.push_back(std::move(transport));
    catalog_ = std::make_unique<Catalog>(std::move(transports));
    EndpointLimits limits;
    limits.queue_events = 10000;
    limits.connect_timeout = absl::Minutes(1);
    pool_ = std::make_unique<EndpointPool>(std::vector<Loop*>{&loop_}, limits);
    registry_ = std::make_unique<Registry>(*catalog_, *pool_, loop_, RegistryLimits());
    dispatcher_ = std::make_unique<Dispatcher>(*registry_);
  }
  ~IngestTest() override {
    ingest_.reset();
    registry_->Stop();
    pool_->CloseAll();
    EXPECT_TRUE(dispatcher_->AwaitIdle(kPatience));
    pool_->AwaitEmpty();
    std::filesystem::remove_all(folder_);
  }

  void Subscribe(const std::string& event, const std::string& uri) {
    SubscriptionSpec spec;
    spec.event = event;
    spec.subscribers.push_back({uri});
    ASSERT_TRUE(registry_->Subscribe(spec).ok());
  }
  // Listens and gives the first address.
  std::string Listen(IngestOptions options) {
    absl::StatusOr<std::unique_ptr<Ingest>> ingest = Ingest::Listen(options, loop_, *dispatcher_);
    EXPECT_TRUE(ingest.ok()) << ingest.status();
    if (!ingest.ok()) return "tcp:127.0.0.1:1";
    ingest_ = *std::move(ingest);
    return ingest_->addresses()[0];
  }
  std::string Listen(const std::string& address) {
    IngestOptions options;
    options.addresses = {address};
    return Listen(options);
  }
  std::string path() const { return folder_ + "/ingest.sock"; }

  static std::string Request(int id) {
    return absl::StrCat(R"({"id":)", id, R"(,"jsonrpc":"2.0","method":"E","params":{"n":)", id, "}}");
  }
  static std::string Delivered(int id) {
    return absl::StrCat(R"({"jsonrpc":"2.0","method":"E","params":{"n":)", id, "}}");
  }
  static std::string Answer(int id) { return absl::StrCat(R"({"jsonrpc":"2.0","result":"OK","id":)", id, "}"); }

  std::string folder_ = "/tmp/evXXXXXX";
  EventLoop loop_{"ingest"};
  KeepingTransport* transport_ = nullptr;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<EndpointPool> pool_;
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<Dispatcher> dispatcher_;
  std::unique_ptr<Ingest> ingest_;
};

// --- datagrams

TEST_F(IngestTest, ADatagramIsAnEventAndABadOneHarmsNobody) {
  Subscribe("E", "kept:a");
  for (const std::string& address : {Listen("udp:127.0.0.1:0"), Listen("unix:" + path())}) {
    const size_t before = transport_->Await(0).size();
    if (ingest_ != nullptr && ingest_->addresses()[0] != address) Listen("udp:127.0.0.1:0");
    Client client(ingest_->addresses()[0], SOCK_DGRAM);
    for (const std::string& bad :
         {std::string("garbage"), std::string("{"), std::string("{}"), std::string(60000, '['),
          std::string("\xff\0", 2), Request(1) + Request(2), std::string(R"({"jsonrpc":"2.0","method":""})")}) {
      client.Send(bad);
    }
    client.Send("");
    client.Send(Request(7));  // with an id: still no answer, there is no way back
    const std::vector<std::string> delivered = transport_->Await(before + 1);
    ASSERT_EQ(delivered.size(), before + 1);
    EXPECT_EQ(delivered.back(), Delivered(7));
    pollfd ready = {client.fd(), POLLIN, 0};
    EXPECT_EQ(poll(&ready, 1, 0), 0) << "an answer to a datagram";
  }
}

TEST_F(IngestTest, TheLargestDatagramArrivesWhole) {
  Subscribe("E", "kept:a");
  const std::string text =
      absl::StrCat(R"({"jsonrpc":"2.0","method":"E","params":[")", std::string(65000, 'x'), "\"]}");
  const std::string address = Listen("udp:127.0.0.1:0");
  Client(address, SOCK_DGRAM).Send(text);
  EXPECT_THAT(transport_->Await(1), ElementsAre(text));
}

TEST_F(IngestTest, ASocketFileOfTheDeadIsReplacedAndThatOfTheLivingIsNot) {
  Subscribe("E", "kept:a");
  const std::string address = "unix:" + path();
  Listen(address);
  IngestOptions options;
  options.addresses = {address};
  const absl::Status refused = Ingest::Listen(options, loop_, *dispatcher_).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr(path()));
  Client(address, SOCK_DGRAM).Send(Request(1));
  EXPECT_EQ(transport_->Await(1).size(), 1u);

  ingest_.reset();
  EXPECT_FALSE(std::filesystem::exists(path())) << "it takes its file away";
  {  // killed: its file stays
    const int dead = socket(AF_UNIX, SOCK_DGRAM, 0);
    sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = {}};
    std::memcpy(name.sun_path, path().data(), path().size());
    ASSERT_EQ(bind(dead, reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
    close(dead);
  }
  Listen(address);
  Client(address, SOCK_DGRAM).Send(Request(2));
  EXPECT_EQ(transport_->Await(2).size(), 2u);
}

TEST_F(IngestTest, WhatCannotBeListenedOnIsNamed) {
  const std::string taken = Listen("tcp:127.0.0.1:0");
  std::filesystem::create_directory(folder_ + "/directory");
  for (const std::string& address : std::vector<std::string>{
           taken, "tcp:nowhere.example:80", "tcp:127.0.0.1", "tcp:127.0.0.1:70000", "http:127.0.0.1:80", "",
           "udp:192.0.2.1:9", "unix:relative", "unix:" + std::string(200, '/'), "unix:" + folder_ + "/directory",
           "unix:/no/such/folder/s"}) {
    IngestOptions options;
    options.addresses = {"udp:127.0.0.1:0", address};
    const absl::Status status = Ingest::Listen(options, loop_, *dispatcher_).status();
    EXPECT_FALSE(status.ok()) << address;
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("\"", address, "\""))) << status;
  }
}

// --- tcp

TEST_F(IngestTest, ALoneRequestIsAnsweredInOneSmallWriteOnceItIsQueued) {
  Subscribe("E", "kept:a");
  Client opensips(Listen("tcp:127.0.0.1:0"), SOCK_STREAM);
  for (int id = 1; id <= 3; ++id) {
    opensips.Send(Request(id));
    EXPECT_EQ(opensips.Read(), Answer(id));
    EXPECT_EQ(transport_->Await(id).back(), Delivered(id));
  }
}

TEST_F(IngestTest, ARequestThatNobodyTakesIsAnErrorSoThatOpensipsFailsOver) {
  IngestOptions options;
  options.addresses = {"tcp:127.0.0.1:0"};
  Client opensips(Listen(options), SOCK_STREAM);
  opensips.Send(Request(1));
  EXPECT_EQ(
      opensips.Read(),
      R"({"jsonrpc":"2.0","error":{"code":480,"message":"Temporarily Unavailable: nobody is subscribed to E"},"id":1})");

  // A queue that is full: its endpoint never gets connected, and holds 10,000.
  Subscribe("E", "stuck:a");
  EventFields fields;
  fields.name = "E";
  for (int i = 0; i < 10000; ++i) ASSERT_EQ(dispatcher_->Raise(Message::Make(fields), nullptr).accepted, 1u);
  opensips.Send(Request(2));
  EXPECT_EQ(opensips.Read(),
            R"({"jsonrpc":"2.0","error":{"code":-32000,"message":"the queue of stuck:a is full"},"id":2})");
  // Somebody else takes it: that is enough.
  Subscribe("E", "kept:a");
  opensips.Send(Request(3));
  EXPECT_EQ(opensips.Read(), Answer(3));
}

TEST_F(IngestTest, NotificationsAndRequestsMixHoweverTheStreamIsCut) {
  Subscribe("E", "kept:a");
  const std::string address = Listen("tcp:127.0.0.1:0");
  std::string stream;
  for (int id = 0; id < 20; ++id) stream += id % 2 == 0 ? Request(id) : Delivered(id) + " \r\n";
  size_t delivered = 0;
  for (const size_t piece : {size_t{1}, size_t{7}, stream.size()}) {
    Client opensips(address, SOCK_STREAM);
    for (size_t at = 0; at < stream.size(); at += piece) opensips.Send(absl::string_view(stream).substr(at, piece));
    const std::string answers = opensips.ReadTo("\"id\":18");
    for (int id = 0; id < 20; ++id) {
      EXPECT_EQ(absl::StrContains(answers, absl::StrCat("\"id\":", id, " ")) ||
                    absl::StrContains(answers, absl::StrCat("\"id\":", id, "}")),
                id % 2 == 0)
          << id;
    }
    const std::vector<std::string> all = transport_->Await(delivered + 20);
    ASSERT_EQ(all.size(), delivered + 20);
    for (int id = 0; id < 20; ++id) EXPECT_EQ(all[delivered + id], Delivered(id));
    delivered += 20;
  }
}

// OpenSIPS' own reader, as it was measured: 8192 bytes at a time, at most five answers in one read, and the connection
// is given up when a read ends inside an answer.
class OpensipsReader {
 public:
  explicit OpensipsReader(Client& client) : client_(client) {}
  // The number of answers read until there are `count`, or until it would have given the connection up.
  int Read(int count) {
    int answers = 0;
    while (answers < count) {
      const std::string bytes = client_.Read(8192);
      if (bytes.empty()) return answers;
      int in_this_read = 0;
      size_t at = 0;
      while (at < bytes.size()) {
        const size_t end = bytes.find('}', at);
        if (end == std::string::npos || bytes[at] != '{') {
          ADD_FAILURE() << "a read ended inside an answer, after " << answers << " answers";
          return answers;
        }
        at = end + 1;
        ++answers;
        if (++in_this_read > 5) {
          ADD_FAILURE() << "more than five answers in one read, after " << answers << " answers";
          return answers;
        }
      }
    }
    return answers;
  }

 private:
  Client& client_;
};

TEST_F(IngestTest, BurstsAreAnsweredSoThatOpensipsCanReadThem) {
  Subscribe("E", "kept:a");
  const std::string address = Listen("tcp:127.0.0.1:0");
  size_t delivered = 0;
  for (const int burst : {1, 2, 3, 5, 6, 50, 2000}) {
    Client opensips(address, SOCK_STREAM);
    OpensipsReader reader(opensips);
    for (int round = 0; round < 3; ++round) {
      std::string stream;
      for (int id = 0; id < burst; ++id) stream += Request(id);
      std::thread writer([&] { opensips.Send(stream); });  // OpenSIPS writes and reads at the same time
      EXPECT_EQ(reader.Read(burst), burst);
      writer.join();
      delivered += burst;
    }
    ASSERT_EQ(transport_->Await(delivered).size(), delivered);
  }
}

TEST_F(IngestTest, WithoutPaddingAnswersStayShort) {
  Subscribe("E", "kept:a");
  IngestOptions options;
  options.addresses = {"tcp:127.0.0.1:0"};
  options.reply_padding = 0;
  Client client(Listen(options), SOCK_STREAM);
  client.Send(Request(1) + Request(2) + Request(3));
  EXPECT_EQ(client.ReadTo("\"id\":3}"), Answer(1) + Answer(2) + Answer(3));
}

TEST_F(IngestTest, ABadObjectIsRefusedAndTheStreamGoesOn) {
  Subscribe("E", "kept:a");
  Client opensips(Listen("tcp:127.0.0.1:0"), SOCK_STREAM);
  const struct {
    std::string text;
    const char* answer;
  } kCases[] = {
      {R"({"id":1,"jsonrpc":"2.0"})", "-32600"},
      {R"({"id":2,"jsonrpc":"1.0","method":"E"})", "-32600"},
      {R"({"id":3,"jsonrpc":"2.0","method":"E","params":7})", "-32602"},
      {R"({"id":4,"jsonrpc":"2.0","method":"a b"})", "-32600"},
      {R"({"id":5,"jsonrpc":"2.0","method":42})", "-32600"},
      // What cannot be parsed has no id, and so gets no answer.
      {R"({"id":6,"jsonrpc":"2.0","method":"E",})", ""},
      {absl::StrCat(R"({"id":7,"jsonrpc":"2.0","method":"E","params":[)", std::string(10000, '['),
                    std::string(10001, ']'), "}"),
       ""},
      {"{\"id\":8,\"jsonrpc\":\"2.0\",\"method\":\"\xff\"}", ""},
  };
  int id = 100;
  for (const auto& test : kCases) {
    opensips.Send(test.text);
    opensips.Send(Request(++id));
    const std::string answers = opensips.ReadTo(absl::StrCat("\"id\":", id));
    if (*test.answer != '\0') {
      EXPECT_THAT(answers, HasSubstr(absl::StrCat("\"error\":{\"code\":", test.answer))) << test.text;
    } else {
      EXPECT_FALSE(absl::StrContains(answers, "error")) << answers;
    }
  }
}

TEST_F(IngestTest, AStreamThatCannotBeFramedEndsWithAnErrorAndOthersGoOn) {
  Subscribe("E", "kept:a");
  IngestOptions options;
  options.addresses = {"tcp:127.0.0.1:0"};
  options.max_object_bytes = 100000;
  const std::string address = Listen(options);
  Client good(address, SOCK_STREAM);
  int id = 0;
  for (const std::string& bad : {std::string("hello"), std::string("[1,2]"), std::string("}"), Request(0) + "x",
                                 "{\"a\":\"" + std::string(100000, 'x'), std::string(100001, '{')}) {
    Client client(address, SOCK_STREAM);
    client.Send(bad);
    const std::string answer = client.ReadTo("\"id\":null");
    EXPECT_THAT(answer, HasSubstr(R"("error":{"code":-32700)")) << bad.substr(0, 20);
    EXPECT_EQ(client.Read(), "") << "the connection is over";
    good.Send(Request(++id));
    EXPECT_THAT(good.ReadTo(absl::StrCat("\"id\":", id)), HasSubstr("result"));
  }
}

TEST_F(IngestTest, AnEndlessObjectIsCutOffAtItsLimitWhileItStillComes) {
  Subscribe("E", "kept:a");
  Client client(Listen("tcp:127.0.0.1:0"), SOCK_STREAM);
  client.Send("{\"a\":\"");
  const std::string megabyte(1 << 20, 'x');
  size_t sent = 0;
  while (sent < (64u << 20)) {
    const ssize_t got = send(client.fd(), megabyte.data(), megabyte.size(), MSG_NOSIGNAL);
    if (got <= 0) break;
    sent += got;
  }
  EXPECT_LT(sent, 64u << 20) << "it was let go on";
}

TEST_F(IngestTest, WhoDoesNotReadItsAnswersIsReadNoMoreAndHarmsNobody) {
  Subscribe("E", "kept:a");
  const std::string address = Listen("tcp:127.0.0.1:0");
  Client deaf(address, SOCK_STREAM);
  const int small = 4096;
  setsockopt(deaf.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
  const timeval soon = {.tv_sec = 0, .tv_usec = 300000};
  setsockopt(deaf.fd(), SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon));
  std::string requests;
  for (int id = 0; id < 1000; ++id) requests += Request(id);
  // Answers are 4096 bytes and requests 60: what is read without bound needs sixty times its memory.
  size_t sent = 0;
  while (sent < (64u << 20)) {
    const ssize_t got = send(deaf.fd(), requests.data(), requests.size(), MSG_NOSIGNAL);
    if (got <= 0) break;
    sent += got;
  }
  const size_t taken = transport_->Await(1).size();
  EXPECT_LT(taken, 20000u) << "a deaf client is read on: its answers fill " << taken * 4096 / 1000000 << " MB";
  Client good(address, SOCK_STREAM);
  good.Send(Request(1));
  EXPECT_EQ(good.Read(), Answer(1));
}

TEST_F(IngestTest, WhoHasSentAllAndSaysSoStillGetsItsAnswers) {
  Subscribe("E", "kept:a");
  Client client(Listen("tcp:127.0.0.1:0"), SOCK_STREAM);
  std::string requests;
  for (int id = 0; id < 2000; ++id) requests += Request(id);  // 8 MB of answers: more than the kernel holds for us
  client.Send(requests);
  shutdown(client.fd(), SHUT_WR);
  EXPECT_EQ(OpensipsReader(client).Read(2000), 2000);
  EXPECT_EQ(client.Read(), "");
}

TEST_F(IngestTest, MoreConnectionsThanAllowedAreTurnedAwayUntilOneGoes) {
  Subscribe("E", "kept:a");
  IngestOptions options;
  options.addresses = {"tcp:127.0.0.1:0"};
  options.max_connections = 3;
  const std::string address = Listen(options);
  std::vector<std::unique_ptr<Client>> clients;
  for (int id = 0; id < 3; ++id) {
    clients.push_back(std::make_unique<Client>(address, SOCK_STREAM));
    clients.back()->Send(Request(id));
    EXPECT_EQ(clients.back()->Read(), Answer(id));
  }
  EXPECT_EQ(Client(address, SOCK_STREAM).Read(), "");
  clients.front()->Send(Request(10));
  EXPECT_EQ(clients.front()->Read(), Answer(10));
  clients.erase(clients.begin());
  const absl::Time give_up = absl::Now() + kPatience;
  std::string answer;
  while (answer.empty() && absl::Now() < give_up) {
    Client next(address, SOCK_STREAM);
    (void)!send(next.fd(), Request(11).data(), Request(11).size(), MSG_NOSIGNAL);
    answer = next.Read();
  }
  EXPECT_EQ(answer, Answer(11));
}

TEST_F(IngestTest, WithoutDescriptorsItWaitsAndThenServesWhoWaited) {
  Subscribe("E", "kept:a");
  const std::string address = Listen("tcp:127.0.0.1:0");
  Client first(address, SOCK_STREAM);
  first.Send(Request(1));
  EXPECT_EQ(first.Read(), Answer(1));
  rlimit normal;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &normal), 0);
  Client second(address, SOCK_STREAM);  // its descriptor is there before they run out
  second.Send(Request(2));
  EXPECT_EQ(second.Read(), Answer(2));
  // The kernel accepts for us; the process cannot.
  const int waiting = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  rlimit none = normal;
  none.rlim_cur = 3;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  sockaddr_storage peer = {};
  socklen_t length = sizeof(peer);
  ASSERT_EQ(getpeername(first.fd(), reinterpret_cast<sockaddr*>(&peer), &length), 0);
  ASSERT_EQ(connect(waiting, reinterpret_cast<sockaddr*>(&peer), length), 0);
  second.Send(Request(3));  // those who are in are served meanwhile
  EXPECT_EQ(second.Read(), Answer(3));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &normal), 0);
  const timeval patience = {.tv_sec = absl::ToInt64Seconds(kPatience), .tv_usec = 0};
  setsockopt(waiting, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  ASSERT_EQ(send(waiting, Request(4).data(), Request(4).size(), MSG_NOSIGNAL), ssize_t(Request(4).size()));
  char answer[100] = {};
  EXPECT_GT(recv(waiting, answer, sizeof(answer) - 1, 0), 0);
  EXPECT_EQ(std::string(answer), Answer(4));
  close(waiting);
}

TEST_F(IngestTest, StoppingAnswersWhatWasTakenAndClosesTheRest) {
  Subscribe("E", "kept:a");
  const std::string address = Listen("tcp:127.0.0.1:0");
  Client idle(address, SOCK_STREAM);
  Client busy(address, SOCK_STREAM);
  busy.Send(Request(1));
  EXPECT_EQ(busy.Read(), Answer(1));
  ingest_->Stop();
  EXPECT_EQ(idle.Read(), "");
  EXPECT_EQ(busy.Read(), "");
  EXPECT_FALSE(Client(address, SOCK_STREAM).connected());
  EXPECT_THAT(transport_->Await(1), ElementsAre(Delivered(1)));
}

}  // namespace
}  // namespace eventvirtual
