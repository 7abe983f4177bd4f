#include "server/enroll/import.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace eventvirtual {
namespace {

std::string KeyOf(const ListedSubscriber& subscriber) { return absl::StrCat(subscriber.event, " ", subscriber.socket); }

}  // namespace

std::vector<ListedSubscriber> Import::Take(const std::vector<ListedSubscriber>& listed) {
  for (auto& [key, socket] : sockets_) socket.listed = false;
  std::vector<ListedSubscriber> taken;
  for (const ListedSubscriber& subscriber : listed) {
    if (!absl::StartsWith(subscriber.socket, "virtual:") || subscriber.ttl <= absl::ZeroDuration() ||
        absl::StartsWith(subscriber.event, kOwnEvents)) {
      continue;
    }
    Socket& socket = sockets_[KeyOf(subscriber)];
    socket.subscriber = subscriber;
    socket.listed = true;
    if (socket.left) continue;
    if (own_.IsWithin(subscriber.socket)) {
      Leave(socket, LogLevel::kInfo, "it holds our own ingest: OpenSIPS' safety net");
    } else if (socket.ends >= kMaxEnds) {
      if (socket.created) (void)registry_.Unsubscribe(socket.name);
      Leave(socket, LogLevel::kWarning, "OpenSIPS does not end it; take it out of the script and restart OpenSIPS");
    } else if (const absl::Status status = Subscribe(socket); !status.ok()) {
      Leave(socket, LogLevel::kWarning, absl::string_view(status.message()));
    } else {
      taken.push_back(subscriber);
    }
  }
  absl::erase_if(sockets_, [this](auto& entry) {
    Socket& socket = entry.second;
    if (socket.listed) return false;
    socket.ends = 0;
    return socket.left || !registry_.Get(socket.name).ok();
  });
  return taken;
}

absl::Status Import::Subscribe(Socket& socket) const {
  const absl::StatusOr<VirtualSocket> parsed = ParseVirtualSocket(socket.subscriber.socket);
  if (!parsed.ok()) return parsed.status();
  SubscriptionSpec spec;
  spec.event = socket.subscriber.event;
  spec.policy = parsed->policy;
  for (const std::string& uri : parsed->subscribers) spec.subscribers.push_back({uri, defaults_.attempt_timeout});
  spec.expires = registry_.clock().Now() + socket.subscriber.ttl;
  spec.delivery.failover_timeout = defaults_.failover_timeout;
  spec.labels.emplace(kLabel, opensips_);
  const absl::StatusOr<Registry::Subscribed> would = registry_.Validate(spec);
  if (!would.ok()) return would.status();
  socket.name = would->info.name;
  if (!would->created) {
    const absl::StatusOr<SubscriptionInfo> existing = registry_.Get(socket.name);
    if (existing.ok() && existing->expires >= spec.expires) return absl::OkStatus();
    spec.keeps_options = true;
  }
  const absl::StatusOr<Registry::Subscribed> subscribed = registry_.Subscribe(spec);
  if (!subscribed.ok()) return subscribed.status();
  socket.name = subscribed->info.name;
  if (subscribed->created) {
    socket.created = true;
    Log(LogLevel::kInfo, "taken over from OpenSIPS",
        {{"opensips", opensips_}, {"event", spec.event}, {"socket", subscribed->info.socket}});
  }
  return absl::OkStatus();
}

void Import::Leave(Socket& socket, LogLevel level, absl::string_view why) const {
  socket.left = true;
  Log(level, "not taken over from OpenSIPS",
      {{"opensips", opensips_}, {"event", socket.subscriber.event}, {"reason", why}});
}

void Import::Ended(const ListedSubscriber& subscriber) {
  const auto found = sockets_.find(KeyOf(subscriber));
  if (found == sockets_.end()) return;
  found->second.ended = true;
  ++found->second.ends;
}

void Import::Forget() {
  for (auto& [key, socket] : sockets_) {
    socket.ends = 0;
    if (socket.ended) socket.left = false;
  }
}

std::vector<ListedSubscriber> Import::GiveBack() const {
  std::vector<ListedSubscriber> back;
  for (const auto& [key, socket] : sockets_) {
    if (!socket.ended || socket.left) continue;
    const absl::StatusOr<SubscriptionInfo> info = registry_.Get(socket.name);
    if (!info.ok()) continue;
    back.push_back(socket.subscriber);
    back.back().ttl = std::min(info->expires - registry_.clock().Now(), kForEver);
  }
  return back;
}

}  // namespace eventvirtual
