// DurableDelivery: keeps the events of durable subscriptions in the journal, and delivers them until they are.
#ifndef EVENTVIRTUAL_SERVER_DURABLE_DURABLE_DELIVERY_H_
#define EVENTVIRTUAL_SERVER_DURABLE_DURABLE_DELIVERY_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/dispatch/dispatcher.h"
#include "server/durable/durable_queue.h"
#include "server/journal/journal.h"
#include "server/registry/registry.h"
#include "transports/api/loop.h"

namespace eventvirtual {

struct DurableLimits {
  size_t loaded_events = 65536;  // in memory, of all queues; a queue may always have one
  size_t loaded_bytes = 64 << 20;
  uint64_t dead_letters = 100000;  // kept; then the oldest go
};

// What waits in the journal.
struct DurableAudit {
  struct Queue {
    std::string subscription;  // its name, also when it has ended
    uint64_t events = 0;
    absl::Duration oldest;  // how long ago the oldest of them was committed
    bool failing = false;   // its last round has failed
  };
  std::vector<Queue> foremost;                   // those whose oldest event is the oldest
  uint64_t events = 0, queues = 0, failing = 0;  // of all queues that are not empty
  absl::Duration oldest;
};

// Above the policy: each event is committed, then acknowledged, then delivered by Dispatcher::Deliver(), round by
// round, as its DurableQueue decides. Works on `loop`; Dispatcher::Raise() comes here on any thread and never blocks.
//
// A subscription that ends takes its queue with it: nothing more is delivered, what was queued becomes dead letters
// with that reason.
class DurableDelivery final : private Registry::Observer {
 public:
  // Allows durable subscriptions at the registry, and keeps events from here on. All outlive it, but the journal, which
  // is closed before. `Resume()` follows when the subscriptions are restored.
  DurableDelivery(Journal& journal, Registry& registry, Dispatcher& dispatcher, Loop& loop, DurableLimits limits = {});
  ~DurableDelivery();  // on the loop, or after it has stopped; nothing is out

  // `committed` is called on the loop each time that events have become dead letters. Before Resume().
  void TellOfDeadLetters(absl::AnyInvocable<void()> committed) { dead_letters_committed_ = std::move(committed); }

  // Goes on with what the journal holds. Queues whose subscription has ended meanwhile become dead letters, but for
  // those that are `left_alone`. Once, not on the loop.
  void Resume(const absl::flat_hash_set<uint32_t>& left_alone);

  // Takes an event of one subscription anew, as if it had been raised now. Any thread; never blocks.
  Ref<Commit> KeepAgain(const MessageRef& message, const Ref<const Subscription>& subscription);

  // Goes over all queues that are not empty, some ten nanoseconds for each; `foremost` of them by themselves. Calls
  // `done` on the loop. Any thread.
  void TakeAudit(size_t foremost, absl::AnyInvocable<void(DurableAudit) &&> done);

  // How many events a queue holds. Calls `done` on the loop; what is said of its subscription after this call comes
  // after it. Any thread.
  void CountQueue(uint32_t number, absl::AnyInvocable<void(uint64_t events) &&> done);

  // From here on no round is started: what is queued is for the next life. Any thread.
  void Stop();

 private:
  // What other threads have to say; outlives this, as long as the journal's thread does.
  struct Inbox;
  struct Kept;
  struct Entry {
    explicit Entry(uint64_t committed) : queue(committed) {}
    DurableQueue queue;
    Ref<const Subscription> subscription;  // null: it ended in an earlier life
    std::string id;                        // of the subscription
    uint64_t counted_to = 0;               // of the events of an earlier life
    uint64_t events = 0;                   // in the journal
    size_t loaded = 0, loaded_bytes = 0;   // as they are in the sums
    absl::Time wake = absl::InfiniteFuture();
    uint64_t buried_at_end = 0;
    bool dirty = false;   // is among touched_
    bool hungry = false;  // is among hungry_
  };
  struct ReadWish {
    uint32_t queue;
    uint64_t after, epoch;
    size_t limit;
  };

  void OnChange(Registry::Change change, const Subscription& subscription,
                absl::FunctionRef<SubscriptionInfo()> describe) override;
  // `remember`: the event's id, where its caller gave one.
  Ref<Commit> Keep(const MessageRef& message, absl::Span<const Ref<const Subscription>> subscriptions, RaiseDone done,
                   bool remember);

  // All on the loop.
  void Drain();
  void TakeCommitted(std::unique_ptr<Kept> kept);
  Entry& EntryOf(uint32_t number, const Ref<const Subscription>& subscription, uint64_t committed);
  void Touch(uint32_t number, Entry* entry);
  void StepTouched();
  void Step(uint32_t number, Entry& entry);
  void Write(uint32_t number, Entry& entry, DurableQueue::Steps* steps);
  void Deliver(uint32_t number, const Entry& entry, DurableQueue::Start start);
  void Account(Entry& entry);
  size_t Room() const;
  void SetWake(uint32_t number, Entry& entry, absl::Time wake);
  void StartReads();
  void OnRead(uint32_t number, uint64_t epoch, size_t limit, absl::StatusOr<std::vector<QueuedEvent>> rows);
  void Remove(uint32_t number);

  Journal& journal_;
  Registry& registry_;
  Dispatcher& dispatcher_;
  Loop& loop_;
  const DurableLimits limits_;
  const uint64_t earlier_life_;  // events up to this sequence were committed by it
  const std::shared_ptr<Inbox> inbox_;

  // On the loop.
  absl::AnyInvocable<void()> dead_letters_committed_;              // null: nobody wants to know
  absl::flat_hash_map<uint32_t, std::unique_ptr<Entry>> entries_;  // by the number of the queue
  std::vector<uint32_t> touched_;
  std::deque<uint32_t> hungry_;
  std::deque<ReadWish> wishes_;
  int reads_out_ = 0;
  size_t loaded_ = 0, loaded_bytes_ = 0, reserved_ = 0;
  std::set<std::pair<absl::Time, uint32_t>> wakes_;
  std::unique_ptr<Loop::Timer> timer_;
  bool stopped_ = false;
  std::minstd_rand random_;
  DurableQueue::Steps steps_;  // kept for its capacity
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_DURABLE_DURABLE_DELIVERY_H_
