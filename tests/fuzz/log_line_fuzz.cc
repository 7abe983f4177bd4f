// Whatever a peer says, its line of the log is one line of valid UTF-8, as JSON reads back with the same members, and
// is not longer than its bounds.
#include <simdjson.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/strings/string_view.h"
#include "server/log/line.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

std::string Line(LogFormat format, absl::string_view text) {
  return EndLine(format, BeginLine(format, absl::UnixEpoch(), LogLevel::kInfo, text, {{"a", text}, {"b", 1}}), 2);
}

void CheckJson(std::string_view text, const std::string& line) {
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  EV_CHECK(parser.parse(line).get(object) == simdjson::SUCCESS && object.size() == 6);
  std::string_view message, field;
  EV_CHECK(object["msg"].get(message) == simdjson::SUCCESS && object["a"].get(field) == simdjson::SUCCESS);
  EV_CHECK(message == field);
  if (text.size() <= kMaxLogText && simdjson::validate_utf8(text.data(), text.size())) EV_CHECK(field == text);
  int64_t b = 0, left_out = 0;
  EV_CHECK(object["b"].get(b) == simdjson::SUCCESS && object["left_out"].get(left_out) == simdjson::SUCCESS);
  EV_CHECK(b == 1 && left_out == 2);
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace eventvirtual;  // NOLINT: this is the program
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
    const std::string line = Line(format, text);
    EV_CHECK(line.find('\n') == line.size() - 1);
    EV_CHECK(simdjson::validate_utf8(line.data(), line.size()));
    EV_CHECK(line.size() < 200 + 2 * 6 * kMaxLogText);
    for (size_t i = 0; i + 1 < line.size(); ++i) EV_CHECK(static_cast<unsigned char>(line[i]) >= ' ');
  }
  CheckJson({text.data(), text.size()}, Line(LogFormat::kJson, text));
  return 0;
}
