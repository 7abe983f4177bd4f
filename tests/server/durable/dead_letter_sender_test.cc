// What was given up goes where its subscription wants it, and is kept until it is there.
#include "server/durable/dead_letter_sender.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/server/durable/life.h"
#include "tests/transports/io/temporary_folder.h"

namespace eventvirtual {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

const absl::Status kNack = absl::UnavailableError("nack");

class DeadLetterSenderTest : public testing::Test {
 protected:
  DeadLetterSenderTest() { Begin(); }
  ~DeadLetterSenderTest() override { End(); }
  void Begin() {
    End();
    life_ = std::make_unique<Life>(folder_);
    sender_ = std::make_unique<DeadLetterSender>(*life_->journal, life_->world.catalog, life_->world.pool, life_->loop);
    life_->durable->TellOfDeadLetters([this] { sender_->Wake(); });
    sender_->Wake();
    life_->Settle();
  }
  // As after kill -9: nobody hears any more how what is out ends.
  void End() {
    if (life_ == nullptr) return;
    sender_.reset();
    life_->store.reset();
    life_->durable.reset();
    life_->world.pool.CloseAll();
    life_->world.loop.RunUntilIdle();
    life_->loop.Run();
    life_.reset();
  }

  std::string Subscribe(const std::string& uri, const std::string& event = "E") {
    DeliveryOptions options;
    options.max_attempts = 1;
    options.dead_letter_uri = uri;
    return life_->Subscribe(event, "fake:a?timeout=1h", options);
  }
  // Raised, tried once, and given up.
  void GiveUp(int first, int last) {
    for (int i = first; i <= last; ++i) {
      life_->Raise("E", i);
      life_->Settle();
      while (!life_->Has("a")) life_->Advance(absl::Seconds(1));
      life_->End("a", kNack);
    }
  }
  std::string JsonAt(const std::string& site) {
    return std::string(life_->world.fake->at(site).parked.front().message->jsonrpc());
  }

