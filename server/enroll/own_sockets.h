// What at OpenSIPS is our own: sockets that lead to our ingest, and events that we raise.
#ifndef EVENTVIRTUAL_SERVER_ENROLL_OWN_SOCKETS_H_
#define EVENTVIRTUAL_SERVER_ENROLL_OWN_SOCKETS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/enroll/mi_answer.h"

namespace eventvirtual {

// How the events begin that we raise ourselves: they are never asked of OpenSIPS.
inline constexpr absl::string_view kOwnEvents = "E_EVI_";

class OwnSockets {
 public:
  // Addresses of our ingest: "tcp:127.0.0.1:9060", "unix:/path", "udp:0.0.0.0:9061".
  explicit OwnSockets(std::vector<std::string> addresses) : addresses_(std::move(addresses)) {}

  // Whether `subscriber`, one of OpenSIPS' sockets ("tcp:127.0.0.1:9060/method", "/path"), leads here. "localhost" is
  // any loopback address, and where we listen on all addresses, every host is ours: rather one too many than a circle.
  bool Has(absl::string_view subscriber) const;

  // Whether a "virtual:" socket has one of us among its subscribers.
  bool IsWithin(absl::string_view virtual_socket) const;

  // Whether `listed` brings us each event already, until it ends: it is one of us alone and never expires, or a
  // "virtual:" one that notifies us before anybody else.
  bool BringsAll(const ListedSubscriber& listed) const;

 private:
  std::vector<std::string> addresses_;
};

// Where OpenSIPS is told to send events: `wanted` (--enroll_ingest), or if that is empty the first tcp, else the first
// unix address of `ingest`, where we listen. INVALID_ARGUMENT: nothing there that OpenSIPS can use, and the way out.
absl::StatusOr<std::string> IngestForOpensips(const std::string& wanted, const std::vector<std::string>& ingest);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ENROLL_OWN_SOCKETS_H_
