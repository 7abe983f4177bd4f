// The other end of the sqs transport in tests: the credentials, an SQS that stores everything, and strict_sqs.py.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_SQS_SQS_PEERS_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_SQS_SQS_PEERS_H_

#include <openssl/evp.h>
#include <simdjson.h>
#include <stdlib.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "tests/transports/http/http_server.h"
#include "tests/transports/io/server_process.h"

namespace eventvirtual {

// As strict_sqs.py knows them.
inline constexpr char kKeyId[] = "AKIDEXAMPLE";
inline constexpr char kSecret[] = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

// The environment's credentials; null: not set. No link may be made on another thread meanwhile.
inline void SetCredentials(const char* key_id, const char* secret, const char* token = nullptr) {
  const auto set = [](const char* name, const char* value) {
    EXPECT_EQ(value == nullptr ? unsetenv(name) : setenv(name, value, 1), 0);
  };
  set("AWS_ACCESS_KEY_ID", key_id);
  set("AWS_SECRET_ACCESS_KEY", secret);
  set("AWS_SESSION_TOKEN", token);
}

// The MessageBody of a request of SendMessage.
inline std::string MessageBodyOf(const HttpRequest& request) {
  simdjson::dom::parser parser;
  std::string_view body;
  EXPECT_EQ(parser.parse(request.body)["MessageBody"].get(body), simdjson::SUCCESS) << request.body;
  return std::string(body);
}

// What SQS answers when it has stored a message.
inline HttpAnswer StoredAnswer(const HttpRequest& request) {
  const std::string body = MessageBodyOf(request);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EXPECT_EQ(EVP_Digest(body.data(), body.size(), digest, &size, EVP_md5(), nullptr), 1);
  const std::string md5 = absl::BytesToHexString(absl::string_view(reinterpret_cast<char*>(digest), size));
  return Answer("200 OK", absl::StrCat(R"({"MD5OfMessageBody":")", md5, R"(","MessageId":"5fea7756"})"));
}

// moto behind a check of signatures; see strict_sqs.py.
class StrictSqs {
 public:
  uint16_t port() const { return port_; }
  std::string Uri(absl::string_view queue, absl::string_view options = "") const {
    return absl::StrCat("sqs:http://127.0.0.1:", port_, "/123456789012/", queue, "?region=eu-central-1", options);
  }
  ServerProcess& process() { return process_; }

  // Takes all messages out of the queue; a line of JSON for each, as consumer.py gives it.
  std::vector<std::string> Take(const std::string& queue) const {
    const std::string output = folder_ / absl::StrCat("taken", ++takes_);
    Run({Python(), "tests/transports/sqs/consumer.py", absl::StrCat(port_), queue}, output);
    return absl::StrSplit(ReadFile(output), '\n', absl::SkipEmpty());
  }

 private:
  static std::string Python() {
    const char* const tools = std::getenv("PYTHON_TOOLS");
    EXPECT_NE(tools, nullptr) << "moto is not installed; ./dev test installs it";
    return absl::StrCat(tools == nullptr ? "/nonexistent" : tools, "/bin/python");
  }

  const TemporaryFolder folder_;
  const uint16_t port_ = FreePort();
  mutable int takes_ = 0;
  ServerProcess process_{
      {Python(), "tests/transports/sqs/strict_sqs.py", absl::StrCat(port_)}, port_, folder_ / "output"};
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_SQS_SQS_PEERS_H_
