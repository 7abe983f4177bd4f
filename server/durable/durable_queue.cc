#include "server/durable/durable_queue.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

using Ended = DeliveryResult::Outcome;

constexpr absl::Duration kFirstPause = absl::Seconds(1);
constexpr absl::Duration kLongestPause = absl::Seconds(30);
constexpr size_t kReadAtOnce = 512;

uint32_t AttemptsIn(const std::vector<AttemptRecord>& attempts) {
  return static_cast<uint32_t>(std::count_if(attempts.begin(), attempts.end(), [](const AttemptRecord& attempt) {
    return attempt.result != AttemptRecord::Result::kSkipped;
  }));
}

// INVALID_ARGUMENT says that this message can never be delivered there: see Completion.
bool IsRefusedForGood(const std::vector<AttemptRecord>& attempts) {
  return AttemptsIn(attempts) > 0 && std::all_of(attempts.begin(), attempts.end(), [](const AttemptRecord& attempt) {
           return attempt.status.ok() || absl::IsInvalidArgument(attempt.status);
         });
}

}  // namespace

absl::Duration RetryPause(int failures, double dice) {
  absl::Duration longest = kFirstPause;
  for (int i = 1; i < failures && longest < kLongestPause; ++i) longest *= 2;
  return std::min(longest, kLongestPause) * dice;
}

DurableQueue::Event* DurableQueue::Find(uint64_t sequence) {
  const auto found = std::lower_bound(events_.begin(), events_.end(), sequence,
                                      [](const Event& event, uint64_t wanted) { return event.sequence < wanted; });
  return found == events_.end() || found->sequence != sequence ? nullptr : &*found;
}

void DurableQueue::TellOne(Event* event, Ended outcome, std::vector<AttemptRecord> attempts) {
  if (event->tell) told_.push_back({std::exchange(event->tell, nullptr), outcome, std::move(attempts)});
}

void DurableQueue::OnCommitted(uint64_t sequence, KeptEvent event, Tell tell, bool may_keep) {
  const bool next = !unread() && sequence > loaded_last_;
  committed_last_ = std::max(committed_last_, sequence);
  if (next && may_keep && mode_ == Mode::kFlowing && !reading_ && events_.size() < kLoaded) {
    bytes_ += event.message->size();
    Event& added = events_.emplace_back();
    added.sequence = sequence;
    added.event = std::move(event);
    added.tell = std::move(tell);
    loaded_last_ = sequence;
  } else if (tell) {
    told_.push_back({std::move(tell), Ended::kPending, {}});
  }
}

void DurableQueue::OnLoaded(uint64_t epoch, std::vector<Loaded> events, bool failed) {
  reading_ = false;
  if (epoch != epoch_) return;  // of what has been forgotten meanwhile
  if (failed) return Hold();
  if (mode_ == Mode::kHolding) return;
  if (events.empty()) loaded_last_ = std::max(loaded_last_, read_until_);
  for (Loaded& loaded : events) {
    loaded_last_ = loaded.sequence;
    Event& added = events_.emplace_back();
    added.sequence = loaded.sequence;
    added.event = std::move(loaded.event);
    added.progress = loaded.progress;
    added.damaged_record = std::move(loaded.damaged_record);
    if (added.event.message) bytes_ += added.event.message->size();
  }
}

void DurableQueue::OnRoundEnd(uint64_t sequence, DeliveryResult result, const Limits& limits) {
  Event* const event = Find(sequence);
  EV_CHECK(event != nullptr && event->state == State::kOut);
  if (result.outcome == Ended::kDelivered) {
    event->state = State::kDelivered;
    delivered_.push_back(sequence);
    TellOne(event, Ended::kDelivered, std::move(result.attempts));
    if (mode_ == Mode::kFlowing || mode_ == Mode::kProbing) failures_ = 0;
    if (mode_ == Mode::kProbing) {
      mode_ = Mode::kFlowing;
      scan_ = 0;
    }
    return;
  }
  if (result.outcome == Ended::kExpired || mode_ == Mode::kEnding) {  // the end of the subscription is on the way
    event->state = State::kWaiting;
    --busy_;
    TellOne(event, Ended::kPending, std::move(result.attempts));
    return Hold();
  }
  if (limits.parallel) {
    ++event->progress.attempts;
    for (const AttemptRecord& attempt : result.attempts) {
      if (attempt.result == AttemptRecord::Result::kOk) event->progress.delivered.set(attempt.subscriber);
    }
  } else {
    event->progress.attempts += AttemptsIn(result.attempts);
  }
  if (IsRefusedForGood(result.attempts)) {
    --busy_;
    return Bury(event, "refused: no subscriber can ever take it", std::move(result.attempts));
  }
  if (limits.max_attempts > 0 && event->progress.attempts >= limits.max_attempts) {
    --busy_;  // Bury() counts it again
    Bury(event, absl::StrCat("max_attempts: all ", limits.max_attempts, " have failed"), std::move(result.attempts));
  } else {
    event->state = State::kSaving;
    saves_.push_back({sequence, event->progress});
    TellOne(event, Ended::kPending, std::move(result.attempts));
  }
  Hold();
}

