// Calls: every call of gRPC that is served, from its first byte to its last.
#ifndef EVENTVIRTUAL_SERVER_RPC_CALLS_H_
#define EVENTVIRTUAL_SERVER_RPC_CALLS_H_

#include <google/protobuf/message_lite.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/metrics/call_counts.h"
#include "server/rpc/wire.h"
#include "transports/api/loop.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

class Call;
class Calls;

// Who serves a call hears here what happens to it: on the thread of the call's queue, one after the other, and never
// from inside one of the call's Start…() and Finish().
class CallReactor {
 public:
  virtual void OnReadDone(bool /*ok*/) {}   // false: the client has said all, or the call has ended; see StartRead()
  virtual void OnWriteDone(bool /*ok*/) {}  // of a write or the initial metadata; false: the call has ended
  virtual void OnCancel() {}                // the client has given up, or has gone; Finish() is still to be called
  virtual void OnDone() = 0;                // the last: Finish() has been called and nothing is out any more

 protected:
  ~CallReactor() = default;
};

// One call. At most one read and one write are out at a time.
class Call {
 public:
  const grpc::ServerContextBase& context() const { return context_; }

  // Who serves it. Only inside of the handler; a call that is finished there needs nobody.
  void Bind(CallReactor* reactor) { reactor_ = reactor; }

  // Any thread; each is answered by the reactor's On…Done().
  void StartSendInitialMetadata();
  // Into *request, which stays until then. After one that cannot be parsed there is no other, and the call will end
  // with INTERNAL, whatever Finish() says.
  void StartRead(google::protobuf::MessageLite* request);
  void StartRead(grpc::ByteBuffer* bytes);  // the same, as it comes
  void StartWrite(const google::protobuf::MessageLite& response);

  // Once; any thread. With `response`, if any, in front of an OK.
  void Finish(const grpc::Status& status, const google::protobuf::MessageLite* response = nullptr);

 private:
  friend class Calls;
  struct Method;
  struct Tag {
    Call* call;
    void (Call::*run)(bool ok);
  };

  Call(Calls& calls, const Method& method, grpc::ServerCompletionQueue& queue);
  ~Call();

  bool unary() const;  // one request, one response
  void OnBegun(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);
  void OnEnded(bool ok);
  // The request of a method that has one. False: it cannot be parsed, and the call has been finished.
  bool Parse(google::protobuf::MessageLite* request);
  bool ParseBytes(google::protobuf::MessageLite* request);
  void Release();

  Calls& calls_;
  const Method& method_;
  grpc::ServerCompletionQueue& queue_;
  grpc::ServerContext context_;
  grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer> stream_{&context_};
  grpc::ByteBuffer bytes_;                            // that were read
  google::protobuf::MessageLite* request_ = nullptr;  // of the read that is out; null: of bytes
  CallReactor* reactor_ = nullptr;                    // null: nobody is told
  std::atomic<bool> unreadable_{false};               // what was read last cannot be parsed
  std::atomic<int> open_{2};  // that still come: what was started, and the two that end every call
  absl::Time begun_;          // by the clock of the counts, if any
  Tag begun_tag_{this, &Call::OnBegun}, read_tag_{this, &Call::OnRead}, written_tag_{this, &Call::OnWritten},
      finished_tag_{this, &Call::OnFinished}, ended_tag_{this, &Call::OnEnded};
};

// A call with one request and one response, which are there until it has ended.
class UnaryCall {
 public:
  const grpc::ServerContextBase& context() const { return call_->context(); }

  // Once; any thread. An error is sent without the response.
  virtual void Finish(const grpc::Status& status) = 0;
  void Answer(const absl::Status& status) { Finish(ToGrpc(status)); }

 protected:
  explicit UnaryCall(Call* call) : call_(call) {}
  ~UnaryCall() = default;

  Call* const call_;
};

