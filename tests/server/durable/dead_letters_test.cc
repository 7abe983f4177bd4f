// What was given up can be looked at, given back, and forgotten.
#include "server/durable/dead_letters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/server/durable/life.h"
#include "tests/transports/io/temporary_folder.h"

namespace eventvirtual {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class DeadLettersTest : public testing::Test {
 protected:
  DeadLettersTest() { Begin(); }
  ~DeadLettersTest() override {
    letters_.reset();
    life_.reset();
  }
  void Begin(DurableLimits limits = {}) {
    letters_.reset();
    life_.reset();
    life_ = std::make_unique<Life>(folder_, limits);
    letters_ =
        std::make_unique<DeadLetters>(*life_->journal, life_->world.registry, life_->loop,
                                      [this](const MessageRef& message, const Ref<const Subscription>& subscription) {
                                        return life_->durable->KeepAgain(message, subscription);
                                      });
  }

  // So many events of `event` are given up after one attempt at fake:a.
  std::string GiveUp(const std::string& event, int count) {
    DeliveryOptions options;
    options.max_attempts = 1;
    const std::string name = life_->Subscribe(event, "virtual:FAILOVER fake:me:s3cr3t@a?timeout=1h", options);
    for (int i = 0; i < count; ++i) {
      life_->Raise(event, i);
      life_->Settle();
      while (!life_->Has("a")) life_->Advance(absl::Seconds(1));
      life_->End("a", absl::UnavailableError("nack"));
    }
    life_->Advance(absl::Seconds(31));
    return name;
  }
  std::vector<DeadLetter> List(const std::string& event = "", uint64_t after = 0, size_t limit = 1000) {
    std::optional<absl::StatusOr<std::vector<DeadLetter>>> listed;
    letters_->List(event, after, limit, [&](absl::StatusOr<std::vector<DeadLetter>> all) { listed = std::move(all); });
    life_->Settle();
    EV_CHECK(listed.has_value() && listed->ok());
    return **std::move(listed);
  }
  DeadLetters::Replayed Replay(const std::string& event) {
    std::optional<absl::StatusOr<DeadLetters::Replayed>> replayed;
    letters_->Replay(
        event, 0, [] { return false; },
        [&](absl::StatusOr<DeadLetters::Replayed> result) { replayed = std::move(result); });
    life_->Settle();
    EV_CHECK(replayed.has_value() && replayed->ok());
    return **std::move(replayed);
  }
  uint64_t Purge(const std::string& event, bool really) {
    std::optional<absl::StatusOr<uint64_t>> purged;
    letters_->Purge(event, really, [&](absl::StatusOr<uint64_t> count) { purged = std::move(count); });
    life_->Settle();
    EV_CHECK(purged.has_value() && purged->ok());
    return **purged;
  }

