// Endpoint: the live, shared destination of a canonical URI. All that transports have in common is here, once: the
// bounded queue, the window, deadlines, reconnecting, health and statistics.
#ifndef EVENTVIRTUAL_SERVER_ENDPOINT_ENDPOINT_H_
#define EVENTVIRTUAL_SERVER_ENDPOINT_ENDPOINT_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/endpoint/latency_histogram.h"
#include "server/endpoint/tally.h"
#include "transports/api/catalog.h"
#include "transports/api/completion.h"
#include "transports/api/loop.h"
#include "transports/api/message.h"
#include "transports/api/mutex.h"
#include "transports/api/ref.h"
#include "transports/api/transport.h"

namespace eventvirtual {

// What Offer() says at once.
enum class Admission {
  kAccepted,  // queued: exactly one outcome will follow
  kFull,      // refused, the queue is at its limit; no outcome follows
  kDown,      // refused, closed or sure not to be connected before the deadline; no outcome follows
};

// How an accepted attempt ended.
struct Outcome {
  enum class Result {
    kOk,
    kFailed,    // certainly not delivered, or the peer said no
    kUnknown,   // timed out after it was handed to the link: the receiver may have it
    kUnwanted,  // not sent: its client no longer wanted it (subscription expired or removed)
  };
  Result result = Result::kFailed;
  absl::Status status;      // OK only with kOk
  absl::Duration duration;  // from accept to outcome
};

struct EndpointLimits {
  uint32_t queue_events = 10000;    // waiting to be sent
  uint64_t queue_bytes = 16 << 20;  // waiting and in flight; one larger message is taken by an idle endpoint
  absl::Duration connect_timeout = absl::Seconds(1);
  absl::Duration reconnect_min = absl::Milliseconds(100);
  absl::Duration reconnect_max = absl::Milliseconds(750);
  absl::Duration refused_login_max = absl::Seconds(30);  // instead, after a refused login
};

// A snapshot of what an endpoint has counted since it was made, which never goes down, and of what it holds. What waits
// and what is in flight is what was accepted or sent and has not ended, so the books balance at any moment:
//   offered  = accepted + full + down
//   accepted = queued + in_flight + ok + failed + timed_out + unwanted
struct EndpointBooks {
  uint64_t offered = 0, full = 0, down = 0;
  uint64_t accepted = 0, ok = 0, failed = 0, timed_out = 0, unwanted = 0;
  uint64_t connects = 0;  // links started
  uint64_t queued = 0, in_flight = 0;
  uint64_t queue_bytes = 0;  // of both

  EndpointBooks& operator+=(const EndpointBooks& other);  // of several together
};

struct EndpointStats : EndpointBooks {
  enum class Health {
    kIdle,     // nothing has been tried yet
    kHealthy,  // the last attempt succeeded
    kFailing,  // the last attempt failed, at `last_failure`
    kProbing,  // it failed before, and one canary event is out
    kDrained,  // taken out by hand, at `drained_since`
  };
  std::string uri;  // masked
  AckLevel ack_level = AckLevel::kHandedToKernel;
  Health health = Health::kIdle;
  bool connected = false;
  absl::Time last_success = absl::InfinitePast();  // on the loop's clock, like last_failure
  absl::Time last_failure = absl::InfinitePast();
  absl::Time failing_since = absl::InfinitePast();  // as Endpoint::failing_since()
  absl::Time drained_since = absl::InfinitePast();  // InfinitePast: it is not
  absl::Time down_since = absl::InfinitePast();     // while its last attempt failed: when it began to
  uint64_t missed = 0;                              // events of PARALLEL that passed it by while it was drained
  absl::Status last_error;                          // masked
  absl::Duration latency_p50, latency_p99;
};

// What is added up over many endpoints.
struct EndpointTotals {
  EndpointBooks books;
  LatencyHistogram::Counts latency;  // of attempts that succeeded
  uint64_t imbalance = 0;            // see Endpoint::Imbalance()

