// ByteStream against OpenSSL's other side, over a pair of sockets, on one thread.
#include "transports/io/byte_stream.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/server_process.h"

namespace eventvirtual {
namespace {

using testing::HasSubstr;

constexpr int kSteps = 1000000;  // more than any of these conversations takes

// Both ends of a connection.
struct Pair {
  Pair() {
    int fds[2] = {};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    ours = fds[0];
    theirs = fds[1];
  }
  int ours, theirs;  // who uses one closes it
};

// The server's side. Like a stream, it does what it can do now.
class TlsServer {
 public:
  TlsServer(int fd, const TemporaryFolder& folder) : context_(SSL_CTX_new(TLS_server_method())), fd_(fd) {
    EXPECT_EQ(SSL_CTX_use_certificate_file(context_, (folder / "server.pem").c_str(), SSL_FILETYPE_PEM), 1);
    EXPECT_EQ(SSL_CTX_use_PrivateKey_file(context_, (folder / "server.key").c_str(), SSL_FILETYPE_PEM), 1);
    ssl_ = SSL_new(context_);
    SSL_set_fd(ssl_, fd);
    SSL_set_accept_state(ssl_);
  }
  ~TlsServer() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
    close(fd_);
  }

  bool Accept() { return SSL_do_handshake(ssl_) == 1; }
  bool Write(const std::string& text) {
    return SSL_write(ssl_, text.data(), static_cast<int>(text.size())) == static_cast<int>(text.size());
  }
  void Read(size_t most, std::string* bytes) {
    std::string some(most, '\0');
    if (const int got = SSL_read(ssl_, some.data(), static_cast<int>(most)); got > 0) bytes->append(some, 0, got);
  }
  void End() { SSL_shutdown(ssl_); }

 private:
  SSL_CTX* const context_;
  SSL* ssl_;
  const int fd_;
};

class ByteStreamTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    MakeCertificates(*folder_);
  }
  static void TearDownTestSuite() { delete std::exchange(folder_, nullptr); }

  TlsContext Context(bool verify = true) {
    TlsFiles files;
    if (verify) files.ca = ReadFile(*folder_ / "ca.pem");
    absl::StatusOr<TlsContext> context = MakeTlsContext(files, verify);
    EXPECT_TRUE(context.ok()) << context.status();
    return *std::move(context);
  }

  // Both sides, until the handshake is over for both; or why it failed for us.
  static absl::Status Greet(ByteStream& stream, TlsServer& server) {
    std::string nothing;
    for (int i = 0; i < kSteps; ++i) {
      const absl::StatusOr<size_t> sent = stream.Send("?");
      if (!sent.ok()) return sent.status();
      server.Accept();
      if (*sent == 1) {
        while (!server.Accept()) {
        }
        server.Read(1, &nothing);
        EXPECT_EQ(nothing, "?");
        return absl::OkStatus();
      }
      if (absl::Status status = stream.Receive(&nothing); !status.ok()) return status;
    }
    return absl::DeadlineExceededError("no handshake");
  }

  static inline TemporaryFolder* folder_ = nullptr;
};

TEST_F(ByteStreamTest, TheCertificateMustBeForTheNameOrTheAddress) {
  struct Row {
    const char *host, *error;
    bool verify = true;
  };
  for (const Row& row :
       {Row{"localhost", ""}, Row{"example.org", "certificate of example.org is not trusted: hostname mismatch"},
        Row{"127.0.0.1", "certificate of 127.0.0.1 is not trusted: IP address mismatch"},
        Row{"::1", "certificate of ::1 is not trusted: IP address mismatch"}, Row{"example.org", "", false}}) {
    const Pair pair;
    const TlsContext context = Context(row.verify);
    ByteStream stream(pair.ours, *context, row.host);
    TlsServer server(pair.theirs, *folder_);
    const absl::Status status = Greet(stream, server);
    EXPECT_EQ(status.ok(), *row.error == '\0') << row.host << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(row.error));
    EXPECT_EQ(absl::IsUnauthenticated(status), !status.ok());
  }
}

