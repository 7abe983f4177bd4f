// FakeNameServer: answers DNS questions on a free UDP port of 127.0.0.1, as a test says.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_IO_FAKE_NAME_SERVER_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_IO_FAKE_NAME_SERVER_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace eventvirtual {

class FakeNameServer {
 public:
  struct Answer {
    std::vector<std::string> addresses;  // IPv4 and IPv6, told apart by their ':'
    bool silent = false;                 // the question is taken and never answered
    absl::Duration delay;
  };

  // Names that are not among `answers` do not exist (NXDOMAIN).
  explicit FakeNameServer(std::map<std::string, Answer> answers) : answers_(std::move(answers)) {
    fd_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length), 0);
    address_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
    thread_ = std::thread([this] { Run(); });
  }
  ~FakeNameServer() {
    const uint64_t one = 1;
    EXPECT_EQ(write(stop_fd_, &one, sizeof(one)), ssize_t(sizeof(one)));
    thread_.join();
    close(fd_);
    close(stop_fd_);
  }

  const std::string& address() const { return address_; }  // "127.0.0.1:port"
  int questions() const { return questions_; }

 private:
  void Run() {
    while (true) {
      pollfd ready[] = {{fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
      poll(ready, 2, -1);
      if (ready[1].revents != 0) return;
      char question[512];
      sockaddr_in from = {};
      socklen_t length = sizeof(from);
      const ssize_t size = recvfrom(fd_, question, sizeof(question), 0, reinterpret_cast<sockaddr*>(&from), &length);
      if (size < 17) continue;
      const std::string reply = Reply(std::string(question, size));
      if (!reply.empty()) sendto(fd_, reply.data(), reply.size(), 0, reinterpret_cast<sockaddr*>(&from), length);
    }
  }

  // RFC 1035 section 4.1. Empty: nothing is said.
  std::string Reply(const std::string& question) {
    ++questions_;
    std::string name;
    size_t at = 12;
    while (at < question.size() && question[at] != 0) {
      const size_t label = static_cast<unsigned char>(question[at]);
      absl::StrAppend(&name, name.empty() ? "" : ".", question.substr(at + 1, label));
      at += 1 + label;
    }
    const bool v6 = question[at + 2] == 28;  // AAAA; A is 1
    const auto found = answers_.find(name);
    std::string records;
    int count = 0;
    if (found != answers_.end()) {
      if (found->second.silent) return "";
      absl::SleepFor(found->second.delay);
      for (const std::string& address : found->second.addresses) {
        if (v6 != (address.find(':') != std::string::npos)) continue;
        char bytes[16];
        EXPECT_EQ(inet_pton(v6 ? AF_INET6 : AF_INET, address.c_str(), bytes), 1) << address;
        const size_t size = v6 ? 16 : 4;
        records += {'\xc0', 12, 0, v6 ? char{28} : char{1}, 0, 1, 0, 0, 0, 60, 0, static_cast<char>(size)};
        records.append(bytes, size);
        ++count;
      }
    }
    std::string reply = question.substr(0, 2);  // its id
    reply += {'\x81', found == answers_.end() ? '\x83' : '\x80', 0, 1, 0, static_cast<char>(count), 0, 0, 0, 0};
    reply += question.substr(12, at + 5 - 12);
    return reply + records;
  }

  const std::map<std::string, Answer> answers_;
  std::string address_;
  int fd_;
  const int stop_fd_ = eventfd(0, EFD_CLOEXEC);
  std::atomic<int> questions_ = 0;
  std::thread thread_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_IO_FAKE_NAME_SERVER_H_
