#include "server/endpoint/endpoint.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

// A loop serves many endpoints: after so many batches the others get their turn.
constexpr int kBatchesPerTurn = 8;

// Deadlines are looked at no more often than this, so that a stalled endpoint with a full queue costs little.
constexpr absl::Duration kDeadlineSlack = absl::Milliseconds(2);

// No more than one change of health is told in this time.
constexpr absl::Duration kTellPause = absl::Seconds(1);

// A refused login does not get better by hammering.
constexpr absl::Duration kPauseAfterRefusedLogin = absl::Seconds(5);
constexpr double kPauseGrowth = 1.6;
constexpr double kPauseJitter = 0.2;

constexpr int kMaxWindow = 1 << 16;

// Of failing_since_: the last attempt failed, and whoever asks is to find that it was long ago.
constexpr int64_t kForgotten = 1;

// Places for messages that an endpoint keeps when it has had nothing to do for a while.
constexpr size_t kMostKept = 256;

template <typename T>
void GiveBack(std::vector<T>* empty) {
  if (empty->capacity() > kMostKept) std::vector<T>().swap(*empty);
}

uint64_t Token(uint32_t generation, uint32_t slot) { return uint64_t{generation} << 32 | slot; }

// Room in a queue that is set aside for one cork: events, and bytes.
constexpr uint32_t kMostAside = 64;
constexpr uint64_t kMostBytesAside = 64 << 10;

// Who has made offers to more endpoints than these under a cork, or more offers, leaves the sending to the loops, and
// goes on with its own work beside them: waking a loop costs as much as some ten sends, and each endpoint takes one.
constexpr size_t kFewEndpoints = 8;
constexpr size_t kFewOffers = 32;

// The endpoint inside whose Link::Send() this thread is.
thread_local const Endpoint* sending = nullptr;

bool IsRefusedLogin(const absl::Status& status) {
  return absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status);
}

}  // namespace

EndpointBooks& EndpointBooks::operator+=(const EndpointBooks& other) {
  offered += other.offered;
  full += other.full;
  down += other.down;
  accepted += other.accepted;
  ok += other.ok;
  failed += other.failed;
  timed_out += other.timed_out;
  unwanted += other.unwanted;
  connects += other.connects;
  queued += other.queued;
  in_flight += other.in_flight;
  queue_bytes += other.queue_bytes;
  return *this;
}

EndpointTotals& EndpointTotals::operator+=(const EndpointTotals& other) {
  books += other.books;
  latency += other.latency;
  imbalance += other.imbalance;
  return *this;
}

// The corks of this thread, and the endpoints that wait for them to end.
struct Endpoint::Corks {
  // More than these in one batch take their locks.
  static constexpr size_t kMostHeld = 8;

  Held* Find(const Endpoint* endpoint) {
    for (size_t i = 0; i < used; ++i) {
      if (held[i].endpoint.get() == endpoint) return &held[i];
    }
    return nullptr;
  }

  int depth = 0;
  bool holding = false;  // one of them is for many raises
  size_t offers = 0;     // since the outermost began
  size_t used = 0;
  Held held[kMostHeld];
  std::vector<Ref<Endpoint>> endpoints;  // to be woken

  static thread_local Corks here;
};
thread_local Endpoint::Corks Endpoint::Corks::here;

bool Endpoint::Held::Take(const Waiting& offer, uint64_t size) {
  if (events_left == 0 || bytes_left < size || down_until >= offer.deadline) return false;
  --events_left;
  bytes_left -= size;
  bytes += size;
  offers.push_back(offer);
  return true;
}

Endpoint::Endpoint(const Destination& destination, Loop& loop, const EndpointLimits& limits,
                   const OnHealthChange& on_health_change, absl::AnyInvocable<void(const EndpointTotals&) &&> on_gone)
    : target_(destination.target),
      transport_(*destination.transport),
      loop_(loop),
      limits_(limits),
      on_health_change_(on_health_change),
      jitter_(std::random_device()()),
      on_gone_(std::move(on_gone)) {
  stats_.uri = target_.masked;
  stats_.ack_level = target_.ack_level;
}

Endpoint::~Endpoint() { EV_CHECK(link_ == nullptr && waiting() == 0); }

