#include "server/durable/durable_delivery.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "server/log/log.h"
#include "transports/api/check.h"
#include "transports/api/completion.h"
#include "transports/api/mutex.h"

namespace eventvirtual {
namespace {

using Ended = DeliveryResult::Outcome;

constexpr int kReadsOut = 16;           // at once: a commit does not wait for thousands of reads
constexpr size_t kReadBytes = 1 << 20;  // of one read
constexpr int kStepsPerTurn = 256;      // queues that go on before other tasks of the loop get their turn

// Collects how an event went with each of its durable subscriptions. One thread after the other.
class AllTold {
 public:
  AllTold(absl::Span<const Ref<const Subscription>> subscriptions, RaiseDone done)
      : left_(subscriptions.size()), done_(std::move(done)) {
    for (const Ref<const Subscription>& subscription : subscriptions) {
      results_.emplace_back().subscription = subscription;
    }
  }
  void Set(size_t index, Ended outcome, std::vector<AttemptRecord> attempts) {
    results_[index].outcome = outcome;
    results_[index].attempts = std::move(attempts);
    if (--left_ == 0) std::move(done_)(absl::MakeSpan(results_));
  }
  static Tell For(std::shared_ptr<AllTold> all, size_t index) {
    return [all = std::move(all), index](Ended outcome, std::vector<AttemptRecord> attempts) {
      all->Set(index, outcome, std::move(attempts));
    };
  }

 private:
  size_t left_;
  std::vector<DeliveryResult> results_;
  RaiseDone done_;
};

DurableQueue::Limits LimitsOf(const Subscription* subscription) {
  DurableQueue::Limits limits;
  if (subscription == nullptr) return limits;
  limits.parallel = subscription->policy == Policy::kParallel;
  limits.total_timeout = subscription->total_timeout.Load();
  limits.max_event_age = subscription->max_event_age.Load();
  limits.max_attempts = subscription->max_attempts.load(std::memory_order_relaxed);
  return limits;
}

}  // namespace

// An event on its way to the journal, and back.
struct DurableDelivery::Kept {
  MessageRef message;
  absl::Time accepted;
  std::vector<Ref<const Subscription>> subscriptions;
  std::shared_ptr<AllTold> all;  // null: nobody waits
  Ref<Commit> commit;
  uint64_t first = 0;

  void Refuse(absl::Status why) {
    for (size_t i = 0; i < subscriptions.size(); ++i) {
      subscriptions[i]->dropped().fetch_add(1, std::memory_order_release);
      if (all != nullptr) all->Set(i, Ended::kDropped, {});
    }
    commit->Settle(std::move(why));
  }
};

struct DurableDelivery::Inbox {
  struct RoundEnd {
    uint32_t queue;
    uint64_t sequence;
    DeliveryResult result;
  };
  struct Content {
    std::vector<std::unique_ptr<Kept>> committed;
    std::vector<RoundEnd> ends;
    std::vector<absl::AnyInvocable<void(DurableDelivery&) &&>> tasks;
  };

  Inbox(DurableDelivery* owner, Loop& loop) : owner(owner), loop(&loop) {}

  // `put` says what; then the owner looks, unless it has gone. Any thread.
  template <typename Put>
  static void Add(const std::shared_ptr<Inbox>& self, Put put) {
    MutexLock lock(&self->mutex);
    if (self->loop == nullptr) return;
    put(self->content);
    if (std::exchange(self->scheduled, true)) return;
    self->loop->Post([self] {
      if (self->owner != nullptr) self->owner->Drain();
    });
  }
  static void AddTask(const std::shared_ptr<Inbox>& self, absl::AnyInvocable<void(DurableDelivery&) &&> task) {
    Add(self, [&task](Content& content) { content.tasks.push_back(std::move(task)); });
  }

