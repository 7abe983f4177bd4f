#include "transports/sqs/sqs_text.h"

#include <openssl/evp.h>
#include <simdjson.h>

#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "transports/api/context_headers.h"
#include "transports/api/encoding.h"
#include "transports/api/jsonrpc.h"
#include "transports/http/http_refusal.h"
#include "transports/io/printable.h"

namespace eventvirtual {
namespace {

using Attribute = std::pair<absl::string_view, std::string>;

constexpr size_t kMaxMessage = 1 << 20;          // body and attributes together (SendMessage)
constexpr size_t kMaxDeduplicationId = 128;      // SendMessage
constexpr absl::string_view kString = "String";  // the attributes' type

std::string HexDigest(const EVP_MD* algorithm, absl::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_Digest(text.data(), text.size(), digest, &size, algorithm, nullptr);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), size));
}

// Within the alphabet of attributes and of deduplication ids.
std::string EventIdOf(const Message& message) { return CloudEventHeaderValue(message.event_id()); }

std::vector<Attribute> AttributesOf(const SqsAddress& address, const Message& message) {
  std::vector<Attribute> attributes = {{"event-id", EventIdOf(message)}};
  ForEachContextHeader(message, [&attributes](absl::string_view name, absl::string_view value) {
    attributes.emplace_back(name, std::string(value));
  });
  if (address.encoding != Encoding::kJsonRpc) {
    attributes.emplace_back("content-type", std::string(ContentType(address.encoding)));
  }
  return attributes;
}

void AppendMember(absl::string_view name, absl::string_view value, std::string* out) {
  if (out->back() != '{') out->push_back(',');
  AppendJsonString(name, out);
  out->push_back(':');
  AppendJsonString(value, out);
}

absl::string_view TextOf(const simdjson::dom::element& object, absl::string_view name) {
  std::string_view text;
  if (object[std::string_view(name.data(), name.size())].get(text) != simdjson::SUCCESS) return "";
  return absl::string_view(text.data(), text.size());
}

// Its first line, as far as it is shown.
std::string Shown(absl::string_view text, const Secret& token) {
  std::string shown(text.substr(0, text.find_first_of("\r\n")));
  if (!token.empty()) absl::StrReplaceAll({{token.Reveal(), "***"}}, &shown);
  return Printable(absl::string_view(shown).substr(0, kMaxErrorText));
}

// --- errors

constexpr absl::string_view kNoQueue = "; mend the account, name or region in the URL, or create the queue";
constexpr absl::string_view kWrongKey = "; look at AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN of the server's environment";
constexpr absl::string_view kWrongSignature =
    "; look at AWS_SECRET_ACCESS_KEY of the server's environment, the region, and this machine's clock";
constexpr absl::string_view kExpired =
    "; put new AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN into the server's environment and "
    "restart";
constexpr absl::string_view kDenied = "; the key needs the right to sqs:SendMessage on this queue";
constexpr absl::string_view kKmsDenied =
    "; the key needs the rights to kms:GenerateDataKey and kms:Decrypt on the queue's KMS key";
constexpr absl::string_view kThrottled = "; a smaller window, or a higher quota at AWS, would help";

struct KnownError {
  absl::string_view name;  // without its namespace and "Exception"
  absl::StatusCode code;
  absl::string_view way_out;
};
// Those of SendMessage, and the common ones of AWS. All others are UNAVAILABLE. INVALID_ARGUMENT are those that one
// message has by itself: everything else in a request is the same for all of them.
constexpr KnownError kKnownErrors[] = {
    {"QueueDoesNotExist", absl::StatusCode::kNotFound, kNoQueue},
    {"NonExistentQueue", absl::StatusCode::kNotFound, kNoQueue},
    {"QueueDeletedRecently", absl::StatusCode::kNotFound, kNoQueue},
    {"InvalidAddress", absl::StatusCode::kNotFound, kNoQueue},
    {"AccessDenied", absl::StatusCode::kPermissionDenied, kDenied},
    {"InvalidSecurity", absl::StatusCode::kPermissionDenied, "; this queue takes requests over https only"},
    {"KmsAccessDenied", absl::StatusCode::kPermissionDenied, kKmsDenied},
    {"OptInRequired", absl::StatusCode::kPermissionDenied, "; the account has not turned this service on"},
    {"InvalidClientTokenId", absl::StatusCode::kUnauthenticated, kWrongKey},
    {"UnrecognizedClient", absl::StatusCode::kUnauthenticated, kWrongKey},
    {"InvalidAccessKeyId", absl::StatusCode::kUnauthenticated, kWrongKey},
    {"MissingAuthenticationToken", absl::StatusCode::kUnauthenticated, kWrongKey},
    {"ExpiredToken", absl::StatusCode::kUnauthenticated, kExpired},
    {"InvalidSignature", absl::StatusCode::kUnauthenticated, kWrongSignature},
    {"SignatureDoesNotMatch", absl::StatusCode::kUnauthenticated, kWrongSignature},
    {"IncompleteSignature", absl::StatusCode::kUnauthenticated, kWrongSignature},
    {"RequestExpired", absl::StatusCode::kUnauthenticated, kWrongSignature},
    {"InvalidMessageContents", absl::StatusCode::kInvalidArgument, ""},
    {"InvalidParameterValue", absl::StatusCode::kInvalidArgument, ""},  // too large for this queue
    {"OverLimit", absl::StatusCode::kUnavailable, kThrottled},
    {"RequestThrottled", absl::StatusCode::kUnavailable, kThrottled},
    {"Throttling", absl::StatusCode::kUnavailable, kThrottled},
    {"KmsThrottled", absl::StatusCode::kUnavailable, kThrottled},
};

