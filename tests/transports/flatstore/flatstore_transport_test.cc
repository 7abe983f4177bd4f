#include "transports/flatstore/flatstore_transport.h"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/flatstore/flat_directory.h"
#include "tests/transports/flatstore/system_call_faults.h"
#include "transports/api/mutex.h"
#include "transports/api/transport.h"
#include "transports/api/uri.h"
#include "transports/io/event_loop.h"

namespace eventvirtual {
namespace {

using testing::HasSubstr;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

absl::StatusOr<Target> Canonicalize(absl::string_view text) {
  absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return uri.status();
  return MakeFlatstoreTransport()->Canonicalize(*uri);
}

TEST(FlatstoreUri, HasOneCanonicalForm) {
  const struct {
    const char* text;
    const char* canonical;
  } kCases[] = {
      {"flatstore:/var/log/x.log", "flatstore:/var/log/x.log"},
      {"flatstore://var/./log///x.log", "flatstore:/var/log/x.log"},
      {"flatstore:/x?delimiter=,&file_permissions=0644&rotate_size=0&sync=0&suffix=", "flatstore:/x"},
      {"flatstore:/x?rotate_size=2K", "flatstore:/x?rotate_size=2048"},
      {"flatstore:/x?rotate_size=1g", "flatstore:/x?rotate_size=1073741824"},
      {"flatstore:/x?rotate_count=5000000000", "flatstore:/x?rotate_count=5000000000"},
      {"flatstore:/x?rotate_period=1h", "flatstore:/x?rotate_period=3600"},
      {"flatstore:/x?rotate_period=60&sync=yes", "flatstore:/x?rotate_period=60&sync=1"},
      {"flatstore:/x?sync=1&delimiter=;", "flatstore:/x?delimiter=;&sync=1"},
      {"flatstore:/x?file_permissions=600", "flatstore:/x?file_permissions=600"},
      {"flatstore:/x?suppress_event_name=true", "flatstore:/x?suppress_event_name=1"},
      {"flatstore:/x?timeout=1000", "flatstore:/x"},
      {"flatstore:/x?timeout=250", "flatstore:/x?timeout=250ms"},
  };
  for (const auto& test : kCases) {
    const absl::StatusOr<Target> target = Canonicalize(test.text);
    ASSERT_TRUE(target.ok()) << test.text << ": " << target.status();
    EXPECT_EQ(target->canonical, test.canonical);
    EXPECT_EQ(target->masked, target->canonical);
  }
}

TEST(FlatstoreUri, CanonicalTextReadsBackTheSame) {
  for (const char* text :
       {"flatstore:/x?delimiter=%09", "flatstore:/x?delimiter=%26%3D&escape_delimiter=%25%3F",
        "flatstore:/x?suffix=.$time(%25Y-%25m-%25d)&rotate_period=24h", "flatstore:/a?b?delimiter=|"}) {
    const absl::StatusOr<Target> once = Canonicalize(text);
    ASSERT_TRUE(once.ok()) << text << ": " << once.status();
    const absl::StatusOr<Target> twice = Canonicalize(once->canonical);
    ASSERT_TRUE(twice.ok()) << once->canonical << ": " << twice.status();
    EXPECT_EQ(once->canonical, twice->canonical);
  }
}

TEST(FlatstoreUri, SyncIsDurable) {
  EXPECT_EQ(Canonicalize("flatstore:/x")->ack_level, AckLevel::kWritten);
  EXPECT_EQ(Canonicalize("flatstore:/x?sync=1")->ack_level, AckLevel::kDurable);
  EXPECT_EQ(Canonicalize("flatstore:/x")->attempt_timeout, absl::Seconds(1));
}

TEST(FlatstoreUri, RefusalsNameThePartAndWhatWouldDo) {
  const struct {
    const char* text;
    const char* why;
  } kCases[] = {
      {"flatstore:x.log", "is not absolute; write flatstore:/path/to/file"},
      {"flatstore:/", "names a directory"},
      {"flatstore:/var/log/", "names a directory"},
      {"flatstore:/var/../etc/passwd", "holds \"..\""},
      {"flatstore:/x?delimiter=", "delimiter has 0 bytes"},
      {"flatstore:/x?delimiter=%0A", "must not hold CR, LF or NUL"},
      {"flatstore:/x?escape_delimiter=%20%20", "must have the same length"},
      {"flatstore:/x?file_permissions=999", "file_permissions: \"999\""},
      {"flatstore:/x?file_permissions=4755", "file_permissions: \"4755\""},
      {"flatstore:/x?file_permissions=444", "in which the owner may read and write"},
      {"flatstore:/x?rotate_size=-1", "rotate_size: \"-1\""},
      {"flatstore:/x?rotate_size=", "rotate_size: \"\""},
      {"flatstore:/x?rotate_size=m", "rotate_size: \"m\""},
      {"flatstore:/x?rotate_size=99999999999g", "rotate_size: \"99999999999g\""},
      {"flatstore:/x?rotate_period=1500ms", "whole seconds"},
      {"flatstore:/x?rotate_period=-5", "whole seconds"},
      {"flatstore:/x?rotate_period=soon", "rotate_period: \"soon\""},
      {"flatstore:/x?rotate_count=-1", "rotate_count"},
      {"flatstore:/x?suffix=/../../etc", "must not hold '/'"},
      {"flatstore:/x?suffix=$var(a)", "only $time(FORMAT) is replaced"},
      {"flatstore:/x?colour=red", "colour"},
      {"flatstore:/x?sync=maybe", "sync"},
  };
  for (const auto& test : kCases) {
    const absl::StatusOr<Target> target = Canonicalize(test.text);
    EXPECT_EQ(target.status().code(), absl::StatusCode::kInvalidArgument) << test.text;
    EXPECT_THAT(Text(target.status()), HasSubstr(test.why)) << test.text;
  }
  EXPECT_FALSE(Canonicalize(absl::StrCat("flatstore:/", std::string(5000, 'a'))).ok());
}

// A status of its own for another thread: absl::Status shares its text by a count that ThreadSanitizer does not see.
absl::Status Copy(const absl::Status& status) { return absl::Status(status.code(), status.message()); }

// Waits, with `mutex` held, until `done` says so, for ten seconds at most.
template <typename F>
void AwaitUntil(Mutex& mutex, CondVar& changed, F done) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!done() && std::chrono::steady_clock::now() < deadline) changed.WaitFor(&mutex, absl::Milliseconds(100));
}