void Endpoint::OnLastRef() {
  // The last reference may fall on any thread; link and timer belong to the loop.
  loop_.Post([this] {
    DropLink(absl::UnavailableError("the endpoint was closed"));
    absl::AnyInvocable<void(const EndpointTotals&)&&> on_gone = std::move(on_gone_);
    const EndpointTotals last{books(), latency(), Imbalance()};
    delete this;
    if (on_gone) std::move(on_gone)(last);
  });
}

Admission Endpoint::Offer(const Message& message, Client* client, uint32_t tag, absl::Time now, absl::Time deadline) {
  const uint64_t bytes = message.size();
  const Waiting offer{&message, client, now, deadline, tag};
  Corks& corks = Corks::here;
  ++corks.offers;
  if (!corks.holding) {
    MutexLock lock(&mutex_);
    return Admit(offer, bytes);
  }
  Held* held = corks.Find(this);
  if (held != nullptr && held->Take(offer, bytes)) return Admission::kAccepted;
  if (held == nullptr && corks.used < Corks::kMostHeld) {
    corks.held[corks.used++].endpoint = Ref<Endpoint>(this);  // if there is a second offer, there may be many
  }
  MutexLock lock(&mutex_);
  if (held == nullptr) return Admit(offer, bytes);
  SetAside(held);
  if (held->Take(offer, bytes)) return Admission::kAccepted;
  Release(held);  // in their order
  return Admit(offer, bytes);
}

Admission Endpoint::WouldAdmit(const Message& message, absl::Time deadline) const {
  MutexLock lock(&mutex_);
  return Judge(message.size(), deadline);
}

Admission Endpoint::Judge(uint64_t bytes, absl::Time deadline) const {
  if (closed_ || connect_not_before_ >= deadline) return Admission::kDown;
  const uint64_t held_bytes = accepted_bytes_ + bytes_aside_ - ended_bytes_.Read();
  const bool full = queued(stats_.accepted) + events_aside_ >= limits_.queue_events ||
                    (held_bytes > 0 && held_bytes + bytes > limits_.queue_bytes);
  return full ? Admission::kFull : Admission::kAccepted;
}

Admission Endpoint::Admit(const Waiting& offer, uint64_t bytes) {
  ++stats_.offered;
  reports_offered_ += offer.message->is_report() ? 1 : 0;
  const Admission admission = Judge(bytes, offer.deadline);
  switch (admission) {
    case Admission::kDown:
      ++stats_.down;
      break;
    case Admission::kFull:
      ++stats_.full;
      break;
    case Admission::kAccepted:
      ++stats_.accepted;
      accepted_bytes_ += bytes;
      inbox_.push_back(offer);
      Wake();
      break;
  }
  return admission;
}

void Endpoint::SetAside(Held* held) {
  if (closed_) return;
  const uint64_t events = queued(stats_.accepted) + events_aside_;
  const uint64_t bytes = accepted_bytes_ + bytes_aside_ - ended_bytes_.Read();
  if (events >= limits_.queue_events || bytes >= limits_.queue_bytes) return;
  // Half of what there is at most, so that others are not refused for the sake of what may never come.
  const auto more_events = static_cast<uint32_t>(std::min<uint64_t>(kMostAside, (limits_.queue_events - events) / 2));
  const uint64_t more_bytes = std::min(kMostBytesAside, (limits_.queue_bytes - bytes) / 2);
  if (more_events == 0) return;
  held->events_left += more_events;
  held->bytes_left += more_bytes;
  held->down_until = connect_not_before_;
  events_aside_ += more_events;
  bytes_aside_ += more_bytes;
}

void Endpoint::Release(Held* held) {
  const auto count = static_cast<uint32_t>(held->offers.size());
  events_aside_ -= held->events_left + count;
  bytes_aside_ -= held->bytes_left + held->bytes;
  held->events_left = 0;
  held->bytes_left = 0;
  if (count == 0) return;
  stats_.offered += count;
  stats_.accepted += count;
  accepted_bytes_ += std::exchange(held->bytes, 0);
  if (inbox_.empty()) {
    inbox_.swap(held->offers);
  } else {
    inbox_.insert(inbox_.end(), held->offers.begin(), held->offers.end());
    held->offers.clear();
  }
  Wake();
}

absl::Time Endpoint::failing_since() const {
  const int64_t nanos = failing_since_.load(std::memory_order_acquire);
  return nanos == 0 ? absl::InfinitePast() : absl::FromUnixNanos(nanos);
}