  EndpointTotals& operator+=(const EndpointTotals& other);
};

class Endpoint;

// An endpoint has begun to fail, or works again.
struct HealthChange {
  const Endpoint& endpoint;
  absl::string_view uri;    // masked
  absl::Status why;         // its last failure; OK: it works again
  bool by_reports = false;  // since the change told before, nothing but reports (Message::is_report) was offered to it
  absl::Duration ago;       // since it began to fail, or worked again
  uint32_t queued = 0;      // wait now
  // When it works again, of the time between:
  absl::Duration down_for;
  uint64_t failed = 0;   // attempts that ended so
  uint64_t refused = 0;  // offers refused at once: its queue was full, or it was sure not to be connected in time
};

// On the endpoint's loop; must not block. A change that comes within a second of the last one told is told at the end
// of that second, if it still holds then: an endpoint that flaps is not told about with every event.
using OnHealthChange = std::function<void(const HealthChange&)>;

// Below the policy: one attempt, one deadline, one outcome; nothing is retried here. Born idle; connects when the first
// message is offered and again, after a pause, when one is offered to a lost connection. Shared by subscriptions
// through EndpointPool; dies on its loop.
class Endpoint final : public Completion::Sink, private Link::Host {
 public:
  // Who offers messages: a delivery. Must live, and keep the message alive, until it has heard the outcome of each
  // accepted offer.
  class Client {
   public:
    // Asked on the endpoint's loop right before the message is sent. Must not block.
    virtual bool Wanted(absl::Time now) const = 0;
    // On the endpoint's loop, exactly once per accepted offer, `tag` as given to Offer(). May offer to any endpoint.
    virtual void OnOutcome(uint32_t tag, Outcome outcome) = 0;

   protected:
    ~Client() = default;
  };

  // `transport`, `loop` and `on_health_change` outlive the endpoint. `on_gone` runs on the loop as its last act, with
  // all that it has counted.
  Endpoint(const Destination& destination, Loop& loop, const EndpointLimits& limits,
           const OnHealthChange& on_health_change, absl::AnyInvocable<void(const EndpointTotals&) &&> on_gone);

  // Queues `message` for this destination; `client` hears exactly one outcome, at `deadline` at the latest (a few
  // milliseconds of slack). Never blocks; any thread. The outcome may arrive before Offer() returns.
  Admission Offer(const Message& message, Client* client, uint32_t tag, absl::Time now, absl::Time deadline);

  // What Offer() would say at this moment. Any thread.
  Admission WouldAdmit(const Message& message, absl::Time deadline) const;

  const Target& target() const { return target_; }

  // When the last attempt failed, or InfinitePast() when it did not; 1970 when that was to be forgotten. Any thread.
  absl::Time failing_since() const;

  // Taken out by hand: whoever plans a delivery passes it over. Offer() takes what is offered all the same.
  bool drained() const { return drained_since_.load(std::memory_order_acquire) != 0; }
  // What waits and what is in flight goes on in either mode. Brought back, it forgets a cool-down and its pause between
  // two connects: the next event is offered to it at once, as the canary if its last attempt had failed. Any thread.
  void SetDrained(bool drained);
  // PARALLEL has passed it over. Any thread.
  void CountMissed() { missed_.fetch_add(1, std::memory_order_relaxed); }

  // Claims the one canary that may be out while the endpoint is failing. The claim ends with the next outcome, or after
  // one attempt timeout. Any thread.
  bool ClaimCanary(absl::Time now);

  // Why Offer() would say kDown, or why the last attempt failed. Masked. Any thread.
  absl::Status last_error() const;
  // What to tell whoever was answered by kFull or kDown. Masked. Any thread.
  absl::Status RefusalOf(Admission admission) const;

  EndpointStats stats() const;  // any thread

  EndpointBooks books() const;  // any thread

  LatencyHistogram::Counts latency() const { return latency_.Read(); }  // of attempts that succeeded; any thread

  // By how much the books are wrong: zero. They take for queued and in flight what has come and not gone; this counts
  // what really stands in the queue and in the window. On the loop, in a task of its own.
  uint64_t Imbalance() const;

  // Ends everything that waits or is in flight with UNAVAILABLE, drops the link and refuses further offers. Any thread;
  // returns at once, the work is done on the loop.
  void Close();

