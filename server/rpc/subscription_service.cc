#include "server/rpc/subscription_service.h"

#include <deque>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxUnsent = 10000;  // changes that may wait for one watcher

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

v1::WatchSubscriptionsResponse::Change ChangeToWire(Registry::Change change) {
  switch (change) {
    case Registry::Change::kCreated:
      return v1::WatchSubscriptionsResponse::CHANGE_CREATED;
    case Registry::Change::kRefreshed:
      return v1::WatchSubscriptionsResponse::CHANGE_REFRESHED;
    case Registry::Change::kExpired:
      return v1::WatchSubscriptionsResponse::CHANGE_EXPIRED;
    case Registry::Change::kRemoved:
      return v1::WatchSubscriptionsResponse::CHANGE_REMOVED;
  }
  return v1::WatchSubscriptionsResponse::CHANGE_UNSPECIFIED;
}

}  // namespace

// One watch: changes are queued under the registry's mutex and written one after the other. Destroyed by OnDone().
class SubscriptionService::Watcher final : public grpc::ServerWriteReactor<v1::WatchSubscriptionsResponse>,
                                           public Registry::Observer {
 public:
  Watcher(SubscriptionService& service, std::string event) : service_(service), event_(std::move(event)) {}

  void Start() {
    const std::vector<Ref<Subscription>> current = service_.registry_.Watch(this);
    std::vector<SubscriptionInfo> expired = service_.TakeExpired(event_);
    {
      // What has happened since Watch() returned stands in the queue already: the set and the marker go before it.
      MutexLock lock(&mutex_);
      std::deque<Change> since;
      since.swap(unsent_);
      for (const Ref<Subscription>& subscription : current) {
        if (!Matches(subscription->event)) continue;
        unsent_.push_back({v1::WatchSubscriptionsResponse::CHANGE_CURRENT, subscription, {}});
      }
      unsent_.push_back({v1::WatchSubscriptionsResponse::CHANGE_SYNCED, nullptr, {}});
      for (SubscriptionInfo& info : expired) {
        unsent_.push_back({v1::WatchSubscriptionsResponse::CHANGE_EXPIRED, nullptr, std::move(info)});
      }
      unsent_.insert(unsent_.end(), since.begin(), since.end());
      limit_ = unsent_.size() + kMaxUnsent;
    }
    WriteNext(true);
  }

  // Under the registry's mutex. It writes only into an idle stream, so what it writes is its own change, which needs no
  // question to the registry.
  void OnChange(Registry::Change change, const Subscription& subscription,
                absl::FunctionRef<SubscriptionInfo()> describe) override {
    if (!Matches(subscription.event)) return;
    {
      MutexLock lock(&mutex_);
      if (unsent_.size() < limit_) {
        unsent_.push_back({ChangeToWire(change), nullptr, describe()});
      } else if (end_.ok()) {
        end_ = absl::ResourceExhaustedError(
            absl::StrCat("the watcher reads too slowly: ", unsent_.size(), " changes wait; watch anew"));
        ending_ = true;
      }
    }
    WriteNext(false);
  }

  void End(absl::Status status) {
    {
      MutexLock lock(&mutex_);
      end_ = std::move(status);
      ending_ = true;
    }
    WriteNext(false);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) {
      MutexLock lock(&mutex_);
      end_ = absl::CancelledError("the watcher has gone");
      ending_ = true;
    }
    WriteNext(true);
  }
  void OnCancel() override { End(absl::CancelledError("cancelled")); }
  void OnDone() override {
    service_.registry_.Unwatch(this);
    {
      MutexLock lock(&service_.mutex_);
      service_.watchers_.erase(this);
    }
    delete this;
  }

 private:
  struct Change {
    v1::WatchSubscriptionsResponse::Change change;
    Ref<Subscription> current;  // CURRENT: described when it is written
    SubscriptionInfo info;
  };

  bool Matches(absl::string_view event) const { return event_.empty() || event == event_; }

  // Writes the next change or ends the stream. `turn`: the caller holds the right to write, which begins with Start()
  // and goes from write to write; others take it only from an idle stream.
  void WriteNext(bool turn) {
    Change next{};
    {
      MutexLock lock(&mutex_);
      if (ended_ || (writing_ && !turn)) return;
      writing_ = !ending_ && !unsent_.empty();
      if (writing_) {
        next = std::move(unsent_.front());
        unsent_.pop_front();
      } else if (ending_) {
        ended_ = true;
      } else {
        return;
      }
    }
    if (next.change == v1::WatchSubscriptionsResponse::CHANGE_UNSPECIFIED) return Finish(ToGrpc(end_));
    message_.Clear();
    message_.set_change(next.change);
    if (next.current) next.info = service_.registry_.Describe(*next.current);
    if (!next.info.name.empty()) {
      ToWire(next.info, ClockBridge(service_.registry_.clock()), message_.mutable_subscription());
    }
    StartWrite(&message_);
  }

  SubscriptionService& service_;
  const std::string event_;
  v1::WatchSubscriptionsResponse message_;

  Mutex mutex_;
  std::deque<Change> unsent_ ABSL_GUARDED_BY(mutex_);
  size_t limit_ ABSL_GUARDED_BY(mutex_) = kMaxUnsent;
  bool writing_ ABSL_GUARDED_BY(mutex_) = true;  // from Start()'s first write on
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_;  // written before ended_, read after
};

