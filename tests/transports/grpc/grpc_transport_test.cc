// The transport against a real gRPC server.
#include "transports/grpc/grpc_transport.h"

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/grpc/grpc_receiver.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/io/server_process.h"

namespace eventvirtual {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Key;
using ::testing::Le;
using ::testing::Not;
using ::testing::Pair;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

class GrpcTest : public testing::Test {
 protected:
  static std::string Url(const GrpcReceiver& receiver, absl::string_view options = "") {
    return absl::StrCat("grpc://localhost:", receiver.port(), options);
  }

  const std::unique_ptr<Transport> transport_ = MakeGrpcTransport();
};

TEST_F(GrpcTest, AReceiverSeesTheEventTheTokenTheTraceAndTheDeadline) {
  GrpcReceiver receiver;
  const Param params[] = {{"callid", absl::string_view("x")}, {"n", int64_t{7}}, {"", Null{}}};
  const std::pair<absl::string_view, absl::string_view> attributes[] = {{"traceparent", "00-ab-cd-01"},
                                                                        {"site", "Berlin"}};
  EventFields fields;
  fields.name = "E_ACC";
  fields.params = params;
  fields.event_id = "id-1";
  fields.event_time = absl::FromUnixMillis(1790000000123);
  fields.source = "sbc-1";
  fields.attributes = attributes;
  fields.hops = 2;
  LinkUnderTest link(*transport_, Url(receiver, "?token=s3cr3t&timeout=1m"));
  ASSERT_EQ(link.WaitReady(), 1);
  const absl::Status outcome = link.SendAndWait(Message::Make(fields));
  ASSERT_TRUE(outcome.ok()) << outcome;

  const std::optional<GrpcReceiver::Received> received = receiver.ReceiveEvent();
  ASSERT_TRUE(received.has_value());
  const v1::Event& event = received->event;
  EXPECT_EQ(event.name(), "E_ACC");
  EXPECT_EQ(event.event_id(), "id-1");
  EXPECT_EQ(event.source(), "sbc-1");
  EXPECT_EQ(event.event_time().seconds(), 1790000000);
  EXPECT_EQ(event.event_time().nanos(), 123000000);
  ASSERT_EQ(event.params_size(), 3);
  EXPECT_EQ(event.params(0).string_value(), "x");
  EXPECT_EQ(event.params(1).int_value(), 7);
  EXPECT_TRUE(event.params(2).null_value());
  EXPECT_EQ(event.attributes().at("site"), "Berlin");
  EXPECT_EQ(event.attributes().at("eventhops"), "3");
  EXPECT_THAT(received->metadata, Contains(Pair("eventhops", "3")));
  EXPECT_THAT(received->metadata, Contains(Pair("authorization", "Bearer s3cr3t")));
  EXPECT_THAT(received->metadata, Contains(Pair("traceparent", "00-ab-cd-01")));
  EXPECT_THAT(received->metadata, Not(Contains(Key("site"))));
  EXPECT_THAT(received->time_left, AllOf(Ge(absl::ZeroDuration()), Le(absl::Minutes(1))));
}

TEST_F(GrpcTest, TheStatusDecides) {
  GrpcReceiver receiver({.answer = [](const v1::Event& event, grpc::ServerContext&) {
    const int code = std::stoi(event.params(0).string_value());
    return grpc::Status(static_cast<grpc::StatusCode>(code), "because\nof K\xc3\xb6ln");
  }});
  LinkUnderTest link(*transport_, Url(receiver));
  ASSERT_GT(link.WaitReady(), 0);
  for (int code = 1; code <= 16; ++code) {
    const absl::Status outcome = link.SendAndWait(MakeMessage("E_CODE", absl::StrCat(code)));
    EXPECT_EQ(static_cast<int>(outcome.code()), code);
    EXPECT_THAT(Text(outcome), HasSubstr("because?of K??ln"));
    EXPECT_THAT(Text(outcome), HasSubstr(Url(receiver)));
  }
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_CODE", "0")).ok());
  EXPECT_EQ(receiver.connections(), 1u);
}

TEST_F(GrpcTest, AServerWithoutTheServiceIsNamed) {
  GrpcReceiver receiver({.serves = false});
  LinkUnderTest link(*transport_, Url(receiver));
  ASSERT_GT(link.WaitReady(), 0);
  const absl::Status outcome = link.SendAndWait(MakeMessage("E_LOST"));
  EXPECT_EQ(outcome.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Text(outcome), HasSubstr("no service eventvirtual.v1.Receiver"));
}

// What the receiver says, in the middle of what comes in; and what is not even sent when its limit is known.
TEST_F(GrpcTest, AnEventOverTheReceiversLimitFailsAlone) {
  GrpcReceiver receiver({.arguments = {{GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, 1000}}});
  const MessageRef large = MakeMessage("E_LARGE", std::string(1 << 20, 'x'));
  for (const auto& [options, code, words] :
       {std::tuple{"", absl::StatusCode::kResourceExhausted, "larger than max"},
        {"?max_message=1000", absl::StatusCode::kInvalidArgument, "the receiver takes 1000 (max_message)"}}) {
    LinkUnderTest link(*transport_, Url(receiver, options));
    ASSERT_GT(link.WaitReady(), 0);
    const absl::Status outcome = link.SendAndWait(large);
    EXPECT_EQ(outcome.code(), code);
    EXPECT_THAT(Text(outcome), HasSubstr(words));
    EXPECT_TRUE(link.SendAndWait(MakeMessage("E_SMALL")).ok());
    EXPECT_FALSE(link.closed());
  }
}

TEST_F(GrpcTest, AReceiverThatTakesTooLongIsToldToStopByItsDeadline) {
  Signal stopped;
  GrpcReceiver receiver({.answer = [&stopped](const v1::Event&, grpc::ServerContext& context) {
    const absl::Time give_up = absl::Now() + kPatience;
    while (!context.IsCancelled() && absl::Now() < give_up) std::this_thread::yield();
    if (context.IsCancelled()) stopped.Set();
    return grpc::Status::OK;
  }});
  LinkUnderTest link(*transport_, Url(receiver, "?timeout=50ms"));
  ASSERT_GT(link.WaitReady(), 0);
  const absl::Status outcome = link.SendAndWait(MakeMessage("E_SLOW"));
  EXPECT_EQ(outcome.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Text(outcome), HasSubstr("may have arrived"));
  EXPECT_TRUE(stopped.Wait());
  EXPECT_FALSE(link.closed());
}

// --- servers that come and go

TEST_F(GrpcTest, ConnectionsThatReachTheirAgeFailNoEvent) {
  GrpcReceiver receiver({.arguments = {{GRPC_ARG_MAX_CONNECTION_AGE_MS, 50}}});
  for (const int window : {1, 8}) {
    const size_t before = receiver.connections();
    std::unique_ptr<LinkUnderTest> link;
    while (receiver.connections() < before + 5) {
      // A connection that ends while nothing is out closes its link, and an endpoint makes another.
      if (link == nullptr || link->closed()) {
        link = std::make_unique<LinkUnderTest>(*transport_, Url(receiver, absl::StrCat("?window=", window)));
        ASSERT_EQ(link->WaitReady(), window);
      }
      std::optional<size_t> first;
      OnLoop(link->loop(), [&] {
        if (!link->closed()) first = link->SendNow(std::vector<MessageRef>(window, MakeMessage("E_MANY")));
      });
      for (int i = 0; first.has_value() && i < window; ++i) {
        const absl::Status outcome = link->Outcome(*first + i);
        ASSERT_TRUE(outcome.ok()) << outcome;
      }
    }
  }
}

TEST_F(GrpcTest, AServerThatStopsFinishesWhatItHasBegunAndTheLinkCloses) {
  Signal begun, go_on;
  GrpcReceiver receiver({.answer = [&](const v1::Event& event, grpc::ServerContext&) {
    if (event.name() == "E_LONG") {
      begun.Set();
      go_on.Wait();
    }
    return grpc::Status::OK;
  }});
  LinkUnderTest link(*transport_, Url(receiver));
  ASSERT_GT(link.WaitReady(), 0);
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_SHORT")).ok());
  const size_t number = link.Send({MakeMessage("E_LONG")});
  ASSERT_TRUE(begun.Wait());
  std::thread stop([&receiver] { receiver.Stop(); });
  go_on.Set();
  EXPECT_TRUE(link.Outcome(number).ok()) << link.Outcome(number);
  EXPECT_EQ(link.WaitClosed().code(), absl::StatusCode::kUnavailable);
  stop.join();
}

// --- TLS

class GrpcsTest : public GrpcTest {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    MakeCertificates(*folder_);
  }
  static void TearDownTestSuite() { delete std::exchange(folder_, nullptr); }