  // Completion::Sink. Any thread.
  void Settle(Ref<Sink> self, uint64_t token, absl::Status outcome) override;

 private:
  enum class State { kIdle, kConnecting, kReady };

  // Trivial to copy: it goes from a cork's list to the inbox and to those that wait.
  struct Waiting {
    const Message* message;
    Client* client;
    absl::Time accepted;
    absl::Time deadline;
    uint32_t tag;
  };
  // What one thread has offered under its cork, and may still offer without asking: room that is set aside for it. Most
  // offers of a batch cost no lock so, and the queue's bounds hold nevertheless.
  struct Held {
    Ref<Endpoint> endpoint;
    uint32_t events_left = 0;
    uint64_t bytes_left = 0;
    uint64_t bytes = 0;  // of the offers
    absl::Time down_until = absl::InfinitePast();
    std::vector<Waiting> offers;

    bool Take(const Waiting& offer, uint64_t size);  // false: there is no room for it
  };
  struct Corks;
  // One parcel at the link. A slot whose attempt has timed out keeps its place in the window until the link reports.
  struct Slot {
    Client* client = nullptr;  // null: free, or its outcome has been given already
    uint32_t tag = 0;
    uint32_t generation = 0;
    uint64_t bytes = 0;
    absl::Time accepted;
    absl::Time sent;
    absl::Time deadline;
    bool occupied = false;
  };
  struct Reported {
    uint64_t token;
    absl::Status outcome;
  };

  ~Endpoint() override;
  void OnLastRef() override;  // posts the deletion to the loop

  // Link::Host, on the loop.
  void OnReady(int window) override;
  void OnClosed(absl::Status why) override;

  friend class Cork;
  Admission Judge(uint64_t bytes, absl::Time deadline) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Admission Admit(const Waiting& offer, uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetAside(Held* held) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Release(Held* held) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);  // what is held joins the queue
  void Wake() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);               // schedules Drain() unless it is scheduled
  void PostDrain();
  static void DrainHereOrPost(absl::Span<Ref<Endpoint>> endpoints);  // moves from the span
  bool connected() const { return connected_.load(std::memory_order_relaxed); }

  // All on the loop.
  void Drain();    // takes what other threads left, then pumps
  void Pump();     // connects when something waits, sends what the window has room for
  bool HasRoom();  // for a message in the link's window; makes slots for those that wait
  void SendBatch();
  void SettleReported();
  void SettleDelivered(absl::Time now);
  void Connect(absl::Time now);
  void DropLink(const absl::Status& why);
  void FailWaiting(const absl::Status& why);
  void Trim();  // gives back what a burst took, unless something waits or is out
  void SettleOnLoop(uint64_t token, absl::Status outcome, absl::Time now);
  Slot* SlotOf(uint64_t token);  // null: its outcome has been given, or it was of an earlier link
  size_t waiting() const { return waiting_.size() - next_; }
  uint64_t queued(uint64_t accepted) const { return accepted - sent_.Read() - ended_in_queue_.Read(); }
  void SetSucceeded(absl::Time now);
  void SetFailing(bool failing, absl::Time now);
  void TellHealth(absl::Time now);
  void OnTimer();  // ends what is past its deadline
  void ArmTimer(absl::Time when);
  absl::Duration NextPause(const absl::Status& why);

  // One accepted attempt ends: books, health, then its client. `from` says which book it leaves.
  enum class From { kQueue, kLink };
  struct Ended {
    Client* client;
    uint32_t tag;
    uint64_t bytes;
    absl::Time accepted;
  };
  void End(const Ended& ended, From from, Outcome::Result result, absl::Status status, absl::Time now);

  const Target target_;
  Transport& transport_;
  Loop& loop_;
  const EndpointLimits limits_;
  const OnHealthChange& on_health_change_;

  // Any thread.
  std::atomic<int64_t> failing_since_{0};  // nanoseconds since the epoch on the loop's clock; 0: not failing
  std::atomic<int64_t> drained_since_{0};  // likewise; 0: it is not
  std::atomic<int64_t> canary_until_{0};
  std::atomic<uint64_t> missed_{0};
  std::atomic<bool> connected_{false};  // written on the loop

