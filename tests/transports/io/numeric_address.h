// A socket address from its text, for tests.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_IO_NUMERIC_ADDRESS_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_IO_NUMERIC_ADDRESS_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "gtest/gtest.h"

namespace eventvirtual {

// `host` is a number, of IPv4 or IPv6; anything else fails the test.
inline sockaddr_storage At(const std::string& host, uint16_t port = 80) {
  sockaddr_storage storage = {};
  auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
  if (inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
  } else {
    EXPECT_EQ(inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr), 1) << host;
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
  }
  return storage;
}

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_IO_NUMERIC_ADDRESS_H_
