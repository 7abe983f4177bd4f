#include "server/enroll/own_sockets.h"

#include <algorithm>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/registry/virtual_socket.h"
#include "transports/api/uri.h"

namespace eventvirtual {
namespace {

bool IsWildcard(absl::string_view host) { return host == "0.0.0.0" || host == "::"; }
bool IsLoopback(absl::string_view host) { return absl::StartsWith(host, "127.") || host == "::1"; }

bool SameHost(absl::string_view own, absl::string_view host) {
  return own == host || IsWildcard(own) || (host == "localhost" && IsLoopback(own));
}

struct Place {
  absl::string_view scheme;
  std::string path;  // of unix
  HostPort host;     // of the others
};

// Nothing: it is none of the three that an ingest has.
std::optional<Place> PlaceOf(absl::string_view text) {
  text = text.substr(0, text.find('?'));
  Place place;
  if (absl::ConsumePrefix(&text, "unix:") || absl::StartsWith(text, "/")) {
    place.scheme = "unix";
    place.path = std::string(text);
    return place;
  }
  if (absl::ConsumePrefix(&text, "tcp:")) {
    place.scheme = "tcp";
    text = text.substr(0, text.find('/'));
  } else if (absl::ConsumePrefix(&text, "udp:")) {
    place.scheme = "udp";
  } else {
    return std::nullopt;
  }
  absl::StatusOr<HostPort> host = ParseHostPort(text);
  if (!host.ok()) return std::nullopt;
  place.host = *std::move(host);
  return place;
}

}  // namespace

bool OwnSockets::Has(absl::string_view subscriber) const {
  const std::optional<Place> place = PlaceOf(subscriber);
  return place.has_value() && std::any_of(addresses_.begin(), addresses_.end(), [&place](const std::string& address) {
           const std::optional<Place> own = PlaceOf(address);
           return own.has_value() && own->scheme == place->scheme && own->path == place->path &&
                  own->host.port == place->host.port && SameHost(own->host.host, place->host.host);
         });
}

bool OwnSockets::IsWithin(absl::string_view virtual_socket) const {
  const absl::StatusOr<VirtualSocket> socket = ParseVirtualSocket(virtual_socket);
  return socket.ok() && std::any_of(socket->subscribers.begin(), socket->subscribers.end(),
                                    [this](const std::string& subscriber) { return Has(subscriber); });
}

bool OwnSockets::BringsAll(const ListedSubscriber& listed) const {
  if (listed.ttl <= absl::ZeroDuration()) return false;
  const absl::StatusOr<VirtualSocket> socket = ParseVirtualSocket(listed.socket);
  if (!socket.ok()) return false;
  if (socket->plain) return listed.ttl == absl::InfiniteDuration() && Has(socket->subscribers[0]);
  switch (socket->policy) {
    case Policy::kParallel:
      return IsWithin(listed.socket);
    case Policy::kFailover:
      return Has(socket->subscribers[0]);
    case Policy::kRoundRobin:
      return socket->subscribers.size() == 1 && Has(socket->subscribers[0]);
  }
  return false;
}

absl::StatusOr<std::string> IngestForOpensips(const std::string& wanted, const std::vector<std::string>& ingest) {
  if (ingest.empty()) {
    return absl::InvalidArgumentError(
        "there is no ingest to which OpenSIPS could send events; add --ingest=tcp:127.0.0.1:9060");
  }
  std::string chosen = wanted;
  for (absl::string_view scheme : {"tcp:", "unix:"}) {
    for (const std::string& address : ingest) {
      if (chosen.empty() && absl::StartsWith(address, scheme)) chosen = address;
    }
  }
  if (chosen.empty()) {
    return absl::InvalidArgumentError(
        "OpenSIPS would not notice that an event over udp is lost; add --ingest=tcp:127.0.0.1:9060");
  }
  const std::optional<Place> place = PlaceOf(chosen);
  if (!place.has_value() || place->scheme == "udp" || (place->scheme == "unix" && place->path[0] != '/') ||
      absl::StartsWith(chosen, "/")) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", chosen, "\" is not tcp:host:port or unix:/path, as OpenSIPS reaches our ingest"));
  }
  if (IsWildcard(place->host.host)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", chosen,
                                                   "\" is every address and so none that OpenSIPS could be told; add "
                                                   "--enroll_ingest=tcp:HOST:",
                                                   place->host.port, " with the one by which it reaches this host"));
  }
  return chosen;
}

}  // namespace eventvirtual
