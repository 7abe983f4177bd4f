#include "server/rpc/listeners.h"

#include <grpcpp/security/server_credentials.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/rpc/tls_credentials.h"
#include "server/rpc/user_credentials.h"
#include "transports/io/run_on_loop.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kForms =
    "write host:port with a loopback address, tls:host:port, or unix:/path; hosts are numeric";

}  // namespace

absl::StatusOr<std::unique_ptr<Listeners>> Listeners::Bind(const ListenOptions& options, grpc::ServerBuilder* builder) {
  std::unique_ptr<Listeners> listeners(new Listeners(options));
  for (const std::string& address : options.addresses) {
    if (absl::Status status = listeners->Open(address, builder); !status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat("cannot serve on \"", address, "\": ", std::string(status.message())));
    }
  }
  const auto is_unix = [](const std::unique_ptr<Listener>& listener) { return listener->unix; };
  if (options.tells_users && absl::c_any_of(listeners->listeners_, is_unix)) {
    for (size_t i = 0; i < kMaxUsers; ++i) {
      UserEntrance& one = listeners->user_entrances_.emplace_back();
      one.entrance = builder->experimental().AddExternalConnectionAcceptor(
          grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, UserCredentials(one.user));
    }
  }
  return listeners;
}

absl::Status Listeners::Open(const std::string& address, grpc::ServerBuilder* builder) {
  absl::string_view rest = address;
  const bool unix = absl::ConsumePrefix(&rest, "unix:");
  const bool tls = !unix && absl::ConsumePrefix(&rest, "tls:");
  if (tls && options_.certificates == nullptr) {
    return absl::InvalidArgumentError("it needs a certificate: give --tls_cert and --tls_key");
  }
  std::string host_port(rest);
  if (absl::ConsumePrefix(&rest, "localhost:")) host_port = absl::StrCat("127.0.0.1:", rest);
  absl::StatusOr<BoundSocket> bound =
      unix ? BoundSocket::Unix(rest, SOCK_STREAM, options_.socket_group)
           : BoundSocket::Internet(host_port, SOCK_STREAM,
                                   tls ? BoundSocket::Reach::kAny : BoundSocket::Reach::kLoopback);
  if (absl::IsPermissionDenied(bound.status())) {
    return absl::InvalidArgumentError(absl::StrCat(
        std::string(bound.status().message()), ", and without TLS other hosts are not served: write tls:", host_port,
        " and give --tls_cert and --tls_key, with --tls_client_ca or --tokens"));
  }
  if (absl::IsInvalidArgument(bound.status())) {
    return absl::InvalidArgumentError(absl::StrCat(std::string(bound.status().message()), "; ", kForms));
  }
  if (!bound.ok()) return bound.status();
  addresses_.push_back(absl::StrCat(unix ? "unix:" : tls ? "tls:" : "", bound->address()));
  auto listener = std::make_unique<Listener>();
  listener->bound = *std::move(bound);
  listener->unix = unix;
  listener->entrance = builder->experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      tls ? TlsCredentials(options_.certificates, options_.client_certificate_required)
          : grpc::InsecureServerCredentials());
  listeners_.push_back(std::move(listener));
  return absl::OkStatus();
}

Listeners::~Listeners() { Stop(); }

void Listeners::Start(Loop& loop) {
  loop_ = &loop;
  RunOnLoop(loop, [this](const std::shared_ptr<void>&) {
    for (const std::unique_ptr<Listener>& one : listeners_) {
      Listener* const listener = one.get();
      listener->acceptor = std::make_unique<Acceptor>(
          *std::exchange(listener->bound, std::nullopt), *loop_, [this, listener](int fd) { Take(listener, fd); },
          [this] { counts_.no_descriptor.fetch_add(1, std::memory_order_relaxed); });
    }
  });
}

void Listeners::Stop() {
  Loop* const loop = std::exchange(loop_, nullptr);
  if (loop == nullptr) return;
  RunOnLoop(*loop, [this](const std::shared_ptr<void>&) {
    for (const std::unique_ptr<Listener>& listener : listeners_) listener->acceptor.reset();
  });
}

Listeners::Entrance& Listeners::EntranceOf(const Listener& listener, int fd) {
  ucred peer = {};
  socklen_t length = sizeof(peer);
  if (user_entrances_.empty() || !listener.unix || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    return *listener.entrance;
  }
  const auto known = of_user_.find(peer.uid);
  if (known != of_user_.end()) return *known->second;
  if (of_user_.size() == user_entrances_.size()) return *listener.entrance;
  const UserEntrance& mine = user_entrances_[of_user_.size()];
  mine.user->store(peer.uid, std::memory_order_relaxed);
  return *of_user_.emplace(peer.uid, mine.entrance.get()).first->second;
}

void Listeners::Take(Listener* listener, int fd) {
  ConnectionCaps::Verdict verdict = caps_.Admit(fd);
  if (verdict != ConnectionCaps::Verdict::kAdmitted) {
    caps_.ForgetClosed();  // gRPC does not tell
    verdict = caps_.Admit(fd);
  }
  if (verdict != ConnectionCaps::Verdict::kAdmitted) {
    (verdict == ConnectionCaps::Verdict::kTooMany ? counts_.too_many : counts_.too_many_of_peer)
        .fetch_add(1, std::memory_order_relaxed);
    close(fd);
    return;
  }
  counts_.taken.fetch_add(1, std::memory_order_relaxed);
  const int one = 1;
  if (!listener->unix) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  Entrance::NewConnectionParameters connection;
  connection.fd = fd;
  EntranceOf(*listener, fd).HandleNewConnection(&connection);
}

}  // namespace eventvirtual
