// Import: what becomes of the virtual sockets that are subscribed at one OpenSIPS itself.
#ifndef EVENTVIRTUAL_SERVER_ENROLL_IMPORT_H_
#define EVENTVIRTUAL_SERVER_ENROLL_IMPORT_H_

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/enroll/mi_answer.h"
#include "server/enroll/own_sockets.h"
#include "server/log/log.h"
#include "server/registry/registry.h"

namespace eventvirtual {

// Takes them over into our registry, so that they can be ended there; says each in the log, once, without passwords.
// Left where they are: one that holds our own ingest (the safety net that our README recommends), one that the registry
// refuses, and one that OpenSIPS does not end: event_virtual cannot find a socket again whose tcp or xmlrpc member it
// has used. Not thread-safe, never blocks.
class Import {
 public:
  static constexpr absl::string_view kLabel = "imported_from";  // of such a subscription; its value is `opensips`
  static constexpr int kMaxEnds = 3;                            // listings in a row that show what was ended
  // MI cannot subscribe for ever; this long is what its 32 bits of seconds hold without doubt.
  static constexpr absl::Duration kForEver = absl::Hours(24 * 365);

  struct Defaults {
    absl::Duration failover_timeout = absl::Seconds(30);
    absl::Duration attempt_timeout = absl::ZeroDuration();
  };

  // `own`: every address of our ingest. `opensips`: for labels and the log, masked. The registry outlives this.
  Import(Registry& registry, OwnSockets own, std::string opensips, Defaults defaults)
      : registry_(registry), own_(std::move(own)), opensips_(std::move(opensips)), defaults_(defaults) {}

  // `listed`: all subscribers of OpenSIPS. Subscribes those that are to be taken over, for what is left of their time,
  // and gives them: they may now be ended there. A subscription of ours that is the same is made to last as long.
  std::vector<ListedSubscriber> Take(const std::vector<ListedSubscriber>& listed);

  void Ended(const ListedSubscriber& subscriber);  // OpenSIPS was told to end it, and has not refused

  // OpenSIPS may have restarted: what is listed from now on is new.
  void Forget();

  // What was taken over and ended there, and is still subscribed here, with the time that is left: for OpenSIPS to have
  // back when we go.
  std::vector<ListedSubscriber> GiveBack() const;

 private:
  struct Socket {
    ListedSubscriber subscriber;
    std::string name;      // of our subscription; "" when there is none
    bool created = false;  // it is there because of us
    bool ended = false;    // there, once at least
    int ends = 0;          // in a row
    bool left = false;     // it stays there
    bool listed = false;   // by the last listing
  };

  absl::Status Subscribe(Socket& socket) const;
  void Leave(Socket& socket, LogLevel level, absl::string_view why) const;

  Registry& registry_;
  const OwnSockets own_;
  const std::string opensips_;
  const Defaults defaults_;
  absl::flat_hash_map<std::string, Socket> sockets_;  // by event and socket
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ENROLL_IMPORT_H_
