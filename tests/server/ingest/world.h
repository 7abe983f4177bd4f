// World: an ingest on a real loop in front of a registry and a dispatcher, and the peers that feed it.
#ifndef EVENTVIRTUAL_TESTS_SERVER_INGEST_WORLD_H_
#define EVENTVIRTUAL_TESTS_SERVER_INGEST_WORLD_H_

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "server/dispatch/dispatcher.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/ingest/ingest.h"
#include "server/registry/registry.h"
#include "tests/transports/io/on_loop.h"
#include "tests/transports/io/peer.h"
#include "transports/api/catalog.h"
#include "transports/api/mutex.h"
#include "transports/io/event_loop.h"
#include "transports/io/json_framer.h"

namespace eventvirtual {

// Writes down what it is sent and reports success at once, or, parked, not before Release().
class RecordingTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override {
    static constexpr absl::string_view kSchemes[] = {"record"};
    return kSchemes;
  }
  absl::string_view syntax() const override { return "record:NAME"; }
  absl::string_view description() const override { return "Writes down what it is sent."; }
  AckLevel ack_level() const override { return AckLevel::kConfirmed; }
  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const std::string text = absl::StrCat("record:", uri.body);
    return Target{text, text, AckLevel::kConfirmed, absl::Hours(1)};
  }
  std::unique_ptr<Link> Connect(const Target&, Loop& loop, Link::Host& host) override {
    return std::make_unique<RecordingLink>(*this, loop, host);
  }

  void Park() {
    MutexLock lock(&mutex_);
    parking_ = true;
  }
  void Release() {
    std::vector<Completion> released;
    {
      MutexLock lock(&mutex_);
      parking_ = false;
      released.swap(parked_);
    }
    for (Completion& done : released) std::move(done).Finish(absl::OkStatus());
  }

  // What has come so far, once it is at least `count`; less if it does not come in time.
  std::vector<std::string> Received(size_t count) {
    const absl::Time give_up = absl::Now() + kPatience;
    MutexLock lock(&mutex_);
    while (received_.size() < count && absl::Now() < give_up) changed_.WaitFor(&mutex_, give_up - absl::Now());
    return received_;
  }

 private:
  class RecordingLink final : public Link {
   public:
    RecordingLink(RecordingTransport& transport, Loop& loop, Host& host) : transport_(transport) {
      loop.Post([&host, alive = std::weak_ptr<bool>(alive_)] {
        if (!alive.expired()) host.OnReady(1);
      });
    }
    void Send(absl::Span<Parcel> parcels) override {
      for (Parcel& parcel : parcels) transport_.Take(std::move(parcel));
    }

   private:
    RecordingTransport& transport_;
    const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  };

  void Take(Parcel parcel) {
    {
      MutexLock lock(&mutex_);
      received_.emplace_back(parcel.message->jsonrpc());
      changed_.SignalAll();
      if (parking_) return parked_.push_back(std::move(parcel.done));
    }
    std::move(parcel.done).Finish(absl::OkStatus());
  }

  Mutex mutex_;
  CondVar changed_;
  bool parking_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::string> received_ ABSL_GUARDED_BY(mutex_);
  std::vector<Completion> parked_ ABSL_GUARDED_BY(mutex_);
};

class World {
 public:
  // With a subscription to E unless told otherwise; ingest comes with Listen().
  explicit World(EndpointLimits endpoint_limits = Roomy(), RegistryLimits registry_limits = {}, bool subscribed = true)
      : catalog(Transports(&transport)),
        pool({&endpoint_loop}, endpoint_limits),
        registry(catalog, pool, endpoint_loop, std::move(registry_limits)),
        dispatcher(registry) {
    if (subscribed) Subscribe("E");
  }
  ~World() {
    ingest.reset();
    transport->Release();
    EXPECT_TRUE(dispatcher.AwaitIdle(kPatience));
    registry.Stop();
    pool.AwaitEmpty();
  }

  void Subscribe(const std::string& event) {
    SubscriptionSpec spec;
    spec.event = event;
    spec.subscribers.push_back({"record:all"});
    EXPECT_TRUE(registry.Subscribe(spec).ok());
  }

  // Gives the address of the first listener, with its port.
  std::string Listen(std::vector<std::string> addresses, IngestOptions options = {}) {
    options.addresses = std::move(addresses);
    absl::StatusOr<std::unique_ptr<Ingest>> listening = Ingest::Listen(options, ingest_loop, dispatcher);
    EXPECT_TRUE(listening.ok()) << std::string(listening.status().message());
    if (!listening.ok()) return "";
    ingest = *std::move(listening);
    return ingest->addresses()[0];
  }

  // Events that an endpoint has taken so far.
  uint64_t accepted() const {
    uint64_t accepted = 0;
    for (const EndpointPool::Listed& listed : pool.List(0, 10)) accepted += listed.stats.accepted;
    return accepted;
  }

