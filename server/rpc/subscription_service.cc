#include "server/rpc/subscription_service.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace eventvirtual {
namespace {}  // namespace

absl::Status SubscriptionService::TakeRate(const grpc::ServerContextBase& context) const {
  if (rates_ == nullptr) return absl::OkStatus();
  return rates_->Take(gate_->PrincipalOf(context), registry_.clock().Now());
}

absl::StatusOr<Registry::Subscribed> SubscriptionService::DoSubscribe(const grpc::ServerContextBase& context,
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

void SubscriptionService::Subscribe(UnaryCall* call, const v1::SubscribeRequest* request,
                                    v1::SubscribeResponse* response) {
  const ClockBridge bridge(registry_.clock());
  const absl::StatusOr<Registry::Subscribed> subscribed = DoSubscribe(call->context(), *request, bridge);
  if (subscribed.ok()) {
    ToWire(subscribed->info, bridge, response->mutable_subscription());
    response->set_created(subscribed->created);
  }
  if (!subscribed.ok() || request->validate_only()) return call->Answer(subscribed.status());
  FinishAfterCommit(call);
}

void SubscriptionService::FinishAfterCommit(UnaryCall* call) {
  if (journal_ == nullptr) return call->Finish(grpc::Status::OK);
  journal_->AfterCommit([call](absl::Status written) {
    if (!written.ok()) {
      written = absl::Status(written.code(), absl::StrCat("done, but not written down, so a restart may undo it: ",
                                                          written.message(), "; the same call may be made again"));
    }
    call->Finish(ToGrpc(written));
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

void SubscriptionService::End(const std::string& name, bool allow_missing, UnaryCall* call,
                              v1::UnsubscribeResponse* response) {
  const absl::StatusOr<SubscriptionInfo> info = registry_.Unsubscribe(name);
  if (!info.ok()) {
    const bool fine = absl::IsNotFound(info.status()) && allow_missing;
    return call->Finish(fine ? grpc::Status::OK : ToGrpc(info.status()));
  }
  ToWire(*info, ClockBridge(registry_.clock()), response->mutable_subscription());
  // Whoever has the answer may rely on it: nothing is sent any more.
  registry_.AfterSends([this, call] { FinishAfterCommit(call); });
}

void SubscriptionService::Unsubscribe(UnaryCall* call, const v1::UnsubscribeRequest* request,
                                      v1::UnsubscribeResponse* response) {
  if (absl::Status status = TakeRate(call->context()); !status.ok()) return call->Answer(status);
  const absl::StatusOr<std::string> name = NameOf(*request);
  if (absl::IsNotFound(name.status()) && request->allow_missing()) return call->Answer(absl::OkStatus());
  if (!name.ok()) return call->Answer(name.status());
  const Ref<const Subscription> subscription = registry_.Find(*name);
  if (durable_ == nullptr || !subscription || !subscription->durable) {
    End(*name, request->allow_missing(), call, response);
    return;
  }
  // Counted right before it ends, where the events are: from then on they go.
  durable_->CountQueue(subscription->queue,
                       [this, name = *name, allow_missing = request->allow_missing(), call, response](uint64_t events) {
                         response->set_undelivered_count(events);
                         End(name, allow_missing, call, response);
                       });
}

void SubscriptionService::GetSubscription(UnaryCall* call, const v1::GetSubscriptionRequest* request,
                                          v1::GetSubscriptionResponse* response) {
  if (!absl::StartsWith(request->name(), Subscription::kNamePrefix)) {
    return call->Answer(absl::InvalidArgumentError("name: write subscriptions/ID"));
  }
  const absl::StatusOr<SubscriptionInfo> info = registry_.Get(request->name());
  if (info.ok()) ToWire(*info, ClockBridge(registry_.clock()), response->mutable_subscription());
  return call->Answer(info.status());
}

void SubscriptionService::ListSubscriptions(UnaryCall* call, const v1::ListSubscriptionsRequest* request,
                                            v1::ListSubscriptionsResponse* response) {
  const absl::StatusOr<uint64_t> after = NumberFromPageToken(request->page_token());
  if (!after.ok()) return call->Answer(after.status());
  const absl::StatusOr<size_t> size = PageSizeFromWire(request->page_size());
  if (!size.ok()) return call->Answer(size.status());
  const Registry::Page page = registry_.List(request->event(), *after, *size);
  const ClockBridge bridge(registry_.clock());
  for (const SubscriptionInfo& info : page.subscriptions) ToWire(info, bridge, response->add_subscriptions());
  response->set_next_page_token(PageTokenOf(page.next));
  return call->Answer(absl::OkStatus());
}

void SubscriptionService::WatchSubscriptions(Call* call, const v1::WatchSubscriptionsRequest* request) {
  watches_.Watch(call, request->event());
}

}  // namespace eventvirtual
