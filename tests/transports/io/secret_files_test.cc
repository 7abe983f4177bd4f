// What stands behind ${secret:NAME}: which file is read, who may have it, and when.
#include "transports/io/secret_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/io/temporary_folder.h"
#include "transports/api/secret.h"
#include "transports/io/destination_gate.h"
#include "transports/io/destination_policy.h"
#include "transports/io/with_secrets.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class SecretFilesTest : public testing::Test {
 protected:
  SecretFilesTest() { SetSecretDirectory(folder_ / ""); }
  ~SecretFilesTest() override {
    SetSecretDirectory("");
    SetDestinationPolicy(nullptr);
  }

  void Write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name, std::ios::trunc) << content;
  }

  static void Allow(const std::string& lines) {
    absl::StatusOr<DestinationPolicy> policy = DestinationPolicy::Parse(lines);
    ASSERT_TRUE(policy.ok()) << policy.status();
    SetDestinationPolicy(std::make_shared<const DestinationPolicy>(*std::move(policy)));
  }

  static Target TargetWith(const std::string& name) {
    Target target;
    target.canonical = "amqps://u:${secret:" + name + "}@broker:5671?routing_key=q";
    target.hosts = {{"broker", 5671}};
    target.secrets[name];
    return target;
  }

  static std::string Read(const std::string& name) {
    Target target = TargetWith(name);
    const absl::Status status = ReadSecrets(&target);
    return status.ok() ? target.secrets[name].Reveal() : std::string(status.message());
  }

  TemporaryFolder folder_;
};

TEST_F(SecretFilesTest, TheLineEndBehindItIsNotOfThePassword) {
  for (const auto& [content, password] : {std::pair("p@ss:w/rd", "p@ss:w/rd"),
                                          {"one line\n", "one line"},
                                          {"one line\r\n", "one line"},
                                          {"two\nlines\n", "two\nlines"},
                                          {"empty line\n\n", "empty line\n"},
                                          {" blanks ", " blanks "}}) {
    Write("rabbit", content);
    EXPECT_EQ(Read("rabbit"), password);
  }
}

TEST_F(SecretFilesTest, WhatTheFileHoldsNowIsRead) {
  Write("rabbit", "old");
  EXPECT_EQ(Read("rabbit"), "old");
  Write("rabbit", "new");
  EXPECT_EQ(Read("rabbit"), "new");
}

TEST_F(SecretFilesTest, OneMountedByKubernetesIsBehindLinks) {
  std::filesystem::create_directory(folder_ / "..2026_11_26");
  Write("..2026_11_26/rabbit", "mounted");
  std::filesystem::create_symlink("..2026_11_26", folder_ / "..data");
  std::filesystem::create_symlink("..data/rabbit", folder_ / "rabbit");
  EXPECT_EQ(Read("rabbit"), "mounted");
}

TEST_F(SecretFilesTest, NothingOutsideOfTheDirectoryIsRead) {
  TemporaryFolder elsewhere;
  std::ofstream(elsewhere / "password") << "c4n4ry";
  std::filesystem::create_symlink(elsewhere / "password", folder_ / "absolute");
  std::filesystem::create_symlink("../../etc/hostname", folder_ / "upwards");
  std::filesystem::create_symlink("/proc/self/environ", folder_ / "magic");
  for (const char* name : {"absolute", "upwards", "magic"}) {
    EXPECT_THAT(Read(name), AllOf(HasSubstr("Invalid cross-device link"), Not(HasSubstr("c4n4ry")))) << name;
  }
}