// To derive from: who serves a call whose server says more than one thing.
template <typename Response>
class WriteReactor : public CallReactor {
 public:
  explicit WriteReactor(Call* call) : call_(call) { call->Bind(this); }

 protected:
  void StartSendInitialMetadata() { call_->StartSendInitialMetadata(); }
  void StartWrite(const Response* response) { call_->StartWrite(*response); }
  void Finish(const grpc::Status& status) { call_->Finish(status); }

  Call* const call_;
};

// And both do.
template <typename Request, typename Response>
class StreamReactor : public WriteReactor<Response> {
 public:
  using WriteReactor<Response>::WriteReactor;

 protected:
  void StartRead(Request* request) { this->call_->StartRead(request); }
};

// The methods that are served, and their calls, on completion queues with a thread each: gRPC's callback API has at
// least two threads, which wake each other for every single thing that happens (docs/decisions/0030-calls.md).
class Calls {
 public:
  template <typename Request, typename Response>
  using UnaryHandler = std::function<void(UnaryCall* call, const Request* request, Response* response)>;

  explicit Calls(size_t queues = 0);  // 0: as many as the machine is good for
  ~Calls();                           // Stop()

  // The methods, by their full names: "eventvirtual.v1.EventService/Raise". Handlers run on a queue's thread, and must
  // not block. The request is there until the handler returns, that of a unary call until it has ended.
  template <typename Request, typename Response>
  void AddUnary(const std::string& method, UnaryHandler<Request, Response> handler);
  template <typename Request>
  void AddServerStream(const std::string& method, std::function<void(Call* call, const Request* request)> handler);
  void AddStream(const std::string& method, std::function<void(Call* call)> handler);

  // When all have been added, once: the server that is built serves them, and tells of them by reflection. Each call is
  // counted in `counts`, which has no methods yet, by `clock`; null: none is. Both outlive this.
  void Register(CallCounts* counts, const Clock& clock, grpc::ServerBuilder* builder);

  // When the server has been built.
  void Serve();

  // When the server has been shut down, and whatever was begun is about to end: waits until the last call has ended,
  // and for the threads. The server is still there.
  void Stop();

 private:
  friend class Call;
  class Service;
  template <typename Request, typename Response>
  struct Unary;

  void Add(const std::string& method, grpc::internal::RpcMethod::RpcType type, std::function<void(Call*)> begin);
  void Run(grpc::ServerCompletionQueue& queue, size_t number);

  const size_t queue_count_;
  std::vector<std::unique_ptr<Call::Method>> methods_;
  std::vector<std::unique_ptr<Service>> services_;
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues_;
  std::vector<std::thread> threads_;
  const Clock* clock_ = nullptr;

  std::atomic<uint64_t> calls_{0};  // that are served, and those that wait for a client
  Mutex mutex_;
  CondVar none_;  // calls_ has come to 0
};

// --- how it is done

template <typename Request, typename Response>
struct Calls::Unary final : UnaryCall, CallReactor {
  explicit Unary(Call* call) : UnaryCall(call) { call->Bind(this); }
  void Finish(const grpc::Status& status) override { call_->Finish(status, &response); }
  void OnDone() override { delete this; }

  Request request;
  Response response;
};

template <typename Request, typename Response>
void Calls::AddUnary(const std::string& method, UnaryHandler<Request, Response> handler) {
  Add(method, grpc::internal::RpcMethod::NORMAL_RPC, [handler = std::move(handler)](Call* call) {
    auto* const unary = new Unary<Request, Response>(call);
    if (call->Parse(&unary->request)) handler(unary, &unary->request, &unary->response);
  });
}

template <typename Request>
void Calls::AddServerStream(const std::string& method,
                            std::function<void(Call* call, const Request* request)> handler) {
  Add(method, grpc::internal::RpcMethod::SERVER_STREAMING, [handler = std::move(handler)](Call* call) {
    Request request;
    if (call->Parse(&request)) handler(call, &request);
  });
}

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_CALLS_H_
