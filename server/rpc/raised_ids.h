// RaisedIds: the events that callers have raised lately under ids of their own, so that a repeat is not delivered
// again.
#ifndef EVENTVIRTUAL_SERVER_RPC_RAISED_IDS_H_
#define EVENTVIRTUAL_SERVER_RPC_RAISED_IDS_H_

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "eventvirtual/v1/event.pb.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// Remembers for ten minutes, and no more than 100,000. An event that nobody took is not remembered: it may be raised
// again. Any thread.
class RaisedIds {
 public:
  static constexpr absl::Duration kWindow = absl::Minutes(10);
  static constexpr size_t kMost = 100000;

  // `whole`: no delivery that was waited for has failed or goes on, as `first` says where it has room for them.
  using Told = absl::AnyInvocable<void(const absl::Status& status, const v1::RaiseResponse& first, bool whole) &&>;

  // True: nobody has raised `id` lately; the caller does, and says how it went by Answered(). False: somebody has;
  // `told` hears the first answer, now or when it is there.
  bool Claim(const std::string& id, absl::Time now, Told told);
  // `taken`: from here on a repeat is answered the same; else only those that wait already.
  void Answered(const std::string& id, const absl::Status& status, const v1::RaiseResponse& response, bool taken);

  // Of an earlier life. Before anything is claimed; in the order of the times.
  void Restore(const std::string& id, absl::Time raised, uint32_t matched);

 private:
  struct Entry {
    absl::Time raised;
    bool answered = false;
    bool whole = true;
    uint32_t matched = 0;
    std::unique_ptr<const v1::RaiseResponse> response;  // null: it says no more than `matched`
    std::vector<Told> waiting;
  };
  void Forget(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static v1::RaiseResponse ResponseOf(const std::string& id, const Entry& entry);

  Mutex mutex_;
  absl::flat_hash_map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::pair<absl::Time, std::string>> order_ ABSL_GUARDED_BY(mutex_);  // may name some that are gone
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_RAISED_IDS_H_