absl::Status SubscriptionService::TakeRate(const grpc::CallbackServerContext& context) const {
  if (rates_ == nullptr) return absl::OkStatus();
  return rates_->Take(gate_->PrincipalOf(context), registry_.clock().Now());
}

absl::StatusOr<Registry::Subscribed> SubscriptionService::DoSubscribe(const grpc::CallbackServerContext& context,
                                                                      const v1::SubscribeRequest& request,
                                                                      const ClockBridge& bridge) {
  if (absl::Status status = TakeRate(context); !status.ok()) return status;
  absl::StatusOr<SubscriptionSpec> spec = SpecFromWire(request.subscription(), defaults_, bridge, false);
  if (!spec.ok()) return spec.status();
  spec->id = request.subscription_id();
  if (gate_ != nullptr) spec->owner = gate_->PrincipalOf(context);
  if (spec->id.empty() && !request.subscription().name().empty()) {
    return absl::InvalidArgumentError("subscription.name: is given by the server; choose an id by subscription_id");
  }
  return request.validate_only() ? registry_.Validate(*spec) : registry_.Subscribe(*spec);
}

grpc::ServerUnaryReactor* SubscriptionService::Subscribe(grpc::CallbackServerContext* context,
                                                         const v1::SubscribeRequest* request,
                                                         v1::SubscribeResponse* response) {
  const ClockBridge bridge(registry_.clock());
  const absl::StatusOr<Registry::Subscribed> subscribed = DoSubscribe(*context, *request, bridge);
  if (subscribed.ok()) {
    ToWire(subscribed->info, bridge, response->mutable_subscription());
    response->set_created(subscribed->created);
  }
  if (!subscribed.ok() || request->validate_only()) return Answer(context, subscribed.status());
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  FinishAfterCommit(reactor);
  return reactor;
}

void SubscriptionService::FinishAfterCommit(grpc::ServerUnaryReactor* reactor) {
  if (journal_ == nullptr) return reactor->Finish(grpc::Status::OK);
  journal_->AfterCommit([reactor](absl::Status written) {
    if (!written.ok()) {
      written = absl::Status(written.code(), absl::StrCat("done, but not written down, so a restart may undo it: ",
                                                          written.message(), "; the same call may be made again"));
    }
    reactor->Finish(ToGrpc(written));
  });
}

absl::StatusOr<std::string> SubscriptionService::NameOf(const v1::UnsubscribeRequest& request) const {
  if (request.name().empty() == !request.has_match()) {
    return absl::InvalidArgumentError("name: give either name, or match with event and socket");
  }
  if (!request.has_match()) return request.name();
  const absl::StatusOr<SubscriptionSpec> spec =
      SpecFromWire(request.match(), defaults_, ClockBridge(registry_.clock()), true);
  if (!spec.ok()) return spec.status();
  const absl::StatusOr<Registry::Entry> match = registry_.Match(*spec);
  if (!match.ok()) return match.status();
  return match->subscription->name();
}

