// sqs against an emulator of AWS, moto, behind a check of every signature by AWS's own client library; see
// strict_sqs.py.
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/http/nginx.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/io/server_process.h"
#include "tests/transports/sqs/sqs_peers.h"
#include "transports/sqs/sqs_transport.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

MessageRef MessageWithId(absl::string_view id, absl::string_view text) {
  const Param param{"n", text};
  EventFields fields;
  fields.name = "E_ID";
  fields.event_id = id;
  fields.params = absl::MakeConstSpan(&param, 1);
  return Message::Make(fields);
}

class SqsMotoTest : public testing::Test {
 protected:
  SqsMotoTest() { SetCredentials(kKeyId, kSecret); }

  const std::unique_ptr<Transport> transport_ = MakeSqsTransport();
  StrictSqs sqs_;
};

TEST_F(SqsMotoTest, AConsumerSeesTheBodyTheEventsIdAndTheMediaType) {
  for (const char* options : {"", "&encoding=json"}) {
    LinkUnderTest link(*transport_, sqs_.Uri("calls", options));
    ASSERT_EQ(link.WaitReady(), 1);
    ASSERT_TRUE(link.SendAndWait(MessageWithId("call 7", "K\xc3\xb6ln \"\\\t\xf0\x9f\x93\x9e")).ok());
  }
  const std::vector<std::string> taken = sqs_.Take("calls");
  ASSERT_EQ(taken.size(), 2u);
  EXPECT_EQ(taken[0], R"({"body": "{\"jsonrpc\":\"2.0\",\"method\":\"E_ID\",\"params\":{\"n\":\"K\u00f6ln \\\"\\\\\\t)"
                      R"(\ud83d\udcde\"}}", "event-id": "call%207", "eventhops": "1"})");
  EXPECT_THAT(taken[1], AllOf(HasSubstr(R"({"body": "{\"event\":\"E_ID\",\"event_id\":\"call 7\")"),
                              HasSubstr(R"("content-type": "application/json")")));
}

TEST_F(SqsMotoTest, AConsumerSeesHopsAndTrace) {
  const std::pair<absl::string_view, absl::string_view> attributes[] = {{"traceparent", "00-ab-cd-01"},
                                                                        {"tracestate", "a=1"}};
  EventFields fields{.name = "E_ACC", .hops = 2};
  fields.attributes = attributes;
  LinkUnderTest link(*transport_, sqs_.Uri("calls"));
  ASSERT_EQ(link.WaitReady(), 1);
  ASSERT_TRUE(link.SendAndWait(Message::Make(fields)).ok());
  const std::vector<std::string> taken = sqs_.Take("calls");
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_THAT(taken[0], AllOf(HasSubstr(R"("eventhops": "3")"), HasSubstr(R"("traceparent": "00-ab-cd-01")"),
                              HasSubstr(R"("tracestate": "a=1")")));
}

TEST_F(SqsMotoTest, AFifoQueueKeepsTheOrderAndStoresAnEventOnceHoweverOftenItComes) {
  LinkUnderTest link(*transport_, sqs_.Uri("calls.fifo"));
  ASSERT_EQ(link.WaitReady(), 1);
  constexpr int kEvents = 100;
  for (int i = 0; i < kEvents; ++i) {
    const MessageRef message = MessageWithId(absl::StrCat("id-", i), absl::StrCat(i));
    ASSERT_TRUE(link.SendAndWait(message).ok());
    if (i % 10 == 0) {
      ASSERT_TRUE(link.SendAndWait(message).ok()) << "again";
    }
  }
  const std::vector<std::string> taken = sqs_.Take("calls.fifo");
  ASSERT_EQ(taken.size(), kEvents);
  for (int i = 0; i < kEvents; ++i) {
    EXPECT_EQ(taken[i],
              absl::StrCat(R"({"body": "{\"jsonrpc\":\"2.0\",\"method\":\"E_ID\",\"params\":{\"n\":\")", i,
                           R"(\"}}", "event-id": "id-)", i,
                           R"(", "eventhops": "1", "MessageGroupId": "eventvirtual", "MessageDeduplicationId": "id-)",
                           i, R"("})"));
  }
}

TEST_F(SqsMotoTest, TheSignatureHoldsForEveryBytePermittedAndEverySize) {
  LinkUnderTest link(*transport_, sqs_.Uri("calls"));
  ASSERT_EQ(link.WaitReady(), 1);
  std::string all_bytes;  // of ASCII
  for (int c = 1; c < 128; ++c) all_bytes.push_back(static_cast<char>(c));
  for (const MessageRef& message :
       {MakeMessage("E_EMPTY"), MakeMessage("E_BYTES", all_bytes), MessageOfSize(65536), MessageOfSize((1 << 20) - 100),
        MakeMessage("E_QUOTES", std::string(500000, '"'))}) {
    const absl::Status outcome = link.SendAndWait(message);
    EXPECT_TRUE(outcome.ok()) << message->size() << outcome;
  }
  EXPECT_EQ(sqs_.Take("calls").size(), 5u);
}

TEST_F(SqsMotoTest, TemporaryCredentialsAreAcceptedWithTheirToken) {
  SetCredentials("ASIAEXAMPLE", "temporary/SECRET+KEY=", "IQoJb3JpZ2lu/+=");
  const absl::Status outcome = OutcomeOf(*transport_, sqs_.Uri("calls"));
  EXPECT_TRUE(outcome.ok()) << outcome;
}

TEST_F(SqsMotoTest, AWrongSecretKeyTokenOrRegionIsRefusedAndNotShown) {
  struct Row {
    const char *key_id, *secret, *token;
    std::string region, said;
  };
  for (const Row& row : {
           Row{kKeyId, "s3cret", nullptr, "eu-central-1", "InvalidSignature: The request signature we calculated"},
           Row{"AKIDNOBODY", kSecret, nullptr, "eu-central-1", "UnrecognizedClient: The security token"},
           Row{kKeyId, kSecret, "t0ken", "eu-central-1", "UnrecognizedClient: The security token"},
           Row{"ASIAEXAMPLE", "temporary/SECRET+KEY=", nullptr, "eu-central-1", "UnrecognizedClient"},
           Row{"ASIAEXAMPLE", "s3cret", "IQoJb3JpZ2lu/+=", "eu-central-1", "InvalidSignature"},
           Row{kKeyId, kSecret, nullptr, "eu-central-2", "should be scoped to a valid region"},
       }) {
    SetCredentials(row.key_id, row.secret, row.token);
    const std::string uri = absl::StrReplaceAll(sqs_.Uri("calls"), {{"eu-central-1", row.region}});
    const absl::Status outcome = OutcomeOf(*transport_, uri);
    EXPECT_TRUE(absl::IsUnauthenticated(outcome)) << outcome;
    EXPECT_THAT(Text(outcome), AllOf(HasSubstr(uri), HasSubstr(row.said), HasSubstr("; look at AWS_")));
    EXPECT_THAT(Text(outcome), AllOf(Not(HasSubstr("s3cret")), Not(HasSubstr("SECRET+KEY")), Not(HasSubstr("IQoJ"))));
  }
  SetCredentials(kKeyId, kSecret);
  EXPECT_THAT(sqs_.Take("calls"), IsEmpty());
}

TEST_F(SqsMotoTest, AMissingQueueIsNotFoundAndAnEventTooLargeForItsQueueIsRefusedAlone) {
  const absl::Status missing = OutcomeOf(*transport_, sqs_.Uri("gone"));
  EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
  EXPECT_THAT(Text(missing), HasSubstr("QueueDoesNotExist: The specified queue does not exist.; mend the account"));
  LinkUnderTest link(*transport_, sqs_.Uri("small"));
  ASSERT_EQ(link.WaitReady(), 1);
  const absl::Status too_large = link.SendAndWait(MessageOfSize(1025));
  EXPECT_TRUE(absl::IsInvalidArgument(too_large)) << too_large;
  EXPECT_THAT(Text(too_large), HasSubstr("Message must be shorter than 1024 bytes."));
  EXPECT_TRUE(link.SendAndWait(MessageOfSize(1024)).ok());
}

// And the connection is kept, over HTTP/2.
TEST_F(SqsMotoTest, TheSignatureHoldsOverTls) {
  Nginx nginx(sqs_.port(), /*tls=*/true, "proxy_set_header Host $http_host; client_max_body_size 3m;");
  LinkUnderTest link(*transport_,
                     absl::StrCat("sqs:", nginx.Url("localhost", "/123456789012/calls?region=eu-central-1"),
                                  "&window=4&ca=", nginx.File("ca.pem")));
  ASSERT_EQ(link.WaitReady(), 4);
  for (int round = 0; round < 5; ++round) {
    const size_t first =
        link.Send({MakeMessage("E_A"), MessageOfSize(1000000), MakeMessage("E_C"), MakeMessage("E_D")});
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(link.Outcome(first + i).ok()) << link.Outcome(first + i);
  }
  const std::vector<std::string> log = nginx.Log(20);
  EXPECT_THAT(log[0], testing::StartsWith("HTTP/2.0"));
  EXPECT_EQ(std::set<std::string>(log.begin(), log.end()).size(), 1u) << "more than one connection";
  EXPECT_EQ(sqs_.Take("calls").size(), 20u);
}

TEST_F(SqsMotoTest, AStoppedServerConfirmsNothingAndGoesOnWhenItIsContinued) {
  LinkUnderTest link(*transport_, sqs_.Uri("calls"));
  LinkUnderTest impatient(*transport_, sqs_.Uri("calls", "&timeout=1s"));
  ASSERT_EQ(link.WaitReady(), 1);
  ASSERT_EQ(impatient.WaitReady(), 1);
  ASSERT_TRUE(link.SendAndWait(MakeMessage("E_BEFORE")).ok());
  sqs_.process().Pause();
  const absl::Status outcome = impatient.SendAndWait(MakeMessage("E_WHILE"));
  EXPECT_TRUE(absl::IsDeadlineExceeded(outcome)) << outcome;
  sqs_.process().Continue();
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_AFTER")).ok());
}

// An emulator in memory: what it had stored goes with it, which SQS itself is not known to do.
TEST_F(SqsMotoTest, KilledUnderLoadEachEventEndsOnceAndANewLinkWorksAfterItsRestart) {
  {
    LinkUnderTest link(*transport_, sqs_.Uri("calls", "&window=16"));
    ASSERT_EQ(link.WaitReady(), 16);
    ASSERT_TRUE(link.SendAndWait(MakeMessage("E_BEFORE")).ok());
    int lost = 0;
    for (int round = 0; lost == 0; ++round) {
      const size_t first = link.Send(std::vector<MessageRef>(16, MakeMessage("E_LOAD", absl::StrCat(round))));
      if (round == 2) sqs_.process().Kill();
      for (int i = 0; i < 16; ++i) lost += link.Outcome(first + i).ok() ? 0 : 1;  // twice would fail the test
    }
    const absl::Status late = link.SendAndWait(MakeMessage("E_DOWN"));
    EXPECT_TRUE(absl::IsUnavailable(late)) << late;
    EXPECT_TRUE(absl::IsUnavailable(link.WaitClosed()));
  }
  sqs_.process().Start();
  LinkUnderTest link(*transport_, sqs_.Uri("calls"));
  ASSERT_EQ(link.WaitReady(), 1);
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_AFTER")).ok());
  EXPECT_THAT(sqs_.Take("calls"), ElementsAre(HasSubstr("E_AFTER")));
}

}  // namespace
}  // namespace eventvirtual
