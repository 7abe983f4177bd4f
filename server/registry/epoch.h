// Epochs: how readers walk a structure without a lock while a writer takes parts of it away.
//
// A reader pins the epoch (5-10 ns, its own cache line); a writer unlinks an object and retires it; the object is freed
// when no reader is left who pinned before that. std::atomic<std::shared_ptr> costs a hundred times more under two
// threads, and a mutex would let a Subscribe stop a Raise. liburcu does the same, but its barriers are invisible to
// ThreadSanitizer (docs/decisions/0003-epochs.md).
#ifndef EVENTVIRTUAL_SERVER_REGISTRY_EPOCH_H_
#define EVENTVIRTUAL_SERVER_REGISTRY_EPOCH_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

namespace eventvirtual {

// While one exists on a thread, nothing that could be reached when it began is freed. Keep it short; never block under
// it.
class EpochPin {
 public:
  EpochPin();
  ~EpochPin();
  EpochPin(const EpochPin&) = delete;
  EpochPin& operator=(const EpochPin&) = delete;
};

// What readers may still be looking at. Pointers to it are published and unlinked with memory_order_seq_cst.
class Retirable {
 public:
  virtual ~Retirable() = default;
};

// A writer's unlinked objects. One writer at a time. Destroyed, it frees all: no reader may be left then.
class RetiredObjects {
 public:
  // `object` has been unlinked: no reader that pins from now on can reach it.
  void Retire(std::unique_ptr<Retirable> object);

  // Takes out what no reader can see any more; destroy it outside of locks.
  std::vector<std::unique_ptr<Retirable>> Collect();

  bool empty() const { return objects_.empty(); }

 private:
  std::deque<std::pair<uint64_t, std::unique_ptr<Retirable>>> objects_;  // with the epoch in which each was retired
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_REGISTRY_EPOCH_H_