void Endpoint::SetDrained(bool drained) {
  MutexLock lock(&mutex_);  // one such change after the other
  if (drained == this->drained()) return;
  if (drained) return drained_since_.store(absl::ToUnixNanos(loop_.Now()), std::memory_order_release);
  int64_t failing_since = failing_since_.load(std::memory_order_relaxed);
  while (failing_since != 0 && !failing_since_.compare_exchange_weak(failing_since, kForgotten)) continue;
  canary_until_.store(0, std::memory_order_release);
  connect_not_before_ = absl::InfinitePast();
  drained_since_.store(0, std::memory_order_release);
  loop_.Post([self = Ref<Endpoint>(this)] {
    self->pause_ = absl::ZeroDuration();
    self->Pump();  // what waits for the pause to end
  });
}

bool Endpoint::ClaimCanary(absl::Time now) {
  const int64_t now_nanos = absl::ToUnixNanos(now);
  int64_t until = canary_until_.load(std::memory_order_relaxed);
  return until <= now_nanos &&
         canary_until_.compare_exchange_strong(until, now_nanos + absl::ToInt64Nanoseconds(target_.attempt_timeout));
}

absl::Status Endpoint::last_error() const {
  MutexLock lock(&mutex_);
  return Fresh(stats_.last_error);
}

absl::Status Endpoint::RefusalOf(Admission admission) const {
  if (admission == Admission::kFull) {
    return absl::ResourceExhaustedError(absl::StrCat("the queue of ", target_.masked, " is full"));
  }
  return absl::UnavailableError(absl::StrCat(target_.masked, " is down: ", last_error().message()));
}

EndpointBooks Endpoint::books() const {
  // Read in the opposite order to that in which they are counted, so that no difference is negative.
  const uint64_t ok = ok_.Read(), failed = failed_.Read(), timed_out = timed_out_.Read(), unwanted = unwanted_.Read();
  const uint64_t ended_in_queue = ended_in_queue_.Read();
  const uint64_t ended_bytes = ended_bytes_.Read();
  const uint64_t sent = sent_.Read();
  EndpointBooks books;
  {
    MutexLock lock(&mutex_);
    books = stats_;
    books.queue_bytes = accepted_bytes_ - ended_bytes;
  }
  books.ok = ok;
  books.failed = failed;
  books.timed_out = timed_out;
  books.unwanted = unwanted;
  books.queued = books.accepted - sent - ended_in_queue;
  books.in_flight = sent - (ok + failed + timed_out + unwanted - ended_in_queue);
  return books;
}

EndpointStats Endpoint::stats() const {
  const int64_t now = absl::ToUnixNanos(loop_.Now());
  const EndpointBooks books = this->books();
  EndpointStats stats;
  {
    MutexLock lock(&mutex_);
    stats = stats_;
    stats.last_error = Fresh(stats_.last_error);  // it goes to another thread
  }
  static_cast<EndpointBooks&>(stats) = books;
  const LatencyHistogram::Counts latency = latency_.Read();
  stats.latency_p50 = latency.Quantile(0.5);
  stats.latency_p99 = latency.Quantile(0.99);
  if (const int64_t success = last_success_.load(std::memory_order_relaxed); success != 0) {
    stats.last_success = absl::FromUnixNanos(success);
  }
  stats.connected = connected();
  stats.missed = missed_.load(std::memory_order_relaxed);
  stats.failing_since = failing_since();
  if (stats.failing_since == absl::InfinitePast()) stats.down_since = absl::InfinitePast();
  if (const int64_t since = drained_since_.load(std::memory_order_acquire); since != 0) {
    stats.drained_since = absl::FromUnixNanos(since);
    stats.health = EndpointStats::Health::kDrained;
  } else if (stats.failing_since != absl::InfinitePast()) {
    stats.health = canary_until_.load(std::memory_order_relaxed) > now ? EndpointStats::Health::kProbing
                                                                       : EndpointStats::Health::kFailing;
  } else if (stats.last_success != absl::InfinitePast()) {
    stats.health = EndpointStats::Health::kHealthy;
  }
  return stats;
}