  const TemporaryFolder temporary_;
  const std::string folder_ = temporary_ / "data";
  std::unique_ptr<Life> life_;
  std::unique_ptr<DeadLetterSender> sender_;
};

TEST_F(DeadLetterSenderTest, WhatIsGivenUpIsSentWithReasonAttemptsAndSubscriptionAndThenNotKept) {
  const std::string name = Subscribe("fake:me:s3cr3t@dead?timeout=1h");
  GiveUp(7, 7);
  ASSERT_TRUE(life_->Has("dead"));
  EXPECT_EQ(JsonAt("dead"), absl::StrCat(R"({"jsonrpc":"2.0","method":"E","params":{"n":7,"dead_letter_reason":)",
                                         R"("max_attempts: all 1 have failed","dead_letter_attempts":1,)",
                                         R"("dead_letter_subscription":")", name, R"("}})"));
  EXPECT_THAT(life_->DeadLetters(), SizeIs(1)) << "until it is there";
  EXPECT_EQ(life_->End("dead"), "id-7");
  EXPECT_THAT(life_->DeadLetters(), IsEmpty());
  EXPECT_EQ(sender_->counts().sent, 1u);
  EXPECT_EQ(life_->Info(name).dead_lettered, 1u);
  EXPECT_FALSE(life_->Has("dead"));
}

TEST_F(DeadLetterSenderTest, WhatTheDestinationDoesNotTakeIsKeptWithBothReasonsAndNotSentAgain) {
  Subscribe("fake:me:s3cr3t@dead?timeout=1h");
  GiveUp(1, 1);
  life_->End("dead", absl::UnavailableError("the spool is full"));
  std::vector<SavedDeadLetter> letters = life_->DeadLetters();
  ASSERT_THAT(letters, SizeIs(1));
  EXPECT_THAT(letters[0].reason,
              AllOf(HasSubstr("max_attempts: all 1 have failed; its dead_letter_uri (fake:me:***@dead"),
                    HasSubstr("the spool is full"), Not(HasSubstr("s3cr3t"))));
  EXPECT_EQ(sender_->counts().failed, 1u);
  Begin();
  EXPECT_FALSE(life_->Has("dead"));
  letters = life_->DeadLetters();
  ASSERT_THAT(letters, SizeIs(1));
  EXPECT_EQ(letters[0].destination, "");
}

TEST_F(DeadLetterSenderTest, OneWhoIsDownIsNoReasonToLoseOne) {
  life_->world.fake->at("dead").connect_error = absl::UnavailableError("connection refused");
  Subscribe("fake:dead?timeout=1h");
  GiveUp(1, 3);
  life_->Advance(absl::Minutes(2));
  const std::vector<SavedDeadLetter> letters = life_->DeadLetters();
  ASSERT_THAT(letters, SizeIs(3));
  for (const SavedDeadLetter& letter : letters) EXPECT_THAT(letter.reason, HasSubstr("connection refused"));
}

TEST_F(DeadLetterSenderTest, WhatWasOnItsWayWhenTheProcessDiedIsSentByTheNext) {
  Subscribe("fake:dead?timeout=1h");
  GiveUp(1, 2);
  ASSERT_TRUE(life_->Has("dead"));
  Begin();
  ASSERT_TRUE(life_->Has("dead"));
  EXPECT_EQ(life_->End("dead"), "id-1");
  EXPECT_EQ(life_->End("dead"), "id-2");
  EXPECT_THAT(life_->DeadLetters(), IsEmpty());
  Begin();
  EXPECT_FALSE(life_->Has("dead"));
}

TEST_F(DeadLetterSenderTest, AStopLeavesWhatFailsToTheNextLife) {
  Subscribe("fake:dead?timeout=1h");
  GiveUp(1, 1);
  sender_->Stop();
  life_->Settle();
  life_->End("dead", absl::UnavailableError("closed"));
  Begin();
  ASSERT_TRUE(life_->Has("dead"));
  EXPECT_EQ(life_->End("dead"), "id-1");
  EXPECT_THAT(life_->DeadLetters(), IsEmpty());
}

TEST_F(DeadLetterSenderTest, TheQueueOfOneThatEndsGoesThereInItsOrder) {
  const std::string name = Subscribe("fake:dead?timeout=1h");
  for (int i = 1; i <= 300; ++i) life_->Raise("E", i);
  life_->Settle();
  ASSERT_TRUE(life_->world.registry.Unsubscribe(name).ok());
  life_->Settle();
  while (life_->Has("a")) life_->End("a", kNack);
  std::vector<std::string> ids;
  while (life_->Has("dead")) ids.push_back(life_->End("dead"));
  ASSERT_THAT(ids, SizeIs(300));
  for (int i = 1; i <= 300; ++i) EXPECT_EQ(ids[i - 1], absl::StrCat("id-", i));
  EXPECT_THAT(life_->DeadLetters(), IsEmpty());
}

TEST_F(DeadLetterSenderTest, OneThatExpiredWhileTheServiceWasDownStillHasIts) {
  SubscriptionSpec spec = life_->world.Spec("E", "fake:a?timeout=1h");
  spec.delivery.durable = true;
  spec.delivery.dead_letter_uri = "fake:dead?timeout=1h";
  spec.expires = life_->world.loop.Now() + absl::Hours(1);
  ASSERT_TRUE(life_->world.registry.Subscribe(spec).ok());
  life_->Raise("E", 1);
  life_->Settle();
  // Its row goes as the start of the next life would make it go: its time is over.
  life_->journal->Erase(std::string(
      absl::StripPrefix(life_->world.registry.List("", 0, 1).subscriptions[0].name, Subscription::kNamePrefix)));
  life_->Settle();
  Begin();
  ASSERT_TRUE(life_->Has("dead"));
  EXPECT_THAT(JsonAt("dead"), HasSubstr("the subscription has ended"));
  EXPECT_EQ(life_->End("dead"), "id-1");
  EXPECT_THAT(life_->DeadLetters(), IsEmpty());
}

TEST_F(DeadLetterSenderTest, ItIsAnOptionThatARefreshChangesAndThatARestartKeeps) {
  const std::string name = Subscribe("fake:first");
  EXPECT_EQ(Subscribe("fake:me:s3cr3t@second"), name);
  EXPECT_EQ(life_->Info(name).delivery.dead_letter_uri, "fake:me:***@second");
  life_->Settle();
  Begin();
  EXPECT_EQ(life_->Info(name).delivery.dead_letter_uri, "fake:me:***@second");
  GiveUp(1, 1);
  EXPECT_EQ(life_->End("second"), "id-1");
  Subscribe("");
  GiveUp(2, 2);
  EXPECT_FALSE(life_->Has("first") || life_->Has("second"));
  EXPECT_THAT(life_->DeadLetters(), SizeIs(1));
}

TEST_F(DeadLetterSenderTest, WhatCannotBeADestinationIsRefusedWhenItIsSubscribed) {
  SubscriptionSpec spec = life_->world.Spec("E", "fake:a");
  spec.delivery.dead_letter_uri = "fake:dead?timeout=1h";
  absl::Status refused = life_->world.registry.Subscribe(spec).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(refused.message(), HasSubstr("delivery.dead_letter_uri: only durable"));
  spec.delivery.durable = true;
  spec.delivery.dead_letter_uri = "pigeon:dead";
  for (const bool validate : {false, true}) {
    refused = (validate ? life_->world.registry.Validate(spec) : life_->world.registry.Subscribe(spec)).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(refused.message(), AllOf(HasSubstr("delivery.dead_letter_uri: "), HasSubstr("pigeon")));
  }
  EXPECT_EQ(life_->world.registry.size(), 0u);
}

TEST(DeadLetterMessage, KeepsWhatTheEventWasAndPositionsStayPositions) {
  const Param params[] = {{"", int64_t{1}}, {"", absl::string_view("two")}};
  const std::pair<absl::string_view, absl::string_view> attribute{"tracestate", "x=y"};
  EventFields fields;
  fields.name = "E";
  fields.event_id = "id";
  fields.source = "proxy";
  fields.event_time = absl::FromUnixSeconds(1700000000);
  fields.params = params;
  fields.attributes = absl::MakeConstSpan(&attribute, 1);
  fields.hops = 3;
  fields.jsonrpc = R"({"jsonrpc":"2.0","method":"E","params":[1,"two"]})";
  const MessageRef event = Message::Make(fields);
  SavedDeadLetter letter;
  letter.subscription = "s";
  letter.reason = "late";
  letter.attempts = 3;
  const MessageRef message = DeadLetterMessage(*event, letter);
  EXPECT_EQ(message->jsonrpc(), R"({"jsonrpc":"2.0","method":"E","params":[1,"two","late",3,"subscriptions/s"]})");
  EXPECT_EQ(message->event_id(), "id");
  EXPECT_EQ(message->source(), "proxy");
  EXPECT_EQ(message->event_time(), fields.event_time);
  EXPECT_THAT(message->attributes(), ElementsAre(attribute));
  EXPECT_EQ(message->hops(), 3) << "from the dead letters it can come back, too";
}

}  // namespace
}  // namespace eventvirtual
