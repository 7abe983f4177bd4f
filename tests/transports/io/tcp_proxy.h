// TcpProxy: stands before a real server, so that a test can cut and stall what it cannot ask the server for.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_IO_TCP_PROXY_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_IO_TCP_PROXY_H_

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <utility>

#include "tests/transports/io/loopback_listener.h"
#include "tests/transports/io/on_loop.h"
#include "transports/io/event_loop.h"

namespace eventvirtual {

// Passes bytes on between 127.0.0.1:port() and 127.0.0.1:`server_port`. Methods are for the test's thread and have
// taken effect when they return. Holds at most 64 KiB of each direction of each connection.
class TcpProxy {
 public:
  explicit TcpProxy(uint16_t server_port) : server_port_(server_port) { Start(); }
  ~TcpProxy() { Stop(); }

  uint16_t port() const { return port_; }

  void Start() {
    OnLoop(loop_, [this] {
      listener_ = std::make_unique<LoopbackListener>(loop_, port_, [this](int client) { Accept(client); });
      port_ = listener_->port();
    });
  }
  // Refuses new connections and breaks those that exist. Bytes that are on their way are lost.
  void Stop() {
    OnLoop(loop_, [this] {
      connections_.clear();
      listener_.reset();
    });
  }
  // Neither reads nor writes; connections are still accepted, by the kernel.
  void Stall() {
    OnLoop(loop_, [this] {
      stalled_ = true;
      if (listener_ != nullptr) listener_->Pause(true);
      for (Connection& connection : connections_) connection.Unwatch();
    });
  }
  void Resume() {
    OnLoop(loop_, [this] {
      if (!std::exchange(stalled_, false) || listener_ == nullptr) return;
      listener_->Pause(false);
      // One that ended meanwhile leaves the list.
      for (auto next = connections_.begin(); next != connections_.end();) Watch(*next++);
    });
  }

 private:
  struct Side {
    int fd = -1;
    std::unique_ptr<Loop::Watch> watch;
    std::string bytes;  // read from it, not yet written to the other side
  };
  struct Connection {
    Side sides[2];
    void Unwatch() {
      for (Side& side : sides) side.watch.reset();
    }
    ~Connection() {
      Unwatch();
      for (const Side& side : sides) close(side.fd);
    }
  };

  void Accept(int client) {
    const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = LoopbackAddress(server_port_);
    if (connect(server, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
      close(server);
      close(client);
      return;
    }
    Connection& connection = connections_.emplace_back();
    connection.sides[0].fd = client;
    connection.sides[1].fd = server;
    Watch(connection);
  }

  void Watch(Connection& connection) {
    for (int i : {0, 1}) {
      connection.sides[i].watch =
          loop_.NewWatch(connection.sides[i].fd, [this, &connection](Loop::Readiness) { Pass(connection); });
    }
    Pass(connection);
  }

  // Moves what can be moved, both ways; ends the connection when either side has.
  void Pass(Connection& connection) {
    for (int i : {0, 1}) {
      Side& from = connection.sides[i];
      Side& to = connection.sides[1 - i];
      if (from.bytes.empty()) {
        char buffer[64 << 10];
        const ssize_t got = recv(from.fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN)) return Remove(connection);
        if (got > 0) from.bytes.assign(buffer, got);
      }
      if (!from.bytes.empty()) {
        const ssize_t sent = send(to.fd, from.bytes.data(), from.bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return Remove(connection);
        if (sent > 0) from.bytes.erase(0, sent);
      }
    }
    for (int i : {0, 1}) {
      connection.sides[i].watch->Want(
          {.readable = connection.sides[i].bytes.empty(), .writable = !connection.sides[1 - i].bytes.empty()});
    }
  }

  void Remove(Connection& connection) {
    connections_.remove_if([&](const Connection& other) { return &other == &connection; });
  }

  const uint16_t server_port_;
  uint16_t port_ = 0;
  // On the loop.
  bool stalled_ = false;
  std::unique_ptr<LoopbackListener> listener_;
  std::list<Connection> connections_;
  EventLoop loop_{"proxy"};  // the last member: nothing runs on it any more when the others go
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_IO_TCP_PROXY_H_
