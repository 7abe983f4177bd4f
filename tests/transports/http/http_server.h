// HttpServer: an HTTP/1.1 server on a loopback port that answers what a test says, byte for byte, or not at all.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_HTTP_HTTP_SERVER_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_HTTP_HTTP_SERVER_H_

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/loopback_listener.h"
#include "tests/transports/io/on_loop.h"
#include "transports/api/mutex.h"
#include "transports/io/event_loop.h"

namespace eventvirtual {

struct HttpRequest {
  std::string line;  // "POST /path HTTP/1.1"
  std::string head;  // the whole of it
  std::string body;
  int connection = 0;  // they count from 1

  // The value of a header, by its name in lower case; nothing if it is not there.
  std::optional<std::string> Header(absl::string_view name) const {
    for (absl::string_view field : absl::StrSplit(head, "\r\n")) {
      const std::pair<absl::string_view, absl::string_view> cut = absl::StrSplit(field, absl::MaxSplits(':', 1));
      if (absl::AsciiStrToLower(cut.first) == name) return std::string(absl::StripAsciiWhitespace(cut.second));
    }
    return std::nullopt;
  }
};

struct HttpAnswer {
  std::string bytes;  // "": none, for ever
  enum class Then { kKeep, kClose, kReset } then = Then::kKeep;
};

inline HttpAnswer Answer(absl::string_view status, absl::string_view body = "", absl::string_view headers = "") {
  return {absl::StrCat("HTTP/1.1 ", status, "\r\nContent-Length: ", body.size(), "\r\n", headers, "\r\n", body)};
}

// Methods are for the test's thread and have taken effect when they return.
class HttpServer {
 public:
  // `on_request` runs on the server's loop; the request has been recorded before.
  explicit HttpServer(std::function<HttpAnswer(const HttpRequest&)> on_request) : on_request_(std::move(on_request)) {
    Start();
  }
  // Answers all alike.
  explicit HttpServer(HttpAnswer answer) : HttpServer([answer](const HttpRequest&) { return answer; }) {}
  ~HttpServer() { Stop(); }

  uint16_t port() const { return port_; }
  std::string Url(absl::string_view rest) const { return absl::StrCat("http://127.0.0.1:", port_, rest); }

  void Start() {
    OnLoop(loop_, [this] {
      listener_ = std::make_unique<LoopbackListener>(loop_, port_, [this](int fd) { Watch(*NewConnection(fd)); });
      port_ = listener_->port();
    });
  }
  void Stop() {
    OnLoop(loop_, [this] {
      connections_.clear();
      listener_.reset();
    });
  }
  void SetStalled(bool stalled) {
    OnLoop(loop_, [this, stalled] {
      stalled_ = stalled;
      for (auto& connection : connections_) Watch(*connection);
    });
  }
  // Closes the connections and goes on listening.
  void CloseConnections() {
    OnLoop(loop_, [this] { connections_.clear(); });
  }

  std::optional<HttpRequest> Receive(absl::Duration patience) {
    const absl::Time give_up = absl::Now() + patience;
    MutexLock lock(&mutex_);
    while (received_.empty() && absl::Now() < give_up) changed_.WaitFor(&mutex_, give_up - absl::Now());
    if (received_.empty()) return std::nullopt;
    HttpRequest request = std::move(received_.front());
    received_.pop_front();
    return request;
  }
  // So many connections have been accepted since the server was made.
  int accepted() {
    int count = 0;
    OnLoop(loop_, [&] { count = accepted_; });
    return count;
  }
  // Bytes of answers that have been taken from us.
  size_t written() {
    size_t count = 0;
    OnLoop(loop_, [&] { count = written_; });
    return count;
  }

 private:
  struct Connection {
    Connection(int fd, int number) : fd(fd), number(number) {}
    ~Connection() {
      watch.reset();
      close(fd);
    }
    const int fd;
    const int number;
    std::unique_ptr<Loop::Watch> watch;
    std::string in, out;
    HttpAnswer::Then then = HttpAnswer::Then::kKeep;
  };

  Connection* NewConnection(int fd) {
    return connections_.emplace_back(std::make_unique<Connection>(fd, ++accepted_)).get();
  }

  void Watch(Connection& connection) {
    connection.watch.reset();
    if (stalled_) return;
    connection.watch = loop_.NewWatch(connection.fd, [this, &connection](Loop::Readiness ready) {
      if (ready.writable && !Write(connection)) return;
      if (ready.readable) Read(connection);
    });
    connection.watch->Want({.readable = true, .writable = !connection.out.empty()});
  }

  void Remove(Connection& connection) {
    connections_.remove_if([&](const auto& other) { return other.get() == &connection; });
  }

  void Read(Connection& connection) {
    char bytes[64 << 10];
    const ssize_t got = recv(connection.fd, bytes, sizeof(bytes), 0);
    if (got <= 0) return Remove(connection);
    connection.in.append(bytes, got);
    while (true) {
      const size_t end = connection.in.find("\r\n\r\n");
      if (end == std::string::npos) return;
      HttpRequest request;
      request.head = connection.in.substr(0, end);
      request.line = request.head.substr(0, request.head.find("\r\n"));
      request.connection = connection.number;
      size_t size = 0;
      EXPECT_TRUE(absl::SimpleAtoi(request.Header("content-length").value_or("0"), &size)) << request.head;
      if (connection.in.size() < end + 4 + size) return;
      request.body = connection.in.substr(end + 4, size);
      connection.in.erase(0, end + 4 + size);
      {
        MutexLock lock(&mutex_);
        received_.push_back(request);
        changed_.SignalAll();
      }
      HttpAnswer answer = on_request_(request);
      connection.out += answer.bytes;
      connection.then = answer.then;
      if (!Write(connection)) return;
    }
  }

  // False: the connection has gone.
  bool Write(Connection& connection) {
    while (!connection.out.empty()) {
      const ssize_t sent = send(connection.fd, connection.out.data(), connection.out.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EAGAIN) break;
      if (sent < 0) return Remove(connection), false;
      written_ += sent;
      connection.out.erase(0, sent);
    }
    if (connection.out.empty() && connection.then != HttpAnswer::Then::kKeep) {
      const linger at_once = {.l_onoff = 1, .l_linger = 0};
      if (connection.then == HttpAnswer::Then::kReset) {
        setsockopt(connection.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
      }
      return Remove(connection), false;
    }
    connection.watch->Want({.readable = true, .writable = !connection.out.empty()});
    return true;
  }

  const std::function<HttpAnswer(const HttpRequest&)> on_request_;
  uint16_t port_ = 0;
  Mutex mutex_;
  CondVar changed_;
  std::deque<HttpRequest> received_ ABSL_GUARDED_BY(mutex_);
  // On the loop.
  bool stalled_ = false;
  int accepted_ = 0;
  size_t written_ = 0;
  std::unique_ptr<LoopbackListener> listener_;
  std::list<std::unique_ptr<Connection>> connections_;
  EventLoop loop_{"http-server"};  // the last member: nothing runs on it any more when the others go
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_HTTP_HTTP_SERVER_H_
