#include "server/rpc/event_service.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/endpoint/endpoint.h"
#include "server/rpc/event_reader.h"
#include "server/rpc/wire.h"
#include "transports/api/check.h"
#include "transports/api/ref.h"

namespace eventvirtual {
namespace {

constexpr int kMaxBatch = 10000;             // events in one RaiseStreamRequest
constexpr uint32_t kMaxUnanswered = 64;      // batches of one stream
constexpr uint32_t kMaxPaced = 2;            // batches of one stream whose work the loops have not done, under Load
constexpr size_t kMaxSpares = 4;             // requests of one stream that are kept to be parsed into again, of
constexpr size_t kMaxSpareEvents = 1024;     // so many events each
constexpr size_t kMaxTold = 16 << 10;        // bytes of failures in one answer; further ones are told without a text
constexpr int64_t kMaxHeld = 4 << 20;        // bytes that the open batches of one stream hold, and its unread answers
constexpr int64_t kMaxHeldByAll = 32 << 20;  // of all streams: from there on, each has one batch open at most
constexpr size_t kEventCost = 256;           // bytes of an event that is out, besides those of its encoding
constexpr size_t kMaxWatches = 32;           // of deliveries; each is told of all that ends
constexpr int kCorked = 64;                  // events that are raised before anybody is woken for them

absl::Status CheckWait(int wait, const Dispatcher& dispatcher) {
  if (wait == v1::WAIT_DURABLE && !dispatcher.keeps_durable()) {
    return absl::FailedPreconditionError(
        "wait: this server keeps no events, so there is no WAIT_DURABLE; start it with --data_dir=DIR");
  }
  if (!v1::Wait_IsValid(wait)) {
    return absl::InvalidArgumentError("wait: give WAIT_ACCEPTED, WAIT_DURABLE or WAIT_DELIVERED");
  }
  return absl::OkStatus();
}

Demand DemandOf(int wait) { return wait == v1::WAIT_DURABLE ? Demand::kDurable : Demand::kNone; }

// What a caller must hear at once, when it does not wait for the end or the end is clear.
absl::Status StatusOf(const RaiseReceipt& receipt, Demand demand, absl::string_view event) {
  if (receipt.looped) return receipt.refusal;
  if (!receipt.known) return UnknownEvent(event);
  if (receipt.shed) return receipt.refusal;
  if (demand == Demand::kDurable && receipt.matched > 0 && receipt.durable == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("wait: none of the ", receipt.matched, " subscriptions that event \"", event,
                     "\" matches is durable, and nothing was done; subscribe with delivery.durable, or wait for less"));
  }
  if (receipt.matched > 0 && receipt.accepted + receipt.durable == 0) return receipt.refusal;
  return absl::OkStatus();
}

absl::Status Nobody(absl::string_view event) {
  return absl::FailedPreconditionError(absl::StrCat("nobody is subscribed to event \"", event, "\""));
}

bool IsFiltered(const DeliveryResult& delivery) { return delivery.outcome == DeliveryResult::Outcome::kFiltered; }

bool IsWholeSuccess(absl::Span<const DeliveryResult> deliveries) {
  return std::all_of(deliveries.begin(), deliveries.end(), [](const DeliveryResult& delivery) {
    return delivery.outcome == DeliveryResult::Outcome::kDelivered || IsFiltered(delivery);
  });
}

absl::Status NotWhole() {
  return absl::UnavailableError("not delivered to every subscription that matched; see deliveries");
}

// Whether a repeat would bring it a second time to somebody, or nobody wants it.
bool IsTaken(absl::Span<const DeliveryResult> deliveries) {
  const auto took = [](const DeliveryResult& delivery) {
    return delivery.outcome != DeliveryResult::Outcome::kFailed &&
           delivery.outcome != DeliveryResult::Outcome::kDropped;
  };
  return deliveries.empty() || std::any_of(deliveries.begin(), deliveries.end(), took);
}

grpc::Status ServerIsStopping() { return {grpc::StatusCode::UNAVAILABLE, "the server is stopping; listen again"}; }

}  // namespace

