// The link, frame by frame, with a server that does what a test says.
#include <nghttp2/nghttp2.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/grpc/http2_server.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/io/loopback_listener.h"
#include "tests/transports/io/tcp_proxy.h"
#include "transports/grpc/grpc_transport.h"

namespace eventvirtual {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

// Calls with the event E_HOLD are held, all others answered OK.
Http2Answer HoldSome(const Http2Call& call) {
  return call.body.find("E_HOLD") == std::string::npos ? GrpcStatus("0") : Hold();
}

class GrpcLinkTest : public testing::Test {
 protected:
  std::string Url(uint16_t port, absl::string_view rest = "") { return absl::StrCat("grpc://127.0.0.1:", port, rest); }
  std::unique_ptr<LinkUnderTest> Connect(uint16_t port, absl::string_view rest = "") {
    auto link = std::make_unique<LinkUnderTest>(*transport_, Url(port, rest));
    EXPECT_GT(link->WaitReady(), 0);
    return link;
  }
  // Sends an event that the server holds, and gives its call and its number.
  std::pair<Http2Call, size_t> SendHeld(Http2Server& server, LinkUnderTest& link) {
    const size_t number = link.Send({MakeMessage("E_HOLD")});
    std::optional<Http2Call> call = server.ReceiveCall();
    EXPECT_TRUE(call.has_value());
    return {call.value_or(Http2Call()), number};
  }
  // The server gets an event, and answers OK.
  void ExpectDelivers(Http2Server& server, LinkUnderTest& link) {
    const absl::Status outcome = link.SendAndWait(MakeMessage("E_GOES_THROUGH"));
    EXPECT_TRUE(outcome.ok()) << outcome;
    EXPECT_TRUE(server.ReceiveCall().has_value());
  }

