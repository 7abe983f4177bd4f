#include "transports/sqs/sqs_transport.h"

#include <memory>
#include <optional>
#include <regex>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/http/http_server.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/sqs/sqs_peers.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

absl::StatusOr<Target> Canonicalize(absl::string_view text) {
  const absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return uri.status();
  return MakeSqsTransport()->Canonicalize(*uri);
}

MessageRef MessageWithId(absl::string_view id) {
  EventFields fields;
  fields.name = "E_ID";
  fields.event_id = id;
  return Message::Make(fields);
}

// --- addresses

TEST(SqsAddress, HasOneCanonicalForm) {
  struct Row {
    absl::string_view text, canonical;
  };
  for (const Row& row : {
           Row{"sqs:https://sqs.eu-central-1.amazonaws.com/123456789012/calls",
               "sqs:https://sqs.eu-central-1.amazonaws.com/123456789012/calls"},
           Row{"sqs:https://SQS.eu-central-1.amazonaws.com:443/1/Calls?timeout=5s&window=1&encoding=jsonrpc",
               "sqs:https://sqs.eu-central-1.amazonaws.com/1/Calls"},
           Row{"sqs:http://127.0.0.1:9324/0/q?encoding=json&window=8&timeout=1s&region=us-east-1",
               "sqs:http://127.0.0.1:9324/0/q?region=us-east-1&timeout=1s&window=8&encoding=json"},
           Row{"sqs:http://[::1]/q?region=x", "sqs:http://[::1]/q?region=x"},
           Row{"sqs:https://h/1/a-_Z.fifo?group=eventvirtual&region=x", "sqs:https://h/1/a-_Z.fifo?region=x"},
           Row{"sqs:https://h/1/q.fifo?region=x&group=a%26b", "sqs:https://h/1/q.fifo?region=x&group=a%26b"},
           Row{"sqs:https://h/1/q?region=x&verify=0&key=/k&cert=/c",
               "sqs:https://h/1/q?region=x&verify=0&cert=/c&key=/k"},
       }) {
    const absl::StatusOr<Target> target = Canonicalize(row.text);
    ASSERT_TRUE(target.ok()) << row.text << ": " << target.status();
    EXPECT_EQ(target->canonical, row.canonical);
    EXPECT_EQ(target->masked, row.canonical);
    const absl::StatusOr<Target> again = Canonicalize(target->canonical);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->canonical, target->canonical);
  }
}

// An option that says what the host says anyway is not repeated.
TEST(SqsAddress, TheHostsOfAwsNameTheirRegion) {
  for (const auto& [host, region] : {
           std::pair{"sqs.eu-central-1.amazonaws.com", "eu-central-1"},
           {"sqs-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"},
           {"sqs.cn-north-1.amazonaws.com.cn", "cn-north-1"},
           {"sqs.ap-southeast-12.api.aws", "ap-southeast-12"},
           {"vpce-0a1b-xyz.sqs.us-east-1.vpce.amazonaws.com", "us-east-1"},
       }) {
    const std::string uri = absl::StrCat("sqs:https://", host, "/1/q");
    const absl::StatusOr<Target> named = Canonicalize(absl::StrCat(uri, "?region=", region));
    ASSERT_TRUE(named.ok()) << named.status();
    EXPECT_EQ(named->canonical, uri);
    EXPECT_EQ(Canonicalize(absl::StrCat(uri, "?region=eu-west-3"))->canonical, absl::StrCat(uri, "?region=eu-west-3"));
  }
  for (const char* host : {"sqs.amazonaws.com", "eu-west-1.queue.amazonaws.com", "sqs.example.com", "sqs.my-1",
                           "sqs.a--1.b", "sqs", "127.0.0.1", "[::1]"}) {
    const absl::Status status = Canonicalize(absl::StrCat("sqs:https://", host, "/1/q")).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << host;
    EXPECT_THAT(Text(status), HasSubstr("does not name its region")) << host;
    EXPECT_THAT(Text(status), HasSubstr("add region=")) << host;
  }
}

