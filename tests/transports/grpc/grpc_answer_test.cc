// What a server's answer means to an event.
#include "transports/grpc/grpc_answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"

namespace eventvirtual {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kMayHaveArrived[] = "may have arrived";

absl::Status OutcomeOfAnswer(const std::vector<std::pair<std::string, std::string>>& headers) {
  GrpcAnswer answer;
  for (const auto& [name, value] : headers) answer.Take(name, value);
  return answer.Outcome();
}

TEST(GrpcAnswer, OnlyStatusZeroIsASuccess) {
  EXPECT_TRUE(OutcomeOfAnswer({{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", "0"}}).ok());
  for (const char* status : {"", "00", "+0", " 0", "-1", "17", "0x0", "99999999999999999999", "OK"}) {
    const absl::Status outcome = OutcomeOfAnswer({{":status", "200"}, {"grpc-status", status}});
    EXPECT_FALSE(outcome.ok()) << status;
    EXPECT_NE(outcome.code(), absl::StatusCode::kInvalidArgument) << status;
  }
}

TEST(GrpcAnswer, EachCodeKeepsItsMeaningAndTellsWhatIsKnown) {
  using Code = absl::StatusCode;
  struct Row {
    const char* number;
    Code code;
    bool may_have_arrived;
    const char* words = "";
  };
  for (const Row& row : {
           Row{"1", Code::kCancelled, true},
           Row{"2", Code::kUnknown, true},
           Row{"3", Code::kInvalidArgument, false, "it does not take this event"},
           Row{"4", Code::kDeadlineExceeded, true},
           Row{"5", Code::kNotFound, false},
           Row{"6", Code::kAlreadyExists, false},
           Row{"7", Code::kPermissionDenied, false},
           Row{"8", Code::kResourceExhausted, false},
           Row{"9", Code::kFailedPrecondition, false},
           Row{"10", Code::kAborted, false},
           Row{"11", Code::kOutOfRange, false},
           Row{"12", Code::kUnimplemented, false, "no service eventvirtual.v1.Receiver"},
           Row{"13", Code::kInternal, true},
           Row{"14", Code::kUnavailable, true},
           Row{"15", Code::kDataLoss, true},
           Row{"16", Code::kUnauthenticated, false, "token=TOKEN"},
           Row{"17", Code::kUnknown, true, "17"},
       }) {
    const absl::Status outcome = OutcomeOfAnswer({{"grpc-status", row.number}, {"grpc-message", "so it is"}});
    const std::string text(outcome.message());
    EXPECT_EQ(outcome.code(), row.code) << row.number;
    EXPECT_THAT(text, HasSubstr("so it is"));
    EXPECT_THAT(text, HasSubstr(row.words));
    EXPECT_EQ(text.find(kMayHaveArrived) != std::string::npos, row.may_have_arrived) << text;
  }
}

TEST(GrpcAnswer, WhatIsNoAnswerOfAGrpcServerIsAFailureThatSaysSo) {
  using Code = absl::StatusCode;
  for (const auto& [status, code] : {std::pair{"200", Code::kUnavailable},
                                     {"204", Code::kUnavailable},
                                     {"400", Code::kUnavailable},
                                     {"401", Code::kUnauthenticated},
                                     {"403", Code::kPermissionDenied},
                                     {"404", Code::kUnimplemented},
                                     {"503", Code::kUnavailable},
                                     {"x", Code::kUnavailable}}) {
    const absl::Status outcome = OutcomeOfAnswer({{":status", status}});
    EXPECT_EQ(outcome.code(), code) << status;
    EXPECT_THAT(std::string(outcome.message()), HasSubstr("without a grpc-status"));
  }
}

TEST(GrpcAnswer, WhatAServerSaysIsCutAndMadePrintable) {
  EXPECT_THAT(std::string(OutcomeOfAnswer({{"grpc-status", "9"}, {"grpc-message", "50%25 of K%C3%B6ln%0A"}}).message()),
              HasSubstr("50% of K??ln?"));
  EXPECT_THAT(std::string(OutcomeOfAnswer({{"grpc-status", "9"}, {"grpc-message", "100% sure"}}).message()),
              HasSubstr("100% sure"));
  for (const std::string& text : {std::string(100000, 'x'), std::string(100000, '%'), std::string(300, '\xff')}) {
    const absl::Status outcome = OutcomeOfAnswer({{"grpc-status", text}, {"grpc-message", text}});
    EXPECT_LT(outcome.message().size(), 600u);
    for (char c : outcome.message()) EXPECT_TRUE(absl::ascii_isprint(c));
  }
}

TEST(GrpcAnswer, AResetIsAFailureAndOnlyARefusedCallIsSureNotToHaveArrived) {
  for (uint32_t code = 0; code < 16; ++code) {
    const absl::Status outcome = ResetOutcome(code);
    const bool refused = code == 7;
    const bool cancelled = code == 8;
    EXPECT_EQ(outcome.code(), cancelled ? absl::StatusCode::kDeadlineExceeded : absl::StatusCode::kUnavailable) << code;
    EXPECT_EQ(outcome.message().find(kMayHaveArrived) == std::string::npos, refused) << outcome;
  }
}

}  // namespace
}  // namespace eventvirtual
