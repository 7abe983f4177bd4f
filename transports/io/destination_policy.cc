#include "transports/io/destination_policy.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "transports/api/check.h"
#include "transports/api/uri.h"
#include "transports/io/socket_address.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxLines = 10000;
constexpr int kV4Prefix = 96;  // of ::ffff:0:0/96

constexpr absl::string_view kLoopback[] = {"127.0.0.0/8", "::1/128"};
constexpr absl::string_view kPrivate[] = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"};
constexpr absl::string_view kAny[] = {"0.0.0.0/0", "::/0"};

// The parts of an absolute path that say something; nothing if one is "..".
std::optional<std::vector<absl::string_view>> PartsOf(absl::string_view path) {
  std::vector<absl::string_view> parts = absl::StrSplit(path, '/', absl::SkipEmpty());
  parts.erase(std::remove(parts.begin(), parts.end(), "."), parts.end());
  if (std::find(parts.begin(), parts.end(), "..") != parts.end()) return std::nullopt;
  return parts;
}

std::string Plain(const std::vector<absl::string_view>& parts) {
  std::string path;
  for (absl::string_view part : parts) absl::StrAppend(&path, "/", part);
  return path;
}

// Of digits alone: absl::SimpleAtoi() takes blanks and a sign, too.
std::optional<uint32_t> NumberOf(absl::string_view digits) {
  uint32_t number = 0;
  const bool plain = std::all_of(digits.begin(), digits.end(), absl::ascii_isdigit);
  return plain && absl::SimpleAtoi(digits, &number) ? std::optional(number) : std::nullopt;
}

absl::StatusOr<std::pair<uint16_t, uint16_t>> ParsePorts(absl::string_view word) {
  const std::vector<absl::string_view> ends = absl::StrSplit(word, absl::MaxSplits('-', 1));
  const std::optional<uint32_t> first = NumberOf(ends.front()), last = NumberOf(ends.back());
  if (!first.has_value() || !last.has_value() || *first < 1 || *last > 65535 || *first > *last) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", word, "\" is not a port or a range of ports, such as 5672 or 9092-9094"));
  }
  return std::make_pair(static_cast<uint16_t>(*first), static_cast<uint16_t>(*last));
}

}  // namespace

bool DestinationPolicy::IsV4(const Bytes& address) {
  static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::memcmp(address.data(), kMapped, sizeof(kMapped)) == 0;
}

// As it is judged. NAT64 (RFC 6052, section 2.1) sends to 64:ff9b::a.b.c.d what is for a.b.c.d.
DestinationPolicy::Bytes DestinationPolicy::BytesOf(const sockaddr& address) {
  static constexpr uint8_t kNat64[12] = {0x00, 0x64, 0xff, 0x9b};
  Bytes bytes = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (address.sa_family == AF_INET) {
    std::memcpy(bytes.data() + 12, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, 4);
    return bytes;
  }
  const in6_addr& v6 = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  const bool stands_for_v4 = std::memcmp(&v6, kNat64, sizeof(kNat64)) == 0;
  std::memcpy(bytes.data() + (stands_for_v4 ? 12 : 0), v6.s6_addr + (stands_for_v4 ? 12 : 0), stands_for_v4 ? 4 : 16);
  return bytes;
}

std::string DestinationPolicy::HostOf(const Bytes& address) {
  char text[INET6_ADDRSTRLEN] = "";
  const bool v4 = IsV4(address);
  inet_ntop(v4 ? AF_INET : AF_INET6, address.data() + (v4 ? 12 : 0), text, sizeof(text));
  return text;
}

bool DestinationPolicy::Network::Holds(const Bytes& address) const {
  if (v4 != IsV4(address)) return false;
  const int whole = bits / 8;
  if (std::memcmp(base.data(), address.data(), whole) != 0) return false;
  if (bits % 8 == 0) return true;
  const uint8_t mask = static_cast<uint8_t>(0xff << (8 - bits % 8));
  return (base[whole] & mask) == (address[whole] & mask);
}

