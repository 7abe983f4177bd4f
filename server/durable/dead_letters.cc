#include "server/durable/dead_letters.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/api/completion.h"

namespace eventvirtual {
namespace {

constexpr size_t kPageBytes = 1 << 20;
constexpr size_t kReplayAtOnce = 100;
constexpr absl::Duration kMostBehind = absl::Milliseconds(100);  // that a replay with a rate makes up for

DeadLetter Read(const SavedDeadLetter& saved) {
  DeadLetter letter;
  letter.id = saved.id;
  letter.created = saved.created;
  letter.subscription = absl::StrCat(Subscription::kNamePrefix, saved.subscription);
  letter.event = saved.event;
  letter.reason = saved.reason;
  letter.attempts = saved.attempts;
  absl::StatusOr<std::vector<KeptAttempt>> attempts = DecodeAttempts(saved.last_attempts);
  if (attempts.ok()) letter.last_attempts = *std::move(attempts);
  absl::StatusOr<KeptEvent> event = DecodeEvent(saved.record);
  if (event.ok()) letter.message = std::move(event->message);
  return letter;
}

}  // namespace

struct DeadLetters::Run {
  std::string event;
  uint32_t max_per_second = 0;
  absl::AnyInvocable<bool()> cancelled;
  absl::AnyInvocable<void(absl::StatusOr<Replayed>) &&> done;
  // On the loop, one step after the other.
  uint64_t after = 0;
  uint64_t last = 0;  // what comes behind it was given up later
  bool began = false;
  std::vector<SavedDeadLetter> page;
  size_t next = 0;  // of the page
  Replayed result;
  int out = 0;  // of the page: on the way to the journal
  bool ended = false;
  absl::Time not_before = absl::InfinitePast();  // the next, with a rate
  std::unique_ptr<Loop::Timer> timer;
};

DeadLetters::DeadLetters(Journal& journal, Registry& registry, Loop& loop, Keep keep)
    : journal_(journal), registry_(registry), loop_(loop), keep_(std::move(keep)) {}

DeadLetters::~DeadLetters() { *alive_ = false; }

void DeadLetters::List(const std::string& event, uint64_t after, size_t limit,
                       absl::AnyInvocable<void(absl::StatusOr<std::vector<DeadLetter>>) &&> done) {
  journal_.Look([event, after, limit, done = std::move(done)](EventTable& table) mutable {
    const absl::StatusOr<std::vector<SavedDeadLetter>> saved = table.ListDeadLetters(event, after, limit, kPageBytes);
    if (!saved.ok()) return std::move(done)(saved.status());
    std::vector<DeadLetter> letters;
    for (const SavedDeadLetter& one : *saved) letters.push_back(Read(one));
    std::move(done)(std::move(letters));
  });
}

void DeadLetters::Purge(const std::string& event, bool really,
                        absl::AnyInvocable<void(absl::StatusOr<uint64_t>) &&> done) {
  if (!really) {
    journal_.Look(
        [event, done = std::move(done)](EventTable& table) mutable { std::move(done)(table.CountDeadLetters(event)); });
    return;
  }
  auto purged = std::make_shared<uint64_t>(0);
  journal_.Change(
      [event, purged](EventTable& table) {
        const absl::StatusOr<uint64_t> count = table.PurgeDeadLetters(event);
        if (count.ok()) *purged = *count;
        return count.status();
      },
      [purged, done = std::move(done)]() mutable { std::move(done)(*purged); });
}

void DeadLetters::Replay(const std::string& event, uint32_t max_per_second, absl::AnyInvocable<bool()> cancelled,
                         absl::AnyInvocable<void(absl::StatusOr<Replayed>) &&> done) {
  auto run = std::make_shared<Run>();
  run->event = event;
  run->max_per_second = max_per_second;
  run->cancelled = std::move(cancelled);
  run->done = std::move(done);
  ReadOn(std::move(run));
}

void DeadLetters::ReadOn(std::shared_ptr<Run> run) {
  journal_.Look([this, alive = alive_, &loop = loop_, run = std::move(run)](EventTable& table) mutable {
    if (!std::exchange(run->began, true)) run->last = table.last_dead_letter();
    absl::StatusOr<std::vector<SavedDeadLetter>> page =
        table.ListDeadLetters(run->event, run->after, kReplayAtOnce, kPageBytes);
    loop.Post([this, alive, run = std::move(run), page = std::move(page)]() mutable {
      if (!*alive) return;
      if (!page.ok()) return std::move(run->done)(page.status());
      run->page = *std::move(page);
      run->next = 0;
      while (!run->page.empty() && run->page.back().id > run->last) run->page.pop_back();
      if (run->page.empty()) return std::move(run->done)(std::move(run->result));
      run->after = run->page.back().id;
      GiveBack(run);
    });
  });
}

// The rest of the page, which is committed together as far as the rate allows.
void DeadLetters::GiveBack(const std::shared_ptr<Run>& run) {
  while (run->next < run->page.size() && !run->ended) {
    if (run->cancelled()) {
      run->ended = true;
      return std::move(run->done)(absl::CancelledError("the caller has gone; what was replayed is delivered"));
    }
    if (run->max_per_second > 0) {
      const absl::Time now = loop_.Now();
      if (now < run->not_before) return Rest(run);
      run->not_before = std::max(run->not_before, now - kMostBehind) + absl::Seconds(1) / run->max_per_second;
    }
    const absl::Status status = GiveBackOne(run, run->page[run->next++]);
    if (status.ok()) {
      ++run->out;
    } else {
      ++run->result.failed;
      run->result.why = status;
    }
  }
  if (run->out == 0 && !run->ended) ReadOn(run);
}

void DeadLetters::Rest(const std::shared_ptr<Run>& run) {
  if (run->timer == nullptr) {
    run->timer = loop_.NewTimer([this, resting = run.get()] {
      const auto found = resting_.find(resting);
      const std::shared_ptr<Run> rested = std::move(found->second);
      resting_.erase(found);
      GiveBack(rested);
    });
  }
  resting_[run.get()] = run;
  run->timer->Arm(run->not_before);
}

absl::Status DeadLetters::GiveBackOne(const std::shared_ptr<Run>& run, const SavedDeadLetter& letter) {
  const absl::StatusOr<KeptEvent> event = DecodeEvent(letter.record);
  if (!event.ok()) return absl::DataLossError(absl::StrCat("dead letter ", letter.id, ": ", event.status().message()));
  const std::string name = absl::StrCat(Subscription::kNamePrefix, letter.subscription);
  const Ref<const Subscription> subscription = registry_.Find(name);
  if (!subscription || !subscription->durable) {
    return absl::FailedPreconditionError(absl::StrCat("dead letter ", letter.id,
                                                      ": there is no durable subscription \"", name,
                                                      "\" any more; subscribe the same again, or purge it"));
  }
  const Ref<Commit> commit = keep_(event->message, subscription);
  commit->Then([this, alive = alive_, &loop = loop_, run, id = letter.id](absl::Status written) mutable {
    loop.Post([this, alive, run = std::move(run), id, written = Fresh(written)] {
      if (!*alive) return;
      if (written.ok()) {
        ++run->result.replayed;
        journal_.Change([id](EventTable& table) { return table.EraseDeadLetter(id); }, nullptr);
      } else {
        ++run->result.failed;
        run->result.why = written;
      }
      if (--run->out == 0 && run->next == run->page.size() && !run->ended) ReadOn(run);
    });
  });
  return absl::OkStatus();
}

}  // namespace eventvirtual