void EventService::Raise(UnaryCall* call, const v1::RaiseRequest* request, v1::RaiseResponse* response) {
  if (absl::Status status = CheckWait(request->wait(), dispatcher_); !status.ok()) return call->Answer(status);
  if (rates_ != nullptr) {
    const absl::Status status = rates_->Take(gate_->PrincipalOf(call->context()), dispatcher_.clock().Now());
    if (!status.ok()) return call->Answer(status);
  }
  const absl::StatusOr<MessageRef> message =
      MessageFromWire(request->event(), limits_, absl::Now(), CallContextOf(call->context()));
  if (!message.ok()) return call->Answer(message.status());
  response->set_event_id(std::string((*message)->event_id()));
  const std::string& id = request->event().event_id();
  if (!id.empty() && !raised_.Claim(id, dispatcher_.clock().Now(),
                                    [call, response](const absl::Status& status, const v1::RaiseResponse& first, bool) {
                                      *response = first;
                                      call->Finish(ToGrpc(status));
                                    })) {
    return;
  }
  // `taken`: a repeat is not to be delivered.
  const auto answer = [this, call, request, response](const absl::Status& status, bool taken) {
    const std::string& claimed = request->event().event_id();
    if (!claimed.empty()) raised_.Answered(claimed, status, *response, status.ok() && taken);
    call->Finish(ToGrpc(status));
  };
  if (request->wait() != v1::WAIT_DELIVERED) {
    const Demand demand = DemandOf(request->wait());
    const RaiseReceipt receipt = dispatcher_.Raise(*message, nullptr, dispatcher_.clock().Now(), demand);
    response->set_matched_subscriptions(receipt.matched);
    absl::Status status = StatusOf(receipt, demand, request->event().name());
    if (status.ok() && receipt.matched + receipt.filtered == 0 && request->require_subscribers()) {
      status = Nobody(request->event().name());
    }
    if (!status.ok() || !receipt.commit) {
      answer(status, true);
    } else {
      receipt.commit->Then([answer](absl::Status written) { answer(written, true); });
    }
    return;
  }

  const RaiseReceipt receipt =
      dispatcher_.Raise(*message, [answer, request, response](absl::Span<const DeliveryResult> deliveries) {
        const auto filtered = std::count_if(deliveries.begin(), deliveries.end(), IsFiltered);
        response->set_matched_subscriptions(static_cast<uint32_t>(deliveries.size() - filtered));
        for (const DeliveryResult& delivery : deliveries) ToWire(delivery, response->add_deliveries());
        const bool refuse = deliveries.empty() && request->require_subscribers();
        answer(refuse ? Nobody(request->event().name()) : absl::OkStatus(), IsTaken(deliveries));
      });
  if (!receipt.taken()) answer(StatusOf(receipt, Demand::kNone, request->event().name()), false);
}

// One RaiseStream. The reader stops while kMaxUnanswered batches are open, or as many as it has room for; answers are
// written as batches end.
class EventService::Stream final : public StreamReactor<grpc::ByteBuffer, v1::RaiseStreamResponse> {
  class Batch;

 public:
  // `rate` is null where there is none.
  Stream(Call* call, EventService& service, std::shared_ptr<Rate> rate)
      : StreamReactor(call), service_(service), context_(CallContextOf(call->context())), rate_(std::move(rate)) {}

  // Reads no further; ends when all that was read has been answered.
  void End() {
    {
      MutexLock lock(&mutex_);
      ending_ = true;
    }
    Step();
  }