TEST_F(SecretFilesTest, WhatIsNoSecretIsRefusedByItsName) {
  std::filesystem::create_directory(folder_ / "folder");
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  Write("empty", "\n");
  Write("large", std::string((64 << 10) + 1, 'x'));
  Write("largest", std::string(64 << 10, 'x'));
  EXPECT_EQ(Read("largest"), std::string(64 << 10, 'x'));
  EXPECT_THAT(Read("folder"), HasSubstr("is no regular file"));
  EXPECT_THAT(Read("pipe"), HasSubstr("is no regular file"));
  EXPECT_THAT(Read("empty"), HasSubstr("is empty"));
  EXPECT_THAT(Read("large"), HasSubstr("has 65537 bytes; name a regular file of at most 65536 bytes"));
  EXPECT_THAT(Read("absent"), AllOf(HasSubstr("${secret:absent}: the file \"absent\" of --secrets="),
                                    HasSubstr("No such file or directory")));
  SetSecretDirectory(folder_ / "nowhere");
  EXPECT_THAT(Read("absent"), HasSubstr("No such file or directory"));
  SetSecretDirectory("");
  EXPECT_THAT(Read("absent"), HasSubstr("there is no directory of secrets; name one with --secrets"));
}

TEST_F(SecretFilesTest, WithAPolicyItGoesNowhereThatNoLineNames) {
  Write("rabbit", "c4n4ry");
  for (const char* lines : {"", "network any", "secret other amqps broker:5671", "secret rabbit amqp broker:5671",
                            "secret rabbit amqps broker:5672", "secret rabbit amqps broker.evil.example:5671",
                            "secret rabbit amqps evil:5671"}) {
    Allow(lines);
    Target target = TargetWith("rabbit");
    const absl::Status status = ReadSecrets(&target);
    EXPECT_TRUE(absl::IsPermissionDenied(status)) << lines << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("may add \"secret rabbit amqps broker:5671\""));
    EXPECT_TRUE(target.secrets["rabbit"].empty()) << "it was not even read";
  }
  Allow("secret rabbit amqps other:5671 broker:5671");
  EXPECT_EQ(Read("rabbit"), "c4n4ry");
  Allow("secret rabbit amqps other:5671\nsecret rabbit kafka broker:5671\nsecret rabbit amqps BROKER:5671");
  EXPECT_EQ(Read("rabbit"), "c4n4ry");
}

TEST_F(SecretFilesTest, EachOfSeveralHostsMustBeNamed) {
  Write("kafka", "password");
  Allow("secret kafka kafka one:9092");
  Target target = TargetWith("kafka");
  target.canonical = "kafka:one:9092,evil:9092/t";
  target.hosts = {{"one", 9092}, {"evil", 9092}};
  EXPECT_TRUE(absl::IsPermissionDenied(ReadSecrets(&target)));
  target.hosts.pop_back();
  EXPECT_TRUE(ReadSecrets(&target).ok());
  target.hosts.clear();
  EXPECT_TRUE(absl::IsPermissionDenied(ReadSecrets(&target))) << "nobody is not everybody";
}

TEST_F(SecretFilesTest, WithoutAFileOfDestinationsItGoesNowhere) {
  Write("rabbit", "password");
  SetDestinationPolicy(std::make_shared<const DestinationPolicy>(DestinationPolicy::Default()));
  EXPECT_THAT(Read("rabbit"), HasSubstr("${secret:rabbit} is not for amqps broker:5671"));
}

// A transport "login:PASSWORD@h:1" that takes no password with a blank. An event fails with the password that its link
// has; the password "stale" is not taken.
class TellingTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override { return "login:password@host:port"; }
  absl::string_view description() const override { return ""; }
  AckLevel ack_level() const override { return AckLevel::kWritten; }
  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const absl::StatusOr<Login> login = Parse(uri);
    if (!login.ok()) return login.status();
    return TargetOf(*login, AckLevel::kWritten, {HostPort{"h", 1}});
  }
  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    return std::make_unique<TellingLink>(AddressOf(target, &Parse), loop, host);
  }

 private:
  struct Login {
    Secret password;
    absl::Duration timeout = absl::Seconds(1);
    std::vector<const Secret*> Secrets() const { return {&password}; }
    std::string ToString(bool masked) const { return absl::StrCat("login:", InBody(password, masked), "@h:1"); }
  };
  static absl::StatusOr<Login> Parse(const Uri& uri) {
    absl::StatusOr<Secret> password = SecretInBody(uri, "the password", uri.body.substr(0, uri.body.find('@')));
    if (!password.ok()) return password.status();
    if (password->Reveal().find(' ') != std::string::npos)
      return absl::InvalidArgumentError("the password has a blank");
    return Login{*std::move(password)};
  }
  class TellingLink final : public Link {
   public:
    TellingLink(const Login& login, Loop& loop, Host& host) {
      password_ = login.password.Reveal();
      loop.Post([&host, alive = alive_] {
        if (*alive) host.OnReady(1);
      });
    }
    ~TellingLink() override { *alive_ = false; }
    void Send(absl::Span<Parcel> parcels) override {
      for (Parcel& parcel : parcels) {
        std::move(parcel.done)
            .Finish(password_ == "stale" ? absl::UnauthenticatedError("no") : absl::UnavailableError(password_));
      }
    }

   private:
    std::string password_;
    const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  };
  static constexpr absl::string_view kSchemes[] = {"login"};
};

