#include "server/rpc/event_service.h"

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/wire.h"
#include "transports/api/ref.h"

namespace eventvirtual {
namespace {

constexpr int kMaxBatch = 10000;         // events in one RaiseStreamRequest
constexpr uint32_t kMaxUnanswered = 64;  // batches of one stream

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

absl::Status CheckWait(v1::Wait wait) {
  if (wait == v1::WAIT_DURABLE)
    return absl::UnimplementedError("wait: WAIT_DURABLE needs a journal, which is not built yet");
  if (!v1::Wait_IsValid(wait)) return absl::InvalidArgumentError("wait: give WAIT_ACCEPTED or WAIT_DELIVERED");
  return absl::OkStatus();
}

// What a caller must hear at once, when it does not wait for the end or the end is clear.
absl::Status StatusOf(const RaiseReceipt& receipt, absl::string_view event) {
  if (!receipt.known) return absl::NotFoundError(absl::StrCat("event \"", event, "\" is not known (--strict_events)"));
  if (receipt.matched > 0 && receipt.accepted == 0) return receipt.refusal;
  return absl::OkStatus();
}

bool IsWholeSuccess(absl::Span<const DeliveryResult> deliveries) {
  for (const DeliveryResult& delivery : deliveries) {
    if (delivery.outcome != DeliveryResult::Outcome::kDelivered) return false;
  }
  return true;
}

// For methods of a later version.
template <typename Reactor>
class Unimplemented final : public Reactor {
 public:
  explicit Unimplemented(const char* what) { this->Finish(grpc::Status(grpc::StatusCode::UNIMPLEMENTED, what)); }
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerUnaryReactor* EventService::Raise(grpc::CallbackServerContext* context, const v1::RaiseRequest* request,
                                              v1::RaiseResponse* response) {
  if (absl::Status status = CheckWait(request->wait()); !status.ok()) return Answer(context, status);
  const absl::StatusOr<MessageRef> message = MessageFromWire(request->event());
  if (!message.ok()) return Answer(context, message.status());
  response->set_event_id(std::string((*message)->event_id()));
  const absl::Status nobody =
      absl::FailedPreconditionError(absl::StrCat("nobody is subscribed to event \"", (*message)->name(), "\""));

  if (request->wait() != v1::WAIT_DELIVERED) {
    const RaiseReceipt receipt = dispatcher_.Raise(*message, nullptr);
    response->set_matched_subscriptions(receipt.matched);
    if (receipt.known && receipt.matched == 0 && request->require_subscribers()) return Answer(context, nobody);
    return Answer(context, StatusOf(receipt, request->event().name()));
  }

  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const bool require_subscribers = request->require_subscribers();
  const RaiseReceipt receipt = dispatcher_.Raise(
      *message, [reactor, response, require_subscribers, nobody](absl::Span<const DeliveryResult> deliveries) {
        response->set_matched_subscriptions(static_cast<uint32_t>(deliveries.size()));
        for (const DeliveryResult& delivery : deliveries) ToWire(delivery, response->add_deliveries());
        reactor->Finish(ToGrpc(deliveries.empty() && require_subscribers ? nobody : absl::OkStatus()));
      });
  if (!receipt.known) reactor->Finish(ToGrpc(StatusOf(receipt, request->event().name())));
  return reactor;
}

// One RaiseStream. The reader stops while kMaxUnanswered batches are open; answers are written as batches end.
class EventService::Stream final : public grpc::ServerBidiReactor<v1::RaiseStreamRequest, v1::RaiseStreamResponse> {
 public:
  explicit Stream(EventService& service) : service_(service) {}

  void Start() {
    {
      MutexLock lock(&mutex_);
      reading_ = true;
    }
    StartRead(&request_);
  }

  // Reads no further; ends when all that was read has been answered.
  void End() {
    {
      MutexLock lock(&mutex_);
      ending_ = true;
    }
    Step();
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      {
        MutexLock lock(&mutex_);
        reading_ = false;
        read_all_ = true;
      }
      return Step();
    }
    {
      MutexLock lock(&mutex_);
      if (finished_) return;  // it came while the stream was ending: it gets no answer and was not taken
      ++unanswered_;
    }
    auto* const batch = new Batch(*this, request_);
    request_.Clear();
    batch->Raise();
    {
      MutexLock lock(&mutex_);
      reading_ = false;
    }
    Step();
  }
  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(&mutex_);
      writing_ = false;
      --unanswered_;
      if (!ok) read_all_ = true;
    }
    Step();
  }
  void OnCancel() override { End(); }
  void OnDone() override {
    MutexLock lock(&service_.mutex_);
    service_.streams_.erase(this);
    delete this;
  }

 private:
  // One request on its way. Freed when its last event has ended.
  class Batch {
   public:
    Batch(Stream& stream, const v1::RaiseStreamRequest& request)
        : stream_(stream),
          events_(request.events().begin(), request.events().end()),
          wait_(request.wait()),
          open_(events_.size() + 1) {
      response_.set_sequence(request.sequence());
    }

    void Raise() {
      absl::Status status = CheckWait(wait_);
      if (events_.size() > kMaxBatch) {
        status = absl::InvalidArgumentError(absl::StrCat(events_.size(), " events in one batch; at most ", kMaxBatch));
      }
      for (size_t i = 0; i < events_.size(); ++i) {
        if (status.ok()) {
          RaiseOne(static_cast<uint32_t>(i));
        } else {
          EndOne(static_cast<uint32_t>(i), status, {});
        }
      }
      Release();
    }