  static std::string File(const std::string& name) { return *folder_ / name; }
  static inline TemporaryFolder* folder_ = nullptr;
};

TEST_F(GrpcsTest, WhoIsNotTrustedIsNamed) {
  const TemporaryFolder stranger;
  MakeCertificates(stranger);
  GrpcReceiver receiver({.credentials = ServerTls(*folder_)});
  GrpcReceiver plain;
  const std::string authority = absl::StrCat("ca=", File("ca.pem"));
  const std::string certificate = absl::StrCat("&cert=", File("client.pem"), "&key=", File("client.key"));
  const auto at = [&receiver](absl::string_view host, absl::string_view options) {
    return absl::StrCat("grpcs://", host, ":", receiver.port(), "?token=s3cr3t&", options);
  };
  using Code = absl::StatusCode;
  struct Row {
    std::string uri, words;
    Code code = Code::kUnauthenticated;
  };
  for (const Row& row : {
           Row{at("127.0.0.1", authority + certificate),
               "certificate of 127.0.0.1 is not trusted: IP address mismatch"},
           Row{at("localhost", absl::StrCat("timeout=2s", certificate)), "certificate of localhost is not trusted"},
           Row{at("localhost", absl::StrCat("server_name=other.example&", authority, certificate)),
               "certificate of other.example is not trusted"},
           Row{at("localhost", absl::StrCat("ca=", stranger / "ca.pem", certificate)), "is not trusted"},
           // gRPC's server closes without a word, and so does not say why.
           Row{at("localhost", authority), "perhaps it does not take our certificate", Code::kUnavailable},
           Row{at("localhost",
                  absl::StrCat(authority, "&cert=", stranger / "client.pem", "&key=", stranger / "client.key")),
               "perhaps it does not take our certificate", Code::kUnavailable},
           Row{at("localhost", absl::StrCat(authority, "&cert=", File("client.pem"), "&key=", File("locked.key"))),
               "\"key\": "},
           Row{at("localhost", "ca=/nonexistent.pem"), "ca=/nonexistent.pem: No such file", Code::kUnavailable},
           Row{absl::StrCat("grpcs://localhost:", plain.port(), "?token=s3cr3t&verify=0"), "TLS", Code::kUnavailable},
           Row{absl::StrCat("grpc://localhost:", receiver.port(), "?token=s3cr3t"), "perhaps it speaks TLS",
               Code::kUnavailable},
       }) {
    const absl::Status why = RefusalOf(*transport_, row.uri);
    EXPECT_EQ(why.code(), row.code) << row.uri << ": " << why;
    EXPECT_THAT(Text(why), AllOf(HasSubstr(row.words), HasSubstr("token=***"), Not(HasSubstr("s3cr3t")))) << row.uri;
  }
}

TEST_F(GrpcsTest, ACertificateMayBearTheNameThatIsSaidBesideTheAddress) {
  GrpcReceiver receiver({.credentials = ServerTls(*folder_)});
  const absl::Status outcome = OutcomeOf(
      *transport_, absl::StrCat("grpcs://127.0.0.1:", receiver.port(), "?server_name=localhost&ca=", File("ca.pem"),
                                "&cert=", File("client.pem"), "&key=", File("client.key")));
  EXPECT_TRUE(outcome.ok()) << outcome;
}

TEST_F(GrpcsTest, WithoutVerificationAnyServerIsTaken) {
  GrpcReceiver receiver({.credentials = ServerTls(*folder_)});
  const absl::Status outcome =
      OutcomeOf(*transport_, absl::StrCat("grpcs://127.0.0.1:", receiver.port(), "?verify=0&cert=", File("client.pem"),
                                          "&key=", File("client.key")));
  EXPECT_TRUE(outcome.ok()) << outcome;
}

}  // namespace
}  // namespace eventvirtual
