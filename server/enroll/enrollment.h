// Enrollment: this service as a subscriber of one OpenSIPS.
#ifndef EVENTVIRTUAL_SERVER_ENROLL_ENROLLMENT_H_
#define EVENTVIRTUAL_SERVER_ENROLL_ENROLLMENT_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/enroll/mi_answer.h"
#include "server/enroll/mi_client.h"
#include "server/enroll/own_sockets.h"
#include "transports/api/message.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// Since the start.
struct EnrollmentCounters {
  uint64_t calls = 0;           // to MI
  uint64_t unanswered = 0;      // of them: no answer, or none that is one
  uint64_t refused = 0;         // of them: answered with an error
  uint64_t restarts = 0;        // how often OpenSIPS had forgotten us
  uint64_t taken_over = 0;      // virtual sockets ended there, because they are ours now
  uint64_t notified = 0;        // failure events that OpenSIPS has raised
  uint64_t notify_refused = 0;  // those it would not raise
  uint64_t notify_dropped = 0;  // those it was not told: it did not answer, or too many waited
};

// What one enrollment looks like at one moment; nothing in it holds a password.
struct EnrollmentStatus {
  enum class State {
    kWaiting,   // not everything has been tried yet
    kEnrolled,  // every event that is wanted comes here
    kPartial,   // OpenSIPS answers, and refuses some of them: see `error` and `events`
    kFailing,   // OpenSIPS does not answer: see `error`
  };
  struct Event {
    enum class State {
      kWaiting,   // not tried yet
      kEnrolled,  // we are subscribed
      kCovered,   // a subscription that somebody made at OpenSIPS brings each one here already
      kRefused,   // see `error`
    };
    std::string name;
    State state = State::kWaiting;
    std::string error;
  };
  std::string opensips;  // where its MI is; a login is masked
  std::string ingest;    // what OpenSIPS was told to send to
  State state = State::kWaiting;
  absl::Time last_answer = absl::InfinitePast();  // on the clock of Step()
  std::string error;
  std::vector<Event> events;
  EnrollmentCounters counters;
};

// Keeps OpenSIPS' list of subscribers as it should be, by looking and mending, so that it does not matter why it is
// not: docs/decisions/0013-enrollment.md. All but status(), Notify() and Cancel() belong to one thread, which may
// block.
class Enrollment {
 public:
  static constexpr absl::Duration kExpire = absl::Seconds(60);   // of a subscription of ours there
  static constexpr absl::Duration kRenewal = absl::Seconds(30);  // when it is made anew
  static constexpr absl::Duration kLook = absl::Seconds(2);      // between two looks whether OpenSIPS still knows us
  static constexpr absl::Duration kAgain = absl::Seconds(1);     // when OpenSIPS did not answer
  static constexpr absl::Duration kRefusedAgain = absl::Seconds(4);  // when it refused an event
  static constexpr absl::Duration kListAgain = absl::Seconds(4);     // of OpenSIPS' events, where a pattern is wanted
  static constexpr absl::Duration kImportAgain = absl::Seconds(4);   // of all its subscribers, where they are imported
  static constexpr absl::Duration kImportFailedAgain = absl::Seconds(30);  // its time-out holds up all else
  static constexpr int kMaxCalls = 256;                                    // in one step
  static constexpr int kMaxBlindRenewals = 100;                            // in one step, where a look tells nothing
  static constexpr size_t kMaxEvents = 10000;
  static constexpr size_t kMaxNotices = 1000, kMaxNoticeBytes = 1 << 20;  // waiting

  // `ingest` is told to OpenSIPS: "tcp:127.0.0.1:9060".
  Enrollment(std::unique_ptr<MiClient> mi, std::string ingest, bool import);

  // What a step has found.
  struct Found {
    absl::Duration next;     // until the next step is due; zero: there is more to do at once
    bool forgotten = false;  // OpenSIPS has restarted, or did not answer meanwhile
    std::optional<std::vector<ListedSubscriber>> subscribers;  // all of OpenSIPS', with `import` and when it was time
    std::vector<ListedSubscriber> ended;                       // of `taken_over`
  };
  // Makes the calls that are due at `now`, and begins nothing more behind kMaxCalls. `wanted`: names of events, and
  // patterns ("E_UL_*"). `taken_over`: virtual sockets that are to end there, as soon as their events come to us.
  Found Step(absl::Time now, const std::vector<std::string>& wanted, const std::vector<ListedSubscriber>& taken_over);

