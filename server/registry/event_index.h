// EventIndex: event name → its live list of subscriptions. Read without locks, changed by one writer at a time.
#ifndef EVENTVIRTUAL_SERVER_REGISTRY_EVENT_INDEX_H_
#define EVENTVIRTUAL_SERVER_REGISTRY_EVENT_INDEX_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/strings/string_view.h"
#include "server/registry/epoch.h"
#include "server/registry/subscription.h"
#include "transports/api/ref.h"

namespace eventvirtual {

// A hash table of chains, each event with a doubly linked list. Adding and removing cost the same whatever the size: a
// list is changed in place, never copied (10^5 subscribers of one event would make each Subscribe copy a megabyte).
//
// A reader holds an EpochPin from Find() to its last use of what it found. It may see a node that was just removed,
// which is why a delivery also asks Subscription::Live().
class EventIndex {
 public:
  // One subscription in the list of its event.
  struct Node final : public Retirable {
    Ref<Subscription> subscription;
    std::atomic<Node*> next{nullptr};
    Node* previous = nullptr;  // writer only
  };

  class Event final : public Retirable {
   public:
    explicit Event(absl::string_view name) : name(name) {}

    const std::string name;
    std::atomic<Node*> first{nullptr};
    std::atomic<uint64_t> raised{0};
    AtomicTime last_raised{absl::UnixEpoch()};

    // Writer only.
    Node* last = nullptr;
    uint32_t subscriptions = 0;
  };

  // The order of names, of events and names alike.
  struct ByName {
    using is_transparent = void;
    static absl::string_view NameOf(const Event* event) { return event->name; }
    static absl::string_view NameOf(absl::string_view name) { return name; }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return NameOf(a) < NameOf(b);
    }
  };

  EventIndex();
  ~EventIndex();

  Event* Find(absl::string_view name) const;  // null: not known

  // Writer only, all that follows.
  Event& Add(absl::string_view name);  // must not be known
  void Remove(Event* event);           // must have no subscriptions
  Node* Append(Event& event, Ref<Subscription> subscription);
  void Unlink(Event& event, Node* node);
  const absl::btree_set<Event*, ByName>& by_name() const { return by_name_; }
  RetiredObjects& retired() { return retired_; }

 private:
  struct Link;
  struct Table;

  void Insert(Table& table, Event* event);

  std::atomic<Table*> table_;
  absl::btree_set<Event*, ByName> by_name_;  // owns the events
  RetiredObjects retired_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_REGISTRY_EVENT_INDEX_H_