  mutable Mutex mutex_;
  std::vector<Waiting> inbox_ ABSL_GUARDED_BY(mutex_);
  std::vector<Reported> reports_ ABSL_GUARDED_BY(mutex_);
  bool drain_scheduled_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time connect_not_before_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  EndpointStats stats_ ABSL_GUARDED_BY(mutex_);  // but for what the tallies count
  uint64_t reports_offered_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t accepted_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t events_aside_ ABSL_GUARDED_BY(mutex_) = 0;  // room set aside for corks
  uint64_t bytes_aside_ ABSL_GUARDED_BY(mutex_) = 0;

  // Counted under the loop's turn, without the lock that Offer() needs.
  Tally<uint64_t> sent_;  // handed to a link
  Tally<uint64_t> ok_, failed_, timed_out_, unwanted_;
  Tally<uint64_t> ended_in_queue_;  // of those four: never sent
  Tally<uint64_t> ended_bytes_;
  std::atomic<int64_t> last_success_{0};  // nanoseconds since the epoch on the loop's clock; 0: never
  LatencyHistogram latency_;

  // Under the loop's turn only.
  State state_ = State::kIdle;
  std::unique_ptr<Link> link_;
  std::unique_ptr<Loop::Timer> timer_;
  absl::Time timer_at_ = absl::InfiniteFuture();
  absl::Time connecting_until_ = absl::InfiniteFuture();
  absl::Time last_progress_;                     // when the link last reported anything
  bool link_proved_itself_ = false;              // it has delivered something
  absl::Duration pause_ = absl::ZeroDuration();  // before the next connect
  bool told_failing_ = false;                    // what on_health_change_ was told last
  uint64_t others_offered_when_told_ = 0;        // messages that are no reports
  uint64_t refused_when_told_ = 0;
  absl::Time changed_at_ = absl::InfinitePast();  // when it began to fail, or worked again
  absl::Time down_since_ = absl::InfinitePast();  // of the failing that was told
  uint64_t failed_while_down_ = 0;
  absl::Time tell_not_before_ = absl::InfinitePast();
  absl::Status dropping_;  // not OK while the link is being destroyed: why
  // What has been reported is settled when Send() has returned, or by Drain(): all with one look at the clock, and
  // successes, by their tokens, together.
  std::vector<uint64_t> delivered_;
  std::vector<Reported> failures_;
  uint32_t references_ = 0;  // that their completions held
  uint32_t generation_ = 0;
  std::vector<Waiting> waiting_;
  size_t next_ = 0;          // of those that wait; what stands before has gone
  size_t window_ = 0;        // of the link
  std::vector<Slot> slots_;  // up to the window
  std::vector<uint32_t> free_slots_;
  // Scratch space, kept for its capacity.
  std::vector<Waiting> taken_;
  std::vector<Reported> reported_;
  std::vector<Parcel> parcels_;
  std::minstd_rand jitter_;
  absl::AnyInvocable<void(const EndpointTotals&) &&> on_gone_;
};

// While one exists on a thread, offers made there wake no loop: each endpoint that got some is told once, when the
// outermost cork ends. For who raises many events in a row, a batch or what one read brought: their messages leave
// together. Nothing is sent meanwhile, so hold it for some hundred raises at most. Stack only.
//
// What few raises offer to few endpoints that are connected, and whose loop sleeps, is sent by the thread that raises
// (Loop::TryRun), and what ends with that ends there. So who ends the outermost cork holds no lock that a Client or
// OnHealthChange takes.
class Cork {
 public:
  // Of few raises, each endpoint mostly gets one offer: no room is set aside for more. What many offer is left to the
  // loops, which send together what has come meanwhile, while this thread goes on to the next.
  enum class For { kManyRaises, kFewRaises };

  explicit Cork(For what = For::kManyRaises);
  ~Cork();
  Cork(const Cork&) = delete;
  Cork& operator=(const Cork&) = delete;

  // Made on this thread since its outermost cork, that there is or was last, began.
  static size_t offers();
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ENDPOINT_ENDPOINT_H_
