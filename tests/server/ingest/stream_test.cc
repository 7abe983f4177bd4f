// Requests and notifications that come over tcp, and peers that misbehave.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/resource.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "server/load/load.h"
#include "tests/server/ingest/world.h"
#include "transports/testing/simulated_loop.h"

namespace eventvirtual {
namespace {

constexpr char kAny[] = "tcp:127.0.0.1:0";
constexpr size_t kPadded = 4096;

std::vector<std::string> Requests(int count) {
  std::vector<std::string> requests;
  for (int id = 0; id < count; ++id) requests.push_back(Request(id));
  return requests;
}

std::string Joined(const std::vector<std::string>& texts) {
  std::string joined;
  for (const std::string& text : texts) joined += text;
  return joined;
}

void ExpectAccepted(const std::vector<std::string>& answers) {
  for (size_t id = 0; id < answers.size(); ++id) {
    ASSERT_EQ(FakeOpensips::Unpadded(answers[id]), Accepted(id)) << "the answer number " << id;
  }
}

void ExpectAllPadded(const std::vector<std::string>& answers) {
  for (size_t i = 0; i < answers.size(); ++i) ASSERT_EQ(answers[i].size(), kPadded) << "the answer number " << i;
}

void ExpectEvents(World& world, int count) {
  const std::vector<std::string> received = world.transport->Received(count);
  ASSERT_EQ(received.size(), static_cast<size_t>(count));
  for (int n = 0; n < count; ++n) ASSERT_EQ(received[n], Notification(n));
}

// Works as it should.
void ExpectServed(FakeOpensips& peer, int id = 77) {
  ASSERT_TRUE(peer.Send(Request(id)));
  ASSERT_EQ(peer.Answer(), Accepted(id));
}

TEST(StreamIngest, ALoneRequestGetsAShortAnswerOnceAnEndpointHasItsEvent) {
  World world;
  world.transport->Park();  // accepted is enough; delivered comes later
  FakeOpensips opensips(world.Listen({kAny}));
  ASSERT_TRUE(opensips.Send(Request(915243442)));
  EXPECT_EQ(opensips.Answers(1), std::vector<std::string>{Accepted(915243442)});
  EXPECT_EQ(world.accepted(), 1u);
}

class Burst : public testing::TestWithParam<int> {};

TEST_P(Burst, WrittenInOneGoIsAnsweredWholeAndInOrder) {
  World world;
  FakeOpensips opensips(world.Listen({kAny}));
  const std::string burst = Joined(Requests(GetParam()));
  std::thread writer([&] { EXPECT_TRUE(opensips.Send(burst)); });
  const std::vector<std::string> answers = opensips.Answers(GetParam());
  writer.join();
  ExpectAccepted(answers);
  if (GetParam() > 1) ExpectAllPadded(answers);
  ExpectEvents(world, GetParam());
}

TEST_P(Burst, ReadOnlyAfterAllOfItWasWrittenIsAnsweredWhole) {
  World world;
  FakeOpensips opensips(world.Listen({kAny}));
  ASSERT_TRUE(opensips.Send(Joined(Requests(GetParam()))));
  ASSERT_FALSE(world.transport->Received(std::min(GetParam(), 50)).empty());
  ExpectAccepted(opensips.Answers(GetParam()));
  ExpectEvents(world, GetParam());
}

TEST_P(Burst, ByteByByteIsAnsweredJustTheSame) {
  World world;
  FakeOpensips opensips(world.Listen({kAny}));
  const std::vector<std::string> requests = Requests(std::min(GetParam(), 50));
  const auto send = [&](absl::string_view bytes) {
    for (size_t i = 0; i < bytes.size(); ++i) ASSERT_TRUE(opensips.Send(bytes.substr(i, 1)));
  };
  std::vector<std::string> answers;
  send(absl::string_view(requests[0]).substr(0, 9));
  for (size_t i = 0; i < requests.size(); ++i) {
    send(absl::string_view(requests[i]).substr(9));
    if (i + 1 < requests.size()) send(absl::string_view(requests[i + 1]).substr(0, 9));  // begun before the answer
    for (std::string& answer : opensips.Answers(1)) answers.push_back(std::move(answer));
  }
  ExpectAccepted(answers);
  ExpectEvents(world, requests.size());
}

INSTANTIATE_TEST_SUITE_P(Sizes, Burst, testing::Values(1, 2, 5, 50, 2000));

TEST(StreamIngest, AStreamMayBeCutAnywhere) {
  World world;
  const std::string address = world.Listen({kAny});
  const std::vector<std::string> requests = Requests(3);
  const std::string burst = Joined(requests);
  for (size_t cut = 1; cut < burst.size(); ++cut) {
    FakeOpensips opensips(address);
    ASSERT_TRUE(opensips.Send(burst.substr(0, cut)));
    OnLoop(world.ingest_loop, [] {});
    std::vector<std::string> answers;
    // A first request that came alone is a lone one: its answer is read, as by a peer that had nothing else to do.
    if (cut == requests[0].size()) answers = opensips.Answers(1);
    ASSERT_TRUE(opensips.Send(burst.substr(cut)));
    for (std::string& answer : opensips.Answers(3 - answers.size())) answers.push_back(std::move(answer));
    ExpectAccepted(answers);
    if (testing::Test::HasFailure()) FAIL() << "cut behind byte " << cut;
  }
}

TEST(StreamIngest, NotificationsBetweenRequestsAreEventsWithoutAnswers) {
  World world;
  FakeOpensips opensips(world.Listen({kAny}));
  ASSERT_TRUE(opensips.Send(absl::StrCat(Notification(0), " \r\n\t", Request(1), Notification(2), Request(3),
                                         R"({"jsonrpc":"2.0","method":""})", Notification(4))));
  const std::vector<std::string> answers = opensips.Answers(2);
  EXPECT_EQ(FakeOpensips::Unpadded(answers[0]), Accepted(1));
  EXPECT_EQ(FakeOpensips::Unpadded(answers[1]), Accepted(3));
  ExpectEvents(world, 5);
  ExpectServed(opensips);  // nothing else was answered
}

TEST(StreamIngest, ThePaddingIsAsGivenAndMayBeOff) {
  for (size_t padding : {0, 100, 2048}) {
    World world;
    IngestOptions options;
    options.reply_padding = padding;
    FakeOpensips opensips(world.Listen({kAny}, options));
    ASSERT_TRUE(opensips.Send(Joined(Requests(2))));
    for (const std::string& answer : opensips.Answers(2)) {
      EXPECT_EQ(answer.size(), std::max(padding, Accepted(0).size()));
    }
  }
}

TEST(StreamIngest, AnEventThatNobodyWantsOrKnowsOrTakesIsAnError) {
  World world;
  const std::string address = world.Listen({kAny});
  FakeOpensips opensips(address);
  ASSERT_TRUE(opensips.Send(Request(1, "E_NOBODY")));
  EXPECT_EQ(opensips.Answer(), R"({"jsonrpc":"2.0","error":{"code":480,)"
                               R"("message":"Temporarily Unavailable: nobody is subscribed to E_NOBODY"},"id":1})");

  ASSERT_TRUE(opensips.Send(R"({"id":3,"jsonrpc":"2.0","method":"E_ROUND","eventhops":8})"));
  EXPECT_THAT(FakeOpensips::Unpadded(opensips.Answer()),
              testing::AllOf(testing::HasSubstr(R"({"code":-32000,"message":"event \"E_ROUND\" goes round in a loop)"),
                             testing::HasSubstr("--max_hops is 8")));
  EXPECT_EQ(world.ingest->counts(Ingest::kTcp).looped, 1u);

  RegistryLimits strict_limits;
  strict_limits.strict_events = true;
  World strict(World::Roomy(), strict_limits);
  FakeOpensips strictly(strict.Listen({kAny}));
  ASSERT_TRUE(strictly.Send(Request(2, "E_UNKNOWN")));
  EXPECT_EQ(strictly.Answer(), R"({"jsonrpc":"2.0","error":{"code":404,"message":"Event not registered"},"id":2})");
  ExpectServed(strictly);
}

TEST(StreamIngest, AnEventThatNoQueueTakesIsNotAcknowledged) {
  EndpointLimits limits;
  limits.queue_events = 1;
  World world(limits);
  world.transport->Park();
  FakeOpensips opensips(world.Listen({kAny}));
  ExpectServed(opensips, 0);
  ASSERT_EQ(world.transport->Received(1).size(), 1u);  // that one is on the wire,
  ExpectServed(opensips, 1);                           // this one waits,
  ASSERT_TRUE(opensips.Send(Request(2)));              // and there is no room for this one
  const std::string refused = opensips.Answer();
  EXPECT_TRUE(absl::StartsWith(refused, R"({"jsonrpc":"2.0","error":{"code":-32000,"message":")")) << refused;
  EXPECT_TRUE(absl::EndsWith(refused, R"("},"id":2})")) << refused;
  EXPECT_EQ(world.accepted(), 2u);
  world.transport->Release();
  ASSERT_EQ(world.transport->Received(2).size(), 2u);
  ExpectServed(opensips, 3);
}

TEST(StreamIngest, AnObjectThatIsNoEventIsAnErrorAndTheConnectionStays) {
  World world;
  FakeOpensips opensips(world.Listen({kAny}));
  const struct {
    std::string object;
    int code;
    const char* id;
  } cases[] = {
      {R"({"id":1,"jsonrpc":"2.0"})", -32600, "1"},
      {R"({"id":"a","jsonrpc":"2.0","method":"E","params":1})", -32602, R"("a")"},
      {R"({"id":5,broken})", -32700, "5"},
      {R"({broken})", -32700, "null"},
      {R"({"id":7,"jsonrpc":"2.0","method":"E","params":["\xff"]})", -32700, "7"},
  };
  for (const auto& bad : cases) {
    ASSERT_TRUE(opensips.Send(bad.object));
    const std::string answer = opensips.Answer();
    EXPECT_TRUE(absl::StrContains(answer, absl::StrCat(R"("code":)", bad.code, ","))) << bad.object << answer;
    EXPECT_TRUE(absl::EndsWith(answer, absl::StrCat(R"(,"id":)", bad.id, "}"))) << bad.object << answer;
    ExpectServed(opensips);
  }
}

TEST(StreamIngest, AnObjectWithoutEndIsToldSoAndEndsOnlyItsOwnConnection) {
  World world;
  IngestOptions options;
  options.max_object_bytes = 10000;
  const std::string address = world.Listen({kAny}, options);
  FakeOpensips bystander(address), endless(address);
  ExpectServed(bystander);
  // Much more than is ever looked at: the peer must hear the error all the same, not a reset.
  const std::string stream = absl::StrCat(Request(0), R"({"id":1,"x":")", std::string(4 << 20, 'x'));
  ASSERT_TRUE(endless.Send(stream));
  const std::vector<std::string> answers = endless.AnswersToTheEnd();
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(FakeOpensips::Unpadded(answers[0]), Accepted(0));
  EXPECT_EQ(FakeOpensips::Unpadded(answers[1]),
            R"json({"jsonrpc":"2.0","error":{"code":-32700,"message":)json"
            R"json("Parse error: a JSON object of more than 10000 bytes (--ingest_max_bytes)"},"id":null})json");
  shutdown(endless.fd(), SHUT_RDWR);
  FakeOpensips next(address);
  ExpectServed(next);
  ExpectServed(bystander);
}

TEST(StreamIngest, AnObjectOfTheLargestSizePassesAndOneByteMoreDoesNot) {
  World world;
  IngestOptions options;
  options.max_object_bytes = 10000;
  const std::string address = world.Listen({kAny}, options);
  const std::string head = R"({"id":1,"jsonrpc":"2.0","method":"E","params":[")", tail = R"("]})";
  FakeOpensips opensips(address);
  ASSERT_TRUE(opensips.Send(head + std::string(10000 - head.size() - tail.size(), 'x') + tail));
  EXPECT_EQ(opensips.Answer(), Accepted(1));
  ASSERT_TRUE(opensips.Send(head + std::string(10001 - head.size() - tail.size(), 'x') + tail));
  EXPECT_TRUE(absl::StrContains(opensips.Answer(), "10000"));
  EXPECT_TRUE(opensips.Ended());
  EXPECT_EQ(world.transport->Received(1).size(), 1u);
}

TEST(StreamIngest, WhatCannotBeFramedEndsTheConnectionBehindTheAnswersBeforeIt) {
  World world;
  const std::string address = world.Listen({kAny});
  FakeOpensips bystander(address);
  ExpectServed(bystander);
  for (const char* garbage : {"x", "]", "GET / HTTP/1.1\r\n\r\n", "\"{\""}) {
    FakeOpensips opensips(address);
    ASSERT_TRUE(opensips.Send(absl::StrCat(Request(0), Request(1), garbage, Request(2))));
    const std::vector<std::string> answers = opensips.AnswersToTheEnd();
    ASSERT_EQ(answers.size(), 3u) << garbage;
    EXPECT_EQ(FakeOpensips::Unpadded(answers[1]), Accepted(1));
    EXPECT_TRUE(absl::StrContains(answers[2], "must begin with '{'")) << answers[2];
    ExpectServed(bystander);
  }
}

TEST(StreamIngest, APeerThatResetsInTheMiddleHarmsNobody) {
  World world;
  const std::string address = world.Listen({kAny});
  FakeOpensips bystander(address);
  for (int i = 0; i < 20; ++i) {
    FakeOpensips rude(address);
    ASSERT_TRUE(rude.Send(Joined(Requests(100)) + R"({"id":100,)"));
    const linger reset = {1, 0};
    setsockopt(rude.fd(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  }
  ExpectServed(bystander);
}

TEST(StreamIngest, APeerThatReadsNoAnswersIsReadNoFurtherAndLosesNone) {
  World world;
  const std::string address = world.Listen({kAny});
  FakeOpensips bystander(address), deaf(address, 16 << 10);
  const int small = 16 << 10;
  setsockopt(deaf.fd(), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
  const std::string filling(4000, 'x');
  std::string rest;  // of the request that is being sent
  int begun = 0;
  size_t sent = 0;
  // As long as it is read from it sends. Each answer to the bystander is a turn of the loop in which it was not.
  for (int quiet = 0; quiet < 50;) {
    ASSERT_LT(sent, size_t{64} << 20) << "is read without end";
    if (rest.empty()) {
      rest = absl::StrCat(R"({"id":)", begun++, R"(,"jsonrpc":"2.0","method":"E","params":[")", filling, R"("]})");
    }
    const ssize_t some = send(deaf.fd(), rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (some >= 0) {
      rest.erase(0, some);
      sent += some;
      quiet = 0;
    } else {
      ASSERT_EQ(errno, EAGAIN);
      ExpectServed(bystander);
      ++quiet;
    }
  }
  std::thread writer([&] { EXPECT_TRUE(deaf.Send(rest)); });
  const std::vector<std::string> answers = deaf.ReassembledAnswers(begun);  // the first was a lone and short one
  writer.join();
  ExpectAccepted(answers);
  ExpectServed(deaf);
}

TEST(StreamIngest, APeerThatHasNothingMoreToSendGetsItsAnswers) {
  World world;
  const std::string address = world.Listen({kAny});
  // With one of these sizes what lies between us is full, and the service itself holds the last answers at the end.
  for (int count = 1; count <= 2000; count += 40) {
    FakeOpensips opensips(address, 16 << 10);
    ASSERT_TRUE(opensips.Send(Joined(Requests(count))));
    ASSERT_EQ(shutdown(opensips.fd(), SHUT_WR), 0);
    for (int i = 0; i < 5; ++i) OnLoop(world.ingest_loop, [] {});
    const std::vector<std::string> answers = opensips.AnswersToTheEnd();
    ASSERT_EQ(answers.size(), static_cast<size_t>(count));
    ExpectAccepted(answers);
  }
}

TEST(StreamIngest, HalfAnObjectAtTheEndIsNoEvent) {
  World world;
  FakeOpensips opensips(world.Listen({kAny}));
  ASSERT_TRUE(opensips.Send(Request(0) + Request(1).substr(0, 30)));
  ASSERT_EQ(shutdown(opensips.fd(), SHUT_WR), 0);
  const std::vector<std::string> answers = opensips.AnswersToTheEnd();
  ASSERT_EQ(answers.size(), 1u);
  ExpectAccepted(answers);
  EXPECT_EQ(world.accepted(), 1u);
}

// A loop that does what it is given when it is told to.
class ParkingLoop final : public Loop {
 public:
  absl::Time Now() const override { return absl::UnixEpoch(); }
  bool OnLoop() const override { return false; }
  void Post(absl::AnyInvocable<void() &&> task) override {
    MutexLock lock(&mutex_);
    parked_.push_back(std::move(task));
  }
  std::unique_ptr<Timer> NewTimer(absl::AnyInvocable<void()>) override { return nullptr; }
  std::unique_ptr<Watch> NewWatch(int, absl::AnyInvocable<void(Readiness)>) override { return nullptr; }

  // Waits until there is something.
  void Release() {
    std::vector<absl::AnyInvocable<void() &&>> tasks;
    const absl::Time give_up = absl::Now() + kPatience;
    while (tasks.empty() && absl::Now() < give_up) {
      MutexLock lock(&mutex_);
      tasks.swap(parked_);
    }
    ASSERT_FALSE(tasks.empty());
    for (absl::AnyInvocable<void() &&>& task : tasks) std::move(task)();
  }

 private:
  Mutex mutex_;
  std::vector<absl::AnyInvocable<void() &&>> parked_ ABSL_GUARDED_BY(mutex_);
};

TEST(StreamIngest, UnderLoadMoreIsTakenWhenTheLoopsHaveDoneWhatTheyHadAndNothingIsLost) {
  ParkingLoop busy;
  SimulatedLoop looking;
  Load load({&busy}, [] { return 1000; });
  load.Start(looking);
  load.OnBusy();
  looking.Advance(absl::Seconds(1));  // the task that was sent around is still out
  busy.Release();
  ASSERT_TRUE(load.Paces());

  World world;
  IngestOptions options;
  options.load = &load;
  FakeOpensips opensips(world.Listen({kAny}, options));
  std::string sent;
  for (int n = 0; n < 150; ++n) sent += Notification(n);
  ASSERT_TRUE(opensips.Send(sent));
  ASSERT_EQ(shutdown(opensips.fd(), SHUT_WR), 0);
  ASSERT_EQ(world.transport->Received(64).size(), 64u);
  busy.Release();
  ASSERT_EQ(world.transport->Received(128).size(), 128u);
  EXPECT_EQ(world.ingest->counts(Ingest::kTcp).accepted, 128u);
  busy.Release();
  ExpectEvents(world, 150);
  EXPECT_TRUE(opensips.Ended());
  load.Stop();
}

TEST(StreamIngest, OnePeerDoesNotTakeAllConnections) {
  World world;
  IngestOptions options;
  options.max_connections_per_peer = 3;
  const std::string address = world.Listen({kAny}, options);
  std::deque<FakeOpensips> peers;
  for (int i = 0; i < 3; ++i) peers.emplace_back(address);
  for (FakeOpensips& peer : peers) ExpectServed(peer);
  FakeOpensips refused(address);
  EXPECT_TRUE(refused.Ended());
  FakeOpensips other(address, 0, /*from_another_address=*/true);
  ExpectServed(other);
  EXPECT_EQ(world.ingest->counts(Ingest::kTcp).turned_away, 1u);
}

TEST(StreamIngest, OneConnectionTooManyIsRefusedUntilAnotherEnds) {
  World world;
  IngestOptions options;
  options.max_connections = 100;
  const std::string address = world.Listen({kAny}, options);
  std::deque<FakeOpensips> peers;
  for (int i = 0; i < 100; ++i) peers.emplace_back(address);
  ExpectServed(peers.back());
  {
    FakeOpensips refused(address);
    EXPECT_TRUE(refused.Ended());
  }
  ExpectServed(peers.front());
  ExpectServed(peers.back());
  peers.pop_front();
  const absl::Time give_up = absl::Now() + kPatience;
  while (true) {  // its end may be noticed after the next one has come
    ASSERT_LT(absl::Now(), give_up);
    FakeOpensips next(address);
    next.Send(Request(1));
    char first;
    if (recv(next.fd(), &first, 1, 0) == 1) break;
  }
}

TEST(StreamIngest, WithoutDescriptorsItTurnsAwayAndAcceptsAgainAtOnce) {
  World world;
  const std::string address = world.Listen({kAny});
  FakeOpensips bystander(address);
  ExpectServed(bystander);
  Peer newcomer(AF_INET, SOCK_STREAM);
  const sockaddr_in in = Internet(address);

  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(next, 0);
  close(next);
  rlimit none = before;
  none.rlim_cur = next;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  EXPECT_LT(open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
  EXPECT_EQ(connect(newcomer.fd(), reinterpret_cast<const sockaddr*>(&in), sizeof(in)), 0) << strerror(errno);
  char first = 0;
  EXPECT_EQ(recv(newcomer.fd(), &first, 1, 0), 0) << "it is told, so that it can go elsewhere";
  for (int i = 0; i < 10; ++i) ExpectServed(bystander);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);

  FakeOpensips another(address);
  ExpectServed(another);
}

TEST(StreamIngest, WhatWasTakenBeforeTheStopIsAnsweredAndNothingElseIs) {
  World world;
  const std::string address = world.Listen({kAny});
  // Buffers so small that the stop finds answers which nobody has read yet.
  FakeOpensips opensips(address, 16 << 10);
  const std::string burst = Joined(Requests(20000));
  std::thread writer([&] { (void)opensips.Send(burst); });  // ends early when the service does
  ASSERT_GE(world.transport->Received(50).size(), 50u);
  std::vector<std::string> answers;
  std::thread reader([&] { answers = opensips.AnswersToTheEnd(); });
  const absl::Time begin = absl::Now();
  world.ingest->Stop();
  EXPECT_LT(absl::Now() - begin, kPatience);
  reader.join();
  shutdown(opensips.fd(), SHUT_RDWR);
  writer.join();
  ASSERT_TRUE(world.dispatcher.AwaitIdle(kPatience));
  EXPECT_LT(answers.size(), 20000u);  // or it was no stop in the middle
  EXPECT_EQ(answers.size(), world.accepted());
  ExpectAccepted(answers);
}

TEST(StreamIngest, AStopDoesNotWaitForAPeerThatReadsNothing) {
  World world;
  FakeOpensips idle(world.Listen({kAny})), deaf(world.ingest->addresses()[0], 16 << 10);
  ExpectServed(idle);
  std::thread writer([&] { (void)deaf.Send(Joined(Requests(100000))); });
  ASSERT_GE(world.transport->Received(50).size(), 50u);
  const absl::Time begin = absl::Now();
  world.ingest->Stop();
  EXPECT_LT(absl::Now() - begin, kPatience);
  EXPECT_TRUE(idle.Ended());
  shutdown(deaf.fd(), SHUT_RDWR);
  writer.join();
  world.ingest->Stop();  // a second one does nothing
}

TEST(StreamIngest, AStoppedAddressIsFree) {
  World world;
  const std::string address = world.Listen({kAny});
  {
    FakeOpensips opensips(address);
    ExpectServed(opensips);
    world.ingest->Stop();
  }
  EXPECT_EQ(world.Listen({address}), address);
  FakeOpensips opensips(address);
  ExpectServed(opensips);
}

TEST(IngestAddress, AnAddressThatCannotBeIsNamed) {
  World world;
  for (const std::string& address :
       {std::string(""), std::string("127.0.0.1:5060"), std::string("http:127.0.0.1:5060"), std::string("tcp:"),
        std::string("tcp:127.0.0.1"), std::string("tcp:127.0.0.1:"), std::string("tcp:127.0.0.1:99999"),
        std::string("tcp:127.0.0.1:x"), std::string("tcp:localhost:5060"), std::string("udp:256.0.0.1:5060"),
        std::string("udp:127.0.0.1:-1"), std::string("unix:"), std::string("unix:relative"),
        "unix:/" + std::string(107, 'x')}) {
    IngestOptions options;
    options.addresses = {kAny, address};
    const auto refused = Ingest::Listen(options, world.ingest_loop, world.dispatcher);
    ASSERT_FALSE(refused.ok()) << address;
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument) << address;
    EXPECT_TRUE(absl::StrContains(refused.status().message(), absl::StrCat("\"", address, "\"")))
        << std::string(refused.status().message());
  }
}

TEST(IngestAddress, OneThatOtherHostsReachIsForWhoAsksForIt) {
  World world;
  for (const std::string address : {"tcp:0.0.0.0:0", "udp:0.0.0.0:0", "tcp:[::]:0"}) {
    IngestOptions options;
    options.addresses = {address};
    const auto refused = Ingest::Listen(options, world.ingest_loop, world.dispatcher);
    ASSERT_FALSE(refused.ok()) << address;
    EXPECT_TRUE(absl::StrContains(refused.status().message(), "--ingest_off_host"))
        << std::string(refused.status().message());
  }
}

TEST(IngestAddress, AnAddressThatCannotBeHadIsNamedAndTheOthersAreGivenBack) {
  World world;
  const std::string taken = world.Listen({kAny});
  std::string free_again;
  {
    World other;
    free_again = other.Listen({kAny});
  }
  for (const std::string& address : {taken, std::string("tcp:192.0.2.1:5060"), std::string("unix:/no/such/dir/s")}) {
    IngestOptions options;
    options.addresses = {free_again, address};
    options.off_host = true;
    const auto refused = Ingest::Listen(options, world.ingest_loop, world.dispatcher);
    ASSERT_FALSE(refused.ok()) << address;
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable) << address;
    EXPECT_TRUE(absl::StrContains(refused.status().message(), absl::StrCat("\"", address, "\": ")))
        << std::string(refused.status().message());
  }
  FakeOpensips opensips(taken);
  ExpectServed(opensips);
}

}  // namespace
}  // namespace eventvirtual
