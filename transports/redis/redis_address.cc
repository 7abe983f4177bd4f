#include "transports/redis/redis_address.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace eventvirtual {
namespace {

constexpr uint16_t kPort = 6379;
constexpr int64_t kMaxDatabase = 1 << 20;
constexpr int64_t kMaxLength = 1000000000;
constexpr int64_t kMaxReceivers = 1000000;
constexpr absl::string_view kKeep = ":/@!$'()*,;";  // of a key, what may stand there as it is

struct KindName {
  absl::string_view prefix;
  RedisAddress::Kind kind;
};
constexpr KindName kKinds[] = {{"stream:", RedisAddress::Kind::kStream},
                               {"list:", RedisAddress::Kind::kList},
                               {"channel:", RedisAddress::Kind::kChannel}};

absl::Status Decode(absl::string_view what, absl::string_view text, std::string* out) {
  std::optional<std::string> decoded = PercentDecode(text);
  if (!decoded.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": a '%' must be followed by two hexadecimal digits; write '%' as %25"));
  }
  *out = *std::move(decoded);
  return absl::OkStatus();
}

absl::Status ParseLogin(const Uri& uri, absl::string_view login, RedisAddress* address) {
  const size_t colon = login.find(':');
  if (colon == absl::string_view::npos) {
    return absl::InvalidArgumentError("no ':' before '@'; write user:password@, or :password@ for the default user");
  }
  if (absl::Status status = Decode("the user", login.substr(0, colon), &address->user); !status.ok()) return status;
  absl::StatusOr<Secret> password = SecretInBody(uri, "the password", login.substr(colon + 1));
  if (!password.ok()) return password.status();
  address->password = *std::move(password);
  if (address->password.empty()) return absl::InvalidArgumentError("the password before '@' is empty");
  return absl::OkStatus();
}

absl::Status ParsePlace(absl::string_view place, RedisAddress* address) {
  for (const KindName& kind : kKinds) {
    if (!absl::ConsumePrefix(&place, kind.prefix)) continue;
    address->kind = kind.kind;
    if (place.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("nothing stands behind \"", kind.prefix, "\""));
    }
    return Decode("the key", place, &address->key);
  }
  return absl::InvalidArgumentError("the path is none of /stream:KEY, /list:KEY and /channel:NAME");
}

}  // namespace

absl::StatusOr<RedisAddress> ParseRedisAddress(const Uri& uri) {
  if (uri.scheme == "rediss") {
    return absl::InvalidArgumentError(
        "this build has no TLS to Redis: its client library (hiredis 0.14) cannot; write redis:// to a local TLS "
        "tunnel, such as stunnel's");
  }
  RedisAddress address;
  absl::string_view body = uri.body;
  if (!absl::ConsumePrefix(&body, "//")) {
    return absl::InvalidArgumentError("no // behind the scheme; write redis://host/stream:KEY");
  }
  // The host holds no '/', so an '@' behind one belongs to the key, or to a password with a bare '/'.
  const size_t slash = body.find('/');
  if (slash == absl::string_view::npos) {
    return absl::InvalidArgumentError("no '/' behind the host; write redis://host/stream:KEY");
  }
  absl::string_view authority = body.substr(0, slash);
  if (const size_t at = authority.rfind('@'); at != absl::string_view::npos) {
    if (absl::Status status = ParseLogin(uri, authority.substr(0, at), &address); !status.ok()) return status;
    authority.remove_prefix(at + 1);
  }
  // Before the host, whose errors may repeat it: where a password holds a bare '/', the "host" is a part of it.
  if (absl::Status status = ParsePlace(body.substr(slash + 1), &address); !status.ok()) return status;
  absl::StatusOr<HostPort> host = ParseHostPort(authority, kPort);
  if (!host.ok()) return host.status();
  address.host = *std::move(host);

  QueryReader query(uri);
  address.database = query.TakeInt("db", 0, 0, kMaxDatabase);
  if (address.kind == RedisAddress::Kind::kStream) {
    address.max_length = query.TakeInt("max_length", address.max_length, 1, kMaxLength);
  }
  if (address.kind == RedisAddress::Kind::kChannel) {
    address.min_receivers = query.TakeInt("min_receivers", address.min_receivers, 0, kMaxReceivers);
  }
  address.timeout = query.TakeDuration("timeout", address.timeout, absl::Milliseconds(1), absl::Minutes(5));
  address.encoding = TakeEncoding(query, /*has_headers=*/false);
  if (absl::Status status = query.Done(); !status.ok()) return status;
  return address;
}

std::string RedisAddress::ToString(bool masked) const {
  const RedisAddress defaults;
  std::string text = "redis://";
  if (!password.empty()) {
    absl::StrAppend(&text, PercentEncode(user, ""), ":", InBody(password, masked), "@");
  }
  QueryWriter options;
  if (database != defaults.database) options.Add("db", absl::StrCat(database));
  if (max_length != defaults.max_length) options.Add("max_length", absl::StrCat(max_length));
  if (min_receivers != defaults.min_receivers) options.Add("min_receivers", absl::StrCat(min_receivers));
  if (timeout != defaults.timeout) options.Add("timeout", absl::FormatDuration(timeout));
  AddEncoding(encoding, &options);
  absl::string_view prefix;
  for (const KindName& name : kKinds) prefix = name.kind == kind ? name.prefix : prefix;
  return absl::StrCat(text, host.ToString(), "/", prefix, PercentEncode(key, kKeep), options.text());
}

}  // namespace eventvirtual
