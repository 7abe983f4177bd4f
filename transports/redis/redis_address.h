// RedisAddress: the text of a redis subscriber, understood.
#ifndef EVENTVIRTUAL_TRANSPORTS_REDIS_REDIS_ADDRESS_H_
#define EVENTVIRTUAL_TRANSPORTS_REDIS_REDIS_ADDRESS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "transports/api/encoding.h"
#include "transports/api/secret.h"
#include "transports/api/uri.h"

namespace eventvirtual {

// `redis://[user:password@]host[:port]/stream:KEY`, `…/list:KEY`, `…/channel:NAME`, and options; see the README.
struct RedisAddress {
  enum class Kind { kStream, kList, kChannel };
  HostPort host;
  std::string user;  // empty: the default user
  Secret password;   // empty: no login
  Kind kind = Kind::kStream;
  std::string key;            // or the channel's name; any bytes
  int64_t database = 0;       // SELECT
  int64_t max_length = 0;     // of a stream, about so many entries; 0: it grows without bound
  int64_t min_receivers = 1;  // of a channel
  absl::Duration timeout = absl::Seconds(1);
  Encoding encoding = Encoding::kJsonRpc;

  // All that is not to be shown.
  std::vector<const Secret*> Secrets() const { return {&password}; }

  // The canonical text, or with `masked` the same with "***" for the password.
  std::string ToString(bool masked) const;
};

// INVALID_ARGUMENT names the faulty part and what would be accepted, never the password.
absl::StatusOr<RedisAddress> ParseRedisAddress(const Uri& uri);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_REDIS_REDIS_ADDRESS_H_