uint64_t Endpoint::Imbalance() const {
  const auto difference = [](uint64_t a, uint64_t b) { return a > b ? a - b : b - a; };
  const auto is_out = [](const Slot& slot) { return slot.occupied && slot.client != nullptr; };
  const auto out = static_cast<uint64_t>(std::count_if(slots_.begin(), slots_.end(), is_out));
  const uint64_t ended = ok_.Read() + failed_.Read() + timed_out_.Read() + unwanted_.Read();
  const uint64_t sent = sent_.Read(), ended_in_queue = ended_in_queue_.Read();
  MutexLock lock(&mutex_);
  const uint64_t waits = inbox_.size() + waiting();
  uint64_t imbalance = difference(stats_.offered, stats_.accepted + stats_.full + stats_.down) +
                       difference(stats_.accepted, sent + ended_in_queue + waits) +
                       difference(sent + ended_in_queue, ended + out);
  if (waits + out == 0 && accepted_bytes_ != ended_bytes_.Read()) ++imbalance;
  return imbalance;
}

void Endpoint::Close() {
  MutexLock lock(&mutex_);
  closed_ = true;
  Wake();
}

void Endpoint::Settle(Ref<Sink> self, uint64_t token, absl::Status outcome) {
  const bool inside = sending == this;
  if (!inside && !loop_.OnLoop()) {
    MutexLock lock(&mutex_);
    reports_.push_back({token, std::move(outcome)});
    Wake();
    return;
  }
  if (!dropping_.ok()) return SettleOnLoop(token, std::move(outcome), loop_.Now());
  self.Release();
  ++references_;
  if (outcome.ok()) {
    delivered_.push_back(token);
  } else {
    failures_.push_back({token, std::move(outcome)});
  }
  if (inside || delivered_.size() + failures_.size() > 1)
    return;  // SendBatch() settles them, or Drain() is sure to come
  MutexLock lock(&mutex_);
  Wake();
}

void Endpoint::Wake() {
  if (drain_scheduled_) return;
  drain_scheduled_ = true;
  if (Corks::here.depth > 0) {
    Corks::here.endpoints.push_back(Ref<Endpoint>(this));
  } else {
    PostDrain();
  }
}

void Endpoint::PostDrain() {
  loop_.Post([self = Ref<Endpoint>(this)] { self->Drain(); });
}

// A loop is borrowed once for all of its endpoints: it lends its turn to nobody who comes again at once. Connecting is
// left to its own thread: it reads files, and asks for names.
void Endpoint::DrainHereOrPost(absl::Span<Ref<Endpoint>> endpoints) {
  for (size_t i = 0; i < endpoints.size(); ++i) {
    if (!endpoints[i]) continue;  // with one before it
    Loop& loop = endpoints[i]->loop_;
    const auto drain = [&] {
      for (Ref<Endpoint>& endpoint : endpoints.subspan(i)) {
        if (endpoint && &endpoint->loop_ == &loop && endpoint->connected()) std::exchange(endpoint, nullptr)->Drain();
      }
    };
    if (endpoints[i]->connected() && loop.TryRun(drain)) continue;
    endpoints[i]->PostDrain();
  }
}

Cork::Cork(For what) {
  Endpoint::Corks& corks = Endpoint::Corks::here;
  if (corks.depth++ == 0) corks.offers = 0;
  corks.holding = corks.holding || what == For::kManyRaises;
}

size_t Cork::offers() { return Endpoint::Corks::here.offers; }

Cork::~Cork() {
  Endpoint::Corks& corks = Endpoint::Corks::here;
  if (corks.depth > 1) {
    --corks.depth;
    return;
  }
  for (size_t i = 0; i < corks.used; ++i) {
    Endpoint::Held& held = corks.held[i];
    const Ref<Endpoint> endpoint = std::move(held.endpoint);
    if (held.events_left == 0 && held.offers.empty()) continue;
    MutexLock lock(&endpoint->mutex_);
    endpoint->Release(&held);
  }
  const bool few = !corks.holding && corks.offers <= kFewOffers && corks.endpoints.size() <= kFewEndpoints;
  corks.used = 0;
  corks.holding = false;
  corks.depth = 0;
  if (corks.endpoints.empty()) return;
  // What is sent here may end raises, and whoever hears of that may hold a cork.
  if (few && corks.endpoints.size() == 1) {
    Ref<Endpoint> only = std::move(corks.endpoints.front());
    corks.endpoints.clear();
    Endpoint::DrainHereOrPost(absl::MakeSpan(&only, 1));
    return;
  }
  std::vector<Ref<Endpoint>> endpoints;
  endpoints.swap(corks.endpoints);
  if (few) {
    Endpoint::DrainHereOrPost(absl::MakeSpan(endpoints));
  } else {
    for (const Ref<Endpoint>& endpoint : endpoints) endpoint->PostDrain();
  }
  endpoints.clear();
  if (corks.endpoints.empty()) corks.endpoints.swap(endpoints);  // for its room
}

