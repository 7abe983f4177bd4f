// SubscriptionStore: keeps a registry's subscriptions in a journal, and brings them back.
#ifndef EVENTVIRTUAL_SERVER_JOURNAL_SUBSCRIPTION_STORE_H_
#define EVENTVIRTUAL_SERVER_JOURNAL_SUBSCRIPTION_STORE_H_

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "server/journal/journal.h"
#include "server/registry/registry.h"

namespace eventvirtual {

// A refresh is a change like any other, so what is on the disk has the expiry that was acknowledged last. Counters are
// not kept.
class SubscriptionStore final : public Registry::Observer {
 public:
  // Subscribes all that the journal held, with the time that is left of each; then follows the registry. What has
  // expired meanwhile is a line in the log, and erased. What can no longer be subscribed (a transport or a limit that
  // has changed) is a line in the log, too, and stays in the journal for the next start. Both outlive this; blocks.
  SubscriptionStore(Journal& journal, Registry& registry);
  ~SubscriptionStore();

  // What expired while the service was down, as it was; up to kMaxExpired. Once.
  static constexpr size_t kMaxExpired = 1000;
  std::vector<SubscriptionInfo> TakeExpired() { return std::move(expired_); }

  // Of the last start.
  size_t restored() const { return restored_; }
  // The queues of durable subscriptions that could not be restored: their events stay for the next start.
  const absl::flat_hash_set<uint32_t>& left_alone() const { return left_alone_; }

 private:
  void Restore(const SavedSubscription& saved, absl::Time wall);
  void OnChange(Registry::Change change, const Subscription& subscription,
                absl::FunctionRef<SubscriptionInfo()> describe) override;

  Journal& journal_;
  Registry& registry_;
  size_t restored_ = 0;
  std::vector<SubscriptionInfo> expired_;
  absl::flat_hash_set<uint32_t> left_alone_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_JOURNAL_SUBSCRIPTION_STORE_H_