TEST_F(ByteStreamTest, APeerThatReadsLittleGetsEverythingInOrder) {
  const Pair pair;
  const TlsContext context = Context();
  ByteStream stream(pair.ours, *context, "localhost");
  TlsServer server(pair.theirs, *folder_);
  ASSERT_TRUE(Greet(stream, server).ok());
  std::string text, arrived;
  for (int i = 0; text.size() < 3000000; ++i) text += absl::StrCat(i, ",");
  size_t taken = 0;
  int full = 0;
  for (int i = 0; i < kSteps && arrived.size() < text.size(); ++i) {
    while (taken < text.size() || stream.wants_write()) {
      const absl::StatusOr<size_t> sent = stream.Send(absl::string_view(text).substr(taken));
      ASSERT_TRUE(sent.ok()) << sent.status();
      taken += *sent;
      if (*sent == 0) break;
    }
    if (stream.wants_write()) ++full;
    server.Read(30000, &arrived);
  }
  EXPECT_TRUE(arrived == text);
  EXPECT_GT(full, 10);
  EXPECT_FALSE(stream.wants_write());
}

// A relay between the two passes on one byte at a time.
TEST_F(ByteStreamTest, AConversationInSingleBytesIsUnderstood) {
  const Pair pair;
  const Pair others;
  const TlsContext context = Context();
  ByteStream stream(pair.ours, *context, "localhost");
  TlsServer server(others.theirs, *folder_);
  const auto relay = [&] {
    char byte = 0;
    if (recv(pair.theirs, &byte, 1, 0) == 1) send(others.ours, &byte, 1, 0);
    if (recv(others.ours, &byte, 1, 0) == 1) send(pair.theirs, &byte, 1, 0);
  };
  std::string asked, answered;
  bool sent = false;
  for (int i = 0; i < kSteps && answered.empty(); ++i) {
    const absl::StatusOr<size_t> taken = stream.Send(sent ? "" : "question");
    ASSERT_TRUE(taken.ok()) << taken.status();
    sent = sent || *taken == 8;
    relay();
    if (server.Accept()) server.Read(100, &asked);
    if (asked == "question") {
      ASSERT_TRUE(server.Write("answer"));
      asked = "answered";
    }
    ASSERT_TRUE(stream.Receive(&answered).ok());
  }
  EXPECT_EQ(answered, "answer");
  close(pair.theirs);
  close(others.ours);
}

TEST_F(ByteStreamTest, WhatCameBeforeTheEndIsGivenWithIt) {
  const Pair pair;
  const TlsContext context = Context();
  ByteStream stream(pair.ours, *context, "localhost");
  TlsServer server(pair.theirs, *folder_);
  ASSERT_TRUE(Greet(stream, server).ok());
  ASSERT_TRUE(server.Write("I close because…"));
  server.End();
  std::string words;
  const absl::Status end = stream.Receive(&words);
  EXPECT_EQ(words, "I close because…");
  EXPECT_TRUE(absl::IsUnavailable(end)) << end;
  EXPECT_THAT(std::string(end.message()), HasSubstr("closed the connection"));
}

TEST_F(ByteStreamTest, WhatIsNoTlsIsNamed) {
  const Pair pair;
  const TlsContext context = Context();
  ByteStream stream(pair.ours, *context, "localhost");
  ASSERT_TRUE(stream.Send("").ok());
  ASSERT_EQ(write(pair.theirs, "HTTP/1.1 400 Bad Request\r\n", 26), 26);
  std::string nothing;
  const absl::Status status = stream.Receive(&nothing);
  EXPECT_THAT(std::string(status.message()), HasSubstr("it speaks no TLS there"));
  close(pair.theirs);
}

TEST_F(ByteStreamTest, WithoutTlsItIsTheSocket) {
  const Pair pair;
  ByteStream stream(pair.ours);
  const std::string text(3000000, 'x');
  std::string received;
  EXPECT_EQ(*stream.Send("hello"), 5u);
  EXPECT_FALSE(stream.wants_write());
  EXPECT_LT(*stream.Send(text), text.size());
  EXPECT_TRUE(stream.wants_write());
  EXPECT_EQ(*stream.Send(text), 0u);
  ASSERT_EQ(write(pair.theirs, "answer", 6), 6);
  EXPECT_TRUE(stream.Receive(&received).ok());
  EXPECT_EQ(received, "answer");
  EXPECT_TRUE(stream.Receive(&received).ok());
  EXPECT_EQ(received, "answer") << "nothing new";
  close(pair.theirs);
  EXPECT_TRUE(absl::IsUnavailable(stream.Send("x").status())) << "and no SIGPIPE";
  EXPECT_TRUE(absl::IsUnavailable(stream.Receive(&received)));
}

}  // namespace
}  // namespace eventvirtual
