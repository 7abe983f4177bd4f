// The suite itself: a good transport passes every case, and each planted bug is caught by the case that is there for
// it.
#include "transports/testing/conformance.h"

#include <fcntl.h>
#include <gtest/gtest-spi.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "transports/api/mutex.h"

namespace eventvirtual {
namespace {

enum class Bug {
  kNone,
  kCanonicalFormDrifts,
  kTakesUnknownOptions,
  kShowsThePassword,
  kCutsLongMessages,
  kTooLargeClosesTheLink,
  kSwapsNeighbours,
  kSendsTwice,
  kSaysOkAndDrops,
  kSaysOkBeforeTheWrite,
  kBlocksTheLoop,
  kLosesACompletion,
  kClosesTwice,
  kCallsUpFromSend,
  kSaysOkToNobody,
  kKeepsTheLastLinksEvents,
  kLeaksADescriptor,
};

constexpr size_t kLargest = 100000;

// Where events arrive: the memory of this process. Any thread.
struct Site {
  Mutex mutex;
  CondVar changed;
  bool running ABSL_GUARDED_BY(mutex) = true;
  bool stalled ABSL_GUARDED_BY(mutex) = false;
  std::deque<std::string> arrived ABSL_GUARDED_BY(mutex);
  std::vector<std::pair<Loop*, std::function<void()>>> links ABSL_GUARDED_BY(mutex);  // what to run when they change
  std::deque<std::string> left_over ABSL_GUARDED_BY(mutex);
  std::vector<Completion> lost ABSL_GUARDED_BY(mutex);

  void Change(bool* field, bool value) {
    MutexLock lock(&mutex);
    *field = value;
    for (auto& [loop, on_change] : links) loop->Post(on_change);
    changed.SignalAll();
  }
};

class MemoryLink final : public Link {
 public:
  MemoryLink(Bug bug, Site& site, Loop& loop, Host& host) : bug_(bug), site_(site), loop_(loop), host_(host) {
    auto on_change = [this, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) Pump();
    };
    MutexLock lock(&site_.mutex);
    if (bug_ == Bug::kLeaksADescriptor) fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    site_.links.push_back({&loop_, on_change});
    loop_.Post([this, alive = std::weak_ptr<bool>(alive_)] {
      if (alive.expired()) return;
      bool running;
      {
        MutexLock lock(&site_.mutex);
        running = site_.running;
        while (!site_.left_over.empty()) {
          site_.arrived.push_back(std::move(site_.left_over.front()));
          site_.left_over.pop_front();
        }
      }
      if (running || bug_ == Bug::kSaysOkToNobody) return host_.OnReady(64);
      Close();
    });
  }
  ~MemoryLink() override {
    MutexLock lock(&site_.mutex);
    site_.links.clear();
  }

  void Send(absl::Span<Parcel> parcels) override {
    if (bug_ == Bug::kSwapsNeighbours && parcels.size() > 2) std::swap(parcels[1], parcels[2]);
    if (bug_ == Bug::kCallsUpFromSend) host_.OnClosed(absl::UnavailableError("from inside"));
    for (Parcel& parcel : parcels) {
      if (parcel.message->jsonrpc().size() > kLargest && bug_ != Bug::kCutsLongMessages) {
        std::move(parcel.done).Finish(absl::InvalidArgumentError("too large"));
        if (bug_ == Bug::kTooLargeClosesTheLink) Close();
        continue;
      }
      if (bug_ == Bug::kSaysOkBeforeTheWrite) std::move(parcel.done).Finish(absl::OkStatus());
      out_.push_back(std::move(parcel));
    }
    if (bug_ == Bug::kBlocksTheLoop) {
      MutexLock lock(&site_.mutex);
      while (site_.stalled) site_.changed.Wait(&site_.mutex);
    }
    Pump();
  }

 private:
  void Pump() {
    std::vector<Parcel> done;
    bool running;
    {
      MutexLock lock(&site_.mutex);
      running = site_.running;
      while (running && !site_.stalled && !out_.empty()) {
        std::string text(out_.front().message->jsonrpc());
        if (bug_ == Bug::kCutsLongMessages) text.resize(std::min<size_t>(text.size(), 65536));
        if (bug_ != Bug::kSaysOkAndDrops || ++count_ % 10 != 0) site_.arrived.push_back(text);
        if (bug_ == Bug::kSendsTwice && ++count_ % 100 == 0) site_.arrived.push_back(text);
        done.push_back(std::move(out_.front()));
        out_.pop_front();
      }
      site_.changed.SignalAll();
    }
    for (Parcel& parcel : done) std::move(parcel.done).Finish(absl::OkStatus());
    if (!running) Close();
  }

