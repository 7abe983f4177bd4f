// DurableQueue: what becomes of the events of one durable subscription, from the commit to the end.
#ifndef EVENTVIRTUAL_SERVER_DURABLE_DURABLE_QUEUE_H_
#define EVENTVIRTUAL_SERVER_DURABLE_DURABLE_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "server/dispatch/dispatcher.h"
#include "server/durable/records.h"
#include "transports/api/message.h"

namespace eventvirtual {

// Hears how an event's first round has ended; kPending without attempts: it has to wait for its turn.
using Tell = absl::AnyInvocable<void(DeliveryResult::Outcome, std::vector<AttemptRecord>) &&>;

// Decides, and does nothing: what happens goes in by the first group of methods, what is to be done comes out of
// Step(). It has no clock, no thread and no lock.
//
// In good times events are started in their order, up to kWindow at once; delivered ones are erased. An event counts
// into the window until it is erased for good, so no more than kWindow can come twice after a crash.
//
// After a failed round nothing more is started. When all that is out has ended, everything is forgotten but what stands
// in the journal; after a pause (exponential, with full jitter: RetryPause) the first event is read back and tried
// alone. If it succeeds, all goes on; if not, the next pause follows. So order is kept, and who is down costs no
// memory.
class DurableQueue {
 public:
  static constexpr size_t kWindow = 256;
  static constexpr size_t kLoaded = 1024;      // events in memory at most
  static constexpr size_t kProbeRead = 64;     // events that are read back to find one to try
  static constexpr size_t kBurialRead = 1000;  // at once, when the subscription has ended

  // What the subscription says now.
  struct Limits {
    bool parallel = false;
    absl::Duration total_timeout = absl::InfiniteDuration();
    absl::Duration max_event_age = absl::InfiniteDuration();
    uint32_t max_attempts = 0;
  };

  // An event that was read back; without a message it cannot be understood any more.
  struct Loaded {
    uint64_t sequence = 0;
    KeptEvent event;
    Progress progress;
    std::string damaged_record;
  };

  struct Start {
    uint64_t sequence;
    MessageRef message;
    Round round;
  };
  struct Range {
    uint64_t first, last;
    uint64_t events;
  };
  struct Save {
    uint64_t sequence;
    Progress progress;
  };
  struct Burial {
    uint64_t sequence;
    KeptEvent event;             // without a message: damaged
    std::string damaged_record;  // then
    std::string reason;
    uint32_t attempts;
    std::vector<AttemptRecord> last_attempts;
  };
  struct Told {
    Tell tell;
    DeliveryResult::Outcome outcome;
    std::vector<AttemptRecord> attempts;
  };
  // What is to be done now. Each start is answered by OnRoundEnd(), each erasure and burial by OnGone(), each save by
  // OnSaved(), a read by OnLoaded().
  struct Steps {
    std::vector<Start> starts;
    std::vector<Range> erase;
    std::vector<Save> save;
    std::vector<Burial> bury;
    std::vector<Told> told;
    size_t read = 0;  // so many events behind `read_after`; 0: nothing
    uint64_t read_after = 0;
    uint64_t read_epoch = 0;
    bool hungry = false;                       // would read if there were room
    absl::Time wake = absl::InfiniteFuture();  // call Step() again then
    bool gone = false;                         // the subscription has ended, and nothing is left
  };

  // `committed`: the last sequence that the journal holds of this queue; 0: it is empty.
  explicit DurableQueue(uint64_t committed) : committed_last_(committed) {}

  // An event has been committed. `may_keep`: there is room for it in memory.
  void OnCommitted(uint64_t sequence, KeptEvent event, Tell tell, bool may_keep);
  // What was read for the Steps of this epoch, in order; nothing: there is no more. `failed`: it could not be read.
  void OnLoaded(uint64_t epoch, std::vector<Loaded> events, bool failed);
  void OnRoundEnd(uint64_t sequence, DeliveryResult result, const Limits& limits);
  void OnGone(uint64_t first, uint64_t last);
  void OnSaved(uint64_t sequence);
  // The subscription has ended: nothing more is delivered, what is left becomes dead letters.
  void End(std::string reason);
  // The process ends: nothing more is started, what is out may still end.
  void Stop();

