#include "transports/rabbitmq/broker_address.h"

#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "transports/api/encoding.h"

namespace eventvirtual {
namespace {

constexpr uint16_t kPort = 5672;
constexpr uint16_t kTlsPort = 5671;
constexpr size_t kMaxText = 255;    // bytes of an AMQP short string
constexpr size_t kMaxHeaders = 16;  // keeps the properties of a message far below the size of a frame
constexpr int kMaxHeartbeat = 3600;
constexpr absl::string_view kKeep = "/:*#+,!$'()";  // readable, and without a meaning in params, key and query
constexpr absl::string_view kParams =
    "exchange=NAME, persistent, mandatory=0, vhost=NAME, heartbeat=SECONDS, header.NAME=VALUE";
constexpr absl::string_view kHeaderPrefix = "header.";
// Of headers that are ours: context attributes in the binary mode of CloudEvents, and the tag of amqp_frames.
constexpr absl::string_view kOwnHeaders[] = {"cloudEvents_", "cloudEvents:", "x-eventvirtual-"};

bool IsParamName(absl::string_view name) {
  return name == "exchange" || name == "persistent" || name == "mandatory" || name == "vhost" || name == "heartbeat" ||
         name == "tls_domain" || absl::StartsWith(name, kHeaderPrefix);
}

// `what` names the part in errors; the text itself may be a password and is never repeated.
absl::Status Check(absl::string_view what, absl::string_view text) {
  if (text.size() > kMaxText) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is longer than the ", kMaxText, " bytes that AMQP allows"));
  }
  if (absl::StrContains(text, '\0')) return absl::InvalidArgumentError(absl::StrCat(what, " must not hold %00"));
  return absl::OkStatus();
}

absl::Status Decode(absl::string_view what, absl::string_view text, std::string* out) {
  std::optional<std::string> decoded = PercentDecode(text);
  if (!decoded.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": a '%' must be followed by two hexadecimal digits; write a '%' itself as %25"));
  }
  *out = *std::move(decoded);
  return Check(what, *out);
}

absl::Status ParseLogin(const Uri& uri, absl::string_view text, BrokerAddress* address) {
  const std::pair<absl::string_view, absl::string_view> login = absl::StrSplit(text, absl::MaxSplits(':', 1));
  if (login.first.empty()) return absl::InvalidArgumentError("the user before '@' is empty; write user:password@host");
  if (absl::Status status = Decode("the user", login.first, &address->user); !status.ok()) return status;
  if (login.first.size() == text.size()) return absl::OkStatus();
  absl::StatusOr<Secret> password = SecretInBody(uri, "the password", login.second);
  if (!password.ok()) return password.status();
  address->password = *std::move(password);
  return Check("the password", address->password.Reveal());
}

// Reads `[user[:password]@]host[:port]`.
absl::Status ParseAuthority(const Uri& uri, absl::string_view text, uint16_t default_port, BrokerAddress* address) {
  if (const size_t at = text.rfind('@'); at != absl::string_view::npos) {
    if (absl::Status status = ParseLogin(uri, text.substr(0, at), address); !status.ok()) return status;
    text.remove_prefix(at + 1);
  }
  absl::StatusOr<HostPort> host = ParseHostPort(text, default_port);
  if (!host.ok()) return host.status();
  address->host = *std::move(host);
  return absl::OkStatus();
}

// `written` is how the name stands in the text, for errors: decoded it may be no UTF-8.
absl::Status AddHeader(absl::string_view written, const std::string& name, std::string value, BrokerAddress* address) {
  if (name.empty()) return absl::InvalidArgumentError("a header has no name; write header.NAME=VALUE");
  for (absl::string_view own : kOwnHeaders) {
    if (absl::StartsWith(name, own)) {
      return absl::InvalidArgumentError(absl::StrCat("headers whose names begin with ", own, " are written by us"));
    }
  }
  if (address->headers.size() == kMaxHeaders) {
    return absl::InvalidArgumentError(absl::StrCat("more than ", kMaxHeaders, " headers"));
  }
  if (!address->headers.emplace(name, std::move(value)).second) {
    return absl::InvalidArgumentError(absl::StrCat("parameter \"", written, "\" is given twice"));
  }
  return absl::OkStatus();
}

