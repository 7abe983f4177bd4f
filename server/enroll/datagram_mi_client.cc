#include "server/enroll/datagram_mi_client.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/enroll/mi_answer.h"
#include "transports/api/uri.h"
#include "transports/io/errno_text.h"
#include "transports/io/socket_address.h"
#include "transports/io/socket_file.h"

namespace eventvirtual {
namespace {

constexpr int kMaxReplyFiles = 64;           // of services on one host
constexpr size_t kMaxDatagram = 256 << 10;   // OpenSIPS' own limit is 65457 bytes
constexpr mode_t kEverybodyMayWrite = 0666;  // OpenSIPS often is another user; who writes must know an id

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

 private:
  int fd_;
};

class DatagramMiClient final : public MiClient {
 public:
  // `path`: of a unix socket, else "".
  DatagramMiClient(std::string name, SocketAddress to, std::string path, const MiLimits& limits)
      : name_(std::move(name)),
        to_(to),
        path_(std::move(path)),
        timeout_(limits.timeout),
        buffer_(std::min(kMaxDatagram, limits.max_answer), '\0') {}
  ~DatagramMiClient() override { Close(); }

  const std::string& name() const override { return name_; }

  absl::StatusOr<std::string> Call(absl::string_view method, absl::string_view params) override {
    if (!socket_.valid()) {
      if (absl::Status status = path_.empty() ? OpenUdp() : OpenUnix(); !status.ok()) return status;
    }
    const uint32_t id = ids_.Next();
    const std::string request = MiCallText(id, method, params);
    if (sendto(socket_.get(), request.data(), request.size(), MSG_NOSIGNAL, to_.get(), to_.length) < 0) {
      if (errno == EMSGSIZE) {
        return absl::ResourceExhaustedError(
            absl::StrCat("the request, ", request.size(), " bytes, is too long for a datagram"));
      }
      return Lost(errno);
    }
    return Answer(id);
  }

 private:
  // A socket that broke is not used again: what hangs in it would be taken for the next call's.
  absl::Status Lost(int error) {
    Close();
    return absl::UnavailableError(ErrnoText(error));
  }

  void Close() {
    socket_ = Descriptor();
    if (!reply_path_.empty()) unlink(reply_path_.c_str());
    reply_path_.clear();
  }

  absl::Status Open(int family) {
    socket_ = Descriptor(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const timeval timeout = absl::ToTimeval(timeout_);
    if (!socket_.valid() || setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0) {
      return Lost(errno);
    }
    return absl::OkStatus();
  }

  absl::Status OpenUdp() {
    if (absl::Status status = Open(to_.storage.ss_family); !status.ok()) return status;
    // Not connected, for the answer comes from another port; so this is how a refused port is told.
    const int one = 1;
    const bool v4 = to_.storage.ss_family == AF_INET;
    setsockopt(socket_.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_RECVERR : IPV6_RECVERR, &one, sizeof(one));
    return absl::OkStatus();
  }

  absl::Status OpenUnix() {
    absl::Status status;
    for (const std::string& folder : {path_.substr(0, path_.rfind('/')), std::string("/tmp")}) {
      if (status = Open(AF_UNIX); !status.ok()) return status;
      if (status = Bind(folder); status.ok()) return status;
      Close();
    }
    return status;
  }

  // Takes the first name there that no living client has.
  absl::Status Bind(const std::string& folder) {
    absl::Status status;
    for (int i = 0; i < kMaxReplyFiles; ++i) {
      const std::string path = absl::StrCat(folder, "/eventvirtual-mi.", i);
      const std::optional<SocketAddress> address = SocketAddress::Unix(path);
      if (!address.has_value()) return absl::UnavailableError("no path for a reply's socket that is short enough");
      if (!RemoveDeadSocketFile(path, SOCK_DGRAM).ok()) continue;
      if (bind(socket_.get(), address->get(), address->length) == 0) {
        reply_path_ = path;
        chmod(path.c_str(), kEverybodyMayWrite);
        return absl::OkStatus();
      }
      status = absl::UnavailableError(absl::StrCat("a socket for replies, ", path, ": ", ErrnoText(errno)));
      if (errno != EADDRINUSE) return status;
    }
    return status.ok() ? absl::UnavailableError(absl::StrCat(kMaxReplyFiles, " services have a socket for replies in ",
                                                             folder, " already"))
                       : status;
  }

  // Waits for the answer to `id`; those to earlier calls, which came too late, are passed over.
  absl::StatusOr<std::string> Answer(uint32_t id) {
    const Descriptor timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
    const itimerspec once = {.it_interval = {}, .it_value = absl::ToTimespec(timeout_)};
    if (!timer.valid() || timerfd_settime(timer.get(), 0, &once, nullptr) != 0) return Lost(errno);
    while (true) {
      pollfd ready[] = {{socket_.get(), POLLIN, 0}, {timer.get(), POLLIN, 0}};
      if (poll(ready, 2, -1) < 0 && errno != EINTR) return Lost(errno);
      if (ready[1].revents != 0) {
        Close();
        return absl::UnavailableError(absl::StrCat("no answer within ", absl::FormatDuration(timeout_)));
      }
      if (ready[0].revents == 0) continue;
      const ssize_t got = recv(socket_.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT | MSG_TRUNC);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (got < 0) return Lost(errno);
      if (static_cast<size_t>(got) > buffer_.size()) {
        return absl::ResourceExhaustedError(
            absl::StrCat("the answer has ", got, " bytes; at most ", buffer_.size(), " are taken as a datagram"));
      }
      std::optional<absl::StatusOr<std::string>> read =
          ReadMiAnswer(absl::string_view(buffer_.data(), static_cast<size_t>(got)), id);
      if (read.has_value()) return *std::move(read);
    }
  }

  const std::string name_;
  const SocketAddress to_;
  const std::string path_;
  const absl::Duration timeout_;
  std::string buffer_;
  MiIds ids_;
  Descriptor socket_;
  std::string reply_path_;  // "" when there is no file to remove
};

}  // namespace

absl::StatusOr<std::unique_ptr<MiClient>> MakeDatagramMiClient(const std::string& address, const MiLimits& limits) {
  absl::string_view rest = address;
  if (absl::ConsumePrefix(&rest, "unix:")) {
    const std::optional<SocketAddress> to = SocketAddress::Unix(rest);
    if (rest.empty() || rest[0] != '/' || !to.has_value()) {
      return absl::InvalidArgumentError("the path behind unix: must be absolute and at most 107 bytes long");
    }
    return std::make_unique<DatagramMiClient>(address, *to, std::string(rest), limits);
  }
  absl::ConsumePrefix(&rest, "udp:");
  const absl::StatusOr<HostPort> host = ParseHostPort(rest);
  if (!host.ok()) return host.status();
  const std::optional<SocketAddress> to = SocketAddress::Numeric(*host);
  if (!to.has_value()) {
    return absl::InvalidArgumentError("the host behind udp: must be a numeric address, such as 127.0.0.1");
  }
  return std::make_unique<DatagramMiClient>(address, *to, "", limits);
}

}  // namespace eventvirtual
