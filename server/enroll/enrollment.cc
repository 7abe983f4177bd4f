#include "server/enroll/enrollment.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/log/log.h"
#include "transports/api/jsonrpc.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kNone = "{}";  // as opensips-cli writes no parameters

bool NoAnswer(const absl::Status& status) { return status.code() == absl::StatusCode::kUnavailable; }

std::string TextOf(const absl::Status& status) { return std::string(status.message()); }

template <typename T>
absl::StatusOr<T> Read(const absl::StatusOr<std::string>& result, absl::StatusOr<T> (*read)(absl::string_view)) {
  if (!result.ok()) return result.status();
  return read(*result);
}

std::string Params(absl::string_view event) {
  std::string params = "[";
  AppendJsonString(event, &params);
  return params + "]";
}

}  // namespace

Enrollment::Enrollment(std::unique_ptr<MiClient> mi, std::string ingest, bool import)
    : mi_(std::move(mi)), ingest_(std::move(ingest)), own_({ingest_}), import_(import) {
  status_.opensips = mi_->name();
  status_.ingest = ingest_;
}

// --- calls

absl::StatusOr<std::string> Enrollment::Call(absl::string_view method, absl::string_view params) {
  ++counters_.calls;
  --calls_left_;
  absl::StatusOr<std::string> result = mi_->Call(method, params);
  if (!result.ok()) ++(NoAnswer(result.status()) ? counters_.unanswered : counters_.refused);
  // A list of all subscribers may be more than it can answer, when one of them is not.
  const std::string kind = absl::StrCat(method, params == kNone ? " of all" : "");
  if (!NoAnswer(result.status())) {
    answered_ = true;
    answers_.insert(kind);
  } else {
    silence_ = result.status();
    if (answers_.erase(kind) > 0) interrupted_ = true;  // of what it never answers, silence says nothing
  }
  return result;
}

absl::Status Enrollment::Subscribe(absl::string_view event, absl::string_view socket, absl::Duration expire) {
  std::string params = "[";
  AppendJsonString(event, &params);
  params += ',';
  AppendJsonString(socket, &params);
  absl::StrAppend(&params, ",", absl::ToInt64Seconds(expire), "]");
  return Call("event_subscribe", params).status();
}

Enrollment::Sight Enrollment::Look(const std::string& name) {
  Sight sight;
  sight.blind = blind_;
  if (blind_) return sight;
  const absl::StatusOr<std::string> result = Call("subscribers_list", Params(name));
  if (absl::IsNotFound(result.status())) return sight;  // no such event, and so no subscribers
  const absl::StatusOr<std::vector<ListedSubscriber>> listed = Read(result, ReadSubscribers);
  sight.blind = blind_ = !listed.ok();
  if (blind_) return sight;
  for (const ListedSubscriber& subscriber : *listed) {
    if (subscriber.event != name) continue;
    if (own_.BringsAll(subscriber)) {
      sight.covered = std::max(sight.covered, subscriber.ttl);
    } else if (subscriber.socket == ingest_ && subscriber.ttl > absl::ZeroDuration()) {
      sight.ours = shows_us_ = true;
    }
  }
  return sight;
}

// --- one step

Enrollment::Found Enrollment::Step(absl::Time now, const std::vector<std::string>& wanted,
                                   const std::vector<ListedSubscriber>& taken_over) {
  Found found;
  found.next = kLook;
  if (cancelled_.load(std::memory_order_relaxed)) return found;
  calls_left_ = kMaxCalls;
  answered_ = blind_ = checked_ = forgotten_ = false;
  if (std::exchange(interrupted_, false)) suspect_ = true;
  const bool was_suspect = suspect_;
  if (suspect_) MakeAllDue();
  const absl::Status result = Reconcile(now, wanted, taken_over, &found);
  suspect_ = !result.ok() || interrupted_;
  if (suspect_) {
    found.next = kAgain;
  } else if (calls_left_ <= 0) {
    found.next = absl::ZeroDuration();
  }
  found.forgotten = forgotten_ || was_suspect;
  if (forgotten_ && !mending_) {
    ++counters_.restarts;
    Log(LogLevel::kInfo, "OpenSIPS has forgotten us", {{"opensips", name()}});
  }
  mending_ = (forgotten_ || mending_) && found.next == absl::ZeroDuration();
  Publish(now, result);
  return found;
}

