// stream:NAME, with listeners of the test's own; the gRPC side is tested in tests/integration/listen_test.py.
#include "transports/stream/stream_transport.h"

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/link_under_test.h"
#include "transports/api/mutex.h"
#include "transports/stream/listeners.h"
#include "transports/testing/conformance.h"

namespace eventvirtual {
namespace {

using ::testing::HasSubstr;

// Takes and acknowledges whatever comes, unless it is held.
class AckingListener {
 public:
  AckingListener(StreamListeners& listeners, const std::string& name) : listeners_(listeners), name_(name) { Attach(); }
  ~AckingListener() { Go(); }

  void Attach() {
    auto listener = listeners_.Attach(name_, [this] { Take(); });
    {
      MutexLock lock(&mutex_);
      listener_ = std::move(listener);
    }
    Take();  // what came before `listener_` was set
  }
  void Go() {
    Ref<StreamListener> listener;
    {
      MutexLock lock(&mutex_);
      listener = std::exchange(listener_, nullptr);
    }
    if (!listener) return;
    listeners_.Detach(name_, *listener);
    listener->End(absl::UnavailableError("the listener has gone"));
  }
  void Hold(bool held) {
    {
      MutexLock lock(&mutex_);
      held_ = held;
    }
    if (!held) Take();
  }
  std::optional<std::string> Receive(absl::Duration patience) {
    const absl::Time give_up = absl::Now() + patience;
    MutexLock lock(&mutex_);
    while (received_.empty() && absl::Now() < give_up) changed_.WaitFor(&mutex_, give_up - absl::Now());
    if (received_.empty()) return std::nullopt;
    std::string text = std::move(received_.front());
    received_.pop_front();
    return text;
  }

 private:
  void Take() {
    MutexLock lock(&mutex_);
    if (held_ || !listener_) return;
    while (std::optional<StreamListener::Delivery> delivery = listener_->Next()) {
      received_.emplace_back(delivery->message->jsonrpc());
      EXPECT_TRUE(listener_->Answer(delivery->id, absl::OkStatus()).ok());
    }
    changed_.SignalAll();
  }

  StreamListeners& listeners_;
  const std::string name_;
  Mutex mutex_;
  CondVar changed_;
  Ref<StreamListener> listener_ ABSL_GUARDED_BY(mutex_);
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::string> received_ ABSL_GUARDED_BY(mutex_);
};

class ListenerPeer final : public ConformancePeer {
 public:
  Transport& transport() override { return *transport_; }
  std::string uri() const override { return "stream:app"; }
  void Stop() override { listener_.Go(); }
  void Start() override { listener_.Attach(); }
  Stalled stalled() const override { return Stalled::kUnanswered; }
  void Stall() override { listener_.Hold(true); }
  void Resume() override { listener_.Hold(false); }
  std::optional<std::string> Receive(absl::Duration patience) override { return listener_.Receive(patience); }

