// Events that come as datagrams, over udp and unix.
#include <sys/stat.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tests/server/ingest/world.h"

namespace eventvirtual {
namespace {

class ScratchDir {
 public:
  ScratchDir() { EXPECT_NE(mkdtemp(path_.data()), nullptr); }
  ~ScratchDir() {
    unlink(path("s").c_str());
    EXPECT_EQ(rmdir(path_.c_str()), 0) << "something was left in " << path_;
  }
  std::string path(absl::string_view name) const { return absl::StrCat(path_, "/", name); }

 private:
  std::string path_ = "/tmp/evXXXXXX";
};

bool Exists(const std::string& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0;
}

// Both kinds of socket must behave alike.
class DatagramIngest : public testing::TestWithParam<const char*> {
 protected:
  std::string Address() const {
    return std::string(GetParam()) == "udp" ? "udp:127.0.0.1:0" : "unix:" + dir_.path("s");
  }
  ScratchDir dir_;
  World world_;
};

TEST_P(DatagramIngest, EachDatagramIsOneEvent) {
  DatagramPeer opensips(world_.Listen({Address()}));
  std::vector<std::string> sent;
  for (int n = 0; n < 20; ++n) {
    sent.push_back(Notification(n));
    ASSERT_TRUE(opensips.SendOne(sent.back()));
  }
  EXPECT_EQ(world_.transport->Received(20), sent);
}

TEST_P(DatagramIngest, GarbageHarmsNothingThatComesBehindIt) {
  DatagramPeer opensips(world_.Listen({Address()}));
  const std::string garbage[] = {"",
                                 "not json",
                                 "{",
                                 "}}}}",
                                 "\xff\xfe",
                                 std::string(1000, '\0'),
                                 std::string(20000, '['),
                                 R"({"jsonrpc":"2.0"})",
                                 Notification(7).substr(0, 20),  // half an object is not continued by the next
                                 Notification(7).substr(20),
                                 Notification(7) + Notification(8)};  // nor are two of them one
  int n = 0;
  for (const std::string& datagram : garbage) {
    ASSERT_TRUE(opensips.SendOne(datagram)) << strerror(errno);
    ASSERT_TRUE(opensips.SendOne(Notification(100 + n)));
    ++n;
    const std::vector<std::string> received = world_.transport->Received(n);
    ASSERT_EQ(received.size(), static_cast<size_t>(n)) << "behind " << datagram;
    ASSERT_EQ(received.back(), Notification(100 + n - 1));
  }
  EXPECT_EQ(world_.transport->Received(n).size(), static_cast<size_t>(n));
}

TEST_P(DatagramIngest, ADatagramWithAnIdIsAnEventWithoutAnAnswer) {
  const std::string address = world_.Listen({Address()});
  DatagramPeer opensips(address);
  if (std::string(GetParam()) == "unix") {  // bound, so that an answer could reach it
    sockaddr_un any = {};
    any.sun_family = AF_UNIX;
    ASSERT_EQ(bind(opensips.fd(), reinterpret_cast<sockaddr*>(&any), sizeof(sa_family_t)), 0);
  }
  ASSERT_TRUE(opensips.SendOne(Request(1)));
  ASSERT_TRUE(opensips.SendOne(Request(2, "E_NOBODY")));
  ASSERT_TRUE(opensips.SendOne(R"({"id":3,"jsonrpc":"2.0"})"));
  ASSERT_TRUE(opensips.SendOne(Request(4)));
  EXPECT_EQ(world_.transport->Received(2), (std::vector<std::string>{Notification(1), Notification(4)}));
  world_.ingest->Stop();  // whatever it would have answered, it has
  char byte;
  EXPECT_LT(recv(opensips.fd(), &byte, 1, MSG_DONTWAIT), 0);
}

TEST_P(DatagramIngest, TheLargestDatagramArrivesWhole) {
  DatagramPeer opensips(world_.Listen({Address()}));
  const std::string head = R"({"jsonrpc":"2.0","method":"E","params":[")", tail = R"("]})";
  // udp ends at 65507 bytes, unix where the sender's buffer does.
  const size_t size = std::string(GetParam()) == "udp" ? 65507 : 150000;
  const std::string largest = head + std::string(size - head.size() - tail.size(), 'x') + tail;
  ASSERT_TRUE(opensips.SendOne(largest)) << strerror(errno);
  const std::vector<std::string> received = world_.transport->Received(1);
  ASSERT_EQ(received.size(), 1u);
  EXPECT_TRUE(received[0] == largest) << received[0].size();
}

TEST_P(DatagramIngest, ALargerOneThanAllowedIsIgnored) {
  IngestOptions options;
  options.max_object_bytes = 100;
  DatagramPeer opensips(world_.Listen({Address()}, options));
  ASSERT_TRUE(opensips.SendOne(Notification(1, std::string(100, 'E'))));
  ASSERT_TRUE(opensips.SendOne(Notification(2)));
  EXPECT_EQ(world_.transport->Received(1), std::vector<std::string>{Notification(2)});
}

INSTANTIATE_TEST_SUITE_P(Sockets, DatagramIngest, testing::Values("udp", "unix"),
                         [](const auto& info) { return std::string(info.param); });

TEST(UnixIngest, ThePathIsThereWhileItListensAndGoneAfterwards) {
  ScratchDir dir;
  World world;
  EXPECT_EQ(world.Listen({"unix:" + dir.path("s")}), "unix:" + dir.path("s"));
  EXPECT_TRUE(Exists(dir.path("s")));
  world.ingest->Stop();
  EXPECT_FALSE(Exists(dir.path("s")));
}

TEST(UnixIngest, APathLeftByADeadServerIsReplaced) {
  ScratchDir dir;
  {
    Peer dead(AF_UNIX, SOCK_DGRAM);
    sockaddr_un un = {};
    un.sun_family = AF_UNIX;
    std::strcpy(un.sun_path, dir.path("s").c_str());
    ASSERT_EQ(bind(dead.fd(), reinterpret_cast<sockaddr*>(&un), sizeof(un)), 0);
  }
  ASSERT_TRUE(Exists(dir.path("s")));
  World world;
  DatagramPeer opensips(world.Listen({"unix:" + dir.path("s")}));
  ASSERT_TRUE(opensips.SendOne(Notification(1)));
  EXPECT_EQ(world.transport->Received(1), std::vector<std::string>{Notification(1)});
}

TEST(UnixIngest, APathOfALiveServerStaysItsOwn) {
  ScratchDir dir;
  World world;
  const std::string address = world.Listen({"unix:" + dir.path("s")});
  IngestOptions second;
  second.addresses = {address};
  const auto refused = Ingest::Listen(second, world.ingest_loop, world.dispatcher);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(refused.status().message(), address)) << std::string(refused.status().message());

  DatagramPeer opensips(address);
  ASSERT_TRUE(opensips.SendOne(Notification(1)));
  EXPECT_EQ(world.transport->Received(1), std::vector<std::string>{Notification(1)});
}

TEST(UnixIngest, AFileInTheWayIsNotRemoved) {
  ScratchDir dir;
  fclose(fopen(dir.path("s").c_str(), "w"));
  World world;
  IngestOptions options;
  options.addresses = {"unix:" + dir.path("s")};
  const auto refused = Ingest::Listen(options, world.ingest_loop, world.dispatcher);
  ASSERT_FALSE(refused.ok());
  EXPECT_TRUE(absl::StrContains(refused.status().message(), dir.path("s")));
  EXPECT_TRUE(Exists(dir.path("s")));
}

}  // namespace
}  // namespace eventvirtual
