// DeadLetters: what an operator does with events that were given up.
#ifndef EVENTVIRTUAL_SERVER_DURABLE_DEAD_LETTERS_H_
#define EVENTVIRTUAL_SERVER_DURABLE_DEAD_LETTERS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/durable/records.h"
#include "server/journal/journal.h"
#include "server/registry/registry.h"
#include "transports/api/loop.h"

namespace eventvirtual {

struct DeadLetter {
  uint64_t id = 0;
  absl::Time created;
  std::string subscription;  // its name, also when it has ended
  std::string event;
  std::string reason;
  uint32_t attempts = 0;  // in all rounds
  std::vector<KeptAttempt> last_attempts;
  MessageRef message;  // null: its record is damaged
};

// Any thread; never blocks. Answers come on any thread, and must not block.
class DeadLetters {
 public:
  // Delivers an event of a subscription anew, as one that was raised now.
  using Keep = std::function<Ref<Commit>(const MessageRef& message, const Ref<const Subscription>& subscription)>;

  // All outlive it.
  DeadLetters(Journal& journal, Registry& registry, Loop& loop, Keep keep);
  ~DeadLetters();  // on the loop, or after it has stopped

  // Up to `limit` behind the id `after`, the older first, about a megabyte at most; of `event` alone unless it is
  // empty.
  void List(const std::string& event, uint64_t after, size_t limit,
            absl::AnyInvocable<void(absl::StatusOr<std::vector<DeadLetter>>) &&> done);

  struct Replayed {
    uint64_t replayed = 0;
    uint64_t failed = 0;
    absl::Status why;  // the last one failed; it and the others are still there
  };
  // Gives those that there are now back to their subscriptions, the older first, at most so many in a second (0: as
  // fast as they are written), until `cancelled`. They are delivered like new events and may become dead letters again.
  // FAILED in a sense of its own: its subscription has ended, or is not durable. One that was given back and whose
  // process died that very moment is there still, and may come twice.
  void Replay(const std::string& event, uint32_t max_per_second, absl::AnyInvocable<bool()> cancelled,
              absl::AnyInvocable<void(absl::StatusOr<Replayed>) &&> done);

  // Forgets those of `event`, or all. Without `really` it only counts them.
  void Purge(const std::string& event, bool really, absl::AnyInvocable<void(absl::StatusOr<uint64_t>) &&> done);

 private:
  struct Run;  // of a replay

  void ReadOn(std::shared_ptr<Run> run);
  void GiveBack(const std::shared_ptr<Run>& run);
  absl::Status GiveBackOne(const std::shared_ptr<Run>& run, const SavedDeadLetter& letter);
  void Rest(const std::shared_ptr<Run>& run);

  Journal& journal_;
  Registry& registry_;
  Loop& loop_;
  const Keep keep_;
  absl::flat_hash_map<Run*, std::shared_ptr<Run>> resting_;           // on the loop
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_DURABLE_DEAD_LETTERS_H_
