#include "transports/unix/unix_transport.h"

#include <linux/capability.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/link_under_test.h"
#include "tests/transports/unix/unix_receiver.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

class UnixTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(mkdtemp(folder_.data()), nullptr); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path() const { return folder_ + "/app.sock"; }
  std::string uri() const { return "unix:" + path(); }

  const std::unique_ptr<Transport> transport_ = MakeUnixTransport();

 private:
  std::string folder_ = "/tmp/evXXXXXX";
};

absl::StatusOr<Target> Canonicalize(absl::string_view text) {
  absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return uri.status();
  return MakeUnixTransport()->Canonicalize(*uri);
}

TEST(UnixUri, HasOneCanonicalForm) {
  const std::string longest = "/" + std::string(106, 'x');
  const struct {
    std::string text;
    std::string canonical;
  } kCases[] = {
      {"unix:/run/app.sock", "unix:/run/app.sock"},
      {"/run/app.sock", "unix:/run/app.sock"},
      {"/run/App.sock?timeout=100ms", "unix:/run/App.sock"},
      {"unix:/run/app.sock?timeout=2000", "unix:/run/app.sock?timeout=2s"},
      {"unix:" + longest, "unix:" + longest},
  };
  for (const auto& test : kCases) {
    const absl::StatusOr<Target> target = Canonicalize(test.text);
    ASSERT_TRUE(target.ok()) << test.text << ": " << target.status();
    EXPECT_EQ(target->canonical, test.canonical);
    EXPECT_EQ(target->masked, test.canonical);
    EXPECT_EQ(target->ack_level, AckLevel::kHandedToKernel);
    const absl::StatusOr<Target> again = Canonicalize(target->canonical);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->canonical, target->canonical);
  }
  EXPECT_EQ(Canonicalize("/x")->attempt_timeout, absl::Milliseconds(100));
}