TEST(SqsAddress, WhatIsWrongIsNamedWithTheWayOut) {
  struct Row {
    absl::string_view text, said;
  };
  const std::string long_name(81, 'q');
  for (const Row& row : {
           Row{"sqs:", "write sqs:https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE"},
           Row{"sqs:sqs.eu-central-1.amazonaws.com/1/q", "begins with https:// or http://"},
           Row{"sqs:ftp://h/1/q", "begins with https:// or http://"},
           Row{"sqs:https:h/1/q", "write https://host/path"},
           Row{"sqs:https://h", "no name of a queue behind the last '/'"},
           Row{"sqs:https://h/1/", "no name of a queue behind the last '/'"},
           Row{"sqs:https://h/1/a.b", "letters, digits, '-' and '_'"},
           Row{"sqs:https://h/1/.fifo", ".fifo may end it"},
           Row{"sqs:https://h/1/a%20b", "no name of a queue"},
           Row{"sqs:https://h/1#/q", "offset 2 of the path"},
           Row{"sqs:https://h/1/q?x", "a '?' that no option follows"},
           Row{"sqs:https://h:0/1/q", "not a number from 1 to 65535"},
           Row{"sqs:https://AKID:s3cret@h/1/q?region=x", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the server"},
           Row{"sqs:https://AKID:s3/cret@h/1/q?region=x", "percent-encoded"},
           Row{"sqs:https://h/1/q?region=EU", "\"region\" is no region's name"},
           Row{"sqs:https://h/1/q?region=a%3ab", "\"region\" is no region's name"},
           Row{"sqs:https://h/1/q?region=", "add region="},
           Row{"sqs:https://h/1/q?region=x&group=g", "\"group\" is unknown; known: region, timeout"},
           Row{"sqs:https://h/1/q.fifo?region=x&group=a%20b", "\"group\" is not 1 to 128"},
           Row{"sqs:https://h/1/q.fifo?region=x&group=", "\"group\" is not 1 to 128"},
           Row{"sqs:https://h/1/q?region=x&encoding=protobuf", "none of: jsonrpc, jsonrpc-hops, json, cloudevents"},
           Row{"sqs:https://h/1/q?region=x&encoding=cloudevents-binary",
               "none of: jsonrpc, jsonrpc-hops, json, cloudevents"},
           Row{"sqs:https://h/1/q?region=x&secret=s3cret",
               "\"secret\" is unknown; known: region, timeout, window, verify, ca, cert, key, server_name, encoding"},
           Row{"sqs:https://h/1/q?region=x&header.authorization=s3cret", "\"header.authorization\" is unknown"},
           Row{"sqs:https://h/1/q?region=x&redirects=1", "\"redirects\" is unknown"},
           Row{"sqs:http://h/1/q?region=x&ca=/x", "\"ca\" is unknown"},
           Row{"sqs:https://h/1/q?region=x&cert=/x", "go together"},
       }) {
    const absl::Status status = Canonicalize(row.text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << row.text;
    EXPECT_THAT(Text(status), AllOf(HasSubstr(std::string(row.said)), Not(HasSubstr("s3cret")))) << row.text;
  }
  EXPECT_FALSE(Canonicalize(absl::StrCat("sqs:https://h/1/", long_name, "?region=x")).ok());
  EXPECT_TRUE(Canonicalize(absl::StrCat("sqs:https://h/1/", long_name.substr(1), "?region=x")).ok());
  EXPECT_FALSE(Canonicalize(absl::StrCat("sqs:https://h/1/q?region=", std::string(65, 'x'))).ok());
}

// --- the wire

class SqsTest : public testing::Test {
 protected:
  SqsTest() { SetCredentials(kKeyId, kSecret); }

  std::string Uri(const HttpServer& server, absl::string_view rest = "/123456789012/calls?region=eu-central-1") const {
    return absl::StrCat("sqs:", server.Url(rest));
  }

  const std::unique_ptr<Transport> transport_ = MakeSqsTransport();
};

TEST_F(SqsTest, ARequestIsASignedSendMessage) {
  SetCredentials("ASIAEXAMPLE", kSecret, "the/session+token=");
  HttpServer server(&StoredAnswer);
  LinkUnderTest link(*transport_, Uri(server));
  ASSERT_EQ(link.WaitReady(), 1);
  ASSERT_TRUE(link.SendAndWait(MessageWithId("call-7")).ok());
  const std::optional<HttpRequest> request = server.Receive(kPatience);
  ASSERT_TRUE(request.has_value());
  std::string head = std::regex_replace(request->head, std::regex("20[0-9]{6}T[0-9]{6}Z"), "TIME");
  head = std::regex_replace(head, std::regex("/20[0-9]{6}/"), "/DATE/");
  head = std::regex_replace(head, std::regex("Signature=[0-9a-f]{64}"), "Signature=SIGNATURE");
  EXPECT_EQ(head, absl::StrCat("POST / HTTP/1.1\r\nHost: 127.0.0.1:", server.port(),
                               "\r\nAuthorization: AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/DATE/eu-central-1/sqs/"
                               "aws4_request, SignedHeaders=content-type;host;idempotency-key;x-amz-date;"
                               "x-amz-security-token;x-amz-target, Signature=SIGNATURE\r\nX-Amz-Date: TIME"
                               "\r\nUser-Agent: eventvirtual\r\nAccept: */*\r\nContent-Type: application/x-amz-json-1.0"
                               "\r\nIdempotency-Key: call-7\r\nX-Amz-Target: AmazonSQS.SendMessage"
                               "\r\nX-Amz-Security-Token: the/session+token=\r\nContent-Length: ",
                               request->body.size()));
  EXPECT_EQ(request->body, absl::StrCat(R"({"QueueUrl":"http://127.0.0.1:)", server.port(),
                                        R"(/123456789012/calls","MessageBody":)"
                                        R"("{\"jsonrpc\":\"2.0\",\"method\":\"E_ID\"}","MessageAttributes":)"
                                        R"({"event-id":{"DataType":"String","StringValue":"call-7"},)"
                                        R"("eventhops":{"DataType":"String","StringValue":"1"}}})"));
}

TEST_F(SqsTest, AFifoQueueGetsTheGroupAndTheEventsIdAndAnEncodingItsMediaType) {
  HttpServer server(&StoredAnswer);
  LinkUnderTest link(*transport_, Uri(server, "/1/c.fifo?region=us-east-1&group=site-2&encoding=json"));
  ASSERT_EQ(link.WaitReady(), 1);
  const std::string id = "a/b \"c\" K\xc3\xb6ln", encoded = "a/b%20%22c%22%20K%C3%B6ln";
  ASSERT_TRUE(link.SendAndWait(MessageWithId(id)).ok());
  const std::optional<HttpRequest> request = server.Receive(kPatience);
  ASSERT_TRUE(request.has_value());
  EXPECT_THAT(request->body,
              HasSubstr(absl::StrCat(
                  R"("MessageGroupId":"site-2","MessageDeduplicationId":")", encoded,
                  R"(","MessageAttributes":{"event-id":{"DataType":"String",)"
                  R"("StringValue":")",
                  encoded,
                  R"("},"eventhops":{"DataType":"String","StringValue":"1"},"content-type":{"DataType":"String",)"
                  R"("StringValue":"application/json"}}})")));
  EXPECT_THAT(request->head, HasSubstr("/us-east-1/sqs/aws4_request"));

  ASSERT_TRUE(link.SendAndWait(MessageWithId(std::string(128, 'x'))).ok());
  EXPECT_THAT(server.Receive(kPatience)->body,
              HasSubstr(absl::StrCat("\"MessageDeduplicationId\":\"", std::string(128, 'x'), "\"")));
  ASSERT_TRUE(link.SendAndWait(MessageWithId(std::string(129, 'x'))).ok());
  EXPECT_THAT(
      server.Receive(kPatience)->body,  // printf 'x%.0s' {1..129} | sha256sum
      HasSubstr("\"MessageDeduplicationId\":\"0ec9eb33e74510bcdd1f2ea55206e82f21649c5c2becbf2b433eb475b34c01bd\""));
}