void SubscriptionService::End(const std::string& name, bool allow_missing, grpc::ServerUnaryReactor* reactor,
                              v1::UnsubscribeResponse* response) {
  const absl::StatusOr<SubscriptionInfo> info = registry_.Unsubscribe(name);
  if (!info.ok()) {
    const bool fine = absl::IsNotFound(info.status()) && allow_missing;
    return reactor->Finish(fine ? grpc::Status::OK : ToGrpc(info.status()));
  }
  ToWire(*info, ClockBridge(registry_.clock()), response->mutable_subscription());
  // Whoever has the answer may rely on it: nothing is sent any more.
  registry_.AfterSends([this, reactor] { FinishAfterCommit(reactor); });
}

grpc::ServerUnaryReactor* SubscriptionService::Unsubscribe(grpc::CallbackServerContext* context,
                                                           const v1::UnsubscribeRequest* request,
                                                           v1::UnsubscribeResponse* response) {
  if (absl::Status status = TakeRate(*context); !status.ok()) return Answer(context, status);
  const absl::StatusOr<std::string> name = NameOf(*request);
  if (absl::IsNotFound(name.status()) && request->allow_missing()) return Answer(context, absl::OkStatus());
  if (!name.ok()) return Answer(context, name.status());
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const Ref<const Subscription> subscription = registry_.Find(*name);
  if (durable_ == nullptr || !subscription || !subscription->durable) {
    End(*name, request->allow_missing(), reactor, response);
    return reactor;
  }
  // Counted right before it ends, where the events are: from then on they go.
  durable_->CountQueue(subscription->queue, [this, name = *name, allow_missing = request->allow_missing(), reactor,
                                             response](uint64_t events) {
    response->set_undelivered_count(events);
    End(name, allow_missing, reactor, response);
  });
  return reactor;
}

void SubscriptionService::TellExpired(std::vector<SubscriptionInfo> expired) {
  MutexLock lock(&mutex_);
  expired_ = std::move(expired);
}

std::vector<SubscriptionInfo> SubscriptionService::TakeExpired(absl::string_view event) {
  std::vector<SubscriptionInfo> taken, left;
  MutexLock lock(&mutex_);
  for (SubscriptionInfo& info : expired_) {
    (event.empty() || event == info.event ? taken : left).push_back(std::move(info));
  }
  expired_ = std::move(left);
  return taken;
}

grpc::ServerUnaryReactor* SubscriptionService::GetSubscription(grpc::CallbackServerContext* context,
                                                               const v1::GetSubscriptionRequest* request,
                                                               v1::GetSubscriptionResponse* response) {
  if (!absl::StartsWith(request->name(), Subscription::kNamePrefix)) {
    return Answer(context, absl::InvalidArgumentError("name: write subscriptions/ID"));
  }
  const absl::StatusOr<SubscriptionInfo> info = registry_.Get(request->name());
  if (info.ok()) ToWire(*info, ClockBridge(registry_.clock()), response->mutable_subscription());
  return Answer(context, info.status());
}

grpc::ServerUnaryReactor* SubscriptionService::ListSubscriptions(grpc::CallbackServerContext* context,
                                                                 const v1::ListSubscriptionsRequest* request,
                                                                 v1::ListSubscriptionsResponse* response) {
  const absl::StatusOr<uint64_t> after = NumberFromPageToken(request->page_token());
  if (!after.ok()) return Answer(context, after.status());
  const absl::StatusOr<size_t> size = PageSizeFromWire(request->page_size());
  if (!size.ok()) return Answer(context, size.status());
  const Registry::Page page = registry_.List(request->event(), *after, *size);
  const ClockBridge bridge(registry_.clock());
  for (const SubscriptionInfo& info : page.subscriptions) ToWire(info, bridge, response->add_subscriptions());
  response->set_next_page_token(PageTokenOf(page.next));
  return Answer(context, absl::OkStatus());
}

grpc::ServerWriteReactor<v1::WatchSubscriptionsResponse>* SubscriptionService::WatchSubscriptions(
    grpc::CallbackServerContext*, const v1::WatchSubscriptionsRequest* request) {
  auto* const watcher = new Watcher(*this, request->event());
  bool ending;
  {
    MutexLock lock(&mutex_);
    watchers_.insert(watcher);
    ending = ending_;
  }
  if (ending) watcher->End(absl::OkStatus());
  watcher->Start();
  return watcher;
}

void SubscriptionService::EndWatches() {
  MutexLock lock(&mutex_);
  ending_ = true;
  for (Watcher* watcher : watchers_) watcher->End(absl::OkStatus());
}

}  // namespace eventvirtual