  void Close() {
    std::deque<Parcel> out;
    out.swap(out_);
    if (bug_ == Bug::kKeepsTheLastLinksEvents) {
      MutexLock lock(&site_.mutex);
      for (const Parcel& parcel : out) site_.left_over.push_back(std::string(parcel.message->jsonrpc()));
    }
    for (Parcel& parcel : out) {
      if (bug_ == Bug::kLosesACompletion && &parcel == &out.back()) {
        // Not destroyed before the test is over: nothing but this can lose one.
        MutexLock lock(&site_.mutex);
        site_.lost.push_back(std::move(parcel.done));
        continue;
      }
      std::move(parcel.done)
          .Finish(bug_ == Bug::kSaysOkToNobody ? absl::OkStatus() : absl::UnavailableError("stopped"));
    }
    if (std::exchange(closed_, true) && bug_ != Bug::kClosesTwice) return;
    loop_.Post([this, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) host_.OnClosed(absl::UnavailableError("stopped"));
    });
    if (bug_ == Bug::kClosesTwice && count_++ == 0) Close();
  }

  const Bug bug_;
  Site& site_;
  Loop& loop_;
  Host& host_;
  std::deque<Parcel> out_;
  int count_ = 0;
  bool closed_ = false;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

class MemoryTransport final : public Transport {
 public:
  MemoryTransport(Bug bug, Site& site) : bug_(bug), site_(site) {
    MutexLock lock(&nowhere_.mutex);
    nowhere_.running = false;
  }

  absl::Span<const absl::string_view> schemes() const override {
    static constexpr absl::string_view kSchemes[] = {"memory"};
    return kSchemes;
  }
  absl::string_view syntax() const override { return "memory:[user:password@]NAME"; }
  absl::string_view description() const override { return "For the suite's own test."; }
  AckLevel ack_level() const override { return AckLevel::kConfirmed; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    if (uri.body.empty() || uri.body.size() > 100) {
      return absl::InvalidArgumentError(absl::StrCat("a name has 1 to 100 bytes, not ", uri.body.size()));
    }
    if (bug_ != Bug::kTakesUnknownOptions) {
      QueryReader query(uri);
      if (absl::Status status = query.Done(); !status.ok()) return status;
    }
    Target target;
    target.canonical = absl::StrCat("memory:", uri.body, bug_ == Bug::kCanonicalFormDrifts ? "/" : "");
    target.masked = bug_ == Bug::kShowsThePassword ? target.canonical
                                                   : absl::StrReplaceAll(target.canonical, {{":s3cr3t@", ":***@"}});
    target.ack_level = ack_level();
    target.attempt_timeout = absl::Seconds(1);
    return target;
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    Site& site = absl::EndsWith(target.canonical, "@nowhere") ? nowhere_ : site_;
    return std::make_unique<MemoryLink>(bug_, site, loop, host);
  }

 private:
  const Bug bug_;
  Site& site_;
  Site nowhere_;
};

class MemoryPeer final : public ConformancePeer {
 public:
  explicit MemoryPeer(Bug bug) : transport_(bug, site_) {}

  Transport& transport() override { return transport_; }
  std::string uri() const override { return "memory:here"; }
  std::string uri_with_password() const override { return "memory:me:s3cr3t@nowhere"; }
  void Stop() override { site_.Change(&site_.running, false); }
  void Start() override { site_.Change(&site_.running, true); }
  Stalled stalled() const override { return Stalled::kUnanswered; }
  void Stall() override { site_.Change(&site_.stalled, true); }
  void Resume() override { site_.Change(&site_.stalled, false); }
  size_t largest() const override { return kLargest; }

  std::optional<std::string> Receive(absl::Duration patience) override {
    const absl::Time give_up = absl::Now() + patience;
    MutexLock lock(&site_.mutex);
    while (site_.arrived.empty() && absl::Now() < give_up) {
      site_.changed.WaitFor(&site_.mutex, give_up - absl::Now());
    }
    if (site_.arrived.empty()) return std::nullopt;
    std::string text = std::move(site_.arrived.front());
    site_.arrived.pop_front();
    return text;
  }

