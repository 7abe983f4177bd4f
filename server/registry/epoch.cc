#include "server/registry/epoch.h"

#include <algorithm>
#include <array>
#include <atomic>

#include "transports/api/check.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxThreads = 1024;

struct alignas(64) ThreadSlot {
  std::atomic<uint64_t> pinned{0};  // the epoch its thread pinned; 0: none
  std::atomic<bool> taken{false};
};

std::array<ThreadSlot, kMaxThreads> slots;
std::atomic<size_t> slots_used{0};  // slots beyond were never taken
std::atomic<uint64_t> current_epoch{1};

// A thread's place among the readers, given back when the thread ends.
class Reader {
 public:
  Reader() {
    for (size_t i = 0; i < kMaxThreads; ++i) {
      if (slots[i].taken.exchange(true, std::memory_order_acq_rel)) continue;
      slot_ = &slots[i];
      size_t used = slots_used.load();
      while (used < i + 1 && !slots_used.compare_exchange_weak(used, i + 1)) {
      }
      return;
    }
    EV_CHECK(slot_ != nullptr);
  }
  ~Reader() { slot_->taken.store(false, std::memory_order_release); }

  // seq_cst, like the writer's unlinking and its look at the slots: either the writer sees this pin, or this reader
  // sees the unlinking.
  void Pin() {
    if (depth_++ == 0) slot_->pinned.exchange(current_epoch.load());
  }
  void Unpin() {
    if (--depth_ == 0) slot_->pinned.store(0, std::memory_order_release);
  }

 private:
  ThreadSlot* slot_ = nullptr;
  int depth_ = 0;
};

Reader& ThisReader() {
  thread_local Reader reader;
  return reader;
}

}  // namespace

EpochPin::EpochPin() { ThisReader().Pin(); }
EpochPin::~EpochPin() { ThisReader().Unpin(); }

void RetiredObjects::Retire(std::unique_ptr<Retirable> object) {
  objects_.emplace_back(current_epoch.fetch_add(1), std::move(object));
}

std::vector<std::unique_ptr<Retirable>> RetiredObjects::Collect() {
  std::vector<std::unique_ptr<Retirable>> free;
  if (objects_.empty()) return free;
  uint64_t oldest = UINT64_MAX;
  const size_t used = slots_used.load();
  for (size_t i = 0; i < used; ++i) {
    const uint64_t pinned = slots[i].pinned.load();
    if (pinned != 0) oldest = std::min(oldest, pinned);
  }
  while (!objects_.empty() && objects_.front().first < oldest) {
    free.push_back(std::move(objects_.front().second));
    objects_.pop_front();
  }
  return free;
}

}  // namespace eventvirtual
