#include "server/rpc/listen_stream.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/wire.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kGone = "the listener has gone";

void ToWire(const StreamListener::Delivery& delivery, v1::ListenResponse* out) {
  out->set_delivery_id(delivery.id);
  const absl::string_view bytes = delivery.message->encoded(Encoding::kProtobuf);
  EV_CHECK(out->mutable_event()->ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
}

}  // namespace

ListenStream::ListenStream(Call* call, StreamListeners& listeners, std::function<void(ListenStream*)> on_gone)
    : StreamReactor(call), listeners_(listeners), on_gone_(std::move(on_gone)) {
  MutexLock lock(&waker_->mutex);
  waker_->stream = this;
}

void ListenStream::Step() {
  bool write = false, read = false, finish = false;
  {
    MutexLock lock(&mutex_);
    if (finished_) return;
    if (!end_.has_value() && !writing_ && listener_) {
      if (std::optional<StreamListener::Delivery> delivery = listener_->Next()) {
        write = writing_ = true;
        ToWire(*delivery, &response_);
      }
    }
    if (!end_.has_value() && !reading_) read = reading_ = true;
    if (write || read) {
      ++starting_;
    } else {
      finish = MayFinish();
    }
  }
  if (write) StartWrite(&response_);
  if (read) StartRead(&request_);
  if (write || read) {
    MutexLock lock(&mutex_);
    --starting_;
    finish = MayFinish();
  }
  // Nothing changes `end_` once the stream is finished.
  if (finish) Finish(*end_);
}

// True once. A read that is out is ended by Finish().
bool ListenStream::MayFinish() {
  if (finished_ || !end_.has_value() || writing_ || starting_ > 0) return false;
  return finished_ = true;
}

void ListenStream::End(grpc::Status status) {
  Ref<StreamListener> listener;
  std::string name;
  const std::string why = status.error_message().empty() ? std::string(kGone) : status.error_message();
  {
    MutexLock lock(&mutex_);
    if (end_.has_value()) return;
    end_ = std::move(status);
    listener = listener_;
    name = name_;
  }
  if (listener) Drop(name, *listener, why);
  Step();
}

void ListenStream::Drop(const std::string& name, StreamListener& listener, absl::string_view why) {
  listeners_.Detach(name, listener);
  listener.End(absl::UnavailableError(why));
}

// Something may be there to deliver, or another listener has taken over.
void ListenStream::OnWake() {
  absl::Status ended;
  {
    MutexLock lock(&mutex_);
    if (listener_) ended = listener_->ended();
  }
  if (!ended.ok()) return End(ToGrpc(ended));
  Step();
}

absl::Status ListenStream::Take(const v1::ListenRequest& request) {
  Ref<StreamListener> listener;
  {
    MutexLock lock(&mutex_);
    listener = listener_;
  }
  if (!listener) {
    if (absl::Status status = CheckStreamName(request.name()); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("name: ", status.message()));
    }
    if (request.acks_size() + request.nacks_size() > 0) {
      return absl::InvalidArgumentError("acks: nothing has been delivered when the stream begins");
    }
    listener = listeners_.Attach(request.name(), [waker = waker_] {
      MutexLock lock(&waker->mutex);
      if (waker->stream == nullptr) return;
      waker->stream->OnWake();
    });
    bool gone;  // the caller, meanwhile
    {
      MutexLock lock(&mutex_);
      listener_ = listener;
      name_ = request.name();
      gone = end_.has_value();
    }
    if (gone) Drop(request.name(), *listener, kGone);
    return absl::OkStatus();
  }
  if (!request.name().empty()) {
    return absl::InvalidArgumentError("name: it stands in the first request of a stream alone");
  }
  for (uint64_t id : request.acks()) {
    if (absl::Status status = listener->Answer(id, absl::OkStatus()); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("acks: ", status.message()));
    }
  }
  for (uint64_t id : request.nacks()) {
    absl::Status status = listener->Answer(id, absl::UnavailableError("the listener refused the event (nack)"));
    if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat("nacks: ", status.message()));
  }
  return absl::OkStatus();
}

void ListenStream::OnReadDone(bool ok) {
  const absl::Status status = ok ? Take(request_) : absl::OkStatus();
  {
    MutexLock lock(&mutex_);
    reading_ = false;
  }
  if (!ok) return End(grpc::Status::OK);
  if (!status.ok()) return End(ToGrpc(status));
  OnWake();
}

void ListenStream::OnWriteDone(bool) {
  {
    MutexLock lock(&mutex_);
    writing_ = false;
  }
  Step();
}

void ListenStream::OnCancel() { End(grpc::Status::CANCELLED); }

void ListenStream::OnDone() {
  {
    MutexLock lock(&waker_->mutex);
    waker_->stream = nullptr;
  }
  on_gone_(this);
  delete this;
}

}  // namespace eventvirtual
