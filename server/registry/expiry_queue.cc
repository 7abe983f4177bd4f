#include "server/registry/expiry_queue.h"

#include <algorithm>
#include <bit>

namespace eventvirtual {
namespace {

constexpr int64_t kNanosPerTick = 1000000;
constexpr int64_t kNever = (int64_t{1} << 47) - 1;

}  // namespace

ExpiryQueue::ExpiryQueue(absl::Time now) : current_(absl::ToUnixMillis(now)) {
  for (Entry& head : slots_) head.previous_ = head.next_ = &head;
  ready_.previous_ = ready_.next_ = &ready_;
}

void ExpiryQueue::Set(Entry* entry, absl::Time when) {
  int64_t tick = kNever;
  if (when != absl::InfiniteFuture()) {
    const int64_t nanos = absl::ToUnixNanos(when);
    tick = nanos / kNanosPerTick + (nanos % kNanosPerTick > 0 ? 1 : 0);  // never early
  }
  const bool sooner = tick < entry->tick_;
  entry->tick_ = tick;
  if (entry->previous_ != nullptr) {
    if (!sooner) return;
    Unlink(entry);
  }
  Place(entry, tick);
}

void ExpiryQueue::Remove(Entry* entry) {
  if (entry->previous_ != nullptr) Unlink(entry);
}

// `tick` is the entry's: a load right behind its store, which is of 48 bits, would wait.
void ExpiryQueue::Place(Entry* entry, int64_t tick) {
  if (tick == kNever) return;
  Entry* head = &ready_;
  if (tick > current_) {
    // The highest digit in which it differs from the present: there its slot is still to come.
    const int level = (std::bit_width(static_cast<uint64_t>(tick ^ current_)) - 1) / kSlotBits;
    const auto digit = static_cast<int>(tick >> (level * kSlotBits)) & (kSlots - 1);
    const int slot = level * kSlots + digit;
    entry->slot_ = static_cast<uint16_t>(slot);
    occupied_[level] |= uint64_t{1} << digit;
    head = &slots_[slot];
  }
  entry->previous_ = head->previous_;
  entry->next_ = head;
  head->previous_->next_ = entry;
  head->previous_ = entry;
}

void ExpiryQueue::Unlink(Entry* entry) {
  entry->previous_->next_ = entry->next_;
  entry->next_->previous_ = entry->previous_;
  entry->previous_ = entry->next_ = nullptr;
  // It may have stood in ready_, but an empty slot is never marked as occupied.
  const Entry& head = slots_[entry->slot_];
  if (head.next_ == &head) occupied_[entry->slot_ / kSlots] &= ~(uint64_t{1} << entry->slot_ % kSlots);
}

bool ExpiryQueue::FindFirst(int* slot, int64_t* start) const {
  for (int level = 0; level < kLevels; ++level) {
    if (occupied_[level] == 0) continue;
    const int digit = std::countr_zero(occupied_[level]);
    const int width = level * kSlotBits;
    *slot = level * kSlots + digit;
    *start = (current_ >> (width + kSlotBits) << (width + kSlotBits)) | static_cast<int64_t>(digit) << width;
    return true;
  }
  return false;
}

void ExpiryQueue::Advance(int64_t tick) {
  int slot;
  int64_t start;
  while (FindFirst(&slot, &start) && start <= tick) {
    current_ = start;
    Entry& head = slots_[slot];
    head.next_->previous_ = ready_.previous_;
    ready_.previous_->next_ = head.next_;
    head.previous_->next_ = &ready_;
    ready_.previous_ = head.previous_;
    head.previous_ = head.next_ = &head;
    occupied_[slot / kSlots] &= ~(uint64_t{1} << slot % kSlots);
  }
  current_ = std::max(current_, tick);
}

ExpiryQueue::Entry* ExpiryQueue::PopDue(absl::Time now, int* moves) {
  Advance(absl::ToUnixMillis(now));
  for (; ready_.next_ != &ready_ && *moves > 0; --*moves) {
    Entry* const entry = ready_.next_;
    Unlink(entry);
    const int64_t tick = entry->tick_;
    if (tick <= current_) {
      --*moves;
      return entry;
    }
    Place(entry, tick);
  }
  return nullptr;
}

absl::Time ExpiryQueue::Next() const {
  if (ready_.next_ != &ready_) return absl::FromUnixMillis(current_);
  int slot;
  int64_t start;
  return FindFirst(&slot, &start) ? absl::FromUnixMillis(start) : absl::InfiniteFuture();
}

}  // namespace eventvirtual
