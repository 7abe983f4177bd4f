// DestinationPolicy: whom the subscribers of this process may be. A value; it touches neither files nor the network.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_DESTINATION_POLICY_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_DESTINATION_POLICY_H_

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "transports/api/uri.h"

namespace eventvirtual {

// Immutable once it is in use: any thread. What a check refuses is PERMISSION_DENIED, and the message names the value,
// the rule and the way out.
//
// Never allowed, whatever a file says: unspecified, link-local, multicast, reserved and broadcast addresses, those at
// which clouds serve credentials, and those that stand for an IPv4 address which cannot be checked (6to4, Teredo, …).
// An IPv4 address in an IPv6 one (::ffff:a.b.c.d, or 64:ff9b::a.b.c.d of NAT64, RFC 6052) is judged as what it is.
class DestinationPolicy {
 public:
  // Without a file: every scheme; loopback (127.0.0.0/8, ::1) and private networks (RFC 1918, RFC 4193) with all ports;
  // no directory.
  static DestinationPolicy Default();

  // What a file allows, and nothing else. One rule a line, words parted by blanks, '#' begins a comment:
  //
  //   scheme NAME…              without such a line: every scheme
  //   network NETWORK [PORT…]   NETWORK: 10.0.0.0/8, fd00::/8, an address, or one of the words loopback, private and
  //   any;
  //                             PORT: 5672 or 9092-9094; without one: all
  //   directory PATH            absolute; the rest of the line
  //   secret NAME SCHEME HOST:PORT…   where ${secret:NAME} may go; without such a line: nowhere
  //
  // INVALID_ARGUMENT names the line, its fault and what would be accepted.
  static absl::StatusOr<DestinationPolicy> Parse(absl::string_view text);

  // INVALID_ARGUMENT unless `path` is absolute, and without "..".
  absl::Status AllowDirectory(absl::string_view path);

  // Those that are allowed, without a '/' at the end.
  const std::vector<std::string>& directories() const { return directories_; }

  absl::Status CheckScheme(absl::string_view scheme) const;

  // Whether ${secret:`name`} may be shown to each of `hosts`, at least one, over `scheme`. Hosts are compared as they
  // are written.
  absl::Status CheckSecret(absl::string_view name, absl::string_view scheme, absl::Span<const HostPort> hosts) const;

  // "127.0.0.1:80", "[::1]:80"; an address of IPv4 in one of IPv6 as what it is.
  static std::string TextOf(const sockaddr& address);

  // An address of IPv4 or IPv6, with its port. Other families are refused.
  absl::Status CheckAddress(const sockaddr& address) const;

  // Where a file lies by its text. What links make of that is for who opens it.
  struct Place {
    std::string
        directory;     // the allowed one, the outermost if there are several; without a '/' at its end: "" is the root
    std::string file;  // from there: "a/b.log"
  };
  absl::StatusOr<Place> PlaceOf(absl::string_view path) const;

 private:
  // All addresses are kept as IPv6, those of IPv4 as ::ffff:a.b.c.d.
  using Bytes = std::array<uint8_t, 16>;
  struct Network {
    Bytes base = {};
    int bits = 0;  // of 128
    bool v4 = false;
    bool Holds(const Bytes& address) const;
  };
  struct NetworkRule {
    Network network;
    std::vector<std::pair<uint16_t, uint16_t>> ports;  // first and last; empty: all
  };
  struct Never {
    Network network;
    absl::string_view what;
  };

  static bool IsV4(const Bytes& address);
  static Bytes BytesOf(const sockaddr& address);
  static std::string HostOf(const Bytes& address);
  static std::vector<Never> NeverAllowed();
  static absl::StatusOr<std::vector<Network>> ParseNetwork(absl::string_view word);
  static Network Known(absl::string_view text);
  absl::Status ParseLine(absl::string_view line);
  absl::Status ParseSecret(absl::Span<const absl::string_view> words);

  std::vector<Never> never_ = NeverAllowed();
  bool is_default_ = false;
  absl::btree_set<std::string> schemes_;  // empty: all
  std::vector<NetworkRule> networks_;
  std::vector<std::string> directories_;                                // without a '/' at the end
  absl::btree_map<std::string, absl::btree_set<std::string>> secrets_;  // name to where it goes: "amqps host:port"
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_DESTINATION_POLICY_H_
