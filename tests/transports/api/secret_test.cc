#include "transports/api/secret.h"

#include <cstring>
#include <memory>
#include <new>
#include <ostream>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transports/api/uri.h"

namespace eventvirtual {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// --- what must not compile: nobody prints one by mistake

template <typename T>
constexpr bool kStreams = requires(std::ostream& out, const T& value) {
  out << value;
};
template <typename T>
constexpr bool kConcatenates = requires(const T& value) {
  absl::StrCat(value);
};
template <typename T>
constexpr bool kAppends = requires(std::string& text, const T& value) {
  text += value;
};
template <typename T>
constexpr bool kPrintsInTests = requires(std::ostream* out, const T& value) {
  PrintTo(value, out);
};
template <typename T>
constexpr bool kOrders = requires(const T& value) {
  value < value;
};

// So that the questions above can be answered with yes.
struct Printable {
  friend std::ostream& operator<<(std::ostream& out, const Printable&) { return out; }
  friend void PrintTo(const Printable&, std::ostream*) {}
  friend bool operator<(const Printable&, const Printable&) { return false; }
};
static_assert(kStreams<Printable> && kPrintsInTests<Printable> && kOrders<Printable>);
static_assert(kConcatenates<std::string> && kAppends<std::string>);

static_assert(!kStreams<Secret> && !kConcatenates<Secret> && !kAppends<Secret> && !kPrintsInTests<Secret>);
static_assert(!kOrders<Secret>);  // how a comparison ends would tell where they differ
static_assert(!std::is_convertible_v<Secret, std::string> && !std::is_convertible_v<Secret, absl::string_view> &&
              !std::is_convertible_v<Secret, const char*> && !std::is_convertible_v<Secret, bool>);
static_assert(!std::is_convertible_v<std::string, Secret>);  // who makes one says so

TEST(SecretTest, RevealsWhatItWasMadeOf) {
  EXPECT_EQ(Secret("pa:ss").Reveal(), "pa:ss");
  EXPECT_TRUE(Secret().empty());
  EXPECT_FALSE(Secret("x").empty());
}

TEST(SecretTest, EqualOnesAreEqualWhereverOthersDiffer) {
  EXPECT_TRUE(Secret("abc") == Secret("abc"));
  for (const char* other : {"", "ab", "abcd", "xbc", "axc", "abx"})
    EXPECT_FALSE(Secret("abc") == Secret(other)) << other;
  EXPECT_FALSE(Secret({"", "one", ""}, Secret()) == Secret({"", "other", ""}, Secret()));
}

// A Secret in a place of ours, so that its bytes can be looked at when it has ended. A string that is cleared has lost
// its first byte alone, so what is looked for begins behind it.
class Remains {
 public:
  template <typename... Args>
  Secret& Make(Args&&... args) {
    return *new (place_) Secret(std::forward<Args>(args)...);
  }
  bool Hold(absl::string_view text) const {
    return absl::string_view(reinterpret_cast<const char*>(place_), sizeof(place_)).find(text) !=
           absl::string_view::npos;
  }

