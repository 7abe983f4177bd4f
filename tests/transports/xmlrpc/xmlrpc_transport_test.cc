#include "transports/xmlrpc/xmlrpc_transport.h"

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/http/http_server.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/io/server_process.h"
#include "transports/xmlrpc/xmlrpc_text.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

MessageRef MessageOf(const std::vector<Param>& params) {
  EventFields fields;
  fields.name = "E_TEST";
  fields.params = params;
  return Message::Make(fields);
}

absl::StatusOr<Target> Canonicalize(absl::string_view text) {
  const absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return uri.status();
  return MakeXmlrpcTransport()->Canonicalize(*uri);
}

// --- addresses

TEST(XmlrpcAddress, HasOneCanonicalForm) {
  struct Row {
    absl::string_view text, canonical;
  };
  for (const Row& row : {
           Row{"xmlrpc:Host:8080:Block", "xmlrpc:host:8080:Block"},
           Row{"xmlrpc:h:080/RPC2:a.b_c", "xmlrpc:h:80:a.b_c"},
           Row{"xmlrpcs:h:8080/path/x:m", "xmlrpcs:h:8080/path/x:m"},
           Row{"xmlrpc:[::1]:80:m?use_struct_param=0&timeout=1s", "xmlrpc:[::1]:80:m?use_struct_param=0&timeout=1s"},
           Row{"xmlrpc:h:80:m?use_struct_param=1&timeout=5s", "xmlrpc:h:80:m"},
       }) {
    const absl::StatusOr<Target> target = Canonicalize(row.text);
    ASSERT_TRUE(target.ok()) << row.text << ": " << target.status();
    EXPECT_EQ(target->canonical, row.canonical);
    EXPECT_EQ(Canonicalize(target->canonical)->canonical, target->canonical);
  }
  EXPECT_EQ(Canonicalize("xmlrpc:h:80:m?header.authorization=s3cret")->masked,
            "xmlrpc:h:80:m?header.authorization=***");
}

