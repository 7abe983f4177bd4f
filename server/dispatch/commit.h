// Commit: an event that is being written to the journal, for who must not acknowledge it before.
#ifndef EVENTVIRTUAL_SERVER_DISPATCH_COMMIT_H_
#define EVENTVIRTUAL_SERVER_DISPATCH_COMMIT_H_

#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "transports/api/check.h"
#include "transports/api/mutex.h"
#include "transports/api/ref.h"

namespace eventvirtual {

// Any thread.
class Commit final : public RefCounted {
 public:
  using Told = absl::AnyInvocable<void(absl::Status) &&>;

  // Calls `told` once the outcome is known, which may be here and now: OK, the event is in the journal; else why it is
  // not (RESOURCE_EXHAUSTED, UNAVAILABLE). Once.
  void Then(Told told) {
    absl::Status outcome;
    {
      MutexLock lock(&mutex_);
      if (!outcome_.has_value()) {
        told_ = std::move(told);
        return;
      }
      outcome = *std::move(outcome_);
    }
    std::move(told)(std::move(outcome));
  }

  // Once, by who writes.
  void Settle(absl::Status outcome) {
    Told told;
    {
      MutexLock lock(&mutex_);
      EV_CHECK(!outcome_.has_value());
      outcome_.emplace(std::move(outcome));
      if (!told_) return;
      told = std::move(told_);
      outcome = *std::move(outcome_);
    }
    std::move(told)(std::move(outcome));
  }

 private:
  Mutex mutex_;
  std::optional<absl::Status> outcome_ ABSL_GUARDED_BY(mutex_);
  Told told_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_DISPATCH_COMMIT_H_