void Endpoint::Drain() {
  bool closed;
  {
    MutexLock lock(&mutex_);
    drain_scheduled_ = false;
    taken_.swap(inbox_);
    reported_.swap(reports_);
    closed = closed_;
  }
  absl::Time earliest = absl::InfiniteFuture();
  for (const Waiting& waiting : taken_) earliest = std::min(earliest, waiting.deadline);
  if (waiting() == 0) {
    waiting_.clear();
    next_ = 0;
    waiting_.swap(taken_);
  } else {
    if (next_ > waiting_.size() / 2) waiting_.erase(waiting_.begin(), waiting_.begin() + std::exchange(next_, 0));
    waiting_.insert(waiting_.end(), taken_.begin(), taken_.end());
    taken_.clear();
  }
  for (Reported& report : reported_) {
    if (report.outcome.ok()) {
      delivered_.push_back(report.token);
    } else {
      failures_.push_back(std::move(report));
    }
  }
  reported_.clear();
  SettleReported();
  if (closed) {
    const absl::Status why = absl::UnavailableError("the endpoint was closed");
    DropLink(why);
    FailWaiting(why);
    timer_.reset();
    return;
  }
  ArmTimer(earliest);
  Pump();
}

void Endpoint::Pump() {
  if (state_ == State::kIdle && waiting() > 0) {
    const absl::Time now = loop_.Now();
    absl::Time not_before;
    {
      MutexLock lock(&mutex_);
      not_before = connect_not_before_;
    }
    if (now >= not_before) {
      Connect(now);
    } else {
      ArmTimer(not_before);
    }
  }
  for (int batch = 0; state_ == State::kReady && waiting() > 0 && HasRoom(); ++batch) {
    if (batch == kBatchesPerTurn) {
      MutexLock lock(&mutex_);
      Wake();
      return;
    }
    SendBatch();
  }
}