  // Takes in an answer, if any, and starts what may be started: a write, a read, or the end. No call into gRPC is made
  // under the lock. Without anything to start, the stream may be gone when the lock is: another thread has ended it.
  void Step(std::unique_ptr<Batch> ended = nullptr, bool round_ended = false) {
    bool write = false, read = false, finish = false;
    {
      MutexLock lock(&mutex_);
      if (ended != nullptr) TakeAnswer(&ended);
      if (round_ended) --rounds_;
      if (finished_) return;
      if (!writing_ && !answers_.empty()) {
        write = writing_ = true;
        response_ = std::move(answers_.front());
        answers_.pop_front();
      }
      if (!reading_ && !read_all_ && !ending_ && HasRoom()) {
        read = reading_ = true;
        if (next_ == nullptr) next_ = NewBatch();
      }
      if (write || read) {
        ++starting_;
      } else {
        finish = MayFinish();
      }
    }
    if (write) StartWrite(&response_);
    if (read) StartRead(&next_->bytes);
    if (write || read) {
      MutexLock lock(&mutex_);
      --starting_;
      finish = MayFinish();
    }
    if (finish) Finish(fault_);
  }

  void OnReadDone(bool ok) override {
    if (ok) {
      const absl::Status status = next_->Read();
      if (!status.ok()) fault_ = ToGrpc(status);
      ok = status.ok();
    }
    if (ok) {
      {
        MutexLock lock(&mutex_);
        if (finished_) return;  // it came while the stream was ending: it gets no answer and was not taken
        ++unanswered_;
      }
      next_.release()->Raise();
    }
    const bool paced = ok && service_.load_.Paces();
    {
      MutexLock lock(&mutex_);
      if (paced) ++rounds_;
      reading_ = false;
      if (!ok) read_all_ = true;
    }
    if (paced) service_.load_.AfterRound([this] { Step(nullptr, /*round_ended=*/true); });
    Step();
  }
  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(&mutex_);
      writing_ = false;
      Hold(-CostOf(response_));
      --unanswered_;
      if (!ok) read_all_ = true;
    }
    Step();
  }
  void OnCancel() override { End(); }
  void OnDone() override {
    {
      MutexLock lock(&mutex_);
      Hold(-held_);
    }
    MutexLock lock(&service_.mutex_);
    service_.streams_.erase(this);
    delete this;
  }

 private:
  // One request on its way; owns itself from Raise() until its last event has ended. Then its answer is taken, and it
  // may serve another request.
  class Batch {
   public:
    explicit Batch(Stream& stream) : stream_(stream) {}

    // What has come in `bytes`. INVALID_ARGUMENT: it is no RaiseStreamRequest.
    absl::Status Read() {
      if (!bytes.TrySingleSlice(&text_).ok()) EV_CHECK(bytes.DumpToSingleSlice(&text_).ok());
      bytes.Clear();
      return ReadBatch(absl::string_view(reinterpret_cast<const char*>(text_.begin()), text_.size()), &request_);
    }

    void Raise() {
      const int count = static_cast<int>(request_.events.size());
      ids_.assign(request_.events.size(), {});
      response.Clear();
      response.set_sequence(request_.sequence);
      absl::Status refusal = CheckWait(request_.wait, stream_.service_.dispatcher_);
      if (count > kMaxBatch) {
        refusal = absl::InvalidArgumentError(absl::StrCat(count, " events in one batch; at most ", kMaxBatch));
      }
      succeeded_.store(0, std::memory_order_relaxed);
      open_.store(1, std::memory_order_relaxed);
      held = 0;
      told_ = 0;
      const absl::Time received = absl::Now();
      EventReader reader;
      for (int from = 0; from < count; from += kCorked) {
        const RaiseBatch batch;
        const absl::Time now = stream_.service_.dispatcher_.clock().Now();
        for (int i = from; i < std::min(count, from + kCorked); ++i) {
          if (refusal.ok()) {
            RaiseOne(reader, i, received, now);
          } else {
            EndOne(i, refusal, {});
          }
        }
      }
      // What goes on is asked for its events' ids when they end.
      if (open_.load(std::memory_order_relaxed) > 1) {
        held = static_cast<int64_t>(text_.size() + ids_.size() * kEventCost);
        MutexLock lock(&stream_.mutex_);
        stream_.Hold(held);
      }
      Release();
    }

    // To be kept for another request: it holds little.
    bool IsSpare() const { return ids_.capacity() <= kMaxSpareEvents && response.failures_size() == 0; }

    int64_t held = 0;                  // as the stream's books have it
    grpc::ByteBuffer bytes;            // to be read into
    v1::RaiseStreamResponse response;  // the failures under the lock while events are out

   private:
    // `received` by the wall's clock, `now` by the registry's.
    void RaiseOne(EventReader& reader, int index, absl::Time received, absl::Time now) {
      if (stream_.rate_ != nullptr) {
        if (absl::Status status = stream_.rate_->Take(now); !status.ok()) return EndOne(index, status, {});
      }
      WireEvent event;
      if (absl::Status status = reader.Read(request_.events[index], &event); !status.ok()) {
        return EndOne(index, status, {});
      }
      absl::StatusOr<MessageRef> message = MessageFromWire(event, stream_.service_.limits_, received, stream_.context_);
      if (!message.ok()) return EndOne(index, message.status(), {});
      ids_[index] = event.event_id;
      if (!event.event_id.empty() && IsRepeat(index, now)) return;
      Dispatcher& dispatcher = stream_.service_.dispatcher_;
      if (request_.wait != v1::WAIT_DELIVERED) {
        const Demand demand = DemandOf(request_.wait);
        const RaiseReceipt receipt = dispatcher.Raise(*std::move(message), nullptr, now, demand);
        const absl::Status status = StatusOf(receipt, demand, event.name);
        if (!status.ok() || !receipt.commit) return EndFirst(index, status, {}, receipt.matched);
        open_.fetch_add(1, std::memory_order_relaxed);
        receipt.commit->Then([this, index, matched = receipt.matched](absl::Status written) {
          EndFirst(index, written, {}, matched);
          Release();
        });
        return;
      }
      open_.fetch_add(1, std::memory_order_relaxed);
      const RaiseReceipt receipt = dispatcher.Raise(
          *std::move(message),
          [this, index](absl::Span<const DeliveryResult> deliveries) {
            EndFirst(index, IsWholeSuccess(deliveries) ? absl::OkStatus() : NotWhole(), deliveries,
                     static_cast<uint32_t>(deliveries.size()));
            Release();
          },
          now);
      if (receipt.taken()) return;
      EndFirst(index, StatusOf(receipt, Demand::kNone, event.name), {}, 0);
      Release();
    }

    // Somebody has raised an event of this id lately: this one ends as that one does.
    bool IsRepeat(int index, absl::Time now) {
      open_.fetch_add(1, std::memory_order_relaxed);
      const bool first = stream_.service_.raised_.Claim(
          std::string(ids_[index]), now,
          [this, index](const absl::Status& status, const v1::RaiseResponse& first, bool whole) {
            if (status.ok() && !whole) {
              Fail(index, NotWhole(),
                   [&first](v1::RaiseFailure* failure) { *failure->mutable_deliveries() = first.deliveries(); });
            } else {
              EndOne(index, status, {});
            }
            Release();
          });
      if (first) open_.fetch_sub(1, std::memory_order_relaxed);  // RaiseOne() is still counted
      return !first;
    }

    // Of an event that is no repeat.
    void EndFirst(int index, const absl::Status& status, absl::Span<const DeliveryResult> deliveries,
                  uint32_t matched) {
      if (!ids_[index].empty()) {
        const std::string id(ids_[index]);
        v1::RaiseResponse answer;
        answer.set_event_id(id);
        answer.set_matched_subscriptions(matched);
        if (!status.ok()) {
          for (const DeliveryResult& delivery : deliveries) ToWire(delivery, answer.add_deliveries());
        }
        // A failed delivery is in the answer and no failure of the call, as for Raise.
        const bool ended = status.ok() || !deliveries.empty();
        stream_.service_.raised_.Answered(id, ended ? absl::OkStatus() : status, answer, ended && IsTaken(deliveries));
      }
      EndOne(index, status, deliveries);
    }

    void EndOne(int index, const absl::Status& status, absl::Span<const DeliveryResult> deliveries) {
      if (status.ok()) {
        succeeded_.fetch_add(1, std::memory_order_relaxed);
        return;
      }
      Fail(index, status, [deliveries](v1::RaiseFailure* failure) {
        for (const DeliveryResult& delivery : deliveries) ToWire(delivery, failure->add_deliveries());
      });
    }

    void Fail(int index, const absl::Status& status, absl::FunctionRef<void(v1::RaiseFailure*)> add_deliveries) {
      MutexLock lock(&mutex_);
      v1::RaiseFailure* const failure = response.add_failures();
      failure->set_index(static_cast<uint32_t>(index));
      failure->set_code(static_cast<int32_t>(status.code()));
      if (told_ > kMaxTold) return;
      failure->set_message(std::string(status.message()));
      add_deliveries(failure);
      told_ += failure->ByteSizeLong();
    }

    void Release() {
      if (open_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
      text_ = grpc::Slice();  // a spare holds no request, which may have megabytes
      response.set_succeeded(succeeded_.load(std::memory_order_relaxed));
      stream_.Step(std::unique_ptr<Batch>(this));
    }

    Stream& stream_;
    std::atomic<int> open_{0};  // events that are out, and Raise() itself
    std::atomic<uint32_t> succeeded_{0};
    grpc::Slice text_;  // of the request, into which it and the ids point
    WireBatch request_;
    std::vector<absl::string_view> ids_;  // that were given, by index
    Mutex mutex_;
    size_t told_ ABSL_GUARDED_BY(mutex_) = 0;  // bytes of failures
  };

  // Of an answer that waits to be read.
  static int64_t CostOf(const v1::RaiseStreamResponse& answer) {
    if (answer.failures_size() == 0) return 0;
    return static_cast<int64_t>(answer.ByteSizeLong() + static_cast<size_t>(answer.failures_size()) * kEventCost);
  }

  void Hold(int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (bytes == 0) return;
    held_ += bytes;
    service_.held_.fetch_add(bytes, std::memory_order_relaxed);
  }

  // For a further batch. A stream without any always has: it asks again when one has been answered, and when the loops
  // have done their work for it. Under load the next batch waits at its client, which costs nothing.
  bool HasRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (rounds_ >= kMaxPaced) return false;
    if (unanswered_ == 0) return true;
    const uint32_t most = service_.load_.Paces() ? kMaxPaced : kMaxUnanswered;
    return unanswered_ < most && held_ < kMaxHeld && service_.held_.load(std::memory_order_relaxed) < kMaxHeldByAll;
  }

  // Leaves a batch that is not kept to the caller, who destroys it without the lock. A client that does not read its
  // answers keeps us no spares.
  void TakeAnswer(std::unique_ptr<Batch>* ended) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const bool read = answers_.size() < kMaxSpares;
    if (!read) spares_.clear();
    const bool spare = read && (*ended)->IsSpare() && spares_.size() < kMaxSpares;
    answers_.push_back(std::move((*ended)->response));
    Hold(CostOf(answers_.back()) - (*ended)->held);
    if (spare) spares_.push_back(std::move(*ended));
  }

  // True once: all that was read is answered, and no thread is about to start something.
  bool MayFinish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    // A read that is out when the server stops is ended by Finish().
    if (finished_ || starting_ > 0 || rounds_ > 0 || unanswered_ > 0 || !(read_all_ || ending_)) return false;
    return finished_ = true;
  }

  std::unique_ptr<Batch> NewBatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (spares_.empty()) return std::make_unique<Batch>(*this);
    std::unique_ptr<Batch> batch = std::move(spares_.back());
    spares_.pop_back();
    return batch;
  }

  EventService& service_;
  const CallContext context_;         // for events without their own
  const std::shared_ptr<Rate> rate_;  // null: none
  std::unique_ptr<Batch> next_;       // what is read into; whoever has set reading_ has it
  grpc::Status fault_;                // of what was read; before read_all_ is set
  v1::RaiseStreamResponse response_;  // of who has set writing_

  Mutex mutex_;
  std::deque<v1::RaiseStreamResponse> answers_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Batch>> spares_ ABSL_GUARDED_BY(mutex_);
  int64_t held_ ABSL_GUARDED_BY(mutex_) = 0;  // see kMaxHeld
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  uint32_t rounds_ ABSL_GUARDED_BY(mutex_) = 0;      // batches that the loops may still have work of: AfterRound()
  uint32_t unanswered_ ABSL_GUARDED_BY(mutex_) = 0;  // batches read whose answer is not yet written
  int starting_ ABSL_GUARDED_BY(mutex_) = 0;         // threads that have left the lock to start a read or a write
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;     // or raising what was read: events keep their order
  bool read_all_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