 private:
  alignas(Secret) unsigned char place_[sizeof(Secret)] = {};
};

TEST(SecretTest, NothingOfAShortOneIsLeftWhenItEnds) {
  Remains remains;
  Secret& secret = remains.Make("s3cr3t");
  EXPECT_TRUE(remains.Hold("s3cr3t")) << "a short string is kept inside";
  secret.~Secret();
  EXPECT_FALSE(remains.Hold("3cr3t"));
}

TEST(SecretTest, NothingIsLeftWhereOneWasMovedFrom) {
  Remains remains;
  Secret& secret = remains.Make("s3cr3t");
  Secret moved = std::move(secret);
  EXPECT_EQ(moved.Reveal(), "s3cr3t");
  EXPECT_FALSE(remains.Hold("3cr3t"));
  secret.~Secret();

  std::string text = "s3cr3t";
  const char* const bytes = text.data();
  Secret taken(std::move(text));
  EXPECT_NE(std::memcmp(bytes + 1, "3cr3t", 5), 0);
}

TEST(SecretTest, NothingIsLeftWhenAnotherIsPutInItsPlace) {
  Remains remains;
  Secret& secret = remains.Make("s3cr3t");
  secret = Secret("x");
  EXPECT_EQ(secret.Reveal(), "x");
  EXPECT_FALSE(remains.Hold("3cr3t"));
  secret.~Secret();
}

// --- as it stands in a subscriber

Uri UriOf(absl::string_view text) {
  absl::StatusOr<Uri> uri = ParseUri(text);
  EXPECT_TRUE(uri.ok()) << uri.status();
  return *std::move(uri);
}

Secret InBodyOf(const Uri& uri, absl::string_view written) {
  absl::StatusOr<Secret> secret = SecretInBody(uri, "the password", written);
  EXPECT_TRUE(secret.ok()) << secret.status();
  return *std::move(secret);
}

TEST(SecretInAUriTest, TextIsDecodedAndShownAsStars) {
  const Secret secret = InBodyOf(UriOf("x:y"), "p%40ss");
  EXPECT_EQ(secret.Reveal(), "p@ss");
  EXPECT_EQ(InBody(secret, /*masked=*/false), "p%40ss");
  EXPECT_EQ(InBody(secret, /*masked=*/true), "***");
}

TEST(SecretInAUriTest, ANameIsShownAndItsContentIsNot) {
  Uri uri = UriOf("x:y");
  const Secret unread = InBodyOf(uri, "${secret:rabbit}");
  EXPECT_FALSE(unread.known());
  EXPECT_EQ(unread.Reveal(), "");
  EXPECT_THAT(unread.names(), ElementsAre("rabbit"));

  uri.secrets["rabbit"] = Secret("p@s/s:%41");
  const Secret read = InBodyOf(uri, "${secret:rabbit}");
  EXPECT_TRUE(read.known());
  EXPECT_EQ(read.Reveal(), "p@s/s:%41") << "byte by byte: nothing in a file is an escape";
  for (bool masked : {false, true}) EXPECT_EQ(InBody(read, masked), "${secret:rabbit}");
}

TEST(SecretInAUriTest, TextAroundANameIsShownAsStars) {
  Uri uri = UriOf("x:y?auth=Bearer%20${secret:a}.${secret:b}");
  uri.secrets["a"] = Secret("A");
  uri.secrets["b"] = Secret("B");
  QueryReader query(uri);
  const Secret secret = query.TakeSecret("auth");
  EXPECT_EQ(secret.Reveal(), "Bearer A.B");
  QueryWriter plain, masked;
  plain.AddSecret("auth", secret, /*masked=*/false);
  masked.AddSecret("auth", secret, /*masked=*/true);
  EXPECT_EQ(plain.text(), "?auth=Bearer%20${secret:a}.${secret:b}") << "reads back the same";
  EXPECT_EQ(masked.text(), "?auth=***${secret:a}***${secret:b}");
}

TEST(SecretInAUriTest, InAUrlAContentIsEncoded) {
  Uri uri = UriOf("x:y?query=token%3D${secret:a}%26n%3D1");
  uri.secrets["a"] = Secret("a&b=c");
  QueryReader query(uri);
  EXPECT_EQ(query.TakeSecret("query", /*url=*/true).Reveal(), "token=a%26b%3dc&n=1");
}

TEST(SecretInAUriTest, AContentThatReadsAsANameIsNone) {
  Uri uri = UriOf("x:y");
  uri.secrets["a"] = Secret("${secret:b}");
  uri.secrets["b"] = Secret("other");
  EXPECT_EQ(InBodyOf(uri, "${secret:a}").Reveal(), "${secret:b}");
  EXPECT_EQ(InBodyOf(uri, "%24{secret:b}").Reveal(), "${secret:b}") << "an escaped '$' begins no name";
}

TEST(SecretInAUriTest, ANameThatIsNoneIsRefusedAndNotRepeated) {
  for (const char* written : {"${secret:", "${secret:}", "${secret:a", "${secret:../c4n4ry}", "${secret:c4n4ry/b}",
                              "${secret:c4n4ry..b}", "c4n4ry${secret:a b}", "${secret:.}", "${secret:${secret:a}}"}) {
    const absl::Status status = SecretInBody(UriOf("x:y"), "the password", written).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << written;
    EXPECT_THAT(std::string(status.message()), HasSubstr("the password: \"${secret:\" needs the name of a file"));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("c4n4ry")));
  }
  EXPECT_TRUE(IsSecretName(std::string(255, 'a')));
  EXPECT_FALSE(IsSecretName(std::string(256, 'a')));
}

}  // namespace
}  // namespace eventvirtual