// "com.amazonaws.sqs#QueueDoesNotExist" and its like ("AWS.SimpleQueueService.NonExistentQueue",
// "ThrottlingException:http://…"), as kKnownErrors has them.
absl::string_view NameOf(absl::string_view type) {
  type = type.substr(0, type.find(':'));
  type.remove_prefix(type.find_last_of("#.") + 1);  // npos + 1 is 0
  return absl::StripSuffix(type, "Exception");
}

}  // namespace

absl::Status CheckSqsMessage(const SqsAddress& address, const Message& message) {
  const absl::string_view body = message.encoded(address.encoding);
  size_t size = body.size();
  for (const auto& [name, value] : AttributesOf(address, message)) size += name.size() + kString.size() + value.size();
  if (size > kMaxMessage) {
    return absl::InvalidArgumentError(
        absl::StrCat(size, " bytes with the attributes; SQS takes ", kMaxMessage, " at most"));
  }
  if (absl::StrContains(body, "\xef\xbf\xbe") || absl::StrContains(body, "\xef\xbf\xbf")) {
    return absl::InvalidArgumentError("the event holds the character U+FFFE or U+FFFF, which SQS does not take");
  }
  return absl::OkStatus();
}

std::string EncodeSendMessage(const SqsAddress& address, const Message& message) {
  const absl::string_view body = message.encoded(address.encoding);
  std::string out = "{";
  out.reserve(body.size() + body.size() / 4 + 512);  // each quote of the body gets a backslash
  AppendMember("QueueUrl", address.queue_url, &out);
  AppendMember("MessageBody", body, &out);
  if (!address.group.empty()) {
    const std::string id = EventIdOf(message);
    AppendMember("MessageGroupId", address.group, &out);
    AppendMember("MessageDeduplicationId", id.size() <= kMaxDeduplicationId ? id : HexDigest(EVP_sha256(), id), &out);
  }
  out.append(",\"MessageAttributes\":{");
  for (const auto& [name, value] : AttributesOf(address, message)) {
    if (out.back() != '{') out.push_back(',');
    AppendJsonString(name, &out);
    out.append(":{");
    AppendMember("DataType", kString, &out);
    AppendMember("StringValue", value, &out);
    out.push_back('}');
  }
  out.append("}}");
  return out;
}

absl::Status CheckSqsAnswer(absl::string_view answer, absl::string_view sent) {
  simdjson::dom::parser parser;
  simdjson::dom::element object;
  if (parser.parse(answer.data(), answer.size()).get(object) != simdjson::SUCCESS ||
      TextOf(object, "MessageId").empty()) {
    return absl::UnavailableError("the answer is without a MessageId; is it SQS?");
  }
  const absl::string_view stored = TextOf(object, "MD5OfMessageBody");
  if (stored == HexDigest(EVP_md5(), sent)) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("SQS did not store what was sent: the MD5 of its message is \"",
                                             Shown(stored, Secret()), "\"; the event may have arrived, changed"));
}

absl::Status SqsErrorOf(long status, absl::string_view answer, const Secret& token) {
  simdjson::dom::parser parser;
  simdjson::dom::element object;
  absl::string_view type;
  if (parser.parse(answer.data(), answer.size()).get(object) == simdjson::SUCCESS) type = TextOf(object, "__type");
  if (type.empty()) {
    return absl::UnavailableError(absl::StrCat("the server answered ", status,
                                               " without an error of SQS; is it SQS, and is it reached directly?"));
  }
  const absl::string_view name = NameOf(type);
  absl::string_view text = TextOf(object, "message");
  if (text.empty()) text = TextOf(object, "Message");  // the common errors of AWS write it so
  const std::string what = absl::StrCat("SQS answered ", Shown(name, token), ": ", Shown(text, token));
  for (const KnownError& known : kKnownErrors) {
    if (known.name == name) return absl::Status(known.code, absl::StrCat(what, known.way_out));
  }
  return absl::UnavailableError(what);
}

}  // namespace eventvirtual