  static EndpointLimits Roomy() {
    EndpointLimits limits;
    limits.queue_events = 1000000;
    limits.queue_bytes = uint64_t{1} << 30;
    return limits;
  }

  RecordingTransport* transport;  // of the catalog
  Catalog catalog;
  EventLoop ingest_loop{"ingest"}, endpoint_loop{"endpoints"};
  EndpointPool pool;
  Registry registry;
  Dispatcher dispatcher;
  std::unique_ptr<Ingest> ingest;

 private:
  static std::vector<std::unique_ptr<Transport>> Transports(RecordingTransport** transport) {
    std::vector<std::unique_ptr<Transport>> transports;
    auto made = std::make_unique<RecordingTransport>();
    *transport = made.get();
    transports.push_back(std::move(made));
    return transports;
  }
};

// One JSON-RPC object as OpenSIPS writes it.
inline std::string Request(int id, absl::string_view event = "E") {
  return absl::StrCat(R"({"id":)", id, R"(,"jsonrpc":"2.0","method":")", event, R"(","params":{"n":)", id, "}}");
}
inline std::string Notification(int n, absl::string_view event = "E") {
  return absl::StrCat(R"({"jsonrpc":"2.0","method":")", event, R"(","params":{"n":)", n, "}}");
}
inline std::string Accepted(int id) { return absl::StrCat(R"({"jsonrpc":"2.0","result":"OK","id":)", id, "}"); }

// Reads like OpenSIPS: at most 8192 bytes at a time, at most five answers in one read, and it gives the connection up
// when a read ends inside an answer.
class FakeOpensips : public Peer {
 public:
  explicit FakeOpensips(absl::string_view address, int receive_buffer = 0, bool from_another_address = false)
      : Peer(AF_INET, SOCK_STREAM) {
    if (from_another_address) BindToAnotherAddress();
    const int one = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (receive_buffer != 0) setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    const sockaddr_in in = Internet(address);
    EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&in), sizeof(in)), 0) << strerror(errno);
  }

  // The next `count` answers as they came; fewer, and a failure of the test, when the reader gives up or the end comes.
  std::vector<std::string> Answers(size_t count) {
    std::vector<std::string> answers;
    while (answers.size() < count && ReadOnce(&answers)) {
    }
    EXPECT_EQ(answers.size(), count);
    return answers;
  }

  // All answers until the service ends the connection.
  std::vector<std::string> AnswersToTheEnd() {
    std::vector<std::string> answers;
    while (ReadOnce(&answers)) {
    }
    return answers;
  }

  // The same as a more patient reader: answers may be cut anywhere.
  std::vector<std::string> ReassembledAnswers(size_t count) {
    std::vector<std::string> answers;
    JsonFramer framer(8192);
    while (answers.size() < count) {
      char bytes[8192];
      const ssize_t got = recv(fd_, bytes, sizeof(bytes), 0);
      if (got <= 0) break;
      framer.Append(absl::string_view(bytes, got));
      for (auto answer = framer.Next(); answer.ok() && answer->has_value(); answer = framer.Next()) {
        answers.emplace_back(**answer);
      }
    }
    EXPECT_EQ(answers.size(), count);
    return answers;
  }

  std::string Answer() {
    const std::vector<std::string> answers = Answers(1);
    return answers.empty() ? "" : Unpadded(answers[0]);
  }

  // Whether the service closes the connection, and sends nothing before.
  bool Ended() {
    char byte;
    const ssize_t got = recv(fd_, &byte, 1, 0);
    return got == 0 || (got < 0 && errno == ECONNRESET);
  }

  // Without the spaces before the closing brace.
  static std::string Unpadded(std::string answer) {
    const size_t last = answer.find_last_not_of(" }");
    const size_t space = answer.find(' ', last);
    if (space != std::string::npos) answer.erase(space, answer.size() - 1 - space);
    return answer;
  }

 private:
  // False: the connection is over.
  bool ReadOnce(std::vector<std::string>* answers) {
    char bytes[8192];
    const ssize_t got = recv(fd_, bytes, sizeof(bytes), 0);
    if (got < 0) ADD_FAILURE() << "after " << answers->size() << " answers: " << strerror(errno);
    if (got <= 0) return false;
    JsonFramer framer(sizeof(bytes));
    framer.Append(absl::string_view(bytes, got));
    ssize_t whole = 0;
    int in_this_read = 0;
    for (auto answer = framer.Next(); answer.ok() && answer->has_value(); answer = framer.Next()) {
      whole += (*answer)->size();
      answers->emplace_back(**answer);
      ++in_this_read;
    }
    if (whole == got && in_this_read <= 5) return true;
    ADD_FAILURE() << "the reader gives up: a read of " << got << " bytes with " << in_this_read << " answers, "
                  << got - whole << " bytes behind the last; " << answers->size() << " have come";
    return false;
  }
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_SERVER_INGEST_WORLD_H_