void EventService::RaiseStream(Call* call) {
  std::shared_ptr<Rate> rate;
  if (rates_ != nullptr) rate = rates_->Of(gate_->PrincipalOf(call->context()), dispatcher_.clock().Now());
  auto* const stream = new Stream(call, *this, std::move(rate));
  bool ending;
  {
    MutexLock lock(&mutex_);
    streams_.insert(stream);
    ending = ending_;
  }
  if (ending) {
    stream->End();
  } else {
    stream->Step();
  }
}

void EventService::EndStreams() {
  MutexLock lock(&mutex_);
  ending_ = true;
  for (Stream* stream : streams_) stream->End();
}

void EventService::Listen(Call* call) {
  auto* const stream = new ListenStream(call, listeners_, [this](ListenStream* ended) {
    MutexLock lock(&mutex_);
    listening_.erase(ended);
  });
  bool ending;
  {
    MutexLock lock(&mutex_);
    listening_.insert(stream);
    ending = ending_listeners_;
  }
  stream->Step();
  if (ending) stream->End(ServerIsStopping());
}

bool EventService::HasListeners() {
  MutexLock lock(&mutex_);
  return !listening_.empty();
}

void EventService::EndListeners() {
  MutexLock lock(&mutex_);
  ending_listeners_ = true;
  for (ListenStream* stream : listening_) stream->End(ServerIsStopping());
}

