#include "transports/rabbitmq/broker_address.h"

#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxText = 255;    // bytes of an AMQP short string
constexpr size_t kMaxHeaders = 16;  // keeps the properties of a message far below the size of a frame
constexpr int kMaxHeartbeat = 3600;
constexpr absl::string_view kKeep = "/:@*#+,!$'()";  // readable, and without a meaning in params, key and query
constexpr absl::string_view kParams = "exchange=NAME, persistent, vhost=NAME, heartbeat=SECONDS, header.NAME=VALUE";

bool IsParamName(absl::string_view name) {
  return name == "exchange" || name == "persistent" || name == "vhost" || name == "heartbeat" || name == "tls_domain" ||
         absl::StartsWith(name, "header.");
}

// `what` names the part in errors; the text itself may be a password and is never repeated.
absl::Status Decode(absl::string_view what, absl::string_view text, std::string* out) {
  std::optional<std::string> decoded = PercentDecode(text);
  if (!decoded.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": a '%' must be followed by two hexadecimal digits; write a '%' itself as %25"));
  }
  if (decoded->size() > kMaxText) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is longer than the ", kMaxText, " bytes that AMQP allows"));
  }
  if (decoded->find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(what, " must not hold %00"));
  }
  *out = *std::move(decoded);
  return absl::OkStatus();
}

absl::Status ParseLogin(absl::string_view text, BrokerAddress* address) {
  const std::pair<absl::string_view, absl::string_view> login = absl::StrSplit(text, absl::MaxSplits(':', 1));
  if (login.first.empty()) return absl::InvalidArgumentError("the user before '@' is empty; write user:password@host");
  if (absl::Status status = Decode("the user", login.first, &address->user); !status.ok()) return status;
  if (login.first.size() == text.size()) return absl::OkStatus();
  return Decode("the password", login.second, &address->password);
}

absl::Status ParseParam(absl::string_view param, std::set<std::string>* seen, BrokerAddress* address) {
  const std::pair<absl::string_view, absl::string_view> cut = absl::StrSplit(param, absl::MaxSplits('=', 1));
  const std::string name(cut.first);
  if (name == "tls_domain") {
    return absl::InvalidArgumentError(
        "tls_domain: TLS to a broker is not supported yet; remove it, or reach the broker through a TLS proxy on this "
        "host");
  }
  if (!IsParamName(name)) {
    return absl::InvalidArgumentError(absl::StrCat("parameter \"", name, "\" before '?' is unknown; known: ", kParams));
  }
  if (!seen->insert(name).second) {
    return absl::InvalidArgumentError(absl::StrCat("parameter \"", name, "\" is given twice"));
  }
  const bool bare = param.size() == name.size();
  if (name == "persistent") {
    if (!bare && cut.second != "1" && cut.second != "0") {
      return absl::InvalidArgumentError("parameter \"persistent\" is neither 1 nor 0");
    }
    address->persistent = bare || cut.second == "1";
    return absl::OkStatus();
  }
  if (bare) return absl::InvalidArgumentError(absl::StrCat("parameter \"", name, "\" has no value; known: ", kParams));
  if (name == "exchange") return Decode(name, cut.second, &address->exchange);
  if (name == "vhost") {
    if (cut.second.empty()) return absl::InvalidArgumentError("parameter \"vhost\" is empty; the default is \"/\"");
    return Decode(name, cut.second, &address->vhost);
  }
  if (name == "heartbeat") {
    int seconds = 0;
    if (!absl::SimpleAtoi(cut.second, &seconds) || seconds < 0 || seconds > kMaxHeartbeat) {
      return absl::InvalidArgumentError(
          absl::StrCat("parameter \"heartbeat\" is not a number of seconds from 0 (none) to ", kMaxHeartbeat));
    }
    address->heartbeat = absl::Seconds(seconds);
    return absl::OkStatus();
  }
  std::string header;
  if (absl::Status status = Decode(name, absl::StripPrefix(cut.first, "header."), &header); !status.ok()) return status;
  if (header.empty()) return absl::InvalidArgumentError("a header has no name; write header.NAME=VALUE");
  if (address->headers.size() == kMaxHeaders) {
    return absl::InvalidArgumentError(absl::StrCat("more than ", kMaxHeaders, " headers"));
  }
  const auto [place, is_new] = address->headers.emplace(header, "");
  if (!is_new) return absl::InvalidArgumentError(absl::StrCat("parameter \"", name, "\" is given twice"));
  return Decode(name, cut.second, &place->second);
}

}  // namespace

