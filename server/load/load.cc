#include "server/load/load.h"

#include <algorithm>
#include <utility>

#include "absl/strings/string_view.h"
#include "server/log/log.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kRefused[] = {
    "there is more to do than can be done, and watching is refused first; try again later",
    "there is more to do than can be done, and events that nobody waits for (WAIT_ACCEPTED) are refused; raise it "
    "again in a second",
    "there is more to do than can be done, and events are refused; raise it again in a second",
};

}  // namespace

Load::Load(std::vector<Loop*> loops, std::function<uint64_t()> pending)
    : loops_(std::move(loops)), pending_(std::move(pending)) {
  for (size_t i = 0; i < loops_.size(); ++i) probes_.push_back(std::make_shared<Probe>());
}

void Load::Start(Loop& loop) {
  loop_ = &loop;
  timer_ = loop.NewTimer([this] { Look(); });
  resting_.store(true, std::memory_order_release);
}

void Load::Stop() {
  resting_.store(false, std::memory_order_relaxed);
  timer_.reset();
  refused_works_.store(0, std::memory_order_relaxed);
  paces_.store(false, std::memory_order_relaxed);
}

// Of several threads one gets to post. A wake that comes to nothing, because its event has ended meanwhile, is followed
// by kWaits looks: so bursts post every 0.4 s at most.
void Load::Wake() {
  if (!resting_.exchange(false, std::memory_order_acquire)) return;
  loop_->Post([this] {
    if (timer_ != nullptr) Look();
  });
}

absl::Status Load::Refuse(Work work) const {
  refused_[static_cast<size_t>(work)].fetch_add(1, std::memory_order_relaxed);
  return absl::ResourceExhaustedError(kRefused[static_cast<size_t>(work)]);
}

Load::Figures Load::figures() const {
  Figures figures;
  figures.refused_works = refused_works_.load(std::memory_order_relaxed);
  figures.wait = absl::Nanoseconds(wait_nanos_.load(std::memory_order_relaxed));
  for (size_t i = 0; i < kWorks; ++i) figures.refused[i] = refused_[i].load(std::memory_order_relaxed);
  return figures;
}

void Load::AfterRound(std::function<void()> then) const {
  struct Round {
    std::atomic<size_t> out{0};
    std::function<void()> then;
  };
  const auto round = std::make_shared<Round>();
  round->out.store(loops_.size(), std::memory_order_relaxed);
  round->then = std::move(then);
  for (Loop* const loop : loops_) {
    loop->Post([round] {
      if (round->out.fetch_sub(1, std::memory_order_acq_rel) == 1) round->then();
    });
  }
}

// Of the task that came back last, or of the one that is out, whichever is longer: that is what is known of each loop.
// One that is back is sent again.
absl::Duration Load::LongestWait() {
  if (pending_() < kBusy) {
    ++idle_looks_;
    return absl::ZeroDuration();
  }
  idle_looks_ = 0;
  const absl::Time now = loop_->Now();
  absl::Duration longest;
  for (size_t i = 0; i < loops_.size(); ++i) {
    const std::shared_ptr<Probe>& probe = probes_[i];
    const bool out = probe->out.load(std::memory_order_acquire);
    longest = std::max(longest, absl::Nanoseconds(probe->nanos.load(std::memory_order_relaxed)));
    if (out) {
      longest = std::max(longest, now - probe->sent);
      continue;
    }
    probe->sent = now;
    probe->out.store(true, std::memory_order_relaxed);
    loops_[i]->Post([probe, clock = loop_] {
      probe->nanos.store(absl::ToInt64Nanoseconds(clock->Now() - probe->sent), std::memory_order_relaxed);
      probe->out.store(false, std::memory_order_release);
    });
  }
  return longest;
}

void Load::Look() {
  waits_[looks_++ % kWaits] = LongestWait();
  const absl::Duration wait = *std::min_element(waits_.begin(), waits_.end());
  wait_nanos_.store(absl::ToInt64Nanoseconds(wait), std::memory_order_relaxed);
  const size_t before = refused_works_.load(std::memory_order_relaxed);
  size_t wanted = 0;
  while (wanted < kWorks && wait >= kLimits[wanted]) ++wanted;
  // Soon: while nothing of a kind is let in, the loops may run out of work.
  const size_t after = wanted < before ? before - 1 : wanted;
  if (after != before) {
    refused_works_.store(after, std::memory_order_relaxed);
    if (before == 0) Log(LogLevel::kWarning, "overloaded", {{"wait", absl::FormatDuration(wait)}});
    if (after == 0) Log(LogLevel::kInfo, "no longer overloaded", {});
  }
  const absl::Time now = loop_->Now();
  if (after > 0) paces_until_ = now + kPaceMemory;
  paces_.store(now < paces_until_, std::memory_order_relaxed);
  // Whoever makes it kBusy between the look and this is followed by another raise, or there is nothing to refuse.
  if (idle_looks_ >= kWaits && after == 0 && now >= paces_until_) {
    idle_looks_ = 0;
    resting_.store(true, std::memory_order_release);
  } else {
    timer_->Arm(now + kLook);
  }
}

}  // namespace eventvirtual
