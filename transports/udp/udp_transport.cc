#include "transports/udp/udp_transport.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/api/check.h"
#include "transports/io/datagram_link.h"
#include "transports/io/errno_text.h"
#include "transports/io/name_lookup.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kSchemes[] = {"udp"};
constexpr absl::Duration kAttemptTimeout = absl::Milliseconds(50);

class UdpLink final : public DatagramLink {
 public:
  UdpLink(std::string name, const HostPort& peer, Loop& loop, Host& host)
      : DatagramLink(std::move(name), loop, host),
        lookup_(loop, peer, [this](absl::StatusOr<std::vector<SocketAddress>> addresses) {
          OnFound(std::move(addresses));
        }) {}

 private:
  void OnFound(absl::StatusOr<std::vector<SocketAddress>> addresses) {
    if (!addresses.ok()) return Close(addresses.status());
    // Connected, so that the kernel tells us of ICMP errors; the first address whose family this host has.
    int error = 0;
    for (const SocketAddress& address : *addresses) {
      const int fd = socket(address.storage.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      if (fd >= 0 && connect(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.length) == 0) {
        return Ready(fd);
      }
      error = errno;
      if (fd >= 0) close(fd);
    }
    Close(absl::UnavailableError(absl::StrCat(name(), ": ", ErrnoText(error))));
  }

  NameLookup lookup_;
};

class UdpTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override { return "udp:host:port[?timeout=50ms]"; }
  absl::string_view description() const override {
    return "One datagram per event. Success: the kernel took it and knows of no ICMP error.";
  }
  AckLevel ack_level() const override { return AckLevel::kHandedToKernel; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    absl::StatusOr<HostPort> peer = ParseHostPort(uri.body);
    if (!peer.ok()) return peer.status();
    QueryReader query(uri);
    Target target;
    target.attempt_timeout = query.TakeDuration("timeout", kAttemptTimeout, absl::Milliseconds(1), absl::Minutes(1));
    if (absl::Status status = query.Done(); !status.ok()) return status;
    QueryWriter options;
    if (target.attempt_timeout != kAttemptTimeout) options.Add("timeout", absl::FormatDuration(target.attempt_timeout));
    target.canonical = absl::StrCat("udp:", peer->ToString(), options.text());
    target.masked = target.canonical;
    target.ack_level = ack_level();
    return target;
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    const absl::StatusOr<Uri> uri = ParseUri(target.canonical);
    EV_CHECK(uri.ok());
    const absl::StatusOr<HostPort> peer = ParseHostPort(uri->body);
    EV_CHECK(peer.ok());
    return std::make_unique<UdpLink>(target.masked, *peer, loop, host);
  }
};

}  // namespace

std::unique_ptr<Transport> MakeUdpTransport() { return std::make_unique<UdpTransport>(); }

}  // namespace eventvirtual