 private:
  StreamListeners listeners_;
  const std::unique_ptr<Transport> transport_ = MakeStreamTransport(listeners_);
  AckingListener listener_{listeners_, "app"};
};

class StreamConformance : public testing::TestWithParam<ConformanceCase> {};
TEST_P(StreamConformance, Holds) {
  ListenerPeer peer;
  GetParam().run(peer);
}
INSTANTIATE_TEST_SUITE_P(Stream, StreamConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

class StreamTest : public testing::Test {
 protected:
  absl::StatusOr<Target> Canonicalize(const std::string& text) {
    const absl::StatusOr<Uri> uri = ParseUri(text);
    if (!uri.ok()) return uri.status();
    return transport_->Canonicalize(*uri);
  }

  StreamListeners listeners_;
  const std::unique_ptr<Transport> transport_ = MakeStreamTransport(listeners_);
};

TEST_F(StreamTest, HasOneCanonicalForm) {
  EXPECT_EQ(Canonicalize("stream:app?timeout=2000")->canonical, "stream:app");
  EXPECT_EQ(Canonicalize("stream:app?timeout=500ms")->canonical, "stream:app?timeout=500ms");
  for (const char* text : {"stream:", "stream:a/b", "stream:a?window=1", "stream:a?timeout=0"}) {
    EXPECT_EQ(Canonicalize(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST_F(StreamTest, WithoutAListenerItIsDownAtOnceAndSaysSo) {
  LinkUnderTest link(*transport_, "stream:app");
  EXPECT_EQ(link.WaitReady(), 0);
  EXPECT_EQ(link.WaitClosed(), absl::UnavailableError("stream:app: nobody listens (EventService.Listen)"));
}

TEST_F(StreamTest, AnEventCountsWhenItIsAcknowledgedAndNotBefore) {
  const Ref<StreamListener> listener = listeners_.Attach("app", [] {});
  LinkUnderTest link(*transport_, "stream:app");
  ASSERT_EQ(link.WaitReady(), kStreamWindow);
  const size_t first = link.Send({MakeMessage("E_1"), MakeMessage("E_2"), MakeMessage("E_3")});
  EXPECT_EQ(listener->Next()->message->name(), "E_1");
  EXPECT_EQ(listener->Next()->id, 2u);
  EXPECT_EQ(link.Reported(), 0u);
  EXPECT_TRUE(listener->Answer(2, absl::OkStatus()).ok());
  EXPECT_TRUE(link.Outcome(first + 1).ok());
  EXPECT_TRUE(listener->Answer(1, absl::UnavailableError("refused")).ok());
  EXPECT_EQ(link.Outcome(first), absl::UnavailableError("refused"));
  EXPECT_TRUE(listener->Answer(1, absl::OkStatus()).ok()) << "late, and of no consequence";
  for (uint64_t id : {0, 3, 4})
    EXPECT_EQ(listener->Answer(id, absl::OkStatus()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(link.Reported(), 2u);
  listener->End(absl::UnavailableError("gone"));
  EXPECT_EQ(link.Outcome(first + 2), absl::UnavailableError("gone; the event was not sent"));
}

TEST_F(StreamTest, AnotherListenerTakesOver) {
  const Ref<StreamListener> first = listeners_.Attach("app", [] {});
  LinkUnderTest link(*transport_, "stream:app");
  ASSERT_GT(link.WaitReady(), 0);
  const size_t number = link.Send({MakeMessage("E_1")});
  ASSERT_TRUE(first->Next().has_value());
  const Ref<StreamListener> second = listeners_.Attach("app", [] {});
  EXPECT_EQ(first->ended().code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(link.Outcome(number).message()), HasSubstr("the event may have arrived"));
  EXPECT_THAT(std::string(link.WaitClosed().message()), HasSubstr("taken over"));

  listeners_.Detach("app", *first);  // comes late, and changes nothing
  LinkUnderTest next(*transport_, "stream:app");
  ASSERT_GT(next.WaitReady(), 0);
  const size_t again = next.Send({MakeMessage("E_2")});
  EXPECT_EQ(second->Next()->id, 1u);
  EXPECT_TRUE(second->Answer(1, absl::OkStatus()).ok());
  EXPECT_TRUE(next.Outcome(again).ok());
}

// What a link had out goes with it: a listener that does not read holds nothing up but its own window.
TEST_F(StreamTest, ALinkThatGoesTakesWhatIsOutWithIt) {
  const Ref<StreamListener> listener = listeners_.Attach("app", [] {});
  LinkUnderTest patient(*transport_, "stream:app?timeout=5s");
  ASSERT_GT(patient.WaitReady(), 0);
  for (int round = 0; round < 3; ++round) {
    LinkUnderTest link(*transport_, "stream:app");
    ASSERT_GT(link.WaitReady(), 0);
    link.Send(std::vector<MessageRef>(kStreamWindow, MakeMessage("E_GOES")));
  }
  const size_t stays = patient.Send({MakeMessage("E_STAYS")});
  const std::optional<StreamListener::Delivery> next = listener->Next();
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->message->name(), "E_STAYS");
  EXPECT_FALSE(listener->Next().has_value());
  EXPECT_TRUE(listener->Answer(next->id, absl::OkStatus()).ok());
  EXPECT_TRUE(patient.Outcome(stays).ok());
}

}  // namespace
}  // namespace eventvirtual