absl::StatusOr<BrokerAddress> ParseBrokerAddress(const Uri& uri) {
  BrokerAddress address;
  const absl::string_view body = uri.body;
  const size_t slash = body.find('/');
  if (slash == absl::string_view::npos) {
    return absl::InvalidArgumentError("no '/' behind the host; write rabbitmq:host/routing_key");
  }
  absl::string_view authority = body.substr(0, slash);
  if (const size_t at = authority.rfind('@'); at != absl::string_view::npos) {
    if (absl::Status status = ParseLogin(authority.substr(0, at), &address); !status.ok()) return status;
    authority.remove_prefix(at + 1);
  }
  absl::StatusOr<HostPort> host = ParseHostPort(authority, 5672);
  if (!host.ok()) return host.status();
  address.host = *std::move(host);

  absl::string_view key = body.substr(slash + 1);
  if (const size_t mark = key.find('?'); mark != absl::string_view::npos) {
    std::set<std::string> seen;
    for (absl::string_view param : absl::StrSplit(key.substr(0, mark), ';', absl::SkipEmpty())) {
      if (absl::Status status = ParseParam(param, &seen, &address); !status.ok()) return status;
    }
    key.remove_prefix(mark + 1);
  } else if (const size_t equals = key.find('=');
             equals != absl::string_view::npos && IsParamName(key.substr(0, equals))) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", key.substr(0, equals),
                     "=…\" stands where the routing key does; write the parameters before a "
                     "'?', as in exchange=NAME?routing_key, or a '=' of the key as %3D"));
  }
  if (absl::Status status = Decode("the routing key", key, &address.routing_key); !status.ok()) return status;
  if (address.exchange.empty() && address.routing_key.empty()) {
    return absl::InvalidArgumentError(
        "the routing key is empty; without exchange=NAME it is the name of the queue: rabbitmq:host/queue");
  }

  QueryReader query(uri);
  address.timeout = query.TakeDuration("timeout", address.timeout, absl::Milliseconds(1), absl::Minutes(5));
  if (absl::Status status = query.Done(); !status.ok()) return status;
  return address;
}

std::string BrokerAddress::ToString(bool masked) const {
  const BrokerAddress defaults;
  std::string text = "rabbitmq:";
  if (user != defaults.user || password != defaults.password) {
    absl::StrAppend(&text, PercentEncode(user, ""), ":", masked ? "***" : PercentEncode(password, ""), "@");
  }
  absl::StrAppend(&text, host.ToString(), "/");
  std::vector<std::string> params;
  if (!exchange.empty()) params.push_back(absl::StrCat("exchange=", PercentEncode(exchange, kKeep)));
  if (persistent) params.push_back("persistent");
  if (vhost != defaults.vhost) params.push_back(absl::StrCat("vhost=", PercentEncode(vhost, kKeep)));
  if (heartbeat != defaults.heartbeat) params.push_back(absl::StrCat("heartbeat=", absl::ToInt64Seconds(heartbeat)));
  for (const auto& [name, value] : headers) {
    params.push_back(absl::StrCat("header.", PercentEncode(name, kKeep), "=", PercentEncode(value, kKeep)));
  }
  if (!params.empty()) absl::StrAppend(&text, absl::StrJoin(params, ";"), "?");
  absl::StrAppend(&text, PercentEncode(routing_key, kKeep));
  QueryWriter options;
  if (timeout != defaults.timeout) options.Add("timeout", absl::FormatDuration(timeout));
  return absl::StrCat(text, options.text());
}

}  // namespace eventvirtual
