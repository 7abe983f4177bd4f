// Registry: who is subscribed to what, until when.
#ifndef EVENTVIRTUAL_SERVER_REGISTRY_REGISTRY_H_
#define EVENTVIRTUAL_SERVER_REGISTRY_REGISTRY_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/inlined_vector.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/hash/hash.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/limits/limits.h"
#include "server/registry/event_index.h"
#include "server/registry/expiry_queue.h"
#include "server/registry/subscription.h"
#include "server/registry/virtual_socket.h"
#include "transports/api/catalog.h"
#include "transports/api/loop.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// What a client asks for.
struct SubscriptionSpec {
  struct Subscriber {
    std::string uri;
    absl::Duration attempt_timeout = absl::ZeroDuration();  // zero: the transport's default
    bool canonical = false;                                 // `uri` is a Target's canonical text
  };
  std::string id;      // "" derives one from event, policy and subscribers; else [A-Za-z0-9._~-]{1,64}
  std::string event;   // a name, or the beginning of names with a '*' behind it
  std::string filter;  // as filter.h has it; "": all events
  Policy policy = Policy::kParallel;
  bool plain = false;
  std::vector<Subscriber> subscribers;
  absl::Time expires = absl::InfiniteFuture();  // on the registry's clock (Registry::clock())
  absl::Time created = absl::InfiniteFuture();  // likewise, of one that existed before; else now
  DeliveryOptions delivery;
  uint32_t queue = 0;  // of a durable one that existed before (its dead_letter_uri is canonical); else it gets one
  std::map<std::string, std::string> labels;
  std::string owner;           // the principal who asks, whose subscriptions are counted; "": nobody's
  bool keeps_options = false;  // a refresh is about the expiry alone: `delivery`, timeouts and labels stay as they are
};

// Reads `socket` into policy and subscribers, each with `attempt_timeout`. INVALID_ARGUMENT: see ParseVirtualSocket().
absl::Status SetSocket(absl::string_view socket, absl::Duration attempt_timeout, SubscriptionSpec* spec);

// A subscription as it is at one moment; nothing in it holds a password.
struct SubscriptionInfo : DeliveryCounts {
  enum class State { kActive, kDegraded, kFailing };
  struct Subscriber {
    std::string uri;  // masked
    absl::Duration attempt_timeout;
    EndpointStats status;
  };
  std::string name;
  std::string event;
  std::string filter;
  std::string socket;  // masked
  Policy policy = Policy::kParallel;
  std::vector<Subscriber> subscribers;
  absl::Time created;  // on the registry's clock, like `expires`
  absl::Time expires;
  std::string owner;         // whoever created it
  DeliveryOptions delivery;  // its dead_letter_uri masked
  std::map<std::string, std::string> labels;
  State state = State::kActive;
};

struct RegistryLimits {
  uint64_t max_subscriptions = 1000000;
  uint64_t max_subscriptions_per_principal = 1000000;
  uint32_t max_subscribers = 64;  // in one subscription; at most 127
  uint32_t max_events = 100000;   // names remembered that have no subscription; more are raised but not counted by name
  size_t max_event_name = 256;    // bytes
  bool strict_events = false;     // only the names below (or, if there are none, those ever subscribed) may be raised
  std::vector<std::string> events;  // known from the start; with strict_events nothing else may be subscribed
};

// Any thread, unless said otherwise. One mutex for all changes; a raise reads without it.
class Registry {
 public:
  enum class Change { kCreated, kRefreshed, kExpired, kRemoved };
  static constexpr size_t kChanges = 4;

  // Hears every change, in order, under the registry's mutex: must not block and must not call the registry.
  // `describe`, which may be called there, gives the subscription as it is at that moment.
  class Observer {
   public:
    virtual void OnChange(Change change, const Subscription& subscription,
                          absl::FunctionRef<SubscriptionInfo()> describe) = 0;

   protected:
    ~Observer() = default;
  };

  struct Subscribed {
    SubscriptionInfo info;
    bool created = false;  // false: an equivalent one was refreshed
  };

