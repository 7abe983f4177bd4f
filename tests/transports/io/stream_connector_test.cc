#include "transports/io/stream_connector.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/fake_name_server.h"
#include "tests/transports/io/on_loop.h"
#include "transports/io/event_loop.h"
#include "transports/io/self_connection.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A TCP socket bound to a free port of an address of this host.
class Listener {
 public:
  enum Backlog { kNotListening = -1, kNone = 0, kSome = 16 };

  explicit Listener(const char* host, Backlog backlog = kSome) {
    sockaddr_in address = {.sin_family = AF_INET};
    EXPECT_EQ(inet_pton(AF_INET, host, &address.sin_addr), 1);
    socklen_t length = sizeof(address);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
    if (backlog != kNotListening) {
      EXPECT_EQ(listen(fd_, backlog), 0);
    }
  }
  ~Listener() { close(fd_); }
  uint16_t port() const { return port_; }
  int fd() const { return fd_; }

 private:
  const int fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  uint16_t port_ = 0;
};

// A connect under way, and its end.
class Attempted {
 public:
  Attempted(EventLoop& loop, const std::string& host, uint16_t port, absl::Duration timeout = kPatience,
            const std::string& name_servers = "")
      : loop_(loop) {
    OnLoop(loop_, [&] {
      connector_ = std::make_unique<StreamConnector>(
          loop_, HostPort{host, port}, timeout,
          [this](absl::StatusOr<int> fd) {
            EXPECT_NE(connector_, nullptr) << "called inside the constructor";
            result_ = std::move(fd);
            connector_.reset();  // an owner may let go inside the callback
            ended_.Set();
          },
          name_servers);
    });
  }
  ~Attempted() {
    OnLoop(loop_, [&] { connector_.reset(); });
    if (result_.ok()) close(*result_);
  }
  int Fd() {
    EXPECT_TRUE(ended_.Wait());
    EXPECT_TRUE(result_.ok()) << result_.status();
    return result_.ok() ? *result_ : -1;
  }
  std::string Error() {
    EXPECT_TRUE(ended_.Wait());
    EXPECT_EQ(result_.status().code(), absl::StatusCode::kUnavailable);
    return std::string(result_.status().message());
  }

 private:
  EventLoop& loop_;
  std::unique_ptr<StreamConnector> connector_;  // on the loop
  absl::StatusOr<int> result_ = absl::UnknownError("not yet");
  Signal ended_;
};

int Option(int fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof(value);
  EXPECT_EQ(getsockopt(fd, level, name, &value, &length), 0);
  return value;
}

TEST(StreamConnector, GivesASocketThatNoticesDeadPeers) {
  Listener listener("127.0.0.1");
  EventLoop loop("connect");
  Attempted attempt(loop, "127.0.0.1", listener.port());
  const int fd = attempt.Fd();
  EXPECT_NE(Option(fd, IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_NE(Option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
  EXPECT_EQ(Option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 10);
  EXPECT_EQ(Option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 10);
  EXPECT_EQ(Option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 3000);
  EXPECT_NE(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  const int accepted = accept(listener.fd(), nullptr, nullptr);
  EXPECT_EQ(write(fd, "hello", 5), 5);
  char text[5];
  EXPECT_EQ(recv(accepted, text, sizeof(text), MSG_WAITALL), 5);
  close(accepted);
}

TEST(StreamConnector, ARefusalNamesTheHostTheAddressAndTheReason) {
  Listener bound("127.0.0.1", Listener::kNotListening);  // holds the port, does not listen
  EventLoop loop("connect");
  EXPECT_EQ(
      Attempted(loop, "127.0.0.1", bound.port()).Error(),
      absl::StrCat("cannot connect to 127.0.0.1:", bound.port(), ": 127.0.0.1:", bound.port(), ": Connection refused"));
  FakeNameServer server({});
  EXPECT_EQ(Attempted(loop, "nowhere.example", 80, kPatience, server.address()).Error(),
            "cannot connect to nowhere.example:80: cannot look up host \"nowhere.example\": Domain name not found");
}

TEST(StreamConnector, EveryAddressOfANameIsTried) {
  FakeNameServer server({{"many.example", {{"127.0.0.2", "127.0.0.3", "127.0.0.4", "::1"}}}});
  EventLoop loop("connect");
  for (const char* host : {"127.0.0.2", "127.0.0.3", "127.0.0.4"}) {
    Listener listener(host);
    Attempted attempt(loop, "many.example", listener.port(), kPatience, server.address());
    sockaddr_in peer = {};
    socklen_t length = sizeof(peer);
    EXPECT_EQ(getpeername(attempt.Fd(), reinterpret_cast<sockaddr*>(&peer), &length), 0);
    EXPECT_STREQ(inet_ntoa(peer.sin_addr), host);
  }
}

TEST(StreamConnector, AnAddressThatDoesNotAnswerIsGivenUpInTime) {
  Listener full("127.0.0.1", Listener::kNone);
  EventLoop loop("connect");
  // Nobody accepts: what is above the backlog is dropped without a word.
  std::vector<std::unique_ptr<Attempted>> in_the_queue;
  in_the_queue.push_back(std::make_unique<Attempted>(loop, "127.0.0.1", full.port()));
  in_the_queue.back()->Fd();
  in_the_queue.push_back(std::make_unique<Attempted>(loop, "127.0.0.1", full.port(), absl::Milliseconds(300)));
  Attempted hopeless(loop, "127.0.0.1", full.port(), absl::Milliseconds(300));
  EXPECT_THAT(hopeless.Error(), AllOf(HasSubstr("cannot connect to 127.0.0.1"), HasSubstr("no answer")));
}

TEST(StreamConnector, DestroyingItCancels) {
  Listener listener("127.0.0.1");
  EventLoop loop("connect");
  for (int i = 0; i < 100; ++i) {
    OnLoop(loop, [&] {
      auto connector = std::make_unique<StreamConnector>(loop, HostPort{"127.0.0.1", listener.port()}, kPatience,
                                                         [](absl::StatusOr<int>) { ADD_FAILURE(); });
      // At once, or after the connect has begun.
      if (i % 2 == 0) {
        loop.Post([connector = std::move(connector)]() mutable { connector.reset(); });
      }
    });
  }
  OnLoop(loop, [] {});
}

TEST(SelfConnection, IsToldFromARealOne) {
  Listener listener("127.0.0.1");
  sockaddr_in address = {};
  socklen_t length = sizeof(address);
  ASSERT_EQ(getsockname(listener.fd(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  const int real = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(connect(real, reinterpret_cast<sockaddr*>(&address), length), 0);
  EXPECT_FALSE(IsSelfConnection(real));
  close(real);

  // What the kernel does by chance when it picks the port that we want to reach: a simultaneous open with ourselves.
  Listener self("127.0.0.1", Listener::kNotListening);
  ASSERT_EQ(getsockname(self.fd(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  ASSERT_EQ(connect(self.fd(), reinterpret_cast<sockaddr*>(&address), length), 0);
  EXPECT_TRUE(IsSelfConnection(self.fd()));
}

}  // namespace
}  // namespace eventvirtual