  const std::unique_ptr<Transport> transport_ = MakeGrpcTransport();
};

TEST_F(GrpcLinkTest, ACallIsGrpcsByteForByte) {
  Http2Server server([](const Http2Call&) { return GrpcStatus("0"); });
  const std::pair<absl::string_view, absl::string_view> attributes[] = {
      {"traceparent", "00-1"}, {"tracestate", "a=\nb"}, {"site", "no header of ours"}};
  const std::string long_text(200, 'x');  // a length of two bytes
  const Param param{"text", absl::string_view(long_text)};
  EventFields fields;
  fields.name = "E_ACC";
  fields.params = absl::MakeConstSpan(&param, 1);
  fields.attributes = attributes;
  const MessageRef message = Message::Make(fields);
  const auto link = Connect(server.port(), "?token=abc.def&timeout=1500ms");
  EXPECT_TRUE(link->SendAndWait(message).ok());

  const std::optional<Http2Call> call = server.ReceiveCall();
  ASSERT_TRUE(call.has_value());
  EXPECT_EQ(call->headers, (std::map<std::string, std::string>{
                               {":method", "POST"},
                               {":scheme", "http"},
                               {":path", "/eventvirtual.v1.Receiver/Deliver"},
                               {":authority", absl::StrCat("127.0.0.1:", server.port())},
                               {"grpc-timeout", "1500m"},
                               {"te", "trailers"},
                               {"content-type", "application/grpc"},
                               {"user-agent", "eventvirtual"},
                               {"authorization", "Bearer abc.def"},
                               {"eventhops", "1"},
                               {"traceparent", "00-1"},
                           }));
  const absl::string_view event = message->encoded(Encoding::kProtobuf);
  const size_t size = event.size();
  ASSERT_TRUE(size >= 128 && size + 3 < 65536);
  std::string expected(3, '\0');  // not compressed; the length in four bytes
  expected.push_back(static_cast<char>((size + 3) >> 8));
  expected.push_back(static_cast<char>((size + 3)));
  expected.push_back('\x0a');  // DeliverRequest.event
  expected.push_back(static_cast<char>((size & 0x7f) | 0x80));
  expected.push_back(static_cast<char>(size >> 7));
  EXPECT_EQ(call->body, absl::StrCat(expected, event));
}

TEST_F(GrpcLinkTest, AnAnswerWithoutTheStatusOfGrpcIsAFailure) {
  for (const auto& [status, code] :
       {std::pair{"200", absl::StatusCode::kUnavailable}, {"404", absl::StatusCode::kUnimplemented}}) {
    Http2Server server([status = status](const Http2Call&) { return Http2Answer{.headers = {{":status", status}}}; });
    const auto link = Connect(server.port());
    const absl::Status outcome = link->SendAndWait(MakeMessage("E_WEB"));
    EXPECT_EQ(outcome.code(), code);
    EXPECT_THAT(Text(outcome), AllOf(HasSubstr(status), HasSubstr(Url(server.port()))));
    EXPECT_FALSE(link->closed());
  }
}

TEST_F(GrpcLinkTest, AnOkBeforeTheEventHasBeenSentIsNone) {
  Http2Server server([](const Http2Call&) { return GrpcStatus("0"); }, /*max_streams=*/100, /*early=*/true);
  const auto link = Connect(server.port());
  EXPECT_THAT(Text(link->SendAndWait(MakeMessage("E_LARGE", std::string(1 << 20, 'x')))),
              HasSubstr("OK before it had the event"));
  // It leaves at once, with its headers; behind the large one there may be no room for it.
  EXPECT_TRUE(Connect(server.port())->SendAndWait(MakeMessage("E_SMALL")).ok());
}

TEST_F(GrpcLinkTest, ACallThatIsBrokenOffFailsAlone) {
  std::vector<uint32_t> codes = {NGHTTP2_REFUSED_STREAM, NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR};
  Http2Server server([&codes](const Http2Call&) {
    if (codes.empty()) return GrpcStatus("0");
    const uint32_t code = codes.front();
    codes.erase(codes.begin());
    return Reset(code);
  });
  const auto link = Connect(server.port());
  EXPECT_THAT(Text(link->SendAndWait(MakeMessage("E_REFUSED"))),
              AllOf(HasSubstr("before it looked at it"), Not(HasSubstr("may have arrived"))));
  EXPECT_EQ(link->SendAndWait(MakeMessage("E_CANCELLED")).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Text(link->SendAndWait(MakeMessage("E_BROKEN"))), HasSubstr("may have arrived"));
  EXPECT_FALSE(link->SendAndWait(MakeMessage("E_NOT_SAID")).ok());
  EXPECT_TRUE(link->SendAndWait(MakeMessage("E_FINE")).ok());
  EXPECT_EQ(server.accepted(), 1);
}

TEST_F(GrpcLinkTest, AsManyCallsAreOutAsTheWindowSaysAndTheServerAllows) {
  Http2Server server(&HoldSome, /*max_streams=*/3);
  for (const auto& [option, window] : {std::pair{"", 1}, {"?window=2", 2}, {"?window=16", 3}}) {
    const auto link = Connect(server.port(), option);
    ASSERT_EQ(link->WaitReady(), window);
    std::vector<Http2Call> calls;
    const size_t first = link->Send(std::vector<MessageRef>(window, MakeMessage("E_HOLD")));
    for (int i = 0; i < window; ++i) calls.push_back(server.ReceiveCall().value_or(Http2Call()));
    for (int i = window - 1; i >= 0; --i) {  // and an answer ends its own call
      EXPECT_EQ(link->Reported(), static_cast<size_t>(window - 1 - i));
      server.Answer(calls[i], GrpcStatus("0"));
      EXPECT_TRUE(link->Outcome(first + i).ok());
    }
  }
}

// --- a server that ends the connection in order (RFC 9113 section 6.8)

TEST_F(GrpcLinkTest, AServerThatLeavesInOrderFailsNoEvent) {
  Http2Server server(&HoldSome);
  const auto link = Connect(server.port(), "?window=4");
  ExpectDelivers(server, *link);
  const auto [first, first_number] = SendHeld(server, *link);
  const auto [second, second_number] = SendHeld(server, *link);
  server.Goaway(first, first.stream);  // so the second was not looked at
  const std::optional<Http2Call> again = server.ReceiveCall();
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->body, second.body);
  EXPECT_EQ(again->connection, 2);
  ExpectDelivers(server, *link);
  EXPECT_EQ(link->Reported(), 2u);  // the two that went through
  server.Answer(*again, GrpcStatus("0"));
  EXPECT_TRUE(link->Outcome(second_number).ok());
  server.Answer(first, GrpcStatus("0"));
  EXPECT_TRUE(link->Outcome(first_number).ok());
  EXPECT_EQ(server.accepted(), 2);
  EXPECT_FALSE(link->closed());
}

TEST_F(GrpcLinkTest, WhatWaitsForRoomOnAConnectionThatLeavesGoesToTheNext) {
  Http2Server server(&HoldSome);
  const auto link = Connect(server.port(), "?window=2");
  ExpectDelivers(server, *link);
  const auto [held, held_number] = SendHeld(server, *link);
  server.SetMaxStreams(held, 1);
  const size_t waiting = link->Send({MakeMessage("E_WAITS")});
  server.Goaway(held, held.stream);
  server.Answer(held, GrpcStatus("0"));
  EXPECT_TRUE(link->Outcome(held_number).ok());
  EXPECT_TRUE(link->Outcome(waiting).ok()) << link->Outcome(waiting);
  EXPECT_EQ(server.ReceiveCall().value_or(Http2Call()).connection, 2);
}

TEST_F(GrpcLinkTest, OneThatLeavesWhileNothingIsOutClosesTheLink) {
  Http2Server server(&HoldSome);
  const auto link = Connect(server.port());
  ASSERT_TRUE(link->SendAndWait(MakeMessage("E_FINE")).ok());
  const Http2Call call = server.ReceiveCall().value_or(Http2Call());
  server.Goaway(call, call.stream, NGHTTP2_NO_ERROR, "max_age\n");
  const absl::Status why = link->WaitClosed();
  EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Text(why), AllOf(HasSubstr("ends the connection"), HasSubstr("max_age?")));
}

