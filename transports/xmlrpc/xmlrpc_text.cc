#include "transports/xmlrpc/xmlrpc_text.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD
constexpr size_t kMaxFault = 200;

// Bytes of the UTF-8 character that `text` begins with (RFC 3629 section 4), if XML 1.0 has it (section 2.2); else 0.
size_t CharacterSize(absl::string_view text) {
  const auto byte = [text](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return lead >= 0x20 || lead == '\t' || lead == '\n' || lead == '\r' ? 1 : 0;
  const size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  uint32_t character = lead & (0x7f >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    character = character << 6 | (byte(i) & 0x3f);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool known = lead >= 0xc2 && lead <= 0xf4 && character >= kLeast[size] && character <= 0x10ffff &&
                     (character < 0xd800 || character > 0xdfff) && character != 0xfffe && character != 0xffff;
  return known ? size : 0;
}

void AppendEscaped(absl::string_view text, std::string* out) {
  while (!text.empty()) {
    const size_t size = CharacterSize(text);
    const absl::string_view character = text.substr(0, size);
    if (size == 0) {
      out->append(kReplacement.data(), kReplacement.size());
    } else if (character == "&") {
      out->append("&amp;");
    } else if (character == "<") {
      out->append("&lt;");
    } else if (character == ">") {
      out->append("&gt;");
    } else if (character == "\r") {
      out->append("&#13;");  // a bare one is read as a newline (section 2.11)
    } else {
      out->append(character.data(), size);
    }
    text.remove_prefix(std::max<size_t>(size, 1));
  }
}

void AppendString(absl::string_view text, std::string* out) {
  out->append("<value><string>");
  AppendEscaped(text, out);
  out->append("</string></value>\n");
}

void AppendDouble(double real, std::string* out) {
  if (!std::isfinite(real)) return AppendString(absl::StrCat(real), out);
  char digits[400];  // 309 before the point, or 17 behind 324 zeros
  const auto result = std::to_chars(digits, digits + sizeof(digits), real, std::chars_format::fixed);
  absl::StrAppend(out, "<value><double>", absl::string_view(digits, result.ptr - digits), "</double></value>\n");
}

void AppendValue(const Value& value, std::string* out) {
  if (const auto* text = std::get_if<absl::string_view>(&value)) {
    AppendString(*text, out);
  } else if (const auto* number = std::get_if<int64_t>(&value)) {
    if (*number < std::numeric_limits<int32_t>::min() || *number > std::numeric_limits<int32_t>::max()) {
      return AppendString(absl::StrCat(*number), out);
    }
    absl::StrAppend(out, "<value><int>", *number, "</int></value>\n");
  } else if (const auto* real = std::get_if<double>(&value)) {
    AppendDouble(*real, out);
  } else if (const auto* truth = std::get_if<bool>(&value)) {
    absl::StrAppend(out, "<value><boolean>", *truth ? 1 : 0, "</boolean></value>\n");
  } else if (const auto* json = std::get_if<Json>(&value)) {
    AppendString(json->text, out);
  } else {
    AppendString("", out);
  }
}

void AppendName(absl::string_view name, std::string* out) {
  out->append("<name>");
  AppendEscaped(name, out);
  out->append("</name>\n");
}

// Takes white space and comments off the front.
void SkipBlanks(absl::string_view* xml) {
  while (true) {
    *xml = absl::StripLeadingAsciiWhitespace(*xml);
    if (!absl::StartsWith(*xml, "<!--")) return;
    const size_t end = xml->find("-->");
    xml->remove_prefix(end == absl::string_view::npos ? xml->size() : end + 3);
  }
}

bool ConsumeTag(absl::string_view* xml, absl::string_view name) {
  absl::string_view rest = *xml;
  if (!absl::ConsumePrefix(&rest, "<") || !absl::ConsumePrefix(&rest, name)) return false;
  rest = absl::StripLeadingAsciiWhitespace(rest);
  if (!absl::ConsumePrefix(&rest, ">")) return false;
  *xml = rest;
  return true;
}

// The text of the member `name` of a fault, as it is written; tags of its type are left out.
std::string FaultMember(absl::string_view fault, absl::string_view name) {
  const size_t at = fault.find(absl::StrCat("<name>", name, "</name>"));
  if (at == absl::string_view::npos) return "";
  fault.remove_prefix(fault.find("</name>", at) + 7);
  while (true) {
    SkipBlanks(&fault);
    if (!absl::StartsWith(fault, "<") || absl::StartsWith(fault, "</")) break;
    fault.remove_prefix(std::min(fault.find('>'), fault.size() - 1) + 1);
  }
  std::string text(fault.substr(0, std::min(fault.find('<'), kMaxFault)));
  for (char& c : text) {
    if (!absl::ascii_isprint(c)) c = '?';
  }
  return text;
}

}  // namespace

std::string EncodeXmlRpc(const Message& message, absl::string_view method, bool use_struct) {
  std::string out = "<?xml version=\"1.0\"?>\n<methodCall>\n<methodName>";
  out.reserve(message.size() + 256 + 64 * message.params().size());
  AppendEscaped(method, &out);
  out.append("</methodName>\n<params>\n<param>\n");
  AppendString(message.name(), &out);
  out.append("</param>\n");
  if (use_struct && !message.params().empty()) out.append("<param>\n<value><struct>\n");
  for (size_t i = 0; i < message.params().size(); ++i) {
    const Param& param = message.params()[i];
    out.append(use_struct ? "<member>\n" : "<param>\n");
    if (!param.name.empty()) {
      AppendName(param.name, &out);
    } else if (use_struct) {
      AppendName(absl::StrCat(i), &out);
    }
    AppendValue(param.value, &out);
    out.append(use_struct ? "</member>\n" : "</param>\n");
  }
  if (use_struct && !message.params().empty()) out.append("</struct></value>\n</param>\n");
  out.append("</params>\n</methodCall>");
  return out;
}

absl::Status CheckXmlRpcResponse(absl::string_view body) {
  const absl::Status strange = absl::UnavailableError("the answer is no XML-RPC response");
  absl::ConsumePrefix(&body, "\xef\xbb\xbf");  // a byte order mark
  SkipBlanks(&body);
  if (absl::StartsWith(body, "<?xml")) body.remove_prefix(std::min(body.find("?>"), body.size() - 2) + 2);
  SkipBlanks(&body);
  if (!ConsumeTag(&body, "methodResponse")) return strange;
  SkipBlanks(&body);
  if (!absl::EndsWith(absl::StripTrailingAsciiWhitespace(body), "</methodResponse>")) return strange;
  if (ConsumeTag(&body, "params")) return absl::OkStatus();
  if (!ConsumeTag(&body, "fault")) return strange;
  return absl::UnavailableError(absl::StrCat("the receiver answered with fault ", FaultMember(body, "faultCode"), ": ",
                                             FaultMember(body, "faultString")));
}

}  // namespace eventvirtual
