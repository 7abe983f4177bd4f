#include "transports/mqtt/mqtt_address.h"

#include <mosquitto.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace eventvirtual {
namespace {

constexpr uint16_t kPort = 1883, kTlsPort = 8883;
constexpr char kClientId[] = "eventvirtual";
constexpr size_t kMaxClientId = 32;
constexpr size_t kMaxTopic = 1024;
constexpr absl::string_view kKeep = ":/!$'()*,;";  // of a topic, what may stand there as it is

absl::Status NotUtf8(absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, " is not UTF-8 without control characters, percent-encoded where it holds what a URI cannot"));
}

bool IsUtf8(const std::string& text) {
  return text.empty() || (text.find('\0') == std::string::npos &&
                          mosquitto_validate_utf8(text.data(), static_cast<int>(text.size())) == MOSQ_ERR_SUCCESS);
}

absl::Status Decode(absl::string_view what, absl::string_view text, std::string* out) {
  std::optional<std::string> decoded = PercentDecode(text);
  if (!decoded.has_value() || !IsUtf8(*decoded)) return NotUtf8(what);
  *out = *std::move(decoded);
  return absl::OkStatus();
}

absl::Status CheckTopic(absl::string_view topic) {
  if (topic.empty()) return absl::InvalidArgumentError("the topic behind the host is empty; write mqtt://host/topic");
  if (topic.size() > kMaxTopic) {
    return absl::InvalidArgumentError(absl::StrCat("the topic is longer than ", kMaxTopic, " bytes"));
  }
  if (const size_t at = topic.find_first_of("+#"); at != absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("byte ", at + 1, " of the topic is a wildcard (+ or #); those are for who reads"));
  }
  if (topic.front() == '$') {
    return absl::InvalidArgumentError("the topic begins with '$', which is the broker's own");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<MqttAddress> ParseMqttAddress(const Uri& uri) {
  MqttAddress address;
  address.tls = uri.scheme == "mqtts";
  absl::string_view body = uri.body;
  if (!absl::ConsumePrefix(&body, "//")) {
    return absl::InvalidArgumentError(absl::StrCat("no // behind the scheme; write ", uri.scheme, "://host/topic"));
  }
  const size_t slash = body.find('/');
  if (slash == absl::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat("no '/' behind the host; write ", uri.scheme, "://host/topic"));
  }
  absl::string_view authority = body.substr(0, slash);
  const absl::string_view topic = body.substr(slash + 1);
  // Before the host, whose errors may repeat it.
  if (absl::Status status = CheckWhole(authority, "the topic", topic); !status.ok()) return status;
  if (const size_t at = authority.rfind('@'); at != absl::string_view::npos) {
    const absl::string_view login = authority.substr(0, at);
    const size_t colon = std::min(login.find(':'), login.size());
    if (absl::Status status = Decode("the user", login.substr(0, colon), &address.user); !status.ok()) return status;
    if (colon < login.size()) {
      absl::StatusOr<Secret> password = SecretInBody(uri, "the password", login.substr(colon + 1));
      if (!password.ok()) return password.status();
      if (!IsUtf8(password->Reveal())) return NotUtf8("the password");
      address.password = *std::move(password);
    }
    if (address.user.empty()) return absl::InvalidArgumentError("the user before '@' is empty");
    authority.remove_prefix(at + 1);
  }
  absl::StatusOr<HostPort> host = ParseHostPort(authority, address.tls ? kTlsPort : kPort);
  if (!host.ok()) return host.status();
  address.host = *std::move(host);
  if (absl::Status status = Decode("the topic", topic, &address.topic); !status.ok()) return status;
  if (absl::Status status = CheckTopic(address.topic); !status.ok()) return status;

  QueryReader query(uri);
  address.qos = static_cast<int>(query.TakeInt("qos", address.qos, 0, 2));
  address.retain = query.TakeBool("retain", address.retain);
  address.require_subscribers = query.TakeBool("require_subscribers", address.require_subscribers);
  address.client_id = query.TakeString("client_id", kClientId);
  address.timeout = query.TakeDuration("timeout", address.timeout, absl::Milliseconds(1), absl::Minutes(5));
  address.encoding = TakeEncoding(query, /*has_headers=*/true);
  if (address.tls) {
    if (absl::Status status = TakeTlsOptions(query, &address); !status.ok()) return status;
  }
  if (absl::Status status = query.Done(); !status.ok()) return status;
  if (address.client_id.empty() || address.client_id.size() > kMaxClientId ||
      address.client_id.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.") !=
          std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("option \"client_id\" is not 1 to ", kMaxClientId, " of a-z A-Z 0-9 - _ ."));
  }
  if (address.require_subscribers && address.qos == 0) {
    return absl::InvalidArgumentError(
        "option \"require_subscribers\" needs qos=1 or 2: without, the broker says nothing");
  }
  return address;
}

std::string MqttAddress::ToString(bool masked) const {
  const MqttAddress defaults;
  std::string text = tls ? "mqtts://" : "mqtt://";
  if (!user.empty()) {
    absl::StrAppend(&text, PercentEncode(user, ""));
    if (!password.empty()) absl::StrAppend(&text, ":", InBody(password, masked));
    absl::StrAppend(&text, "@");
  }
  QueryWriter options;
  if (qos != defaults.qos) options.Add("qos", absl::StrCat(qos));
  if (retain) options.Add("retain", "1");
  if (require_subscribers) options.Add("require_subscribers", "1");
  if (client_id != kClientId) options.Add("client_id", client_id);
  AddTlsOptions(*this, &options);
  if (timeout != defaults.timeout) options.Add("timeout", absl::FormatDuration(timeout));
  AddEncoding(encoding, &options);
  return absl::StrCat(text, host.ToString(), "/", PercentEncode(topic, kKeep), options.text());
}

}  // namespace eventvirtual
