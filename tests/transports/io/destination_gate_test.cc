#include "transports/io/destination_gate.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/numeric_address.h"
#include "tests/transports/io/temporary_folder.h"
#include "transports/io/stream_socket.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::HasSubstr;

absl::Status Peer(const std::string& host, uint16_t port, int type = SOCK_STREAM) {
  const sockaddr_storage peer = At(host, port);
  return CheckPeer(reinterpret_cast<const sockaddr&>(peer), type);
}

class DestinationGateTest : public testing::Test {
 protected:
  DestinationGateTest() {
    std::filesystem::create_directories(allowed_);
    std::filesystem::create_directories(folder_ / "outside");
    DestinationPolicy policy = DestinationPolicy::Default();
    EXPECT_TRUE(policy.AllowDirectory(allowed_).ok());
    SetDestinationPolicy(std::make_shared<const DestinationPolicy>(policy), allowed_);
  }
  ~DestinationGateTest() override {
    SetOwnListeners({});
    SetDestinationPolicy(nullptr);
  }

  // Opens and closes the directory of `path`: "", the policy's words, or the system's.
  std::string Open(const std::string& path) {
    absl::Status why;
    const int fd = OpenDirectoryOf(path, &why);
    const int error = errno;
    if (fd >= 0) close(fd);
    return fd >= 0 ? "" : !why.ok() ? std::string(why.message()) : std::strerror(error);
  }

  std::string Connect(const std::string& path) {
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    absl::Status why;
    const int result = ConnectUnix(fd, path, &why);
    const int error = errno;
    close(fd);
    return result == 0 ? "" : !why.ok() ? std::string(why.message()) : std::strerror(error);
  }

  TemporaryFolder folder_;
  const std::string allowed_ = folder_ / "allowed";
};

// A unix datagram socket with a file.
class Receiver {
 public:
  explicit Receiver(const std::string& path) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path.c_str());
    EXPECT_EQ(bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  ~Receiver() { close(fd_); }

 private:
  const int fd_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
};

TEST_F(DestinationGateTest, NoSocketIsPreparedForAnAddressThatIsNotAllowed) {
  for (const char* host : {"8.8.8.8", "169.254.169.254", "0.0.0.0", "::ffff:169.254.169.254", "fe80::1"}) {
    const sockaddr_storage to = At(host, 80);
    EXPECT_TRUE(absl::IsPermissionDenied(OpenStreamSocket(reinterpret_cast<const sockaddr&>(to)).status())) << host;
  }
  const sockaddr_storage loopback = At("127.0.0.1", 80);
  const absl::StatusOr<int> opened = OpenStreamSocket(reinterpret_cast<const sockaddr&>(loopback));
  ASSERT_TRUE(opened.ok()) << opened.status();
  close(*opened);
}

TEST_F(DestinationGateTest, OurOwnListenersAreNeverADestination) {
  SetOwnListeners({"127.0.0.1:7060", "udp:0.0.0.0:9061", "http:127.0.0.2:7064/mi", "[::]:7070", "localhost:7080",
                   "tcp:127.0.0.1:0", "nonsense"});
  EXPECT_THAT(
      std::string(Peer("127.0.0.1", 7060).message()),
      AllOf(HasSubstr("127.0.0.1:7060 is never allowed"), HasSubstr("listens there itself, at 127.0.0.1:7060")));
  EXPECT_FALSE(Peer("::ffff:127.0.0.1", 7060).ok());
  EXPECT_FALSE(Peer("127.0.0.2", 7064).ok());
  EXPECT_FALSE(Peer("127.0.0.1", 7080).ok());
  // Every address of this host, where all are listened at.
  for (const char* host : {"127.0.0.1", "127.5.5.5", "::1", "::ffff:127.0.0.1"}) {
    EXPECT_FALSE(Peer(host, 9061, SOCK_DGRAM).ok()) << host;
    EXPECT_FALSE(Peer(host, 7070).ok()) << host;
  }
  // Other ports, protocols, addresses and hosts.
  EXPECT_TRUE(Peer("127.0.0.1", 7061).ok());
  EXPECT_TRUE(Peer("127.0.0.1", 7060, SOCK_DGRAM).ok());
  EXPECT_TRUE(Peer("127.0.0.1", 9061).ok());
  EXPECT_TRUE(Peer("127.0.0.3", 7064).ok());
  EXPECT_TRUE(Peer("10.255.254.253", 7070).ok());
}