TEST(XmlrpcAddress, WhatIsWrongIsNamedWithTheWayOut) {
  struct Row {
    absl::string_view text, said;
  };
  for (const Row& row : {
           Row{"xmlrpc:host", "write xmlrpc:host:port:method"},
           Row{"xmlrpc:host:8080", "no port after host \"host\""},
           Row{"xmlrpc:host:8080:", "write xmlrpc:host:port:method or xmlrpc:host:port/path:method"},
           Row{"xmlrpcs:host:8080:a-b", "letters, digits"},
           Row{"xmlrpc:host:99999:m", "not a number from 1 to 65535"},
           Row{"xmlrpc:h:80/a@b:m", "offset 2 of the path"},
           Row{"xmlrpc:h:80:m?ca=/x", "known: use_struct_param, timeout"},
       }) {
    const absl::Status status = Canonicalize(row.text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << row.text;
    EXPECT_THAT(Text(status), HasSubstr(std::string(row.said))) << row.text;
  }
}

// --- texts

TEST(XmlrpcText, WithoutStructItIsWhatOpensipsSends) {
  EXPECT_EQ(EncodeXmlRpc(*MessageOf({{"ip", absl::string_view("192.168.2.11")}, {"", int64_t{-42}}}), "my_method",
                         /*use_struct=*/false),
            "<?xml version=\"1.0\"?>\n<methodCall>\n<methodName>my_method</methodName>\n<params>\n"
            "<param>\n<value><string>E_TEST</string></value>\n</param>\n"
            "<param>\n<name>ip</name>\n<value><string>192.168.2.11</string></value>\n</param>\n"
            "<param>\n<value><int>-42</int></value>\n</param>\n</params>\n</methodCall>");
}

TEST(XmlrpcText, AStructHoldsTheParameters) {
  EXPECT_EQ(EncodeXmlRpc(*MessageOf({{"ip", absl::string_view("<&>")}, {"", true}}), "m", /*use_struct=*/true),
            "<?xml version=\"1.0\"?>\n<methodCall>\n<methodName>m</methodName>\n<params>\n"
            "<param>\n<value><string>E_TEST</string></value>\n</param>\n<param>\n<value><struct>\n"
            "<member>\n<name>ip</name>\n<value><string>&lt;&amp;&gt;</string></value>\n</member>\n"
            "<member>\n<name>1</name>\n<value><boolean>1</boolean></value>\n</member>\n"
            "</struct></value>\n</param>\n</params>\n</methodCall>");
}

TEST(XmlrpcText, ValuesAreWhatTheSpecificationHasForThem) {
  struct Row {
    Value value;
    absl::string_view text;
  };
  constexpr absl::string_view kFffd = "\xef\xbf\xbd";
  for (const Row& row : {
           Row{int64_t{-2147483648}, "<int>-2147483648</int>"},
           Row{int64_t{2147483648}, "<string>2147483648</string>"},
           Row{std::numeric_limits<int64_t>::min(), "<string>-9223372036854775808</string>"},
           Row{0.1, "<double>0.1</double>"},
           Row{1e21, "<double>1000000000000000000000</double>"},
           Row{-5e-324, "<double>-0."},
           Row{std::numeric_limits<double>::infinity(), "<string>inf</string>"},
           Row{Null{}, "<string></string>"},
           Row{Json{"{\"a\":\"<\"}"}, "<string>{\"a\":\"&lt;\"}</string>"},
           Row{absl::string_view("a\r\nb\tc"), "<string>a&#13;\nb\tc</string>"},
           Row{absl::string_view("K\xc3\xb6ln \xf0\x9f\x93\x9e"), "<string>K\xc3\xb6ln \xf0\x9f\x93\x9e</string>"},
       }) {
    EXPECT_THAT(EncodeXmlRpc(*MessageOf({{"", row.value}}), "m", false), HasSubstr(std::string(row.text)));
  }
  for (absl::string_view bad : {"\x01", "\x1f", "\xff", "\xc3", "\xc0", "\xed\xa0\x80", "\xef\xbf\xbe", "\xf5"}) {
    const std::string text = absl::StrCat("a", bad);
    EXPECT_THAT(EncodeXmlRpc(*MessageOf({{"", absl::string_view(text)}}), "m", false),
                HasSubstr(absl::StrCat("<string>a", kFffd)));
  }
}

TEST(XmlrpcText, AnAnswerIsAResponseAFaultOrStrange) {
  const std::string ok = "<methodResponse><params><param><value>1</value></param></params></methodResponse>";
  for (const std::string& text :
       {ok, "<?xml version='1.0'?>\r\n" + ok + "\r\n", "\xef\xbb\xbf<!-- <fault> -->" + ok,
        std::string("<methodResponse >\n<params >\n<param><value>a <fault> here</value></param></params>\n"
                    "</methodResponse>")}) {
    EXPECT_TRUE(CheckXmlRpcResponse(text).ok()) << text;
  }
  const absl::Status fault = CheckXmlRpcResponse(
      "<?xml version='1.0'?>\n<methodResponse>\n<fault><value><struct>\n<member><name>faultCode</name>\n"
      "<value><int>4</int></value></member><member><name>faultString</name><value>too &lt;many&gt;\x01</value></member>"
      "</struct></value></fault>\n</methodResponse>\n");
  EXPECT_TRUE(absl::IsUnavailable(fault));
  EXPECT_EQ(Text(fault), "the receiver answered with fault 4: too &lt;many&gt;?");
  for (const std::string& text :
       {std::string(), std::string("OK"), std::string("<html></html>"), ok.substr(0, ok.size() - 5), std::string("<"),
        std::string("<!--"), std::string("<?xml"), std::string("<methodResponse></methodResponse>"),
        std::string("<methodResponse"), std::string(100000, '<'),
        std::string("<methodResponse><fault><name>faultCode</name><")}) {
    EXPECT_TRUE(absl::IsUnavailable(CheckXmlRpcResponse(text))) << text.substr(0, 80);
  }
}

// --- a strict server

class StrictServerTest : public testing::Test {
 protected:
  std::string Uri(absl::string_view rest) const { return absl::StrCat("xmlrpc:127.0.0.1:", port_, rest); }
  std::string Record() const { return ReadFile(folder_ / "record"); }

  const std::unique_ptr<Transport> transport_ = MakeXmlrpcTransport();
  const TemporaryFolder folder_;
  const uint16_t port_ = FreePort();
  ServerProcess server_{
      {"/usr/bin/python3", "tests/transports/xmlrpc/strict_server.py", absl::StrCat(port_), folder_ / "record"},
      port_,
      folder_ / "output"};
};

TEST_F(StrictServerTest, TakesEveryKindOfValue) {
  LinkUnderTest link(*transport_, Uri(":receive"));
  ASSERT_EQ(link.WaitReady(), 1);
  const absl::Status outcome = link.SendAndWait(MessageOf({{"n", Null{}},
                                                           {"b", false},
                                                           {"i", int64_t{-42}},
                                                           {"l", int64_t{1} << 40},
                                                           {"d", 1e-7},
                                                           {"s", absl::string_view("<K\xc3\xb6ln> & \r\n\x01")},
                                                           {"j", Json{"[1]"}},
                                                           {"", absl::string_view("positional")}}));
  EXPECT_TRUE(outcome.ok()) << outcome;
  EXPECT_EQ(Record(),
            "[\"E_TEST\", {\"n\": \"\", \"b\": false, \"i\": -42, \"l\": \"1099511627776\", \"d\": 1e-07, "
            "\"s\": \"<K\\u00f6ln> & \\r\\n\\ufffd\", \"j\": \"[1]\", \"7\": \"positional\"}]\n");
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_NONE")).ok());
  EXPECT_THAT(Record(), testing::EndsWith("[\"E_NONE\"]\n"));
}

TEST_F(StrictServerTest, TakesPositionalParametersWithoutAStructAndRefusesNamedOnes) {
  LinkUnderTest link(*transport_, Uri("/calls:receive?use_struct_param=0"));
  ASSERT_EQ(link.WaitReady(), 1);
  EXPECT_TRUE(link.SendAndWait(MessageOf({{"", int64_t{1}}, {"", absl::string_view("two")}})).ok());
  EXPECT_EQ(Record(), "[\"E_TEST\", 1, \"two\"]\n");
  const absl::Status outcome = link.SendAndWait(MessageOf({{"name", int64_t{1}}}));
  EXPECT_TRUE(absl::IsInvalidArgument(outcome)) << outcome;
}

TEST_F(StrictServerTest, AFaultAndAMissingMethodOrPathAreFailures) {
  for (const auto& [rest, said] :
       {std::pair{":calls.refuse", "fault 1: "}, {":nothing", "fault 1: "}, {"/x:receive", "404"}}) {
    LinkUnderTest link(*transport_, Uri(rest));
    ASSERT_EQ(link.WaitReady(), 1);
    const absl::Status outcome = link.SendAndWait(MakeMessage("E_TEST"));
    EXPECT_FALSE(outcome.ok()) << rest;
    EXPECT_THAT(Text(outcome), AllOf(HasSubstr(said), HasSubstr(Uri(rest))));
  }
  EXPECT_EQ(Record(), "");
}

TEST_F(StrictServerTest, KilledAndStartedAgainANewLinkGoesOn) {
  {
    LinkUnderTest link(*transport_, Uri(":receive"));
    ASSERT_EQ(link.WaitReady(), 1);
    ASSERT_TRUE(link.SendAndWait(MakeMessage("E_BEFORE")).ok());
    server_.Kill();
    EXPECT_FALSE(link.SendAndWait(MakeMessage("E_DOWN")).ok());
    EXPECT_TRUE(absl::IsUnavailable(link.WaitClosed()));
  }
  server_.Start();
  LinkUnderTest link(*transport_, Uri(":receive"));
  ASSERT_EQ(link.WaitReady(), 1);
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_AFTER")).ok());
  EXPECT_EQ(Record(), "[\"E_BEFORE\"]\n[\"E_AFTER\"]\n");
}

// What Python's server does not do.
TEST(XmlrpcTest, AnAnswerThatIsNoResponseFails) {
  for (const std::string& body : {std::string("OK"), std::string(), std::string(1 << 20, ' ')}) {
    HttpServer server(Answer("200 OK", body));
    const std::unique_ptr<Transport> transport = MakeXmlrpcTransport();
    LinkUnderTest link(*transport, absl::StrCat("xmlrpc:127.0.0.1:", server.port(), ":m"));
    ASSERT_EQ(link.WaitReady(), 1);
    EXPECT_TRUE(absl::IsUnavailable(link.SendAndWait(MakeMessage("E_TEST"))));
    const std::optional<HttpRequest> request = server.Receive(kPatience);
    ASSERT_TRUE(request.has_value());
    EXPECT_EQ(request->line, "POST /RPC2 HTTP/1.1");
    EXPECT_EQ(request->Header("content-type"), "text/xml");
  }
}

}  // namespace
}  // namespace eventvirtual
