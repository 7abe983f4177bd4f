// What one queue of gRPC does with calls that come while it is busy: a handler keeps it busy until they have been sent.
// When they arrive nobody knows, so each test sends again until some have come together.
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

#include "absl/functional/function_ref.h"
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
  CallsTest()
      : catalog_(Transports()), pool_({&loop_}, {}), registry_(catalog_, pool_, loop_, {}), dispatcher_(registry_) {
    SubscriptionSpec spec;
    spec.event = "E";
    spec.subscribers = {{"udp:127.0.0.1:9"}};
    EV_CHECK(registry_.Subscribe(spec).ok());

    calls_.AddUnary<v1::RaiseRequest, v1::RaiseResponse>(
        "eventvirtual.v1.EventService/Raise",
        [this](UnaryCall* call, const v1::RaiseRequest* request, v1::RaiseResponse*) {
          if (request->event().name() == "E") offers_.push_back(OffersAfterRaise());
          if (request->event().name() == "busy") {
            busy_->begun.Set();
            EXPECT_TRUE(busy_->over.Wait());
          }
          call->Answer(absl::OkStatus());
        });
    calls_.AddUnary<v1::ListEventsRequest, v1::ListEventsResponse>(
        "eventvirtual.v1.EventService/ListEvents",
        [this](UnaryCall* call, const v1::ListEventsRequest*, v1::ListEventsResponse*) {
          list_offers_ = Cork::offers();
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
    server_->Shutdown();
    calls_.Stop();
    EXPECT_TRUE(dispatcher_.AwaitIdle(kPatience));
    registry_.Stop();
    pool_.CloseAll();
    pool_.AwaitEmpty();
  }

  // Which its thread has made since the outermost cork began.
  size_t OffersAfterRaise() {
    dispatcher_.Raise(Message::Make({.name = "E"}), nullptr);
    return Cork::offers();
  }

  struct Begun {
    grpc::ClientContext context;
    v1::RaiseRequest request;
    v1::RaiseResponse response;
    Signal ended;
  };
  void Begin(const std::string& event, std::list<Begun>* all) {
    Begun& begun = all->emplace_back();
    begun.request.mutable_event()->set_name(event);
    stub_->async()->Raise(&begun.context, &begun.request, &begun.response, [&begun](const grpc::Status& status) {
      EXPECT_TRUE(status.ok()) << status.error_message();
      begun.ended.Set();
    });
  }

  // Calls for the events, and whatever else `send` sends, while the queue's thread is busy. Returns when all are
  // answered.
  void SendWhileBusy(
      const std::vector<std::string>& events, absl::FunctionRef<void()> send = [] {}) {
    offers_.clear();
    busy_ = std::make_unique<Busy>();
    std::list<Begun> begun;
    Begin("busy", &begun);
    ASSERT_TRUE(busy_->begun.Wait());
    for (const std::string& event : events) Begin(event, &begun);
    send();
    busy_->over.Set();
    for (Begun& one : begun) ASSERT_TRUE(one.ended.Wait());
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
  struct Busy {
    Signal begun, over;
  };
  std::unique_ptr<Busy> busy_;
  // The queue's thread writes them before it answers.
  std::vector<size_t> offers_, stream_offers_;
  size_t list_offers_ = 0;
  Calls calls_{1};
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::EventService::Stub> stub_;
};

TEST_F(CallsTest, WhatUnaryCallsRaiseThatHaveComeTogetherLeavesTogetherInBounds) {
  const absl::Time give_up = absl::Now() + kPatience;
  size_t most = 0;
  while (most < 16) {
    ASSERT_LT(absl::Now(), give_up) << most;
    SendWhileBusy(std::vector<std::string>(100, "E"));
    ASSERT_EQ(offers_.size(), 100u);
    most = *std::max_element(offers_.begin(), offers_.end());
  }
  EXPECT_EQ(most, 16u);
}

TEST_F(CallsTest, WhatRaisesNothingEndsIt) {
  const absl::Time give_up = absl::Now() + kPatience;
  do {
    ASSERT_LT(absl::Now(), give_up);
    SendWhileBusy({"E", "E", "E", "E", "none", "E"});
    ASSERT_EQ(offers_.size(), 5u);
    EXPECT_EQ(offers_[4], 1u);
  } while (offers_[3] != 4);
}

TEST_F(CallsTest, AnotherMethodComesBehindWhatWasRaised) {
  const absl::Time give_up = absl::Now() + kPatience;
  do {
    ASSERT_LT(absl::Now(), give_up);
    grpc::ClientContext context;
    const v1::ListEventsRequest request;
    v1::ListEventsResponse response;
    Signal listed;
    SendWhileBusy({"E", "E", "E", "E"}, [&] {
      stub_->async()->ListEvents(&context, &request, &response, [&listed](const grpc::Status& status) {
        EXPECT_TRUE(status.ok()) << status.error_message();
        listed.Set();
      });
    });
    ASSERT_TRUE(listed.Wait());
    EXPECT_EQ(list_offers_, 0u);
  } while (offers_[3] != 4);
}

TEST_F(CallsTest, AStreamIsNoPartOfIt) {
  grpc::ClientContext context;
  const auto stream = stub_->RaiseStream(&context);
  v1::RaiseStreamResponse response;
  ASSERT_TRUE(stream->Write(v1::RaiseStreamRequest()) && stream->Read(&response));
  const absl::Time give_up = absl::Now() + kPatience;
  do {
    ASSERT_LT(absl::Now(), give_up);
    SendWhileBusy({"E", "E", "E", "E"}, [&] { ASSERT_TRUE(stream->Write(v1::RaiseStreamRequest())); });
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(stream_offers_.back(), 1u);
  } while (offers_[3] != 4);
  ASSERT_TRUE(stream->WritesDone());
  EXPECT_TRUE(stream->Finish().ok());
}

}  // namespace
}  // namespace eventvirtual
