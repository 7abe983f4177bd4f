#include "server/rpc/calls.h"

#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/proto_buffer_writer.h>

#include <algorithm>
#include <map>
#include <optional>

#include "absl/strings/str_cat.h"
#include "server/endpoint/endpoint.h"
#include "transports/api/begin_thread.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

// Of gRPC's work one thread does more on two processors than two do, which wake each other; a service with many
// connections on a large machine is not to wait for one.
size_t QueueCount() { return std::clamp(std::thread::hardware_concurrency() / 4, 1u, 4u); }

// Offers. What unary calls raise that have come together leaves together: most of their cost is waking who sends it.
constexpr size_t kMostTogether = 16;

const grpc::Status& Unreadable() {
  static const auto* const status = new grpc::Status(grpc::StatusCode::INTERNAL, "the request cannot be parsed");
  return *status;
}

grpc::ByteBuffer BytesOf(const google::protobuf::MessageLite& message) {
  grpc::ByteBuffer bytes;
  bool own;
  EV_CHECK(
      (grpc::GenericSerialize<grpc::ProtoBufferWriter, google::protobuf::MessageLite>(message, &bytes, &own).ok()));
  return bytes;
}

}  // namespace

struct Call::Method {
  std::string path;  // "/SERVICE/NAME"
  grpc::internal::RpcMethod::RpcType type;
  std::function<void(Call*)> begin;
  Calls::Service* service = nullptr;
  int index = 0;                         // in it
  CallCounts::Method* counts = nullptr;  // null: it is not counted
};

// What gRPC has to know of the methods of one service: that their messages are ours to read and write.
class Calls::Service final : public grpc::Service {
 public:
  int Add(const Call::Method& method) {
    AddMethod(new grpc::internal::RpcServiceMethod(method.path.c_str(), method.type, nullptr));
    MarkMethodRaw(count_);
    return count_++;
  }
  // A method that begins with one request, and one that does not.
  using grpc::Service::RequestAsyncBidiStreaming;
  using grpc::Service::RequestAsyncUnary;

 private:
  int count_ = 0;
};

// Waits for a client that wants it.
Call::Call(Calls& calls, const Method& method, grpc::ServerCompletionQueue& queue)
    : calls_(calls), method_(method), queue_(queue) {
  calls_.calls_.fetch_add(1, std::memory_order_relaxed);
  context_.AsyncNotifyWhenDone(&ended_tag_);
  if (method_.type == grpc::internal::RpcMethod::BIDI_STREAMING) {
    method_.service->RequestAsyncBidiStreaming(method_.index, &context_, &stream_, &queue_, &queue_, &begun_tag_);
  } else {
    method_.service->RequestAsyncUnary(method_.index, &context_, &bytes_, &stream_, &queue_, &queue_, &begun_tag_);
  }
}

bool Call::unary() const { return method_.type == grpc::internal::RpcMethod::NORMAL_RPC; }

