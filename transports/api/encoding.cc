#include "transports/api/encoding.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "transports/api/check.h"
#include "transports/api/hops.h"
#include "transports/api/jsonrpc.h"

namespace eventvirtual {
namespace {

// Those that only some transports can carry stand last: bytes, then headers.
constexpr absl::string_view kWords[] = {"jsonrpc",     "jsonrpc-hops", "json",
                                        "cloudevents", "protobuf",     "cloudevents-binary"};
constexpr Encoding kOfWord[] = {Encoding::kJsonRpc,     Encoding::kJsonRpcHops, Encoding::kJson,
                                Encoding::kCloudEvents, Encoding::kProtobuf,    Encoding::kCloudEventsBinary};
constexpr int kTextEncodings = 4, kByteEncodings = 5;
static_assert(std::size(kWords) == kEncodings && std::size(kOfWord) == kEncodings);

std::string Rfc3339(absl::Time time) { return absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", time, absl::UTCTimeZone()); }

// --- JSON

void AppendMember(absl::string_view name, absl::string_view value, std::string* out) {
  if (out->back() != '{') out->push_back(',');
  AppendJsonString(name, out);
  out->push_back(':');
  AppendJsonString(value, out);
}

void AppendJson(const Message& message, std::string* out) {
  out->push_back('{');
  AppendMember("event", message.name(), out);
  AppendMember("event_id", message.event_id(), out);
  AppendMember("event_time", Rfc3339(message.event_time()), out);
  if (!message.source().empty()) AppendMember("source", message.source(), out);
  out->append(",\"attributes\":{");
  AppendMember(kEventHops, NextHopsText(message.hops()), out);
  for (const auto& [name, value] : message.attributes()) AppendMember(name, value, out);
  out->push_back('}');
  if (!message.params().empty()) {
    out->append(",\"params\":");
    AppendParams(message, "", out);
  }
  out->push_back('}');
}

// --- CloudEvents

bool IsHexPair(absl::string_view text) {
  return text.size() >= 2 && absl::ascii_isxdigit(text[0]) && absl::ascii_isxdigit(text[1]);
}

void AppendEscape(char byte, std::string* out) {
  absl::StrAppend(out, "%",
                  absl::AsciiStrToUpper(absl::StrCat(absl::Hex(static_cast<unsigned char>(byte), absl::kZeroPad2))));
}

// The specification's type String holds no control characters: U+0000 to U+001F and U+007F to U+009F.
std::string WithoutControls(absl::string_view text) {
  std::string clean;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool two_bytes = byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (two_bytes) AppendEscape(text[i++], &clean);
    if (two_bytes || absl::ascii_iscntrl(byte)) {
      AppendEscape(text[i], &clean);
    } else {
      clean.push_back(text[i]);
    }
  }
  return clean;
}

// RFC 3986 section 4.1. A relative reference must not begin like a scheme that is none: "127.0.0.1:5060".
std::string UriReference(absl::string_view text) {
  const absl::string_view head = text.substr(0, text.find_first_of("/?#"));
  const absl::string_view scheme = head.substr(0, head.find(':'));
  bool is_scheme = !scheme.empty() && absl::ascii_isalpha(scheme.front());
  for (char c : scheme) is_scheme = is_scheme && (absl::ascii_isalnum(c) || absl::StrContains("+-.", c));
  std::string reference = scheme.size() < head.size() && !is_scheme ? "./" : "";
  bool fragment = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool keep = absl::ascii_isalnum(c) || absl::StrContains("-._~:/?@!$&'()*+,;=", c) ||
                      (c == '#' && !fragment) || (c == '%' && IsHexPair(text.substr(i + 1)));
    fragment = fragment || c == '#';
    if (keep) {
      reference.push_back(c);
    } else {
      AppendEscape(c, &reference);
    }
  }
  return reference;
}

// What the specification defines itself, and the members of the JSON format.
constexpr absl::string_view kOwnNames[] = {"data",        "datacontenttype", "dataschema", "id",  "source",
                                           "specversion", "subject",         "time",       "type"};

bool IsExtensionName(absl::string_view name) {
  return !name.empty() && name.size() <= 20 && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_islower(c) || absl::ascii_isdigit(c);
  }) && std::find(std::begin(kOwnNames), std::end(kOwnNames), name) == std::end(kOwnNames);
}

void AppendCloudEvent(const Message& message, std::string* out) {
  out->push_back('{');
  ForEachCloudEventAttribute(
      message, [out](absl::string_view name, absl::string_view value) { AppendMember(name, value, out); });
  if (!message.params().empty()) {
    AppendMember("datacontenttype", ContentType(Encoding::kCloudEventsBinary), out);
    out->append(",\"data\":");
    AppendParams(message, "", out);
  }
  out->push_back('}');
}

// --- the wire format of protobuf, by the field numbers of proto/eventvirtual/v1/event.proto. Written here because
// messages below the services know no protobuf, and this part of the format is this small
// (docs/decisions/0006-encodings.md); the tests read it back with the generated code.

enum WireType { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2 };

void AppendVarint(uint64_t number, std::string* out) {
  for (; number >= 0x80; number >>= 7) out->push_back(static_cast<char>(number | 0x80));
  out->push_back(static_cast<char>(number));
}

void AppendTag(int field, WireType type, std::string* out) { AppendVarint(field << 3 | type, out); }

void AppendField(int field, absl::string_view bytes, std::string* out) {
  AppendTag(field, kLengthDelimited, out);
  AppendVarint(bytes.size(), out);
  out->append(bytes.data(), bytes.size());
}

