#include "server/rpc/raised_ids.h"

#include <algorithm>

namespace eventvirtual {
namespace {

constexpr size_t kMostBytes = 4096;  // of a kept answer; from a longer one its deliveries are left out

bool IsWhole(const v1::RaiseResponse& response) {
  return std::all_of(response.deliveries().begin(), response.deliveries().end(),
                     [](const v1::DeliveryOutcome& delivery) {
                       return delivery.outcome() == v1::DeliveryOutcome::OUTCOME_DELIVERED ||
                              delivery.outcome() == v1::DeliveryOutcome::OUTCOME_FILTERED;
                     });
}

}  // namespace

v1::RaiseResponse RaisedIds::ResponseOf(const std::string& id, const Entry& entry) {
  if (entry.response != nullptr) return *entry.response;
  v1::RaiseResponse response;
  response.set_event_id(id);
  response.set_matched_subscriptions(entry.matched);
  return response;
}

// What is still being raised stays, wherever it stands: somebody may wait for its answer.
void RaisedIds::Forget(absl::Time now) {
  while (!order_.empty() && (order_.size() > kMost || order_.front().first + kWindow <= now)) {
    const auto found = entries_.find(order_.front().second);
    if (found != entries_.end() && found->second.answered && found->second.raised == order_.front().first) {
      entries_.erase(found);
    }
    order_.pop_front();
  }
}

bool RaisedIds::Claim(const std::string& id, absl::Time now, Told told) {
  v1::RaiseResponse first;
  bool whole;
  {
    MutexLock lock(&mutex_);
    Forget(now);
    const auto [found, is_new] = entries_.try_emplace(id);
    Entry& entry = found->second;
    if (is_new || (entry.answered && entry.raised + kWindow <= now)) {
      entry = {};
      entry.raised = now;
      order_.emplace_back(now, id);
      return true;
    }
    if (!entry.answered) {
      entry.waiting.push_back(std::move(told));
      return false;
    }
    first = ResponseOf(id, entry);
    whole = entry.whole;
  }
  std::move(told)(absl::OkStatus(), first, whole);
  return false;
}

void RaisedIds::Answered(const std::string& id, const absl::Status& status, const v1::RaiseResponse& response,
                         bool taken) {
  const bool whole = IsWhole(response);
  std::vector<Told> waiting;
  {
    MutexLock lock(&mutex_);
    const auto found = entries_.find(id);
    if (found == entries_.end()) return;
    Entry& entry = found->second;
    waiting.swap(entry.waiting);
    if (taken) {
      entry.answered = true;
      entry.whole = whole;
      entry.matched = response.matched_subscriptions();
      if (response.deliveries_size() > 0 && response.ByteSizeLong() <= kMostBytes) {
        entry.response = std::make_unique<const v1::RaiseResponse>(response);
      }
    } else {
      entries_.erase(found);
    }
  }
  for (Told& told : waiting) std::move(told)(status, response, whole);
}

void RaisedIds::Restore(const std::string& id, absl::Time raised, uint32_t matched) {
  MutexLock lock(&mutex_);
  Entry& entry = entries_[id];
  entry.raised = raised;
  entry.answered = true;
  entry.matched = matched;
  order_.emplace_back(raised, id);
}

}  // namespace eventvirtual