  // Expiry runs on `loop`, whose clock is the registry's. All must outlive the registry; see Stop().
  Registry(const Catalog& catalog, EndpointPool& pool, Loop& loop, RegistryLimits limits);
  ~Registry();

  // From here on subscriptions may be durable; the queues of new ones are numbered behind `last_queue`. Before anybody
  // subscribes.
  void AllowDurable(uint32_t last_queue);

  // Adds a subscription, or refreshes the equivalent one: same event, filter, policy and subscribers (PARALLEL: in any
  // order). A refresh takes over expiry, options and labels; the name stays, and what is durable stays durable.
  // INVALID_ARGUMENT names the subscriber's position and what would be accepted; PERMISSION_DENIED: Catalog::Admit() is
  // against one; ALREADY_EXISTS: the id is taken by
  // another; NOT_FOUND: strict events; RESOURCE_EXHAUSTED: too many, in all or of this owner's; FAILED_PRECONDITION:
  // durable, and none may be, or the equivalent one is not.
  absl::StatusOr<Subscribed> Subscribe(const SubscriptionSpec& spec);

  // Checks the same and gives what Subscribe() would, without doing it.
  absl::StatusOr<Subscribed> Validate(const SubscriptionSpec& spec);

  // Ends a subscription now; gives it as it was. NOT_FOUND. A loop may be sending for it at this very moment: once
  // AfterSends() has called back, nothing more is handed to a link for it.
  absl::StatusOr<SubscriptionInfo> Unsubscribe(absl::string_view name);
  // The same for the one that Subscribe(spec) would refresh. INVALID_ARGUMENT like Subscribe().
  absl::StatusOr<SubscriptionInfo> UnsubscribeMatch(const SubscriptionSpec& spec);
  void AfterSends(absl::AnyInvocable<void() &&> done) { pool_.AfterSends(std::move(done)); }

  absl::StatusOr<SubscriptionInfo> Get(absl::string_view name) const;  // NOT_FOUND

  struct Page {
    std::vector<SubscriptionInfo> subscriptions;
    uint64_t next = 0;  // pass as `after`; 0: that was the last page
  };
  // Up to `limit` live subscriptions in the order of their creation, of `event` alone unless that is empty.
  Page List(absl::string_view event, uint64_t after, size_t limit) const;

  // The same for who lists very many: what a subscription says of itself, not asked of its endpoints.
  struct Entry {
    Ref<const Subscription> subscription;
    uint32_t event_id = 0;  // as EventInfo has it
    uint64_t sequence = 0;  // pass as `after` to go on behind it
  };
  struct EntryPage {
    std::vector<Entry> entries;
    uint64_t next = 0;
  };
  EntryPage ListEntries(absl::string_view event, uint64_t after, size_t limit) const;

  // The live subscription that Subscribe(spec) would refresh. INVALID_ARGUMENT like Subscribe(); NOT_FOUND.
  absl::StatusOr<Entry> Match(const SubscriptionSpec& spec) const;

  Ref<const Subscription> Find(absl::string_view name) const;  // null: there is no live one

  SubscriptionInfo Describe(const Subscription& subscription) const;

  // From now on `observer` hears every change; gives the subscriptions that exist at this very moment.
  std::vector<Ref<Subscription>> Watch(Observer* observer);
  // Once it has returned, the observer is not called again.
  void Unwatch(Observer* observer);

  // Counts one raise of `event` and calls `fn` for each live subscription to it, whatever its filter: first those to
  // this very name, then those to patterns, the longer before the shorter; within each in the order of their creation.
  // `fn` must be quick and take a Ref to what it keeps. Takes no lock, except to remember a name raised for the first
  // time. False: strict events, and the name is not known (nothing was counted).
  bool Read(absl::string_view event, absl::Time now, absl::FunctionRef<void(const Subscription&)> fn);

