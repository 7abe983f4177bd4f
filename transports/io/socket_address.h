// SocketAddress: an address of the Internet, or the path of a unix socket, as the kernel takes it.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_SOCKET_ADDRESS_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_SOCKET_ADDRESS_H_

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "transports/api/uri.h"

namespace eventvirtual {

uint16_t PortOf(const sockaddr& address);  // of one of the Internet

bool IsNumeric(const std::string& host);  // a number: IPv4, or IPv6 without brackets

struct SocketAddress {
  // Of a host that is a number; nothing of one that is a name.
  static std::optional<SocketAddress> Numeric(const HostPort& host);
  // Nothing of a path that is too long for the kernel (107 bytes, unix(7)).
  static std::optional<SocketAddress> Unix(absl::string_view path);

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  // Of the Internet alone:
  uint16_t port() const { return PortOf(*get()); }
  bool IsLoopback() const;
  std::string ToString() const;  // "127.0.0.1:80", "[::1]:80"

  sockaddr_storage storage = {};
  socklen_t length = 0;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_SOCKET_ADDRESS_H_