absl::StatusOr<std::vector<DestinationPolicy::Network>> DestinationPolicy::ParseNetwork(absl::string_view word) {
  std::vector<Network> networks;
  const auto known = [&networks](absl::Span<const absl::string_view> texts) {
    for (absl::string_view text : texts) networks.push_back(Known(text));
    return networks;
  };
  if (word == "loopback") return known(kLoopback);
  if (word == "private") return known(kPrivate);
  if (word == "any") return known(kAny);

  const size_t slash = word.find('/');
  const std::string text(word.substr(0, slash));
  Network network;
  in_addr v4;
  network.v4 = inet_pton(AF_INET, text.c_str(), &v4) == 1;
  if (network.v4) {
    network.base[10] = network.base[11] = 0xff;
    std::memcpy(network.base.data() + 12, &v4, sizeof(v4));
  }
  if ((!network.v4 && inet_pton(AF_INET6, text.c_str(), network.base.data()) != 1) ||
      (!network.v4 && IsV4(network.base))) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", word, "\" is not a network, such as 10.0.0.0/8 or fd00::/8, nor loopback, private or any"));
  }
  const uint32_t most = network.v4 ? 32 : 128;
  const std::optional<uint32_t> bits = slash == absl::string_view::npos ? most : NumberOf(word.substr(slash + 1));
  if (!bits.has_value() || *bits > most) {
    return absl::InvalidArgumentError(absl::StrCat("\"", word, "\": the number behind '/' is not from 0 to ", most));
  }
  network.bits = static_cast<int>(*bits) + (network.v4 ? kV4Prefix : 0);
  for (int bit = network.bits; bit < 128; ++bit) {
    if ((network.base[bit / 8] & (0x80 >> bit % 8)) != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", word, "\" has bits set behind the first ", *bits, "; write the network's own address"));
    }
  }
  networks.push_back(network);
  return networks;
}

DestinationPolicy::Network DestinationPolicy::Known(absl::string_view text) {
  const absl::StatusOr<std::vector<Network>> networks = ParseNetwork(text);
  EV_CHECK(networks.ok() && networks->size() == 1);
  return networks->front();
}

std::vector<DestinationPolicy::Never> DestinationPolicy::NeverAllowed() {
  // Registries of IANA: iana-ipv4-special-registry, iana-ipv6-special-registry. The addresses of clouds are from their
  // manuals: Azure's WireServer, Alibaba's and Oracle's metadata; AWS', Google's and Scaleway's over IPv6. Over IPv4
  // all others are 169.254.169.254.
  return {
      {Known("0.0.0.0/8"), "an unspecified address, which is this host itself"},
      {Known("169.254.0.0/16"), "a link-local address, where clouds serve credentials"},
      {Known("168.63.129.16/32"), "an address of a cloud's own services"},
      {Known("100.100.100.200/32"), "an address of a cloud's own services"},
      {Known("192.0.0.192/32"), "an address of a cloud's own services"},
      {Known("224.0.0.0/4"), "a multicast address"},
      {Known("240.0.0.0/4"), "a reserved or the broadcast address"},
      {Known("::/128"), "an unspecified address, which is this host itself"},
      {Known("fe80::/10"), "a link-local address"},
      {Known("ff00::/8"), "a multicast address"},
      {Known("fd00:ec2::/32"), "an address of a cloud's own services"},
      {Known("fd20:ce::254/128"), "an address of a cloud's own services"},
      {Known("fd00:42::42/128"), "an address of a cloud's own services"},
      {Known("::ffff:0:0:0/96"), "an address that stands for one of IPv4"},  // RFC 2765
      {Known("64:ff9b:1::/48"), "an address that stands for one of IPv4"},   // RFC 8215
      {Known("2001::/32"), "an address that stands for one of IPv4"},        // Teredo
      {Known("2002::/16"), "an address that stands for one of IPv4"},        // 6to4
  };
}

