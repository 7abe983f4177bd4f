// What one queue of gRPC does with calls that come while it is busy. A handler of the test keeps it busy until they are there.
#include "server/rpc/calls.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "eventvirtual/v1/event.grpc.pb.h"
#include "server/dispatch/dispatcher.h"
#include "server/endpoint/endpoint.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/registry/registry.h"
#include "tests/transports/io/on_loop.h"
#include "transports/api/catalog.h"
#include "transports/api/check.h"
#include "transports/io/event_loop.h"
#include "transports/udp/udp_transport.h"

namespace eventvirtual {
namespace {

// Raise and RaiseStream, each request of which raises one event to one subscriber.
class CallsTest : public testing::Test {
 protected:
  CallsTest() : catalog_(Transports()), pool_({&loop_}, {}), registry_(catalog_, pool_, loop_, {}), dispatcher_(registry_) {
    SubscriptionSpec spec;
    spec.event = "E";
    spec.subscribers = {{"udp:127.0.0.1:9"}};
    EV_CHECK(registry_.Subscribe(spec).ok());

    calls_.AddUnary<v1::RaiseRequest, v1::RaiseResponse>(
        "eventvirtual.v1.EventService/Raise",
        [this](UnaryCall* call, const v1::RaiseRequest* request, v1::RaiseResponse*) {
          if (request->event().name() == "E") offers_.push_back(OffersAfterRaise());
          if (request->event().name() == "busy") {
            busy_.Set();
            EXPECT_TRUE(come_.Wait());
          }
          call->Answer(absl::OkStatus());
        });
    calls_.AddStream("eventvirtual.v1.EventService/RaiseStream", [this](Call* call) { new Stream(*this, call); });
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    calls_.Register(nullptr, loop_, &builder);
    server_ = builder.BuildAndStart();
    calls_.Serve();
    stub_ = v1::EventService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
  }
  ~CallsTest() override {
    Stop();
    EXPECT_TRUE(dispatcher_.AwaitIdle(kPatience));
    registry_.Stop();
    pool_.CloseAll();
    pool_.AwaitEmpty();
  }

  void Stop() {
    if (server_ == nullptr) return;
    server_->Shutdown();
    calls_.Stop();
    server_ = nullptr;
  }

  // Which its thread has made since the outermost cork began.
  size_t OffersAfterRaise() {
    dispatcher_.Raise(Message::Make({.name = "E"}), nullptr);
    return Cork::offers();
  }

  // Begins a call; `ended` is set with its answer.
  struct Begun {
    grpc::ClientContext context;
    v1::RaiseRequest request;
    v1::RaiseResponse response;
    Signal ended;
  };
  Begun& Begin(const std::string& event) {
    Begun& begun = begun_.emplace_back();
    begun.request.mutable_event()->set_name(event);
    stub_->async()->Raise(&begun.context, &begun.request, &begun.response, [&begun](const grpc::Status& status) {
      EXPECT_TRUE(status.ok()) << status.error_message();
      begun.ended.Set();
    });
    return begun;
  }

  // Keeps the queue's thread busy until Go(), by when what was begun meanwhile has reached its socket.
  void KeepBusy() {
    Begin("busy");
    ASSERT_TRUE(busy_.Wait());
  }
  void Go() {
    absl::SleepFor(absl::Milliseconds(50));
    come_.Set();
  }

  class Stream final : public StreamReactor<v1::RaiseStreamRequest, v1::RaiseStreamResponse> {
   public:
    Stream(CallsTest& test, Call* call) : StreamReactor(call), test_(test) { StartRead(&request_); }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      test_.stream_offers_.push_back(test_.OffersAfterRaise());
      StartWrite(&response_);
    }
    void OnWriteDone(bool ok) override { ok ? StartRead(&request_) : Finish(grpc::Status::OK); }
    void OnDone() override { delete this; }

   private:
    CallsTest& test_;
    v1::RaiseStreamRequest request_;
    v1::RaiseStreamResponse response_;
  };

  static std::vector<std::unique_ptr<Transport>> Transports() {
    std::vector<std::unique_ptr<Transport>> transports;
    transports.push_back(MakeUdpTransport());
    return transports;
  }

  EventLoop loop_{"calls"};
  Catalog catalog_;
  EndpointPool pool_;
  Registry registry_;
  Dispatcher dispatcher_;
  Signal busy_, come_;
  std::vector<size_t> offers_, stream_offers_;  // of the queue's thread, until Stop()
  Calls calls_{1};
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::EventService::Stub> stub_;
  std::list<Begun> begun_;
};

TEST_F(CallsTest, WhatUnaryCallsRaiseThatHaveComeTogetherLeavesTogetherInBounds) {
  KeepBusy();
  for (int i = 0; i < 40; ++i) Begin("E");
  Go();
  for (Begun& begun : begun_) EXPECT_TRUE(begun.ended.Wait());
  Stop();
  ASSERT_EQ(offers_.size(), 40u);
  EXPECT_EQ(*std::max_element(offers_.begin(), offers_.end()), 16u);
}

TEST_F(CallsTest, WhatRaisesNothingEndsIt) {
  KeepBusy();
  for (int i = 0; i < 40; ++i) Begin(i % 2 == 0 ? "E" : "none");
  Go();
  for (Begun& begun : begun_) EXPECT_TRUE(begun.ended.Wait());
  Stop();
  ASSERT_EQ(offers_.size(), 20u);
  EXPECT_EQ(*std::max_element(offers_.begin(), offers_.end()), 1u);
}

TEST_F(CallsTest, AStreamIsNoPartOfIt) {
  grpc::ClientContext context;
  const auto stream = stub_->RaiseStream(&context);
  v1::RaiseStreamResponse response;
  ASSERT_TRUE(stream->Write(v1::RaiseStreamRequest()) && stream->Read(&response));
  KeepBusy();
  for (int i = 0; i < 8; ++i) Begin("E");
  ASSERT_TRUE(stream->Write(v1::RaiseStreamRequest()));
  Go();
  ASSERT_TRUE(stream->Read(&response) && stream->WritesDone());
  EXPECT_TRUE(stream->Finish().ok());
  for (Begun& begun : begun_) EXPECT_TRUE(begun.ended.Wait());
  Stop();
  EXPECT_EQ(stream_offers_, std::vector<size_t>({1, 1}));
}

}  // namespace
}  // namespace eventvirtual
