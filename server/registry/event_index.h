// EventIndex: event name → the live list of subscriptions to it, and the patterns that take it. Read without locks,
// changed by one writer at a time.
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
// A pattern is the beginning of names. Each event points to the longest pattern that takes it, and each pattern to the
// next shorter one that takes the same names: so a raise walks along those that match and never meets another, however
// many there are. The price is paid by who adds or removes a pattern: one step for each known name that begins so.
//
// A reader holds an EpochPin from Find() to its last use of what it found. It may see a node that was just removed,
// which is why a delivery also asks Subscription::Live().
class EventIndex {
 public:
  // One subscription in the list of its event. What the writer knows of it besides derives from this.
  struct Node : public Retirable {
    std::atomic<Node*> next{nullptr};
    Node* previous = nullptr;  // writer only
    Ref<Subscription> subscription;
  };

  // An event, or a pattern.
  class Event final : public Retirable {
   public:
    Event(absl::string_view name, bool is_pattern, uint32_t id) : name(name), is_pattern(is_pattern), id(id) {}

    const std::string name;  // of a pattern without its '*'
    const bool is_pattern;
    const uint32_t id;  // no other has had it
    std::atomic<Node*> first{nullptr};
    std::atomic<Event*> pattern{nullptr};  // the longest (other) one that takes this name
    mutable std::atomic<uint64_t> raised{0};
    mutable AtomicTime last_raised{absl::UnixEpoch()};

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
  Event& Add(absl::string_view name);                   // must not be known
  void Remove(Event* event);                            // must have no subscriptions
  Event& PatternOf(absl::string_view beginning);        // added unless it is there
  void RemovePattern(Event* pattern);                   // must have no subscriptions
  Event* LongestPattern(absl::string_view name) const;  // that takes `name`, also as its own name; null: none
  void Append(Event& event, std::unique_ptr<Node> node);
  void Unlink(Event& event, Node* node);  // and retires it: it lives until Collect()
  const absl::btree_set<Event*, ByName>& by_name() const { return by_name_; }
  const absl::btree_set<Event*, ByName>& patterns() const { return patterns_; }
  RetiredObjects& retired() { return retired_; }

 private:
  struct Link;
  struct Table;

  using Names = absl::btree_set<Event*, ByName>;

  void Insert(Table& table, Event* event);
  // Those of `names` that `from` stands for, which begin with `beginning`, stand for `to` from now on.
  static void Repoint(const Names& names, absl::string_view beginning, Event* from, Event* to);

  std::atomic<Table*> table_;
  Names by_name_;   // owns the events
  Names patterns_;  // owns the patterns
  uint32_t next_id_ = 0;
  RetiredObjects retired_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_REGISTRY_EVENT_INDEX_H_