// What is out still ends, in whichever order; only the first failure of many counts for the pause.
void DurableQueue::Hold() {
  if (mode_ == Mode::kEnding || mode_ == Mode::kHolding || mode_ == Mode::kStopped) return;
  mode_ = Mode::kHolding;
  ++failures_;
  for (Event& event : events_) {
    if (event.state == State::kWaiting) TellOne(&event, Ended::kPending, {});
  }
}

void DurableQueue::OnGone(uint64_t first, uint64_t last) {
  auto event = std::lower_bound(events_.begin(), events_.end(), first,
                                [](const Event& one, uint64_t wanted) { return one.sequence < wanted; });
  for (; event != events_.end() && event->sequence <= last; ++event) {
    if (event->state != State::kGoing) continue;
    event->state = State::kGone;
    --busy_;
  }
  while (!events_.empty() && events_.front().state == State::kGone) {
    if (events_.front().event.message) bytes_ -= events_.front().event.message->size();
    events_.pop_front();
    if (scan_ > 0) --scan_;
  }
}

void DurableQueue::OnSaved(uint64_t sequence) {
  Event* const event = Find(sequence);
  if (event == nullptr || event->state != State::kSaving) return;
  event->state = State::kWaiting;
  --busy_;
}

void DurableQueue::End(std::string reason) {
  if (mode_ == Mode::kEnding) return;
  Hold();
  mode_ = Mode::kEnding;
  end_reason_ = std::move(reason);
}

void DurableQueue::Stop() {
  Hold();
  mode_ = Mode::kStopped;
}

void DurableQueue::Forget() {
  EV_CHECK(busy_ == 0);
  events_.clear();
  bytes_ = 0;
  scan_ = 0;
  loaded_last_ = 0;
  ++epoch_;
}

std::string DurableQueue::Overdue(const Event& event, const Limits& limits, absl::Time now) {
  if (!event.event.message) return "damaged: its record in the journal cannot be read";
  if (limits.total_timeout != absl::InfiniteDuration() && now >= event.event.accepted + limits.total_timeout) {
    return absl::StrCat("total_timeout: not delivered within ", absl::FormatDuration(limits.total_timeout));
  }
  if (limits.max_event_age != absl::InfiniteDuration() &&
      now - event.event.message->event_time() > limits.max_event_age) {
    return absl::StrCat("max_event_age: older than ", absl::FormatDuration(limits.max_event_age));
  }
  return "";
}

absl::Time DurableQueue::DeadlineOf(const Event& event, const Limits& limits) {
  if (!event.event.message) return absl::InfinitePast();
  absl::Time deadline = event.event.accepted + limits.total_timeout;
  if (limits.max_event_age != absl::InfiniteDuration()) {
    deadline = std::min(deadline, event.event.message->event_time() + limits.max_event_age + absl::Nanoseconds(1));
  }
  return deadline;
}

void DurableQueue::Bury(Event* event, std::string reason, std::vector<AttemptRecord> last_attempts) {
  ++busy_;
  event->state = State::kGoing;
  burials_.push_back({event->sequence, event->event, std::move(event->damaged_record), std::move(reason),
                      event->progress.attempts, last_attempts});
  TellOne(event, Ended::kDeadLettered, std::move(last_attempts));
}

void DurableQueue::StartOne(Event* event, const Limits& limits, Steps* steps) {
  ++busy_;
  event->state = State::kOut;
  Start start{event->sequence, event->event.message, {}};
  start.round.deadline = event->event.accepted + limits.total_timeout;
  if (limits.max_attempts > 0) start.round.max_attempts = limits.max_attempts - event->progress.attempts;
  start.round.delivered = event->progress.delivered;
  steps->starts.push_back(std::move(start));
}