// What a link says, seen from the test's thread.
class Listener final : public Link::Host {
 public:
  void OnReady(int window) override {
    MutexLock lock(&mutex_);
    window_ = window;
    changed_.SignalAll();
  }
  void OnClosed(absl::Status why) override {
    MutexLock lock(&mutex_);
    EXPECT_FALSE(why.ok());
    EXPECT_TRUE(closed_.ok()) << "closed twice";
    closed_ = Copy(why);
    changed_.SignalAll();
  }

  // Waits until the link is ready or closed; its window, or 0.
  int AwaitEither() {
    MutexLock lock(&mutex_);
    AwaitUntil(mutex_, changed_, [&] { return window_ > 0 || !closed_.ok(); });
    return closed_.ok() ? window_ : 0;
  }
  int AwaitReady() {
    const int window = AwaitEither();
    EXPECT_GT(window, 0) << "not ready";
    return window;
  }
  absl::Status AwaitClosed() {
    MutexLock lock(&mutex_);
    AwaitUntil(mutex_, changed_, [&] { return !closed_.ok(); });
    return closed_;
  }

  // A completion with the number `token`, that AwaitOutcomes() sees.
  Completion NewCompletion(uint64_t token) { return Completion(outcomes_, token); }

  // The outcomes, once there are `count`, by token.
  std::vector<absl::Status> AwaitOutcomes(size_t count) { return outcomes_->Await(count); }

 private:
  class Outcomes final : public Completion::Sink {
   public:
    void Settle(Ref<Sink>, uint64_t token, absl::Status outcome) override {
      MutexLock lock(&mutex_);
      settled_.emplace_back(token, Copy(outcome));
      changed_.SignalAll();
    }
    std::vector<absl::Status> Await(size_t count) {
      MutexLock lock(&mutex_);
      AwaitUntil(mutex_, changed_, [&] { return settled_.size() >= count; });
      EXPECT_EQ(settled_.size(), count);
      std::vector<absl::Status> by_token(count, absl::UnknownError("no outcome"));
      for (const auto& [token, outcome] : settled_) {
        EXPECT_TRUE(absl::IsUnknown(by_token.at(token))) << "two outcomes for " << token;
        by_token.at(token) = outcome;
      }
      return by_token;
    }

   private:
    Mutex mutex_;
    CondVar changed_;
    std::vector<std::pair<uint64_t, absl::Status>> settled_ ABSL_GUARDED_BY(mutex_);
  };

