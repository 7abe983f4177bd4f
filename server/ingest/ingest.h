// Ingest: the listeners that turn OpenSIPS' own notifications into raises.
#ifndef EVENTVIRTUAL_SERVER_INGEST_INGEST_H_
#define EVENTVIRTUAL_SERVER_INGEST_INGEST_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/dispatch/dispatcher.h"
#include "server/endpoint/tally.h"
#include "server/limits/limits.h"
#include "server/limits/rates.h"
#include "server/load/load.h"
#include "transports/api/loop.h"

namespace eventvirtual {

struct IngestOptions {
  std::vector<std::string> addresses;  // "udp:host:port", "unix:/path" (datagram), "tcp:host:port"; numeric hosts
  size_t reply_padding = 4096;         // bytes of an answer while more than one request is open; 0: never padded
  size_t max_object_bytes = 1 << 20;   // of one event; a longer datagram is ignored
  EventLimits limits;                  // likewise
  int64_t rate = 0;                    // events a second of all peers together; 0: as they come
  absl::Duration rate_burst = absl::Seconds(1);  // see Rate
  size_t max_connections = 1024;                 // over tcp, of each listener
  size_t max_connections_per_peer = 512;         // see ConnectionCaps
  std::string event_param;                       // see OpensipsEventParser
  bool off_host = false;                         // also addresses that other hosts reach; nobody is asked who they are
  std::optional<gid_t> socket_group;             // see BoundSocket::Unix()
  const Load* load = nullptr;                    // null: tcp peers are never let wait for want of time
};

// What listeners of one kind have taken since the start.
struct IngestCounts {
  uint64_t bytes = 0;
  uint64_t accepted = 0;  // raised, and in a queue; or nothing had to be: filters did not take it, or it was too old
  uint64_t unsubscribed = 0;  // raised, and nobody is subscribed
  uint64_t unknown = 0;       // not raised: --strict_events
  uint64_t looped = 0;        // not raised: it goes round in a loop (LoopGuard)
  uint64_t refused = 0;       // raised, and no queue took it
  uint64_t limited = 0;       // not raised: more than IngestOptions::rate
  uint64_t bad = 0;           // no event: no JSON, not of OpenSIPS' form, or too long
  uint64_t connections = 0;   // taken
  uint64_t turned_away = 0;   // connections: too many were open
};

// Datagrams carry one object each and get no answer. A tcp connection carries objects back to back; one with an "id" is
// a request and is answered as soon as an endpoint's queue has accepted the event (and, where durable subscriptions
// take it, the journal has it), or with an error, so that OpenSIPS fails over: 480 nobody is subscribed, 404 not known
// (--strict_events), -32000 no queue took it, it goes round in a loop or was over the rate, and those of OpensipsEvent;
// one without is a notification, answered only (with the id null) when it is no JSON. A stream that cannot be cut into
// objects is told so, and its connection ends. From a peer that does not read its answers no more is taken, and while
// Load::Paces() 64 events at a time of each connection: the others wait at the peer, which costs nothing.
//
// OpenSIPS' reader takes 8192 bytes at a time and drops the connection when a read ends inside an answer. So while more
// than one request is open, and for a moment after any answer, each is padded to exactly `reply_padding` bytes.
class Ingest {
 public:
  // Listens, and works on `loop` from then on. UNAVAILABLE or INVALID_ARGUMENT name the address. Not on the loop.
  static absl::StatusOr<std::unique_ptr<Ingest>> Listen(const IngestOptions& options, Loop& loop,
                                                        Dispatcher& dispatcher);
  ~Ingest();  // Stop()

  // As given, with the port that was chosen for 0.
  const std::vector<std::string>& addresses() const { return addresses_; }

  // Since the start. Any thread.
  enum Kind { kUdp, kUnix, kTcp };
  static constexpr int kKinds = 3;
  static absl::string_view NameOf(Kind kind);
  IngestCounts counts(Kind kind) const;

  // Takes nothing more and closes everything; what was taken has been answered, but for peers that do not read: they
  // are waited for no longer than a second. Not on the loop, which must run.
  void Stop();

 private:
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void Finish(const std::shared_ptr<void>& hold) = 0;  // takes nothing more; keeps `hold` while it answers
  };
  class DatagramListener;
  class StreamListener;
  class Connection;

  // Counted on the loop.
  struct Tallies {
    void Book(const RaiseReceipt& receipt);
    Tally<uint64_t> bytes, accepted, unsubscribed, unknown, looped, refused, limited, bad, connections, turned_away;
  };

  Ingest(const IngestOptions& options, Loop& loop, Dispatcher& dispatcher);

  const IngestOptions options_;
  Loop& loop_;
  Dispatcher& dispatcher_;
  const std::unique_ptr<Rate> rate_;  // null: none
  Tallies tallies_[kKinds];
  std::vector<std::string> addresses_;
  std::vector<std::unique_ptr<Listener>> listeners_;  // on the loop
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_INGEST_INGEST_H_
