#include "server/registry/delivery_ledger.h"

#include "server/registry/subscription.h"

namespace eventvirtual {

DeliveryCounts& DeliveryCounts::operator+=(const DeliveryCounts& other) {
  matched += other.matched;
  delivered += other.delivered;
  partial += other.partial;
  failed += other.failed;
  filtered += other.filtered;
  expired += other.expired;
  dropped += other.dropped;
  dead_lettered += other.dead_lettered;
  pending += other.pending;
  imbalance += other.imbalance;
  return *this;
}

DeliveryLedger::Account& DeliveryLedger::AccountOf(absl::string_view event, absl::string_view transport) {
  std::pair<std::string, std::string> key(event, transport);
  MutexLock lock(&mutex_);
  auto found = accounts_.find(key);
  if (found == accounts_.end()) {
    if (accounts_.size() >= kMaxAccounts) key.first = std::string(kOther);
    std::unique_ptr<Account>& account = accounts_[key];
    if (account == nullptr) account.reset(new Account{*this, key.first, key.second, {}, {}});
    return *account;
  }
  return *found->second;
}

void DeliveryLedger::Leave(const Subscription* subscription, bool visited) {
  MutexLock lock(&mutex_);
  leaving_[subscription] = visited;
}

void DeliveryLedger::Close(const Subscription* subscription, Account& account, const DeliveryCounts& last) {
  MutexLock lock(&mutex_);
  const auto found = leaving_.find(subscription);
  const bool visited = found != leaving_.end() && found->second;
  (visited ? account.gone_since_visit : account.gone) += last;
  if (found != leaving_.end()) leaving_.erase(found);
}

std::vector<DeliveryLedger::Row> DeliveryLedger::Finish(absl::flat_hash_map<const Account*, DeliveryCounts> visited) {
  std::vector<Row> rows;
  MutexLock lock(&mutex_);
  for (auto& [subscription, was_visited] : leaving_) {
    // It lives: its end waits for this lock.
    if (!was_visited) visited[&subscription->account] += subscription->CountsOf(Subscription::Held::kNowhere);
    was_visited = false;
  }
  for (auto& [key, account] : accounts_) {
    rows.push_back({account.get(), visited[account.get()]});
    rows.back().counts += account->gone;
    account->gone += std::exchange(account->gone_since_visit, DeliveryCounts());
  }
  return rows;
}

}  // namespace eventvirtual