  Mutex mutex_;
  CondVar changed_;
  int window_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);
  const Ref<Outcomes> outcomes_ = AdoptRef(new Outcomes);
};

class FlatstoreLinkTest : public testing::Test {
 protected:
  ~FlatstoreLinkTest() override { DestroyLinks(); }

  void OnLoop(absl::FunctionRef<void()> action) {
    Mutex mutex;
    CondVar changed;
    bool done = false;
    loop_.Post([&] {
      action();
      MutexLock lock(&mutex);
      done = true;
      changed.SignalAll();
    });
    MutexLock lock(&mutex);
    while (!done) changed.Wait(&mutex);
  }

  Link* Connect(absl::string_view text, Listener& listener) {
    const absl::StatusOr<Target> target = Canonicalize(text);
    EXPECT_TRUE(target.ok()) << target.status();
    OnLoop([&] { links_.push_back(transport_->Connect(*target, loop_, listener)); });
    return links_.back().get();
  }

  // Sends "E,from" … "E,to-1" as one span.
  void Send(Link* link, Listener& listener, int from, int to, absl::string_view padding = "") {
    std::vector<Parcel> parcels;
    for (int i = from; i < to; ++i) {
      const std::string text = absl::StrCat(i, padding);
      const Param param{"n", absl::string_view(text)};
      parcels.push_back({Message::Make({.name = "E", .params = absl::MakeConstSpan(&param, 1)}),
                         listener.NewCompletion(static_cast<uint64_t>(i))});
    }
    OnLoop([&] { link->Send(absl::MakeSpan(parcels)); });
  }

  void ExpectAllOk(const std::vector<absl::Status>& outcomes) {
    for (const absl::Status& outcome : outcomes) EXPECT_TRUE(outcome.ok()) << outcome;
  }

  void DestroyLinks() {
    OnLoop([&] { links_.clear(); });
  }

  FlatDirectory directory_;
  std::unique_ptr<Transport> transport_ = MakeFlatstoreTransport();
  EventLoop loop_{"ev-test"};
  std::vector<std::unique_ptr<Link>> links_;
};

TEST_F(FlatstoreLinkTest, AnOkMeansThatTheLineIsInTheFile) {
  Listener listener;
  Link* link = Connect("flatstore:" + directory_.Path("f"), listener);
  ASSERT_GE(listener.AwaitReady(), 1);
  Send(link, listener, 0, 3);
  ExpectAllOk(listener.AwaitOutcomes(3));
  EXPECT_EQ(directory_.Read("f"), "E,0\nE,1\nE,2\n");
}

TEST_F(FlatstoreLinkTest, BatchesThatGatherWhileOneIsWrittenKeepTheirOrder) {
  Listener listener;
  Link* link = Connect(absl::StrCat("flatstore:", directory_.Path("f"), "?sync=1&rotate_count=3000"), listener);
  const int window = listener.AwaitReady();
  constexpr int kStep = 50;
  int sent = 0;
  for (; sent < 5000; sent += kStep) {
    if (sent + kStep > window) listener.AwaitOutcomes(sent);
    Send(link, listener, sent, sent + kStep);
  }
  ExpectAllOk(listener.AwaitOutcomes(sent));
  const std::vector<std::string> lines = directory_.Lines("f");
  ASSERT_EQ(lines.size(), static_cast<size_t>(sent));
  for (int i = 0; i < sent; ++i) ASSERT_EQ(lines[i], absl::StrCat("E,", i));
}

TEST_F(FlatstoreLinkTest, AFileThatCannotBeOpenedClosesTheLink) {
  Listener listener;
  Connect("flatstore:" + directory_.Path("missing/f"), listener);
  const absl::Status why = listener.AwaitClosed();
  EXPECT_EQ(why.code(), absl::StatusCode::kNotFound) << why;
  EXPECT_THAT(Text(why), HasSubstr(directory_.Path("missing/f")));
}

