#include "transports/unix/unix_transport.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/api/encoding.h"
#include "transports/io/datagram_link.h"
#include "transports/io/destination_gate.h"
#include "transports/io/errno_text.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kSchemes[] = {"unix"};
constexpr absl::Duration kAttemptTimeout = absl::Milliseconds(100);
constexpr size_t kMaxPath = sizeof(sockaddr_un::sun_path) - 1;
constexpr size_t kMaxPayload = std::numeric_limits<size_t>::max();  // a setting of the system: it will say EMSGSIZE

struct Peer {
  std::string path;
  Encoding encoding = Encoding::kJsonRpc;
  absl::Duration timeout;
};

absl::StatusOr<Peer> ParsePeer(const Uri& uri) {
  if (uri.body.empty() || uri.body[0] != '/') {
    return absl::InvalidArgumentError("the path of a unix socket must be absolute; write unix:/path");
  }
  if (uri.body.back() == '/') {
    return absl::InvalidArgumentError("the path names a directory; write the socket's: unix:/path/to/socket");
  }
  if (uri.body.size() > kMaxPath) {
    return absl::InvalidArgumentError(
        absl::StrCat("the path has ", uri.body.size(), " bytes; that of a unix socket has at most ", kMaxPath));
  }
  QueryReader query(uri);
  Peer peer = {.path = uri.body};
  peer.encoding = TakeEncoding(query, /*has_headers=*/false);
  peer.timeout = query.TakeDuration("timeout", kAttemptTimeout, absl::Milliseconds(1), absl::Minutes(1));
  if (absl::Status status = query.Done(); !status.ok()) return status;
  return peer;
}

// What the errors of connect() mean at a unix socket, and the way out.
absl::Status ConnectError(const std::string& name, int error) {
  const std::string text = absl::StrCat(name, ": ", ErrnoText(error));
  switch (error) {
    case ENOENT:
      return absl::UnavailableError(absl::StrCat(text, "; the receiver has not made its socket"));
    case ECONNREFUSED:
      return absl::UnavailableError(
          absl::StrCat(text, "; nobody listens there: the receiver has gone and left its socket file behind"));
    case EPROTOTYPE:
      return absl::UnavailableError(absl::StrCat(text, "; the receiver's is a stream socket, it must be SOCK_DGRAM"));
    case EACCES:
      return absl::PermissionDeniedError(
          absl::StrCat(text, "; this process needs write permission on the socket and search permission on its path"));
    case ELOOP:
      return absl::PermissionDeniedError(
          absl::StrCat(text, "; beneath an allowed directory no symbolic link is followed: name the socket itself"));
    default:
      return absl::UnavailableError(text);
  }
}

class UnixLink final : public DatagramLink {
 public:
  UnixLink(std::string name, Peer peer, Loop& loop, Host& host)
      : DatagramLink(std::move(name), peer.encoding, kMaxPayload, loop, host), path_(std::move(peer.path)) {
    loop.Post([this, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) Start();
    });
  }

 private:
  void Start() {
    absl::Status refused;
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && ConnectUnix(fd, path_, &refused) == 0) return Ready(fd);
    const int error = errno;
    if (fd >= 0) close(fd);
    if (!refused.ok()) return Close(absl::PermissionDeniedError(absl::StrCat(name(), ": ", refused.message())));
    Close(ConnectError(name(), error));
  }

  const std::string path_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

class UnixTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override { return "unix:/path[?encoding=jsonrpc&timeout=100ms]"; }
  absl::string_view description() const override {
    return "One datagram per event to a unix datagram socket. Success: it is in the receiver's queue.";
  }
  AckLevel ack_level() const override { return AckLevel::kHandedToKernel; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const absl::StatusOr<Peer> peer = ParsePeer(uri);
    if (!peer.ok()) return peer.status();
    QueryWriter options;
    AddEncoding(peer->encoding, &options);
    if (peer->timeout != kAttemptTimeout) options.Add("timeout", absl::FormatDuration(peer->timeout));
    const std::string text = absl::StrCat("unix:", peer->path, options.text());
    return Target{.canonical = text,
                  .masked = text,
                  .ack_level = ack_level(),
                  .attempt_timeout = peer->timeout,
                  .path = peer->path};
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    return std::make_unique<UnixLink>(target.masked, AddressOf(target, &ParsePeer), loop, host);
  }
};

}  // namespace

std::unique_ptr<Transport> MakeUnixTransport() { return std::make_unique<UnixTransport>(); }

}  // namespace eventvirtual