  DurableDelivery* owner;  // the loop's; null: it has gone
  Mutex mutex;
  Loop* loop ABSL_GUARDED_BY(mutex);  // null: the owner has gone
  Content content ABSL_GUARDED_BY(mutex);
  bool scheduled ABSL_GUARDED_BY(mutex) = false;
};

DurableDelivery::DurableDelivery(Journal& journal, Registry& registry, Dispatcher& dispatcher, Loop& loop,
                                 DurableLimits limits)
    : journal_(journal),
      registry_(registry),
      dispatcher_(dispatcher),
      loop_(loop),
      limits_(limits),
      earlier_life_(journal.last_sequence()),
      inbox_(std::make_shared<Inbox>(this, loop)),
      random_(std::random_device()()) {
  registry_.AllowDurable(journal.last_queue());
  dispatcher_.KeepDurableBy(
      [this](const MessageRef& message, absl::Span<const Ref<const Subscription>> subscriptions, RaiseDone done) {
        return Keep(message, subscriptions, std::move(done), /*remember=*/true);
      });
}

DurableDelivery::~DurableDelivery() {
  registry_.Unwatch(this);
  inbox_->owner = nullptr;
  MutexLock lock(&inbox_->mutex);
  inbox_->loop = nullptr;
}

void DurableDelivery::Resume(const absl::flat_hash_set<uint32_t>& left_alone) {
  absl::flat_hash_map<uint32_t, Ref<const Subscription>> owners;
  for (Ref<Subscription>& subscription : registry_.Watch(this)) {
    const uint32_t queue = subscription->queue;
    if (queue != 0) owners.emplace(queue, std::move(subscription));
  }
  std::vector<Backlog> backlogs = journal_.TakeBacklogs();
  size_t ended = 0;
  std::vector<std::pair<Backlog, Ref<const Subscription>>> resumed;
  for (Backlog& backlog : backlogs) {
    if (left_alone.contains(backlog.queue)) continue;
    const auto owner = owners.find(backlog.queue);
    ended += owner == owners.end();
    const Ref<const Subscription> subscription = owner == owners.end() ? nullptr : owner->second;
    resumed.emplace_back(std::move(backlog), subscription);
  }
  if (!resumed.empty()) {
    Log(LogLevel::kInfo, "events of an earlier life are delivered",
        {{"queues", absl::StrCat(resumed.size() - ended)}, {"queues_of_ended_subscriptions", absl::StrCat(ended)}});
  }
  Inbox::AddTask(inbox_, [resumed = std::move(resumed)](DurableDelivery& self) {
    for (const auto& [backlog, subscription] : resumed) {
      Entry& entry = self.EntryOf(backlog.queue, subscription, backlog.last);
      entry.events = backlog.events;
      if (!subscription) entry.id = backlog.subscription;
    }
  });
}

void DurableDelivery::Stop() {
  Inbox::AddTask(inbox_, [](DurableDelivery& self) {
    self.stopped_ = true;
    for (auto& [number, entry] : self.entries_) {
      entry->queue.Stop();
      self.Touch(number, entry.get());
    }
  });
}

void DurableDelivery::TakeAudit(size_t foremost, absl::AnyInvocable<void(DurableAudit) &&> done) {
  Inbox::AddTask(inbox_, [foremost, done = std::move(done)](DurableDelivery& self) mutable {
    DurableAudit audit;
    const absl::Time now = self.loop_.Now();
    const auto age = [now](const Entry& entry) { return std::max(now - entry.queue.oldest(), absl::ZeroDuration()); };
    std::vector<const Entry*> waiting;
    for (const auto& [number, entry] : self.entries_) {
      if (entry->events == 0) continue;
      waiting.push_back(entry.get());
      audit.events += entry->events;
      audit.failing += entry->queue.failing() ? 1 : 0;
      audit.oldest = std::max(audit.oldest, age(*entry));
    }
    audit.queues = waiting.size();
    const size_t shown = std::min(foremost, waiting.size());
    std::partial_sort(waiting.begin(), waiting.begin() + static_cast<ptrdiff_t>(shown), waiting.end(),
                      [](const Entry* a, const Entry* b) { return a->queue.oldest() < b->queue.oldest(); });
    for (size_t i = 0; i < shown; ++i) {
      const Entry& entry = *waiting[i];
      audit.foremost.push_back(
          {absl::StrCat(Subscription::kNamePrefix, entry.id), entry.events, age(entry), entry.queue.failing()});
    }
    std::move(done)(std::move(audit));
  });
}

void DurableDelivery::CountQueue(uint32_t number, absl::AnyInvocable<void(uint64_t events) &&> done) {
  Inbox::AddTask(inbox_, [number, done = std::move(done)](DurableDelivery& self) mutable {
    const auto found = self.entries_.find(number);
    std::move(done)(found == self.entries_.end() ? 0 : found->second->events);
  });
}

void DurableDelivery::OnChange(Registry::Change change, const Subscription& subscription,
                               absl::FunctionRef<SubscriptionInfo()>) {
  const uint32_t queue = subscription.queue;
  if (queue == 0 || change == Registry::Change::kCreated || change == Registry::Change::kRefreshed) return;
  const char* const reason = change == Registry::Change::kExpired ? "the subscription expired" : "unsubscribed";
  Inbox::AddTask(inbox_, [queue, reason, ended = Ref<const Subscription>(&subscription)](DurableDelivery& self) {
    Entry& entry = self.EntryOf(queue, ended, 0);
    if (!self.stopped_) entry.queue.End(reason);
  });
}

Ref<Commit> DurableDelivery::KeepAgain(const MessageRef& message, const Ref<const Subscription>& subscription) {
  return Keep(message, absl::MakeConstSpan(&subscription, 1), nullptr, /*remember=*/false);
}

Ref<Commit> DurableDelivery::Keep(const MessageRef& message, absl::Span<const Ref<const Subscription>> subscriptions,
                                  RaiseDone done, bool remember) {
  auto kept = std::make_unique<Kept>();
  kept->message = message;
  kept->accepted = loop_.Now();
  kept->subscriptions.assign(subscriptions.begin(), subscriptions.end());
  if (done) kept->all = std::make_shared<AllTold>(subscriptions, std::move(done));
  kept->commit = AdoptRef(new Commit);
  const Ref<Commit> commit = kept->commit;
  absl::InlinedVector<uint32_t, 2> queues;
  for (const Ref<const Subscription>& subscription : subscriptions) {
    subscription->taken.fetch_add(1, std::memory_order_relaxed);
    queues.push_back(subscription->queue);
  }
  std::string record = EncodeEvent(*message, kept->accepted);
  std::optional<RaisedId> id;
  if (remember && message->id_was_given()) {
    id = {std::string(message->event_id()), kept->accepted, static_cast<uint32_t>(subscriptions.size())};
  }
  journal_.Append(std::move(record), std::move(queues), std::move(id),
                  [inbox = inbox_, kept = std::move(kept)](absl::StatusOr<uint64_t> first) mutable {
                    if (!first.ok()) return kept->Refuse(first.status());
                    kept->first = *first;
                    Inbox::Add(inbox,
                               [&kept](Inbox::Content& content) { content.committed.push_back(std::move(kept)); });
                  });
  return commit;
}

void DurableDelivery::Drain() {
  Inbox::Content content;
  {
    MutexLock lock(&inbox_->mutex);
    inbox_->scheduled = false;
    std::swap(content, inbox_->content);
  }
  // Who waits for a commit is told first.
  for (const std::unique_ptr<Kept>& kept : content.committed) kept->commit->Settle(absl::OkStatus());
  for (auto& task : content.tasks) std::move(task)(*this);
  for (std::unique_ptr<Kept>& kept : content.committed) TakeCommitted(std::move(kept));
  for (Inbox::RoundEnd& end : content.ends) {
    const auto found = entries_.find(end.queue);
    EV_CHECK(found != entries_.end());
    Entry& entry = *found->second;
    if (end.result.outcome == Ended::kDelivered) {
      entry.subscription->delivered.fetch_add(1, std::memory_order_release);
    }
    entry.queue.OnRoundEnd(end.sequence, std::move(end.result), LimitsOf(entry.subscription.get()));
    Touch(end.queue, &entry);
  }
  StepTouched();
}

void DurableDelivery::TakeCommitted(std::unique_ptr<Kept> kept) {
  for (size_t i = 0; i < kept->subscriptions.size(); ++i) {
    const Ref<const Subscription>& subscription = kept->subscriptions[i];
    const uint32_t number = subscription->queue;
    Entry& entry = EntryOf(number, subscription, 0);
    ++entry.events;
    Tell tell;
    if (kept->all != nullptr) tell = AllTold::For(kept->all, i);
    entry.queue.OnCommitted(kept->first + i, {kept->message, kept->accepted}, std::move(tell), Room() > 0);
    Account(entry);
  }
}

DurableDelivery::Entry& DurableDelivery::EntryOf(uint32_t number, const Ref<const Subscription>& subscription,
                                                 uint64_t committed) {
  std::unique_ptr<Entry>& entry = entries_[number];
  if (entry == nullptr) {
    entry = std::make_unique<Entry>(committed);
    entry->subscription = subscription;
    if (subscription) entry->id = subscription->id;
    if (stopped_) {
      entry->queue.Stop();
    } else if (!subscription || subscription->removed.load(std::memory_order_acquire)) {
      entry->queue.End("the subscription has ended");
    }
  }
  Touch(number, entry.get());
  return *entry;
}

void DurableDelivery::Touch(uint32_t number, Entry* entry) {
  if (!std::exchange(entry->dirty, true)) touched_.push_back(number);
}

void DurableDelivery::StepTouched() {
  int steps = 0;
  for (size_t i = 0; i < touched_.size(); ++i) {
    if (++steps > kStepsPerTurn) {
      touched_.erase(touched_.begin(), touched_.begin() + static_cast<ptrdiff_t>(i));
      return Inbox::AddTask(inbox_, [](DurableDelivery&) {});  // goes on in the next turn
    }
    const auto found = entries_.find(touched_[i]);
    if (found == entries_.end()) continue;
    found->second->dirty = false;
    Step(touched_[i], *found->second);
    // Some room may have become free for who had none.
    if (Room() > 0 && !hungry_.empty()) {
      const auto next = entries_.find(hungry_.front());
      hungry_.pop_front();
      if (next == entries_.end()) continue;
      next->second->hungry = false;
      Touch(next->first, next->second.get());
    }
  }
  touched_.clear();
  StartReads();
}

void DurableDelivery::Step(uint32_t number, Entry& entry) {
  DurableQueue::Steps& steps = steps_;
  steps = {};
  const double dice = std::uniform_real_distribution<double>(0, 1)(random_);
  entry.queue.Step(loop_.Now(), LimitsOf(entry.subscription.get()), Room(), dice, &steps);
  Account(entry);
  for (DurableQueue::Told& told : steps.told) std::move(told.tell)(told.outcome, std::move(told.attempts));
  Write(number, entry, &steps);
  {
    Cork cork;
    for (DurableQueue::Start& start : steps.starts) Deliver(number, entry, std::move(start));
  }
  if (steps.read > 0) {
    reserved_ += steps.read;
    wishes_.push_back({number, steps.read_after, steps.read_epoch, steps.read});
  }
  if (steps.hungry && !std::exchange(entry.hungry, true)) hungry_.push_back(number);
  SetWake(number, entry, steps.wake);
  if (steps.gone) Remove(number);
}

// All that changes in the journal, in one go.
void DurableDelivery::Write(uint32_t number, Entry& entry, DurableQueue::Steps* steps) {
  if (steps->erase.empty() && steps->save.empty() && steps->bury.empty()) return;
  struct Changes {
    std::vector<DurableQueue::Range> erase;
    std::vector<std::pair<uint64_t, std::string>> save;
    std::vector<std::pair<uint64_t, SavedDeadLetter>> bury;
  };
  auto changes = std::make_shared<Changes>();
  changes->erase = std::move(steps->erase);
  for (const DurableQueue::Save& save : steps->save) {
    changes->save.emplace_back(save.sequence, EncodeProgress(save.progress));
  }
  for (DurableQueue::Burial& burial : steps->bury) {
    SavedDeadLetter letter;
    letter.created = loop_.Now();
    letter.subscription = entry.id;
    letter.reason = std::move(burial.reason);
    letter.attempts = burial.attempts;
    if (!burial.last_attempts.empty()) letter.last_attempts = EncodeAttempts(*entry.subscription, burial.last_attempts);
    if (burial.event.message) {
      letter.event = std::string(burial.event.message->name());
      letter.record = EncodeEvent(*burial.event.message, burial.event.accepted);
    } else {
      letter.record = std::move(burial.damaged_record);
    }
    changes->bury.emplace_back(burial.sequence, std::move(letter));
  }
  if (!changes->bury.empty()) {
    if (entry.subscription) {
      entry.subscription->dead_lettered().fetch_add(changes->bury.size(), std::memory_order_release);
    }
    if (entry.queue.ending()) {
      entry.buried_at_end += changes->bury.size();
    } else {
      const SavedDeadLetter& first = changes->bury.front().second;
      Log(LogLevel::kWarning, "events became dead letters",
          {{"subscription", absl::StrCat(Subscription::kNamePrefix, entry.id)},
           {"count", absl::StrCat(changes->bury.size())},
           {"event", first.event},
           {"reason", first.reason}});
    }
  }
  journal_.Change(
      [number, changes, limit = limits_.dead_letters](EventTable& table) {
        absl::Status status;
        for (const DurableQueue::Range& range : changes->erase) {
          if (status.ok()) status = table.Erase(number, range.first, range.last);
        }
        for (const auto& [sequence, progress] : changes->save) {
          if (status.ok()) status = table.SaveProgress(number, sequence, progress);
        }
        for (const auto& [sequence, letter] : changes->bury) {
          if (status.ok()) status = table.Bury(number, sequence, letter, limit);
        }
        return status;
      },
      [inbox = inbox_, number, changes] {
        Inbox::AddTask(inbox, [number, changes](DurableDelivery& self) {
          if (!changes->bury.empty() && self.dead_letters_committed_) self.dead_letters_committed_();
          const auto found = self.entries_.find(number);
          if (found == self.entries_.end()) return;
          Entry& entry = *found->second;
          for (const DurableQueue::Range& range : changes->erase) {
            entry.queue.OnGone(range.first, range.last);
            entry.events -= range.events;
          }
          entry.events -= changes->bury.size();
          for (const auto& [sequence, letter] : changes->bury) entry.queue.OnGone(sequence, sequence);
          for (const auto& [sequence, progress] : changes->save) entry.queue.OnSaved(sequence);
          self.Account(entry);
          self.Touch(number, &entry);
        });
      });
}

void DurableDelivery::Deliver(uint32_t number, const Entry& entry, DurableQueue::Start start) {
  dispatcher_.Deliver(std::move(start.message), entry.subscription, start.round,
                      [inbox = inbox_, number, sequence = start.sequence](absl::Span<DeliveryResult> results) {
                        Inbox::Add(inbox, [&](Inbox::Content& content) {
                          content.ends.push_back({number, sequence, std::move(results[0])});
                        });
                      });
}

void DurableDelivery::Account(Entry& entry) {
  loaded_ += entry.queue.loaded() - std::exchange(entry.loaded, entry.queue.loaded());
  loaded_bytes_ += entry.queue.loaded_bytes() - std::exchange(entry.loaded_bytes, entry.queue.loaded_bytes());
}

size_t DurableDelivery::Room() const {
  const size_t taken = loaded_ + reserved_;
  if (taken >= limits_.loaded_events || loaded_bytes_ >= limits_.loaded_bytes) return 0;
  return limits_.loaded_events - taken;
}

void DurableDelivery::SetWake(uint32_t number, Entry& entry, absl::Time wake) {
  if (wake == entry.wake) return;
  if (entry.wake != absl::InfiniteFuture()) wakes_.erase({entry.wake, number});
  entry.wake = wake;
  if (wake == absl::InfiniteFuture()) return;
  wakes_.insert({wake, number});
  if (timer_ == nullptr) {
    timer_ = loop_.NewTimer([this] {
      const absl::Time now = loop_.Now();
      while (!wakes_.empty() && wakes_.begin()->first <= now) {
        const uint32_t due = wakes_.begin()->second;
        wakes_.erase(wakes_.begin());
        Entry& woken = *entries_.at(due);
        woken.wake = absl::InfiniteFuture();
        Touch(due, &woken);
      }
      if (!wakes_.empty()) timer_->Arm(wakes_.begin()->first);
      StepTouched();
    });
  }
  if (wakes_.begin()->second == number) timer_->Arm(wake);
}

void DurableDelivery::StartReads() {
  while (reads_out_ < kReadsOut && !wishes_.empty()) {
    const ReadWish wish = wishes_.front();
    wishes_.pop_front();
    ++reads_out_;
    journal_.Look([inbox = inbox_, wish](EventTable& table) {
      absl::StatusOr<std::vector<QueuedEvent>> rows = table.Read(wish.queue, wish.after, wish.limit, kReadBytes);
      Inbox::AddTask(inbox, [wish, rows = std::move(rows)](DurableDelivery& self) mutable {
        self.OnRead(wish.queue, wish.epoch, wish.limit, std::move(rows));
      });
    });
  }
}

void DurableDelivery::OnRead(uint32_t number, uint64_t epoch, size_t limit,
                             absl::StatusOr<std::vector<QueuedEvent>> rows) {
  --reads_out_;
  reserved_ -= limit;
  const auto found = entries_.find(number);
  if (found == entries_.end()) return;
  Entry& entry = *found->second;
  std::vector<DurableQueue::Loaded> events;
  if (!rows.ok()) {
    Log(LogLevel::kError, "events cannot be read from the journal; it is tried again",
        {{"subscription", absl::StrCat(Subscription::kNamePrefix, entry.id)}, {"error", rows.status().message()}});
  } else {
    for (QueuedEvent& row : *rows) {
      DurableQueue::Loaded& loaded = events.emplace_back();
      loaded.sequence = row.sequence;
      absl::StatusOr<KeptEvent> event = DecodeEvent(row.record);
      const absl::StatusOr<Progress> progress = DecodeProgress(row.progress);
      if (event.ok()) loaded.event = *std::move(event);
      if (progress.ok()) loaded.progress = *progress;  // else it may come twice
      if (!loaded.event.message) loaded.damaged_record = std::move(row.record);
      if (row.sequence <= earlier_life_ && row.sequence > entry.counted_to) {
        entry.counted_to = row.sequence;
        if (entry.subscription) entry.subscription->taken.fetch_add(1, std::memory_order_relaxed);
      }
    }
  }
  entry.queue.OnLoaded(epoch, std::move(events), !rows.ok());
  Account(entry);
  Touch(number, &entry);
}

// The subscription has ended, and its queue is empty.
void DurableDelivery::Remove(uint32_t number) {
  const auto found = entries_.find(number);
  Entry& entry = *found->second;
  if (entry.buried_at_end > 0) {
    Log(LogLevel::kWarning, "a durable subscription ended with events that were not delivered; they are dead letters",
        {{"subscription", absl::StrCat(Subscription::kNamePrefix, entry.id)},
         {"count", absl::StrCat(entry.buried_at_end)}});
  }
  SetWake(number, entry, absl::InfiniteFuture());
  entries_.erase(found);
  journal_.Change([number](EventTable& table) { return table.EraseQueue(number); }, nullptr);
}

}  // namespace eventvirtual
