// An answer is a success only if it is a whole XML-RPC response without a fault: no part of one is, blanks and comments
// between its tags change nothing, and what is shown of another is printable and short. The bytes of the answer as the
// text of an event stand in the call as XML 1.0 has them.
#include <simdjson.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "transports/api/check.h"
#include "transports/xmlrpc/xmlrpc_text.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxError = 600;
constexpr absl::string_view kEnd = "</methodResponse>";
constexpr absl::string_view kNothing = " \t<!-- </methodResponse><params><fault> -->\r\n";

bool IsXmlText(absl::string_view text) {
  if (!simdjson::validate_utf8(text.data(), text.size())) return false;
  if (absl::StrContains(text, "\xef\xbf\xbe") || absl::StrContains(text, "\xef\xbf\xbf")) return false;
  return std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return c >= 0x20 || c == '\t' || c == '\n' || c == '\r'; });
}

void CheckAnswer(absl::string_view answer) {
  const absl::Status status = CheckXmlRpcResponse(answer);
  EV_CHECK(status.ok() || absl::IsUnavailable(status));
  EV_CHECK(status.message().size() <= kMaxError);
  for (char c : status.message()) EV_CHECK(absl::ascii_isprint(c));

  if (status.ok()) {
    EV_CHECK(absl::StrContains(answer, "<methodResponse") && absl::StrContains(answer, "<params"));
    for (size_t size = 0; size < answer.size(); ++size) {
      const absl::string_view part = answer.substr(0, size);
      if (absl::EndsWith(absl::StripTrailingAsciiWhitespace(part), kEnd)) continue;
      EV_CHECK(!CheckXmlRpcResponse(part).ok());
    }
    EV_CHECK(!CheckXmlRpcResponse(absl::StrReplaceAll(answer, {{"<params", "<fault"}})).ok());
  }
  const size_t begin = answer.find('<');
  if (begin == absl::string_view::npos || absl::StartsWith(answer, "\xef\xbb\xbf")) return;
  // An XML declaration stands at the very beginning, or it is none.
  const size_t declared = absl::StartsWith(answer.substr(begin), "<?xml") ? answer.find("?>") : 0;
  if (declared == absl::string_view::npos) return;
  const size_t at = declared == 0 ? 0 : declared + 2;
  const std::string spaced = absl::StrCat(answer.substr(0, at), kNothing, answer.substr(at), " \n");
  EV_CHECK(CheckXmlRpcResponse(spaced) == status);
}

void CheckCall(absl::string_view text) {
  const Param param{"", text};
  EventFields fields;
  fields.name = "E";
  fields.params = absl::MakeConstSpan(&param, 1);
  const std::string call = EncodeXmlRpc(*Message::Make(fields), "m", /*use_struct=*/false);
  EV_CHECK(IsXmlText(call));
  const size_t begin = call.rfind("<string>") + 8, end = call.rfind("</string>");
  EV_CHECK(begin != std::string::npos && end != std::string::npos && begin <= end);
  std::string read = call.substr(begin, end - begin);
  EV_CHECK(!absl::StrContains(read, '<') && !absl::StrContains(read, '>') && !absl::StrContains(read, '\r'));
  read = absl::StrReplaceAll(read, {{"&lt;", "<"}, {"&gt;", ">"}, {"&#13;", "\r"}, {"&amp;", "&"}});
  if (IsXmlText(text)) {
    EV_CHECK(read == text);
  } else {
    EV_CHECK(absl::StrContains(read, "\xef\xbf\xbd"));
  }
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  eventvirtual::CheckAnswer(text);
  eventvirtual::CheckCall(text);
  return 0;
}