absl::Status ParseParam(absl::string_view param, std::set<std::string>* seen, BrokerAddress* address) {
  const std::pair<absl::string_view, absl::string_view> cut = absl::StrSplit(param, absl::MaxSplits('=', 1));
  const std::string name(cut.first);
  if (name == "tls_domain") {
    return absl::InvalidArgumentError(
        "tls_domain names a domain of OpenSIPS' own TLS; for TLS write amqps://user:password@host/vhost?ca=/path and "
        "routing_key=…, exchange=… behind it");
  }
  if (!IsParamName(name)) {
    return absl::InvalidArgumentError(absl::StrCat("parameter \"", name, "\" before '?' is unknown; known: ", kParams));
  }
  if (!seen->insert(name).second) {
    return absl::InvalidArgumentError(absl::StrCat("parameter \"", name, "\" is given twice"));
  }
  const bool bare = param.size() == name.size();
  if (name == "persistent" || name == "mandatory") {
    if (!bare && cut.second != "1" && cut.second != "0") {
      return absl::InvalidArgumentError(absl::StrCat("parameter \"", name, "\" is neither 1 nor 0"));
    }
    (name == "persistent" ? address->persistent : address->mandatory) = bare || cut.second == "1";
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
  std::string header, value;
  if (absl::Status status = Decode(name, absl::StripPrefix(cut.first, kHeaderPrefix), &header); !status.ok()) {
    return status;
  }
  if (absl::Status status = Decode(name, cut.second, &value); !status.ok()) return status;
  return AddHeader(name, header, std::move(value), address);
}

// --- rabbitmq:host/[params?]routing_key[?options]

absl::Status ParseOpensips(const Uri& uri, QueryReader& query, BrokerAddress* address) {
  const absl::string_view body = uri.body;
  const size_t slash = body.find('/');
  if (slash == absl::string_view::npos) {
    return absl::InvalidArgumentError("no '/' behind the host; write rabbitmq:host/routing_key");
  }
  absl::string_view key = body.substr(slash + 1);
  // Before the host, whose errors may repeat it.
  if (absl::Status status = CheckWhole(body.substr(0, slash), "the routing key", key); !status.ok()) return status;
  if (absl::Status status = ParseAuthority(uri, body.substr(0, slash), kPort, address); !status.ok()) return status;

  if (const size_t mark = key.find('?'); mark != absl::string_view::npos) {
    std::set<std::string> seen;
    for (absl::string_view param : absl::StrSplit(key.substr(0, mark), ';', absl::SkipEmpty())) {
      if (absl::Status status = ParseParam(param, &seen, address); !status.ok()) return status;
    }
    key.remove_prefix(mark + 1);
  } else if (const size_t equals = key.find('=');
             equals != absl::string_view::npos && IsParamName(key.substr(0, equals))) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", key.substr(0, equals),
                     "=…\" stands where the routing key does; write the parameters before a "
                     "'?', as in exchange=NAME?routing_key, or a '=' of the key as %3D"));
  }
  if (absl::Status status = Decode("the routing key", key, &address->routing_key); !status.ok()) return status;
  address->timeout = query.TakeDuration("timeout", address->timeout, absl::Milliseconds(1), absl::Minutes(5));
  address->encoding = TakeEncoding(query, /*has_headers=*/true);
  return absl::OkStatus();
}

std::string OpensipsText(const BrokerAddress& address, absl::string_view login) {
  const BrokerAddress defaults;
  std::vector<std::string> params;
  if (!address.exchange.empty()) params.push_back(absl::StrCat("exchange=", PercentEncode(address.exchange, kKeep)));
  if (address.persistent) params.push_back("persistent");
  if (!address.mandatory) params.push_back("mandatory=0");
  if (address.vhost != defaults.vhost) params.push_back(absl::StrCat("vhost=", PercentEncode(address.vhost, kKeep)));
  if (address.heartbeat != defaults.heartbeat) {
    params.push_back(absl::StrCat("heartbeat=", absl::ToInt64Seconds(address.heartbeat)));
  }
  for (const auto& [name, value] : address.headers) {
    params.push_back(absl::StrCat(kHeaderPrefix, PercentEncode(name, kKeep), "=", PercentEncode(value, kKeep)));
  }
  QueryWriter options;
  if (address.timeout != defaults.timeout) options.Add("timeout", absl::FormatDuration(address.timeout));
  AddEncoding(address.encoding, &options);
  return absl::StrCat("rabbitmq:", login, address.host.ToString(), "/", absl::StrJoin(params, ";"),
                      params.empty() ? "" : "?", PercentEncode(address.routing_key, kKeep), options.text());
}

// --- amqp[s]://host[/vhost]?options

