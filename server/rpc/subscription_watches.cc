#include "server/rpc/subscription_watches.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/wire.h"

namespace eventvirtual {
namespace {

using Response = v1::WatchSubscriptionsResponse;

Response::Change ToWire(Registry::Change change) {
  switch (change) {
    case Registry::Change::kCreated:
      return Response::CHANGE_CREATED;
    case Registry::Change::kRefreshed:
      return Response::CHANGE_REFRESHED;
    case Registry::Change::kExpired:
      return Response::CHANGE_EXPIRED;
    case Registry::Change::kRemoved:
      return Response::CHANGE_REMOVED;
  }
  return Response::CHANGE_UNSPECIFIED;
}

bool Matches(const std::string& wanted, absl::string_view event) { return wanted.empty() || event == wanted; }

}  // namespace

// Its state belongs to the mutex of the watches, under which StartWrite() and Finish() are called, too. Destroyed by
// OnDone().
class SubscriptionWatches::Watcher final : public WriteReactor<Response> {
 public:
  Watcher(Call* call, SubscriptionWatches& watches, std::string event)
      : WriteReactor(call), watches_(watches), event_(std::move(event)) {}

  // From the place where the changes end now.
  void Join() ABSL_EXCLUSIVE_LOCKS_REQUIRED(watches_.mutex_) {
    place_ = watches_.end_;
    expired_ = watches_.TakeExpired(event_);
    if (watches_.ending_) {
      ended_ = grpc::Status::OK;
    } else if (watches_.load_.Refuses(Load::Work::kWatching)) {
      ended_ = ToGrpc(watches_.load_.Refuse(Load::Work::kWatching));
    }
  }

  // Writes the next of those that exist, or what comes behind them. Only the caller whose turn it is: at the beginning,
  // and after each write.
  void Proceed() {
    if (listing_) {
      const Registry::Page page = watches_.registry_.List(event_, listed_, 1);
      listed_ = page.next;
      listing_ = page.next != 0;
      if (!page.subscriptions.empty()) {
        MutexLock lock(&watches_.mutex_);
        if (!MayFinish()) Write(Response::CHANGE_CURRENT, page.subscriptions[0]);
        return;
      }
    }
    MutexLock lock(&watches_.mutex_);
    writing_ = false;
    Step();
  }

  // Writes, ends, or is idle. Nothing while a write is out.
  void Step() ABSL_EXCLUSIVE_LOCKS_REQUIRED(watches_.mutex_) {
    if (writing_ || MayFinish()) return;
    if (!synced_) {
      synced_ = true;
      return Write(Response::CHANGE_SYNCED, {});
    }
    if (!expired_.empty()) {
      const SubscriptionInfo info = std::move(expired_.front());
      expired_.pop_front();
      return Write(Response::CHANGE_EXPIRED, info);
    }
    const std::deque<Change>& changes = watches_.changes_;
    const uint64_t first = watches_.end_ - changes.size();
    if (place_ < first) {
      watches_.counts_.ended.fetch_add(1, std::memory_order_relaxed);
      ended_ =
          ToGrpc(absl::ResourceExhaustedError(absl::StrCat("the watcher reads too slowly: ", watches_.end_ - place_,
                                                           " changes waited, ", kKept, " are kept; watch anew")));
      MayFinish();
      return;
    }
    while (place_ < watches_.end_) {
      const Change& next = changes[place_++ - first];
      if (Matches(event_, next.info.event)) return Write(next.change, next.info);
    }
    watches_.idle_.push_back(this);
  }

  void End(grpc::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(watches_.mutex_) {
    if (!ended_.has_value()) ended_ = std::move(status);
    if (!writing_) MayFinish();
  }

  void OnWriteDone(bool ok) override {
    if (!ok) {
      MutexLock lock(&watches_.mutex_);
      if (!ended_.has_value()) ended_ = grpc::Status(grpc::StatusCode::CANCELLED, "the watcher has gone");
    }
    Proceed();
  }
  void OnCancel() override {
    MutexLock lock(&watches_.mutex_);
    End(grpc::Status(grpc::StatusCode::CANCELLED, "cancelled"));
  }
  void OnDone() override {
    {
      MutexLock lock(&watches_.mutex_);
      watches_.watchers_.erase(this);
      watches_.idle_.erase(std::remove(watches_.idle_.begin(), watches_.idle_.end(), this), watches_.idle_.end());
      if (watches_.watchers_.empty()) watches_.changes_.clear();
    }
    delete this;
  }

 private:
  // Finishes, once, if it is to end. Whether it has finished.
  bool MayFinish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(watches_.mutex_) {
    if (ended_.has_value() && !std::exchange(finished_, true)) Finish(*ended_);
    return finished_;
  }

  void Write(Response::Change change, const SubscriptionInfo& info) ABSL_EXCLUSIVE_LOCKS_REQUIRED(watches_.mutex_) {
    response_.Clear();
    response_.set_change(change);
    if (change != Response::CHANGE_SYNCED) {
      eventvirtual::ToWire(info, ClockBridge(watches_.registry_.clock()), response_.mutable_subscription());
    }
    writing_ = true;
    StartWrite(&response_);
  }

  SubscriptionWatches& watches_;
  const std::string event_;
  Response response_;  // of the write that is out

  // Of whose turn it is.
  bool listing_ = true;
  uint64_t listed_ = 0;

  uint64_t place_ = 0;  // among the changes: all before it are told, or not wanted
  bool synced_ = false;
  std::deque<SubscriptionInfo> expired_;
  bool writing_ = true;  // or it is somebody's turn; the first is who has made it
  bool finished_ = false;
  std::optional<grpc::Status> ended_;
};

SubscriptionWatches::SubscriptionWatches(Registry& registry, const Load& load, WatchCounts& counts)
    : registry_(registry), load_(load), counts_(counts) {
  registry_.Watch(this);
}

SubscriptionWatches::~SubscriptionWatches() { registry_.Unwatch(this); }

void SubscriptionWatches::TellExpired(std::vector<SubscriptionInfo> expired) {
  MutexLock lock(&mutex_);
  expired_ = std::move(expired);
}

std::deque<SubscriptionInfo> SubscriptionWatches::TakeExpired(const std::string& event) {
  std::deque<SubscriptionInfo> taken;
  std::vector<SubscriptionInfo> left;
  for (SubscriptionInfo& info : expired_) {
    if (Matches(event, info.event)) {
      taken.push_back(std::move(info));
    } else {
      left.push_back(std::move(info));
    }
  }
  expired_ = std::move(left);
  return taken;
}

// Under the registry's mutex.
void SubscriptionWatches::OnChange(Registry::Change change, const Subscription&,
                                   absl::FunctionRef<SubscriptionInfo()> describe) {
  MutexLock lock(&mutex_);
  if (watchers_.empty()) return;
  changes_.push_back({ToWire(change), describe()});
  ++end_;
  if (changes_.size() > kKept) changes_.pop_front();
  std::vector<Watcher*> idle;
  idle.swap(idle_);
  for (Watcher* watcher : idle) watcher->Step();
}

void SubscriptionWatches::Watch(Call* call, std::string event) {
  auto* const watcher = new Watcher(call, *this, std::move(event));
  {
    MutexLock lock(&mutex_);
    watchers_.insert(watcher);
    watcher->Join();
  }
  watcher->Proceed();
}

void SubscriptionWatches::End() {
  MutexLock lock(&mutex_);
  ending_ = true;
  for (Watcher* watcher : watchers_) watcher->End(grpc::Status::OK);
}

}  // namespace eventvirtual
