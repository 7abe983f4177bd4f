#include "client/listen_udp.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"

namespace eventvirtual {

absl::Status ListenUdp(const std::string& address, int count) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("\"", address, "\" is not host:port, such as 127.0.0.1:8081"));
  }
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found); error != 0) {
    return absl::InvalidArgumentError(absl::StrCat("\"", address, "\": ", gai_strerror(error)));
  }
  const int fd = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const bool bound = fd >= 0 && bind(fd, found->ai_addr, found->ai_addrlen) == 0;
  const int error = errno;
  freeaddrinfo(found);
  if (!bound) return absl::UnavailableError(absl::StrCat("cannot bind ", address, ": ", std::strerror(error)));

  sockaddr_storage local = {};
  socklen_t length = sizeof(local);
  getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length);
  char port[16] = "";
  getnameinfo(reinterpret_cast<sockaddr*>(&local), length, nullptr, 0, port, sizeof(port), NI_NUMERICSERV | NI_DGRAM);
  std::fprintf(stderr, "listening on udp:%s:%s\n", address.substr(0, colon).c_str(), port);
  std::fflush(stderr);

  std::vector<char> datagram(65536);
  for (int seen = 0; count == 0 || seen < count; ++seen) {
    const ssize_t got = recv(fd, datagram.data(), datagram.size(), 0);
    if (got < 0) return absl::UnavailableError(absl::StrCat("cannot receive: ", std::strerror(errno)));
    std::fwrite(datagram.data(), 1, got, stdout);
    std::fputc('\n', stdout);
    std::fflush(stdout);
  }
  close(fd);
  return absl::OkStatus();
}

}  // namespace eventvirtual