Call::~Call() {
  Calls& calls = calls_;
  if (calls.calls_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  MutexLock lock(&calls.mutex_);
  calls.none_.SignalAll();
}

void Call::OnBegun(bool ok) {
  if (!ok) {  // the server is stopping: nothing else comes
    delete this;
    return;
  }
  new Call(calls_, method_, queue_);
  if (method_.counts != nullptr) {
    begun_ = calls_.clock_->Now();
    method_.counts->started.fetch_add(1, std::memory_order_relaxed);
  }
  method_.begin(this);
}

bool Call::Parse(google::protobuf::MessageLite* request) {
  if (ParseBytes(request)) return true;
  Finish(Unreadable());
  return false;
}

bool Call::ParseBytes(google::protobuf::MessageLite* request) {
  grpc::ProtoBufferReader reader(&bytes_);
  const bool parsed = reader.status().ok() && request->ParseFromZeroCopyStream(&reader);
  bytes_.Clear();
  return parsed;
}

void Call::StartSendInitialMetadata() {
  open_.fetch_add(1, std::memory_order_relaxed);
  stream_.SendInitialMetadata(&written_tag_);
}

void Call::StartRead(google::protobuf::MessageLite* request) {
  open_.fetch_add(1, std::memory_order_relaxed);
  request_ = request;
  stream_.Read(&bytes_, &read_tag_);
}

void Call::StartRead(grpc::ByteBuffer* bytes) {
  open_.fetch_add(1, std::memory_order_relaxed);
  request_ = nullptr;
  stream_.Read(bytes, &read_tag_);
}

void Call::StartWrite(const google::protobuf::MessageLite& response) {
  open_.fetch_add(1, std::memory_order_relaxed);
  stream_.Write(BytesOf(response), &written_tag_);
}

void Call::Finish(const grpc::Status& said, const google::protobuf::MessageLite* response) {
  const grpc::Status& status = unreadable_.load(std::memory_order_acquire) ? Unreadable() : said;
  if (method_.counts != nullptr) {
    method_.counts->End(static_cast<size_t>(status.error_code()), calls_.clock_->Now() - begun_);
  }
  if (response != nullptr && status.ok()) {
    stream_.WriteAndFinish(BytesOf(*response), grpc::WriteOptions(), status, &finished_tag_);
  } else {
    stream_.Finish(status, &finished_tag_);
  }
}

void Call::OnRead(bool ok) {
  if (ok && request_ != nullptr && !ParseBytes(request_)) {
    unreadable_.store(true, std::memory_order_release);
    ok = false;
  }
  reactor_->OnReadDone(ok);
  Release();
}

void Call::OnWritten(bool ok) {
  reactor_->OnWriteDone(ok);
  Release();
}

void Call::OnFinished(bool) { Release(); }

void Call::OnEnded(bool) {
  if (reactor_ != nullptr && context_.IsCancelled()) reactor_->OnCancel();
  Release();
}

void Call::Release() {
  if (open_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (reactor_ != nullptr) reactor_->OnDone();
  delete this;
}

Calls::Calls(size_t queues) : queue_count_(queues == 0 ? QueueCount() : queues) {}

Calls::~Calls() { Stop(); }

void Calls::Add(const std::string& method, grpc::internal::RpcMethod::RpcType type, std::function<void(Call*)> begin) {
  auto added = std::make_unique<Call::Method>();
  added->path = absl::StrCat("/", method);
  added->type = type;
  added->begin = std::move(begin);
  methods_.push_back(std::move(added));
}

void Calls::AddStream(const std::string& method, std::function<void(Call* call)> handler) {
  Add(method, grpc::internal::RpcMethod::BIDI_STREAMING, std::move(handler));
}

void Calls::Register(CallCounts* counts, const Clock& clock, grpc::ServerBuilder* builder) {
  clock_ = &clock;
  std::map<std::string, Service*> by_name;
  for (const std::unique_ptr<Call::Method>& method : methods_) {
    const size_t slash = method->path.rfind('/');
    const std::string service = method->path.substr(1, slash - 1);
    Service*& found = by_name[service];
    if (found == nullptr) found = services_.emplace_back(std::make_unique<Service>()).get();
    method->service = found;
    method->index = found->Add(*method);
    if (counts == nullptr) continue;
    counts->Add(service, method->path.substr(slash + 1), method->type != grpc::internal::RpcMethod::NORMAL_RPC);
    method->counts = counts->Find(method->path);
  }
  for (const std::unique_ptr<Service>& service : services_) builder->RegisterService(service.get());
  for (size_t i = 0; i < queue_count_; ++i) queues_.push_back(builder->AddCompletionQueue());
}

void Calls::Serve() {
  for (const auto& queue : queues_) {
    for (const std::unique_ptr<Call::Method>& method : methods_) new Call(*this, *method, *queue);
  }
  for (size_t i = 0; i < queues_.size(); ++i) {
    threads_.emplace_back([this, i] { Run(*queues_[i], i); });
  }
}

void Calls::Run(grpc::ServerCompletionQueue& queue, size_t number) {
  BeginThread(absl::StrCat("ev-rpc-", number));
  std::optional<Cork> together;               // while there are offers that wait for more
  const Call::Method* together_of = nullptr;  // the calls of this method
  void* tag;
  bool ok;
  for (;;) {
    const gpr_timespec until =
        together.has_value() ? gpr_inf_past(GPR_CLOCK_REALTIME) : gpr_inf_future(GPR_CLOCK_REALTIME);
    const grpc::CompletionQueue::NextStatus next = queue.AsyncNext(&tag, &ok, until);
    if (next == grpc::CompletionQueue::SHUTDOWN) return;
    if (next == grpc::CompletionQueue::TIMEOUT) {  // nothing else has come
      together.reset();
      continue;
    }
    const Call::Tag& come = *static_cast<Call::Tag*>(tag);
    // What another method does, an Unsubscribe for one, comes behind what has been raised. And a stream's batches have
    // corks of their own, which end many times within a batch.
    if (together.has_value() && together_of != &come.call->method_) together.reset();
    if (!together.has_value() && come.call->unary()) {
      together.emplace(Cork::For::kFewRaises);
      together_of = &come.call->method_;
    }
    const bool begins = come.run == &Call::OnBegun;
    const size_t before = Cork::offers();
    (come.call->*come.run)(ok);
    const size_t offers = Cork::offers();
    // What is no raise may take long, and the next may be of its kind.
    if (offers == 0 || offers >= kMostTogether || (begins && offers == before)) together.reset();
  }
}

void Calls::Stop() {
  if (!threads_.empty()) {
    MutexLock lock(&mutex_);
    while (calls_.load(std::memory_order_acquire) > 0) none_.Wait(&mutex_);
  }
  for (const auto& queue : queues_) queue->Shutdown();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  queues_.clear();
}

}  // namespace eventvirtual