// Most endpoints never fill their window, and a slot for each of its places would be most of their memory.
bool Endpoint::HasRoom() {
  while (free_slots_.size() < waiting() && slots_.size() < window_) {
    free_slots_.push_back(static_cast<uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  return !free_slots_.empty();
}

void Endpoint::SendBatch() {
  const absl::Time now = loop_.Now();
  parcels_.clear();
  const size_t room = free_slots_.size();
  parcels_.reserve(std::min(waiting(), room));  // one that is moved is lent no more
  while (waiting() > 0 && parcels_.size() < room) {
    const Waiting& next = waiting_[next_++];
    const uint64_t bytes = next.message->size();
    if (!next.client->Wanted(now)) {
      End({next.client, next.tag, bytes, next.accepted}, From::kQueue, Outcome::Result::kUnwanted,
          absl::CancelledError("the subscription ended before the event was sent"), now);
      continue;
    }
    if (next.deadline <= now) {
      End({next.client, next.tag, bytes, next.accepted}, From::kQueue, Outcome::Result::kFailed,
          absl::DeadlineExceededError("the event waited in the queue until its deadline"), now);
      continue;
    }
    const uint32_t index = free_slots_[room - 1 - parcels_.size()];
    // Field by field: a whole Slot is made on the stack first, and copied from there before it has got there.
    Slot& slot = slots_[index];
    slot.client = next.client;
    slot.tag = next.tag;
    slot.generation = ++generation_;
    slot.bytes = bytes;
    slot.accepted = next.accepted;
    slot.sent = now;
    slot.deadline = next.deadline;
    slot.occupied = true;
    parcels_.emplace_back(*next.message, Completion(AdoptRef<Sink>(this), Token(generation_, index)));
  }
  if (parcels_.empty()) return;
  AddRef(static_cast<uint32_t>(parcels_.size()));  // which the completions have adopted
  free_slots_.resize(room - parcels_.size());
  sent_.Add(parcels_.size());
  sending = this;
  link_->Send(absl::MakeSpan(parcels_));
  parcels_.clear();  // what the link did not take ends here, as UNAVAILABLE
  sending = nullptr;
  SettleReported();
}

void Endpoint::Connect(absl::Time now) {
  state_ = State::kConnecting;
  link_proved_itself_ = false;
  connecting_until_ = now + limits_.connect_timeout;
  ArmTimer(connecting_until_);
  {
    MutexLock lock(&mutex_);
    ++stats_.connects;
  }
  link_ = transport_.Connect(target_, loop_, *this);
}

void Endpoint::OnReady(int window) {
  EV_CHECK(state_ == State::kConnecting && window > 0);
  state_ = State::kReady;
  connecting_until_ = absl::InfiniteFuture();
  last_progress_ = loop_.Now();
  window_ = static_cast<size_t>(std::min(window, kMaxWindow));
  connected_.store(true, std::memory_order_relaxed);
  Pump();
}

void Endpoint::OnClosed(absl::Status why) {
  DropLink(why);
  Pump();
}

void Endpoint::DropLink(const absl::Status& why) {
  if (state_ == State::kIdle) return;
  SettleReported();
  const absl::Time now = loop_.Now();
  state_ = State::kIdle;
  connecting_until_ = absl::InfiniteFuture();

  // What has never been tried is tried on a new link, but only behind a link that worked: where nothing gets through,
  // waiting would only delay a failover.
  const bool retry_waiting = link_proved_itself_ && !absl::IsDataLoss(why);
  pause_ = retry_waiting ? absl::ZeroDuration() : NextPause(why);
  connected_.store(false, std::memory_order_relaxed);
  {
    MutexLock lock(&mutex_);
    stats_.last_error = Fresh(why);
    connect_not_before_ = now + pause_;
    if (absl::IsDataLoss(why)) stats_.last_failure = now;
  }
  if (absl::IsDataLoss(why)) SetFailing(true, now);

  dropping_ = why;
  link_.reset();  // ends the completions that the link still holds
  for (Slot& slot : slots_) {
    // Held elsewhere: a late report will find another generation.
    if (slot.occupied && slot.client != nullptr) {
      const Ended ended{slot.client, slot.tag, slot.bytes, slot.accepted};
      slot = Slot();
      End(ended, From::kLink, Outcome::Result::kFailed, why, now);
    }
  }
  dropping_ = absl::OkStatus();
  slots_.clear();
  free_slots_.clear();
  if (!retry_waiting) FailWaiting(why);
}

absl::Duration Endpoint::NextPause(const absl::Status& why) {
  // At most half an attempt's time, so that every accepted event sees at least one real connect before its deadline: no
  // event is lost because of a timer.
  const absl::Duration least = IsRefusedLogin(why) ? kPauseAfterRefusedLogin : limits_.reconnect_min;
  const absl::Duration most =
      IsRefusedLogin(why) ? limits_.refused_login_max : std::min(limits_.reconnect_max, target_.attempt_timeout / 2);
  const absl::Duration pause = std::min(std::max(least, pause_ * kPauseGrowth), most);
  return pause * std::uniform_real_distribution<>(1 - kPauseJitter, 1 + kPauseJitter)(jitter_);
}

void Endpoint::FailWaiting(const absl::Status& why) {
  std::vector<Waiting> failed;
  failed.swap(waiting_);
  const absl::Time now = loop_.Now();
  for (size_t i = std::exchange(next_, 0); i < failed.size(); ++i) {
    End({failed[i].client, failed[i].tag, failed[i].message->size(), failed[i].accepted}, From::kQueue,
        Outcome::Result::kFailed, why, now);
  }
}

// A burst leaves places behind that the next one would use; not for ever.
void Endpoint::Trim() {
  if (waiting() > 0 || free_slots_.size() < slots_.size()) return;
  waiting_.clear();
  next_ = 0;
  if (slots_.size() > kMostKept) {
    slots_.clear();
    free_slots_.clear();
  }
  GiveBack(&slots_);
  GiveBack(&free_slots_);
  GiveBack(&waiting_);
  GiveBack(&taken_);
  GiveBack(&parcels_);
  MutexLock lock(&mutex_);
  if (inbox_.empty()) GiveBack(&inbox_);
}

Endpoint::Slot* Endpoint::SlotOf(uint64_t token) {
  const auto index = static_cast<uint32_t>(token);
  if (index >= slots_.size() || !slots_[index].occupied || slots_[index].generation != token >> 32) return nullptr;
  return &slots_[index];
}

// Whoever calls it pumps afterwards: there may be room in the window.
void Endpoint::SettleReported() {
  if (delivered_.empty() && failures_.empty()) return;
  if (references_ > 0) DropRef(std::exchange(references_, 0));  // if it was the last, the end of this is posted
  const absl::Time now = loop_.Now();
  SettleDelivered(now);
  for (Reported& report : failures_) SettleOnLoop(report.token, std::move(report.outcome), now);
  failures_.clear();
}

// Books and health first, once for all; then the clients, who may look at them.
void Endpoint::SettleDelivered(absl::Time now) {
  uint64_t bytes = 0;
  size_t count = 0, alike = 0;
  absl::Time accepted;  // of the last `alike`: those of one batch are
  for (const uint64_t token : delivered_) {
    Slot* const slot = SlotOf(token);
    if (slot == nullptr) continue;
    slot->occupied = false;
    free_slots_.push_back(static_cast<uint32_t>(token));
    if (slot->client == nullptr) continue;  // it has timed out
    delivered_[count++] = token;
    bytes += slot->bytes;
    if (slot->accepted != accepted && alike > 0) latency_.Add(now - accepted, std::exchange(alike, 0));
    accepted = slot->accepted;
    ++alike;
  }
  if (alike > 0) latency_.Add(now - accepted, alike);
  if (!delivered_.empty()) {
    last_progress_ = now;
    link_proved_itself_ = true;
  }
  delivered_.resize(count);
  if (count == 0) return;
  ended_bytes_.Add(bytes);
  ok_.Add(count);
  SetSucceeded(now);
  absl::Duration duration = now - accepted;
  // None of the slots is taken again meanwhile: whoever is told offers, and what is offered waits for the next Drain().
  for (const uint64_t token : delivered_) {
    const Slot& slot = slots_[static_cast<uint32_t>(token)];
    if (slot.accepted != accepted) {
      accepted = slot.accepted;
      duration = now - accepted;
    }
    slot.client->OnOutcome(slot.tag, {Outcome::Result::kOk, absl::OkStatus(), duration});
  }
  delivered_.clear();
}

void Endpoint::SettleOnLoop(uint64_t token, absl::Status outcome, absl::Time now) {
  Slot* const slot = SlotOf(token);
  if (slot == nullptr) return;
  last_progress_ = now;
  const Ended ended{slot->client, slot->tag, slot->bytes, slot->accepted};
  slot->occupied = false;
  free_slots_.push_back(static_cast<uint32_t>(token));
  if (outcome.ok()) {
    link_proved_itself_ = true;
  } else if (!dropping_.ok()) {
    outcome = dropping_;
  }
  if (ended.client != nullptr) {
    const Outcome::Result result = outcome.ok() ? Outcome::Result::kOk : Outcome::Result::kFailed;
    End(ended, From::kLink, result, std::move(outcome), now);
  }
}

void Endpoint::End(const Ended& ended, From from, Outcome::Result result, absl::Status status, absl::Time now) {
  Outcome outcome{result, std::move(status), now - ended.accepted};
  const bool healthy = result == Outcome::Result::kOk;
  // A message that can never be delivered, or that nobody wants any more, says nothing about the destination.
  const bool ill = !healthy && result != Outcome::Result::kUnwanted && !absl::IsInvalidArgument(outcome.status);
  ended_bytes_.Add(ended.bytes);
  if (from == From::kQueue) ended_in_queue_.Add(1);
  switch (result) {
    case Outcome::Result::kOk:
      ok_.Add(1);
      latency_.Add(outcome.duration, 1);
      SetSucceeded(now);
      break;
    case Outcome::Result::kFailed:
      failed_.Add(1);
      break;
    case Outcome::Result::kUnknown:
      timed_out_.Add(1);
      break;
    case Outcome::Result::kUnwanted:
      unwanted_.Add(1);
      break;
  }
  if (!healthy && result != Outcome::Result::kUnwanted) {
    MutexLock lock(&mutex_);
    if (ill && failing_since_.load(std::memory_order_relaxed) == 0) stats_.down_since = now;
    stats_.last_failure = now;
    stats_.last_error = Fresh(outcome.status);
  }
  if (ill) {
    ++failed_while_down_;
    SetFailing(true, now);
  }
  canary_until_.store(0, std::memory_order_release);
  ended.client->OnOutcome(ended.tag, std::move(outcome));
}

void Endpoint::SetSucceeded(absl::Time now) {
  last_success_.store(absl::ToUnixNanos(now), std::memory_order_relaxed);
  SetFailing(false, now);
  // Only where there is one: threads that raise read what stands in the same line of the cache.
  if (canary_until_.load(std::memory_order_relaxed) != 0) canary_until_.store(0, std::memory_order_release);
}

void Endpoint::SetFailing(bool failing, absl::Time now) {
  if (!failing && !told_failing_ && failing_since_.load(std::memory_order_relaxed) == 0) return;
  const bool failed_before =
      failing_since_.exchange(failing ? absl::ToUnixNanos(now) : 0, std::memory_order_acq_rel) != 0;
  if (failing != failed_before) changed_at_ = now;
  TellHealth(now);
}

void Endpoint::TellHealth(absl::Time now) {
  const bool failing = failing_since_.load(std::memory_order_relaxed) != 0;
  if (failing == told_failing_) {
    if (!failing) failed_while_down_ = 0;  // it was too short to be told of
    return;
  }
  if (now < tell_not_before_) return ArmTimer(tell_not_before_);
  told_failing_ = failing;
  tell_not_before_ = now + kTellPause;
  HealthChange change{*this, target_.masked, failing ? last_error() : absl::OkStatus()};
  change.ago = now - changed_at_;
  uint64_t others_offered, refused;
  {
    MutexLock lock(&mutex_);
    others_offered = stats_.offered - reports_offered_;
    refused = stats_.full + stats_.down;
    change.queued = static_cast<uint32_t>(queued(stats_.accepted));
  }
  change.by_reports = std::exchange(others_offered_when_told_, others_offered) == others_offered;
  const uint64_t refused_since = refused - std::exchange(refused_when_told_, refused);
  if (failing) {
    down_since_ = changed_at_;
  } else {
    change.down_for = changed_at_ - down_since_;
    change.failed = std::exchange(failed_while_down_, 0);
    change.refused = refused_since;
  }
  if (on_health_change_) on_health_change_(change);
}

void Endpoint::ArmTimer(absl::Time when) {
  if (when >= timer_at_) return;
  if (timer_ == nullptr) timer_ = loop_.NewTimer([this] { OnTimer(); });
  timer_at_ = when;
  timer_->Arm(when);
}

// Deadlines are not kept in order. While messages flow, those out at this moment are all younger than the timer, so one
// look at each per attempt timeout is all it costs.
void Endpoint::OnTimer() {
  timer_at_ = absl::InfiniteFuture();
  SettleReported();
  const absl::Time now = loop_.Now();
  TellHealth(now);
  if (now >= connecting_until_) {
    DropLink(absl::DeadlineExceededError(
        absl::StrCat("connecting took longer than ", absl::FormatDuration(limits_.connect_timeout))));
  }

  absl::Time earliest = absl::InfiniteFuture();
  size_t timed_out = 0;
  bool stalled = false;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (!slots_[i].occupied) continue;
    if (slots_[i].client != nullptr && slots_[i].deadline <= now) {
      const Ended ended{slots_[i].client, slots_[i].tag, slots_[i].bytes, slots_[i].accepted};
      slots_[i].client = nullptr;
      End(ended, From::kLink, Outcome::Result::kUnknown,
          absl::DeadlineExceededError("no report from the receiver before the deadline"), now);
    }
    if (slots_[i].client != nullptr) {
      earliest = std::min(earliest, slots_[i].deadline);
    } else {
      ++timed_out;
      const absl::Time patience = slots_[i].sent + 2 * target_.attempt_timeout;
      stalled = stalled || (now >= patience && last_progress_ <= slots_[i].sent);
      if (patience > now) earliest = std::min(earliest, patience);
    }
  }
  // A link that holds on to messages for ever is given up, or its window would stay closed.
  if (timed_out > 0 && (stalled || timed_out == window_)) {
    DropLink(absl::DeadlineExceededError("the receiver stopped reporting"));
  }

  std::vector<Waiting> late;
  size_t kept = next_;
  for (size_t i = next_; i < waiting_.size(); ++i) {
    if (waiting_[i].deadline <= now) {
      late.push_back(waiting_[i]);
      continue;
    }
    earliest = std::min(earliest, waiting_[i].deadline);
    waiting_[kept++] = waiting_[i];
  }
  waiting_.resize(kept);
  for (const Waiting& waiting : late) {
    End({waiting.client, waiting.tag, waiting.message->size(), waiting.accepted}, From::kQueue,
        Outcome::Result::kFailed,
        absl::DeadlineExceededError(state_ == State::kReady ? "the event waited in the queue until its deadline"
                                                            : "not connected before the event's deadline"),
        now);
  }
  ArmTimer(std::min(std::max(earliest, now + kDeadlineSlack), connecting_until_));
  Trim();
  Pump();
}

}  // namespace eventvirtual
