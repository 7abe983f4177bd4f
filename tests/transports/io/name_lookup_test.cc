#include "transports/io/name_lookup.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/fake_name_server.h"
#include "tests/transports/io/on_loop.h"
#include "transports/io/event_loop.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

// A lookup under way, and its answer.
class Asked {
 public:
  Asked(EventLoop& loop, const std::string& host, const std::string& name_servers) : loop_(loop) {
    OnLoop(loop_, [&] {
      lookup_ = std::make_unique<NameLookup>(
          loop_, HostPort{host, 80},
          [this](absl::StatusOr<std::vector<SocketAddress>> addresses) {
            EXPECT_NE(lookup_, nullptr) << "called inside the constructor";
            ++answers_;
            answer_ = std::move(addresses);
            lookup_.reset();  // an owner may let go inside the callback
            answered_.Set();
          },
          name_servers);
    });
  }
  ~Asked() {
    Cancel();
    OnLoop(loop_, [] {});
    EXPECT_LE(answers_, 1);
  }

  void Cancel() {
    OnLoop(loop_, [&] { lookup_.reset(); });
  }
  bool answered() {
    bool answered = false;
    OnLoop(loop_, [&] { answered = answers_ > 0; });
    return answered;
  }
  std::vector<std::string> Addresses() {
    EXPECT_TRUE(answered_.Wait());
    EXPECT_TRUE(answer_.ok()) << answer_.status();
    std::vector<std::string> texts;
    if (answer_.ok()) {
      for (const SocketAddress& address : *answer_) texts.push_back(address.ToString());
    }
    return texts;
  }
  std::string Error() {
    EXPECT_TRUE(answered_.Wait());
    EXPECT_EQ(answer_.status().code(), absl::StatusCode::kUnavailable) << answer_.status();
    return std::string(answer_.status().message());
  }

 private:
  EventLoop& loop_;
  std::unique_ptr<NameLookup> lookup_;  // on the loop, like answers_
  int answers_ = 0;
  absl::StatusOr<std::vector<SocketAddress>> answer_ = absl::UnknownError("none yet");
  Signal answered_;
};

// A port at which nobody answers.
constexpr char kDeadServer[] = "127.0.0.1:9";

TEST(NameLookup, NumericAddressesAreNotLookedUp) {
  EventLoop loop("lookup");
  EXPECT_THAT(Asked(loop, "192.0.2.7", kDeadServer).Addresses(), ElementsAre("192.0.2.7:80"));
  EXPECT_THAT(Asked(loop, "2001:db8::7", kDeadServer).Addresses(), ElementsAre("[2001:db8::7]:80"));
}

TEST(NameLookup, AnEntryOfTheHostsFileNeedsNoNameServer) {
  EventLoop loop("lookup");
  for (const std::string& address : Asked(loop, "localhost", kDeadServer).Addresses()) {
    EXPECT_THAT(address, AnyOf("127.0.0.1:80", "[::1]:80"));
  }
}

TEST(NameLookup, GivesAllAddressesOfBothFamilies) {
  FakeNameServer server({{"many.example", {{"127.0.0.2", "127.0.0.3", "::1"}}}, {"six.example", {{"::1"}}}});
  EventLoop loop("lookup");
  EXPECT_THAT(Asked(loop, "many.example", server.address()).Addresses(),
              UnorderedElementsAre("127.0.0.2:80", "127.0.0.3:80", "[::1]:80"));
  EXPECT_THAT(Asked(loop, "six.example", server.address()).Addresses(), ElementsAre("[::1]:80"));
}

TEST(NameLookup, ANameThatDoesNotExistIsNamedInTheError) {
  FakeNameServer server({{"empty.example", FakeNameServer::Answer()}});
  EventLoop loop("lookup");
  EXPECT_THAT(Asked(loop, "nowhere.example", server.address()).Error(),
              AllOf(HasSubstr("\"nowhere.example\""), HasSubstr("not found")));
  EXPECT_THAT(Asked(loop, "empty.example", server.address()).Error(), HasSubstr("\"empty.example\""));
}

TEST(NameLookup, ADeadNameServerIsNamedAsTheReason) {
  EventLoop loop("lookup");
  EXPECT_THAT(Asked(loop, "some.example", kDeadServer).Error(),
              AllOf(HasSubstr("\"some.example\""), HasSubstr("DNS server")));
}

TEST(NameLookup, ASilentNameServerIsGivenUp) {
  FakeNameServer silent({{"some.example", {.silent = true}}});
  EventLoop loop("lookup");
  EXPECT_THAT(Asked(loop, "some.example", silent.address()).Error(), HasSubstr("\"some.example\""));
  EXPECT_GT(silent.questions(), 2);  // both families, asked again
}

TEST(NameLookup, TheSecondNameServerIsAskedBeforeAConnectWouldBeGivenUp) {
  FakeNameServer silent({{"some.example", {.silent = true}}});
  FakeNameServer good({{"some.example", {{"127.0.0.5"}}}});
  EventLoop loop("lookup");
  const absl::Time asked = absl::Now();
  EXPECT_THAT(Asked(loop, "some.example", absl::StrCat(silent.address(), ",", good.address())).Addresses(),
              ElementsAre("127.0.0.5:80"));
  EXPECT_LT(absl::Now() - asked, absl::Seconds(4));  // c-ares by itself: more than 5 s
}

TEST(NameLookup, ASlowNameServerDelaysNeitherTheLoopNorAnotherLookup) {
  FakeNameServer silent({{"slow.example", {.silent = true}}});
  FakeNameServer quick({{"quick.example", {{"127.0.0.6"}}}});
  EventLoop loop("lookup");
  Asked slow(loop, "slow.example", silent.address());
  EXPECT_THAT(Asked(loop, "quick.example", quick.address()).Addresses(), ElementsAre("127.0.0.6:80"));
  EXPECT_FALSE(slow.answered());
}

TEST(NameLookup, ALateAnswerIsStillAnAnswer) {
  FakeNameServer late({{"late.example", {.addresses = {"127.0.0.7"}, .delay = absl::Milliseconds(100)}}});
  EventLoop loop("lookup");
  EXPECT_THAT(Asked(loop, "late.example", late.address()).Addresses(), ElementsAre("127.0.0.7:80"));
}

TEST(NameLookup, DestroyingItCancels) {
  FakeNameServer late({{"late.example", {.addresses = {"127.0.0.7"}, .delay = absl::Seconds(1)}}});
  FakeNameServer quick({{"quick.example", {{"127.0.0.6"}}}});
  EventLoop loop("lookup");
  for (int i = 0; i < 20; ++i) {
    Asked on_the_way(loop, "late.example", late.address());
    on_the_way.Cancel();
    EXPECT_FALSE(on_the_way.answered());

    // The answer has been posted already, or is about to be.
    Asked posted(loop, "127.0.0.1", "");
    posted.Cancel();
    Asked nearly(loop, "quick.example", quick.address());
    nearly.Cancel();
  }
}

}  // namespace
}  // namespace eventvirtual