TEST_F(SqsTest, WhatSqsWouldNotTakeIsRefusedBeforeItIsSent) {
  HttpServer server(&StoredAnswer);
  LinkUnderTest link(*transport_, Uri(server));
  ASSERT_EQ(link.WaitReady(), 1);
  const absl::Status too_large = link.SendAndWait(MessageOfSize(1 << 20));
  EXPECT_TRUE(absl::IsInvalidArgument(too_large)) << too_large;
  EXPECT_THAT(Text(too_large), HasSubstr("with the attributes; SQS takes 1048576 at most"));
  for (const char* character : {"\xef\xbf\xbe", "\xef\xbf\xbf"}) {
    const absl::Status strange = link.SendAndWait(MakeMessage("E_X", character));
    EXPECT_TRUE(absl::IsInvalidArgument(strange)) << strange;
    EXPECT_THAT(Text(strange), AllOf(HasSubstr(Uri(server)), HasSubstr("U+FFFE or U+FFFF")));
  }
  EXPECT_FALSE(server.Receive(absl::ZeroDuration()).has_value());
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_X", "\xef\xbf\xbd")).ok()) << "U+FFFD is a character like others";
}

// --- credentials

TEST_F(SqsTest, WithoutCredentialsTheLinkClosesAndNamesWhatIsMissing) {
  HttpServer server(&StoredAnswer);
  struct Row {
    const char *key_id, *secret, *token;
    absl::string_view said;
  };
  for (const Row& row : {
           Row{nullptr, nullptr, nullptr, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY not set in the server's"},
           Row{"", "", nullptr, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY not set in the server's"},
           Row{nullptr, "s3cret", nullptr, ": AWS_ACCESS_KEY_ID not set"},
           Row{"AKID", nullptr, "s3cret", ": AWS_SECRET_ACCESS_KEY not set"},
           Row{"AKID", "s3cret\r", nullptr, "AWS_SECRET_ACCESS_KEY holds a blank or a control character at offset 6"},
           Row{"AK\r\nX-Evil: 1", "s3cret", nullptr,
               "AWS_ACCESS_KEY_ID holds a blank or a control character at offset 2"},
           Row{"AKID", "s3cret", "s3cret\n", "AWS_SESSION_TOKEN holds a blank or a control character at offset 6"},
       }) {
    SetCredentials(row.key_id, row.secret, row.token);
    const absl::Status why = RefusalOf(*transport_, Uri(server));
    EXPECT_TRUE(absl::IsUnauthenticated(why)) << why;
    EXPECT_THAT(Text(why), AllOf(HasSubstr(Uri(server)), HasSubstr(std::string(row.said)), Not(HasSubstr("s3cret"))));
  }
  EXPECT_EQ(server.accepted(), 0);
}

TEST_F(SqsTest, ANewLinkUsesTheCredentialsOfNow) {
  HttpServer server(&StoredAnswer);
  for (const char* key_id : {"AKIDONE", "AKIDTWO"}) {
    SetCredentials(key_id, kSecret);
    ASSERT_TRUE(OutcomeOf(*transport_, Uri(server)).ok());
    EXPECT_THAT(server.Receive(kPatience)->head, HasSubstr(absl::StrCat("Credential=", key_id, "/")));
  }
}

// --- answers

TEST_F(SqsTest, OnlyAStoredMessageIsASuccess) {
  // Of {"jsonrpc":"2.0","method":"E_X","params":["y"]}: printf … | md5sum
  constexpr absl::string_view kMd5 = "20ee200b4d29ae673b81100fb17d2396";
  struct Row {
    std::string answer;
    absl::string_view said;
  };
  const std::string stored = absl::StrCat(R"({"MD5OfMessageBody":")", kMd5, R"(","MessageId":"5fea")");
  for (const Row& row : {
           Row{absl::StrCat(stored, R"(,"SequenceNumber":"18"})"), ""},
           Row{R"({"MD5OfMessageBody":"5d41402abc4b2a76b9719d911017c592","MessageId":"5fea"})",
               "\"5d41402abc4b2a76b9719d911017c592\"; the event may have arrived, changed"},
           Row{R"({"MessageId":"5fea"})", "did not store what was sent"},
           Row{absl::StrCat(R"({"MD5OfMessageBody":")", kMd5, R"("})"), "without a MessageId"},
           Row{absl::StrCat(R"({"MD5OfMessageBody":")", kMd5, R"(","MessageId":""})"), "without a MessageId"},
           Row{absl::StrCat(R"({"MD5OfMessageBody":")", kMd5, R"(","MessageId":7})"), "without a MessageId"},
           Row{stored, "without a MessageId; is it SQS?"},
           Row{"", "without a MessageId"},
           Row{"[]", "without a MessageId"},
           Row{"<html>welcome</html>", "without a MessageId"},
           Row{absl::StrCat(stored, "}", std::string(64 << 10, ' ')), "longer than 64 KiB"},
       }) {
    HttpServer server(Answer("200 OK", row.answer));
    const absl::Status outcome = OutcomeOf(*transport_, Uri(server));
    EXPECT_EQ(outcome.code(), row.said.empty() ? absl::StatusCode::kOk : absl::StatusCode::kUnavailable)
        << row.answer.substr(0, 200) << outcome;
    EXPECT_THAT(Text(outcome), HasSubstr(std::string(row.said)));
  }
}

TEST_F(SqsTest, ErrorsOfSqsAreToldInItsWordsWithTheWayOut) {
  struct Row {
    absl::string_view status, type;
    absl::StatusCode code;
    absl::string_view said;
  };
  using Code = absl::StatusCode;
  for (const Row& row : {
           Row{"400 Bad Request", "com.amazonaws.sqs#QueueDoesNotExist", Code::kNotFound, "create the queue"},
           Row{"400 Bad Request", "AWS.SimpleQueueService.NonExistentQueue", Code::kNotFound, "create the queue"},
           Row{"404 Not Found", "InvalidAddress", Code::kNotFound, "mend the account"},
           Row{"403 Forbidden", "com.amazon.coral.service#AccessDeniedException", Code::kPermissionDenied,
               "the right to sqs:SendMessage"},
           Row{"400 Bad Request", "com.amazonaws.sqs#KmsAccessDenied", Code::kPermissionDenied, "kms:GenerateDataKey"},
           Row{"403 Forbidden", "com.amazonaws.sqs#InvalidSecurity", Code::kPermissionDenied, "over https only"},
           Row{"403 Forbidden", "com.amazon.coral.service#UnrecognizedClientException", Code::kUnauthenticated,
               "look at AWS_ACCESS_KEY_ID"},
           Row{"403 Forbidden", "InvalidClientTokenId", Code::kUnauthenticated, "look at AWS_ACCESS_KEY_ID"},
           Row{"401 Unauthorized", "com.amazon.coral.service#InvalidSignatureException", Code::kUnauthenticated,
               "this machine's clock"},
           Row{"403 Forbidden", "SignatureDoesNotMatch", Code::kUnauthenticated, "look at AWS_SECRET_ACCESS_KEY"},
           Row{"400 Bad Request", "com.amazon.coral.service#ExpiredTokenException:http://internal.amazon.com/x",
               Code::kUnauthenticated, "restart"},
           Row{"400 Bad Request", "com.amazonaws.sqs#InvalidMessageContents", Code::kInvalidArgument, ""},
           Row{"400 Bad Request", "com.amazonaws.sqs#InvalidParameterValueException", Code::kInvalidArgument, ""},
           Row{"400 Bad Request", "com.amazonaws.sqs#OverLimit", Code::kUnavailable, "higher quota"},
           Row{"400 Bad Request", "com.amazonaws.sqs#RequestThrottled", Code::kUnavailable, "smaller window"},
           Row{"400 Bad Request", "com.amazon.coral.availability#ThrottlingException", Code::kUnavailable, "smaller"},
           Row{"503 Service Unavailable", "com.amazon.coral.service#ServiceUnavailableException", Code::kUnavailable,
               "SQS answered ServiceUnavailable: "},
           Row{"500 Oops", "InternalFailure", Code::kUnavailable, "SQS answered InternalFailure: "},
           Row{"400 Bad Request", "com.amazonaws.sqs#NeverHeardOf", Code::kUnavailable, "SQS answered NeverHeardOf: "},
       }) {
    for (const char* member : {"message", "Message"}) {
      HttpServer server(Answer(row.status, absl::StrCat(R"({"__type":")", row.type, R"(",")", member,
                                                        R"(":"What it\u0007says.\nAnd more"})")));
      const absl::Status outcome = OutcomeOf(*transport_, Uri(server));
      EXPECT_EQ(outcome.code(), row.code) << row.type << outcome;
      EXPECT_THAT(Text(outcome), AllOf(HasSubstr(Uri(server)), HasSubstr(": What it?says."),
                                       HasSubstr(std::string(row.said)), Not(HasSubstr("more"))));
    }
  }
}

TEST_F(SqsTest, AnAnswerThatIsNoneOfSqsSaysNothingAboutTheEvent) {
  for (const char* status : {"400 Bad Request", "404 Not Found", "413 Too Large", "502 Bad Gateway"}) {
    HttpServer server(Answer(status, "<html><body>Go away</body></html>"));
    const absl::Status outcome = OutcomeOf(*transport_, Uri(server));
    EXPECT_TRUE(absl::IsUnavailable(outcome)) << outcome;
    EXPECT_THAT(Text(outcome), HasSubstr("without an error of SQS; is it SQS, and is it reached directly?"));
  }
}

// AWS' front door shows whose signature is wrong what should have been signed, and that includes the token.
TEST_F(SqsTest, ATokenThatAnErrorRepeatsIsNotShown) {
  SetCredentials(kKeyId, kSecret, "s3cret/t0ken");
  for (const char* text : {R"(Wrong token: s3cret\/t0ken)", R"(Wrong.\nx-amz-security-token:s3cret/t0ken)"}) {
    HttpServer server(
        Answer("403 Forbidden", absl::StrCat(R"({"__type":"InvalidSignatureException","message":")", text, R"("})")));
    const absl::Status outcome = OutcomeOf(*transport_, Uri(server));
    EXPECT_TRUE(absl::IsUnauthenticated(outcome)) << outcome;
    EXPECT_THAT(Text(outcome), AllOf(HasSubstr("Wrong"), Not(HasSubstr("t0ken"))));
  }
}

}  // namespace
}  // namespace eventvirtual
