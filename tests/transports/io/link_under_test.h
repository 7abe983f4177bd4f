// LinkUnderTest: one link on a real EventLoop, seen from the thread of a test.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_IO_LINK_UNDER_TEST_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_IO_LINK_UNDER_TEST_H_

#include <dirent.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/on_loop.h"
#include "transports/api/mutex.h"
#include "transports/api/transport.h"
#include "transports/io/event_loop.h"

namespace eventvirtual {

inline MessageRef MakeMessage(absl::string_view name, absl::string_view text = "") {
  const Param param{"", text};
  EventFields fields;
  fields.name = name;
  if (!text.empty()) fields.params = absl::MakeConstSpan(&param, 1);
  return Message::Make(fields);
}

// A message whose JSON-RPC text has exactly `size` bytes.
inline MessageRef MessageOfSize(size_t size) {
  const size_t frame = MakeMessage("E_SIZE", "x")->jsonrpc().size() - 1;
  MessageRef message = MakeMessage("E_SIZE", std::string(size - frame, 'x'));
  EXPECT_EQ(message->jsonrpc().size(), size);
  return message;
}

// Descriptors that this process has open: what a link leaves behind shows here.
inline int OpenDescriptors() {
  DIR* const folder = opendir("/proc/self/fd");
  int count = 0;
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

// Keeps what the link reports, and fails the test if it reports a thing twice. All waits are bounded.
class LinkUnderTest final : private Link::Host {
 public:
  // Connects to a subscriber's text.
  LinkUnderTest(Transport& transport, absl::string_view text) : reports_(AdoptRef(new Reports)) {
    const absl::StatusOr<Uri> uri = ParseUri(text);
    EXPECT_TRUE(uri.ok()) << uri.status();
    const absl::StatusOr<Target> target = transport.Canonicalize(*uri);
    EXPECT_TRUE(target.ok()) << target.status();
    OnLoop(loop_, [&] {
      link_ = transport.Connect(*target, loop_, *this);
      EXPECT_EQ(window_, 0) << "an upcall inside Connect()";
    });
  }
  ~LinkUnderTest() { Destroy(); }

  EventLoop& loop() { return loop_; }

  // The window; 0: not ready in time, or closed.
  int WaitReady() {
    Await([&] { return window_ > 0 || closed_.has_value(); });
    MutexLock lock(&reports_->mutex);
    return window_;
  }
  absl::Status WaitClosed() {
    Await([&] { return closed_.has_value(); });
    MutexLock lock(&reports_->mutex);
    return closed_.value_or(absl::OkStatus());
  }
  bool closed() {
    MutexLock lock(&reports_->mutex);
    return closed_.has_value();
  }

  // Hands one batch to the link and gives the number of its first message; numbers count from 0.
  size_t Send(const std::vector<MessageRef>& messages) {
    size_t first = 0;
    OnLoop(loop_, [&] { first = SendNow(messages); });
    return first;
  }
  // The same for a task on the loop.
  size_t SendNow(const std::vector<MessageRef>& messages) {
    size_t first = 0;
    {
      MutexLock lock(&reports_->mutex);
      first = reports_->outcomes.size();
      reports_->outcomes.resize(first + messages.size());
    }
    std::vector<Parcel> parcels;
    for (size_t i = 0; i < messages.size(); ++i) {
      parcels.push_back({messages[i], Completion(reports_, first + i)});
    }
    sending_ = true;
    link_->Send(absl::MakeSpan(parcels));
    sending_ = false;
    return first;
  }
  absl::Status Outcome(size_t number) {
    Await([&] { return reports_->outcomes[number].has_value(); });
    MutexLock lock(&reports_->mutex);
    return reports_->outcomes[number].value_or(absl::DeadlineExceededError("the link never reported it"));
  }
  // Sends one message and waits for its outcome.
  absl::Status SendAndWait(const MessageRef& message) { return Outcome(Send({message})); }
  size_t Reported() {
    MutexLock lock(&reports_->mutex);
    return std::count_if(reports_->outcomes.begin(), reports_->outcomes.end(),
                         [](const auto& o) { return o.has_value(); });
  }

  void Destroy() {
    OnLoop(loop_, [&] { link_.reset(); });
  }

 private:
  struct Reports final : Completion::Sink {
    void Settle(Ref<Sink>, uint64_t token, absl::Status outcome) override {
      MutexLock lock(&mutex);
      EXPECT_FALSE(outcomes[token].has_value()) << "message " << token << " was reported twice";
      outcomes[token] = std::move(outcome);
      changed.SignalAll();
    }
    Mutex mutex;
    CondVar changed;
    std::vector<std::optional<absl::Status>> outcomes ABSL_GUARDED_BY(mutex);
  };

  void OnReady(int window) override {
    EXPECT_FALSE(sending_) << "an upcall inside Send()";
    MutexLock lock(&reports_->mutex);
    EXPECT_EQ(window_, 0) << "ready twice";
    EXPECT_GT(window, 0);
    window_ = window;
    reports_->changed.SignalAll();
  }
  void OnClosed(absl::Status why) override {
    EXPECT_FALSE(sending_) << "an upcall inside Send()";
    MutexLock lock(&reports_->mutex);
    EXPECT_FALSE(closed_.has_value()) << "closed twice";
    EXPECT_FALSE(why.ok());
    closed_ = std::move(why);
    reports_->changed.SignalAll();
  }

  void Await(absl::FunctionRef<bool()> condition) {
    const absl::Time give_up = absl::Now() + kPatience;
    MutexLock lock(&reports_->mutex);
    while (!condition() && absl::Now() < give_up) reports_->changed.WaitFor(&reports_->mutex, give_up - absl::Now());
    EXPECT_TRUE(condition()) << "waited in vain";
  }

  const Ref<Reports> reports_;  // its mutex guards window_ and closed_ too
  int window_ = 0;
  std::optional<absl::Status> closed_;
  bool sending_ = false;        // on the loop
  std::unique_ptr<Link> link_;  // on the loop
  EventLoop loop_{"link"};      // the last member: nothing runs on it any more when the others go
};

// What closes a link to `text` before it is ready.
inline absl::Status RefusalOf(Transport& transport, absl::string_view text) {
  LinkUnderTest link(transport, text);
  EXPECT_EQ(link.WaitReady(), 0);
  return link.WaitClosed();
}

// The outcome of one event sent to `text`.
inline absl::Status OutcomeOf(Transport& transport, absl::string_view text) {
  LinkUnderTest link(transport, text);
  if (link.WaitReady() == 0) {
    ADD_FAILURE() << "not ready";
    return link.WaitClosed();
  }
  return link.SendAndWait(MakeMessage("E_X", "y"));
}

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_IO_LINK_UNDER_TEST_H_