absl::Status ParseAmqpUri(const Uri& uri, QueryReader& query, BrokerAddress* address) {
  absl::string_view body = uri.body;
  if (!absl::ConsumePrefix(&body, "//")) {
    return absl::InvalidArgumentError(
        absl::StrCat("no \"//\" behind the scheme; write ", uri.scheme, "://host/vhost?routing_key=KEY"));
  }
  const size_t slash = body.find('/');
  const absl::string_view vhost = slash == absl::string_view::npos ? "" : body.substr(slash + 1);
  const uint16_t port = address->tls() ? kTlsPort : kPort;
  if (absl::StrContains(vhost, '@')) {
    return absl::InvalidArgumentError(
        "there is an '@' behind the first '/': write a '/' of a password as %2F, and an '@' of the virtual host as "
        "%40");
  }
  if (absl::Status status = ParseAuthority(uri, body.substr(0, slash), port, address); !status.ok()) return status;
  if (absl::StrContains(vhost, '?')) {
    return absl::InvalidArgumentError(
        "what stands behind '?' does not read as options; write name=value, joined by '&', and a '?' of the virtual "
        "host as %3F");
  }
  if (absl::StrContains(vhost, '/')) {
    return absl::InvalidArgumentError(
        "a second '/' stands behind the host; write a '/' of the virtual host as %2F, as in /%2F for \"/\"");
  }
  // By the letter of the specification "amqp://host/" names a virtual host without a name. RabbitMQ has none, and those
  // who write it mean "/", as most clients do.
  if (!vhost.empty()) {
    if (absl::Status status = Decode("the virtual host", vhost, &address->vhost); !status.ok()) return status;
  }

  address->exchange = query.TakeString("exchange", "");
  address->routing_key = query.TakeString("routing_key", "");
  address->persistent = query.TakeBool("persistent", address->persistent);
  address->mandatory = query.TakeBool("mandatory", address->mandatory);
  address->heartbeat =
      absl::Seconds(query.TakeInt("heartbeat", absl::ToInt64Seconds(address->heartbeat), 0, kMaxHeartbeat));
  address->timeout = query.TakeDuration("timeout", address->timeout, absl::Milliseconds(1), absl::Minutes(5));
  address->encoding = TakeEncoding(query, /*has_headers=*/true);
  if (absl::Status status = Check("option \"exchange\"", address->exchange); !status.ok()) return status;
  if (absl::Status status = Check("option \"routing_key\"", address->routing_key); !status.ok()) return status;
  for (const auto& option : uri.query) {
    if (!absl::StartsWith(option.first, kHeaderPrefix)) continue;
    std::string value = query.TakeString(option.first, "");
    const std::string name(absl::StripPrefix(option.first, kHeaderPrefix));
    for (absl::string_view text : {absl::string_view(name), absl::string_view(value)}) {
      if (absl::Status status = Check(option.first, text); !status.ok()) return status;
    }
    if (absl::Status status = AddHeader(option.first, name, std::move(value), address); !status.ok()) return status;
  }
  return address->tls() ? TakeTlsOptions(query, address) : absl::OkStatus();
}

std::string AmqpUriText(const BrokerAddress& address, absl::string_view login) {
  const BrokerAddress defaults;
  QueryWriter options;
  if (!address.exchange.empty()) options.Add("exchange", address.exchange);
  if (!address.routing_key.empty()) options.Add("routing_key", address.routing_key);
  if (address.persistent) options.Add("persistent", "1");
  if (!address.mandatory) options.Add("mandatory", "0");
  if (address.heartbeat != defaults.heartbeat) {
    options.Add("heartbeat", absl::StrCat(absl::ToInt64Seconds(address.heartbeat)));
  }
  for (const auto& [name, value] : address.headers) options.Add(absl::StrCat(kHeaderPrefix, name), value);
  if (address.timeout != defaults.timeout) options.Add("timeout", absl::FormatDuration(address.timeout));
  AddEncoding(address.encoding, &options);
  AddTlsOptions(address, &options);
  const std::string vhost = address.vhost == defaults.vhost ? "" : absl::StrCat("/", PercentEncode(address.vhost, ""));
  return absl::StrCat(address.scheme, "://", login, address.host.ToString(), vhost, options.text());
}

}  // namespace

absl::StatusOr<BrokerAddress> ParseBrokerAddress(const Uri& uri) {
  BrokerAddress address;
  address.scheme = uri.scheme;
  const bool opensips = uri.scheme == "rabbitmq";
  QueryReader query(uri);
  if (absl::Status status = opensips ? ParseOpensips(uri, query, &address) : ParseAmqpUri(uri, query, &address);
      !status.ok()) {
    return status;
  }
  if (absl::Status status = query.Done(); !status.ok()) return status;
  if (address.exchange.empty() && address.routing_key.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the routing key is empty; without exchange=NAME it is the name of the queue: ",
                     opensips ? "rabbitmq:host/queue" : absl::StrCat(uri.scheme, "://host/vhost?routing_key=QUEUE")));
  }
  return address;
}

std::string BrokerAddress::ToString(bool masked) const {
  const BrokerAddress defaults;
  std::string login;
  if (user != defaults.user || !(password == defaults.password)) {
    login = absl::StrCat(PercentEncode(user, ""), ":", InBody(password, masked), "@");
  }
  return scheme == defaults.scheme ? OpensipsText(*this, login) : AmqpUriText(*this, login);
}

}  // namespace eventvirtual