DestinationPolicy DestinationPolicy::Default() {
  DestinationPolicy policy;
  policy.is_default_ = true;
  for (absl::string_view network : kLoopback) policy.networks_.push_back({Known(network), {}});
  for (absl::string_view network : kPrivate) policy.networks_.push_back({Known(network), {}});
  return policy;
}

absl::StatusOr<DestinationPolicy> DestinationPolicy::Parse(absl::string_view text) {
  DestinationPolicy policy;
  size_t number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (number > kMaxLines) {
      return absl::InvalidArgumentError(absl::StrCat("line ", number, ": more than ", kMaxLines, " lines"));
    }
    absl::string_view rule = absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    if (rule.empty()) continue;
    if (absl::Status status = policy.ParseLine(rule); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", status.message()));
    }
  }
  return policy;
}

absl::Status DestinationPolicy::ParseLine(absl::string_view line) {
  const size_t end = std::min(line.find_first_of(" \t"), line.size());
  const absl::string_view kind = line.substr(0, end);
  const absl::string_view rest = absl::StripLeadingAsciiWhitespace(line.substr(end));
  const std::vector<absl::string_view> words = absl::StrSplit(rest, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  if (kind != "scheme" && kind != "network" && kind != "directory" && kind != "secret") {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", kind, "\" is not a rule; a line begins with scheme, network, directory or secret"));
  }
  if (words.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", kind, "\" lacks what is allowed, such as \"",
                                                   kind == "scheme"    ? "scheme amqps kafka"
                                                   : kind == "network" ? "network 10.0.0.0/8 5672"
                                                   : kind == "secret"  ? "secret rabbit amqps broker:5671"
                                                                       : "directory /var/log/opensips",
                                                   "\""));
  }
  if (kind == "directory") return AllowDirectory(rest);
  if (kind == "secret") return ParseSecret(words);
  if (kind == "scheme") {
    for (absl::string_view word : words) {
      if (!std::all_of(word.begin(), word.end(), [](char c) {
            return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '+' || c == '-';
          })) {
        return absl::InvalidArgumentError(absl::StrCat("\"", word, "\" is not a scheme, such as kafka"));
      }
      schemes_.emplace(word);
    }
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<Network>> networks = ParseNetwork(words[0]);
  if (!networks.ok()) return networks.status();
  NetworkRule rule;
  for (size_t i = 1; i < words.size(); ++i) {
    absl::StatusOr<std::pair<uint16_t, uint16_t>> ports = ParsePorts(words[i]);
    if (!ports.ok()) return ports.status();
    rule.ports.push_back(*ports);
  }
  for (const Network& network : *networks) {
    rule.network = network;
    networks_.push_back(rule);
  }
  return absl::OkStatus();
}

absl::Status DestinationPolicy::AllowDirectory(absl::string_view path) {
  const auto parts = PartsOf(path);
  if (!absl::StartsWith(path, "/") || !parts.has_value() || path.find('\0') != absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", path, "\" is not an absolute path without \"..\", such as /var/log/opensips"));
  }
  directories_.push_back(Plain(*parts));
  return absl::OkStatus();
}

absl::Status DestinationPolicy::CheckScheme(absl::string_view scheme) const {
  if (schemes_.empty() || schemes_.contains(std::string(scheme))) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("scheme \"", scheme, "\" is not allowed here; those that are: ", absl::StrJoin(schemes_, ", "),
                   ". The file of --destinations may add \"scheme ", scheme, "\""));
}

absl::Status DestinationPolicy::ParseSecret(absl::Span<const absl::string_view> words) {
  if (!IsSecretName(words[0])) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", words[0], "\" is not the name of a secret: letters, digits, '_', '-' and single '.'"));
  }
  if (words.size() < 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"secret ", words[0], "\" lacks where it may go: a scheme and host:port, such as \"secret ",
                     words[0], " amqps broker:5671\""));
  }
  for (absl::string_view word : words.subspan(2)) {
    const absl::StatusOr<HostPort> host = ParseHostPort(word);
    if (!host.ok()) return absl::InvalidArgumentError(absl::StrCat("\"", word, "\": ", host.status().message()));
    secrets_[std::string(words[0])].insert(absl::StrCat(words[1], " ", host->ToString()));
  }
  return absl::OkStatus();
}