TEST(UnixUri, RefusalsNameThePart) {
  const struct {
    std::string text;
    const char* why;
  } kCases[] = {
      {"unix:run/app.sock", "must be absolute"}, {"unix:", "must be absolute"},
      {"unix:@abstract", "must be absolute"},    {"unix:/" + std::string(107, 'x'), "has 108 bytes"},
      {"unix:/x?colour=red", "colour"},          {"unix:/x?timeout=never", "timeout"},
      {"unix:/run/", "names a directory"},
  };
  for (const auto& test : kCases) {
    const absl::Status status = Canonicalize(test.text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << test.text;
    EXPECT_THAT(Text(status), HasSubstr(test.why)) << test.text;
  }
}

TEST_F(UnixTest, OneDatagramPerEventIsItsJsonRpcText) {
  UnixReceiver receiver(path());
  LinkUnderTest link(*transport_, uri());
  ASSERT_GT(link.WaitReady(), 0);
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_TEST")).ok());
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_TEST", "second")).ok());
  EXPECT_EQ(receiver.Receive(), "{\"jsonrpc\":\"2.0\",\"method\":\"E_TEST\"}");
  EXPECT_EQ(receiver.Receive(), "{\"jsonrpc\":\"2.0\",\"method\":\"E_TEST\",\"params\":[\"second\"]}");
}

TEST_F(UnixTest, TheLongestPathWorks) {
  const std::string longest = path() + std::string(107 - path().size(), 'x');
  UnixReceiver receiver(longest);
  LinkUnderTest link(*transport_, longest);
  ASSERT_GT(link.WaitReady(), 0);
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_TEST")).ok());
  EXPECT_TRUE(receiver.Receive().has_value());
}

TEST_F(UnixTest, TenThousandEventsReachAReadingPeerCompleteAndInOrder) {
  UnixReceiver receiver(path());
  LinkUnderTest link(*transport_, uri());
  const int window = link.WaitReady();
  ASSERT_GT(window, 0);
  std::thread reader([&] {
    for (int i = 0; i < 10000; ++i) {
      const std::optional<std::string> datagram = receiver.Receive();
      ASSERT_TRUE(datagram.has_value()) << i;
      ASSERT_THAT(*datagram, HasSubstr(absl::StrCat("[\"#", i, "\"]")));
    }
  });
  for (int sent = 0; sent < 10000;) {
    std::vector<MessageRef> batch;
    while (int(batch.size()) < window && sent < 10000)
      batch.push_back(MakeMessage("E_BURST", absl::StrCat("#", sent++)));
    const size_t first = link.Send(batch);
    for (size_t i = 0; i < batch.size(); ++i) EXPECT_TRUE(link.Outcome(first + i).ok());
  }
  reader.join();
}

TEST_F(UnixTest, AStoppedReaderHoldsUpWhatItHasNoRoomForUntilItReadsAgain) {
  UnixReceiver receiver(path());
  LinkUnderTest link(*transport_, uri());
  ASSERT_GE(link.WaitReady(), 100);
  std::vector<MessageRef> batch;
  for (int i = 0; i < 60; ++i) batch.push_back(MakeMessage("E_STALL", absl::StrCat("#", i)));
  const size_t first = link.Send(batch);
  EXPECT_TRUE(link.Outcome(first).ok());
  const size_t fitted = link.Reported();  // net.unix.max_dgram_qlen + 1: 11 as a rule
  EXPECT_LT(fitted, 60u);
  const size_t behind = link.Send({MakeMessage("E_STALL", "#60")});  // returns: Send() never blocks
  EXPECT_EQ(link.Reported(), fitted);
  EXPECT_FALSE(link.closed());

  for (int i = 0; i <= 60; ++i) {
    const std::optional<std::string> datagram = receiver.Receive();
    ASSERT_TRUE(datagram.has_value()) << i;
    EXPECT_THAT(*datagram, HasSubstr(absl::StrCat("[\"#", i, "\"]")));
  }
  EXPECT_TRUE(link.Outcome(behind).ok());
}

TEST_F(UnixTest, DestroyingItWhileTheReaderIsStoppedEndsWhatWaits) {
  UnixReceiver receiver(path());
  LinkUnderTest link(*transport_, uri());
  ASSERT_GT(link.WaitReady(), 0);
  const size_t first = link.Send(std::vector<MessageRef>(60, MakeMessage("E_STALL")));
  link.Destroy();
  EXPECT_TRUE(link.Outcome(first).ok());
  EXPECT_EQ(link.Outcome(first + 59).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(link.Reported(), 60u);
}

TEST_F(UnixTest, AReceiverThatDiesWhileStoppedEndsWhatWaits) {
  UnixReceiver receiver(path());
  LinkUnderTest link(*transport_, uri());
  ASSERT_GT(link.WaitReady(), 0);
  const size_t first = link.Send(std::vector<MessageRef>(60, MakeMessage("E_STALL")));
  receiver.Stop();
  EXPECT_EQ(link.Outcome(first + 59).code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(link.WaitClosed().ok());
}

TEST_F(UnixTest, ARestartedReceiverIsServedByANewLink) {
  auto receiver = std::make_unique<UnixReceiver>(path());
  {
    LinkUnderTest link(*transport_, uri());
    ASSERT_GT(link.WaitReady(), 0);
    EXPECT_TRUE(link.SendAndWait(MakeMessage("E_ONE")).ok());
    receiver.reset();
    const absl::Status status = link.SendAndWait(MakeMessage("E_TWO"));
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(Text(status), uri() + ": Connection refused");
    EXPECT_EQ(link.WaitClosed(), status);
  }
  unlink(path().c_str());
  receiver = std::make_unique<UnixReceiver>(path());
  LinkUnderTest link(*transport_, uri());
  ASSERT_GT(link.WaitReady(), 0);
  EXPECT_TRUE(link.SendAndWait(MakeMessage("E_THREE")).ok());
  EXPECT_EQ(receiver->Receive(), "{\"jsonrpc\":\"2.0\",\"method\":\"E_THREE\"}");
}

TEST_F(UnixTest, WithoutASocketFileTheLinkClosesAtOnce) {
  LinkUnderTest link(*transport_, uri());
  const absl::Status why = link.WaitClosed();
  EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Text(why), AllOf(HasSubstr(uri() + ": No such file or directory"), HasSubstr("has not made its socket")));
}

TEST_F(UnixTest, AFileThatTheReceiverLeftBehindRefuses) {
  UnixReceiver(path()).Stop();
  LinkUnderTest link(*transport_, uri());
  const absl::Status why = link.WaitClosed();
  EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Text(why), AllOf(HasSubstr("Connection refused"), HasSubstr("nobody listens there")));
}

TEST_F(UnixTest, AStreamSocketIsToldFromADatagramSocket) {
  UnixReceiver receiver(path(), SOCK_STREAM);
  LinkUnderTest link(*transport_, uri());
  EXPECT_THAT(Text(link.WaitClosed()), HasSubstr("must be SOCK_DGRAM"));
}

// Takes from the calling thread, if it is root's, the right to pass by the mode bits of files.
void ObeyFileModes() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  ASSERT_EQ(syscall(SYS_capget, &header, data), 0);
  const uint32_t rights = (1u << CAP_DAC_OVERRIDE) | (1u << CAP_DAC_READ_SEARCH);
  data[0].effective &= ~rights;
  data[0].permitted &= ~rights;
  ASSERT_EQ(syscall(SYS_capset, &header, data), 0);
}

