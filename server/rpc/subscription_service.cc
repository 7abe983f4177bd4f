#include "server/rpc/subscription_service.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace eventvirtual {
namespace {

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

}  // namespace

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
  return watches_.Watch(request->event());
}

}  // namespace eventvirtual
