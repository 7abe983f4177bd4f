// What a policy of destinations allows, said a second time: slowly, bit by bit, and with tables of its own.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_IO_DESTINATION_REFERENCE_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_IO_DESTINATION_REFERENCE_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace eventvirtual {

class DestinationReference {
 public:
  // `file` is one that DestinationPolicy::Parse() takes.
  explicit DestinationReference(const std::string& file) {
    std::istringstream lines(file);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line.substr(0, line.find('#')));
      std::string kind, network;
      if (!(words >> kind >> network) || kind != "network") continue;
      std::vector<std::pair<long, long>> ports;
      for (std::string port; words >> port;) {
        const size_t dash = port.find('-');
        const long first = std::atol(port.c_str());
        ports.emplace_back(first, dash == std::string::npos ? first : std::atol(port.c_str() + dash + 1));
      }
      if (ports.empty()) ports.emplace_back(0, 65535);
      for (const std::string& bits : PrefixesOf(network)) rules_.emplace_back(bits, ports);
    }
  }

  bool Allows(const sockaddr& address) const {
    std::string bits;
    long port = 0;
    if (address.sa_family == AF_INET) {
      bits = "4" + Bits(&reinterpret_cast<const sockaddr_in&>(address).sin_addr, 4);
      port = ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
    } else if (address.sa_family == AF_INET6) {
      bits = "6" + Bits(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr, 16);
      port = ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
    } else {
      return false;
    }
    // The two prefixes behind which an address of IPv4 stands as it is.
    for (const char* prefix : {"::ffff:0:0/96", "64:ff9b::/96"}) {
      if (Begins(bits, Prefix(prefix))) bits = "4" + bits.substr(1 + 96);
    }
    if (bits != Prefix("::1/128")) {
      for (const char* never :
           {"0.0.0.0/8", "169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32", "224.0.0.0/3",
            "::/96", "fe80::/10", "ff00::/8", "fd00:ec2::/32", "fd20:ce::254/128", "fd00:42::42/128",
            "0:0:0:0:ffff::/96", "64:ff9b:1::/48", "2001:0::/32", "2002::/16"}) {
        if (Begins(bits, Prefix(never))) return false;
      }
    }
    for (const auto& [prefix, ports] : rules_) {
      if (!Begins(bits, prefix)) continue;
      for (const auto& [first, last] : ports) {
        if (first <= port && port <= last) return true;
      }
    }
    return false;
  }

 private:
  static bool Begins(const std::string& bits, const std::string& prefix) {
    if (prefix.size() > bits.size()) return false;
    for (size_t i = 0; i < prefix.size(); ++i) {
      if (bits[i] != prefix[i]) return false;
    }
    return true;
  }

  static std::string Bits(const void* bytes, size_t count) {
    std::string bits;
    for (size_t i = 0; i < count * 8; ++i) {
      bits += (static_cast<const uint8_t*>(bytes)[i / 8] >> (7 - i % 8)) & 1 ? '1' : '0';
    }
    return bits;
  }

  // The family, and a '0' or '1' for each bit.
  static std::string Prefix(const std::string& network) {
    const size_t slash = network.find('/');
    const std::string address = network.substr(0, slash);
    uint8_t bytes[16] = {};
    const bool v4 = address.find(':') == std::string::npos;
    if (inet_pton(v4 ? AF_INET : AF_INET6, address.c_str(), bytes) != 1) std::abort();
    const std::string bits = Bits(bytes, v4 ? 4 : 16);
    return (v4 ? "4" : "6") +
           bits.substr(0, slash == std::string::npos ? bits.size() : std::atol(network.c_str() + slash + 1));
  }

  static std::vector<std::string> PrefixesOf(const std::string& word) {
    if (word == "any") return {"4", "6"};
    if (word == "loopback") return {Prefix("127.0.0.0/8"), Prefix("::1")};
    if (word == "private") {
      return {Prefix("10.0.0.0/8"), Prefix("172.16.0.0/12"), Prefix("192.168.0.0/16"), Prefix("fc00::/7")};
    }
    return {Prefix(word)};
  }

  std::vector<std::pair<std::string, std::vector<std::pair<long, long>>>> rules_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_IO_DESTINATION_REFERENCE_H_