  // What Read() would go through, for who wants to know why; nothing is counted.
  struct Survey {
    bool known = true;  // false: what Read() would say
    // Up to the limit, in the order of Read(); also one that has expired and is not yet removed.
    std::vector<Ref<const Subscription>> subscriptions;
    uint64_t omitted = 0;  // beyond the limit
    // Up to kMaxNear that do not take the event, and almost do: a name or pattern in other letters (E_acc), or a
    // pattern for longer names (E_ACC_*, for E_ACC).
    std::vector<Ref<const Subscription>> near;
  };
  static constexpr size_t kMaxNear = 10;
  // Goes over all known names under the mutex, as SubscribedEvents() does.
  Survey Look(absl::string_view event, size_t limit) const;

  struct EventInfo {
    std::string name;
    uint32_t id = 0;  // the same as long as the name is known, and no other's
    uint64_t raised = 0;
    absl::Time last_raised;      // on the registry's clock; InfinitePast: never
    uint32_t subscriptions = 0;  // those to patterns that take it count
  };
  // Up to `limit` known events in the order of their names, beginning behind the name `after`.
  std::vector<EventInfo> ListEvents(absl::string_view after, size_t limit) const;
  // The id of a known event, or of a pattern ("E_*") that somebody is subscribed to; nothing: there is no such.
  std::optional<uint32_t> EventId(absl::string_view event) const;

  // The names, and then the patterns ("E_UL_*"), that somebody is subscribed to. Goes over all known names under the
  // mutex: a millisecond or two for 10^5 of them.
  std::vector<std::string> SubscribedEvents() const;

  // What operators watch. Sums never go down: what is gone stays in them.
  struct Audit {
    std::vector<DeliveryLedger::Row> deliveries;  // the accounts live as long as the registry
    // How often each event was raised: of the first that were known by name, with the '*' of a pattern where names
    // could not be remembered (RegistryLimits::max_events); and of all others together.
    std::vector<std::pair<std::string, uint64_t>> raises;
    uint64_t other_raises = 0;
    size_t events = 0, patterns = 0;  // known
    size_t subscriptions = 0;
    uint64_t changes[kChanges] = {};  // since the start, by Change
    absl::Duration expiry_lag;        // how long the next to expire has been due; mostly zero
  };
  // Goes over all subscriptions, a thousand at a time under the mutex, and over all events: some hundred nanoseconds
  // for each. Any thread, one after the other.
  Audit TakeAudit();

  size_t size() const;
  const Clock& clock() const { return loop_; }

  // Removes all subscriptions (observers hear nothing) and ends the expiry timer, so that endpoints can go while the
  // loops still run. Not on the loop. The destructor calls it unless it was called.
  void Stop();

