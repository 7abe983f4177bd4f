// ExpiryQueue: which of a million subscriptions ends next.
#ifndef EVENTVIRTUAL_SERVER_REGISTRY_EXPIRY_QUEUE_H_
#define EVENTVIRTUAL_SERVER_REGISTRY_EXPIRY_QUEUE_H_

#include <cstdint>

#include "absl/time/time.h"

namespace eventvirtual {

// A hierarchical timer wheel: ticks of a millisecond, levels of 64 slots, each slot as wide as the level below. Adding
// and removing are a few pointers, whatever the size; a sorted tree of a million costs a microsecond of cache misses
// for each (bench B11). A later expiry of an entry that is in the queue is only written down, and found when the old
// one comes up: a refresh costs next to nothing. Not thread-safe.
class ExpiryQueue {
 public:
  // What is queued derives from this. In one queue at most; removed before it is destroyed.
  class Entry {
   public:
    Entry() = default;
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    friend class ExpiryQueue;
    Entry* previous_ = nullptr;  // null: not in the queue
    Entry* next_ = nullptr;
    // When it expires, which may be later than the slot it stands in. Last, beside what the derived class begins with:
    // whoever has just read that has it in the cache, and most refreshes touch nothing else.
    int64_t tick_ : 48 = 0;
    uint16_t slot_ = 0;  // the last it was put into
  };

  explicit ExpiryQueue(absl::Time now);
  ExpiryQueue(const ExpiryQueue&) = delete;
  ExpiryQueue& operator=(const ExpiryQueue&) = delete;

  // From now on `entry` expires at `when`; InfiniteFuture(): never.
  void Set(Entry* entry, absl::Time when);

  // Nothing happens if it is not in the queue.
  void Remove(Entry* entry);

  // Takes out one that has expired, never early and up to a millisecond late; null if there is none, or when `*moves`
  // has come to 0: each entry that is looked at takes one from it, also one that only moves to a finer slot. Of entries
  // due at different times that are overdue, any may come first.
  Entry* PopDue(absl::Time now, int* moves);

  // When to call PopDue() next: within a millisecond of the next expiry, or earlier where entries must move.
  // InfiniteFuture(): the queue is empty.
  absl::Time Next() const;

 private:
  static constexpr int kSlotBits = 6;
  static constexpr int kSlots = 1 << kSlotBits;
  static constexpr int kLevels = 8;  // 2^48 ms; absl::ToUnixNanos() gives less than 2^44

  void Place(Entry* entry, int64_t tick);
  void Unlink(Entry* entry);
  void Advance(int64_t tick);  // what has come up joins ready_
  // The lowest slot that holds something; false: none does.
  bool FindFirst(int* slot, int64_t* start) const;

  int64_t current_;                  // no slot that begins at or before this tick holds anything
  uint64_t occupied_[kLevels] = {};  // a bit for each slot
  Entry slots_[kLevels * kSlots];    // heads of rings
  Entry ready_;                      // head of the ring of those whose slot has come up
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_REGISTRY_EXPIRY_QUEUE_H_