void EventService::ListEvents(UnaryCall* call, const v1::ListEventsRequest* request, v1::ListEventsResponse* response) {
  const absl::StatusOr<size_t> size = PageSizeFromWire(request->page_size());
  if (!size.ok()) return call->Answer(size.status());
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
  return call->Answer(absl::OkStatus());
}

void EventService::WatchDeliveries(Call* call, const v1::WatchDeliveriesRequest* request) {
  const std::string& event = request->event();
  if (const size_t star = event.find('*'); star != std::string::npos && star + 1 < event.size()) {
    return call->Finish(ToGrpc(absl::InvalidArgumentError(
        absl::StrCat("event: byte ", star, " is a '*'; a pattern has one at its end alone"))));
  }
  if (load_.Refuses(Load::Work::kWatching)) {
    return call->Finish(ToGrpc(load_.Refuse(Load::Work::kWatching)));
  }
  DeliveryWatch* watch = nullptr;
  bool ending;
  {
    MutexLock lock(&mutex_);
    ending = ending_watches_;
    if (watches_.size() < kMaxWatches) {
      watch = new DeliveryWatch(call, dispatcher_, load_, watch_counts_, event, request->failures_only(),
                                [this](DeliveryWatch* ended) {
                                  MutexLock lock(&mutex_);
                                  watches_.erase(ended);
                                });
      watches_.insert(watch);
    }
  }
  if (watch == nullptr) {
    return call->Finish(ToGrpc(
        absl::ResourceExhaustedError(absl::StrCat(kMaxWatches, " watch deliveries already; end one of them first"))));
  }
  watch->Start();
  if (ending) watch->End(grpc::Status::OK);
}

void EventService::EndWatches() {
  MutexLock lock(&mutex_);
  ending_watches_ = true;
  for (DeliveryWatch* watch : watches_) watch->End(grpc::Status::OK);
}

}  // namespace eventvirtual