  const TemporaryFolder temporary_;
  const std::string folder_ = temporary_ / "data";
  std::unique_ptr<Life> life_;
  std::unique_ptr<DeadLetters> letters_;
};

TEST_F(DeadLettersTest, AreListedInPagesWithAllThatIsKnownOfThemAlsoInTheNextLife) {
  const std::string name = GiveUp("E_A", 2);
  GiveUp("E_B", 1);
  Begin();
  const std::vector<DeadLetter> all = List();
  ASSERT_THAT(all, SizeIs(3));
  EXPECT_EQ(all[0].subscription, name);
  EXPECT_EQ(all[0].event, "E_A");
  EXPECT_EQ(all[0].message->event_id(), "id-0");
  EXPECT_EQ(all[0].attempts, 1u);
  ASSERT_THAT(all[0].last_attempts, SizeIs(1));
  EXPECT_EQ(all[0].last_attempts[0].uri, "fake:me:***@a?timeout=1h");
  EXPECT_EQ(all[0].last_attempts[0].status, absl::UnavailableError("nack"));
  EXPECT_THAT(List("", 0, 2), SizeIs(2));
  EXPECT_THAT(List("", all[1].id, 2), SizeIs(1));
  EXPECT_THAT(List("E_B"), SizeIs(1));
  EXPECT_THAT(List("E_C"), IsEmpty());
}

TEST_F(DeadLettersTest, AreGivenBackInOrderAndDeliveredLikeOthers) {
  GiveUp("E_A", 3);
  EXPECT_EQ(Replay("E_B").replayed, 0u);
  EXPECT_EQ(Replay("E_A").replayed, 3u);
  std::vector<std::string> arrived;
  while (life_->Has("a")) arrived.push_back(life_->End("a"));
  EXPECT_THAT(arrived, ElementsAre("id-0", "id-1", "id-2"));
  EXPECT_THAT(List(), IsEmpty());
}

TEST_F(DeadLettersTest, WhatFailsAgainIsADeadLetterAgainAndNotGivenBackForEver) {
  GiveUp("E", 1);
  life_->world.fake->at("a").connect_error = absl::UnavailableError("connection refused");
  life_->world.fake->CloseLink("a", absl::UnavailableError("gone"));
  EXPECT_EQ(Replay("").replayed, 1u);
  life_->Advance(absl::Seconds(31));
  ASSERT_THAT(List(), SizeIs(1));
}

TEST_F(DeadLettersTest, OfASubscriptionThatHasEndedStayAndSayWhy) {
  const std::string name = GiveUp("E", 2);
  ASSERT_TRUE(life_->world.registry.Unsubscribe(name).ok());
  life_->Settle();
  const DeadLetters::Replayed replayed = Replay("");
  EXPECT_EQ(replayed.replayed, 0u);
  EXPECT_EQ(replayed.failed, 2u);
  EXPECT_THAT(std::string(replayed.why.message()), HasSubstr(name));
  EXPECT_THAT(List(), SizeIs(2));
}

TEST_F(DeadLettersTest, AReplayKeepsToItsRateAndEndsWithItsCaller) {
  GiveUp("E", 20);
  bool gone = false;
  std::optional<absl::StatusOr<DeadLetters::Replayed>> result;
  letters_->Replay(
      "", 2, [&gone] { return gone; },
      [&](absl::StatusOr<DeadLetters::Replayed> replayed) { result = std::move(replayed); });
  life_->Settle();
  const size_t at_once = life_->world.fake->at("a").parked.size();
  EXPECT_LE(at_once, 2u);
  life_->world.fake->at("a").window = 100;
  int arrived = 0;
  for (int tick = 0; tick < 40; ++tick) {
    life_->Advance(absl::Milliseconds(50));
    while (life_->Has("a")) arrived += !life_->End("a").empty();
  }
  EXPECT_GE(arrived, 4);
  EXPECT_LE(arrived, 7) << "two in a second";
  gone = true;
  life_->Advance(absl::Seconds(2));
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->status().code(), absl::StatusCode::kCancelled);
}

TEST_F(DeadLettersTest, AreForgottenOnlyIfReallyMeant) {
  GiveUp("E_A", 2);
  GiveUp("E_B", 1);
  EXPECT_EQ(Purge("E_A", false), 2u);
  EXPECT_THAT(List(), SizeIs(3));
  EXPECT_EQ(Purge("E_A", true), 2u);
  EXPECT_THAT(List(), SizeIs(1));
  EXPECT_EQ(Purge("", false), 1u);
  EXPECT_EQ(Purge("", true), 1u);
  EXPECT_THAT(List(), IsEmpty());
}

TEST_F(DeadLettersTest, OfTooManyTheOldestGo) {
  DurableLimits limits;
  limits.dead_letters = 3;
  Begin(limits);
  GiveUp("E", 5);
  const std::vector<DeadLetter> all = List();
  ASSERT_THAT(all, SizeIs(3));
  EXPECT_EQ(all[0].message->event_id(), "id-2");
}

}  // namespace
}  // namespace eventvirtual
