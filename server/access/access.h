// Access: asks who is there and whether they may, for gRPC, HTTP and the management interface alike.
#ifndef EVENTVIRTUAL_SERVER_ACCESS_ACCESS_H_
#define EVENTVIRTUAL_SERVER_ACCESS_ACCESS_H_

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/access/access_list.h"
#include "server/files/reloaded.h"

namespace eventvirtual {

// The answers to who asked. Any thread.
struct AccessCounts {
  std::atomic<uint64_t> allowed{0}, unauthenticated{0}, denied{0};
};

// Any thread. An answer takes some microseconds: names are compared, and a token is hashed.
class Access {
 public:
  // `list` "": AccessList::Default(); `tokens` "": there are none. Errors name the option, and of a file the line.
  static absl::StatusOr<std::unique_ptr<Access>> Load(const std::string& list, const std::string& tokens);

  // `caller`, with the name of the token, if any, that `authorization` shows.
  Caller Identify(Caller caller, absl::string_view authorization) const;

  // AccessList::Allow() for a caller whose token, if any, `authorization` shows as RFC 6750 says: "Bearer TOKEN". Who
  // may not is counted, and told in the log with `peer`, the address.
  absl::Status Ask(Caller caller, absl::string_view authorization, absl::string_view peer, absl::string_view what,
                   std::initializer_list<Role> roles, const std::string* event = nullptr) const;

  ReloadedFiles& files() const { return *files_; }
  const AccessCounts& counts() const { return counts_; }

 private:
  struct Files {
    AccessList list;
    TokenList tokens;
  };
  static Caller Identify(const TokenList& tokens, Caller caller, absl::string_view authorization);

  explicit Access(std::shared_ptr<Reloaded<Files>> files) : files_(std::move(files)) {}

  const std::shared_ptr<Reloaded<Files>> files_;
  mutable AccessCounts counts_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ACCESS_ACCESS_H_
