// The floor of gRPC: EventService with handlers that do nothing.
//
//   empty_service callback | queue
//
// `callback` serves Raise and RaiseStream with gRPC's callback API, `queue` with one completion queue and one thread,
// as eventvirtuald does. Prints `{"listening":["127.0.0.1:port"]}`, and serves until SIGTERM.
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <signal.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "eventvirtual/v1/event.grpc.pb.h"

namespace eventvirtual {
namespace {

class CallbackService final : public v1::EventService::CallbackService {
  grpc::ServerUnaryReactor* Raise(grpc::CallbackServerContext* context, const v1::RaiseRequest*,
                                  v1::RaiseResponse*) override {
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  grpc::ServerBidiReactor<v1::RaiseStreamRequest, v1::RaiseStreamResponse>* RaiseStream(
      grpc::CallbackServerContext*) override {
    class Stream final : public grpc::ServerBidiReactor<v1::RaiseStreamRequest, v1::RaiseStreamResponse> {
     public:
      Stream() { StartRead(&request_); }
      void OnReadDone(bool ok) override {
        if (!ok) return Finish(grpc::Status::OK);
        response_.set_sequence(request_.sequence());
        response_.set_succeeded(static_cast<uint32_t>(request_.events_size()));
        StartWrite(&response_);
      }
      void OnWriteDone(bool ok) override {
        if (!ok) return Finish(grpc::Status::OK);
        StartRead(&request_);
      }
      void OnDone() override { delete this; }

     private:
      v1::RaiseStreamRequest request_;
      v1::RaiseStreamResponse response_;
    };
    return new Stream;
  }
};

// What the queue gives back.
class Tag {
 public:
  virtual ~Tag() = default;
  virtual void Proceed(bool ok) = 0;
};

// One Raise.
class QueueCall final : public Tag {
 public:
  QueueCall(v1::EventService::AsyncService* service, grpc::ServerCompletionQueue* queue)
      : service_(service), queue_(queue), writer_(&context_) {
    service_->RequestRaise(&context_, &request_, &writer_, queue_, queue_, this);
  }
  void Proceed(bool ok) override {
    if (finished_ || !ok) {
      delete this;
      return;
    }
    new QueueCall(service_, queue_);
    finished_ = true;
    writer_.Finish(v1::RaiseResponse(), grpc::Status::OK, this);
  }

 private:
  v1::EventService::AsyncService* const service_;
  grpc::ServerCompletionQueue* const queue_;
  grpc::ServerContext context_;
  v1::RaiseRequest request_;
  grpc::ServerAsyncResponseWriter<v1::RaiseResponse> writer_;
  bool finished_ = false;
};

// One RaiseStream, which reads and answers in turns.
class QueueStream final : public Tag {
 public:
  QueueStream(v1::EventService::AsyncService* service, grpc::ServerCompletionQueue* queue)
      : service_(service), queue_(queue), stream_(&context_) {
    service_->RequestRaiseStream(&context_, &stream_, queue_, queue_, this);
  }
  void Proceed(bool ok) override {
    if (did_ == kFinish || (did_ == kBegin && !ok)) {
      delete this;
    } else if (!ok) {
      did_ = kFinish;
      stream_.Finish(grpc::Status::OK, this);
    } else if (did_ == kRead) {
      did_ = kWrite;
      response_.set_sequence(request_.sequence());
      response_.set_succeeded(static_cast<uint32_t>(request_.events_size()));
      stream_.Write(response_, this);
    } else {
      if (did_ == kBegin) new QueueStream(service_, queue_);
      did_ = kRead;
      stream_.Read(&request_, this);
    }
  }

 private:
  v1::EventService::AsyncService* const service_;
  grpc::ServerCompletionQueue* const queue_;
  grpc::ServerContext context_;
  v1::RaiseStreamRequest request_;
  v1::RaiseStreamResponse response_;
  grpc::ServerAsyncReaderWriter<v1::RaiseStreamResponse, v1::RaiseStreamRequest> stream_;
  enum { kBegin, kRead, kWrite, kFinish } did_ = kBegin;
};

int Serve(bool queue_api) {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);

  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  CallbackService callback;
  v1::EventService::AsyncService async;
  std::unique_ptr<grpc::ServerCompletionQueue> queue;
  if (queue_api) {
    builder.RegisterService(&async);
    queue = builder.AddCompletionQueue();
  } else {
    builder.RegisterService(&callback);
  }
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) return 1;
  std::thread worker;
  if (queue_api) {
    new QueueStream(&async, queue.get());
    for (int i = 0; i < 128; ++i) new QueueCall(&async, queue.get());
    worker = std::thread([&queue] {
      void* tag;
      bool ok;
      while (queue->Next(&tag, &ok)) static_cast<Tag*>(tag)->Proceed(ok);
    });
  }
  std::printf("{\"listening\":[\"127.0.0.1:%d\"]}\n", port);
  std::fflush(stdout);
  int signal_number;
  sigwait(&stop, &signal_number);
  server->Shutdown();
  if (queue_api) {
    queue->Shutdown();
    worker.join();
  }
  return 0;
}

}  // namespace
}  // namespace eventvirtual

int main(int argc, char** argv) {
  // As in eventvirtuald, so that nothing is won by it.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  if (argc != 2 || (std::strcmp(argv[1], "callback") != 0 && std::strcmp(argv[1], "queue") != 0)) {
    std::fprintf(stderr, "usage: empty_service callback|queue\n");
    return 2;
  }
  return eventvirtual::Serve(std::strcmp(argv[1], "queue") == 0);
}