void AppendField(int field, uint64_t number, std::string* out) {
  AppendTag(field, kVarint, out);
  AppendVarint(number, out);
}

void AppendParamFields(const Param& param, std::string* out) {
  if (!param.name.empty()) AppendField(1, param.name, out);
  if (const auto* text = std::get_if<absl::string_view>(&param.value)) {
    AppendField(2, *text, out);
  } else if (const auto* number = std::get_if<int64_t>(&param.value)) {
    AppendField(3, static_cast<uint64_t>(*number), out);
  } else if (const auto* real = std::get_if<double>(&param.value)) {
    uint64_t bits;
    std::memcpy(&bits, real, sizeof(bits));
    AppendTag(4, kFixed64, out);
    for (int byte = 0; byte < 8; ++byte) out->push_back(static_cast<char>(bits >> 8 * byte));
  } else if (const auto* truth = std::get_if<bool>(&param.value)) {
    AppendField(5, uint64_t{*truth}, out);
  } else if (const auto* json = std::get_if<Json>(&param.value)) {
    AppendField(7, json->text, out);
  } else {
    AppendField(6, uint64_t{1}, out);
  }
}

void AppendProtobuf(const Message& message, std::string* out) {
  AppendField(1, message.name(), out);
  std::string part;
  for (const Param& param : message.params()) {
    part.clear();
    AppendParamFields(param, &part);
    AppendField(2, part, out);
  }
  AppendField(3, message.event_id(), out);
  part.clear();  // google.protobuf.Timestamp
  const int64_t seconds = absl::ToUnixSeconds(message.event_time());
  const int64_t nanos = (message.event_time() - absl::FromUnixSeconds(seconds)) / absl::Nanoseconds(1);
  if (seconds != 0) AppendField(1, static_cast<uint64_t>(seconds), &part);
  if (nanos != 0) AppendField(2, static_cast<uint64_t>(nanos), &part);
  AppendField(4, part, out);
  if (!message.source().empty()) AppendField(5, message.source(), out);
  const auto append_attribute = [&part, out](absl::string_view name, absl::string_view value) {
    part.clear();
    AppendField(1, name, &part);
    AppendField(2, value, &part);
    AppendField(6, part, out);
  };
  append_attribute(kEventHops, NextHopsText(message.hops()));
  for (const auto& [name, value] : message.attributes()) append_attribute(name, value);
}

}  // namespace

void AppendEncoded(const Message& message, Encoding encoding, std::string* out) {
  switch (encoding) {
    case Encoding::kJsonRpc:
      return AppendJsonRpc(message, {}, out);
    case Encoding::kJsonRpcHops: {
      JsonRpcOptions options;
      options.hops = true;
      return AppendJsonRpc(message, options, out);
    }
    case Encoding::kJson:
      return AppendJson(message, out);
    case Encoding::kCloudEvents:
      return AppendCloudEvent(message, out);
    case Encoding::kCloudEventsBinary:
      if (message.params().empty()) {
        out->append("{}");
      } else {
        AppendParams(message, "", out);
      }
      return;
    case Encoding::kProtobuf:
      return AppendProtobuf(message, out);
  }
  EV_CHECK(false);
}

absl::string_view ContentType(Encoding encoding) {
  switch (encoding) {
    case Encoding::kCloudEvents:
      return "application/cloudevents+json";
    case Encoding::kProtobuf:
      return "application/protobuf";
    default:
      return "application/json";
  }
}

Encoding TakeEncoding(QueryReader& query, bool has_headers) {
  const absl::Span<const absl::string_view> words(kWords);
  return kOfWord[query.TakeWord("encoding", 0, has_headers ? words : words.first(kByteEncodings))];
}

Encoding TakeTextEncoding(QueryReader& query) {
  return kOfWord[query.TakeWord("encoding", 0, absl::MakeConstSpan(kWords).first(kTextEncodings))];
}

void AddEncoding(Encoding encoding, QueryWriter* query) {
  if (encoding == Encoding::kJsonRpc) return;
  query->Add("encoding", kWords[std::find(std::begin(kOfWord), std::end(kOfWord), encoding) - std::begin(kOfWord)]);
}

void ForEachCloudEventAttribute(const Message& message,
                                absl::FunctionRef<void(absl::string_view name, absl::string_view value)> attribute) {
  attribute("specversion", "1.0");
  attribute("id", WithoutControls(message.event_id()));
  attribute("source", message.source().empty() ? "eventvirtual" : UriReference(message.source()));
  attribute("type", WithoutControls(message.name()));
  attribute("time", Rfc3339(message.event_time()));
  attribute(kEventHops, NextHopsText(message.hops()));
  const auto attributes = message.attributes();
  for (size_t i = 0; i < attributes.size(); ++i) {
    const absl::string_view name = attributes[i].first;
    const auto has_name = [name](const auto& one) { return one.first == name; };
    if (!IsExtensionName(name) || std::any_of(attributes.begin(), attributes.begin() + i, has_name)) continue;
    attribute(name, WithoutControls(attributes[i].second));
  }
}

std::string CloudEventHeaderValue(absl::string_view value) {
  std::string encoded;
  for (char c : value) {
    if (absl::ascii_isgraph(c) && c != '"' && c != '%') {
      encoded.push_back(c);
    } else {
      AppendEscape(c, &encoded);
    }
  }
  return encoded;
}

}  // namespace eventvirtual