   private:
    void RaiseOne(uint32_t index) {
      const absl::StatusOr<MessageRef> message = MessageFromWire(events_[index]);
      if (!message.ok()) return EndOne(index, message.status(), {});
      if (wait_ != v1::WAIT_DELIVERED) {
        const RaiseReceipt receipt = stream_.service_.dispatcher_.Raise(*message, nullptr);
        return EndOne(index, StatusOf(receipt, events_[index].name()), {});
      }
      const RaiseReceipt receipt =
          stream_.service_.dispatcher_.Raise(*message, [this, index](absl::Span<const DeliveryResult> deliveries) {
            EndOne(index,
                   IsWholeSuccess(deliveries)
                       ? absl::OkStatus()
                       : absl::UnavailableError("not delivered to every subscription that matched; see deliveries"),
                   deliveries);
          });
      if (!receipt.known) EndOne(index, StatusOf(receipt, events_[index].name()), {});
    }

    void EndOne(uint32_t index, const absl::Status& status, absl::Span<const DeliveryResult> deliveries) {
      {
        MutexLock lock(&mutex_);
        if (status.ok()) {
          response_.set_succeeded(response_.succeeded() + 1);
        } else {
          v1::RaiseFailure* const failure = response_.add_failures();
          failure->set_index(index);
          failure->set_code(static_cast<int32_t>(status.code()));
          failure->set_message(std::string(status.message()));
          for (const DeliveryResult& delivery : deliveries) ToWire(delivery, failure->add_deliveries());
        }
      }
      Release();
    }

    void Release() {
      if (open_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
      Stream& stream = stream_;
      {
        MutexLock lock(&stream.mutex_);
        stream.answers_.push_back(std::move(response_));
      }
      delete this;
      stream.Step();
    }

    Stream& stream_;
    std::vector<v1::Event> events_;
    const v1::Wait wait_;
    std::atomic<size_t> open_;
    Mutex mutex_;
    v1::RaiseStreamResponse response_ ABSL_GUARDED_BY(mutex_);
  };

  // Starts what may be started: a write, a read, or the end. No call into gRPC is made under the lock.
  void Step() {
    bool write = false, read = false, finish = false;
    {
      MutexLock lock(&mutex_);
      if (finished_) return;
      if (!writing_ && !answers_.empty()) {
        write = writing_ = true;
        response_ = std::move(answers_.front());
        answers_.pop_front();
      }
      if (!reading_ && !read_all_ && !ending_ && unanswered_ < kMaxUnanswered) read = reading_ = true;
      // A read that is out when the server stops is ended by Finish().
      if (unanswered_ == 0 && (read_all_ || ending_)) finish = finished_ = true;
    }
    if (write) StartWrite(&response_);
    if (read) StartRead(&request_);
    if (finish) Finish(grpc::Status::OK);
  }

  EventService& service_;
  v1::RaiseStreamRequest request_;
  v1::RaiseStreamResponse response_;

  Mutex mutex_;
  std::deque<v1::RaiseStreamResponse> answers_ ABSL_GUARDED_BY(mutex_);
  uint32_t unanswered_ ABSL_GUARDED_BY(mutex_) = 0;  // batches read whose answer is not yet written
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool read_all_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

grpc::ServerBidiReactor<v1::RaiseStreamRequest, v1::RaiseStreamResponse>* EventService::RaiseStream(
    grpc::CallbackServerContext*) {
  auto* const stream = new Stream(*this);
  bool ending;
  {
    MutexLock lock(&mutex_);
    streams_.insert(stream);
    ending = ending_;
  }
  if (ending) {
    stream->End();
  } else {
    stream->Start();
  }
  return stream;
}

void EventService::EndStreams() {
  MutexLock lock(&mutex_);
  ending_ = true;
  for (Stream* stream : streams_) stream->End();
}

grpc::ServerBidiReactor<v1::ListenRequest, v1::ListenResponse>* EventService::Listen(grpc::CallbackServerContext*) {
  return new Unimplemented<grpc::ServerBidiReactor<v1::ListenRequest, v1::ListenResponse>>(
      "Listen comes with the stream: transport, which is not built yet");
}

grpc::ServerUnaryReactor* EventService::ListEvents(grpc::CallbackServerContext* context,
                                                   const v1::ListEventsRequest* request,
                                                   v1::ListEventsResponse* response) {
  const absl::StatusOr<size_t> size = PageSizeFromWire(request->page_size());
  if (!size.ok()) return Answer(context, size.status());
  const std::vector<Registry::EventInfo> events = registry_.ListEvents(request->page_token(), *size);
  const ClockBridge bridge(registry_.clock());
  for (const Registry::EventInfo& event : events) {
    v1::ListEventsResponse::Entry* const entry = response->add_events();
    entry->set_name(event.name);
    entry->set_raised_count(event.raised);
    if (event.raised > 0) {
      const timespec wall = absl::ToTimespec(bridge.ToWall(event.last_raised));
      entry->mutable_last_raised_time()->set_seconds(wall.tv_sec);
      entry->mutable_last_raised_time()->set_nanos(static_cast<int32_t>(wall.tv_nsec));
    }
    entry->set_subscription_count(event.subscriptions);
  }
  if (events.size() == *size) response->set_next_page_token(events.back().name);
  return Answer(context, absl::OkStatus());
}

grpc::ServerWriteReactor<v1::WatchDeliveriesResponse>* EventService::WatchDeliveries(
    grpc::CallbackServerContext*, const v1::WatchDeliveriesRequest*) {
  return new Unimplemented<grpc::ServerWriteReactor<v1::WatchDeliveriesResponse>>("WatchDeliveries is not built yet");
}

}  // namespace eventvirtual
