// HttpClient: sends bytes and reads responses, one after the other, as raw as the tests need it.
#ifndef EVENTVIRTUAL_TESTS_SERVER_HTTP_HTTP_CLIENT_H_
#define EVENTVIRTUAL_TESTS_SERVER_HTTP_HTTP_CLIENT_H_

#include <map>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/transports/io/peer.h"

namespace eventvirtual {

class HttpClient : public Peer {
 public:
  struct Response {
    int status = 0;                              // 0: the connection ended before there was one
    std::map<std::string, std::string> headers;  // names in lower case
    std::string body;
  };

  explicit HttpClient(absl::string_view address, bool from_another_address = false)  // "127.0.0.1:8080"
      : Peer(AF_INET, SOCK_STREAM) {
    if (from_another_address) BindToAnotherAddress();
    const sockaddr_in in = Internet(address);
    EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&in), sizeof(in)), 0) << strerror(errno);
  }

  static std::string Post(absl::string_view path, absl::string_view body) {
    return absl::StrCat("POST ", path,
                        " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ", body.size(),
                        "\r\n\r\n", body);
  }

  // The next response, all of it; `has_body` false: to HEAD.
  Response Read(bool has_body = true) {
    Response response;
    size_t end;
    while ((end = unread_.find("\r\n\r\n")) == std::string::npos) {
      if (!More()) return {};
    }
    const std::vector<std::string> lines = absl::StrSplit(unread_.substr(0, end), "\r\n");
    unread_.erase(0, end + 4);
    const std::vector<std::string> first = absl::StrSplit(lines[0], absl::MaxSplits(' ', 2));
    EXPECT_EQ(first[0], "HTTP/1.1");
    EXPECT_TRUE(absl::SimpleAtoi(first[1], &response.status));
    for (size_t i = 1; i < lines.size(); ++i) {
      const std::pair<std::string, std::string> header = absl::StrSplit(lines[i], absl::MaxSplits(": ", 1));
      response.headers[absl::AsciiStrToLower(header.first)] = header.second;
    }
    if (response.status == 100) return Read(has_body);
    size_t length = 0;
    if (response.headers.count("content-length") > 0) {
      EXPECT_TRUE(absl::SimpleAtoi(response.headers["content-length"], &length));
    }
    if (!has_body) return response;
    while (unread_.size() < length) {
      if (!More()) return {};
    }
    response.body = unread_.substr(0, length);
    unread_.erase(0, length);
    return response;
  }

  Response Ask(absl::string_view request) {
    EXPECT_TRUE(Send(request));
    return Read();
  }

  // Whether the server ends the connection, whatever it sends before.
  bool Ended() {
    while (More()) {
    }
    return errno != EAGAIN && errno != EWOULDBLOCK;
  }

 private:
  bool More() {
    char bytes[65536];
    errno = 0;
    const ssize_t got = recv(fd_, bytes, sizeof(bytes), 0);
    if (got <= 0) return false;
    unread_.append(bytes, got);
    return true;
  }

  std::string unread_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_SERVER_HTTP_HTTP_CLIENT_H_
