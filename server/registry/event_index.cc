#include "server/registry/event_index.h"

#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/match.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

size_t HashOf(absl::string_view name) { return absl::Hash<absl::string_view>()(name); }

}  // namespace

struct EventIndex::Link final : public Retirable {
  Event* event = nullptr;
  size_t hash = 0;
  std::atomic<Link*> next{nullptr};
};

struct EventIndex::Table final : public Retirable {
  explicit Table(size_t size) : mask(size - 1), chains(new std::atomic<Link*>[size]) {
    for (size_t i = 0; i < size; ++i) chains[i].store(nullptr, std::memory_order_relaxed);
  }
  ~Table() override {
    for (size_t i = 0; i <= mask; ++i) {
      for (Link* link = chains[i].load(); link != nullptr;) delete std::exchange(link, link->next.load());
    }
  }
  const size_t mask;
  std::unique_ptr<std::atomic<Link*>[]> chains;
};

EventIndex::EventIndex() : table_(new Table(64)) {}

EventIndex::~EventIndex() {
  for (Names* names : {&by_name_, &patterns_}) {
    const std::vector<Event*> events(names->begin(), names->end());
    names->clear();
    for (Event* event : events) {
      for (Node* node = event->first.load(); node != nullptr;) delete std::exchange(node, node->next.load());
      delete event;
    }
  }
  delete table_.load();
}

EventIndex::Event* EventIndex::Find(absl::string_view name) const {
  const size_t hash = HashOf(name);
  const Table& table = *table_.load();
  for (Link* link = table.chains[hash & table.mask].load(); link != nullptr; link = link->next.load()) {
    if (link->hash == hash && link->event->name == name) return link->event;
  }
  return nullptr;
}

void EventIndex::Insert(Table& table, Event* event) {
  auto* const link = new Link();
  link->event = event;
  link->hash = HashOf(event->name);
  std::atomic<Link*>& chain = table.chains[link->hash & table.mask];
  link->next.store(chain.load(), std::memory_order_relaxed);
  chain.store(link);
}

EventIndex::Event& EventIndex::Add(absl::string_view name) {
  auto* const event = new Event(name, /*is_pattern=*/false, next_id_++);
  event->pattern.store(LongestPattern(name));
  const bool is_new = by_name_.insert(event).second;
  EV_CHECK(is_new);
  Table* const table = table_.load();
  if (by_name_.size() <= table->mask + 1) {
    Insert(*table, event);
    return *event;
  }
  auto larger = std::make_unique<Table>((table->mask + 1) * 2);
  for (Event* known : by_name_) Insert(*larger, known);
  table_.store(larger.release());
  retired_.Retire(std::unique_ptr<Retirable>(table));
  return *event;
}

void EventIndex::Remove(Event* event) {
  EV_CHECK(event->subscriptions == 0);
  const size_t hash = HashOf(event->name);
  const Table& table = *table_.load();
  std::atomic<Link*>* from = &table.chains[hash & table.mask];
  Link* link = from->load();
  while (link->event != event) {
    from = &link->next;
    link = from->load();
  }
  from->store(link->next.load());
  by_name_.erase(event);
  retired_.Retire(std::unique_ptr<Retirable>(link));
  retired_.Retire(std::unique_ptr<Retirable>(event));
}

EventIndex::Event* EventIndex::LongestPattern(absl::string_view name) const {
  // The last one in order up to `name` is the one sought, or begins with it, so that it is on the way to the shorter.
  auto next = patterns_.upper_bound(name);
  if (next == patterns_.begin()) return nullptr;
  Event* pattern = *--next;
  while (pattern != nullptr && !absl::StartsWith(name, pattern->name)) pattern = pattern->pattern.load();
  return pattern;
}

void EventIndex::Repoint(const Names& names, absl::string_view beginning, Event* from, Event* to) {
  for (auto it = names.lower_bound(beginning); it != names.end() && absl::StartsWith((*it)->name, beginning); ++it) {
    if (*it != to && (*it)->pattern.load() == from) (*it)->pattern.store(to);
  }
}

EventIndex::Event& EventIndex::PatternOf(absl::string_view beginning) {
  if (const auto known = patterns_.find(beginning); known != patterns_.end()) return **known;
  auto* const pattern = new Event(beginning, /*is_pattern=*/true, next_id_++);
  Event* const shorter = LongestPattern(beginning);
  pattern->pattern.store(shorter);
  patterns_.insert(pattern);
  Repoint(patterns_, beginning, shorter, pattern);
  Repoint(by_name_, beginning, shorter, pattern);
  return *pattern;
}

void EventIndex::RemovePattern(Event* pattern) {
  EV_CHECK(pattern->is_pattern && pattern->subscriptions == 0);
  patterns_.erase(pattern);
  Event* const shorter = pattern->pattern.load();
  Repoint(patterns_, pattern->name, pattern, shorter);
  Repoint(by_name_, pattern->name, pattern, shorter);
  retired_.Retire(std::unique_ptr<Retirable>(pattern));
}

void EventIndex::Append(Event& event, std::unique_ptr<Node> node) {
  node->previous = event.last;
  (event.last == nullptr ? event.first : event.last->next).store(node.get());
  event.last = node.release();
  ++event.subscriptions;
}

void EventIndex::Unlink(Event& event, Node* node) {
  // The node keeps its `next`: a reader that stands on it walks on.
  Node* const next = node->next.load();
  (node->previous == nullptr ? event.first : node->previous->next).store(next);
  (next == nullptr ? event.last : next->previous) = node->previous;
  --event.subscriptions;
  retired_.Retire(std::unique_ptr<Retirable>(node));
}

}  // namespace eventvirtual