  // Ends all that is enrolled, once `given_back`, that was taken over, is made again there. The last call.
  void End(const std::vector<ListedSubscriber>& given_back);

  // Keeps `event` to be raised at OpenSIPS, unless too many wait. True: SendNotices() must be called. Any thread; never
  // blocks.
  bool Notify(const Message& event);
  void SendNotices();

  // Step() and SendNotices() end after the call that they are in, and End() is all that still calls. Any thread.
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }

  EnrollmentStatus status() const;                         // any thread
  const std::string& name() const { return mi_->name(); }  // any thread

 private:
  using EventState = EnrollmentStatus::Event::State;
  struct Event {
    EventState state = EventState::kWaiting;
    std::string error;
    absl::Time due = absl::InfinitePast();
  };
  // What a look at the subscribers of one event says.
  struct Sight {
    bool blind = false;  // nothing
    bool ours = false;
    absl::Duration covered = absl::ZeroDuration();  // for so long somebody else's subscription brings all here
  };

  // These give an error when OpenSIPS did not answer what has to be done, which ends the step.
  absl::Status Reconcile(absl::Time now, const std::vector<std::string>& wanted,
                         const std::vector<ListedSubscriber>& taken_over, Found* found);
  absl::Status DropUnwanted(const std::vector<std::string>& wanted);
  absl::Status RenewDue(absl::Time now);
  absl::Status Renew(absl::Time now, const std::string& name, Event& event, const Sight& sight);
  absl::Status TakeOver(const std::vector<ListedSubscriber>& taken_over, Found* found);
  // These go without an answer: a peer may know event_subscribe and little else.
  void ListEvents(absl::Time now);
  void LookAtOne();
  Sight Look(const std::string& name);
  void ListSubscribers(absl::Time now, Found* found);

  absl::StatusOr<std::string> Call(absl::string_view method, absl::string_view params);
  absl::Status Subscribe(absl::string_view event, absl::string_view socket, absl::Duration expire);
  std::vector<std::string> NamesOf(const std::vector<std::string>& wanted);
  bool Spent() const { return calls_left_ <= 0 || cancelled_.load(std::memory_order_relaxed); }
  void Forgotten();
  void MakeAllDue();
  void MakeOldestDue();
  void Publish(absl::Time now, const absl::Status& result);

  const std::unique_ptr<MiClient> mi_;
  const std::string ingest_;
  const OwnSockets own_;  // the ingest alone
  const bool import_;

  absl::btree_map<std::string, Event> events_;
  std::vector<std::string> known_;  // OpenSIPS' events, as it last listed them
  absl::Time list_due_ = absl::InfinitePast();
  absl::Time import_due_ = absl::InfinitePast();
  absl::Time look_due_ = absl::InfinitePast();
  std::string looked_at_;          // the last event of LookAtOne()
  std::set<std::string> answers_;  // kinds of calls, of which it answered the last
  bool interrupted_ = false;       // it has not answered what it had answered before
  bool suspect_ = true;            // OpenSIPS did not answer: it may have forgotten everything
  bool mending_ = false;           // what it has forgotten is not all there yet
  bool shows_us_ = false;          // it shows our own socket as we write it: where it does not, we are not there
  bool lists_ = false;             // a pattern is wanted
  size_t too_many_ = 0;            // so many events are wanted, when they are more than kMaxEvents
  std::string listing_error_;      // of events_list
  std::string import_error_;       // of subscribers_list
  absl::Status silence_;           // the last call without an answer
  // This step:
  bool answered_ = false;   // some call
  bool blind_ = false;      // OpenSIPS does not show one event's subscribers
  bool checked_ = false;    // whether it shows us has been asked
  bool forgotten_ = false;  // it has forgotten something
  int calls_left_ = 0;
  EnrollmentCounters counters_;

  std::atomic<bool> cancelled_ = false;

  mutable Mutex mutex_;
  EnrollmentStatus status_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::string> notices_ ABSL_GUARDED_BY(mutex_);  // parameters of raise_event
  size_t notice_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t notices_dropped_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ENROLL_ENROLLMENT_H_
