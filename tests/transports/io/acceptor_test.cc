// A listener whose process has no descriptors left.
#include "transports/io/acceptor.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <vector>

#include "tests/transports/io/on_loop.h"
#include "tests/transports/io/temporary_folder.h"
#include "transports/io/event_loop.h"

namespace eventvirtual {
namespace {

// While it lives, the process can open nothing more.
class NoDescriptors {
 public:
  NoDescriptors() {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    const int next = dup(0);
    EXPECT_GE(next, 0);
    close(next);
    rlimit none = before_;
    none.rlim_cur = static_cast<rlim_t>(next);
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  }
  ~NoDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_ = {};
};

class AcceptorTest : public testing::Test {
 protected:
  AcceptorTest() {
    absl::StatusOr<BoundSocket> bound = BoundSocket::Unix(path_, SOCK_STREAM);
    EXPECT_TRUE(bound.ok()) << bound.status();
    OnLoop(loop_, [&] {
      acceptor_ = std::make_unique<Acceptor>(
          *std::move(bound), loop_, [this](int fd) { Take(fd); }, [this] { ++shed_; });
    });
  }
  ~AcceptorTest() override {
    OnLoop(loop_, [this] { acceptor_.reset(); });
    for (const int fd : open_) close(fd);
  }
  void Take(int fd) {
    open_.push_back(fd);
    taken_.Set();
  }

  // A socket that is connected when the listener's backlog has it.
  int Socket() {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_GE(fd, 0);
    open_.push_back(fd);
    return fd;
  }
  void Connect(int fd) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  static bool Ended(int fd) {
    pollfd one = {fd, POLLIN, 0};
    char byte;
    return poll(&one, 1, static_cast<int>(absl::ToInt64Milliseconds(kPatience))) == 1 && recv(fd, &byte, 1, 0) == 0;
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_ / "socket";
  Signal taken_;
  std::atomic<int> shed_{0};
  std::vector<int> open_;  // on the loop, while there is an acceptor
  EventLoop loop_{"acceptor-test"};
  std::unique_ptr<Acceptor> acceptor_;
};

TEST_F(AcceptorTest, WithoutDescriptorsClientsAreToldAndTheNextIsServedAtOnceWhenThereAreSome) {
  for (int flood = 1; flood <= 50; ++flood) {
    const int first = Socket(), second = Socket();
    {
      NoDescriptors none;
      Connect(first);
      Connect(second);
      ASSERT_TRUE(Ended(first)) << "in flood " << flood;
      ASSERT_TRUE(Ended(second)) << "in flood " << flood;
    }
    OnLoop(loop_, [] {});  // it has counted
    ASSERT_EQ(shed_, 2 * flood);
  }
  Connect(Socket());
  EXPECT_TRUE(taken_.Wait());
}

TEST_F(AcceptorTest, ASocketFileIsForItsOwnerAndGroup) {
  struct stat status;
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0660u);
}

}  // namespace
}  // namespace eventvirtual