TEST_F(GrpcLinkTest, OneThatLeavesBeforeItHasTakenAnythingIsNotFollowed) {
  Http2Server server(&HoldSome);
  const auto link = Connect(server.port(), "?window=2");
  const auto [held, number] = SendHeld(server, *link);
  server.Goaway(held, held.stream);
  EXPECT_THAT(Text(link->SendAndWait(MakeMessage("E_NEXT"))), HasSubstr("ends the connection"));
  server.Answer(held, GrpcStatus("0"));
  EXPECT_TRUE(link->Outcome(number).ok());
  EXPECT_FALSE(link->WaitClosed().ok());
  EXPECT_EQ(server.accepted(), 1);
}

TEST_F(GrpcLinkTest, OneThatThrowsUsOutIsNotFollowed) {
  Http2Server server(&HoldSome);
  const auto link = Connect(server.port(), "?window=2");
  ExpectDelivers(server, *link);
  const auto [held, number] = SendHeld(server, *link);
  server.Goaway(held, 0, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
  EXPECT_THAT(Text(link->Outcome(number)), HasSubstr("ENHANCE_YOUR_CALM: too_many_pings"));
  EXPECT_THAT(Text(link->WaitClosed()), HasSubstr("too_many_pings"));
  EXPECT_EQ(server.accepted(), 1);
}

TEST_F(GrpcLinkTest, WhatIsOutIsLetFinishAlsoWhenNobodyFollows) {
  Http2Server server(&HoldSome);
  const auto link = Connect(server.port(), "?window=2");
  ExpectDelivers(server, *link);
  const auto [held, number] = SendHeld(server, *link);
  server.Refuse();
  server.Goaway(held, held.stream);
  EXPECT_THAT(Text(link->SendAndWait(MakeMessage("E_NEXT"))), HasSubstr("Connection refused"));
  OnLoop(link->loop(), [] {});  // behind what failed it
  EXPECT_FALSE(link->closed());
  server.Answer(held, GrpcStatus("0"));
  EXPECT_TRUE(link->Outcome(number).ok());
  EXPECT_THAT(Text(link->WaitClosed()), HasSubstr("Connection refused"));
}

// --- what is no gRPC server

TEST_F(GrpcLinkTest, APeerThatDoesNotSpeakHttp2IsNamed) {
  const std::string frame("\0\0\0\x7f\0\0\0\0\0", 9);  // of a type that nobody knows, where SETTINGS must stand
  for (const auto& [bytes, words] : {
           std::pair<std::string, const char*>{"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak HTTP/2"},
           {std::string("\x15\x03\x01\0\x02\x02\x46", 7), "it speaks TLS there; write grpcs://"},
           {frame, "does not speak HTTP/2"},
           {std::string(100000, '\xff'), "does not speak HTTP/2"},
           {"", "before it said a word of HTTP/2"},
           {"\x01", "before it said a word of HTTP/2"},
       }) {
    EventLoop loop("garbage");
    std::unique_ptr<LoopbackListener> listener;
    OnLoop(loop, [&, bytes = bytes] {
      listener = std::make_unique<LoopbackListener>(loop, 0, [bytes](int fd) {
        EXPECT_EQ(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
        shutdown(fd, SHUT_WR);
        char preface[1024];
        while (recv(fd, preface, sizeof(preface), 0) > 0) {  // else the close is a reset, which may overtake the bytes
        }
        close(fd);
      });
    });
    const absl::Status why = RefusalOf(*transport_, Url(listener->port()));
    EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(Text(why), HasSubstr(words)) << bytes.substr(0, 20);
    OnLoop(loop, [&] { listener.reset(); });
  }
}

TEST_F(GrpcLinkTest, NobodyThereIsSaid) {
  const absl::Status why = RefusalOf(*transport_, "grpc://127.0.0.1:1?token=s3cr3t");
  EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Text(why), AllOf(HasSubstr("grpc://127.0.0.1:1?token=***: cannot connect"), HasSubstr("refused")));
}

TEST_F(GrpcLinkTest, OnlyAnEventThatHasLeftWholeMayHaveArrivedWhenTheConnectionBreaks) {
  Http2Server server(&HoldSome);
  TcpProxy proxy(server.port());
  const auto link = Connect(proxy.port(), "?window=2");
  const auto [held, whole] = SendHeld(server, *link);
  proxy.Stall();
  const size_t half = link->Send({MakeMessage("E_HOLD", std::string(4000000, 'x'))});
  proxy.Stop();
  EXPECT_THAT(Text(link->Outcome(whole)), HasSubstr("may have arrived"));
  EXPECT_THAT(Text(link->Outcome(half)), Not(HasSubstr("may have arrived")));
  EXPECT_EQ(link->WaitClosed().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace eventvirtual