 private:
  Site site_;
  MemoryTransport transport_;
};

// The failures of one case, none of which fails this test.
std::string FailuresOf(absl::string_view name, Bug bug) {
  testing::TestPartResultArray results;
  {
    testing::ScopedFakeTestPartResultReporter reporter(testing::ScopedFakeTestPartResultReporter::INTERCEPT_ALL_THREADS,
                                                       &results);
    for (const ConformanceCase& test : ConformanceCases()) {
      if (test.name != name) continue;
      MemoryPeer peer(bug);
      test.run(peer);
    }
  }
  std::string text;
  for (int i = 0; i < results.size(); ++i) absl::StrAppend(&text, results.GetTestPartResult(i).message(), "\n");
  return text;
}

class GoodTransport : public testing::TestWithParam<ConformanceCase> {};

TEST_P(GoodTransport, Passes) {
  MemoryPeer peer(Bug::kNone);
  GetParam().run(peer);
}

INSTANTIATE_TEST_SUITE_P(Suite, GoodTransport, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);

struct Planted {
  const char* name;
  Bug bug;
  const char* caught_by;
  const char* saying;
};

void PrintTo(const Planted& planted, std::ostream* out) { *out << planted.name; }

class PlantedBug : public testing::TestWithParam<Planted> {};

TEST_P(PlantedBug, IsCaught) {
  const std::string failures = FailuresOf(GetParam().caught_by, GetParam().bug);
  EXPECT_TRUE(absl::StrContains(failures, GetParam().saying))
      << GetParam().caught_by << " says: " << (failures.empty() ? "nothing" : failures);
}

constexpr Planted kPlanted[] = {
    {"CanonicalFormDrifts", Bug::kCanonicalFormDrifts, "CanonicalFormIsStable", "again->canonical"},
    {"TakesUnknownOptions", Bug::kTakesUnknownOptions, "BadAddressesAreRefusedInWords", "kInvalidArgument"},
    {"ShowsThePassword", Bug::kShowsThePassword, "PasswordsStayHidden", "kPassword"},
    {"CutsLongMessages", Bug::kCutsLongMessages, "EachMessageArrivesIntact", "differs at byte 65536"},
    {"TooLargeClosesTheLink", Bug::kTooLargeClosesTheLink, "TooLargeFailsAlone", "closed()"},
    {"SwapsNeighbours", Bug::kSwapsNeighbours, "OrderIsKeptAndNothingComesTwice", "differs at byte"},
    {"SendsTwice", Bug::kSendsTwice, "OrderIsKeptAndNothingComesTwice", "differs at byte"},
    {"SaysOkAndDrops", Bug::kSaysOkAndDrops, "AnOkMeansThatItIsThere", "does not have"},
    {"SaysOkBeforeTheWrite", Bug::kSaysOkBeforeTheWrite, "AStalledPeerHoldsUpNobody", "nobody confirmed"},
    {"BlocksTheLoop", Bug::kBlocksTheLoop, "AStalledPeerHoldsUpNobody", "the loop is blocked"},
    {"LosesACompletion", Bug::kLosesACompletion, "WhatIsOutWhenThePeerStopsEndsOnce", "waited in vain"},
    {"ClosesTwice", Bug::kClosesTwice, "WhatIsOutWhenThePeerStopsEndsOnce", "closed twice"},
    {"CallsUpFromSend", Bug::kCallsUpFromSend, "EachMessageArrivesIntact", "an upcall inside Send()"},
    {"SaysOkToNobody", Bug::kSaysOkToNobody, "AnAbsentPeerLosesNothingSilently", "ok()"},
    {"KeepsTheLastLinksEvents", Bug::kKeepsTheLastLinksEvents, "ARestartedPeerIsServedByANewLinkThatStartsClean",
     "differs at byte"},
    {"LeaksADescriptor", Bug::kLeaksADescriptor, "DestroyingAtAnyMomentEndsWhatIsOutAndLeavesNothing",
     "descriptors are left open"},
};

INSTANTIATE_TEST_SUITE_P(Suite, PlantedBug, testing::ValuesIn(kPlanted),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace eventvirtual