  // `room`: how many events may be loaded besides those that are. `dice` is from 0 to 1, for the jitter.
  void Step(absl::Time now, const Limits& limits, size_t room, double dice, Steps* steps);

  size_t loaded() const { return events_.size(); }
  size_t loaded_bytes() const { return bytes_; }
  bool ending() const { return mode_ == Mode::kEnding; }
  bool failing() const { return failures_ > 0; }
  // When the oldest event that is not done was committed, as far as it was seen in this life; InfiniteFuture: none.
  absl::Time oldest() const { return oldest_; }

 private:
  enum class Mode {
    kFlowing,
    kHolding,  // a round has failed: what is out ends
    kPausing,
    kProbing,  // the first event is tried alone
    kEnding,
    kStopped,
  };
  enum class State {
    kWaiting,
    kOut,
    kSaving,     // its progress is being written
    kDelivered,  // not yet said
    kGoing,      // is being erased or buried
    kGone,
  };
  struct Event {
    uint64_t sequence = 0;
    KeptEvent event;
    Progress progress;
    State state = State::kWaiting;
    Tell tell;
    std::string damaged_record;
  };

  Event* Find(uint64_t sequence);
  void TellOne(Event* event, DeliveryResult::Outcome outcome, std::vector<AttemptRecord> attempts);
  void Hold();
  void Forget();
  // Why it is given up, if it is. "": it is not.
  static std::string Overdue(const Event& event, const Limits& limits, absl::Time now);
  static absl::Time DeadlineOf(const Event& event, const Limits& limits);
  void Bury(Event* event, std::string reason, std::vector<AttemptRecord> last_attempts);
  void StartOne(Event* event, const Limits& limits, Steps* steps);
  void EraseDelivered(Steps* steps);
  void Flow(absl::Time now, const Limits& limits, size_t room, Steps* steps);
  void Pause(absl::Time now, const Limits& limits, double dice);
  void Probe(absl::Time now, const Limits& limits, Steps* steps);
  void BuryAll(Steps* steps);
  void Read(size_t limit, Steps* steps);
  bool unread() const { return loaded_last_ < committed_last_; }

  Mode mode_ = Mode::kFlowing;
  std::deque<Event> events_;  // in the order of their sequences
  size_t bytes_ = 0;          // of their messages
  absl::Time oldest_ = absl::InfiniteFuture();
  size_t scan_ = 0;           // kFlowing: none before this one waits
  size_t busy_ = 0;           // events that are neither waiting nor gone
  uint64_t loaded_last_ = 0;  // what stands in the journal behind it is not in memory
  uint64_t committed_last_ = 0;
  bool reading_ = false;
  uint64_t epoch_ = 0;       // of what is in memory
  uint64_t read_until_ = 0;  // what was committed when the read began
  int failures_ = 0;         // in a row
  bool may_start_ = false;   // kProbing: the pause is over; else it only looks for who is overdue
  absl::Time retry_at_ = absl::InfinitePast();
  absl::Time wake_ = absl::InfiniteFuture();
  std::string end_reason_;
  bool emptied_ = false;  // kEnding: what was in memory is forgotten
  std::vector<uint64_t> delivered_;
  std::vector<Save> saves_;
  std::vector<Burial> burials_;
  std::vector<Told> told_;
};

// After so many failures in a row: from nothing to 1 s, 2 s, 4 s … 30 s, as the dice (0 to 1) says. "Full jitter", from
// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
absl::Duration RetryPause(int failures, double dice);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_DURABLE_DURABLE_QUEUE_H_