absl::Status Enrollment::Reconcile(absl::Time now, const std::vector<std::string>& wanted,
                                   const std::vector<ListedSubscriber>& taken_over, Found* found) {
  lists_ = std::any_of(wanted.begin(), wanted.end(), [](const std::string& name) { return absl::EndsWith(name, "*"); });
  if (lists_ && now >= list_due_) ListEvents(now);
  if (absl::Status status = DropUnwanted(wanted); !status.ok()) return status;
  const bool look = !suspect_ && now >= look_due_;  // all are looked at anyway after an outage
  if (suspect_ || look) look_due_ = now + kLook;
  if (look) LookAtOne();
  if (absl::Status status = RenewDue(now); !status.ok()) return status;
  if (absl::Status status = TakeOver(taken_over, found); !status.ok()) return status;
  if (import_ && now >= import_due_) ListSubscribers(now, found);
  // So that it is known whether OpenSIPS answers also while nothing is wanted of it.
  if (calls_left_ == kMaxCalls) ListEvents(now);
  return answered_ ? absl::OkStatus() : silence_;
}

void Enrollment::ListEvents(absl::Time now) {
  list_due_ = now + kListAgain;
  absl::StatusOr<std::vector<std::string>> names = Read(Call("events_list", kNone), ReadEventNames);
  listing_error_ = names.ok() ? "" : absl::StrCat("events_list: ", TextOf(names.status()));
  if (names.ok()) known_ = *std::move(names);
}

// Sorted; patterns stand for what OpenSIPS knows.
std::vector<std::string> Enrollment::NamesOf(const std::vector<std::string>& wanted) {
  std::vector<std::string> names;
  for (absl::string_view name : wanted) {
    if (!absl::ConsumeSuffix(&name, "*")) {
      names.emplace_back(name);
      continue;
    }
    for (const std::string& known : known_) {
      if (absl::StartsWith(known, name)) names.push_back(known);
    }
  }
  names.erase(std::remove_if(names.begin(), names.end(),
                             [](const std::string& name) { return absl::StartsWith(name, kOwnEvents); }),
              names.end());
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  too_many_ = names.size() > kMaxEvents ? names.size() : 0;
  if (too_many_ > 0) names.resize(kMaxEvents);
  return names;
}

absl::Status Enrollment::DropUnwanted(const std::vector<std::string>& wanted) {
  const std::vector<std::string> names = NamesOf(wanted);
  for (const std::string& name : names) events_.try_emplace(name);
  for (auto it = events_.begin(); it != events_.end();) {
    if (std::binary_search(names.begin(), names.end(), it->first)) {
      ++it;
      continue;
    }
    if (Spent()) break;
    if (it->second.state == EventState::kEnrolled) {
      const absl::Status ended = Subscribe(it->first, ingest_, absl::ZeroDuration());
      if (NoAnswer(ended)) return ended;
    }
    it = events_.erase(it);
  }
  return absl::OkStatus();
}

// A restart takes everything at once, so that a look at one event finds it; another one each time, so that in the end
// each has been looked at.
void Enrollment::LookAtOne() {
  const auto comes = [](const auto& entry) {
    return entry.second.state == EventState::kEnrolled || entry.second.state == EventState::kCovered;
  };
  auto it = std::find_if(events_.upper_bound(looked_at_), events_.end(), comes);
  if (it == events_.end()) it = std::find_if(events_.begin(), events_.end(), comes);
  if (it == events_.end()) return;
  auto& [name, event] = *it;
  looked_at_ = name;
  const Sight sight = Look(name);
  const bool covered = sight.covered > absl::ZeroDuration();
  if (sight.blind) {
    MakeOldestDue();
  } else if (event.state == EventState::kCovered ? covered : sight.ours) {
    if (sight.ours && covered) event.due = absl::InfinitePast();
  } else if (event.state == EventState::kCovered || shows_us_) {
    forgotten_ = true;
    shows_us_ = false;
    MakeAllDue();
  } else {  // or OpenSIPS shows it in other words
    MakeOldestDue();
  }
}