 private:
  // What identifies a subscription, as pointers: endpoints are shared by canonical URI, so equal endpoints are equal
  // destinations. PARALLEL: sorted, which makes the comparison one of multisets.
  struct Key {
    absl::string_view event, filter;
    Policy policy = Policy::kParallel;
    absl::InlinedVector<const Endpoint*, 4> endpoints;
    friend bool operator==(const Key& a, const Key& b) {
      return a.event == b.event && a.filter == b.filter && a.policy == b.policy && a.endpoints == b.endpoints;
    }
    template <typename H>
    friend H AbslHashValue(H hash, const Key& key) {
      return H::combine(std::move(hash), key.event, key.filter, key.policy, key.endpoints);
    }
  };
  using Owners = std::map<std::string, uint64_t, std::less<>>;  // how many subscriptions each has
  // The writer's bookkeeping for one subscription, which belongs to the index.
  struct Record final : EventIndex::Node, ExpiryQueue::Entry {
    uint64_t sequence = 0;
    EventIndex::Event* event = nullptr;
    Owners::value_type* owner = nullptr;  // null: nobody's
  };
  // A million of each are kept. These are sizes of jemalloc's, and the next ones are 96 and 256.
  static_assert(sizeof(Record) <= 80 && sizeof(Subscription) <= 224);
  // Records by what they say themselves: a copy of each key would cost more than the record.
  struct SameKey {
    using is_transparent = void;
    static const Key& Of(const Key& key) { return key; }
    static Key Of(const Record* record) { return KeyOf(*record->subscription); }
    template <typename T>
    size_t operator()(const T& t) const {
      return absl::Hash<Key>()(Of(t));
    }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return Of(a) == Of(b);
    }
  };
  struct SameId {
    using is_transparent = void;
    static absl::string_view Of(absl::string_view id) { return id; }
    static absl::string_view Of(const Record* record) { return record->subscription->id; }
    template <typename T>
    size_t operator()(const T& t) const {
      return absl::Hash<absl::string_view>()(Of(t));
    }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return Of(a) == Of(b);
    }
  };
  using Garbage = std::vector<std::unique_ptr<Retirable>>;

  // A spec, understood.
  struct Resolved {
    std::vector<Destination> destinations;
    std::unique_ptr<const Subscription::Filtering> filtering;  // null: no filter
    std::string filter;                                        // its one way to be written
    Target dead_letters;                                       // without texts: there is no dead_letter_uri
  };

  absl::Status Check(const SubscriptionSpec& spec) const;
  absl::StatusOr<Resolved> Resolve(const SubscriptionSpec& spec) const;
  absl::Status Admit(const SubscriptionSpec& spec, const Resolved& resolved) const;
  static Key KeyOf(absl::string_view event, absl::string_view filter, Policy policy,
                   absl::Span<const Endpoint* const> endpoints);
  static Key KeyOf(const Subscription& subscription);
  absl::Status CheckRoom(const SubscriptionSpec& spec) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string NewId(const SubscriptionSpec& spec, const Resolved& resolved) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void SetOptions(const SubscriptionSpec& spec, Target dead_letters, Subscription* subscription);
  static void SetAttemptTimeouts(const SubscriptionSpec& spec, const std::vector<EndpointLease>& leases,
                                 Subscription* subscription);
  Record* FindByName(absl::string_view name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);  // null: no such one
  Record* FindLive(const Key& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Record* Create(const SubscriptionSpec& spec, Resolved resolved, std::vector<EndpointLease>* leases)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remove(Record* record, Change change) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Tell(Change change, const Subscription& subscription) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  SubscriptionInfo DescribeLocked(const Subscription& subscription) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const EventIndex::Event* Remember(absl::string_view event);
  void Forget(const EventIndex::Event& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AuditEvents(Audit* audit) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetExpiry(Record* record, absl::Time when) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ArmSweep(absl::Time when) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Sweep();  // on the loop: drops the expired, a bounded number at a time

  const Catalog& catalog_;
  EndpointPool& pool_;
  Loop& loop_;
  const RegistryLimits limits_;

  DeliveryLedger ledger_;

  EventIndex index_;  // readers: any thread; writer: under mutex_

  mutable Mutex mutex_;
  CondVar stopped_signal_;
  uint64_t last_sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<uint32_t> last_queue_ ABSL_GUARDED_BY(mutex_);  // nothing: no subscription may be durable
  absl::btree_map<uint64_t, Record*> by_sequence_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<Record*, SameId, SameId> by_id_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<Record*, SameKey, SameKey> by_key_ ABSL_GUARDED_BY(mutex_);
  Owners owners_ ABSL_GUARDED_BY(mutex_);  // those who have some
  ExpiryQueue expiries_ ABSL_GUARDED_BY(mutex_);
  std::vector<Observer*> observers_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, uint64_t> forgotten_raises_ ABSL_GUARDED_BY(mutex_);  // by the label that the event had
  uint64_t changes_[kChanges] ABSL_GUARDED_BY(mutex_) = {};
  Mutex audit_mutex_;                             // one at a time; locked before mutex_
  uint64_t audited_ ABSL_GUARDED_BY(mutex_) = 0;  // the audit at hand has visited up to this sequence number
  absl::Time sweep_at_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;

  // Loop only. Tasks that were posted before Stop() look at `running_` first.
  std::shared_ptr<bool> running_ = std::make_shared<bool>(true);
  std::unique_ptr<Loop::Timer> timer_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_REGISTRY_REGISTRY_H_
