// AccessList: who may do what.
#ifndef EVENTVIRTUAL_SERVER_ACCESS_ACCESS_LIST_H_
#define EVENTVIRTUAL_SERVER_ACCESS_ACCESS_LIST_H_

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace eventvirtual {

enum class Role : uint8_t {
  kProducer,    // raises events
  kSubscriber,  // subscribes, and listens
  kOperator,    // everything
  kObserver,    // sees everything, changes nothing
};

// Whoever calls, as far as it has been proven.
struct Caller {
  enum class Way { kLoopback, kUnix, kTls };
  Way way = Way::kLoopback;
  std::vector<std::string> certificate;  // the names in its certificate, which our CA has signed
  std::string token;                     // the name of its token, never the token itself
  std::optional<uid_t> user;             // the owner of the process at the other end of a unix socket
};

// Tokens by their hashes, so that the file gives nobody a token.
class TokenList {
 public:
  // Lines "NAME HASH": HASH is the SHA-256 of the token in hexadecimal, as `printf %s TOKEN | sha256sum` writes it. A
  // token should be long and random: the hash of a short one can be guessed. # begins a comment. INVALID_ARGUMENT names
  // the line.
  static absl::StatusOr<TokenList> Parse(absl::string_view text);

  // Whose it is; "": nobody's. Takes as long for each that is wrong.
  std::string NameOf(absl::string_view token) const;

 private:
  struct Token {
    std::string name;
    std::array<uint8_t, 32> hash;
  };
  std::vector<Token> tokens_;
};

class AccessList {
 public:
  // Lines "WHO ROLE [PATTERN…]"; several with the same WHO add up. # begins a comment.
  //   cert:NAME   who shows a certificate with this name: one of its subject alternative names, or its common name if
  //   it
  //               has none. cert:* is any that the CA has signed.
  //   token:NAME  who shows this token
  //   loopback    whoever connects by TCP on this host without TLS
  //   user:NAME   the user of this host, by name or number, whose process has connected to a unix socket
  //   unix        whoever may connect to the unix socket
  // ROLE is producer, subscriber, operator or observer. A PATTERN is an event's name or the beginning of names,
  // E_PIKE_*; only producer and subscriber have any, and without one all events are theirs. INVALID_ARGUMENT names the
  // line.
  static absl::StatusOr<AccessList> Parse(absl::string_view text);

  // Where there is no file: whoever is on this host, or has a certificate that the CA has signed, may do everything.
  static AccessList Default();

  // Whether `caller` has one of `roles`. `event`, an event's name or a pattern, must then be covered by the patterns of
  // that role; nullptr: they do not count. `what` names what is to be done. UNAUTHENTICATED: nothing is known of the
  // caller, PERMISSION_DENIED: something is; both say the way out.
  absl::Status Allow(const Caller& caller, absl::string_view what, std::initializer_list<Role> roles,
                     const std::string* event) const;

  // For people, and the principal whose rates and subscriptions are counted: "cert:opensips.example.org",
  // "token:billing", "user:1000", "loopback".
  static std::string Describe(const Caller& caller);

 private:
  struct Grant {
    std::string who;
    Role role;
    std::vector<std::string> patterns;  // none: all events
  };
  std::vector<Grant> grants_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ACCESS_ACCESS_LIST_H_