class WithSecretsTest : public SecretFilesTest {
 protected:
  std::string PasswordAtConnect(absl::string_view uri) {
    LinkUnderTest link(*transport_, uri);
    if (link.WaitReady() == 0) return std::string(link.WaitClosed().message());
    return std::string(link.SendAndWait(MakeMessage("E")).message());
  }
  const std::unique_ptr<Transport> transport_ = WithSecrets(std::make_unique<TellingTransport>());
};

TEST_F(WithSecretsTest, EachConnectReadsTheFileAnew) {
  EXPECT_EQ(PasswordAtConnect("login:literal@h:1"), "literal");
  Write("rabbit", "old\n");
  EXPECT_EQ(PasswordAtConnect("login:${secret:rabbit}@h:1"), "old");
  Write("rabbit", "n@w:/%\n");
  EXPECT_EQ(PasswordAtConnect("login:${secret:rabbit}@h:1"), "n@w:/%");
}

TEST_F(WithSecretsTest, AServerThatDoesNotTakeThePasswordAnyMoreEndsTheLink) {
  Write("rabbit", "good");
  LinkUnderTest kept(*transport_, "login:${secret:rabbit}@h:1");
  ASSERT_EQ(kept.WaitReady(), 1);
  EXPECT_TRUE(absl::IsUnavailable(kept.SendAndWait(MakeMessage("E"))));
  EXPECT_FALSE(kept.closed());

  Write("rabbit", "stale");
  LinkUnderTest ended(*transport_, "login:${secret:rabbit}@h:1");
  ASSERT_EQ(ended.WaitReady(), 1);
  EXPECT_TRUE(absl::IsUnauthenticated(ended.SendAndWait(MakeMessage("E"))));
  EXPECT_TRUE(absl::IsUnauthenticated(ended.WaitClosed()));
}

TEST_F(WithSecretsTest, AFileThatIsGoneClosesTheLinkVisibly) {
  EXPECT_THAT(PasswordAtConnect("login:${secret:rabbit}@h:1"),
              HasSubstr("login:${secret:rabbit}@h:1: ${secret:rabbit}: the file \"rabbit\" of --secrets="));
}

TEST_F(WithSecretsTest, WhatTheTransportDoesNotTakeClosesTheLinkAndIsNotRepeated) {
  Write("rabbit", "c4n4ry c4n4ry");
  EXPECT_THAT(PasswordAtConnect("login:${secret:rabbit}@h:1"),
              AllOf(HasSubstr("the password has a blank"), Not(HasSubstr("c4n4ry"))));
}

TEST_F(WithSecretsTest, WhatIsNotAllowedAnyMoreClosesTheLink) {
  Write("rabbit", "password");
  Allow("secret rabbit login h:2");
  EXPECT_THAT(PasswordAtConnect("login:${secret:rabbit}@h:1"), HasSubstr("is not for login h:1"));
  Allow("secret rabbit login h:1");
  EXPECT_EQ(PasswordAtConnect("login:${secret:rabbit}@h:1"), "password");
}

TEST_F(WithSecretsTest, ALinkThatGoesWhileItsFileIsReadTouchesNothing) {
  Write("rabbit", "password");
  for (int i = 0; i < 100; ++i) LinkUnderTest link(*transport_, "login:${secret:rabbit}@h:1");
}

}  // namespace
}  // namespace eventvirtual