// The right is taken in Connect(), which runs on the thread of the link.
class WithoutRights final : public Transport {
 public:
  explicit WithoutRights(Transport& transport) : transport_(transport) {}
  absl::Span<const absl::string_view> schemes() const override { return transport_.schemes(); }
  absl::string_view syntax() const override { return transport_.syntax(); }
  absl::string_view description() const override { return transport_.description(); }
  AckLevel ack_level() const override { return transport_.ack_level(); }
  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override { return transport_.Canonicalize(uri); }
  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    ObeyFileModes();
    return transport_.Connect(target, loop, host);
  }

 private:
  Transport& transport_;
};

TEST_F(UnixTest, AForbiddenSocketIsPermissionDeniedWithTheWayOut) {
  UnixReceiver receiver(path());
  ASSERT_EQ(chmod(path().c_str(), 0), 0);
  WithoutRights transport(*transport_);
  LinkUnderTest link(transport, uri());
  const absl::Status why = link.WaitClosed();
  EXPECT_EQ(why.code(), absl::StatusCode::kPermissionDenied) << why;
  EXPECT_THAT(Text(why), AllOf(HasSubstr(uri()), HasSubstr("Permission denied"), HasSubstr("write permission")));
}

TEST_F(UnixTest, AnEventLargerThanTheSystemTakesFailsAloneAndForGood) {
  UnixReceiver receiver(path());
  LinkUnderTest link(*transport_, uri());
  ASSERT_GT(link.WaitReady(), 0);
  const size_t first =
      link.Send({MakeMessage("E_BEFORE"), MessageOfSize(100000), MessageOfSize(32 << 20), MakeMessage("E_BEHIND")});
  EXPECT_TRUE(link.Outcome(first).ok());
  EXPECT_TRUE(link.Outcome(first + 1).ok());
  const absl::Status status = link.Outcome(first + 2);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(Text(status), HasSubstr("33554432 bytes"));
  EXPECT_THAT(*receiver.Receive(), HasSubstr("E_BEFORE"));
  EXPECT_EQ(receiver.Receive()->size(), 100000u);
  EXPECT_THAT(*receiver.Receive(), HasSubstr("E_BEHIND"));
  EXPECT_TRUE(link.Outcome(first + 3).ok());
  EXPECT_FALSE(link.closed());
}

TEST_F(UnixTest, DestroyingItAtAnyMomentIsSafe) {
  UnixReceiver receiver(path());
  for (int i = 0; i < 50; ++i) {
    LinkUnderTest link(*transport_, i % 2 == 0 ? uri() : uri() + ".none");
    if (i % 3 == 0) link.Destroy();  // perhaps before it was ready or closed
  }
}

}  // namespace
}  // namespace eventvirtual
