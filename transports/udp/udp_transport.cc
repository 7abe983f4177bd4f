#include "transports/udp/udp_transport.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/api/encoding.h"
#include "transports/io/datagram_link.h"
#include "transports/io/destination_gate.h"
#include "transports/io/errno_text.h"
#include "transports/io/name_lookup.h"
#include "transports/io/self_connection.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kSchemes[] = {"udp"};
constexpr absl::Duration kAttemptTimeout = absl::Milliseconds(50);

// OpenSIPS' limit (65,507 bytes less 50): an event fits both or neither.
constexpr size_t kMaxPayload = 65457;

struct Peer {
  HostPort address;
  Encoding encoding = Encoding::kJsonRpc;
  absl::Duration timeout;
};

absl::StatusOr<Peer> ParsePeer(const Uri& uri) {
  absl::StatusOr<HostPort> address = ParseHostPort(uri.body);
  if (!address.ok()) return address.status();
  QueryReader query(uri);
  Peer peer = {.address = *std::move(address)};
  peer.encoding = TakeEncoding(query, /*has_headers=*/false);
  peer.timeout = query.TakeDuration("timeout", kAttemptTimeout, absl::Milliseconds(1), absl::Minutes(1));
  if (absl::Status status = query.Done(); !status.ok()) return status;
  return peer;
}

// A socket to `peer` whose errors reach us, or -1 and errno.
int ConnectTo(const SocketAddress& peer) {
  const int fd = socket(peer.storage.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  // Unreachable hosts and networks are errors too, not only closed ports. And let routers cut large datagrams up rather
  // than lose the first one on each narrow path.
  const int on = 1;
  if (peer.storage.ss_family == AF_INET6) {
    const int dont = IPV6_PMTUDISC_DONT;
    setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof(on));
    setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &dont, sizeof(dont));
  } else {
    const int dont = IP_PMTUDISC_DONT;
    setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof(on));
    setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &dont, sizeof(dont));
  }
  int error = 0;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&peer.storage), peer.length) != 0) {
    error = errno;
  } else if (IsSelfConnection(fd)) {
    error = ECONNREFUSED;
  }
  if (error == 0) return fd;
  close(fd);
  errno = error;
  return -1;
}

class UdpLink final : public DatagramLink {
 public:
  UdpLink(std::string name, const Peer& peer, Loop& loop, Host& host)
      : DatagramLink(std::move(name), peer.encoding, kMaxPayload, loop, host),
        lookup_(loop, peer.address,
                [this](absl::StatusOr<std::vector<SocketAddress>> addresses) { OnFound(std::move(addresses)); }) {}

 private:
  void OnFound(absl::StatusOr<std::vector<SocketAddress>> addresses) {
    if (!addresses.ok()) {
      return Close(absl::UnavailableError(absl::StrCat(name(), ": ", std::string(addresses.status().message()))));
    }
    // The first address that this host has a route to; whether somebody listens there only the first send can tell.
    absl::Status why;
    for (const SocketAddress& address : *addresses) {
      const absl::Status allowed = CheckPeer(reinterpret_cast<const sockaddr&>(address.storage), SOCK_DGRAM);
      if (!allowed.ok()) {
        if (why.ok()) why = absl::PermissionDeniedError(absl::StrCat(name(), ": ", allowed.message()));
        continue;
      }
      if (const int fd = ConnectTo(address); fd >= 0) return Ready(fd);
      why = absl::UnavailableError(absl::StrCat(name(), ": ", ErrnoText(errno)));
    }
    Close(why);
  }

  NameLookup lookup_;
};

class UdpTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override { return "udp:host:port[?encoding=jsonrpc&timeout=50ms]"; }
  absl::string_view description() const override {
    return "One datagram per event. Success: the kernel took it and knows of no ICMP error.";
  }
  AckLevel ack_level() const override { return AckLevel::kHandedToKernel; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const absl::StatusOr<Peer> peer = ParsePeer(uri);
    if (!peer.ok()) return peer.status();
    QueryWriter options;
    AddEncoding(peer->encoding, &options);
    if (peer->timeout != kAttemptTimeout) options.Add("timeout", absl::FormatDuration(peer->timeout));
    const std::string text = absl::StrCat("udp:", peer->address.ToString(), options.text());
    return Target{.canonical = text,
                  .masked = text,
                  .ack_level = ack_level(),
                  .attempt_timeout = peer->timeout,
                  .hosts = {peer->address}};
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    return std::make_unique<UdpLink>(target.masked, AddressOf(target, &ParsePeer), loop, host);
  }
};

}  // namespace

std::unique_ptr<Transport> MakeUdpTransport() { return std::make_unique<UdpTransport>(); }

}  // namespace eventvirtual