TEST_F(FlatstoreLinkTest, AFileThatCannotBeReopenedFailsItsParcelsAndClosesTheLink) {
  ASSERT_EQ(mkdir(directory_.Path("d").c_str(), 0755), 0);
  Listener listener;
  Link* link = Connect("flatstore:" + directory_.Path("d/f"), listener);
  listener.AwaitReady();
  Send(link, listener, 0, 1);
  ExpectAllOk(listener.AwaitOutcomes(1));
  std::filesystem::remove_all(directory_.Path("d"));
  Send(link, listener, 1, 3);
  const std::vector<absl::Status> outcomes = listener.AwaitOutcomes(3);
  EXPECT_EQ(outcomes[1].code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(outcomes[2].code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(listener.AwaitClosed().code(), absl::StatusCode::kNotFound);
}

TEST_F(FlatstoreLinkTest, WhatGathersWhileTheDiskIsBusyIsWrittenNextInOneBatch) {
  std::unique_ptr<HeldSystemCall> sync;
  OnLoop([&] { sync = std::make_unique<HeldSystemCall>(SYS_fdatasync); });
  Listener listener;
  Link* link = Connect(absl::StrCat("flatstore:", directory_.Path("f"), "?sync=1"), listener);
  listener.AwaitReady();
  Send(link, listener, 0, 2);
  sync->Await();
  Send(link, listener, 2, 3);
  Send(link, listener, 3, 5);
  EXPECT_EQ(directory_.Read("f"), "E,0\nE,1\n");
  sync->Continue();
  ExpectAllOk(listener.AwaitOutcomes(2));
  sync->Await();  // one sync for both
  EXPECT_EQ(directory_.Read("f"), "E,0\nE,1\nE,2\nE,3\nE,4\n");
  sync->Continue();
  ExpectAllOk(listener.AwaitOutcomes(5));
}

TEST_F(FlatstoreLinkTest, WhatWaitsBehindAFileThatCannotBeReopenedFailsForTheSameReason) {
  ASSERT_EQ(mkdir(directory_.Path("d").c_str(), 0755), 0);
  std::unique_ptr<HeldSystemCall> open;
  OnLoop([&] { open = std::make_unique<HeldSystemCall>(SYS_openat); });
  Listener listener;
  Link* link = Connect("flatstore:" + directory_.Path("d/f"), listener);
  for (int i = 0; i < 3; ++i) {  // its directory; it is not there; it is created
    open->Await();
    open->Continue();
  }
  listener.AwaitReady();
  std::filesystem::remove_all(directory_.Path("d"));
  Send(link, listener, 0, 1);
  open->Await();
  Send(link, listener, 1, 3);
  open->Continue();
  for (const absl::Status& outcome : listener.AwaitOutcomes(3)) {
    EXPECT_EQ(outcome.code(), absl::StatusCode::kNotFound) << outcome;
  }
  EXPECT_EQ(listener.AwaitClosed().code(), absl::StatusCode::kNotFound);
}

TEST_F(FlatstoreLinkTest, AFullDiskFailsParcelsButNotTheLink) {
  // On the loop's thread, whose mounts the link's thread inherits.
  OnLoop([&] { directory_.MakeSmallDisk(64 << 10); });
  Listener listener;
  Link* link = Connect("flatstore:" + directory_.Path("f"), listener);
  ASSERT_GE(listener.AwaitReady(), 100);
  const std::string padding(1000, '.');
  Send(link, listener, 0, 100, padding);
  const std::vector<absl::Status> outcomes = listener.AwaitOutcomes(100);
  int written = 0;
  while (written < 100 && outcomes[written].ok()) ++written;
  EXPECT_GT(written, 50);
  EXPECT_LT(written, 66);
  for (int i = written; i < 100; ++i) EXPECT_EQ(outcomes[i].code(), absl::StatusCode::kResourceExhausted) << i;

  OnLoop([&] { EXPECT_EQ(truncate(directory_.Path("f").c_str(), 0), 0); });
  Send(link, listener, 100, 101);
  EXPECT_TRUE(listener.AwaitOutcomes(101)[100].ok());
  OnLoop([&] { EXPECT_EQ(directory_.Read("f"), "E,100\n"); });
}

TEST_F(FlatstoreLinkTest, AHangingDiskHoldsUpNobodyButItsOwnMessages) {
  std::unique_ptr<HeldSystemCall> disk;
  OnLoop([&] { disk = std::make_unique<HeldSystemCall>(SYS_fdatasync); });
  Listener hanging, other;
  Link* link = Connect(absl::StrCat("flatstore:", directory_.Path("f"), "?sync=1"), hanging);
  hanging.AwaitReady();
  Send(link, hanging, 0, 2);
  disk->Await();
  Send(link, hanging, 2, 4);

  Link* healthy = Connect("flatstore:" + directory_.Path("g"), other);
  other.AwaitReady();
  Send(healthy, other, 0, 1);
  ExpectAllOk(other.AwaitOutcomes(1));

  DestroyLinks();  // returns though the disk still hangs
  for (const absl::Status& outcome : hanging.AwaitOutcomes(4)) {
    EXPECT_EQ(outcome.code(), absl::StatusCode::kUnavailable);
  }
  disk.reset();
  // The late report of the thread goes nowhere; a new link works.
  Listener again;
  Connect("flatstore:" + directory_.Path("f"), again);
  EXPECT_GE(again.AwaitReady(), 1);
}

TEST_F(FlatstoreLinkTest, ThreadsThatHangAreBounded) {
  const std::string uri = absl::StrCat("flatstore:", directory_.Path("f"), "?sync=1");
  std::unique_ptr<HeldSystemCall> disk;
  OnLoop([&] { disk = std::make_unique<HeldSystemCall>(SYS_fdatasync); });
  for (int i = 0; i < 4; ++i) {
    Listener listener;
    Link* link = Connect(uri, listener);
    ASSERT_GE(listener.AwaitReady(), 1);
    Send(link, listener, 0, 1);
    disk->Await();
    DestroyLinks();
    listener.AwaitOutcomes(1);
  }
  {
    Listener listener;
    Connect(uri, listener);
    const absl::Status why = listener.AwaitClosed();
    EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(Text(why), HasSubstr(directory_.Path("f")));
    DestroyLinks();
  }
  disk.reset();
  const absl::Time give_up = absl::Now() + absl::Minutes(1);
  while (absl::Now() < give_up) {  // the threads come back one after the other
    Listener listener;
    Connect(uri, listener);
    const bool ready = listener.AwaitEither() > 0;
    DestroyLinks();
    if (ready) return;
  }
  FAIL() << "the stuck threads never came back";
}

TEST_F(FlatstoreLinkTest, ALoopMayGoWhileAThreadStillHangs) {
  auto loop = std::make_unique<EventLoop>("ev-test");
  std::unique_ptr<HeldSystemCall> disk;
  std::unique_ptr<Link> link;
  Listener listener;
  const absl::StatusOr<Target> target = Canonicalize(absl::StrCat("flatstore:", directory_.Path("f"), "?sync=1"));
  loop->Post([&] {
    disk = std::make_unique<HeldSystemCall>(SYS_fdatasync);
    link = transport_->Connect(*target, *loop, listener);
  });
  listener.AwaitReady();
  std::vector<Parcel> parcels;
  parcels.push_back({Message::Make({.name = "E"}), listener.NewCompletion(0)});
  loop->Post([&] { link->Send(absl::MakeSpan(parcels)); });
  disk->Await();
  loop->Post([&] { link.reset(); });
  EXPECT_EQ(listener.AwaitOutcomes(1)[0].code(), absl::StatusCode::kUnavailable);
  loop.reset();
  disk.reset();
}

TEST_F(FlatstoreLinkTest, ALinkMayGoAtAnyMoment) {
  for (int i = 0; i < 200; ++i) {
    Listener listener;
    Link* link = Connect("flatstore:" + directory_.Path("f"), listener);
    if (i % 2 == 0) {
      // Not ready: on a loaded machine the threads of the links before may still be ending.
      const bool ready = listener.AwaitEither() > 0;
      if (ready) Send(link, listener, 0, 5);
      DestroyLinks();
      if (ready) listener.AwaitOutcomes(5);
    } else {
      DestroyLinks();
    }
  }
  for (const std::string& line : directory_.Lines("f")) EXPECT_EQ(line.substr(0, 2), "E,");
}

TEST_F(FlatstoreLinkTest, TwoSubscribersOfOneFileKeepTheirLinesWhole) {
  Listener first, second;
  Link* plain = Connect("flatstore:" + directory_.Path("f"), first);
  Link* named = Connect(absl::StrCat("flatstore:", directory_.Path("f"), "?delimiter=;"), second);
  first.AwaitReady();
  second.AwaitReady();
  constexpr int kLines = 500;
  for (int i = 0; i < kLines; i += 10) {
    Send(plain, first, i, i + 10);
    Send(named, second, i, i + 10);
  }
  ExpectAllOk(first.AwaitOutcomes(kLines));
  ExpectAllOk(second.AwaitOutcomes(kLines));
  int next_plain = 0, next_named = 0;
  for (const std::string& line : directory_.Lines("f")) {
    if (line == absl::StrCat("E,", next_plain)) {
      ++next_plain;
    } else {
      ASSERT_EQ(line, absl::StrCat("E;", next_named));
      ++next_named;
    }
  }
  EXPECT_EQ(next_plain, kLines);
  EXPECT_EQ(next_named, kLines);
}

}  // namespace
}  // namespace eventvirtual
