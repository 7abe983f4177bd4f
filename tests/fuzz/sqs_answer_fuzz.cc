// What SQS answers is a success only if it has stored what was sent, to the byte; an error is the same one however AWS
// writes its name, and repeats neither a token nor what could not be printed. The body of a request is JSON that holds
// the event to the byte.
#include <openssl/evp.h>
#include <simdjson.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "transports/api/check.h"
#include "transports/api/jsonrpc.h"
#include "transports/sqs/sqs_text.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kToken = "FwoGZXIvYXdzEBYaDO/token";
constexpr size_t kMaxError = 800;

std::string Md5Of(absl::string_view text) {
  unsigned char digest[16];
  EV_CHECK(EVP_Q_digest(nullptr, "MD5", nullptr, text.data(), text.size(), digest, nullptr) == 1);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), sizeof(digest)));
}

void CheckError(const absl::Status& status) {
  EV_CHECK(!status.ok() && !status.message().empty() && status.message().size() <= kMaxError);
  EV_CHECK(!absl::StrContains(status.message(), kToken));
  for (char c : status.message()) EV_CHECK(absl::ascii_isprint(c));
}

std::string ErrorText(absl::string_view type, absl::string_view message) {
  std::string json = "{\"__type\":";
  AppendJsonString(type, &json);
  json.append(",\"message\":");
  AppendJsonString(message, &json);
  json.push_back('}');
  return json;
}

void CheckAnswer(absl::string_view answer, absl::string_view sent) {
  CheckError(SqsErrorOf(400, answer, Secret(kToken)));
  const absl::Status stored = CheckSqsAnswer(answer, sent);
  if (stored.ok()) {
    EV_CHECK(absl::StrContains(answer, Md5Of(sent)) || absl::StrContains(answer, '\\'));
  } else {
    EV_CHECK(absl::IsUnavailable(stored) && stored.message().size() <= kMaxError);
    for (char c : stored.message()) EV_CHECK(absl::ascii_isprint(c));
  }
  const std::string good = absl::StrCat("{\"MessageId\":\"1\",\"MD5OfMessageBody\":\"", Md5Of(sent), "\"}");
  EV_CHECK(CheckSqsAnswer(good, sent).ok());
  EV_CHECK(!CheckSqsAnswer(good, absl::StrCat(sent, "x")).ok());
  EV_CHECK(!CheckSqsAnswer(good.substr(0, answer.size() % good.size()), sent).ok());
}

// The first line is the name of an error, what follows its text.
void CheckName(absl::string_view text) {
  const size_t line = text.find('\n');
  const std::string name(text.substr(0, line));
  const absl::string_view rest = line == absl::string_view::npos ? "" : text.substr(line + 1);
  if (name.empty() || name.find_first_of("#.:") != std::string::npos || absl::EndsWith(name, "Exception")) return;
  if (!simdjson::validate_utf8(text.data(), text.size())) return;
  const absl::Status plain = SqsErrorOf(400, ErrorText(name, rest), Secret(kToken));
  CheckError(plain);
  for (const std::string& written :
       {absl::StrCat("com.amazonaws.sqs#", name), absl::StrCat("AWS.SimpleQueueService.", name),
        absl::StrCat(name, "Exception"), absl::StrCat(name, ":http://internal.amazon.com/coral/")}) {
    EV_CHECK(SqsErrorOf(400, ErrorText(written, rest), Secret(kToken)) == plain);
  }
  CheckError(SqsErrorOf(400, ErrorText(name, absl::StrCat("signed ", kToken, rest)), Secret(kToken)));
  CheckError(SqsErrorOf(400, ErrorText(absl::StrCat(name, kToken), rest), Secret(kToken)));
}

void CheckRequest(absl::string_view text) {
  if (!simdjson::validate_utf8(text.data(), text.size())) return;
  const Param param{"", text};
  EventFields fields;
  fields.name = "E";
  fields.event_id = text;
  fields.params = absl::MakeConstSpan(&param, 1);
  const MessageRef message = Message::Make(fields);
  SqsAddress address;
  address.queue_url = "https://sqs.example.org/1/queue.fifo";
  address.group = "g";
  const std::string body = EncodeSendMessage(address, *message);
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  EV_CHECK(parser.parse(body).get(object) == simdjson::SUCCESS);
  std::string_view sent, id;
  EV_CHECK(object["MessageBody"].get(sent) == simdjson::SUCCESS);
  EV_CHECK(absl::string_view(sent.data(), sent.size()) == message->encoded(address.encoding));
  EV_CHECK(object["MessageDeduplicationId"].get(id) == simdjson::SUCCESS);
  EV_CHECK(!id.empty() && id.size() <= 128);
  for (char c : id) EV_CHECK(absl::ascii_isgraph(c));
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  // The answer, and behind a zero byte what had been sent.
  const size_t middle = std::min(text.find('\0'), size);
  const absl::string_view sent = middle == size ? "" : text.substr(middle + 1);
  eventvirtual::CheckAnswer(text.substr(0, middle), sent);
  eventvirtual::CheckName(text);
  eventvirtual::CheckRequest(text);
  return 0;
}
