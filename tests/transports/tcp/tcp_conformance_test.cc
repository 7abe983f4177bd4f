#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/loopback_listener.h"
#include "tests/transports/io/on_loop.h"
#include "transports/api/mutex.h"
#include "transports/io/event_loop.h"
#include "transports/io/json_framer.h"
#include "transports/tcp/tcp_transport.h"
#include "transports/testing/conformance.h"

namespace eventvirtual {
namespace {

// Reads notifications, or requests that it answers.
class TcpPeer final : public ConformancePeer {
 public:
  explicit TcpPeer(bool reliable) : reliable_(reliable) { Start(); }
  ~TcpPeer() override { Stop(); }

  Transport& transport() override { return *transport_; }
  std::string uri() const override {
    return absl::StrCat("tcp:127.0.0.1:", port_, reliable_ ? "?reliable=1" : "?timeout=2s");
  }
  void Start() override {
    OnLoop(loop_, [this] {
      listener_ =
          std::make_unique<LoopbackListener>(loop_, port_, [this](int fd) { Watch(connections_.emplace_back(fd)); });
      port_ = listener_->port();
    });
  }
  void Stop() override {
    OnLoop(loop_, [this] {
      connections_.clear();
      listener_.reset();
    });
  }
  Stalled stalled() const override { return reliable_ ? Stalled::kUnanswered : Stalled::kHeldBack; }
  void Stall() override { SetStalled(true); }
  void Resume() override { SetStalled(false); }

  std::optional<std::string> Receive(absl::Duration patience) override {
    const absl::Time give_up = absl::Now() + patience;
    MutexLock lock(&mutex_);
    while (received_.empty() && absl::Now() < give_up) changed_.WaitFor(&mutex_, give_up - absl::Now());
    if (received_.empty()) return std::nullopt;
    std::string text = std::move(received_.front());
    received_.pop_front();
    return text;
  }

 private:
  struct Connection {
    explicit Connection(int fd) : fd(fd) {}
    ~Connection() {
      watch.reset();
      close(fd);
    }
    const int fd;
    std::unique_ptr<Loop::Watch> watch;
    JsonFramer framer{16 << 20};
  };

  void SetStalled(bool stalled) {
    OnLoop(loop_, [this, stalled] {
      stalled_ = stalled;
      for (Connection& connection : connections_) Watch(connection);
    });
  }

  void Watch(Connection& connection) {
    connection.watch.reset();
    if (stalled_) return;
    connection.watch = loop_.NewWatch(connection.fd, [this, &connection](Loop::Readiness) { Read(connection); });
    connection.watch->Want({.readable = true, .writable = false});
  }

  void Read(Connection& connection) {
    char bytes[64 << 10];
    const ssize_t got = recv(connection.fd, bytes, sizeof(bytes), 0);
    if (got <= 0) {
      connections_.remove_if([&](const Connection& other) { return &other == &connection; });
      return;
    }
    connection.framer.Append(absl::string_view(bytes, got));
    while (true) {
      const auto object = connection.framer.Next();
      ASSERT_TRUE(object.ok()) << object.status();
      if (!object->has_value()) return;
      std::string text(**object);
      std::string answer;
      if (reliable_) {
        constexpr absl::string_view kId = R"({"id":)";
        ASSERT_EQ(text.compare(0, kId.size(), kId.data(), kId.size()), 0) << text.substr(0, 80);
        const size_t comma = text.find(',');
        answer =
            absl::StrCat(R"({"jsonrpc":"2.0","result":"OK","id":)", text.substr(kId.size(), comma - kId.size()), "}");
        text = "{" + text.substr(comma + 1);
      }
      {
        MutexLock lock(&mutex_);
        received_.push_back(std::move(text));
        changed_.SignalAll();
      }
      // The link may have gone meanwhile.
      if (reliable_) (void)!send(connection.fd, answer.data(), answer.size(), MSG_NOSIGNAL);
    }
  }

  const bool reliable_;
  const std::unique_ptr<Transport> transport_ = MakeTcpTransport();
  uint16_t port_ = 0;
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::string> received_ ABSL_GUARDED_BY(mutex_);
  // On the loop.
  bool stalled_ = false;
  std::unique_ptr<LoopbackListener> listener_;
  std::list<Connection> connections_;
  EventLoop loop_{"peer"};  // the last member: nothing runs on it any more when the others go
};

class TcpConformance : public testing::TestWithParam<ConformanceCase> {};

TEST_P(TcpConformance, HoldsForNotifications) {
  TcpPeer peer(/*reliable=*/false);
  GetParam().run(peer);
}

TEST_P(TcpConformance, HoldsForRequests) {
  TcpPeer peer(/*reliable=*/true);
  GetParam().run(peer);
}

INSTANTIATE_TEST_SUITE_P(Tcp, TcpConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

}  // namespace
}  // namespace eventvirtual
