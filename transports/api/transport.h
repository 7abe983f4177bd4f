// What the author of a transport implements: parse, connect, send, report; and nothing else. Queues, deadlines,
// reconnects, cool-down and metrics live once, in server/endpoint. See docs/writing_a_transport.md.
#ifndef EVENTVIRTUAL_TRANSPORTS_API_TRANSPORT_H_
#define EVENTVIRTUAL_TRANSPORTS_API_TRANSPORT_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "transports/api/check.h"
#include "transports/api/completion.h"
#include "transports/api/loop.h"
#include "transports/api/message.h"
#include "transports/api/secret.h"
#include "transports/api/uri.h"

namespace eventvirtual {

// What a success proves, weakest first.
enum class AckLevel {
  kHandedToKernel,  // udp, unix datagram
  kWritten,         // tcp without reply, flatstore without sync
  kConfirmed,       // JSON-RPC result, AMQP confirm
  kDurable,         // synced to disk
};

// A destination, understood.
struct Target {
  std::string canonical;  // equal text: same destination, one shared endpoint. May hold a password: never print it
  std::string masked;     // the same with every password as "***": for errors, logs and listings
  AckLevel ack_level = AckLevel::kHandedToKernel;
  absl::Duration attempt_timeout;  // from accept to outcome, unless the subscriber sets its own

  // Whom Connect() will ask, and the file it will open, for the policy of destinations. Both empty: neither leaves this
  // process.
  std::vector<HostPort> hosts;
  std::string path;

  // What stands for each ${secret:NAME} in it: read for each Connect() anew, and never before.
  NamedSecrets secrets;
};

// A message as a link is handed it: lent until Send() returns. Moving it anywhere, as with its parcel, takes a
// reference, so whoever keeps it may; a link that has done with it before then costs none, which for each delivery
// would be two of the processor's locked instructions.
class LentMessage {
 public:
  LentMessage() = default;
  explicit LentMessage(const Message& message) : message_(&message) {}
  explicit LentMessage(MessageRef message) : message_(message.Release()), kept_(true) {}
  LentMessage(LentMessage&& other) noexcept
      : message_(std::exchange(other.message_, nullptr)), kept_(message_ != nullptr) {
    if (!std::exchange(other.kept_, false) && kept_) message_->AddRef();
  }
  LentMessage& operator=(LentMessage&& other) noexcept {
    LentMessage taken(std::move(other));
    std::swap(message_, taken.message_);
    std::swap(kept_, taken.kept_);
    return *this;
  }
  ~LentMessage() {
    if (kept_) message_->DropRef();
  }

  const Message& operator*() const { return *message_; }
  const Message* operator->() const { return message_; }
  MessageRef Share() const { return MessageRef(message_); }
  operator MessageRef() && {  // NOLINT: it reads like the move of a reference
    LentMessage kept(std::move(*this));
    kept.kept_ = false;
    return AdoptRef(std::exchange(kept.message_, nullptr));
  }

 private:
  const Message* message_ = nullptr;
  bool kept_ = false;  // this has a reference
};

// One message on its way.
struct Parcel {
  Parcel() = default;
  Parcel(const Message& lent, Completion done) : message(lent), done(std::move(done)) {}
  Parcel(MessageRef kept, Completion done) : message(std::move(kept)), done(std::move(done)) {}

  LentMessage message;
  Completion done;
};

// One connection: born connecting, lives once, never reconnects or retries by itself. Methods, destructor and upcalls
// run on its loop: one at a time, but not always on the same thread (see Loop). Its endpoint destroys it after
// OnClosed(), or earlier when a connect or a reply takes too long.
class Link {
 public:
  // Upcalls. Never made inside Connect(), Send() or ~Link(): post them.
  class Host {
   public:
    // The link may carry `window` (at least 1) parcels at once. At most once.
    virtual void OnReady(int window) = 0;
    // The link is of no more use; `why` is never OK. At most once. Parcels still held may be finished before or after.
    // UNAUTHENTICATED and PERMISSION_DENIED say that trying again soon is pointless; DATA_LOSS, that messages whose
    // completions were OK did not arrive after all (a late ICMP error), which starts the endpoint's cool-down.
    virtual void OnClosed(absl::Status why) = 0;

   protected:
    ~Host() = default;
  };

  // Ends every completion still held, and returns at once, whatever the peer does.
  virtual ~Link() = default;

  // Puts `parcels` on the wire in their order and takes them over (moves from the span). Never blocks. Only after
  // OnReady(); never more than the window at once: each parcel counts until its completion ends.
  // Completions may be finished inside the call.
  virtual void Send(absl::Span<Parcel> parcels) = 0;
};

// One kind of destination. Thread-safe; lives as long as the server.
class Transport {
 public:
  virtual ~Transport() = default;

  virtual absl::Span<const absl::string_view> schemes() const = 0;
  virtual absl::string_view syntax() const = 0;       // one line: "tcp:host:port[/method][?reliable=1&timeout=1s]"
  virtual absl::string_view description() const = 0;  // one sentence: what it does and what success means
  virtual AckLevel ack_level() const = 0;             // without options

  // Checks `uri` and gives its one canonical form. Pure: no file, name or network is touched. Canonicalising a
  // canonical text changes nothing. INVALID_ARGUMENT names the offending part and what would be accepted, never a
  // password.
  virtual absl::StatusOr<Target> Canonicalize(const Uri& uri) const = 0;

  // Starts a connection to a target that Canonicalize() of this transport gave, of which `secrets` have been read. On
  // the loop; never blocks, never null; a failure is an OnClosed() later. `loop` and `host` outlive the link.
  virtual std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) = 0;
};

// What `parse` makes of a target: for Connect(). Canonicalize() has had the same text from it, so it takes it again.
template <typename Address>
Address AddressOf(const Target& target, absl::StatusOr<Address> (*parse)(const Uri&)) {
  absl::StatusOr<Uri> uri = ParseUri(target.canonical);
  EV_CHECK(uri.ok());
  uri->secrets = target.secrets;
  absl::StatusOr<Address> address = parse(*uri);
  EV_CHECK(address.ok());
  if constexpr (requires { address->Secrets(); }) {
    for (const Secret* secret : address->Secrets()) EV_CHECK(secret->known());
  }
  return *std::move(address);
}

// The names in the secrets of an address.
inline NamedSecrets NamesIn(absl::Span<const Secret* const> secrets) {
  NamedSecrets named;
  for (const Secret* secret : secrets) {
    for (absl::string_view name : secret->names()) named.emplace(name, Secret());
  }
  return named;
}

// The target that an address is, where its texts and its `timeout` are all there is to say. One that may hold passwords
// or tokens gives them all by `Secrets()`.
template <typename Address>
Target TargetOf(const Address& address, AckLevel ack_level, std::vector<HostPort> hosts) {
  Target target{.canonical = address.ToString(/*masked=*/false),
                .masked = address.ToString(/*masked=*/true),
                .ack_level = ack_level,
                .attempt_timeout = address.timeout,
                .hosts = std::move(hosts)};
  if constexpr (requires { address.Secrets(); }) target.secrets = NamesIn(address.Secrets());
  return target;
}

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_API_TRANSPORT_H_