TEST_F(DestinationGateTest, ASubscriberIsRefusedBeforeAnyLookUpWhereItsTextTells) {
  SetOwnListeners({"127.0.0.1:7060", absl::StrCat("unix:", allowed_, "/own.sock")});
  const auto check = [](const std::string& scheme, const HostPort& host) {
    return std::string(CheckTarget({.canonical = scheme + ":x", .hosts = {host}}).message());
  };
  EXPECT_EQ(check("tcp", {"127.0.0.1", 1}), "");
  EXPECT_EQ(check("tcp", {"broker.example.org", 1}), "");  // who knows, until it is looked up
  EXPECT_THAT(check("tcp", {"localhost", 7060}), HasSubstr("localhost:7060: 127.0.0.1:7060 is never allowed"));
  EXPECT_EQ(check("udp", {"localhost", 7060}), "");
  for (const char* host : {"127.1", "0x7f000001", "017700000001", "2130706433", "0x7f.1", "::ffff:127.0.0.1"}) {
    EXPECT_THAT(check("grpc", {host, 7060}), HasSubstr("never allowed")) << host;
  }
  for (const char* host : {"2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.16689662", "fe80::1%lo", "0"}) {
    EXPECT_THAT(check("http", {host, 80}), HasSubstr("never allowed")) << host;
  }
  EXPECT_THAT(check("http", {"8.8.8.8", 80}), testing::StartsWith("8.8.8.8:80 is not allowed"));
  const auto check_path = [](const std::string& path) {
    return std::string(CheckTarget({.canonical = "unix:" + path, .path = path}).message());
  };
  EXPECT_EQ(check_path(allowed_ + "/app.sock"), "");
  EXPECT_THAT(check_path(allowed_ + "/own.sock"), HasSubstr("listens there itself"));
  EXPECT_THAT(check_path("/run/systemd/notify"), HasSubstr("--allow_directory=/run/systemd"));
}

TEST_F(DestinationGateTest, NoLinkIsFollowedBeneathAnAllowedDirectory) {
  std::filesystem::create_directories(allowed_ + "/real");
  std::filesystem::create_directory_symlink(folder_ / "outside", allowed_ + "/link");
  std::filesystem::create_directory_symlink(allowed_ + "/real", allowed_ + "/inner");
  EXPECT_EQ(Open(allowed_ + "/a.log"), "");
  EXPECT_EQ(Open(allowed_ + "/real//./a.log"), "");
  EXPECT_EQ(Open(allowed_ + "/link/a.log"), "Too many levels of symbolic links");
  EXPECT_EQ(Open(allowed_ + "/inner/a.log"), "Too many levels of symbolic links");
  EXPECT_EQ(Open(allowed_ + "/none/a.log"), "No such file or directory");
  EXPECT_THAT(Open(folder_ / "outside/a.log"), HasSubstr("beneath none"));
  EXPECT_THAT(Open(allowed_ + "/../outside/a.log"), HasSubstr("without \"..\""));
}

TEST_F(DestinationGateTest, TheJournalsFilesAreNoSubscriberBySomeOtherWay) {
  EXPECT_THAT(Open(allowed_ + "/journal.db"), HasSubstr("journal of this server"));
  EXPECT_THAT(Open(allowed_ + "//journal.db-wal"), HasSubstr("journal of this server"));
  std::filesystem::create_directories(allowed_ + "/sub");
  EXPECT_EQ(Open(allowed_ + "/sub/journal.db"), "");
  // The operator allows a link to the data directory.
  std::filesystem::create_directory_symlink(allowed_, folder_ / "alias");
  DestinationPolicy policy;
  ASSERT_TRUE(policy.AllowDirectory(folder_ / "alias").ok());
  SetDestinationPolicy(std::make_shared<const DestinationPolicy>(policy), allowed_);
  EXPECT_THAT(Open(folder_ / "alias/journal.db"), HasSubstr("journal of this server"));
  EXPECT_EQ(Open(folder_ / "alias/calls.log"), "");
}

TEST_F(DestinationGateTest, AUnixSocketIsReachedByTheFileThatWasLookedAt) {
  const Receiver inside(allowed_ + "/in.sock"), outside(folder_ / "outside/out.sock"), own(allowed_ + "/own.sock");
  std::filesystem::create_symlink(folder_ / "outside/out.sock", allowed_ + "/link.sock");
  std::filesystem::create_directory_symlink(folder_ / "outside", allowed_ + "/link");
  std::filesystem::create_hard_link(allowed_ + "/own.sock", allowed_ + "/other-name.sock");
  SetOwnListeners({absl::StrCat("unix:", allowed_, "/own.sock")});
  EXPECT_EQ(Connect(allowed_ + "/in.sock"), "");
  EXPECT_EQ(Connect(allowed_ + "/link.sock"), "Too many levels of symbolic links");
  EXPECT_EQ(Connect(allowed_ + "/link/out.sock"), "Too many levels of symbolic links");
  EXPECT_EQ(Connect(allowed_ + "/none.sock"), "No such file or directory");
  EXPECT_THAT(Connect(folder_ / "outside/out.sock"), HasSubstr("beneath none"));
  EXPECT_THAT(Connect(allowed_ + "/own.sock"), HasSubstr("listens there itself"));
  EXPECT_THAT(Connect(allowed_ + "/other-name.sock"), HasSubstr("listens there itself"));
}

TEST_F(DestinationGateTest, WithoutAPolicyEverythingPasses) {
  SetDestinationPolicy(nullptr);
  EXPECT_TRUE(Peer("169.254.169.254", 80).ok());
  EXPECT_EQ(Open(folder_ / "outside/a.log"), "");
}

}  // namespace
}  // namespace eventvirtual
