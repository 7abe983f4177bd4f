// Peer: a client's socket on which a test waits, never longer than ten seconds.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_IO_PEER_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_IO_PEER_H_

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "tests/transports/io/on_loop.h"

namespace eventvirtual {

// Of which only the port counts: "tcp:127.0.0.1:5060".
inline sockaddr_in Internet(absl::string_view address) {
  const size_t colon = address.rfind(':');
  sockaddr_in in = {};
  in.sin_family = AF_INET;
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int port = 0;
  EXPECT_TRUE(absl::SimpleAtoi(address.substr(colon + 1), &port)) << std::string(address);
  in.sin_port = htons(port);
  return in;
}

// A blocking socket on which nothing takes longer than kPatience.
class Peer {
 public:
  Peer(int family, int type) : fd_(socket(family, type | SOCK_CLOEXEC, 0)) {
    EXPECT_GE(fd_, 0) << strerror(errno);
    const timeval patience = absl::ToTimeval(kPatience);
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  }
  ~Peer() { close(fd_); }
  Peer(const Peer&) = delete;

  // From 127.0.0.2, for who is told apart by the address. Before it connects.
  void BindToAnotherAddress() {
    sockaddr_in in = Internet(":0");
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
    EXPECT_EQ(bind(fd_, reinterpret_cast<const sockaddr*>(&in), sizeof(in)), 0) << strerror(errno);
  }

  int fd() const { return fd_; }

  bool Send(absl::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0) return false;
      bytes.remove_prefix(sent);
    }
    return true;
  }

 protected:
  const int fd_;
};

// A sender of datagrams.
class DatagramPeer : public Peer {
 public:
  explicit DatagramPeer(absl::string_view address)
      : Peer(absl::StartsWith(address, "unix:") ? AF_UNIX : AF_INET, SOCK_DGRAM) {
    if (absl::StartsWith(address, "unix:")) {
      sockaddr_un un = {};
      un.sun_family = AF_UNIX;
      std::memcpy(un.sun_path, address.data() + 5, address.size() - 5);
      EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&un), sizeof(un)), 0) << strerror(errno);
    } else {
      const sockaddr_in in = Internet(address);
      EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&in), sizeof(in)), 0) << strerror(errno);
    }
  }
  bool SendOne(absl::string_view datagram) {
    return send(fd_, datagram.data(), datagram.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(datagram.size());
  }
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_IO_PEER_H_
