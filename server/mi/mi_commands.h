// MiCommands: the commands of OpenSIPS' management interface (MI), on the registry that gRPC serves too.
#ifndef EVENTVIRTUAL_SERVER_MI_MI_COMMANDS_H_
#define EVENTVIRTUAL_SERVER_MI_MI_COMMANDS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/dispatch/dispatcher.h"
#include "server/endpoint/tally.h"
#include "server/limits/rates.h"
#include "server/mi/mi_request.h"
#include "server/registry/registry.h"

namespace eventvirtual {

struct MiAnswer {
  std::string text;         // one JSON-RPC object; "": a notification, which gets none
  std::string id;           // of the request, as JSON; "": a notification
  bool unreadable = false;  // the request was no JSON
  // A subscription was made, refreshed or ended: the answer may leave when Registry::AfterSends() and, where there is a
  // journal, Journal::AfterCommit() have called back.
  bool changed = false;
  // An event was raised that is being written to the journal: the answer may leave when it has called back, and is an
  // error if it could not be. Null: none.
  Ref<Commit> commit;
};

// The answer that is an error.
std::string MiErrorText(const MiError& error, absl::string_view id);

// What a subscription has that MI has no words for.
struct MiDefaults {
  absl::Duration failover_timeout = absl::Seconds(30);
  absl::Duration attempt_timeout = absl::ZeroDuration();  // zero: the transport's default
};

struct MiCommandLimits {
  EventLimits event;
  Rates* raises = nullptr;   // null: no rate
  Rates* changes = nullptr;  // of subscriptions; likewise
};

// One request's text to its answer's text; no socket is in here. Commands have an old and a new name, parameters come
// by name or by position, and answers are those of OpenSIPS, byte for byte: see docs/opensips.md. Why an event or
// a socket was refused, which those answers do not tell, is logged, at most once a second.
//
// Not thread-safe; what it calls is.
class MiCommands {
 public:
  MiCommands(Registry& registry, Dispatcher& dispatcher, MiDefaults defaults, const MiCommandLimits& limits = {});

  // An answer of more than `max_answer` bytes becomes an error instead. `principal` asks: see Rates and
  // SubscriptionSpec::owner.
  MiAnswer Handle(absl::string_view request, size_t max_answer, const std::string& principal = "");

  // Requests since the start. Any thread.
  struct Count {
    absl::string_view command;  // its old name; "unknown": all that could not be read, or have no command
    uint64_t done = 0;
    uint64_t refused = 0;  // answered with an error
  };
  std::vector<Count> counts() const;

 private:
  struct Call {
    MiArguments arguments;
    size_t max_answer = 0;
    std::string principal;
    int hops = 0;  // MiRequest::hops
  };
  struct Result {
    std::string json;  // unless there is an error
    MiError error;
    bool changed = false;
    Ref<Commit> commit = nullptr;
  };
  struct Command {
    absl::string_view old_name, name;
    MiSignature signature;
    Result (MiCommands::*run)(const Call& call);
  };
  static constexpr size_t kCommands = 8;
  static absl::Span<const Command> All();
  static const Command* Find(absl::string_view name);  // null: there is none

  Result Subscribe(const Call& call);
  Result Unsubscribe(const Call& call);
  Result ListEvents(const Call& call);
  Result ListSubscribers(const Call& call);
  Result Raise(const Call& call);
  Result Which(const Call& call);
  Result Uptime(const Call& call);
  Result Version(const Call& call);

  Result Run(const Command* command, const MiRequest& request, size_t max_answer, const std::string& principal);
  Result ListSubscribersOf(absl::string_view event, size_t max_answer);  // "": of all
  // `arguments` begins with event and socket.
  MiError ReadSpec(const MiArguments& arguments, SubscriptionSpec* spec);
  absl::Status TakeRate(Rates* rates, const Call& call) const;
  Result EndSubscription(const SubscriptionSpec& spec, const Result& unless_there);
  void LogRefusal(absl::string_view event, const absl::Status& why);
  MiError Refused(absl::string_view event, const absl::Status& why);

  Registry& registry_;
  Dispatcher& dispatcher_;
  const MiDefaults defaults_;
  const MiCommandLimits limits_;
  const absl::Time started_;
  absl::Time log_not_before_ = absl::InfinitePast();
  MiRequestParser parser_;
  struct Tallies {
    Tally<uint64_t> done, refused;
  };
  Tallies tallies_[kCommands + 1];  // in the order of All(); the last are of no command
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_MI_MI_COMMANDS_H_
