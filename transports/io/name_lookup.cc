#include "transports/io/name_lookup.h"

#include <ares.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cstring>
#include <map>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

// Long enough for a name server across the world, short enough that the second one is asked before a connect is given
// up (c-ares' own: 5 s). Doubled each round.
constexpr int kServerTimeoutMs = 400;
constexpr int kRounds = 3;

}  // namespace

// Shared with the tasks it posts, which hold it weakly: a cancelled query is gone before they run.
class NameLookup::Query : public std::enable_shared_from_this<Query> {
 public:
  using OnFound = absl::AnyInvocable<void(absl::StatusOr<std::vector<SocketAddress>>) &&>;

  Query(Loop& loop, const HostPort& host, OnFound on_found)
      : loop_(loop), host_(host), on_found_(std::move(on_found)) {}
  ~Query() {
    if (channel_ != nullptr) ares_destroy(channel_);  // calls OnAnswer with ARES_EDESTRUCTION
  }

  void Start(const std::string& name_servers) {
    if (const std::optional<SocketAddress> address = SocketAddress::Numeric(host_); address.has_value()) {
      return Answer(std::vector<SocketAddress>{*address});
    }

    static const int initialised = ares_library_init(ARES_LIB_INIT_ALL);
    ares_options options = {};
    options.sock_state_cb = [](void* self, ares_socket_t fd, int readable, int writable) {
      static_cast<Query*>(self)->Watch(fd, readable != 0, writable != 0);
    };
    options.sock_state_cb_data = this;
    options.timeout = kServerTimeoutMs;
    options.tries = kRounds;
    constexpr int kOptions = ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES;
    if (initialised != ARES_SUCCESS || ares_init_options(&channel_, &options, kOptions) != ARES_SUCCESS) {
      channel_ = nullptr;
      return Answer(
          absl::UnavailableError(absl::StrCat("cannot look up host \"", host_.host, "\": c-ares did not start")));
    }
    if (!name_servers.empty()) EV_CHECK(ares_set_servers_ports_csv(channel_, name_servers.c_str()) == ARES_SUCCESS);
    timer_ = loop_.NewTimer([this] { Process(ARES_SOCKET_BAD, ARES_SOCKET_BAD); });
    ares_addrinfo_hints hints = {};
    hints.ai_socktype = SOCK_STREAM;
    ares_getaddrinfo(
        channel_, host_.host.c_str(), std::to_string(host_.port).c_str(), &hints,
        [](void* self, int status, int, ares_addrinfo* result) { static_cast<Query*>(self)->OnAnswer(status, result); },
        this);
    ArmTimer();
  }

 private:
  void Watch(ares_socket_t fd, bool readable, bool writable) {
    if (!readable && !writable) {
      watches_.erase(fd);
      return;
    }
    std::unique_ptr<Loop::Watch>& watch = watches_[fd];
    if (watch == nullptr) {
      watch = loop_.NewWatch(fd, [this, fd](Loop::Readiness ready) {
        Process(ready.readable ? fd : ARES_SOCKET_BAD, ready.writable ? fd : ARES_SOCKET_BAD);
      });
    }
    watch->Want({readable, writable});
  }

  void Process(ares_socket_t readable, ares_socket_t writable) {
    ares_process_fd(channel_, readable, writable);
    ArmTimer();
  }

  void ArmTimer() {
    timeval wait;
    if (ares_timeout(channel_, nullptr, &wait) != nullptr) {
      timer_->Arm(loop_.Now() + absl::DurationFromTimeval(wait));
    } else {
      timer_->Cancel();
    }
  }

  void OnAnswer(int status, ares_addrinfo* result) {
    if (status == ARES_EDESTRUCTION || status == ARES_ECANCELLED) return;
    std::vector<SocketAddress> addresses;
    if (result != nullptr) {
      for (const ares_addrinfo_node* node = result->nodes; node != nullptr; node = node->ai_next) {
        SocketAddress address;
        if (node->ai_addrlen > sizeof(address.storage)) continue;
        std::memcpy(&address.storage, node->ai_addr, node->ai_addrlen);
        address.length = node->ai_addrlen;
        addresses.push_back(address);
      }
      ares_freeaddrinfo(result);
    }
    if (!addresses.empty()) return Answer(std::move(addresses));
    Answer(absl::UnavailableError(absl::StrCat("cannot look up host \"", host_.host, "\": ",
                                               status == ARES_SUCCESS ? "it has no address" : ares_strerror(status))));
  }

  // Posted: c-ares and the constructor must have returned before the owner may destroy this.
  void Answer(absl::StatusOr<std::vector<SocketAddress>> addresses) {
    loop_.Post([weak = weak_from_this(), addresses = std::move(addresses)]() mutable {
      const std::shared_ptr<Query> self = weak.lock();
      if (self != nullptr) std::exchange(self->on_found_, nullptr)(std::move(addresses));
    });
  }

  Loop& loop_;
  const HostPort host_;
  OnFound on_found_;
  ares_channel channel_ = nullptr;
  std::map<ares_socket_t, std::unique_ptr<Loop::Watch>> watches_;
  std::unique_ptr<Loop::Timer> timer_;
};

NameLookup::NameLookup(Loop& loop, const HostPort& host,
                       absl::AnyInvocable<void(absl::StatusOr<std::vector<SocketAddress>>) &&> on_found,
                       const std::string& name_servers)
    : query_(std::make_shared<Query>(loop, host, std::move(on_found))) {
  query_->Start(name_servers);
}

NameLookup::~NameLookup() = default;

}  // namespace eventvirtual