absl::Status DestinationPolicy::CheckSecret(absl::string_view name, absl::string_view scheme,
                                            absl::Span<const HostPort> hosts) const {
  const auto found = secrets_.find(std::string(name));
  for (const HostPort& host : hosts) {
    const std::string place = absl::StrCat(scheme, " ", host.ToString());
    if (found != secrets_.end() && found->second.contains(place)) continue;
    return absl::PermissionDeniedError(absl::StrCat(SecretReference(name), " is not for ", place,
                                                    "; the file of --destinations may add \"secret ", name, " ", place,
                                                    "\""));
  }
  if (!hosts.empty()) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat(SecretReference(name), " has nobody to be shown to"));
}

std::string DestinationPolicy::TextOf(const sockaddr& address) {
  return HostPort{HostOf(BytesOf(address)), PortOf(address)}.ToString();
}

absl::Status DestinationPolicy::CheckAddress(const sockaddr& address) const {
  if (address.sa_family != AF_INET && address.sa_family != AF_INET6) {
    return absl::PermissionDeniedError("an address that is neither of IPv4 nor of IPv6 is never allowed");
  }
  const Bytes bytes = BytesOf(address);
  const uint16_t port = PortOf(address);
  const std::string shown = TextOf(address);
  static constexpr Bytes kLoopbackV6 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  for (const Never& never : never_) {
    if (!never.network.Holds(bytes)) continue;
    return absl::PermissionDeniedError(absl::StrCat(shown, " is never allowed: ", never.what));
  }
  // IPv4-compatible, deprecated by RFC 4291.
  if (bytes != kLoopbackV6 && std::all_of(bytes.begin(), bytes.begin() + 12, [](uint8_t b) { return b == 0; })) {
    return absl::PermissionDeniedError(
        absl::StrCat(shown, " is never allowed: an address that stands for one of IPv4"));
  }
  bool other_ports = false;
  for (const NetworkRule& rule : networks_) {
    if (!rule.network.Holds(bytes)) continue;
    if (rule.ports.empty() || std::any_of(rule.ports.begin(), rule.ports.end(), [port](const auto& range) {
          return range.first <= port && port <= range.second;
        })) {
      return absl::OkStatus();
    }
    other_ports = true;
  }
  return absl::PermissionDeniedError(
      absl::StrCat(shown,
                   other_ports   ? " is not allowed: its network is, but not this port"
                   : is_default_ ? " is not allowed: without --destinations=FILE only loopback and private networks are"
                                 : " is not allowed: no network in the file of --destinations has it",
                   ". A line of that file that would allow it: network ", HostOf(bytes), " ", port));
}

absl::StatusOr<DestinationPolicy::Place> DestinationPolicy::PlaceOf(absl::string_view path) const {
  const auto parts = PartsOf(path);
  if (!absl::StartsWith(path, "/") || !parts.has_value()) {
    return absl::PermissionDeniedError(
        absl::StrCat("\"", path, "\" is not allowed: write an absolute path without \"..\""));
  }
  const std::string plain = Plain(*parts);
  const std::string* outermost = nullptr;
  for (const std::string& directory : directories_) {
    if (plain.size() > directory.size() && absl::StartsWith(plain, directory) && plain[directory.size()] == '/' &&
        (outermost == nullptr || directory.size() < outermost->size())) {
      outermost = &directory;
    }
  }
  if (outermost != nullptr) return Place{*outermost, plain.substr(outermost->size() + 1)};
  const std::string parent = plain.substr(0, std::max<size_t>(plain.rfind('/'), 1));
  return absl::PermissionDeniedError(absl::StrCat(
      "\"", path, "\" is not allowed: it lies beneath none of the directories that are. What would allow it: ",
      "--allow_directory=", parent, ", or a line in the file of --destinations: directory ", parent));
}

}  // namespace eventvirtual
