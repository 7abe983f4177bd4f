// What the files of --access and --tokens grant, and what they do not.
#include "server/access/access_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// SHA-256 of "abc" (FIPS 180-2, B.1).
constexpr char kHashOfAbc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

AccessList Parsed(absl::string_view text) {
  absl::StatusOr<AccessList> list = AccessList::Parse(text);
  EXPECT_TRUE(list.ok()) << list.status();
  return *std::move(list);
}
std::string FaultOf(absl::string_view text) { return std::string(AccessList::Parse(text).status().message()); }
std::string TokenFaultOf(absl::string_view text) { return std::string(TokenList::Parse(text).status().message()); }

bool MayRaise(const AccessList& list, const Caller& caller, const std::string& event) {
  return list.Allow(caller, "Raise", {Role::kProducer, Role::kOperator}, &event).ok();
}

Caller OverTls(std::vector<std::string> names, std::string token = "") {
  return {Caller::Way::kTls, std::move(names), std::move(token)};
}

TEST(AccessList, AUserOfThisHostIsKnownByNameAndByNumber) {
  const AccessList list = Parsed("user:root operator\nuser:1234567 producer E_A\nunix observer\n");
  Caller root{Caller::Way::kUnix, {}, {}, 0}, other{Caller::Way::kUnix, {}, {}, 1234567},
      unknown{Caller::Way::kUnix, {}, {}};
  EXPECT_TRUE(MayRaise(list, root, "E_B"));
  EXPECT_TRUE(MayRaise(list, other, "E_A"));
  EXPECT_FALSE(MayRaise(list, other, "E_B"));
  EXPECT_FALSE(MayRaise(list, unknown, "E_A"));
  for (const Caller& caller : {root, other, unknown}) {
    EXPECT_TRUE(list.Allow(caller, "List", {Role::kObserver, Role::kOperator}, nullptr).ok()) << "they are unix, too";
  }
  EXPECT_EQ(AccessList::Describe(other), "user:1234567");
  EXPECT_EQ(AccessList::Describe(unknown), "unix");
  EXPECT_THAT(FaultOf("user:root operator\nuser:nobody-of-that-name operator"),
              AllOf(HasSubstr("line 2"), HasSubstr("no user \"nobody-of-that-name\""), HasSubstr("/etc/passwd")));
  EXPECT_THAT(FaultOf("user: operator"), HasSubstr("user:NAME"));
}

TEST(AccessList, AnEmptyFileGrantsNothing) {
  const AccessList list = Parsed("\n  \n# nobody\n");
  EXPECT_FALSE(list.Allow({Caller::Way::kLoopback, {}, {}}, "List", {Role::kObserver}, nullptr).ok());
  EXPECT_FALSE(list.Allow({Caller::Way::kUnix, {}, {}}, "List", {Role::kObserver}, nullptr).ok());
  EXPECT_FALSE(list.Allow(OverTls({"a"}), "List", {Role::kObserver}, nullptr).ok());
}

TEST(AccessList, WithoutAFileThisHostAndTheCaMayDoEverything) {
  const AccessList list = AccessList::Default();
  EXPECT_TRUE(MayRaise(list, {Caller::Way::kLoopback, {}, {}}, "E_X"));
  EXPECT_TRUE(MayRaise(list, {Caller::Way::kUnix, {}, {}}, "E_X"));
  EXPECT_TRUE(MayRaise(list, OverTls({"anyone"}), "*"));
  EXPECT_FALSE(MayRaise(list, OverTls({}), "E_X"));
}

TEST(AccessList, AnIdentityIsThatOneAlone) {
  const AccessList list = Parsed("cert:a.example producer\ntoken:b producer # and no other\n");
  EXPECT_TRUE(MayRaise(list, OverTls({"other", "a.example"}), "E_X"));
  EXPECT_FALSE(MayRaise(list, OverTls({"A.example"}), "E_X"));
  EXPECT_FALSE(MayRaise(list, OverTls({"a.example.org"}), "E_X"));
  EXPECT_FALSE(MayRaise(list, OverTls({"token:b", "b"}), "E_X"));
  EXPECT_TRUE(MayRaise(list, OverTls({}, "b"), "E_X"));
  EXPECT_FALSE(MayRaise(list, OverTls({}, "a.example"), "E_X"));
  EXPECT_TRUE(MayRaise(list, {Caller::Way::kLoopback, {}, "b"}, "E_X"));
}