// Neighbours go together: a range of sequences holds no event of this queue that is not in memory.
void DurableQueue::EraseDelivered(Steps* steps) {
  std::sort(delivered_.begin(), delivered_.end());
  for (uint64_t sequence : delivered_) {
    Event* const event = Find(sequence);
    if (event->state != State::kDelivered) continue;  // went with one before
    size_t index =
        static_cast<size_t>(std::lower_bound(events_.begin(), events_.end(), sequence,
                                             [](const Event& one, uint64_t wanted) { return one.sequence < wanted; }) -
                            events_.begin());
    Range range{sequence, sequence, 0};
    for (; index < events_.size() && events_[index].state == State::kDelivered; ++index) {
      events_[index].state = State::kGoing;
      range.last = events_[index].sequence;
      ++range.events;
    }
    steps->erase.push_back(range);
  }
  delivered_.clear();
}

void DurableQueue::Read(size_t limit, Steps* steps) {
  if (reading_ || !unread()) return;
  if (limit == 0) {
    steps->hungry = true;
    return;
  }
  reading_ = true;
  read_until_ = committed_last_;
  steps->read = limit;
  steps->read_after = loaded_last_;
  steps->read_epoch = epoch_;
}

void DurableQueue::Flow(absl::Time now, const Limits& limits, size_t room, Steps* steps) {
  for (; scan_ < events_.size() && busy_ < kWindow; ++scan_) {
    Event& event = events_[scan_];
    if (event.state != State::kWaiting) continue;
    if (std::string reason = Overdue(event, limits, now); !reason.empty()) {
      Bury(&event, std::move(reason), {});
    } else {
      StartOne(&event, limits, steps);
    }
  }
  // Whoever has nothing may always have one: nobody starves beside those who are slow.
  const size_t own = events_.size() < kLoaded / 2 ? kReadAtOnce : 0;
  const size_t granted = std::min(own, events_.empty() ? std::max<size_t>(room, 1) : room);
  if (own > 0) Read(granted, steps);
}

void DurableQueue::Pause(absl::Time now, const Limits& limits, double dice) {
  if (now >= retry_at_) retry_at_ = now + RetryPause(failures_, dice);
  wake_ = retry_at_;
  for (const Event& event : events_) {
    if (event.state == State::kWaiting) {
      wake_ = std::min(wake_, DeadlineOf(event, limits));  // what comes behind it comes later
      break;
    }
  }
  Forget();
  mode_ = Mode::kPausing;
}

void DurableQueue::Probe(absl::Time now, const Limits& limits, Steps* steps) {
  if (reading_ || busy_ > 0) return;
  for (Event& event : events_) {
    if (event.state != State::kWaiting) continue;
    if (std::string reason = Overdue(event, limits, now); !reason.empty()) Bury(&event, std::move(reason), {});
  }
  if (busy_ > 0) return;  // first they go
  const auto first =
      std::find_if(events_.begin(), events_.end(), [](const Event& event) { return event.state == State::kWaiting; });
  if (first != events_.end()) {
    if (may_start_) return StartOne(&*first, limits, steps);
    mode_ = Mode::kHolding;  // to go on with the pause
  } else if (unread()) {
    Read(kProbeRead, steps);
  } else {
    mode_ = Mode::kFlowing;
    scan_ = 0;
  }
}

void DurableQueue::BuryAll(Steps* steps) {
  if (busy_ > 0 || reading_) return;
  if (!emptied_) {
    emptied_ = true;
    Forget();
  }
  for (Event& event : events_) {
    if (event.state == State::kWaiting) Bury(&event, end_reason_, {});
  }
  if (busy_ > 0) return;
  Read(kBurialRead, steps);
  steps->gone = !reading_;
}

void DurableQueue::Step(absl::Time now, const Limits& limits, size_t room, double dice, Steps* steps) {
  EraseDelivered(steps);
  if (mode_ == Mode::kHolding && busy_ == 0) Pause(now, limits, dice);
  if (mode_ == Mode::kPausing && now >= wake_) {
    mode_ = Mode::kProbing;
    may_start_ = now >= retry_at_;
  }
  if (mode_ == Mode::kPausing) steps->wake = wake_;
  if (mode_ == Mode::kProbing) Probe(now, limits, steps);
  if (mode_ == Mode::kHolding && busy_ == 0) {
    Pause(now, limits, dice);
    steps->wake = wake_;
  }
  if (mode_ == Mode::kFlowing) Flow(now, limits, room, steps);
  if (mode_ == Mode::kEnding) BuryAll(steps);
  if (!events_.empty()) {
    if (events_.front().event.message) oldest_ = events_.front().event.accepted;
  } else if (!unread()) {
    oldest_ = absl::InfiniteFuture();
  }  // else it is the one that is read back next
  steps->save = std::exchange(saves_, {});
  steps->bury = std::exchange(burials_, {});
  steps->told = std::exchange(told_, {});
}

}  // namespace eventvirtual