absl::Status Enrollment::RenewDue(absl::Time now) {
  for (auto& [name, event] : events_) {
    if (event.due > now) continue;
    if (Spent()) break;
    if (absl::Status status = Renew(now, name, event, Look(name)); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Enrollment::Renew(absl::Time now, const std::string& name, Event& event, const Sight& sight) {
  const bool was_enrolled = event.state == EventState::kEnrolled;
  event.error.clear();
  if (sight.covered > absl::ZeroDuration()) {
    if (was_enrolled && sight.ours) {
      if (absl::Status ended = Subscribe(name, ingest_, absl::ZeroDuration()); NoAnswer(ended)) return ended;
    }
    event.state = EventState::kCovered;
    event.due = now + std::min(kRenewal, sight.covered);
    return absl::OkStatus();
  }
  const absl::Status status = Subscribe(name, ingest_, kExpire);
  if (NoAnswer(status)) return status;
  if (was_enrolled && shows_us_ && !sight.blind && !sight.ours) forgotten_ = true;
  event.state = status.ok() ? EventState::kEnrolled : EventState::kRefused;
  event.due = now + (status.ok() ? kRenewal : kRefusedAgain);
  if (!status.ok()) {
    event.error = absl::StrCat(TextOf(status), "; is this event published there, and the module ",
                               absl::StartsWith(ingest_, "tcp:") ? "event_stream" : "event_datagram", " loaded?");
    return absl::OkStatus();
  }
  if (!shows_us_ && !std::exchange(checked_, true)) Look(name);
  return absl::OkStatus();
}

absl::Status Enrollment::TakeOver(const std::vector<ListedSubscriber>& taken_over, Found* found) {
  for (const ListedSubscriber& subscriber : taken_over) {
    const auto event = events_.find(subscriber.event);
    if (event == events_.end() || Spent()) continue;  // the next listing shows it again
    if (event->second.state != EventState::kEnrolled && event->second.state != EventState::kCovered) continue;
    const absl::Status ended = Subscribe(subscriber.event, subscriber.socket, absl::ZeroDuration());
    if (NoAnswer(ended)) return ended;
    if (!ended.ok()) continue;
    ++counters_.taken_over;
    found->ended.push_back(subscriber);
  }
  return absl::OkStatus();
}

// Of a large proxy that may be too much for a datagram, or for the time: then it fails, and the rest goes on.
void Enrollment::ListSubscribers(absl::Time now, Found* found) {
  absl::StatusOr<std::vector<ListedSubscriber>> subscribers = Read(Call("subscribers_list", kNone), ReadSubscribers);
  import_error_ = subscribers.ok() ? "" : absl::StrCat("import: subscribers_list: ", TextOf(subscribers.status()));
  import_due_ = now + (subscribers.ok() ? kImportAgain : kImportFailedAgain);
  if (subscribers.ok()) found->subscribers = *std::move(subscribers);
}

void Enrollment::MakeAllDue() {
  for (auto& [name, event] : events_) event.due = absl::InfinitePast();
  list_due_ = import_due_ = absl::InfinitePast();
}

void Enrollment::MakeOldestDue() {
  std::vector<Event*> enrolled;
  for (auto& [name, event] : events_) {
    if (event.state == EventState::kEnrolled) enrolled.push_back(&event);
  }
  const size_t count = std::min<size_t>(enrolled.size(), kMaxBlindRenewals);
  std::partial_sort(enrolled.begin(), enrolled.begin() + count, enrolled.end(),
                    [](const Event* a, const Event* b) { return a->due < b->due; });
  for (size_t i = 0; i < count; ++i) enrolled[i]->due = absl::InfinitePast();
}

// --- the end

void Enrollment::End(const std::vector<ListedSubscriber>& given_back) {
  for (const ListedSubscriber& subscriber : given_back) {
    if (NoAnswer(Subscribe(subscriber.event, subscriber.socket, subscriber.ttl))) return;
  }
  for (const auto& [name, event] : events_) {
    if (event.state != EventState::kEnrolled) continue;
    if (NoAnswer(Subscribe(name, ingest_, absl::ZeroDuration()))) return;
  }
}

// --- failure events

bool Enrollment::Notify(const Message& event) {
  std::string params = "[";
  AppendJsonString(event.name(), &params);
  if (!event.params().empty()) {
    params += ',';
    std::string values;
    AppendParams(event, "", &values);
    if (values[0] == '[') {
      params += values;
    } else {
      AppendJsonString(values, &params);  // MI takes named ones as the text of an object
    }
  }
  params += ']';
  MutexLock lock(&mutex_);
  if (notices_.size() >= kMaxNotices || notice_bytes_ + params.size() > kMaxNoticeBytes) {
    ++notices_dropped_;
    return false;
  }
  notice_bytes_ += params.size();
  notices_.push_back(std::move(params));
  return notices_.size() == 1;
}

void Enrollment::SendNotices() {
  std::deque<std::string> notices;
  {
    MutexLock lock(&mutex_);
    notices.swap(notices_);
    notice_bytes_ = 0;
  }
  uint64_t sent = 0, refused = 0, dropped = 0;
  for (const std::string& params : notices) {
    absl::Status status = absl::UnavailableError("");
    if (!suspect_ && dropped == 0 && !cancelled_.load(std::memory_order_relaxed)) {
      status = Call("raise_event", params).status();
    }
    ++(status.ok() ? sent : NoAnswer(status) ? dropped : refused);
  }
  counters_.notified += sent;
  counters_.notify_refused += refused;
  MutexLock lock(&mutex_);
  notices_dropped_ += dropped;
  status_.counters = counters_;
}

// --- what others see

EnrollmentStatus Enrollment::status() const {
  MutexLock lock(&mutex_);
  EnrollmentStatus status = status_;
  status.counters.notify_dropped = notices_dropped_;
  return status;
}

void Enrollment::Publish(absl::Time now, const absl::Status& result) {
  using State = EnrollmentStatus::State;
  EnrollmentStatus status;
  status.opensips = mi_->name();
  status.ingest = ingest_;
  status.counters = counters_;
  status.state = result.ok() ? State::kEnrolled : State::kFailing;
  status.error = TextOf(result);
  size_t waiting = 0, enrolled = 0, covered = 0, refused = 0;
  for (const auto& [name, event] : events_) {
    status.events.push_back({name, event.state, event.error});
    waiting += event.state == EventState::kWaiting;
    enrolled += event.state == EventState::kEnrolled;
    covered += event.state == EventState::kCovered;
    if (event.state == EventState::kRefused && refused++ == 0 && result.ok()) {
      status.error = absl::StrCat(name, ": ", event.error);
    }
  }
  if (result.ok()) {
    if (too_many_ > 0) {
      status.error = absl::StrCat(too_many_, " events are wanted; no more than ", kMaxEvents, " are enrolled");
    }
    if (status.error.empty()) status.error = lists_ && !listing_error_.empty() ? listing_error_ : import_error_;
    if (!status.error.empty()) status.state = State::kPartial;
    if (waiting > 0) status.state = State::kWaiting;
  }
  bool changed = false;
  {
    MutexLock lock(&mutex_);
    status.last_answer = result.ok() ? now : status_.last_answer;
    // Of why there is no answer, curl writes how many milliseconds it took to know.
    changed = status.state != status_.state || (result.ok() && status.error != status_.error);
    status_ = status;
  }
  if (!changed) return;
  static constexpr absl::string_view kStates[] = {"waiting", "enrolled", "partial", "failing"};
  Log(status.state == State::kEnrolled ? LogLevel::kInfo : LogLevel::kWarning, "enrollment",
      {{"opensips", status.opensips},
       {"state", kStates[static_cast<int>(status.state)]},
       {"enrolled", absl::StrCat(enrolled)},
       {"covered", absl::StrCat(covered)},
       {"refused", absl::StrCat(refused)},
       {"error", status.error}});
}

}  // namespace eventvirtual