// A certificate whose name is "*" is not anyone's.
TEST(AccessList, TheStarIsForWhoeverHasACertificate) {
  const AccessList list = Parsed("cert:* observer\n");
  EXPECT_TRUE(list.Allow(OverTls({"x"}), "List", {Role::kObserver}, nullptr).ok());
  EXPECT_FALSE(list.Allow(OverTls({}, "x"), "List", {Role::kObserver}, nullptr).ok());
}

TEST(AccessList, PatternsCoverNamesAndNarrowerPatternsAndAddUp) {
  const AccessList list = Parsed("unix producer E_PIKE_* E_ONE\nunix producer E_TWO\n");
  const Caller caller{Caller::Way::kUnix, {}, {}};
  for (const char* const event : {"E_PIKE_BLOCKED", "E_PIKE_", "E_PIKE_*", "E_PIKE_A*", "E_ONE", "E_TWO"}) {
    EXPECT_TRUE(MayRaise(list, caller, event)) << event;
  }
  for (const char* const event : {"", "*", "E_*", "E_PIKE", "E_ONE_MORE", "E_ONE*", "e_one", "E_THREE"}) {
    EXPECT_FALSE(MayRaise(list, caller, event)) << event;
  }
}

TEST(AccessList, ThePatternsOfOneRoleAreNotThoseOfAnother) {
  const AccessList list = Parsed("unix producer E_A*\nunix subscriber E_B*\n");
  const Caller caller{Caller::Way::kUnix, {}, {}};
  EXPECT_TRUE(MayRaise(list, caller, "E_A1"));
  EXPECT_FALSE(MayRaise(list, caller, "E_B1"));
}

TEST(AccessList, ARefusalSaysWhoLacksWhatAndTheWayOut) {
  const AccessList list = Parsed("token:billing subscriber E_CDR_*\n");
  const std::string event = "E_OTHER\n";
  const absl::Status nobody = list.Allow(OverTls({}), "Raise", {Role::kProducer}, &event);
  EXPECT_EQ(nobody.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(std::string(nobody.message()), HasSubstr("authorization: Bearer"));
  const absl::Status role = list.Allow(OverTls({}, "billing"), "Raise", {Role::kProducer, Role::kOperator}, &event);
  EXPECT_EQ(role.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(role.message()), HasSubstr("Raise needs the role producer or operator, which token:billing"));
  const absl::Status covers = list.Allow(OverTls({}, "billing"), "Subscribe", {Role::kSubscriber}, &event);
  EXPECT_EQ(covers.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(covers.message()), HasSubstr(R"(token:billing may not do that to the event "E_OTHER\n")"));
}

TEST(AccessList, AFaultIsNamedWithItsLineAndTheWayOut) {
  EXPECT_THAT(FaultOf("unix observer\n\nbob observer\n"), HasSubstr("line 3: \"bob\" is nobody; write cert:NAME"));
  EXPECT_THAT(FaultOf("cert: observer"), HasSubstr("is nobody"));
  EXPECT_THAT(FaultOf("unix"), HasSubstr("\"\" is no role; write producer"));
  EXPECT_THAT(FaultOf("unix king"), HasSubstr("\"king\" is no role"));
  EXPECT_THAT(FaultOf("unix observer E_*"), HasSubstr("only producer and subscriber are limited"));
  EXPECT_THAT(FaultOf("unix producer E_*_X"), HasSubstr("may only stand at the end"));
}

TEST(TokenList, ATokenIsKnownByItsHash) {
  const absl::StatusOr<TokenList> list = TokenList::Parse(std::string("# ours\nbilling ") + kHashOfAbc + "\n");
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_EQ(list->NameOf("abc"), "billing");
  for (const std::string wrong : {"", "ab", "abcd", "ABC", kHashOfAbc}) EXPECT_EQ(list->NameOf(wrong), "") << wrong;
}

TEST(TokenList, ATokenInTheWrongPlaceIsNotShown) {
  for (const std::string text : {"billing s3cr3t", "s3cr3t", "billing s3cr3t more", "billing "}) {
    EXPECT_THAT(TokenFaultOf("# first\n" + text), HasSubstr("line 2: write NAME and the SHA-256")) << text;
    EXPECT_THAT(TokenFaultOf("# first\n" + text), Not(HasSubstr("s3cr3t")));
  }
}

}  // namespace
}  // namespace eventvirtual
