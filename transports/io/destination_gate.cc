#include "transports/io/destination_gate.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "transports/api/mutex.h"
#include "transports/io/socket_address.h"

namespace eventvirtual {
namespace {

// The files of server/journal begin like this.
constexpr absl::string_view kJournal = "journal.db";

constexpr absl::string_view kOurs = " is never allowed: this server listens there itself, at ";
constexpr absl::string_view kComesBack = ", and the event would come back for ever. Name another receiver";

// An address of ours. Those of IPv4 are kept as ::ffff:a.b.c.d.
struct OwnListener {
  std::string text;  // as it was given
  int type = SOCK_STREAM;
  std::string path;  // of a unix socket; the others have:
  bool every = false;
  in6_addr address = {};
  uint16_t port = 0;
};

struct Gate {
  std::shared_ptr<const DestinationPolicy> policy;
  std::string data_dir;
  std::shared_ptr<const std::vector<OwnListener>> own;
};

Mutex mutex;
Gate current ABSL_GUARDED_BY(mutex);

Gate Current() {
  MutexLock lock(&mutex);
  return current;
}

in6_addr AsV6(const sockaddr& address) {
  if (address.sa_family == AF_INET6) return reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  in6_addr mapped = {};
  mapped.s6_addr[10] = mapped.s6_addr[11] = 0xff;
  std::memcpy(mapped.s6_addr + 12, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, 4);
  return mapped;
}

bool IsEvery(const in6_addr& address) {
  static constexpr in6_addr kV4 = {{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0}}};
  return IN6_IS_ADDR_UNSPECIFIED(&address) || std::memcmp(&address, &kV4, sizeof(kV4)) == 0;
}

// Whether this machine has `address`: a socket can be bound to it. (Where net.ipv4.ip_nonlocal_bind is set, to all.)
bool IsOfThisHost(const sockaddr& address) {
  sockaddr_storage own = {};
  socklen_t length = sizeof(sockaddr_in);
  const in6_addr v6 = AsV6(address);
  if (IN6_IS_ADDR_V4MAPPED(&v6)) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(own);
    v4.sin_family = AF_INET;
    std::memcpy(&v4.sin_addr, v6.s6_addr + 12, 4);
  } else {
    reinterpret_cast<sockaddr_in6&>(own).sin6_family = AF_INET6;
    reinterpret_cast<sockaddr_in6&>(own).sin6_addr = v6;
    length = sizeof(sockaddr_in6);
  }
  const int fd = socket(own.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const bool bound = fd >= 0 && bind(fd, reinterpret_cast<const sockaddr*>(&own), length) == 0;
  if (fd >= 0) close(fd);
  return bound;
}

absl::Status CheckOwn(const Gate& gate, const sockaddr& peer, int type) {
  if (gate.own == nullptr) return absl::OkStatus();
  const in6_addr address = AsV6(peer);
  for (const OwnListener& own : *gate.own) {
    if (!own.path.empty() || own.type != type || own.port != PortOf(peer)) continue;
    if (std::memcmp(&own.address, &address, sizeof(address)) != 0 && !(own.every && IsOfThisHost(peer))) continue;
    return absl::PermissionDeniedError(absl::StrCat(DestinationPolicy::TextOf(peer), kOurs, own.text, kComesBack));
  }
  return absl::OkStatus();
}

std::vector<OwnListener> OwnListenersAt(const std::string& text) {
  std::vector<OwnListener> found;
  OwnListener own;
  own.text = text;
  absl::string_view rest = text;
  if (absl::ConsumePrefix(&rest, "unix:")) {
    own.path = std::string(rest);
    return {own};
  }
  if (absl::ConsumePrefix(&rest, "udp:")) own.type = SOCK_DGRAM;
  for (const absl::string_view prefix : {"tcp:", "tls:", "http:"}) {
    if (absl::ConsumePrefix(&rest, prefix)) break;
  }
  rest = rest.substr(0, rest.find('/'));
  const absl::StatusOr<HostPort> host = ParseHostPort(rest);
  if (!host.ok()) return {};  // not bound yet (port 0), or refused by who listens there
  own.port = host->port;
  addrinfo hints = {};
  hints.ai_socktype = own.type;
  addrinfo* list = nullptr;
  if (getaddrinfo(host->host.c_str(), nullptr, &hints, &list) != 0) return {};
  for (const addrinfo* one = list; one != nullptr; one = one->ai_next) {
    own.address = AsV6(*one->ai_addr);
    own.every = IsEvery(own.address);
    found.push_back(own);
  }
  freeaddrinfo(list);
  return found;
}

bool SameFile(const struct stat& one, const struct stat& other) {
  return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

// Opens `file` beneath `directory`, which may be or lie behind a link of the operator's who has named it.
int OpenBeneath(const std::string& directory, const std::string& file, uint64_t flags) {
  const int root = open(directory.empty() ? "/" : directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return -1;
  open_how how = {};
  how.flags = flags | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const int fd = static_cast<int>(syscall(SYS_openat2, root, file.c_str(), &how, sizeof(how)));
  const int error = errno;
  close(root);
  errno = error;
  return fd;
}

absl::Status CheckNotJournal(const Gate& gate, int directory, absl::string_view name) {
  struct stat here = {};
  struct stat journals = {};
  if (!absl::StartsWith(name, kJournal) || gate.data_dir.empty() || fstat(directory, &here) != 0 ||
      stat(gate.data_dir.c_str(), &journals) != 0 || !SameFile(here, journals)) {
    return absl::OkStatus();
  }
  return absl::PermissionDeniedError(
      absl::StrCat(gate.data_dir, "/", name, " is never allowed: the journal of this server is there"));
}

// The addresses that `host` is without asking anybody: a number in each of its spellings (127.1, 0x7f000001,
// 017700000001), or "localhost".
std::vector<sockaddr_storage> KnownAddresses(const HostPort& host) {
  std::vector<sockaddr_storage> known;
  const std::string text = host.host.substr(0, host.host.find('%'));  // a zone
  const auto add = [&](const in_addr* v4, const in6_addr* v6) {
    sockaddr_storage& storage = known.emplace_back();
    if (v4 != nullptr) {
      auto& address = reinterpret_cast<sockaddr_in&>(storage);
      address.sin_family = AF_INET;
      address.sin_port = htons(host.port);
      address.sin_addr = *v4;
    } else {
      auto& address = reinterpret_cast<sockaddr_in6&>(storage);
      address.sin6_family = AF_INET6;
      address.sin6_port = htons(host.port);
      address.sin6_addr = *v6;
    }
  };
  in_addr v4 = {htonl(INADDR_LOOPBACK)};
  in6_addr v6 = IN6ADDR_LOOPBACK_INIT;
  if (text == "localhost") {
    add(&v4, nullptr);
    add(nullptr, &v6);
  } else if (inet_aton(text.c_str(), &v4) == 1) {
    add(&v4, nullptr);
  } else if (inet_pton(AF_INET6, text.c_str(), &v6) == 1) {
    add(nullptr, &v6);
  }
  return known;
}

absl::string_view SchemeOf(const Target& target) {
  return absl::string_view(target.canonical).substr(0, target.canonical.find(':'));
}

absl::Status Check(const Gate& gate, const sockaddr& peer, int type) {
  if (absl::Status status = gate.policy->CheckAddress(peer); !status.ok()) return status;
  return CheckOwn(gate, peer, type);
}

}  // namespace

void SetDestinationPolicy(std::shared_ptr<const DestinationPolicy> policy, const std::string& data_dir) {
  MutexLock lock(&mutex);
  current.policy.swap(policy);
  current.data_dir = data_dir;
}

void SetOwnListeners(const std::vector<std::string>& addresses) {
  auto own = std::make_shared<std::vector<OwnListener>>();
  for (const std::string& address : addresses) {
    for (OwnListener& one : OwnListenersAt(address)) own->push_back(std::move(one));
  }
  MutexLock lock(&mutex);
  current.own = std::move(own);
}

absl::Status CheckTarget(const Target& target) {
  const Gate gate = Current();
  if (gate.policy == nullptr) return absl::OkStatus();
  const absl::string_view scheme = SchemeOf(target);
  if (absl::Status status = gate.policy->CheckScheme(scheme); !status.ok()) return status;
  for (const HostPort& host : target.hosts) {
    for (const sockaddr_storage& address : KnownAddresses(host)) {
      const absl::Status status =
          Check(gate, reinterpret_cast<const sockaddr&>(address), scheme == "udp" ? SOCK_DGRAM : SOCK_STREAM);
      const std::string named = host.ToString();
      if (!status.ok() && absl::StartsWith(status.message(), named)) return status;
      if (!status.ok()) return absl::PermissionDeniedError(absl::StrCat(named, ": ", status.message()));
    }
  }
  if (target.path.empty()) return absl::OkStatus();
  for (const OwnListener& own : gate.own == nullptr ? std::vector<OwnListener>() : *gate.own) {
    if (own.path != target.path) continue;
    return absl::PermissionDeniedError(absl::StrCat("\"", target.path, "\"", kOurs, own.text, kComesBack));
  }
  return gate.policy->PlaceOf(target.path).status();
}

absl::Status CheckSecret(absl::string_view name, const Target& target) {
  const Gate gate = Current();
  if (gate.policy == nullptr) return absl::OkStatus();
  return gate.policy->CheckSecret(name, SchemeOf(target), target.hosts);
}

absl::Status CheckPeer(const sockaddr& peer, int type) {
  const Gate gate = Current();
  return gate.policy == nullptr ? absl::OkStatus() : Check(gate, peer, type);
}

int OpenDirectoryOf(const std::string& path, absl::Status* why) {
  *why = absl::OkStatus();
  const Gate gate = Current();
  const size_t slash = path.rfind('/');
  if (gate.policy == nullptr) {
    return open(path.substr(0, slash + 1).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  }
  const absl::StatusOr<DestinationPolicy::Place> place = gate.policy->PlaceOf(path);
  if (!place.ok()) {
    *why = place.status();
    return -1;
  }
  const size_t last = place->file.rfind('/');
  const std::string between = last == std::string::npos ? "." : place->file.substr(0, last);
  const int fd = OpenBeneath(place->directory, between, O_PATH | O_DIRECTORY);
  if (fd < 0) return -1;
  *why = CheckNotJournal(gate, fd, path.substr(slash + 1));
  if (why->ok()) return fd;
  close(fd);
  return -1;
}

int ConnectUnix(int fd, const std::string& path, absl::Status* why) {
  *why = absl::OkStatus();
  const Gate gate = Current();
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (gate.policy == nullptr) {
    std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof(address.sun_path) - 1));
    return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  }
  const absl::StatusOr<DestinationPolicy::Place> place = gate.policy->PlaceOf(path);
  if (!place.ok()) {
    *why = place.status();
    return -1;
  }
  const int file = OpenBeneath(place->directory, place->file, O_PATH);
  if (file < 0) return -1;
  struct stat here = {};
  if (fstat(file, &here) == 0 && gate.own != nullptr) {
    for (const OwnListener& own : *gate.own) {
      struct stat there = {};
      if (own.path.empty() || stat(own.path.c_str(), &there) != 0 || !SameFile(here, there)) continue;
      *why = absl::PermissionDeniedError(absl::StrCat("\"", path, "\"", kOurs, own.text, kComesBack));
    }
  }
  int result = -1;
  if (why->ok()) {
    // The very file that was looked at, whatever its name leads to by now.
    absl::SNPrintF(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", file);
    result = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  }
  const int error = errno;
  close(file);
  errno = error;
  return result;
}

}  // namespace eventvirtual
